"""A blob in fewer bytes: planes of its numbers, each raw, constant or one ordinary zstd frame.

Source of the frames: RFC 8878. ``coded`` says how they lie in a file.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from types import ModuleType
from typing import Final, TypeVar

import numpy as np
import zstandard

from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store import planes
from holdfast.store.choosing import Choice, Kind, Way, way_of
from holdfast.store.coded import Chunk, Index, Layout, Part, ending, stored_bytes

__all__ = ["Kind", "decode", "decode_chunks", "decode_range", "encode"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

_ALL_ZERO: Final = -1
_TOGETHER: Final = 1 << 20  # plain bytes that a thread decodes at a time
_AHEAD: Final = 16  # groups of chunks that may wait to be written


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
            run = plain[start:end]
            way = way_of(run, kind, None if other is None else other[start:end])
            lengths: list[int] = []
            for made in _in_turn(pool, partial(_coded, run, way), _groups(run.size, way)):
                lengths += [length for length, _ in made]
                yield b"".join(frame for _, frame in made)
            parts.append(_part(run.size, way, lengths))
            start = end
    differs = any(part.differs for part in parts)
    named = base[0] if base is not None and differs else None
    yield ending(Index(size=len(data), base=named, parts=tuple(parts)))


def _groups(size: int, way: Way) -> Iterator[range]:
    """Yield where chunks of a run begin, by groups that are coded one after another."""
    starts = range(0, size, way.chunk * way.width)
    for at in range(0, len(starts), way.again):
        yield starts[at : at + way.again]


def _coded(run: planes.Bytes, way: Way, group: range) -> list[tuple[int, bytes]]:
    """Return the planes of a group's chunks: each its number in the index, and its bytes."""
    choice = Choice(way.levels)
    step = way.chunk * way.width
    return [
        plane
        for start in group
        for plane in choice.coded(way.split(run, slice(start, start + step)))
    ]


def _part(size: int, way: Way, lengths: Sequence[int]) -> Part:
    return Part(size=size, width=way.width, kind=way.kind, chunk=way.chunk, planes=tuple(lengths))


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


class _Contexts(threading.local):
    """A decompressor for each thread, as one context serves one thread at a time."""

    def __init__(self) -> None:
        self.reader = zstandard.ZstdDecompressor()


_contexts = _Contexts()


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
    if layout.index.size <= _TOGETHER:
        decoder.chunks(layout.chunks)
        return
    with _threads(layout.index.size) as pool:
        for _ in pool.map(decoder.chunks, _together(layout.chunks)):
            pass


def decode_range(
    layout: Layout, file: memoryview, base: memoryview | None, start: int, length: int
) -> bytes:
    """Return a range of the plain bytes from the chunks that it lies in; raises as ``decode``."""
    wanted = [c for c in layout.chunks if c.start < start + length and c.end > start]
    if not wanted:
        return b""
    first = wanted[0].start
    made = decode_chunks(wanted, file, base)
    return bytes(made[start - first : start - first + length])


def decode_chunks(chunks: Sequence[Chunk], file: memoryview, base: memoryview | None) -> memoryview:
    """Return the plain bytes of neighbouring chunks, at least one; raises as ``decode``."""
    first = chunks[0].start
    out = np.zeros(chunks[-1].end - first, np.uint8)
    decoder = _Decoder(file, base, out, first)
    decoder.chunks(chunks)
    return out.data


def _together(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Yield neighbours that are worth a thread's turn."""
    held: list[Chunk] = []
    for chunk in chunks:
        held.append(chunk)
        if chunk.end - held[0].start >= _TOGETHER:
            yield held
            held = []
    yield held


class _Decoder:
    """Decodes chunks into an array of zeros whose first byte is the blob's byte ``first``."""

    def __init__(
        self, file: memoryview, base: memoryview | None, out: planes.Bytes, first: int
    ) -> None:
        self._file = file
        self._base = None if base is None else np.frombuffer(base, np.uint8)
        self._out = out
        self._first = first

    def chunks(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> None:
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
        return np.frombuffer(_contexts.reader.decompress(frame, allow_extra_data=False), np.uint8)
    except zstandard.ZstdError as error:
        raise Corrupt(f"a frame of a coded blob is damaged: {error!s:.100}") from error
