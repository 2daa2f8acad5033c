"""Bytes of a file, of a member or of a decompressed stream, read a little at a time.

A scan reads what it needs and no more: a ``Source`` answers "so many bytes from there", and what
lies inside another source is a window of it or a stream that is decompressed as far as it is asked
for. What may be spent on one scan is an ``Allowance``.
"""

from __future__ import annotations

import bz2
import io
import lzma
import mmap
import os
import stat
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self

from holdfast.errors import Corrupt, UsageError
from holdfast.trust.lz4 import MAGIC as LZ4, Lz4Decompressor

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Allowance", "Data", "FileSource", "Inflated", "Source", "Stream", "Window", "coding_of"]

_CHUNK: Final = 1 << 16
_XZ_MEMORY: Final = 256 << 20
# Up to this size bytes are read at once where all are wanted; more are mapped.
_READ_WHOLE: Final = 16 << 20
# What of a decompressed stream stays in memory; more is on disk, in a file without a name.
_IN_MEMORY: Final = 4 << 20


class Allowance:
    """What one scan may spend, all archives inside archives together.

    Attributes:
        inflated: Bytes that may still be decompressed.
        members: Members of archives and files of folders that may still be looked into.
        tensors: Tensors that may still be named.
        opcodes: Opcodes of pickles that may still be read.
    """

    def __init__(self) -> None:
        self.inflated = 512 << 20
        self.members = 20_000
        self.tensors = 100_000
        self.opcodes = 20_000_000


class Source:
    """Bytes at random access. The base is an empty one.

    Attributes:
        fault: Why the bytes end before they should, or None.
    """

    fault: str | None = None

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return 0

    @property
    def jumps(self) -> bool:
        """Whether the end can be read without reading all before it."""
        return True

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``; fewer where the bytes end."""
        del start, count
        return b""

    def exactly(self, start: int, count: int, what: str) -> bytes:
        """Return ``count`` bytes from ``start``.

        Args:
            start: Position of the first.
            count: How many.
            what: What they are, for the message.

        Raises:
            Corrupt: There are not so many.
        """
        data = self.read(start, count) if start >= 0 else b""
        if len(data) != count:
            raise Corrupt(f"{what} at byte {start} is cut short")
        return data

    def window(self, start: int, size: int | None = None) -> Window:
        """Return a part of the bytes as a source of its own; it ends where this one does."""
        return Window(self, start, size)

    def stream(self) -> io.BufferedReader:
        """Return the bytes as a seekable binary file."""
        return io.BufferedReader(Stream(self), _CHUNK)

    def view(self) -> memoryview:
        """Return all bytes at once, for what reads no other way; many are mapped and not read.

        What is mapped must not be cut short while it is used.

        Raises:
            Corrupt: They cannot be mapped.
        """
        return memoryview(self.read(0, self.size))

    def close(self) -> None:
        """Give back what the source holds; reading ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Data(Source):
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._data)

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``; fewer where the bytes end."""
        return self._data[start : start + count] if start >= 0 else b""


class FileSource(Source):
    """A regular file, read by position. Pipes and devices are never opened for reading."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UsageError: There is no such file, it may not be read, or it is no regular file.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._file = os.open(path, flags)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(
                f"{path} cannot be read: {said}", hint=f"ls -l {path.parent}", ref=str(path)
            ) from error
        facts = os.fstat(self._file)
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise UsageError(f"{path} is not a regular file.", hint=f"ls -l {path.parent}")
        self._size = facts.st_size

    @property
    def size(self) -> int:
        """How many bytes there were when the file was opened."""
        return self._size

    def fileno(self) -> int:
        """Return the descriptor, which stays the source's own."""
        return self._file

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``; fewer where the file ends or cannot be read."""
        count = min(count, self._size - start)
        if start < 0 or count <= 0:
            return b""
        parts: list[bytes] = []
        while count > 0:
            try:
                part = os.pread(self._file, count, start)
            except OSError as error:
                self.fault = f"byte {start} cannot be read: {error.strerror}"
                break
            if not part:
                break
            parts.append(part)
            start += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def view(self) -> memoryview:
        """Return the file's bytes, as a map of them when they are many."""
        if self._size <= _READ_WHOLE:
            return memoryview(self.read(0, self._size))
        return _mapped(self._file, self._size)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _mapped(file: int, size: int) -> memoryview:
    try:
        return memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise Corrupt(f"it cannot be mapped: {error!s:.100}") from error


class Window(Source):
    """A part of another source."""

    def __init__(self, source: Source, start: int, size: int | None = None) -> None:
        self._source = source
        self._start = start
        self._size = size

    @property
    def size(self) -> int:
        """How many bytes there are."""
        if self._size is None:
            self._size = max(0, self._source.size - self._start)
        return max(0, self._size)

    @property
    def jumps(self) -> bool:
        """Whether the end can be read without reading all before it."""
        return self._source.jumps

    def view(self) -> memoryview:
        """Return the window's bytes, as a part of a map when they are many."""
        if self.size <= _READ_WHOLE:
            return memoryview(self.read(0, self.size))
        return self._source.view()[self._start : self._start + self.size]

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``; fewer where the window ends."""
        if self._size is not None:
            count = min(count, self._size - start)
        if start < 0 or count <= 0:
            return b""
        data = self._source.read(self._start + start, count)
        self.fault = self._source.fault
        return data


class _Unpacker(Protocol):
    """A decompressor of the standard library that gives at most so many bytes a call."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Zlib:
    """A zlib decompressor that keeps its unread input to itself, as those of bz2 and lzma do."""

    def __init__(self, bits: int) -> None:
        self._inner: Any = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return bytes(self._inner.decompress(self._inner.unconsumed_tail + data, max_length))


# Coding to what undoes it. A stream may be several of these one after another.
_UNPACKERS: Final[dict[str, Callable[[], _Unpacker]]] = {
    "deflate": lambda: _Zlib(-15),
    "zlib": lambda: _Zlib(15),
    "gzip": lambda: _Zlib(31),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY),
    "lz4": Lz4Decompressor,
}
_MANY_STREAMS: Final = frozenset({"gzip", "bzip2", "xz", "lz4"})
# What a packed byte costs of the allowance, beside what it becomes: LZ4 is undone in Python.
_COSTS: Final = {"lz4": 8}
_FAULTS: Final = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def coding_of(head: bytes) -> str | None:
    """Tell how a stream is compressed, by its first bytes and by undoing them.

    Returns:
        ``gzip``, ``zlib``, ``bzip2``, ``xz`` (which is also lzma), ``lz4`` or ``zstd``, which is
        not undone here; None when it is none of them.
    """
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if head.startswith(LZ4):
        return "lz4"
    for coding, magic in (("gzip", b"\x1f\x8b\x08"), ("bzip2", b"BZh"), ("xz", b"\xfd7zXZ\0")):
        if head.startswith(magic):
            return coding
    if head[:1] == b"\x78" and len(head) > 2 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib" if _unpacks(head, "zlib") else None
    return "xz" if head[:2] == b"\x5d\x00" and _unpacks(head, "xz") else None


def _unpacks(head: bytes, coding: str) -> bool:
    try:
        return bool(_UNPACKERS[coding]().decompress(head, 16))
    except lzma.LZMAError as error:
        return "limit" in str(error)  # it wants more memory than it is given
    except _FAULTS:
        return False


class Inflated(Source):
    """A stream that is decompressed as far as it is read; what was, can be read again.

    Damage and exhausted allowance end the bytes; ``fault`` then says so.
    """

    def __init__(
        self, source: Source, coding: str, allowance: Allowance, size: int | None = None
    ) -> None:
        """Begin.

        Args:
            source: The compressed bytes.
            coding: ``deflate``, ``zlib``, ``gzip``, ``bzip2``, ``xz`` or ``lz4``.
            allowance: What may be spent.
            size: How many bytes it claims to become; reading goes no further.
        """
        self._source = source
        self._coding = coding
        self._allowance = allowance
        self._unpacker = _UNPACKERS[coding]()
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._read = 0
        self._have = 0
        self._ended = False
        self._claimed = size

    @property
    def size(self) -> int:
        """How many bytes there are: as claimed until the stream ended; else decompresses all."""
        if self._claimed is not None and not self._ended:
            return self._claimed
        while not self._ended:
            self._fill()
        return self._have

    @property
    def jumps(self) -> bool:
        """Whether the end can be read without decompressing much before it."""
        return self._ended or (self._claimed is not None and self._claimed <= _READ_WHOLE)

    def view(self) -> memoryview:
        """Return all bytes, decompressed; many are in a file without a name, which is mapped."""
        while not self._ended:
            self._fill()
        if self._have <= _READ_WHOLE:
            return memoryview(self.read(0, self._have))
        self._spool.flush()
        return _mapped(self._spool.fileno(), self._have)

    @property
    def end(self) -> int | None:
        """Where the compressed bytes end, when all of them were read and are sound."""
        whole = self._ended and self.fault is None
        return self._read - len(self._unpacker.unused_data) if whole else None

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``; fewer where the stream ends."""
        if start < 0 or count <= 0:
            return b""
        while self._have < start + count and not self._ended:
            self._fill()
        if start >= self._have:
            return b""
        self._spool.seek(start)
        return self._spool.read(count)

    def _fill(self) -> None:
        """Decompress a little more."""
        room = min(_CHUNK * 4, self._allowance.inflated)
        if self._claimed is not None and self._have > self._claimed:
            self._end(f"it becomes more than the {self._claimed} bytes that it claims")
            return
        if room <= 0:
            self._end("decompressing it would go beyond the limit of a scan")
            return
        try:
            data = self._more(room)
        except _FAULTS as error:
            self._end(f"the compressed data is damaged: {error!s:.100}")
            return
        self._spool.seek(0, os.SEEK_END)
        self._spool.write(data)
        self._have += len(data)
        self._allowance.inflated -= len(data)

    def _more(self, room: int) -> bytes:
        if self._unpacker.eof:
            rest = self._unpacker.unused_data or self._source.read(self._read, 6)
            if self._coding not in _MANY_STREAMS or self._coding != coding_of(rest):
                self._end(None)
                return b""
            self._read -= len(self._unpacker.unused_data)
            self._unpacker = _UNPACKERS[self._coding]()
        data = self._unpacker.decompress(b"", room) if self._read else b""
        if data or self._unpacker.eof:
            return data
        taken = self._source.read(self._read, _CHUNK)
        self._read += len(taken)
        self._allowance.inflated -= len(taken) * _COSTS.get(self._coding, 0)
        if not taken:
            self._end("the compressed data is cut short")
            return b""
        return self._unpacker.decompress(taken, room)

    def _end(self, fault: str | None) -> None:
        self._ended = True
        self.fault = fault or self.fault

    def close(self) -> None:
        """Give back the decompressed bytes."""
        self._ended = True
        self._have = 0
        self._spool.close()


class Stream(io.RawIOBase):
    """A source as a file, for what reads files."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = max(0, offset + (self._source.size if base is None else base))
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as there are bytes."""
        view = memoryview(buffer).cast("B")
        data = self._source.read(self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
