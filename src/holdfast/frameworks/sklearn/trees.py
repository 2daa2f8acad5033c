"""Decision trees as columns over the whole ensemble, judged at once before any tree is built.

Source of the columns: ``sklearn/tree/_tree.pyx``, ``NODE_DTYPE`` and ``Tree.__getstate__``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.nodes import depths, judged, narrow, nodes_by_tree
from holdfast.frameworks.sklearn.table import TABLE
from holdfast.plugins import import_extra

__all__ = ["CHECKS", "ENCODERS", "TYPES"]

# Field of a node to the narrowest dtype that holds it in a file; wider ones where needed.
_COLUMNS: Final = {
    "left_child": np.int32,
    "right_child": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "impurity": np.float64,
    "n_node_samples": np.int32,
    "weighted_n_node_samples": np.float64,
    "missing_go_to_left": np.uint8,
}
_OPTIONAL: Final = frozenset({"missing_go_to_left"})  # scikit-learn 1.3 introduced it
_TREE: Final = frozenset({"counts", "values", "n_features", "n_classes", *_COLUMNS})
_KINDS: Final = {
    f"sklearn.{name}": name
    for name in (
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
    )
}
# Their trees take the forest's checked inputs without a check of their own.
_FORESTS: Final = tuple(
    f"sklearn.{name}"
    for name in (
        "RandomForestClassifier",
        "RandomForestRegressor",
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
        "RandomTreesEmbedding",
    )
)
_ENSEMBLES: Final = (
    *_FORESTS,
    *(
        f"sklearn.{name}"
        for name in (
            "AdaBoostClassifier",
            "AdaBoostRegressor",
            "BaggingClassifier",
            "BaggingRegressor",
            "GradientBoostingClassifier",
            "GradientBoostingRegressor",
            "IsolationForest",
        )
    ),
)


class Trees:
    """The fitted trees of one ensemble, on their way into a file.

    Attributes:
        estimators: The trees in a row.
        shape: Of the array that holds them; None for a list.
    """

    __slots__ = ("estimators", "shape")

    def __init__(self, estimators: Sequence[Any], shape: tuple[int, ...] | None) -> None:
        self.estimators = estimators
        self.shape = shape


def _columns_of(trees: Sequence[Any]) -> dict[str, Any]:
    """Return the nodes of all trees as one column per field."""
    states = [tree.__getstate__() for tree in trees]
    nodes = [state["nodes"] for state in states]
    values = [state["values"] for state in states]
    columns = {
        name: narrow(np.concatenate([part[name] for part in nodes]), dtype)
        for name, dtype in _COLUMNS.items()
        if name in (nodes[0].dtype.fields or {})
    }
    return {
        **columns,
        "counts": np.array([len(part) for part in nodes], dtype=np.int64),
        "values": values[0] if len(values) == 1 else np.concatenate(values),
        "n_features": int(trees[0].n_features),
        "n_classes": np.array(trees[0].n_classes, dtype=np.int64),
    }


def _built_trees(fields: Mapping[str, Any]) -> list[Any]:
    """Judge the columns and build one compiled tree per count.

    Raises:
        Corrupt: A column contradicts another, or a node would lead out of its tree.
    """
    module = import_extra("sklearn.tree._tree", needed_for="a decision tree")
    counts, width, classes = _sizes(fields)
    total = int(counts.sum())
    dtype = module.NODE_DTYPE
    columns = _node_columns(fields, total, dtype)
    children = (columns["left_child"], columns["right_child"])
    deep = depths(judged(*children, columns["feature"], counts, width))
    values = _values(fields["values"], total, classes)
    trees, end = [], 0
    for nodes, depth in zip(nodes_by_tree(columns, dtype, counts.tolist()), deep, strict=True):
        start, end = end, end + len(nodes)
        state = {"max_depth": depth, "node_count": len(nodes), "nodes": nodes}
        tree = module.Tree(width, classes, len(classes))
        tree.__setstate__({**state, "values": values[start:end]})
        trees.append(tree)
    return trees


def _node_columns(fields: Mapping[str, Any], total: int, dtype: Any) -> dict[str, Any]:
    """Return the columns of nodes as this scikit-learn types them.

    One that has no ``missing_go_to_left`` refuses missing values before they reach a tree.
    """
    columns = {}
    for name in _COLUMNS:
        column = fields.get(name)
        if column is None and name in _OPTIONAL:
            continue
        _require_column(column, name, total)
        if name in dtype.names:
            # A copy, for a mapped file could change between the judging and the building.
            columns[name] = np.asarray(column).astype(dtype[name])
    return columns


def _sizes(fields: Mapping[str, Any]) -> tuple[Any, int, Any]:
    counts, width, classes = fields["counts"], fields["n_features"], fields["n_classes"]
    whole = all(
        type(part) is np.ndarray and part.ndim == 1 and part.dtype == np.int64
        for part in (counts, classes)
    )
    if not whole or not len(counts) or not len(classes) or counts.min() < 1 or classes.min() < 1:
        raise Corrupt("the trees of a forest have impossible sizes")
    if counts.max() > 2**40 or classes.max() > 2**31 or type(width) is not int or width < 1:
        raise Corrupt("the trees of a forest have impossible sizes")
    return counts, width, np.ascontiguousarray(classes, dtype=np.intp)


def _require_column(column: Any, name: str, total: int) -> None:
    whole = name in _COLUMNS and np.dtype(_COLUMNS[name]).kind in "iu"
    if (
        type(column) is not np.ndarray
        or column.shape != (total,)
        or column.dtype.kind not in ("iu" if whole else "f")
    ):
        raise Corrupt(f"the column {name!r} of a forest has another length or type than its trees")


def _values(values: Any, total: int, classes: Any) -> Any:
    shape = (total, len(classes), int(classes.max()))
    if type(values) is not np.ndarray or values.dtype != np.float64 or values.shape != shape:
        raise Corrupt(f"the values of a forest are not numbers of the shape {shape}")
    return np.ascontiguousarray(values)


def _encode_trees(trees: Trees) -> dict[str, Any]:
    """Return columns of nodes; and of each attribute, one value for all trees or a list."""
    first = vars(trees.estimators[0])
    shared: dict[str, Any] = {}
    varying: dict[str, list[Any]] = {}
    for name, value in first.items():
        if name == "tree_":
            continue
        column = [vars(estimator)[name] for estimator in trees.estimators]
        if len(set(map(id, column))) == 1 or all(_same(value, other) for other in column):
            shared[name] = value
        else:
            varying[name] = column
    return {
        **_columns_of([estimator.tree_ for estimator in trees.estimators]),
        "kind": f"sklearn.{type(trees.estimators[0]).__name__}",
        "shared": shared,
        "varying": varying,
        **({} if trees.shape is None else {"shape": trees.shape}),
    }


_SCALARS: Final = (int, float, str, bool, type(None), np.integer, np.floating)


def _same(one: Any, other: Any) -> bool:
    """Say whether two attribute values are surely interchangeable."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is np.ndarray:
        plain = one.dtype == other.dtype and one.dtype != object and one.shape == other.shape
        return bool(plain and one.tobytes() == other.tobytes() and one.flags == other.flags)
    return isinstance(one, _SCALARS) and repr(one) == repr(other)


def _build_ensemble(fields: Mapping[str, Any]) -> Any:
    """Return the trees as the list or array that the ensemble had."""
    trees = _build_trees(fields)
    shape = fields.get("shape")
    if shape is None:
        return trees
    sizes = type(shape) is tuple and all(type(size) is int and size > 0 for size in shape)
    if not sizes or math.prod(shape) != len(trees):
        raise Corrupt("the trees of an ensemble do not fill their array")
    array = np.empty(len(trees), dtype=object)
    array[:] = trees
    return array.reshape(shape)


def _build_trees(fields: Mapping[str, Any]) -> list[Any]:
    kind, shared, varying = fields["kind"], fields["shared"], fields["varying"]
    if kind not in _KINDS or type(shared) is not dict or type(varying) is not dict:
        raise Corrupt(f"the trees of a forest are of the unknown kind {kind!r:.60}")
    trees = _built_trees(fields)
    _require_attributes(kind, shared, varying, len(trees))
    if shared.get("n_features_in_") != fields["n_features"]:
        raise Corrupt("the trees of a forest check their inputs against another width")
    module = import_extra("sklearn.tree", needed_for="a decision tree")
    cls = getattr(module, _KINDS[kind])
    arrays = [name for name, value in shared.items() if type(value) is np.ndarray]
    estimators = []
    for number, tree in enumerate(trees):
        estimator = cls.__new__(cls)
        own = vars(estimator)
        own.update(shared)
        if number:
            own.update((name, shared[name].copy()) for name in arrays)
        own.update((name, column[number]) for name, column in varying.items())
        own["tree_"] = tree
        estimators.append(estimator)
    return estimators


def _require_attributes(
    kind: str, shared: Mapping[str, Any], varying: Mapping[str, Any], count: int
) -> None:
    twice = shared.keys() & varying.keys()
    unknown = (shared.keys() | varying.keys()) - TABLE[kind].fields | twice
    if unknown or "tree_" in shared or "tree_" in varying:
        raise Corrupt(f"the trees of a forest have impossible attributes {sorted(unknown)!r:.100}")
    if any(type(column) is not list or len(column) != count for column in varying.values()):
        raise Corrupt("an attribute of a forest's trees has another length than the forest")


def _encode_forest(forest: Any) -> dict[str, Any]:
    fields = dict(vars(forest))
    estimators = fields.get("estimators_")
    if type(estimators) is list and estimators and _alike(estimators):
        fields["estimators_"] = Trees(estimators, None)
    if type(estimators) is np.ndarray and estimators.size and _alike(estimators.ravel().tolist()):
        fields["estimators_"] = Trees(estimators.ravel().tolist(), estimators.shape)
    return fields


def _alike(estimators: Sequence[Any]) -> bool:
    """Say whether trees can share columns: same class, attributes and sizes."""
    first = estimators[0]
    if f"sklearn.{type(first).__name__}" not in _KINDS or not hasattr(first, "tree_"):
        return False
    shape = (first.tree_.n_features, first.tree_.n_classes.tolist())
    return all(
        type(estimator) is type(first)
        and vars(estimator).keys() == vars(first).keys()
        and (estimator.tree_.n_features, estimator.tree_.n_classes.tolist()) == shape
        for estimator in estimators
    )


def _check_tree(fields: Mapping[str, Any]) -> None:
    """Require that inputs are checked against the width the tree was judged for."""
    if "tree_" not in fields:
        return
    width = fields.get("n_features_in_")
    tree = fields["tree_"]
    if (
        tree.type_id != "sklearn.Tree"
        or width is None
        or type(width.value) is not int
        or tree.fields["n_features"].value != width.value
    ):
        raise Corrupt("a decision tree checks its inputs against another width than its nodes")


def _check_forest(fields: Mapping[str, Any]) -> None:
    if "estimators_" not in fields:
        return
    width, trees = fields.get("n_features_in_"), fields["estimators_"]
    if width is None or type(width.value) is not int:
        raise Corrupt("a fitted forest has no number of features to check its inputs against")
    if trees.type_id == "sklearn.Trees":
        widths = {trees.fields["n_features"].value}
    else:
        widths = {_width_of(tree) for tree in trees.items}
    if widths - {width.value}:
        raise Corrupt("a forest checks its inputs against another width than its trees")


def _width_of(tree: Any) -> Any:
    known = tree.fields.get("n_features_in_")
    return None if known is None else known.value


def _tree_class() -> type:
    kind: type = import_extra("sklearn.tree._tree", needed_for="a decision tree").Tree
    return kind


def _one_tree(fields: Mapping[str, Any]) -> Any:
    trees = _built_trees(fields)
    if len(trees) != 1:
        raise Corrupt("a decision tree has the nodes of several")
    return trees[0]


ENCODERS: Final[dict[str, Callable[[Any], Any]]] = dict.fromkeys(_ENSEMBLES, _encode_forest)
CHECKS: Final[dict[str, Callable[[Mapping[str, Any]], None]]] = {
    **dict.fromkeys(_KINDS, _check_tree),
    **dict.fromkeys(_FORESTS, _check_forest),
}
TYPES: Final = (
    TypeSpec(
        id="sklearn.Tree",
        locate=_tree_class,
        classes=("sklearn.tree._tree:Tree",),
        encode=lambda tree: _columns_of([tree]),
        state=lambda tree: tree.__getstate__(),
        build=_one_tree,
        fields=_TREE,
        required=_TREE - _OPTIONAL,
    ),
    TypeSpec(
        id="sklearn.Trees",
        locate=lambda: Trees,
        classes=("holdfast.frameworks.sklearn.trees:Trees",),
        encode=_encode_trees,
        build=_build_ensemble,
        fields=_TREE | {"kind", "shared", "varying", "shape"},
        required=(_TREE | {"kind", "shared", "varying"}) - _OPTIONAL,
    ),
)
