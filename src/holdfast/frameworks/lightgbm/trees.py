"""The trees of a LightGBM text model, gathered line by line.

Trees of a model have the same lines one after the other, so for most trees it is enough to see
that every line begins with the key that it had in the tree before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from holdfast.errors import Corrupt
from holdfast.frameworks.lightgbm.numbers import whole

__all__ = ["Forest"]

# The native reader looks at so many lines of a tree.
_MOST_LINES: Final = 22
_MOST_LEAVES: Final = 1 << 24
_KEY: Final = re.compile(rb"[a-z_]+=")
_START: Final = re.compile(rb"^Tree=", re.MULTILINE)
# Lines of numbers that lead nowhere, but which must be numbers.
_NUMBERS: Final = frozenset(
    {
        b"split_gain=", b"threshold=", b"leaf_value=", b"leaf_weight=", b"internal_value=",
        b"internal_weight=", b"shrinkage=",
    }
)  # fmt: skip
# Decisions that are no splits by categories, which are odd numbers, as they are nearly always.
_EVEN: Final = b"02468 "


class Forest:
    """All trees of a model.

    Attributes:
        nodes: How many nodes with children each tree has.
        left: Lines of first children, of trees that have any.
        right: Lines of second children.
        features: Lines of what is asked.
        numbers: Lines of all other numbers.
        special: The lines by key of trees that split by categories or have models in their leaves.
    """

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.left: list[bytes] = []
        self.right: list[bytes] = []
        self.features: list[bytes] = []
        self.numbers: list[bytes] = []
        self.special: list[Mapping[bytes, bytes]] = []
        self._keys: tuple[bytes, ...] = ()
        self._at: dict[bytes, int] = {}
        self._others: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.nodes)

    @classmethod
    def read(cls, data: bytes, start: int, end: int, sizes: Sequence[int] | None) -> Forest:
        """Read the trees between two places.

        Args:
            data: The model.
            start: Where the first tree begins.
            end: Where the last one ends.
            sizes: The bytes of each tree, by which the native reader finds them; None where it
                looks for them line by line, as in models of old releases.

        Raises:
            Corrupt: A tree is not written as LightGBM writes it, or elsewhere.
        """
        forest = cls()
        for number, block in enumerate(_blocks(data, start, end, sizes)):
            lines = block.split(b"\n")
            if lines[0] != b"Tree=%d" % number:
                raise Corrupt("a tree of the LightGBM model is not in its place")
            own = lines[1 : len(forest._keys) + 1]
            rest = lines[len(own) + 1 :]
            if not own or any(rest) or not all(map(bytes.startswith, own, forest._keys)):
                forest._learn(lines)
                own = lines[1 : len(forest._keys) + 1]
            if len(rest) < 2 or any(lines[len(own) + 1 :]):
                raise Corrupt("a tree of the LightGBM model does not end")
            forest._add(own)
        return forest

    def _learn(self, lines: Sequence[bytes]) -> None:
        """Expect trees of lines with these keys, each with the sign after it."""
        keys = []
        for line in lines[1:]:
            if not line:
                break
            key = _KEY.match(line)
            if key is None:
                raise Corrupt(f"the LightGBM model has the impossible line {line!r:.60}")
            keys.append(key.group())
        if len({*keys}) != len(keys) or len(keys) > _MOST_LINES:
            raise Corrupt("a tree of the LightGBM model has a line twice, or too many")
        self._keys, self._at = tuple(keys), {key: place for place, key in enumerate(keys)}
        self._others = [(place, len(key)) for key, place in self._at.items() if key in _NUMBERS]

    def _add(self, lines: Sequence[bytes]) -> None:
        """Take a tree of these lines, which begin with the keys that are expected."""
        at = self._at
        leaves = whole(lines[at[b"num_leaves="]][11:], 1, _MOST_LEAVES)
        self.nodes.append(leaves - 1)
        self.numbers += [lines[place][length:] for place, length in self._others]
        self._require_counts(lines, leaves)
        odd = b""
        if leaves > 1:
            self.left.append(lines[at[b"left_child="]][11:])
            self.right.append(lines[at[b"right_child="]][12:])
            self.features.append(lines[at[b"split_feature="]][14:])
            if b"decision_type=" in at:
                odd = lines[at[b"decision_type="]][14:].translate(None, _EVEN)
        linear = b"is_linear=" in at and lines[at[b"is_linear="]] != b"is_linear=0"
        if odd or linear or lines[at[b"num_cat="]] != b"num_cat=0":
            pairs = zip(self._keys, lines, strict=True)
            self.special.append({key[:-1]: line[len(key) :] for key, line in pairs})

    def _require_counts(self, lines: Sequence[bytes], leaves: int) -> None:
        """Require the columns that the native reader counts; it ends the process where they fail.

        It reads trees in threads, out of which no exception finds its way.
        """
        at = self._at
        if _count(lines[at[b"leaf_value="]]) != leaves:
            raise Corrupt("a tree of the LightGBM model has another number of values than leaves")
        if leaves == 1:
            return
        if b"leaf_weight=" in at and _count(lines[at[b"leaf_weight="]]) != leaves:
            raise Corrupt("a tree of the LightGBM model has another number of weights than leaves")
        if _count(lines[at[b"threshold="]]) != leaves - 1:
            raise Corrupt("a tree of the LightGBM model has another number of thresholds")


def _blocks(data: bytes, start: int, end: int, sizes: Sequence[int] | None) -> Iterator[bytes]:
    """Yield the text of each tree, all of which together are the text between the two places."""
    if sizes is None:
        starts = [found.start() for found in _START.finditer(data, start, end)]
        sizes = [b - a for a, b in zip(starts, [*starts[1:], end], strict=True)]
    if start + sum(sizes) != end:
        raise Corrupt("the LightGBM model announces trees of other sizes")
    for size in sizes:
        yield data[start : start + size]
        start += size


def _count(line: bytes) -> int:
    """Return how many numbers a line has; native writers end some of them with a space."""
    return line.count(b" ") + (line[-1:] not in b" =")
