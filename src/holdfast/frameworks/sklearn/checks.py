"""Estimators whose stored numbers become indices: derived ones are recomputed, others judged.

A judge gets an estimator's decoded attributes before the estimator exists and raises ``Corrupt``
where compiled code would follow a number out of its arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn import (
    clusters,
    ensembles,
    hist,
    steps,
    svm,
    text,
    trees,
    widths,
)

__all__ = ["JUDGES", "REBUILT", "build_judged", "check_of"]

Judge = Callable[[Mapping[str, Any]], None]


def build_judged(locate: Callable[[], type], fields: Mapping[str, Any], *, judge: Judge) -> Any:
    """Make an instance of these attributes once they are judged."""
    judge(fields)
    kind: Any = locate()
    made = kind.__new__(kind)
    vars(made).update(fields)
    return made


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

# Type id to what judges its attributes.
JUDGES: Final[dict[str, Judge]] = {
    id_: judge
    for room in (clusters, ensembles, hist, steps, svm, text, widths)
    for id_, judge in room.JUDGES.items()
}

# Type id to what judges its attributes before anything is built, by their summaries.
_CHECKS: Final[dict[str, Judge]] = {**trees.CHECKS, **clusters.CHECKS}
_JOBS: Final = 1024
_OUTPUTS: Final = 2**20


def check_of(id_: str) -> Judge:
    """Return what judges the audited attributes of a type."""
    own = _CHECKS.get(id_)
    return _check_counts if own is None else partial(_check_all, own)


def _check_all(own: Judge, fields: Mapping[str, Any]) -> None:
    _check_counts(fields)
    own(fields)


def _check_counts(fields: Mapping[str, Any]) -> None:
    """Judge what every estimator may have: how wide inputs and answers are, and how many work."""
    width, jobs, outputs = map(fields.get, ("n_features_in_", "n_jobs", "n_outputs_"))
    if width is not None and width.kind == "int" and not 0 <= width.value < 2**31:
        raise Corrupt("an estimator has an impossible number of features")
    if width is not None and width.kind not in ("int", "scalar"):
        raise Corrupt("the number of features of an estimator is no number")
    if jobs is not None and jobs.kind == "int" and abs(jobs.value) > _JOBS:
        raise Corrupt("an estimator asks for an impossible number of workers")
    if outputs is not None and outputs.kind == "int" and not 0 <= outputs.value <= _OUTPUTS:
        raise Corrupt("an estimator has an impossible number of outputs")
