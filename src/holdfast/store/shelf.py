"""A folder of files named by the digests of blobs, and the trash where a deletion sets them aside.

A file in the trash is not gone: until it is unlinked, whoever wants it takes it back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import Digest, digest_hex, parse_digest

__all__ = ["Shelf", "open_file"]

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_TAKEN_BACK: Final = 4  # times a reader takes a file back from deletions that keep it anyway
_FRESH_SECONDS: Final = 600.0  # well under prune's grace of an hour, so a freshened blob is safe
# What says that a blob itself is wrong; anything else (rights, descriptors) says nothing of it.
_DAMAGE: Final = frozenset({errno.EINVAL, errno.EIO, errno.ELOOP, errno.ENXIO})


class Shelf:
    """The files of one folder.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, folder: Path, tmp: Path, prefix: str) -> None:
        self.folder = folder
        self._tmp = tmp
        self._prefix = prefix

    def place(self, digest: Digest) -> Path:
        """Return where a blob's file is, or would be."""
        return self.folder / digest_hex(parse_digest(digest))

    def trash(self, digest: Digest) -> Path:
        """Return where a deletion sets it aside."""
        return self._tmp / f"{self._prefix}{digest_hex(parse_digest(digest))}"

    def has(self, digest: Digest) -> bool:
        """Say whether the file is there; it is taken back from the trash."""
        return self.place(digest).exists() or self.restore(digest)

    def about(self, digest: Digest) -> os.stat_result | None:
        """Describe the file; None where there is none."""
        with contextlib.suppress(OSError):
            return self.place(digest).lstat() if self.has(digest) else None
        return None

    def open(self, digest: Digest) -> int | None:
        """Open a file and return its descriptor, None where there is none.

        Raises:
            Corrupt: It is a link, a pipe or a folder.
        """
        place = self.place(digest)
        for again in range(_TAKEN_BACK, -1, -1):
            try:
                return open_file(place)
            except (FileNotFoundError, NotADirectoryError):
                if again and self.restore(digest):
                    continue
                return None
            except OSError as error:
                kind = Corrupt if error.errno in _DAMAGE else HoldfastError
                raise kind(
                    f"{place} cannot be read: {error.strerror}.", hint=f"ls -l {place}", ref=digest
                ) from error
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def freshen(self, digest: Digest) -> bool:
        """Mark a file as in use now; False when it is not there or may not be touched."""
        place = self.place(digest)
        for again in (True, False):
            try:
                if time.time() - place.lstat().st_mtime > _FRESH_SECONDS:
                    os.utime(place, follow_symlinks=False)
            except FileNotFoundError:
                if again and self.restore(digest):
                    continue  # back from the trash, but as old as it was
                return False
            except PermissionError:  # another account's blob; written anew it is as good
                return False
            except OSError as error:
                raise HoldfastError(
                    f"{place} cannot be touched: {error.strerror}.", hint=f"ls -l {place}"
                ) from error
            return True
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def restore(self, digest: Digest) -> bool:
        """Take a file back from the trash of an unfinished deletion."""
        try:
            os.link(self.trash(digest), self.place(digest))
        except FileExistsError:
            pass
        except OSError:
            return self.place(digest).exists()  # somebody else may have been faster
        with contextlib.suppress(FileNotFoundError):
            self.trash(digest).unlink()
        return True

    def files(self) -> Iterator[tuple[Digest, os.stat_result]]:
        """Yield every file, in no particular order."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if _HEX.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        yield Digest(f"sha256:{entry.name}"), entry.stat(follow_symlinks=False)

    def left_in_trash(self) -> list[Digest]:
        """Return what deletions that were killed left in the trash."""
        names = (item.name[len(self._prefix) :] for item in self._tmp.glob(f"{self._prefix}*"))
        return [Digest(f"sha256:{name}") for name in names if _HEX.fullmatch(name)]

    def set_aside(self, digest: Digest, *, older: float) -> bool:
        """Move a file into the trash unless it was used within ``older`` seconds."""
        with contextlib.suppress(FileNotFoundError):
            if time.time() - self.place(digest).lstat().st_mtime < older:
                return False  # in use: never out of a reader's sight, not even for a moment
            self.place(digest).rename(self.trash(digest))
            return True
        return False


def open_file(place: Path) -> int:
    """Open a file that is one: a link is not followed, and a pipe is not waited for."""
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a file")
    return fd
