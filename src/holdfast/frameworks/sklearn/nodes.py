"""Binary trees as columns over a whole ensemble: judged at once, and cut into nodes per tree.

Compiled code walks a tree without looking whether a child or a feature exists. So every node but
the roots must be the child of exactly one earlier node, and features lie within the width that
inputs are checked against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["Judged", "depths", "judged", "narrow", "nodes_by_tree"]

_LEAF: Final = -1
_BLOCK: Final = 4096  # nodes, a quarter of a megabyte


class Judged(NamedTuple):
    """Trees that are trees.

    Attributes:
        children: Two nodes per inner node, counted over all trees, of shape (inner nodes, 2).
        inner: Whether a node is one, of shape (nodes,).
        starts: The roots.
        tree: The tree of each inner node.
    """

    children: Any
    inner: Any
    starts: Any
    tree: Any


def narrow(column: Any, dtype: Any) -> Any:
    """Return a column in a narrower dtype if that holds all of its whole numbers."""
    if np.dtype(dtype).kind == "i" and len(column):
        bounds = np.iinfo(dtype)
        if column.min() < bounds.min or column.max() > bounds.max:
            return column
    return column.astype(dtype, copy=False)


def judged(left: Any, right: Any, feature: Any, counts: Any, width: int) -> Judged:
    """Prove that every tree is a tree.

    Children come after their parents and every node but the roots is a child exactly once; by
    induction each node is then reached from its root in exactly one way.

    Args:
        left: First children, counted from their tree's root, -1 in leaves, of shape (nodes,).
        right: Second children, likewise.
        feature: What inner nodes ask for, of shape (nodes,).
        counts: Nodes per tree, each at least 1.
        width: Number of features.

    Raises:
        Corrupt: A node would lead out of its tree, or two ways lead to one.
    """
    starts = np.cumsum(counts) - counts
    inner = left != _LEAF
    if not np.array_equal(inner, right != _LEAF):
        raise Corrupt("a node of a tree has one child")
    parents = np.flatnonzero(inner)
    if len(parents):
        features = feature[parents]
        if features.min() < 0 or features.max() >= width:
            raise Corrupt("a node of a tree asks for a feature that the inputs do not have")
    tree = np.repeat(np.arange(len(counts)), counts)[parents]
    start, end = starts[tree], (starts + counts)[tree]
    used = np.zeros(len(left), dtype=bool)
    children = np.empty((len(parents), 2), dtype=np.intp)
    for own, column in zip(children.T, (left, right), strict=True):
        np.add(column[parents], start, out=own)  # one too large wraps round to before its parent
        if (own <= parents).any() or (own >= end).any():
            raise Corrupt("a node of a tree has a child outside the nodes after it")
        used[own] = True
    if np.count_nonzero(used) != 2 * len(parents):
        raise Corrupt("a node of a tree is the child of two nodes")
    if 2 * len(parents) != len(left) - len(counts) or used[starts].any():
        raise Corrupt("a node of a tree cannot be reached")
    return Judged(children, inner, starts, tree)


def depths(trees: Judged) -> list[int]:
    """Return the depth of the deepest leaf per tree, level by level over the whole forest."""
    children, inner, starts, tree = trees
    rank = np.cumsum(inner) - 1
    deepest = np.zeros(len(starts), dtype=np.int64)
    level, depth = starts[inner[starts]], 0
    while len(level):
        depth += 1
        ranks = rank[level]
        deepest[tree[ranks]] = depth
        level = children[ranks].ravel()
        level = level[inner[level]]
    return [int(value) for value in deepest]


def nodes_by_tree(
    columns: Mapping[str, Any], dtype: Any, counts: Sequence[int]
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield each tree's nodes, filled in blocks that stay in the processor's cache."""
    block, first, end = np.zeros(0, dtype), 0, 0
    for count in counts:
        start, end = end, end + count
        if end > first + len(block):
            first, last = start, max(end, start + _BLOCK)
            filled = {name: column[first:last] for name, column in columns.items()}
            block = np.zeros(len(next(iter(filled.values()))), dtype)
            for name, column in filled.items():
                block[name] = column
        yield block[start - first : end - first]
