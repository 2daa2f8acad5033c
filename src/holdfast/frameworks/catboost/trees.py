"""The trees of a CatBoost model: splits, nodes and leaves.

Oblivious trees ask the same at each level, so their splits are all that they have; others are nodes
with distances to their children, where a distance of zero means that the value is at the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.branches import require_trees
from holdfast.frameworks.catboost.features import Bins

__all__ = ["BIN", "NODE", "judge_trees"]

NODE: Final = np.dtype([("left", "<u2"), ("right", "<u2")])
BIN: Final = np.dtype([("feature", "<u2"), ("mask", "u1"), ("split", "u1")])
_DEEPEST: Final = 24  # of oblivious trees, which double with each level
_MOST_DIMENSIONS: Final = 1 << 16


def judge_trees(trees: Mapping[str, Any], bins: Bins) -> None:
    """Check splits, children and leaves.

    Raises:
        Corrupt: One leads outside, or lists belong to trees of other sizes.
    """
    dimension = trees["dimension"]
    if not 1 <= dimension <= _MOST_DIMENSIONS or len(trees["biases"]) not in (0, dimension):
        raise Corrupt("the CatBoost model predicts an impossible number of values")
    sizes = np.asarray(trees["sizes"], np.int64)
    starts, splits = np.cumsum(sizes) - sizes, np.asarray(trees["splits"], np.int64)
    if len(sizes) and sizes.min() < 0:
        raise Corrupt("a tree of the CatBoost model has an impossible size")
    if not np.array_equal(trees["starts"], starts) or len(splits) != sizes.sum():
        raise Corrupt("the trees of the CatBoost model are cut wrongly")
    plain = not len(trees["nodes"]) and not len(trees["leaf_ids"])
    _judge_splits(splits, trees, bins, plain=plain)
    leaves, weights = len(trees["leaves"]), len(trees["weights"])
    if leaves % dimension or weights not in (0, leaves // dimension):
        raise Corrupt("the CatBoost model has another number of weights than leaves")
    if not plain:
        _judge_nodes(trees, sizes, starts)
    elif len(sizes) and sizes.max() > _DEEPEST:
        raise Corrupt("a tree of the CatBoost model is impossibly deep")
    elif int((1 << sizes).sum()) * dimension != leaves:
        raise Corrupt("the CatBoost model has another number of leaves than its trees")


def _judge_splits(splits: Any, trees: Mapping[str, Any], bins: Bins, *, plain: bool) -> None:
    buckets, masks, compared = bins.repacked()
    if not len(buckets):  # trees of one leaf each, which are nodes that ask nothing
        if splits.any() or (plain and len(splits)) or trees["nodes"].view(np.uint16).any():
            raise Corrupt("a tree of the CatBoost model asks what does not exist")
        return
    if len(splits) and not 0 <= splits.min() <= splits.max() < len(buckets):
        raise Corrupt("a tree of the CatBoost model asks what does not exist")
    if len(splits) and buckets[splits].max() > np.iinfo(np.uint16).max:
        raise Corrupt("the CatBoost model has too many features")
    told = trees["bins"]
    if not len(told):
        return
    columns = {"feature": buckets, "mask": masks, "split": compared}
    if any(not np.array_equal(told[name], column[splits]) for name, column in columns.items()):
        raise Corrupt("the CatBoost model has other packed splits than splits")


def _judge_nodes(trees: Mapping[str, Any], sizes: Any, starts: Any) -> None:
    nodes, leaf_ids = trees["nodes"], np.asarray(trees["leaf_ids"], np.int64)
    total = int(sizes.sum())
    if len(nodes) != total or len(leaf_ids) != total or (len(sizes) and not sizes.min()):
        raise Corrupt("the CatBoost model has other nodes than splits")
    places, ends = np.arange(total), np.repeat(starts + sizes, sizes)
    sides = []
    for side in ("left", "right"):
        child = places + nodes[side]
        if (child >= ends).any():
            raise Corrupt("a node of the CatBoost model has a child outside its tree")
        parents = np.flatnonzero(nodes[side])
        sides.append((parents, child[parents]))
    require_trees(starts, *sides, nodes=total, largest=int(sizes.max(initial=0)))
    valued = np.flatnonzero((nodes["left"] == 0) | (nodes["right"] == 0))
    _judge_values(leaf_ids[valued], np.searchsorted(starts, valued, "right"), trees)


def _judge_values(leaves: Any, tree: Any, trees: Mapping[str, Any]) -> None:
    """Leaves of the first tree come first, then those of the second, each in one place."""
    order = np.lexsort((leaves, tree))
    expected = np.arange(len(leaves)) * trees["dimension"]
    if not np.array_equal(leaves[order], expected) or len(leaves) * trees["dimension"] != len(
        trees["leaves"]
    ):
        raise Corrupt("the leaves of the CatBoost model do not belong to one node each")
