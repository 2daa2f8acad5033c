"""Histogram gradient boosting: all trees as columns, judged at once before any is built.

Sources: ``sklearn/ensemble/_hist_gradient_boosting/common.pyx`` (``PREDICTOR_RECORD_DTYPE``),
``_predictor.pyx``, which follows children, features and bitsets unchecked, and ``binning.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch
from holdfast.frameworks.sklearn.nodes import judged, narrow, nodes_by_tree
from holdfast.plugins import import_extra

__all__ = ["ENCODERS", "JUDGES", "TYPES"]

_ROOM: Final = "sklearn.ensemble._hist_gradient_boosting"
_KINDS: Final = ("sklearn.HistGradientBoostingClassifier", "sklearn.HistGradientBoostingRegressor")

# Field of a node to the narrowest dtype that holds it in a file; wider ones where needed.
_COLUMNS: Final = {
    "value": np.float64,
    "count": np.uint32,
    "feature_idx": np.int32,
    "num_threshold": np.float64,
    "missing_go_to_left": np.uint8,
    "left": np.uint32,
    "right": np.uint32,
    "gain": np.float64,
    "depth": np.uint32,
    "is_leaf": np.uint8,
    "bin_threshold": np.uint8,
    "is_categorical": np.uint8,
    "bitset_idx": np.uint32,
}
# Only where a split by categories exists.
_CATEGORICAL: Final = frozenset({"is_categorical", "bitset_idx"})
_BITSETS: Final = ("binned_left_cat_bitsets", "raw_left_cat_bitsets")
_FIELDS: Final = frozenset({*_COLUMNS, *_BITSETS, "counts", "bitset_counts", "width", "n_features"})
_WORDS: Final = 8  # of 32 bits: one bit for each of 256 bins


class HistTrees:
    """The trees of one boosting model on their way into a file: a list per iteration."""

    __slots__ = ("iterations", "n_features")

    def __init__(self, iterations: Sequence[Sequence[Any]], n_features: int) -> None:
        self.iterations = iterations
        self.n_features = n_features


def _encode_model(model: Any) -> dict[str, Any]:
    fields = dict(vars(model))
    iterations = fields.get("_predictors")
    if type(iterations) is list and iterations:
        fields["_predictors"] = HistTrees(iterations, len(model._bin_mapper.bin_thresholds_))  # noqa: SLF001 - the width its trees were grown on
    return fields


def _encode_trees(trees: HistTrees) -> dict[str, Any]:
    flat = [tree for row in trees.iterations for tree in row]
    columns = {
        name: narrow(np.concatenate([tree.nodes[name] for tree in flat]), dtype)
        for name, dtype in _COLUMNS.items()
    }
    if not columns["is_categorical"].any():
        columns = {name: part for name, part in columns.items() if name not in _CATEGORICAL}
    bitsets = {
        name: np.concatenate([np.asarray(getattr(tree, name)) for tree in flat])
        for name in _BITSETS
    }
    return {
        **columns,
        **bitsets,
        "bitset_counts": np.array([len(tree.raw_left_cat_bitsets) for tree in flat], np.int64),
        "counts": np.array([len(tree.nodes) for tree in flat], dtype=np.int64),
        "width": len(trees.iterations[0]),
        "n_features": trees.n_features,
    }


def _build_trees(fields: Mapping[str, Any]) -> list[list[Any]]:
    """Judge the columns and build a list of trees per iteration.

    Raises:
        Corrupt: A column contradicts another, or a node would lead out of its tree.
    """
    common = import_extra(f"{_ROOM}.common", needed_for="a boosting model")
    dtype = common.PREDICTOR_RECORD_DTYPE
    unknown = set(dtype.names) ^ _COLUMNS.keys()
    if unknown:
        raise EnvironmentMismatch(
            f"this scikit-learn has other fields in its boosting trees: {sorted(unknown)}",
            hint="python -m pip install --upgrade holdfast-ml",
        )
    counts, width = _sizes(fields)
    columns = _node_columns(fields, int(counts.sum()), dtype)
    bitsets, splits = _bitsets(fields, len(counts))
    _judge(columns, counts, splits, fields["n_features"])
    kind = import_extra(f"{_ROOM}.predictor", needed_for="a boosting model").TreePredictor
    ends = np.cumsum(splits).tolist()
    trees = []
    for number, nodes in enumerate(nodes_by_tree(columns, dtype, counts.tolist())):
        start, end = ends[number] - int(splits[number]), ends[number]
        trees.append(kind(nodes, *(part[start:end] for part in bitsets)))
    return [trees[first : first + width] for first in range(0, len(trees), width)]


def _sizes(fields: Mapping[str, Any]) -> tuple[Any, int]:
    counts, width, features = fields["counts"], fields["width"], fields["n_features"]
    whole = type(counts) is np.ndarray and counts.ndim == 1 and counts.dtype == np.int64
    if not whole or not len(counts) or counts.min() < 1 or counts.max() > 2**31:
        raise Corrupt("the trees of a boosting model have impossible sizes")
    if type(width) is not int or width < 1 or len(counts) % width:
        raise Corrupt("the trees of a boosting model do not fill their iterations")
    if type(features) is not int or not 1 <= features <= 2**31:
        raise Corrupt("the trees of a boosting model were grown on an impossible width")
    return counts, width


def _node_columns(fields: Mapping[str, Any], total: int, dtype: Any) -> dict[str, Any]:
    """Return copies, for a mapped file could change between the judging and the building."""
    columns = {}
    for name, narrowest in _COLUMNS.items():
        column = fields.get(name)
        if column is None and name in _CATEGORICAL:
            continue
        kinds = "f" if narrowest is np.float64 else "iu"
        if (
            type(column) is not np.ndarray
            or column.shape != (total,)
            or column.dtype.kind not in kinds
        ):
            raise Corrupt(f"the column {name!r} of a boosting model is of another length or type")
        columns[name] = np.array(column, dtype=dtype[name])
    return columns


def _bitsets(fields: Mapping[str, Any], trees: int) -> tuple[list[Any], Any]:
    splits = fields["bitset_counts"]
    whole = type(splits) is np.ndarray and splits.dtype == np.int64 and splits.shape == (trees,)
    if not whole or splits.min() < 0 or splits.max() > 2**31:
        raise Corrupt("the trees of a boosting model have impossible numbers of category splits")
    found = []
    for name in _BITSETS:
        part = fields[name]
        shape = (int(splits.sum()), _WORDS)
        if type(part) is not np.ndarray or part.dtype != np.uint32 or part.shape != shape:
            raise Corrupt(f"the {name} of a boosting model are not of the shape {shape}")
        found.append(np.array(part, order="C"))
    return found, splits


def _judge(columns: Mapping[str, Any], counts: Any, splits: Any, n_features: int) -> None:
    inner = columns["is_leaf"] == 0
    left, right = (
        np.where(inner, columns[name].astype(np.int64), -1) for name in ("left", "right")
    )
    judged(left, right, columns["feature_idx"], counts, n_features)
    if "is_categorical" in columns:
        asking = inner & (columns["is_categorical"] != 0)
        offered = np.repeat(splits, counts)
        if (columns["bitset_idx"][asking].astype(np.int64) >= offered[asking]).any():
            raise Corrupt("a node of a boosting model asks for categories that are not there")


def _judge_model(fields: Mapping[str, Any]) -> None:
    """Require that trees, bins and inputs agree on their width."""
    iterations = fields.get("_predictors")
    if not iterations:
        return
    mapper = fields.get("_bin_mapper")
    categorical = getattr(mapper, "is_categorical_", None)
    width = fields.get("n_features_in_")
    if type(iterations) is not list or categorical is None or len(categorical) != width:
        raise Corrupt("a boosting model checks its inputs against another width than its bins")
    outputs = fields.get("n_trees_per_iteration_")
    for row in iterations:
        if type(row) is not list or len(row) != outputs:
            raise Corrupt("an iteration of a boosting model has another number of trees")
        for tree in row:
            _judge_tree(tree, categorical)
    preprocessor = fields.get("_preprocessor")
    if preprocessor is not None:
        _judge_preprocessor(preprocessor, width)


def _judge_tree(tree: Any, categorical: Any) -> None:
    if type(tree).__name__ != "TreePredictor":
        raise Corrupt("an iteration of a boosting model holds something that is no tree")
    inner = tree.nodes[tree.nodes["is_leaf"] == 0]
    if not len(inner):
        return
    if inner["feature_idx"].max() >= len(categorical):
        raise Corrupt("a node of a boosting model asks for a feature that the inputs do not have")
    asking = inner["feature_idx"][inner["is_categorical"] != 0]
    if not categorical[asking].all():
        raise Corrupt("a node of a boosting model asks for categories of a number")


def _judge_preprocessor(preprocessor: Any, width: int) -> None:
    """Require the two steps that scikit-learn makes, so that no column gets lost on the way."""
    steps = getattr(preprocessor, "transformers_", None)
    if type(preprocessor).__name__ != "ColumnTransformer" or type(steps) is not list:
        raise Corrupt("the inputs of a boosting model are prepared by something else")
    found = 0
    for step in steps:
        if type(step) is not tuple or len(step) != 3:
            raise Corrupt("a step that prepares the inputs of a boosting model is no step")
        name, transformer, columns = step
        if isinstance(transformer, str) and transformer == "drop":
            continue
        count = _selected(columns, width)
        kind = type(transformer).__name__
        encoded = kind == "OrdinalEncoder" and len(transformer.categories_) == count
        plain = kind == "FunctionTransformer" and _only_checks(transformer)
        if not (encoded or plain):
            raise Corrupt(f"the step {name!r:.60} does not keep the width of a boosting model")
        found += count
    if found != width:
        raise Corrupt("the inputs of a boosting model lose columns before they reach its trees")


def _only_checks(transformer: Any) -> bool:
    """Say whether a function step gives back the columns it takes."""
    function = transformer.func
    named = getattr(function, "func", None)
    checks = function is None or (getattr(named, "__name__", "") == "check_array")
    return checks and not getattr(function, "args", ()) and not transformer.kw_args


def _selected(columns: Any, width: int) -> int:
    """Return how many columns a step takes."""
    if isinstance(columns, np.ndarray) and columns.dtype == bool and columns.shape == (width,):
        return int(np.count_nonzero(columns))
    if isinstance(columns, list | np.ndarray) and all(
        isinstance(column, int | np.integer | str) and not isinstance(column, bool)
        for column in columns
    ):
        return len(columns)
    raise Corrupt("a step that prepares the inputs of a boosting model takes unknown columns")


def _judge_mapper(fields: Mapping[str, Any]) -> None:
    """Judge bins: their numbers are bits of a fixed set, and places in arrays."""
    thresholds = fields.get("bin_thresholds_")
    if thresholds is None:
        return
    categorical: Any = fields.get("is_categorical_")
    counts: Any = fields.get("n_bins_non_missing_")
    for array, dtype in ((categorical, np.uint8), (counts, np.uint32)):
        sized = type(array) is np.ndarray and array.shape == (len(thresholds),)
        if type(thresholds) is not list or not sized or array.dtype != dtype:
            raise Corrupt("the bins of a boosting model are not one per feature")
    for bins, named in zip(thresholds, categorical.tolist(), strict=True):
        if type(bins) is not np.ndarray or bins.ndim != 1 or bins.dtype != np.float64:
            raise Corrupt("the bins of a boosting model are not numbers")
        if named and len(bins) and not (bins.min() >= 0 and bins.max() <= 255):
            raise Corrupt("a category of a boosting model is beyond what its bits can name")


ENCODERS: Final[dict[str, Callable[[Any], Any]]] = dict.fromkeys(_KINDS, _encode_model)
JUDGES: Final[dict[str, Callable[[Mapping[str, Any]], None]]] = {
    **dict.fromkeys(_KINDS, _judge_model),
    "sklearn._BinMapper": _judge_mapper,
}
TYPES: Final = (
    TypeSpec(
        id="sklearn.HistTrees",
        locate=lambda: HistTrees,
        classes=("holdfast.frameworks.sklearn.hist:HistTrees",),
        encode=_encode_trees,
        build=_build_trees,
        fields=_FIELDS,
        required=_FIELDS - _CATEGORICAL,
    ),
)
