"""Proving that nodes and their children form trees, over all trees of a booster at once.

Compiled code follows children until there are none: it would not end on a circle, and where it
descends by recursion it would leave the stack on a tree that is deep beyond reason.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["DEEPEST", "Side", "require_trees"]

# Contributions of features are computed by recursion, a frame for each level.
DEEPEST: Final = 4096

# The nodes that have a child on one side, each once, and those children, of one shape (edges,).
Side = tuple[Any, Any]


def require_trees(roots: Any, left: Side, right: Side, *, nodes: int, largest: int) -> None:
    """Require that whatever has children is reached from a root, in one way only.

    Args:
        roots: The places of the roots, of shape (trees,).
        left: Places of nodes and of their first children.
        right: Places of nodes and of their second children.
        nodes: How many places there are; the caller has seen that all lie below it.
        largest: How many nodes the largest tree has.

    Raises:
        Corrupt: Two ways lead to one node, one leads to a root, a node with children hangs
            nowhere, or a tree is deeper than ``DEEPEST``.
    """
    met = np.zeros(nodes, bool)
    for _, children in (left, right):
        met[children] = True
    edges = len(left[0]) + len(right[0])
    if np.count_nonzero(met) != edges or met[roots].any():
        raise Corrupt("the nodes of a tree do not form a tree")
    met[roots] = True
    if not (met[left[0]].all() and met[right[0]].all()):
        raise Corrupt("a node of a tree cannot be reached")
    # Where children come after their parents there is no circle; so do libraries write them.
    later = (left[1] > left[0]).all() and (right[1] > right[0]).all()
    if largest > DEEPEST or not later:
        _require_shallow(roots, left, right, nodes, len(roots) + edges)


def _require_shallow(roots: Any, left: Side, right: Side, nodes: int, expected: int) -> None:
    """Go down level by level; what is on a circle is never met."""
    table = np.full((nodes, 2), -1)
    for side, (parents, children) in enumerate((left, right)):
        table[parents, side] = children
    level, reached = roots, 0
    for _ in range(DEEPEST):
        reached += len(level)
        level = table[level].ravel()
        level = level[level >= 0]
        if not len(level):
            break
    else:
        raise Corrupt(f"a tree is deeper than {DEEPEST} levels")
    if reached != expected:
        raise Corrupt("the nodes of a tree do not form a tree")
