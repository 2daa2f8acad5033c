"""Estimators whose stored numbers become indices: derived ones are recomputed, others judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["REBUILT"]


def _encode_one_hot(encoder: Any) -> dict[str, Any]:
    """Leave out how many columns each feature gives: it follows from the rest."""
    return {name: value for name, value in vars(encoder).items() if name != "_n_features_outs"}


def _build_one_hot(locate: Callable[[], type], fields: Mapping[str, Any]) -> Any:
    """Build the encoder; its numbers become column indices of a sparse matrix, unchecked there."""
    kind: Any = locate()
    encoder = kind.__new__(kind)
    vars(encoder).update(fields)
    if "categories_" in fields:
        _judge_categories(fields)
        vars(encoder)["_n_features_outs"] = encoder._compute_n_features_outs()  # noqa: SLF001 - scikit-learn's own derivation
    return encoder


def _judge_categories(fields: Mapping[str, Any]) -> None:
    categories = fields["categories_"]
    if type(categories) is not list or any(
        type(values) is not np.ndarray or values.ndim != 1 for values in categories
    ):
        raise Corrupt("the categories of a OneHotEncoder are not a list of arrays")
    count = len(categories)
    if fields.get("n_features_in_") != count:
        raise Corrupt("a OneHotEncoder has another number of features than of categories")
    grouped = fields.get("_infrequent_enabled", False) is True
    rare = _columns(fields.get("_infrequent_indices"), count, needed=grouped)
    groups = _columns(fields.get("_default_to_infrequent_mappings"), count, needed=grouped)
    drops = _columns(fields.get("_drop_idx_after_grouping"), count, needed=False)
    sizes = map(len, categories)
    for size, rare_of, group_of, drop in zip(sizes, rare, groups, drops, strict=True):
        outputs = size
        if (rare_of is None) != (group_of is None):
            raise Corrupt("a OneHotEncoder groups a feature halfway")
        if rare_of is not None:
            _indices(rare_of, below=size)
            outputs = size - len(rare_of) + 1
            if len(_indices(group_of, below=outputs)) != size:
                raise Corrupt("a OneHotEncoder groups another number of categories than it has")
        if drop is not None and not 0 <= int(drop) < outputs:
            raise Corrupt("a OneHotEncoder drops a category that it does not have")


def _columns(values: Any, count: int, *, needed: bool) -> list[Any]:
    """Return one entry per feature; None stands for nothing at all."""
    if values is None and not needed:
        return [None] * count
    if not isinstance(values, list | np.ndarray) or len(values) != count:
        raise Corrupt("a OneHotEncoder lacks numbers for some of its features")
    return list(values)


def _indices(values: Any, *, below: int) -> Any:
    if type(values) is not np.ndarray or values.dtype.kind not in "iu" or values.ndim != 1:
        raise Corrupt("indices of a OneHotEncoder are not whole numbers")
    if len(values) and (values.min() < 0 or values.max() >= below):
        raise Corrupt("an index of a OneHotEncoder is out of range")
    return values


REBUILT: Final[dict[str, tuple[Callable[[Any], Any], Callable[..., Any] | None]]] = {
    "sklearn.OneHotEncoder": (_encode_one_hot, _build_one_hot),
}
