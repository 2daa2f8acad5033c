"""The trees of an XGBoost model, gathered into columns over all of them and judged at once.

Trees of one size are written with the same bytes between their numbers, so those bytes are
compared as a whole and only the numbers that lead somewhere are looked at: a model is judged in a
fraction of the time its native reader takes. Whatever is written otherwise is read key by key.
Source of the layout: ``src/tree/tree_model.cc`` and ``src/common/json.cc`` in XGBoost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.branches import require_trees
from holdfast.frameworks.xgboost.stamps import Stamp, Stamps
from holdfast.frameworks.xgboost.ubj import Numbers, Reader

__all__ = ["Forest", "gathered", "judge_trees", "read_trees"]

# Columns with an entry a node, and what they are made of; the first five lead somewhere.
_INDICES: Final = ("left_children", "right_children", "parents", "split_indices", "split_type")
_FLOATS: Final = ("loss_changes", "sum_hessian", "split_conditions")
_KINDS: Final = {"split_type": ">u1", "default_left": ">u1"}
_CATEGORIES: Final = {
    "categories": ">i4",
    "categories_nodes": ">i4",
    "categories_segments": ">i8",
    "categories_sizes": ">i8",
}
_MOST_NODES: Final = 2**31 - 1
_MOST_CATEGORY: Final = 2**24
# The native reader keeps a bit for each category below the greatest one, for every split.
_MOST_BYTES_OF_BITS: Final = 1 << 30
_NO_NODE: Final = -1


class _Vector(NamedTuple):
    """What a tree with several values in a leaf has besides: numbers of shape (leaves, width)."""

    width: int
    weights: int
    leaf_weights: int | None


class Forest:
    """All trees of a model.

    Attributes:
        sizes: Nodes of each tree.
        deleted: Nodes of each tree that pruning took out.
        columns: Column to one piece of big-endian bytes for each tree.
        categories: Of each tree that splits by categories, by its place.
        vectors: Of each tree with several values in a leaf, by its place.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.deleted: list[int] = []
        self.columns: dict[str, list[bytes | memoryview]] = {name: [] for name in _INDICES}
        self.categories: dict[int, dict[str, Any]] = {}
        self.vectors: dict[int, _Vector] = {}

    def __len__(self) -> int:
        return len(self.sizes)

    def add(self, tree: Mapping[str, Any]) -> None:
        """Take a tree that was read key by key, from UBJSON or JSON.

        Raises:
            Corrupt: A column is missing, of the wrong kind or has another length than nodes.
        """
        place, params = len(self.sizes), tree["tree_param"]
        if tree["id"] != place or type(tree["id"]) is not int:
            raise Corrupt("a tree of the XGBoost model is not in its place")
        size = whole(params["num_nodes"], 1, _MOST_NODES)
        for name in _INDICES:
            typed = _KINDS.get(name, ">i4")
            if name == "split_indices" and is_wide(tree[name]):
                raise Corrupt("the XGBoost model has more features than anyone")
            column = (b"\0" * size) if name not in tree and name == "split_type" else None
            self.columns[name].append(column or _bytes_of(tree[name], typed, size))
        for name in (*_FLOATS, "default_left"):
            if name in tree or name == "split_conditions":
                _bytes_of(tree[name], _KINDS.get(name, ">f4"), size)
        self._add_weights(tree, params, size)
        cut = {
            name: _integers(_bytes_of(tree.get(name, []), kind, None), kind)
            for name, kind in _CATEGORIES.items()
        }
        if any(len(numbers) for numbers in cut.values()):
            self.categories[place] = cut
        self.sizes.append(size)
        self.deleted.append(whole(params.get("num_deleted", "0"), 0, size))

    def add_stamped(self, data: bytes, start: int, stamp: Stamp) -> None:
        """Take a tree of one value in a leaf and no pruned nodes, known to be written so."""
        spans = stamp.spans
        for name, parts in self.columns.items():
            begin, end = spans[name]
            parts.append(data[start + begin : start + end])
        begin, end = spans["categories"]
        if begin != end:
            cut = {}
            for name, kind in _CATEGORIES.items():
                begin, end = spans[name]
                cut[name] = _integers(data[start + begin : start + end], kind)
            self.categories[len(self.sizes)] = cut
        self.sizes.append(stamp.size)
        self.deleted.append(0)

    def _add_weights(self, tree: Mapping[str, Any], params: Mapping[str, Any], size: int) -> None:
        width = whole(params.get("size_leaf_vector", "1"), 0, 2**20)
        weights = len(_bytes_of(tree["base_weights"], ">f4", None)) // 4
        if width > 1:
            leaves = tree.get("leaf_weights")
            needed = ("split_type", *(() if leaves is None else _FLOATS))
            if not {*needed} <= tree.keys():
                raise Corrupt("a tree of the XGBoost model lacks a column")
            table = None if leaves is None else len(_bytes_of(leaves, ">f4", None)) // 4
            self.vectors[len(self.sizes)] = _Vector(width, weights, table)
        elif weights != size or "leaf_weights" in tree:
            raise Corrupt("a tree of the XGBoost model has another number of weights than nodes")


def gathered(trees: Any) -> Forest:
    """Return the trees of a JSON document as a forest.

    Raises:
        Corrupt: One of them is malformed.
    """
    forest = Forest()
    if not isinstance(trees, list):
        raise Corrupt("the XGBoost model has no list of trees")
    for tree in trees:
        forest.add(tree)
    return forest


def read_trees(reader: Reader, depth: int) -> Any:
    """Read the list of trees at the reader's place, or whatever else is called ``trees`` there.

    Raises:
        Corrupt: One of them is malformed, or the list is not announced with its length.
    """
    if reader.marker() != b"[":
        return reader.value(depth)
    forest, stamps = Forest(), Stamps()
    data = reader.data
    for place in range(reader.announced()):
        start = reader.place
        stamp = stamps.match(data, start, place)
        if stamp is not None:
            forest.add_stamped(data, start, stamp)
            reader.place = start + stamp.layout.size
            continue
        tree = reader.value(depth + 1)
        if not isinstance(tree, dict):
            raise Corrupt(f"the UBJSON has something else where a tree belongs, byte {start}")
        forest.add(tree)
        stamps.learn(tree["tree_param"])
    return forest


def whole(text: Any, low: int, high: int) -> int:
    """Read a number as parameters are written: ASCII digits.

    Raises:
        Corrupt: It is something else, or outside the bounds.
    """
    if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Corrupt(f"the XGBoost model has {text!r:.40} where a number belongs")
    if not low <= int(text) <= high:
        raise Corrupt(f"the XGBoost model has the impossible number {text}")
    return int(text)


def is_wide(value: Any) -> bool:
    """Say whether feature indices are of 64 bits, as they are above 2^31 features only."""
    return isinstance(value, Numbers) and value.dtype.itemsize == 8


def _bytes_of(value: Any, kind: str, size: int | None) -> bytes | memoryview:
    """Return numbers as big-endian bytes; from JSON they are converted, within their range."""
    if isinstance(value, Numbers):
        if value.dtype != np.dtype(kind):
            raise Corrupt("the XGBoost model has numbers of another kind than belong there")
        data: bytes | memoryview = value.data
    else:
        data = _listed(value, kind).tobytes()
    if size is not None and len(data) != size * np.dtype(kind).itemsize:
        raise Corrupt("a column of the XGBoost model has another length than its tree's nodes")
    return data


def _integers(data: bytes | memoryview, kind: str) -> Any:
    return np.frombuffer(data, kind).astype(np.int64)


def _listed(value: Any, kind: str) -> Any:
    dtype = np.dtype(kind)
    if not isinstance(value, list):
        raise Corrupt("the XGBoost model has no list where one belongs")
    floats = dtype.kind == "f"
    kinds = {float, int} if floats else {bool, int} if dtype.itemsize == 1 else {int}
    if not {*map(type, value)} <= kinds:
        raise Corrupt("the XGBoost model has something else where numbers belong")
    if floats:
        return np.array(value, np.float64).astype(dtype)
    bounds = np.iinfo(dtype)
    if value and not (bounds.min <= min(value) and max(value) <= bounds.max):
        raise Corrupt("the XGBoost model has a number that is too large")
    return np.array(value, dtype)


def judge_trees(forest: Forest, features: int, groups: int) -> None:
    """Check every index that compiled code follows in the trees.

    Args:
        forest: The trees.
        features: How many features a row has.
        groups: How many numbers an answer has.

    Raises:
        Corrupt: A node leads out of its tree or to a feature that does not exist, two ways lead to
            one node, or categories or leaves do not belong to the node that has them.
    """
    if not len(forest):
        return
    sizes = np.array(forest.sizes, np.int64)
    columns = {
        name: np.frombuffer(b"".join(parts), _KINDS.get(name, ">i4")).astype(
            _KINDS.get(name, "i4").lstrip(">")
        )
        for name, parts in forest.columns.items()
    }
    inner = columns["left_children"] != _NO_NODE
    _judge_shape(forest, sizes, inner, columns)
    asked = columns["split_indices"][inner]
    if _outside(asked, 0, features):
        raise Corrupt("a node of the XGBoost model asks for a feature that does not exist")
    _judge_categories(forest, sizes, columns["split_type"])
    for place, vector in forest.vectors.items():
        start = int(sizes[:place].sum())
        end = start + forest.sizes[place]
        leaves = columns["right_children"][start:end][~inner[start:end]]
        _judge_vector(vector, end - start, leaves, groups)
    if forest.vectors and len(forest.vectors) != len(forest):
        raise Corrupt("some trees of the XGBoost model have one value in a leaf and some several")


def _judge_shape(forest: Forest, sizes: Any, inner: Any, columns: Mapping[str, Any]) -> None:
    """Every node is reached from its root in one way, but for those that pruning took out."""
    starts = np.cumsum(sizes) - sizes
    count = np.repeat(sizes, sizes)
    left, right = columns["left_children"], columns["right_children"]
    if forest.vectors:  # there a leaf's right child is its place in a table
        right = np.where(inner, right, _NO_NODE)
    if not np.array_equal(inner, right != _NO_NODE):
        raise Corrupt("a node of the XGBoost model has one child")
    parents = columns["parents"]
    parents[starts] = 0  # a root has none, and the native reader does not look at what is there
    for places, low in ((left, _NO_NODE), (right, _NO_NODE), (parents, 0)):
        if places.min() < low or (places >= count).any():
            raise Corrupt("a node of the XGBoost model leads out of its tree")
    having = np.flatnonzero(inner)
    shift = np.repeat(starts, sizes)[having]
    sides = ((having, left[having] + shift), (having, right[having] + shift))
    require_trees(starts, *sides, nodes=len(left), largest=max(forest.sizes))
    if len(starts) + 2 * len(having) != len(left) - sum(forest.deleted):
        raise Corrupt("a node of the XGBoost model cannot be reached")


def _judge_vector(vector: _Vector, size: int, leaves: Any, groups: int) -> None:
    if vector.width != groups or vector.weights % size or not vector.weights:
        raise Corrupt("a leaf of the XGBoost model has another number of values than an answer")
    if vector.leaf_weights is None:
        if vector.weights != size * groups:
            raise Corrupt("a tree of the XGBoost model has another number of weights than nodes")
        return
    rows, rest = divmod(vector.leaf_weights, groups)
    if rest or vector.weights > size * groups or _outside(leaves, 0, rows):
        raise Corrupt("a leaf of the XGBoost model points outside its weights")


def _judge_categories(forest: Forest, sizes: Any, kinds: Any) -> None:
    """Nodes that split by categories are those that have some, in the order of both lists."""
    if len(kinds) and kinds.max() > 1:
        raise Corrupt("a node of the XGBoost model splits in an unknown way")
    starts = (np.cumsum(sizes) - sizes).tolist()
    having, bits = [], 0
    for place, cut in forest.categories.items():
        nodes, begins, counts = (
            cut[f"categories_{name}"] for name in ("nodes", "segments", "sizes")
        )
        if not len(nodes) == len(begins) == len(counts) or (np.diff(nodes) <= 0).any():
            raise Corrupt("the categories of the XGBoost model belong to no node")
        if _outside(nodes, 0, forest.sizes[place]):
            raise Corrupt("the categories of the XGBoost model belong to no node")
        members = cut["categories"]
        ends = np.cumsum(counts)
        if _outside(counts, 1, len(members) + 1) or (begins != ends - counts).any():
            raise Corrupt("the categories of the XGBoost model are cut wrongly")
        if (ends[-1] if len(ends) else 0) != len(members) or _outside(members, 0, _MOST_CATEGORY):
            raise Corrupt("the XGBoost model has impossible categories")
        having.append(nodes + starts[place])
        if len(nodes):
            bits += int((np.maximum.reduceat(members, begins) // 32 + 1).sum()) * 4
    if bits > _MOST_BYTES_OF_BITS:
        raise Corrupt(f"the categories of the XGBoost model would take {bits:,} bytes")
    expected = np.concatenate(having) if having else np.zeros(0, np.int64)
    if not np.array_equal(np.flatnonzero(kinds), np.sort(expected)):
        raise Corrupt("a node of the XGBoost model splits by categories that it lacks")


def _outside(values: Any, low: int, high: int) -> bool:
    return len(values) > 0 and bool(values.min() < low or values.max() >= high)
