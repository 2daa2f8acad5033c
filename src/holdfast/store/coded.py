"""The file of a coded blob: what it says of itself, judged, and where its frames lie.

Frames, a canonical JSON index, and 8 bytes of the index's length; see ``docs/format/v1.md``,
section "Coded blobs". The file is named by the digest of the *plain* bytes, so a wrong decode can
only be refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final, NamedTuple

import msgspec

from holdfast.errors import Corrupt
from holdfast.record import FORMAT, Document, parse_digest

__all__ = ["Chunk", "Index", "Layout", "Part", "ending", "index_bytes", "judged", "stored_bytes"]

_WIDTHS: Final = (1, 2, 4, 8)
_KINDS: Final = ("bytes", "float")
_BASED: Final = ("difference", "sorted")
_MOST_VALUES: Final = 1 << 24
_MOST_INDEX: Final = 1 << 28
_LENGTH: Final = 8


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a blob's bytes, coded in one way.

    Attributes:
        size: Plain bytes.
        width: Bytes of a number; as many planes.
        kind: ``bytes`` (planes as they are), ``float`` (sign turned), ``difference`` to the base's
            bytes at the same place, or ``sorted``, which is a difference too.
        chunk: Numbers of a chunk; the last has the rest.
        planes: For each chunk, for each plane, lowest first: bytes of its zstd frame; 0 for raw
            bytes; -1 - b for a plane whose bytes are all b.
    """

    size: int
    width: int
    kind: str
    chunk: int
    planes: tuple[int, ...]

    @property
    def differs(self) -> bool:
        """Whether it takes the base to decode it."""
        return self.kind in _BASED


class Index(Document, frozen=True, kw_only=True):
    """What a coded blob says of itself.

    Attributes:
        size: Plain bytes.
        base: The blob that differences are to.
        parts: Its runs in order.
    """

    title: ClassVar[str] = "coded blob's index"

    format: str = FORMAT
    size: int
    base: str | None = None
    parts: tuple[Part, ...]


class Chunk(NamedTuple):
    """Where a chunk's bytes are: plain, and coded.

    Attributes:
        part: What it belongs to.
        start: Where its plain bytes begin in the blob.
        end: Where they end.
        offset: Where its frames begin in the file.
        lengths: Of each plane, as in ``Part.planes``.
    """

    part: Part
    start: int
    end: int
    offset: int
    lengths: tuple[int, ...]


def ending(index: Index) -> bytes:
    """Return the bytes that stand behind the frames."""
    text = index.encode()
    return text + len(text).to_bytes(_LENGTH, "little")


def stored_bytes(length: int, values: int) -> int:
    """Return the bytes in the file of a plane of so many values; see ``Part.planes``."""
    return values if length == 0 else max(length, 0)


def index_bytes(end: bytes | memoryview, size: int) -> int:
    """Return how many bytes stand behind the frames of a coded blob.

    Args:
        end: Its last bytes, eight or more.
        size: Bytes of the whole.

    Raises:
        Corrupt: It is shorter than that.
    """
    length = int.from_bytes(end[-_LENGTH:], "little")
    if size < _LENGTH or length > min(_MOST_INDEX, size - _LENGTH):
        raise Corrupt("a coded blob is shorter than its index says")
    return length + _LENGTH


def judged(end: bytes | memoryview, size: int) -> Index:
    """Return what a coded blob says of itself; arguments as of ``index_bytes``.

    Raises:
        Corrupt: It has no index, or one that contradicts itself or the blob's length.
    """
    behind = index_bytes(end, size)
    index = Index.decode(end[len(end) - behind : len(end) - _LENGTH])
    if index.base is not None:
        parse_digest(index.base)
    sizes = [part.size for part in index.parts]
    if min(sizes, default=0) < 0 or sum(sizes) != index.size:
        raise Corrupt("a coded blob's parts are not as long as the blob")
    based = index.base is not None
    if sum(_judged(part, based=based) for part in index.parts) != size - behind:
        raise Corrupt("a coded blob's frames are not as long as its index says")
    return index


class Layout:
    """A coded blob's index, judged.

    Attributes:
        index: What the file says of itself.
        chunks: Where its chunks lie, in order.

    Raises:
        Corrupt: There is none, or it contradicts itself or the file's length.
    """

    def __init__(self, file: memoryview) -> None:
        self.index = judged(file, len(file))
        self.chunks = tuple(_laid_out(self.index))


def _laid_out(index: Index) -> Iterator[Chunk]:
    start = offset = 0
    for part in index.parts:
        end = start + part.size
        for place in range(0, len(part.planes), part.width):
            lengths = part.planes[place : place + part.width]
            stop = min(start + part.chunk * part.width, end)
            yield Chunk(part, start, stop, offset, lengths)
            values = (stop - start) // part.width
            offset += sum(stored_bytes(length, values) for length in lengths)
            start = stop


def _judged(part: Part, *, based: bool) -> int:
    """Return the coded bytes of a part that does not contradict itself."""
    kinds = (*_KINDS, *_BASED) if based else _KINDS
    if part.width not in _WIDTHS or part.kind not in kinds or part.size % part.width:
        raise Corrupt("a coded blob has a part of an unknown kind or width")
    if not 0 < part.chunk <= _MOST_VALUES:
        raise Corrupt("a coded blob has chunks of an impossible length")
    values = part.size // part.width
    chunks = -(-values // part.chunk)
    if chunks * part.width != len(part.planes):
        raise Corrupt("a coded blob has more or fewer planes than its chunks need")
    stored = 0
    for place, length in enumerate(part.planes):
        held = min(part.chunk, values - place // part.width * part.chunk)
        if not -256 <= length <= held:
            raise Corrupt("a coded blob has a plane of an impossible length")
        stored += stored_bytes(length, held)
    return stored
