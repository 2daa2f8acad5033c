"""Open blobs: files mapped privately, or decoded into memory of this process."""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import time
from collections.abc import Callable
from typing import Final

from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import Digest
from holdfast.store.coded import Layout
from holdfast.store.mounts import trustworthy

__all__ = ["CodedReading", "LocalReading"]

_MOST_FILES: Final = 65_536
_SETTLED_NS: Final = 2_000_000_000


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
    """An open blob file, mapped privately.

    Attributes:
        size: Bytes.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stat = os.fstat(fd)
        self.size = self._stat.st_size

    def view(self) -> memoryview:
        """Return all bytes as a private copy-on-write mapping, writable without harm."""
        if self.size == 0:
            return memoryview(bytearray())
        if not _may_map(self._fd):
            return self._copy()
        return memoryview(mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY))

    def _copy(self) -> memoryview:
        """Read the bytes into memory: a mapping would keep a descriptor, and they are few."""
        data = bytearray(self.size)
        with open(self._fd, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            view, done = memoryview(data), 0
            while done < self.size:
                count = file.readinto(view[done:])
                if not count:
                    raise Corrupt("a blob became shorter while it was being read")
                done += count
        return memoryview(data)

    def identity(self) -> tuple[int, ...] | None:
        """Return (device, inode, size, mtime_ns, ctime_ns), None when they prove nothing.

        They prove nothing on network, overlay and unknown file systems, or when the file changed
        less than 2 s ago, since a second change might carry the same time.
        """
        found = os.fstat(self._fd)
        if time.time_ns() - found.st_ctime_ns < _SETTLED_NS or not trustworthy(found.st_dev):
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

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

        plain = memoryview(_room(self.size))
        coding.decode(self._layout, self._view, self._base_bytes(), plain)
        return plain

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


def _room(size: int) -> mmap.mmap:
    """Return so many zero bytes; those that nothing is written to occupy nothing."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, OverflowError):
        if size <= whole:
            room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux: 512 times fewer page faults
                with contextlib.suppress(OSError):
                    room.madvise(mmap.MADV_HUGEPAGE)
            return room
    raise HoldfastError(
        f"A coded blob decodes to {size / 2**30:.1f} GiB, and this machine has "
        f"{whole / 2**30:.1f} GiB of memory.",
        hint="hold compact --undo",
    )
