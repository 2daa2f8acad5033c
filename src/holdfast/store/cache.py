"""Blobs of stores far away, kept on this machine: as files, so that loads can map them.

A blob gets its name only when its bytes have been hashed to it. Nothing here must be kept: a file
that was deleted, by hand or to make room, is fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.durable import mapped_os_errors, settled, write_all
from holdfast.record import Digest, digest_hex, parse_digest
from holdfast.store.base import Buffer
from holdfast.store.reading import LocalReading

__all__ = ["BlobCache", "Held"]

_USED_SECONDS: Final = 600.0  # how exactly it is known when a blob was used last
_STALE_SECONDS: Final = 86_400.0
_PART: Final = 16  # room is made whenever a sixteenth of the limit has come in


class Held(NamedTuple):
    """A blob in the cache, open: it can be read even after it was removed to make room.

    Attributes:
        digest: The SHA-256 of its bytes.
        reading: The open file; whoever receives it closes it.
    """

    digest: Digest
    reading: LocalReading


class BlobCache:
    """Files by digest, the least recently used removed when they grow beyond a limit.

    Several processes may use one folder.

    Args:
        folder: Where; made when it is first written to.
        limit: Bytes that may stay there. What several processes are bringing in comes on top, up
            to a sixteenth of the limit each. A blob that is larger than the limit is not kept.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._blobs = folder / "blobs"
        self._used = folder / "used"
        self._new = limit  # the first blob of a process makes room
        self._lock = threading.Lock()

    def open(self, digest: Digest) -> LocalReading | None:
        """Open a blob, not hashed; None when it is not here."""
        place = self._blobs / digest_hex(parse_digest(digest))
        try:
            fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        self._touch(place.name)
        return LocalReading(fd)

    def has(self, digest: Digest) -> bool:
        """Say whether a blob is here."""
        return (self._blobs / digest_hex(parse_digest(digest))).exists()

    def _touch(self, name: str) -> None:
        """Note that a blob is used. Its own times stay: stamps of verified files go by them."""
        mark = self._used / name
        with contextlib.suppress(OSError):
            try:
                if time.time() - mark.stat().st_mtime > _USED_SECONDS:
                    os.utime(mark)
            except FileNotFoundError:
                mark.touch()

    def add(self, chunks: Iterable[Buffer]) -> Held:
        """Keep bytes under the digest they have, and open them.

        Raises:
            NoSpace: The disk is full.
        """
        with self._new_file() as tmp:
            digest, reading = _written(tmp, chunks)
            if reading.size <= self.limit:
                self._name(tmp, digest, reading.size)
        return Held(digest, reading)

    def scratch(self, chunks: Iterable[Buffer]) -> int:
        """Write bytes to a file that has no name, and return its descriptor.

        Raises:
            NoSpace: The disk is full.
        """
        with self._new_file() as tmp:
            fd = os.open(tmp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            try:
                for chunk in chunks:
                    write_all(fd, chunk)
            except BaseException:
                os.close(fd)
                raise
        return fd

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[Path]:
        with mapped_os_errors(self.folder, "keeping a copy of a remote blob"):
            for part in (self._blobs, self._used):
                part.mkdir(parents=True, exist_ok=True, mode=0o700)
            tmp = self.folder / f"new-{os.getpid()}-{secrets.token_hex(8)}"
            try:
                yield tmp
            finally:
                with contextlib.suppress(FileNotFoundError):
                    tmp.unlink()

    def _name(self, tmp: Path, digest: Digest, size: int) -> None:
        name = digest_hex(digest)
        with contextlib.suppress(FileExistsError):
            os.link(tmp, self._blobs / name)
        self._touch(name)
        with self._lock:
            self._new += size
            full = self._new * _PART > self.limit
            if full:
                self._new = 0
        if full:
            self.trim()

    def drop(self, digest: Digest) -> bool:
        """Remove a blob, as one whose bytes went bad; False when it is not here."""
        try:
            (self._blobs / digest_hex(parse_digest(digest))).unlink()
        except OSError:
            return False
        return True

    def trim(self) -> None:
        """Remove the least recently used blobs until the rest is within the limit."""
        found: list[tuple[float, str, int]] = []
        with contextlib.suppress(OSError), os.scandir(self._blobs) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    found.append((self._last_used(entry.name, about), entry.name, about.st_size))
        total = sum(size for _, _, size in found)
        for _, name, size in sorted(found):
            if total <= self.limit:
                break
            for part in (self._blobs, self._used):
                with contextlib.suppress(OSError):
                    (part / name).unlink()
            total -= size
        self._sweep()

    def _last_used(self, name: str, about: os.stat_result) -> float:
        try:
            return (self._used / name).stat().st_mtime
        except OSError:
            return about.st_mtime

    def _sweep(self) -> None:
        """Remove what processes that crashed have left."""
        limit = time.time() - _STALE_SECONDS
        for item in self.folder.glob("new-*"):
            with contextlib.suppress(OSError):
                if item.stat().st_mtime < limit:
                    item.unlink()


def _written(tmp: Path, chunks: Iterable[Buffer]) -> tuple[Digest, LocalReading]:
    """Write bytes, hash them on the way, and open what was written."""
    hasher = hashlib.sha256()
    fd = os.open(tmp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    try:
        for chunk in settled(chunks):
            hasher.update(chunk)
            write_all(fd, chunk)
        return Digest(f"sha256:{hasher.hexdigest()}"), LocalReading(fd)
    except BaseException:
        os.close(fd)
        raise
