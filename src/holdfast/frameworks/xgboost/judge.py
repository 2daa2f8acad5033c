"""Judging an XGBoost model before its native reader sees it.

The native predictor follows child indices, feature indices and category segments without looking.
Source of the schema: ``doc/model.schema`` and ``src/tree/tree_model.cc`` in XGBoost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.xgboost.ubj import Numbers

__all__ = ["judge"]

_MOST_FEATURES: Final = 10_000_000
_MOST_GROUPS: Final = 100_000
_MOST_TREES: Final = 10_000_000
_CATEGORICAL: Final = 1
# Columns of a tree with one entry a node; the second are missing in models of some releases.
_COLUMNS: Final = (
    "left_children", "right_children", "parents", "split_indices", "split_conditions",
    "default_left",
)  # fmt: skip
_STATISTICS: Final = ("loss_changes", "sum_hessian")


def judge(document: Any) -> None:
    """Check sizes and every index that compiled code follows.

    Args:
        document: The model as ``read_ubj`` or a JSON reader gives it.

    Raises:
        Corrupt: Something is missing, of the wrong size, or points outside.
    """
    try:
        _judge_learner(document["learner"], document["version"])
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the XGBoost model is malformed: {error!r:.100}") from error


def _judge_learner(learner: Mapping[str, Any], version: Any) -> None:
    if len(_ints(version)) != 3:
        raise Corrupt("the XGBoost model has no version")
    params = learner["learner_model_param"]
    features = _count(params["num_feature"], _MOST_FEATURES)
    classes = _count(params.get("num_class", "0"), _MOST_GROUPS)
    targets = _count(params.get("num_target", "1"), _MOST_GROUPS)
    for name in ("feature_names", "feature_types"):
        words = learner.get(name, [])
        if not isinstance(words, list) or len(words) not in (0, features):
            raise Corrupt(f"the XGBoost model has {features} features and another number of names")
        if not all(isinstance(word, str) for word in words):
            raise Corrupt(f"{name} of the XGBoost model are not texts")
    _judge_booster(learner["gradient_booster"], features, max(classes, targets, 1))


def _judge_booster(booster: Mapping[str, Any], features: int, groups: int) -> None:
    name = booster["name"]
    if name == "gblinear":
        weights = _floats(booster["model"]["weights"])
        if len(weights) != (features + 1) * groups:
            raise Corrupt("the linear XGBoost model has another number of weights than features")
    elif name == "dart":
        _judge_booster(booster["gbtree"], features, groups)
        trees = len(booster["gbtree"]["model"]["trees"])
        if len(_floats(booster["weight_drop"])) != trees:
            raise Corrupt("the XGBoost model has another number of dropped weights than trees")
    elif name == "gbtree":
        _judge_trees(booster["model"], features, groups)
    else:
        raise Corrupt(f"the XGBoost model has the unknown booster {name!r:.40}")


def _judge_trees(model: Mapping[str, Any], features: int, groups: int) -> None:
    trees = model["trees"]
    info = _ints(model["tree_info"])
    if _count(model["gbtree_model_param"]["num_trees"], _MOST_TREES) != len(trees):
        raise Corrupt("the XGBoost model announces another number of trees")
    if len(info) != len(trees) or _outside(info, 0, groups):
        raise Corrupt("the trees of the XGBoost model belong to groups that do not exist")
    if "iteration_indptr" in model:
        rounds = _ints(model["iteration_indptr"])
        if len(rounds) and (
            rounds[0] != 0 or rounds[-1] != len(trees) or (np.diff(rounds) < 0).any()
        ):
            raise Corrupt("the rounds of the XGBoost model do not cover its trees")
    if trees:
        _judge_nodes(trees, features)
    _judge_encoder(model.get("cats"), features)


def _judge_nodes(trees: Sequence[Mapping[str, Any]], features: int) -> None:
    """Look at the nodes of all trees at once."""
    sizes = np.array([_count(tree["tree_param"]["num_nodes"], 2**31) for tree in trees])
    if _outside(sizes, 1, 2**31):
        raise Corrupt("a tree of the XGBoost model has no nodes")
    widths = np.array([_count(t["tree_param"].get("size_leaf_vector", "1"), 10**6) for t in trees])
    columns = {name: _column(trees, name, sizes) for name in _COLUMNS}
    for name in _STATISTICS:
        if any(name in tree for tree in trees):
            _column(trees, name, sizes)
    _judge_children(columns, sizes, widths, features)
    for tree, size, width in zip(trees, sizes.tolist(), widths.tolist(), strict=True):
        _judge_leaves(tree, size, width)
    if any(len(_raw(tree.get("categories_nodes", []))) for tree in trees):
        for tree in trees:
            _judge_categories(tree)
    elif any(_ints(tree.get("split_type", [])).any() for tree in trees):
        raise Corrupt("a node of the XGBoost model splits by categories that it lacks")


def _judge_children(columns: Mapping[str, Any], sizes: Any, widths: Any, features: int) -> None:
    """Look at the shape of all trees at once: every node but a root is the child of one."""
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    counts = np.repeat(sizes, sizes)
    left, right = _whole(columns["left_children"]), _whole(columns["right_children"])
    inner = left != -1
    bad_left = (left < -1) | (left >= counts)
    vector = np.repeat(widths > 1, sizes)  # there a leaf's right child is its place in a table
    bad_right = (right < -1) | ((right >= counts) & ~(vector & ~inner)) | (inner & (right < 0))
    if bad_left.any() or bad_right.any():
        raise Corrupt("a node of the XGBoost model has a child outside its tree")
    children = np.concatenate([(starts + left)[inner], (starts + right)[inner]])
    met = np.bincount(children, minlength=len(left))
    if (met > 1).any() or met[np.cumsum(sizes) - sizes].any():
        raise Corrupt("the nodes of the XGBoost model do not form trees")
    if _outside(_whole(columns["split_indices"])[inner], 0, features):
        raise Corrupt("a node of the XGBoost model asks for a feature that does not exist")


def _judge_leaves(tree: Mapping[str, Any], size: int, width: int) -> None:
    weights = len(_raw(tree["base_weights"]))
    if width <= 1:
        if weights != size:
            raise Corrupt("a tree of the XGBoost model has another number of weights than nodes")
        return
    left, right = _ints(tree["left_children"]), _ints(tree["right_children"])
    leaves = right[left == -1]
    table = len(_raw(tree["leaf_weights"])) if "leaf_weights" in tree else size * width
    if weights % width or _outside(leaves, -1, max(table // width, 1)):
        raise Corrupt("a leaf of the XGBoost model points outside its weights")
    if "leaf_weights" not in tree and weights != size * width:
        raise Corrupt("a tree of the XGBoost model has another number of weights than nodes")


def _judge_categories(tree: Mapping[str, Any]) -> None:
    nodes, starts = _ints(tree["categories_nodes"]), _ints(tree["categories_segments"])
    sizes, members = _ints(tree["categories_sizes"]), _ints(tree["categories"])
    kinds = _ints(tree["split_type"])
    same = len(nodes) == len(starts) == len(sizes)
    if not same or _outside(nodes, 0, len(kinds)) or (np.diff(nodes) <= 0).any():
        raise Corrupt("the categories of the XGBoost model belong to no node")
    ends = np.cumsum(sizes)
    if _outside(sizes, 0, len(members) + 1) or (starts != ends - sizes).any():
        raise Corrupt("the categories of the XGBoost model are cut wrongly")
    if (ends[-1] if len(ends) else 0) != len(members) or _outside(members, 0, 1 << 24):
        raise Corrupt("the XGBoost model has impossible categories")
    if not np.isin(np.flatnonzero(kinds == _CATEGORICAL), nodes).all() or _outside(kinds, 0, 2):
        raise Corrupt("a node of the XGBoost model splits by categories that it lacks")


def _judge_encoder(cats: Any, features: int) -> None:
    """Look at the categories by which inputs are coded anew, since 3.1."""
    if cats is None:
        return
    segments, order = _ints(cats["feature_segments"]), _ints(cats["sorted_idx"])
    total = int(segments[-1]) if len(segments) else 0
    if len(segments) not in (0, features + 1) or (np.diff(segments) < 0).any():
        raise Corrupt("the XGBoost model codes features that do not exist")
    if (len(segments) and segments[0] != 0) or len(order) != total or _outside(order, 0, total):
        raise Corrupt("the XGBoost model has an impossible order of categories")
    seen = 0
    for place, part in enumerate(cats["enc"]):
        values = len(_raw(part["values"]))
        offsets = _ints(part["offsets"]) if "offsets" in part else None
        count = values
        if offsets is not None:  # texts: their bytes one after the other
            count = max(len(offsets) - 1, 0)
            if len(offsets) and (
                offsets[0] != 0 or offsets[-1] != values or (np.diff(offsets) < 0).any()
            ):
                raise Corrupt("the XGBoost model has category names that are cut wrongly")
        if place + 1 >= len(segments) or segments[place + 1] - segments[place] != count:
            raise Corrupt("the XGBoost model has another number of categories than it says")
        seen += count
    if seen != total:
        raise Corrupt("the XGBoost model has another number of categories than it says")


def _column(trees: Sequence[Mapping[str, Any]], name: str, sizes: Any) -> Any:
    """Return one column of all trees, which must have an entry for every node."""
    parts = [_raw(tree[name]) for tree in trees]
    if [len(part) for part in parts] != sizes.tolist():
        raise Corrupt(f"{name} of a tree of the XGBoost model has another length than its nodes")
    first = trees[0][name]
    if isinstance(first, Numbers) and all(tree[name].dtype == first.dtype for tree in trees):
        return np.frombuffer(b"".join([tree[name].data for tree in trees]), first.dtype)
    return np.concatenate([np.asarray(part) for part in parts])


def _raw(value: Any) -> Any:
    if isinstance(value, Numbers):
        return value.array()
    if not isinstance(value, list):
        raise Corrupt("the XGBoost model has no array where one belongs")
    return value


def _ints(value: Any) -> Any:
    array = np.asarray(_raw(value))
    return _whole(array) if array.size else np.zeros(0, np.int64)


def _whole(array: Any) -> Any:
    if array.dtype.kind not in "iub" or array.ndim != 1:
        raise Corrupt("the XGBoost model has something else where whole numbers belong")
    return array.astype(np.int64)


def _floats(value: Any) -> Any:
    array = np.asarray(_raw(value), dtype=np.float64)
    if array.ndim != 1:
        raise Corrupt("the XGBoost model has a table where a list belongs")
    return array


def _outside(values: Any, low: int, high: int) -> bool:
    return len(values) > 0 and bool(values.min() < low or values.max() >= high)


def _count(text: Any, most: int) -> int:
    number = int(text)
    if not math.isfinite(number) or not 0 <= number <= most:
        raise Corrupt(f"the XGBoost model has the impossible size {text!r:.40}")
    return number
