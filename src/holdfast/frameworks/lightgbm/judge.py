"""Judging a LightGBM text model before its native reader sees it.

The native predictor follows children, features and category bits without looking. Source of the
format: ``src/boosting/gbdt_model_text.cpp`` and ``src/io/tree.cpp`` in LightGBM.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["judge"]

_MOST_FEATURES: Final = 10_000_000
_MOST_CLASSES: Final = 100_000
_MOST_LEAVES: Final = 1 << 24
_TREE: Final = re.compile(rb"^Tree=\d+\n", re.MULTILINE)
# The native reader ends the process where a number is none.
_NUMBER: Final = rb"-?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf|nan)"
_LINE: Final = re.compile(rb"[A-Za-z_]+=(?:" + _NUMBER + rb"(?: +" + _NUMBER + rb")*)? *")
_PARAMETER: Final = re.compile(rb"\[[A-Za-z0-9_]+: [^\r]*\]")
_END: Final = b"end of trees"
# Lines of a tree with one entry a node, and those with one a leaf; the second are optional.
_PER_NODE: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_PER_LEAF: Final = ("leaf_value",)
_MORE_PER_NODE: Final = ("split_gain", "internal_value", "internal_weight", "internal_count")
_MORE_PER_LEAF: Final = ("leaf_weight", "leaf_count", "leaf_const", "num_features")
_CATEGORICAL: Final = 1


def judge(data: bytes) -> None:
    """Check sizes and every index that compiled code follows.

    Raises:
        Corrupt: Something is missing, of the wrong size, or points outside.
    """
    try:
        head, blocks = _cut(data)
        features, each = _judge_head(head)
        if len(blocks) % each:
            raise Corrupt("the LightGBM model has a round with too few trees")
        for block in blocks:
            _require_keys(block)
        _judge_parameters(data)
        _judge_trees([_lines(block) for block in blocks], features)
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the LightGBM model is malformed: {error!r:.100}") from error


def _cut(data: bytes) -> tuple[dict[str, str], list[bytes]]:
    """Return the lines of the head, and the text of each tree, as the native reader cuts them."""
    end = data.find(_END)
    if not data.startswith(b"tree\n") or end < 0 or b"\0" in data:
        raise Corrupt("this is no LightGBM model, or it ends too early")
    starts = [found.start() for found in _TREE.finditer(data, 0, end)]
    head = _lines(data[: starts[0] if starts else end])
    blocks = [data[a:b] for a, b in zip(starts, [*starts[1:], end], strict=True)]
    sizes = [int(word) for word in head.get("tree_sizes", "").split()]
    if sizes and sizes != [len(block) for block in blocks]:
        raise Corrupt("the LightGBM model announces trees of other sizes")
    return head, blocks


def _require_keys(block: bytes) -> None:
    """Refuse a tree with a line that is no key and value: the native reader looks further for one.

    It takes what lies before the next equals sign for the key, whatever lines that is.
    """
    for line in block.split(b"\n"):
        if line and not _LINE.fullmatch(line):
            raise Corrupt(f"a tree of the LightGBM model has the line {line!r:.60}")


def _judge_parameters(data: bytes) -> None:
    """Refuse parameters that are no ``[name: value]``: the native reader takes both unseen."""
    _, begin, rest = data[data.find(_END) :].partition(b"\nparameters:\n")
    inside, end, _ = rest.partition(b"end of parameters")
    if begin and not end:
        raise Corrupt("the parameters of the LightGBM model have no end")
    for line in inside.split(b"\n"):
        if line and not _PARAMETER.fullmatch(line):
            raise Corrupt(f"the LightGBM model has the parameter {line!r:.60}")


def _lines(text: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.decode("utf-8").split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            if key in found:
                raise Corrupt(f"the LightGBM model has the line {key!r:.40} twice")
            found[key] = value
    return found


def _judge_head(head: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of features and of trees in a round."""
    features = int(head["max_feature_idx"]) + 1
    classes, each = int(head["num_class"]), int(head["num_tree_per_iteration"])
    if not (0 < features <= _MOST_FEATURES and 0 < classes <= _MOST_CLASSES):
        raise Corrupt("the LightGBM model has an impossible number of features or classes")
    if not 0 < each <= _MOST_CLASSES or each not in (classes, 1):
        raise Corrupt("the LightGBM model has an impossible number of trees in a round")
    for key in ("feature_names", "feature_infos"):
        if key in head and len(head[key].split(" ")) != features:
            raise Corrupt(f"the LightGBM model has {features} features and another number of {key}")
    for told in re.findall(r"num_class:(\S+)", head.get("objective", "")):
        if int(told) != classes:
            raise Corrupt("the objective of the LightGBM model has another number of classes")
    return features, each


def _judge_trees(trees: Sequence[Mapping[str, str]], features: int) -> None:
    leaves = np.array([int(tree["num_leaves"]) for tree in trees], dtype=np.int64)
    if len(leaves) and (leaves.min() < 1 or leaves.max() > _MOST_LEAVES):
        raise Corrupt("a tree of the LightGBM model has an impossible number of leaves")
    for tree, count in zip(trees, leaves.tolist(), strict=True):
        _judge_lengths(tree, count)
    grown = [tree for tree in trees if int(tree["num_leaves"]) > 1]
    nodes = leaves[leaves > 1] - 1
    if grown:
        columns = {name: _numbers([tree[name] for tree in grown]) for name in _PER_NODE[3:]}
        columns["split_feature"] = _numbers([tree["split_feature"] for tree in grown])
        _judge_children(columns, nodes)
        if columns["split_feature"].min() < 0 or columns["split_feature"].max() >= features:
            raise Corrupt("a node of the LightGBM model asks for a feature that does not exist")
    for tree in trees:
        if int(tree["num_cat"]) or _CATEGORICAL & _bits(tree):
            _judge_categories(tree)
        if int(tree.get("is_linear", "0")):
            _judge_linear(tree, features)


def _judge_lengths(tree: Mapping[str, str], leaves: int) -> None:
    counts = {
        **dict.fromkeys((*_PER_NODE, *_MORE_PER_NODE), leaves - 1),
        **dict.fromkeys((*_PER_LEAF, *_MORE_PER_LEAF), leaves),
    }
    needed = (*_PER_NODE, *_PER_LEAF) if leaves > 1 else _PER_LEAF
    for name, count in counts.items():
        if _length(tree.get(name, "")) not in ((count,) if name in needed else (0, count)):
            raise Corrupt(f"{name} of a tree of the LightGBM model has another length")


def _length(text: str) -> int:
    return text.count(" ") + 1 if text else 0


def _numbers(texts: Sequence[str]) -> Any:
    """Read whole numbers of many lines at once; anything else is refused."""
    joined = " ".join(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = np.fromstring(joined, dtype=np.int64, sep=" ")
        except DeprecationWarning as error:
            raise Corrupt("the LightGBM model has a word where a number belongs") from error
    if len(found) != _length(joined):
        raise Corrupt("the LightGBM model has a word where a number belongs")
    return found


def _judge_children(columns: Mapping[str, Any], nodes: Any) -> None:
    """Every node but the first, and every leaf, is the child of exactly one node."""
    starts = np.repeat(np.cumsum(nodes) - nodes, nodes)
    counts = np.repeat(nodes, nodes)
    places, leaves = [], []
    shift = np.repeat(np.arange(len(nodes)), nodes)  # a tree has one leaf more than nodes
    for side in ("left_child", "right_child"):
        child = columns[side]
        if (child >= counts).any() or (~child > counts).any():
            raise Corrupt("a node of the LightGBM model has a child outside its tree")
        inner = child >= 0
        places.append((starts + child)[inner])
        leaves.append((starts + shift + ~child)[~inner])
    met = np.bincount(np.concatenate(places), minlength=int(nodes.sum()))
    if (met > 1).any() or met[np.cumsum(nodes) - nodes].any():
        raise Corrupt("the nodes of the LightGBM model do not form trees")
    if (np.bincount(np.concatenate(leaves), minlength=int(nodes.sum()) + len(nodes)) != 1).any():
        raise Corrupt("the leaves of the LightGBM model do not belong to one node each")


def _bits(tree: Mapping[str, str]) -> int:
    """Return the decision bits of all nodes of a tree together."""
    if int(tree["num_leaves"]) < 2:
        return 0
    return int(np.bitwise_or.reduce(_numbers([tree["decision_type"]])))


def _judge_categories(tree: Mapping[str, str]) -> None:
    count = int(tree["num_cat"])
    edges = _numbers([tree["cat_boundaries"]]) if count > 0 else np.zeros(1, np.int64)
    words = _length(tree["cat_threshold"]) if count > 0 else 0
    if count < 0 or len(edges) != count + 1 or edges[0] != 0 or edges[-1] != words:
        raise Corrupt("the categories of the LightGBM model are cut wrongly")
    if (np.diff(edges) < 0).any():
        raise Corrupt("the categories of the LightGBM model are cut wrongly")
    if int(tree["num_leaves"]) < 2:
        return
    kinds = _numbers([tree["decision_type"]]) & _CATEGORICAL
    thresholds = [float(word) for word in tree["threshold"].split(" ")]
    for kind, threshold in zip(kinds.tolist(), thresholds, strict=True):
        if kind and not (0 <= threshold < count and threshold == int(threshold)):
            raise Corrupt("a node of the LightGBM model splits by categories that it lacks")


def _judge_linear(tree: Mapping[str, str], features: int) -> None:
    counts = _numbers([tree["num_features"]])
    total = int(counts.sum())
    used, weights = tree["leaf_features"].split(), tree["leaf_coeff"].split()
    if counts.min() < 0 or len(used) != total or len(weights) != total:
        raise Corrupt("a leaf of the LightGBM model has another number of weights than features")
    if total and not all(0 <= int(word) < features for word in used):
        raise Corrupt("a leaf of the LightGBM model asks for a feature that does not exist")
