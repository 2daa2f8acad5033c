"""Open blobs: files mapped privately or read whole, or decoded into memory of this process.

A file on this machine is mapped: nothing is copied, and processes that load the same version share
its pages. One on a network file system is read, in large parts at a time: each page that is touched
there may be a request of its own, what is cut off at the server would kill the process, and a page
that is fetched twice need not be the one that was hashed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import Digest
from holdfast.store.coded import Chunk, Layout
from holdfast.store.mounts import network, trustworthy

__all__ = ["CodedReading", "LocalReading"]

_MOST_FILES: Final = 65_536
_SETTLED_NS: Final = 2_000_000_000
# One request to a network file system, and how many are under way for a blob.
_REQUEST: Final = 8 << 20
_REQUESTS: Final = 4
# Linux reads no more ahead for one call than the device's own read-ahead; 128 KiB is its default.
_ADVICE: Final = 128 << 10
_PROBE: Final = 8 << 20
_DECODED: Final = ("A coded blob, decoded,", "hold compact --undo")
_RUN: Final = 2 << 20  # plain bytes that a thread decodes at a time, or one chunk


def _may_map(fd: int) -> bool:
    """Say whether one more mapping, which keeps a descriptor, leaves the caller half of them.

    The soft limit is raised first, as far as the hard one allows, which a model of many large
    tensors needs on macOS (256 by default). The number that a duplicate gets is the lowest free
    one, so it tells how many are in use.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return True
    try:
        used = os.dup(fd)
    except OSError:
        return False
    os.close(used)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if used >= soft // 2 and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return used < soft // 2


class LocalReading:
    """An open blob file, or a blob in a part of a file.

    Args:
        fd: The open file, which becomes this object's own.
        part: First byte and number of bytes; None for the whole file.

    Attributes:
        size: Bytes.
    """

    def __init__(self, fd: int, part: tuple[int, int] | None = None) -> None:
        self._fd = fd
        self._stat = os.fstat(fd)
        self._part = part
        self._start, self.size = (0, self._stat.st_size) if part is None else part

    def view(self) -> memoryview:
        """Return all bytes, writable without harm: mapped copy-on-write, or read whole."""
        if self.size == 0:
            return memoryview(bytearray())
        if network(self._stat.st_dev) or not _may_map(self._fd):
            return self.read()
        if self._start + self.size > self._stat.st_size:
            raise Corrupt("a file became shorter while it was being read")
        before = self._start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._fd, before + self.size, access=mmap.ACCESS_COPY, offset=self._start - before
        )
        return memoryview(mapped)[before:]

    def read(self) -> memoryview:
        """Return all bytes in memory of this process, read in large parts at the same time.

        Raises:
            Corrupt: The file became shorter meanwhile.
            HoldfastError: They do not fit into this machine's memory.
        """
        if self.size == 0:
            return memoryview(bytearray())
        data = memoryview(_room(self.size, "A blob", "hold where"))
        parts = range(0, self.size, _REQUEST)
        if len(parts) == 1:
            self._fill(data, 0)
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(max_workers=min(_REQUESTS, len(parts))) as pool:
                for _ in pool.map(lambda at: self._fill(data[at : at + _REQUEST], at), parts):
                    pass
        return data

    def read_range(self, offset: int, length: int) -> bytes:
        """Return bytes of the file; raises ``Corrupt`` where it is shorter."""
        data = bytearray(length)
        self._fill(memoryview(data), offset)
        return bytes(data)

    def _fill(self, data: memoryview, offset: int) -> None:
        done = 0
        while done < len(data):
            count = _read_into(data[done:], self._fd, self._start + offset + done)
            if not count:
                raise Corrupt("a blob became shorter while it was being read")
            done += count

    def absent(self) -> bool:
        """Say whether some of the bytes are on disk only; False where that cannot be told."""
        nowait = getattr(os, "RWF_NOWAIT", 0)
        if not nowait or network(self._stat.st_dev):
            return False
        byte = bytearray(1)
        try:
            for offset in self._probes():
                os.preadv(self._fd, [byte], self._start + offset, nowait)
        except BlockingIOError:
            return True
        except OSError:  # a file system that cannot answer at once
            return False
        return False

    def _probes(self) -> Iterator[int]:
        yield from range(0, self.size, _PROBE)
        yield max(0, self.size - 1)

    def ahead(self, start: int = 0, end: int | None = None) -> None:
        """Ask the system to read a part of the file now, without waiting for it."""
        advise = getattr(os, "posix_fadvise", None)
        if advise is not None:
            with contextlib.suppress(OSError):
                for offset in range(start, min(end or self.size, self.size), _ADVICE):
                    place = self._start + offset
                    advise(self._fd, place, _ADVICE, os.POSIX_FADV_WILLNEED)

    def identity(self) -> tuple[int, ...] | None:
        """Return (device, inode, size, mtime_ns, ctime_ns), None when they prove nothing.

        Of a part of a file its first byte follows.

        They prove nothing on network, overlay and unknown file systems, or when the file changed
        less than 2 s ago, since a second change might carry the same time.
        """
        found = os.fstat(self._fd)
        if time.time_ns() - found.st_ctime_ns < _SETTLED_NS or not trustworthy(found.st_dev):
            return None
        times = (found.st_mtime_ns, found.st_ctime_ns)
        place = () if self._part is None else (self._start,)
        return (found.st_dev, found.st_ino, found.st_size, *times, *place)

    def close(self) -> None:
        """Close the descriptor; mappings stay valid."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class CodedReading:
    """An open coded blob: its plain bytes are made when they are asked for.

    Attributes:
        size: Plain bytes.
        stored: Bytes of the file.
        base: The blob that its differences are to, or None.
    """

    def __init__(self, fd: int, base: Callable[[Digest], memoryview]) -> None:
        self._file = LocalReading(fd)
        self.stored = self._file.size
        self._base = base
        try:
            self._view = self._file.view()
            self._layout = Layout(self._view)
        except BaseException:
            self._file.close()
            raise
        self.size = self._layout.index.size
        named = self._layout.index.base
        self.base = None if named is None else Digest(named)

    def view(self) -> memoryview:
        """Return all plain bytes, in memory of this process.

        Raises:
            Corrupt: The file lies, or is damaged where that shows before the digest is compared.
            HoldfastError: They do not fit into this machine's memory.
        """
        if self.size == 0:
            return memoryview(bytearray())
        from holdfast.store import coding

        plain = memoryview(_room(self.size, *_DECODED))
        coding.decode(self._layout, self._view, self._base_bytes(), plain)
        return plain

    def pieces(self) -> Iterator[memoryview]:
        """Yield the plain bytes in order, of which few chunks are in memory at a time.

        Raises:
            Corrupt: As ``view``.
            HoldfastError: They would not fit into this machine's memory.
        """
        from holdfast.remote.base import in_parallel
        from holdfast.store import coding

        _require_room(self.size, *_DECODED)
        base, runs = self._base_bytes(), list(_runs(self._layout.chunks))
        for at in range(0, len(runs), _REQUESTS):
            yield from in_parallel(
                lambda run: coding.decode_chunks(run, self._view, base), runs[at : at + _REQUESTS]
            )

    @property
    def file(self) -> memoryview:
        """The bytes as they are coded."""
        return self._view

    def read_range(self, offset: int, length: int) -> bytes:
        """Return a range of the plain bytes; decodes no more than the chunks it lies in."""
        from holdfast.store import coding

        return coding.decode_range(self._layout, self._view, self._base_bytes(), offset, length)

    def _base_bytes(self) -> memoryview | None:
        return None if self.base is None else self._base(self.base)

    def identity(self) -> tuple[int, ...] | None:
        """As ``LocalReading.identity``; None for differences, whose base is another file."""
        return None if self.base is not None else self._file.identity()

    def close(self) -> None:
        """Close the descriptor; views stay valid."""
        self._file.close()


def _read_into(data: memoryview, fd: int, offset: int) -> int:
    """Read as many bytes as come at once, and return how many."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [data], offset)
    got = os.pread(fd, len(data), offset)  # macOS
    data[: len(got)] = got
    return len(got)


def _runs(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    first = 0
    for at, chunk in enumerate(chunks):
        if chunk.end - chunks[first].start >= _RUN:
            yield chunks[first : at + 1]
            first = at + 1
    if first < len(chunks):
        yield chunks[first:]


def _room(size: int, what: str, hint: str) -> mmap.mmap:
    """Return so many zero bytes; those that nothing is written to occupy nothing."""
    _require_room(size, what, hint)
    with contextlib.suppress(OSError, ValueError, OverflowError):
        room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux: 512 times fewer page faults
            with contextlib.suppress(OSError):
                room.madvise(mmap.MADV_HUGEPAGE)
        return room
    raise _too_large(size, what, hint)


def _require_room(size: int, what: str, hint: str) -> None:
    if size > _memory():
        raise _too_large(size, what, hint)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _too_large(size: int, what: str, hint: str) -> HoldfastError:
    return HoldfastError(
        f"{what} has {size / 2**30:.1f} GiB, and this machine has "
        f"{_memory() / 2**30:.1f} GiB of memory.",
        hint=hint,
    )
