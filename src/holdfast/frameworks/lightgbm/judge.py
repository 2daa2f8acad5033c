"""Judging a LightGBM text model before its native reader sees it.

The native reader takes lines by their keys and numbers as far as they go; the predictor then
follows children, features and category bits without looking. So a model must be written as LightGBM
writes it, and every number that leads somewhere must lead to something. Source of the format:
``src/boosting/gbdt_model_text.cpp``, ``src/boosting/gbdt.h`` and ``src/io/tree.cpp`` in LightGBM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.branches import require_trees
from holdfast.frameworks.lightgbm.numbers import (
    require_numbers,
    require_representable,
    whole,
    whole_numbers,
)
from holdfast.frameworks.lightgbm.trees import Forest

__all__ = ["judge"]

_MOST_FEATURES: Final = 1 << 24
_MOST_CLASSES: Final = 1 << 16
_TREE: Final = b"\nTree="
_END: Final = b"\nend of trees\n"
# The native reader cuts parameters at colons and takes what follows the first for granted.
_PARAMETER: Final = re.compile(rb"\[[A-Za-z0-9_]+: .*\]")
# What values a feature had: none, from one to another, or these categories.
_RANGE: Final = re.compile(rb"none|\[[-+.0-9a-z]+:[-+.0-9a-z]+\]|-?[0-9]+(:-?[0-9]+)*")
_CLASSES: Final = re.compile(rb"num_class:(\S*)")


def judge(data: bytes) -> None:
    """Check sizes and every index that compiled code follows.

    Raises:
        Corrupt: Something is missing, of the wrong size, or points outside.
    """
    end = data.find(_END) + 1
    if not end or b"\0" in data or b"\r" in data or not data.startswith(b"tree\n"):
        raise Corrupt("this is no LightGBM model, or it ends too early")
    with _malformed():
        start = data.find(_TREE, 0, end) + 1 or end
        head = _head(data[:start].split(b"\n")[1:])
        features, each = _judge_head(head)
        told = head.get(b"tree_sizes")
        sizes = None if told is None else whole_numbers([told] if told else []).tolist()
        forest = Forest.read(data, start, end, sizes)
        if len(forest) % each:
            raise Corrupt("the LightGBM model has a round with too few trees")
        _judge_forest(forest, features)
        _judge_parameters(data[end:].split(b"\n"))


@contextmanager
def _malformed() -> Iterator[None]:
    """Say of what is missing or is no number that the model is malformed."""
    try:
        yield
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the LightGBM model is malformed: {error!r:.100}") from error


def _head(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in lines:
        key, _, value = line.partition(b"=")
        if key in found:
            raise Corrupt(f"the LightGBM model has the line {key!r:.40} twice")
        if key:
            found[key] = value
    return found


def _judge_head(head: Mapping[bytes, bytes]) -> tuple[int, int]:
    """Return the number of features and of trees in a round."""
    features = whole(head[b"max_feature_idx"], 0, _MOST_FEATURES) + 1
    classes = whole(head[b"num_class"], 1, _MOST_CLASSES)
    if whole(head[b"num_tree_per_iteration"], 1, _MOST_CLASSES) != classes:
        raise Corrupt("the LightGBM model has another number of trees in a round than classes")
    names, ranges = (head[key].split(b" ") for key in (b"feature_names", b"feature_infos"))
    if not len(names) == len(ranges) == features:
        raise Corrupt("the LightGBM model has another number of names than features")
    if not all(map(_RANGE.fullmatch, ranges)):
        raise Corrupt("the LightGBM model has an impossible range of a feature")
    if not head.get(b"objective", b"none").strip():
        raise Corrupt("the objective of the LightGBM model has no name")
    for told in _CLASSES.findall(head.get(b"objective", b"")):
        if whole(told, 1, _MOST_CLASSES) != classes:
            raise Corrupt("the objective of the LightGBM model has another number of classes")
    return features, classes


def _judge_forest(forest: Forest, features: int) -> None:
    """Every node and leaf but the first nodes is the child of one node."""
    nodes = np.array(forest.nodes, np.int64)
    total = int(nodes.sum())
    if total:
        starts = np.cumsum(nodes) - nodes
        shift, count = np.repeat(starts, nodes), np.repeat(nodes, nodes)
        sides, leaves = [], []
        leaf_shift = shift + np.repeat(np.arange(len(nodes)), nodes)  # one leaf more than nodes
        grown = [number for number in forest.nodes if number]
        for column in (forest.left, forest.right):
            child = _each(column, grown)
            if (child >= count).any() or (~child > count).any():
                raise Corrupt("a node of the LightGBM model has a child outside its tree")
            inner = np.flatnonzero(child >= 0)
            sides.append((inner, child[inner] + shift[inner]))
            outer = np.flatnonzero(child < 0)
            leaves.append(~child[outer] + leaf_shift[outer])
        require_trees(starts, *sides, nodes=total, largest=int(nodes.max()))
        met = np.bincount(np.concatenate(leaves), minlength=total + len(nodes))
        if len(met) != total + len(nodes) or (met != 1).any():
            raise Corrupt("the leaves of the LightGBM model do not belong to one node each")
        asked = _each(forest.features, grown)
        if asked.min() < 0 or asked.max() >= features:
            raise Corrupt("a node of the LightGBM model asks for a feature that does not exist")
    require_numbers(forest.numbers)
    for tree in forest.special:
        _judge_categories(tree)
        if whole(tree.get(b"is_linear", b"0"), 0, 1):
            _judge_linear(tree, features)


def _each(column: Sequence[bytes], nodes: Sequence[int]) -> Any:
    """Read the column of all trees; each must have a number for each of its nodes."""
    found = whole_numbers(column)  # there is one space between numbers, and none elsewhere
    if [line.count(b" ") + 1 for line in column] != nodes:
        raise Corrupt("a column of a tree of the LightGBM model has another length")
    return found


def _judge_categories(tree: Mapping[bytes, bytes]) -> None:
    """Nodes that split by categories name a set of bits that exists."""
    leaves, count = whole(tree[b"num_leaves"], 1, 2**31), whole(tree[b"num_cat"], 0, 2**31)
    if count:
        edges = whole_numbers([tree[b"cat_boundaries"]])
        words = tree[b"cat_threshold"].count(b" ") + 1
        if len(edges) != count + 1 or edges[0] or edges[-1] != words or (np.diff(edges) < 0).any():
            raise Corrupt("the categories of the LightGBM model are cut wrongly")
    if leaves == 1:
        return
    kinds = whole_numbers([tree[b"decision_type"]]) & 1
    thresholds = tree[b"threshold"].split(b" ")
    if len(kinds) != leaves - 1 or len(thresholds) != leaves - 1:
        raise Corrupt("the nodes of the LightGBM model do not say how they split")
    for place in np.flatnonzero(kinds).tolist():
        if whole(thresholds[place], 0, 2**31) >= count:
            raise Corrupt("a node of the LightGBM model splits by categories that it lacks")


def _judge_linear(tree: Mapping[bytes, bytes], features: int) -> None:
    leaves, counts = whole(tree[b"num_leaves"], 1, 2**31), whole_numbers([tree[b"num_features"]])
    # Lines of numbers end with a space here, and leaves without features leave gaps.
    used, weights = tree[b"leaf_features"].split(), tree[b"leaf_coeff"].split()
    constants = tree[b"leaf_const"].split(b" ")
    total = int(counts.sum())
    if len(counts) != leaves or len(constants) != leaves or counts.min() < 0:
        raise Corrupt("a leaf of the LightGBM model has an impossible number of features")
    if len(used) != total or len(weights) != total:
        raise Corrupt("a leaf of the LightGBM model has another number of weights than features")
    for word in used:
        whole(word, 0, features - 1)
    for word in (*weights, *constants):
        require_representable(word)


def _judge_parameters(lines: Sequence[bytes]) -> None:
    """Parameters are written one a line, in brackets."""
    inside = False
    for line in lines:
        if line == b"end of parameters":
            return
        if inside and line and not _PARAMETER.fullmatch(line):
            raise Corrupt(f"the LightGBM model has the impossible parameter {line!r:.60}")
        inside = inside or line == b"parameters:"
