"""Results of checks: ``checks/<record>/<environment>.json``, the newest of each kept.

They are evidence for reports and nothing else: losing one loses history, so a name that a crash
takes back is no harm, and a file that is not what it should be is passed over by whoever reads it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.durable import mapped_os_errors, write_all
from holdfast.errors import HoldfastError
from holdfast.record import Digest, digest_hex
from holdfast.remote.bucket import Bucket
from holdfast.store.shelf import open_file

__all__ = ["BucketChecks", "LocalChecks"]

_RECORD: Final = re.compile(r"[0-9a-f]{64}")
_FILE: Final = re.compile(r"([0-9a-f]{1,64})\.json")
_MOST: Final = 1 << 16
_CHECKS: Final = "checks"


class LocalChecks:
    """The check documents of a store in a folder.

    Args:
        folder: ``checks`` of the store; made when the first one is put.
        tmp: Folder for unfinished files, on the same file system.
    """

    def __init__(self, folder: Path, tmp: Path) -> None:
        self._folder = folder
        self._tmp = tmp

    def put(self, record: Digest, environment: str, data: bytes) -> None:
        """Keep a document in place of the one before it; see ``CheckFiles.put``."""
        place = self._folder / digest_hex(record)
        tmp = self._tmp / f"{os.getpid()}-{secrets.token_hex(8)}"
        with mapped_os_errors(self._folder, "recording a check"):
            try:
                place.mkdir(parents=True, exist_ok=True)
                fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                try:
                    write_all(fd, data)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                tmp.replace(place / f"{environment}.json")
            finally:
                with contextlib.suppress(OSError):
                    tmp.unlink()

    def records(self) -> Iterator[Digest]:
        """Yield the records of which something may be kept."""
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if _RECORD.fullmatch(entry.name):
                    yield Digest(f"sha256:{entry.name}")

    def read(self, record: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield what is kept of a record, by environment; unreadable is empty."""
        place = self._folder / digest_hex(record)
        try:
            names = sorted(os.listdir(place))  # noqa: PTH208 - names, not paths
        except OSError:
            return
        for name in names:
            found = _FILE.fullmatch(name)
            if found is not None:
                yield found[1], _bytes(place / name)

    def remove(self, record: Digest) -> None:
        """Delete what is kept of a record; raises ``HoldfastError`` where that is refused."""
        place = self._folder / digest_hex(record)
        try:
            shutil.rmtree(place)
        except FileNotFoundError:
            return
        except OSError as error:
            raise HoldfastError(
                f"{place} cannot be deleted: {error.strerror}.", hint=f"ls -ld {place}"
            ) from error


class BucketChecks:
    """The check documents of a store in a bucket.

    Args:
        bucket: Where.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def put(self, record: Digest, environment: str, data: bytes) -> None:
        """Keep a document in place of the one before it; see ``CheckFiles.put``."""
        self._bucket.put(f"{_folder(record)}/{environment}.json", data)

    def records(self) -> Iterator[Digest]:
        """Yield the records of which something may be kept."""
        names = (found.key.split("/")[1] for found in self._bucket.list(_CHECKS))
        yield from (Digest(f"sha256:{name}") for name in dict.fromkeys(names) if _is_hex(name))

    def read(self, record: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield what is kept of a record, by environment; unreadable is empty."""
        for found in self._bucket.list(_folder(record)):
            name = _FILE.fullmatch(found.key.rpartition("/")[2])
            if name is not None:
                got = self._bucket.get(found.key) if found.size <= _MOST else None
                yield name[1], b"" if got is None else got[0]

    def remove(self, record: Digest) -> None:
        """Delete what is kept of a record; raises ``RemoteError`` where that is refused."""
        self._bucket.delete([found.key for found in self._bucket.list(_folder(record))])


def _folder(record: Digest) -> str:
    return f"{_CHECKS}/{digest_hex(record)}"


def _is_hex(name: str) -> bool:
    return _RECORD.fullmatch(name) is not None


def _bytes(place: Path) -> bytes:
    """Return a small file whole; a link, a large file or an unreadable one is empty."""
    try:
        with os.fdopen(open_file(place), "rb") as file:
            data = file.read(_MOST + 1)
    except OSError:
        return b""
    return data if len(data) <= _MOST else b""
