"""How a run of numbers is coded and how each of its planes is compressed: what a sample shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import zstandard

from holdfast.store import planes

__all__ = ["Choice", "Kind", "Way", "way_of"]

# Numbers of a chunk by their width: what a thread works at stays in its core's cache, as what is
# sorted must. Sorted ones have some blocks, each of a few exponents.
_CHUNK: Final = {1: 1 << 21, 2: 1 << 17, 4: 1 << 18, 8: 1 << 16}
_SORTED_BYTES: Final = 1 << 18
_AGAIN: Final = 1 << 20  # bytes for which a choice of how to compress a plane stands
_SAMPLE: Final = 1 << 15  # of a plane
_GLANCE: Final = 1 << 13  # numbers, twice, by which ways are compared
_PIECES: Final = 4  # that a plane's sample is of
_GAIN: Final = 0.995  # a frame so much smaller than its plane is kept
_SPARSE: Final = 0.25  # below, one byte prevails; Huffman's codes, a bit at least, are too long
_FASTER: Final = 1.01  # what is written and read faster may take so much more, of a sample
_WORTH: Final = 0.95  # a way that takes longer to read must save so much
# Bytes of an exponent have a skewed distribution and no order: a table of 64 places and matches of
# 7 bytes leave them to the Huffman coder, which is what serves them. "huffman" looks for no matches
# at all; it takes the system's libzstd and the extension.
_LEVELS: Final = {"literals": 1, "short": 1, "tiny": 1, "fast": 1, "usual": 3, "thorough": 9}
_LITERALS: Final = {"strategy": zstandard.STRATEGY_FAST, "min_match": 7, "hash_log": 6}
_OTHERWISE: Final[dict[str, dict[str, int]]] = {
    "literals": {**_LITERALS, "window_log": 17},
    "short": {**_LITERALS, "window_log": 14},  # a block is no longer: a table for fewer exponents
    "tiny": {**_LITERALS, "window_log": 12},  # so that a sample, too, is of some blocks
}


class Kind(NamedTuple):
    """What a run of a blob's bytes is, as the saver of the blob knows it.

    Attributes:
        size: Bytes.
        width: Bytes of each number in it.
        float: Whether the numbers are floats.
    """

    size: int
    width: int
    float: bool


class Way(NamedTuple):
    """How a run is coded: the fields of the index's part that say so, and what they imply.

    Attributes:
        kind: As in the index.
        width: Bytes of a number.
        chunk: Numbers of a chunk.
        base: What differences are to.
    """

    kind: str
    width: int
    chunk: int
    base: planes.Bytes | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        """Ways to compress its planes that are tried; the first one tells noise."""
        if self.kind == "sorted":
            return ("short",)
        if self.width == 1:
            return ("usual", "thorough")
        searching = ("literals", "fast", "usual")
        native = planes.native
        return ("huffman", *searching) if native is not None and native.HUFFMAN else searching

    @property
    def again(self) -> int:
        """Chunks for which a choice of how to compress a plane stands."""
        return max(1, _AGAIN // (self.chunk * self.width))

    def split(self, data: planes.Bytes, at: slice) -> list[planes.Bytes]:
        """Return the planes of a part of the run."""
        base = None if self.base is None else self.base[at]
        return planes.split(data[at], self.width, self.kind, base)


def way_of(data: planes.Bytes, kind: Kind, base: planes.Bytes | None) -> Way:
    """Return what makes a run of numbers smallest, from two samples of it.

    Numbers that repeat as wholes, as a forest's fractions do, are smaller as bytes than in planes.
    Differences are sorted only where that pays: it takes most of the time that reading them takes.
    """
    best = Way("float" if kind.float else "bytes", kind.width, _CHUNK[kind.width])
    differs = kind.float and base is not None
    if not data.size or not (differs or kind.width > 1):
        return best
    least = _sampled(data, best, ("tiny",))
    if differs:
        difference = best._replace(kind="difference", base=base)
        ordered = Way("sorted", kind.width, _SORTED_BYTES // kind.width, base)
        for way in (difference, ordered):
            size = _sampled(data, way, ("tiny",))
            if size < _WORTH * least:
                best, least = way, size
    if kind.width > 1:
        way = Way("bytes", 1, _CHUNK[1])
        if _sampled(data, way, ("usual",), kind.width) < least:
            least = _sampled(data, best, best.levels)
            if _sampled(data, way, way.levels, kind.width) < _WORTH * least:
                best = way
    return best


def _sampled(data: planes.Bytes, way: Way, levels: Sequence[str], width: int = 0) -> int:
    """Return what two samples take; ``width`` is that of their numbers where not the way's."""
    size, width = 0, width or way.width
    for quarter in (1, 3):
        start = data.size * quarter // 4 // width * width
        found = way.split(data, slice(start, start + _GLANCE * width))
        size += sum(len(frame) for _, frame in Choice(levels).coded(found))
    return size


class Choice:
    """How the planes of neighbouring chunks are compressed, chosen at the first of them."""

    def __init__(self, levels: Sequence[str]) -> None:
        self._tried = levels
        self._levels: dict[int, str | None] = {}

    def coded(self, found: Sequence[planes.Bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield for each plane its number in the index and its bytes."""
        for place, plane in enumerate(found):
            yield self._plane(place, plane)

    def _plane(self, place: int, plane: planes.Bytes) -> tuple[int, bytes]:
        first = int(plane[0])
        if plane[-1] == first and (plane == first).all():
            return -1 - first, b""
        level = self._levels.get(place)
        if level is None:
            level = self._tried[0]
            if len(self._tried) > 1 or plane.size > _SAMPLE:
                level = self._best(_sample(plane))
        if level is not None:
            frame = _compressed(level, plane)
            if len(frame) < _GAIN * plane.size:
                self._levels[place] = level
                return len(frame), frame
        self._levels[place] = None
        return 0, plane.tobytes()

    def _best(self, sample: planes.Bytes) -> str | None:
        """Return what makes a sample smallest, or nearly so and is faster; None for noise."""
        sizes = {}
        for level in self._tried:
            sizes[level] = len(_compressed(level, sample))
            if sizes[level] >= _GAIN * sample.size and level == self._tried[0]:
                return None
        literal = sizes.pop("huffman", 0)
        if _SPARSE * sample.size <= literal < _FASTER * min(sizes.values()):
            return "huffman"
        return min(sizes, key=lambda level: sizes[level])


def _sample(plane: planes.Bytes) -> planes.Bytes:
    if plane.size <= _SAMPLE:
        return plane
    step, each = plane.size // _PIECES, _SAMPLE // _PIECES
    return np.concatenate([plane[at : at + each] for at in range(0, step * _PIECES, step)])


class _Contexts(threading.local):
    """Compressors of a thread; one context serves one thread at a time."""

    def __init__(self) -> None:
        self.made: dict[str, zstandard.ZstdCompressor] = {}


_contexts = _Contexts()


def _compressed(level: str, plane: planes.Bytes) -> bytes:
    if level == "huffman" and planes.native is not None:
        return bytes(planes.native.huffman(plane))
    made = _contexts.made.get(level)
    if made is None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVELS[level], **_OTHERWISE.get(level, {})
        )
        made = _contexts.made[level] = zstandard.ZstdCompressor(compression_params=parameters)
    return made.compress(plane.data)
