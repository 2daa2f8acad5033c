"""A blob in fewer bytes: planes of its numbers, each raw, constant or one ordinary zstd frame.

Source of the frames: RFC 8878. ``coded`` says how they lie in a file.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from types import ModuleType
from typing import Final, NamedTuple, TypeVar

import numpy as np
import zstandard

from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store import planes
from holdfast.store.coded import Chunk, Index, Layout, Part, ending, stored_bytes

__all__ = ["Kind", "decode", "decode_range", "encode"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

# Values of a chunk by their width: what a thread works at stays in its core's cache.
_CHUNK: Final = {1: 1 << 21, 2: 1 << 17, 4: 1 << 17, 8: 1 << 16}
_SORTED_BYTES: Final = 1 << 20  # of a chunk: blocks enough that each is of a few exponents
_ALL_ZERO: Final = -1
_SAMPLE: Final = 1 << 14
_AGAIN: Final = 16  # chunks for which a choice of how to code a plane stands
_AHEAD: Final = 16  # groups of so many chunks that may wait to be written
_GAIN: Final = 0.995
# Ways to compress a plane. Bytes of an exponent have a skewed distribution and no order: a table of
# 64 places and matches of 7 bytes leave them to the Huffman coder, which is what serves them.
_LEVELS: Final = {"literals": 1, "fast": 1, "usual": 3}
_OTHERWISE: Final[dict[str, dict[str, int]]] = {
    "literals": {
        "strategy": zstandard.STRATEGY_FAST,
        "min_match": 7,
        "hash_log": 6,
        "window_log": 17,
    }
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


def encode(
    data: memoryview, kinds: Sequence[Kind], *, base: tuple[Digest, memoryview] | None = None
) -> Iterator[bytes]:
    """Yield the bytes of a coded blob; a few chunks are held at a time.

    Args:
        data: The plain bytes.
        kinds: What they are, in order; their sizes add up to those of ``data``.
        base: Another blob and its bytes, as many: floats are coded as differences to it where
            that is smaller.
    """
    plain = np.frombuffer(data, np.uint8)
    other = None if base is None else np.frombuffer(base[1], np.uint8)
    parts, start = [], 0
    with _threads(len(data)) as pool:
        for kind in kinds:
            end = start + kind.size
            below = None if other is None else other[start:end]
            run = _Run(plain[start:end], kind, below)
            lengths: list[int] = []
            for made in _in_turn(pool, run.coded, run.groups):
                lengths += [length for length, _ in made]
                yield b"".join(frame for _, frame in made)
            parts.append(run.part(lengths))
            start = end
    differs = any(part.differs for part in parts)
    named = base[0] if base is not None and differs else None
    yield ending(Index(size=len(data), base=named, parts=tuple(parts)))


def _threads(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1) if size > 1 << 20 else 1)


def _in_turn(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Made], items: Iterable[_Item]
) -> Iterator[_Made]:
    """Map on threads and yield in order, without running far ahead of who consumes."""
    ahead: deque[Future[_Made]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) > _AHEAD:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


class _Run:
    """A run of numbers to be coded in one way, a group of chunks at a time.

    Attributes:
        groups: Where the chunks of each group begin.
    """

    def __init__(self, data: planes.Bytes, kind: Kind, base: planes.Bytes | None) -> None:
        self._data = data
        self._width = kind.width
        useful = base is not None and kind.float and data.size > 0 and _pays(data, base, kind)
        self._base = base if useful else None
        alone = "float" if kind.float else "bytes"
        self._kind = alone if self._base is None else "sorted"
        self._chunk = _CHUNK[kind.width] if self._base is None else _SORTED_BYTES // kind.width
        self._step = self._chunk * kind.width
        starts = range(0, data.size, self._step)
        again = _AGAIN if self._base is None else 1
        self.groups = [starts[at : at + again] for at in range(0, len(starts), again)]

    def coded(self, group: Iterable[int]) -> list[tuple[int, bytes]]:
        """Return the planes of a group's chunks: each its number in the index, and its bytes."""
        choice = _Choice(self._width)
        return [plane for start in group for plane in choice.coded(self._split(start))]

    def _split(self, start: int) -> list[planes.Bytes]:
        at = slice(start, start + self._step)
        base = None if self._base is None else self._base[at]
        return planes.split(self._data[at], self._width, self._kind, base)

    def part(self, lengths: Sequence[int]) -> Part:
        """Say how it was coded."""
        return Part(
            size=self._data.size,
            width=self._width,
            kind=self._kind,
            chunk=self._chunk,
            planes=tuple(lengths),
        )


def _pays(data: planes.Bytes, base: planes.Bytes, kind: Kind) -> bool:
    """Say whether differences to a base are smaller, from two samples."""
    width = kind.width
    alone = differing = 0
    for quarter in (1, 3):
        start = data.size * quarter // 4 // width * width
        at = slice(start, start + _SAMPLE * width)
        alone += _size(_Choice(width).coded(planes.split(data[at], width, "float")))
        found = planes.split(data[at], width, "sorted", base[at])
        differing += _size(_Choice(width).coded(found))
    return differing < 0.95 * alone


def _size(made: Sequence[tuple[int, bytes]]) -> int:
    return sum(len(frame) for _, frame in made)


class _Choice:
    """How the planes of neighbouring chunks are coded, chosen at the first of them."""

    def __init__(self, width: int) -> None:
        self._ways: list[str | None] = [None] * width

    def coded(self, found: Sequence[planes.Bytes]) -> list[tuple[int, bytes]]:
        """Return for each plane its number in the index and its bytes."""
        return [self._plane(place, plane) for place, plane in enumerate(found)]

    def _plane(self, place: int, plane: planes.Bytes) -> tuple[int, bytes]:
        first = int(plane[0])
        if plane[-1] == first and (plane == first).all():
            return -1 - first, b""
        way = self._ways[place] or _best(plane)
        frame: bytes = _compressor(way).compress(plane.data)
        if len(frame) < _GAIN * plane.size:
            self._ways[place] = way
            return len(frame), frame
        self._ways[place] = None
        return 0, plane.tobytes()


def _best(plane: planes.Bytes) -> str:
    """Return what makes a plane smallest, from its middle; of equals the first."""
    middle = max(0, plane.size - _SAMPLE) // 2
    sample = plane[middle : middle + _SAMPLE].data
    return min(_LEVELS, key=lambda way: len(_compressor(way).compress(sample)))


class _Contexts(threading.local):
    """Compressors of a thread; one context serves one thread at a time."""

    def __init__(self) -> None:
        self.made: dict[str, zstandard.ZstdCompressor] = {}
        self.reader = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def _compressor(way: str) -> zstandard.ZstdCompressor:
    made = _contexts.made.get(way)
    if made is None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVELS[way], **_OTHERWISE.get(way, {})
        )
        made = _contexts.made[way] = zstandard.ZstdCompressor(compression_params=parameters)
    return made


def decode(layout: Layout, file: memoryview, base: memoryview | None, into: memoryview) -> None:
    """Write the plain bytes of a coded blob; whether they are the blob's, its digest tells.

    Args:
        layout: Of ``file``.
        file: The coded blob.
        base: The bytes of the index's base, where it names one.
        into: As many bytes as the index says, all zero.

    Raises:
        Corrupt: A frame is damaged or lies, or the base is shorter than the blob.
    """
    decoder = _Decoder(file, base, np.frombuffer(into, np.uint8), 0)
    if len(layout.chunks) == 1:
        decoder.chunk(layout.chunks[0])
        return
    with _threads(layout.index.size) as pool:
        for _ in pool.map(decoder.chunk, layout.chunks):
            pass


def decode_range(
    layout: Layout, file: memoryview, base: memoryview | None, start: int, length: int
) -> bytes:
    """Return a range of the plain bytes from the chunks that it lies in; raises as ``decode``."""
    wanted = [c for c in layout.chunks if c.start < start + length and c.end > start]
    if not wanted:
        return b""
    first = wanted[0].start
    out = np.zeros(wanted[-1].end - first, np.uint8)
    decoder = _Decoder(file, base, out, first)
    for chunk in wanted:
        decoder.chunk(chunk)
    return out[start - first : start - first + length].tobytes()


class _Decoder:
    """Decodes chunks into an array of zeros whose first byte is the blob's byte ``first``."""

    def __init__(
        self, file: memoryview, base: memoryview | None, out: planes.Bytes, first: int
    ) -> None:
        self._file = file
        self._base = None if base is None else np.frombuffer(base, np.uint8)
        self._out = out
        self._first = first

    def chunk(self, chunk: Chunk) -> None:
        part = chunk.part
        target = self._out[chunk.start - self._first : chunk.end - self._first]
        base = None
        if part.differs:
            if self._base is None or self._base.size < chunk.end:
                raise Corrupt("a coded blob's base is shorter than the blob")
            base = self._base[chunk.start : chunk.end]
        elif all(length == _ALL_ZERO for length in chunk.lengths):
            return  # the target is all zero
        values = target.size // part.width
        if planes.native is not None and planes.native.LIBZSTD:
            self._at_once(planes.native, chunk, base, target)
            return
        starts = accumulate((stored_bytes(n, values) for n in chunk.lengths), initial=chunk.offset)
        found = [
            self._plane(start, length, values)
            for start, length in zip(starts, chunk.lengths, strict=False)
        ]
        planes.join(found, part.kind, target, base)

    def _at_once(
        self, native: ModuleType, chunk: Chunk, base: planes.Bytes | None, target: planes.Bytes
    ) -> None:
        values = target.size // chunk.part.width
        end = chunk.offset + sum(stored_bytes(length, values) for length in chunk.lengths)
        kind = planes.KINDS[chunk.part.kind]
        try:
            native.join(self._file[chunk.offset : end], chunk.lengths, kind, base, target)
        except ValueError as error:
            raise Corrupt(f"a coded blob does not decode: {error}") from error

    def _plane(self, start: int, length: int, values: int) -> planes.Bytes | int:
        if length < 0:
            return -1 - length
        stored = self._file[start : start + stored_bytes(length, values)]
        return np.frombuffer(stored, np.uint8) if length == 0 else _decompressed(stored, values)


def _decompressed(frame: memoryview, values: int) -> planes.Bytes:
    """Decode one zstd frame, which must say that it holds just these many bytes."""
    try:
        if zstandard.get_frame_parameters(frame).content_size != values:
            raise Corrupt("a frame of a coded blob holds more or fewer bytes than its chunk")
        return np.frombuffer(_contexts.reader.decompress(frame), np.uint8)
    except zstandard.ZstdError as error:
        raise Corrupt(f"a frame of a coded blob is damaged: {error!s:.100}") from error
