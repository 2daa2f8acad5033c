"""Trees of an XGBoost model that are written alike, recognised by the bytes between their numbers.

Two trees with as many nodes differ only in their numbers and in their own number, so all the bytes
between those are compared at once. What matches has been read as if key by key; whatever does not
is left to the general reader.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Stamp", "Stamps"]

# The arrays of a tree in the order in which they are written, and how each begins.
_LETTERS: Final = {
    "base_weights": "d", "categories": "l", "categories_nodes": "l", "categories_segments": "L",
    "categories_sizes": "L", "default_left": "U", "id": "", "left_children": "l",
    "loss_changes": "d", "parents": "l", "right_children": "l", "split_conditions": "d",
    "split_indices": "l", "split_type": "U", "sum_hessian": "d",
}  # fmt: skip
_BYTES: Final = {"d": 4, "U": 1, "L": 8, "l": 4, "": 0}
_PARAMS: Final = ("num_deleted", "num_feature", "num_nodes", "size_leaf_vector")
_MOST: Final = 10_000


def _key(text: str) -> bytes:
    return b"L" + len(text).to_bytes(8, "big") + text.encode()


def _head(name: str, letter: str) -> bytes:
    return _key(name) + (f"[${letter}#L".encode() if letter else b"")


# Of each array its name, its beginning, the bytes of a number (0: one number, of a width of its
# own), and whose count it has: that of the nodes, of the categories, or of nodes with categories.
_PLAN: Final = tuple(
    (
        name,
        (b"{" if name == "base_weights" else b"") + _head(name, letter),
        _BYTES[letter],
        1 if name == "categories" else 2 if name.startswith("categories_") else 0,
    )
    for name, letter in _LETTERS.items()
)
_WIDTHS: Final = {1: b"i", 2: b"I", 4: b"l"}
# Bytes before the first count, and between the numbers of an array and the next count.
_FIRST: Final = 1 + len(_head("base_weights", "d"))
_SECOND: Final = len(_head("categories", "l"))
_THIRD: Final = len(_head("categories_nodes", "l"))


class Stamp(NamedTuple):
    """How trees of one size are written.

    Attributes:
        size: Nodes.
        layout: Cuts a tree into the bytes between its numbers.
        fixed: Those bytes.
        spans: Array to where its numbers begin and end.
        identity: Where the tree's own number begins and ends.
    """

    size: int
    layout: struct.Struct
    fixed: tuple[bytes, ...]
    spans: dict[str, tuple[int, int]]
    identity: tuple[int, int]


class Stamps:
    """What trees look like that are written as the last one was, for each size met so far."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], Stamp] = {}
        self._params: dict[str, str] | None = None

    def learn(self, params: Mapping[str, Any]) -> None:
        """Expect trees with these parameters, but for the number of nodes."""
        told = {**params, "num_nodes": ""}
        plain = tuple(params) == _PARAMS and params["num_deleted"] == "0"
        if plain and params["size_leaf_vector"] in ("0", "1") and told != self._params:
            self._params = told
            self._known.clear()

    def match(self, data: bytes, start: int, place: int) -> Stamp | None:
        """Return how the tree is written that begins there, or None if that is not known.

        Args:
            data: The document.
            start: Where the tree begins.
            place: The number it must have.
        """
        if self._params is None:
            return None
        at = start + _FIRST
        size = int.from_bytes(data[at : at + 8], "big")
        at += 8 + 4 * size + _SECOND
        many = int.from_bytes(data[at : at + 8], "big")
        nodes = 0
        if many:
            at += 8 + 4 * many + _THIRD
            nodes = int.from_bytes(data[at : at + 8], "big")
        width = 1 if place < 127 else 2 if place < 32767 else 4  # the bytes of its number
        key = (size, many, nodes, width)
        stamp = self._known.get(key)
        if stamp is None:
            if not 0 < size <= len(data) or many > len(data) or nodes > len(data):
                return None
            stamp = self._made(*key)
        begin, end = stamp.identity
        matches = (
            start + stamp.layout.size <= len(data)
            and stamp.layout.unpack_from(data, start) == stamp.fixed
            and int.from_bytes(data[start + begin : start + end], "big") == place
        )
        return stamp if matches else None

    def _made(self, size: int, many: int, nodes: int, width: int) -> Stamp:
        counts = (size, many, nodes)
        fixed, spans, layout = [], {}, "="
        place = 0
        for name, head, length, counted in _PLAN:
            count = counts[counted]
            if length:
                text, numbers = head + count.to_bytes(8, "big"), count * length
            else:
                text, numbers = head + _WIDTHS[width], width
            fixed.append(text)
            layout += f"{len(text)}s{numbers}x"
            place += len(text)
            spans[name] = (place, place + numbers)
            place += numbers
        told = {**(self._params or {}), "num_nodes": str(size)}
        pairs = b"".join([_key(key) + b"S" + _key(value) for key, value in told.items()])
        fixed.append(_key("tree_param") + b"{" + pairs + b"}}")
        layout += f"{len(fixed[-1])}s"
        stamp = Stamp(size, struct.Struct(layout), tuple(fixed), spans, spans["id"])
        if len(self._known) < _MOST:
            self._known[size, many, nodes, width] = stamp
        return stamp
