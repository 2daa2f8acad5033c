"""Results of checks in a folder: ``checks/<record>/<environment>.json``, the newest of each kept.

They are evidence for reports and nothing else: losing one loses history, so a name that a crash
takes back is no harm, and a file that is not what it should be is passed over by whoever reads it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.durable import mapped_os_errors, unfinished, write_new
from holdfast.errors import HoldfastError
from holdfast.record import Digest, digest_hex
from holdfast.store.shelf import open_file

__all__ = ["FILE", "MOST", "RECORD", "LocalChecks"]

# Names of a record's folder and of a document in it, and how long one may be.
RECORD: Final = re.compile(r"[0-9a-f]{64}")
FILE: Final = re.compile(r"([0-9a-f]{1,64})\.json")
MOST: Final = 1 << 16


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
        tmp = unfinished(self._tmp)
        with mapped_os_errors(self._folder, "recording a check"):
            try:
                place.mkdir(parents=True, exist_ok=True)
                write_new(tmp, [data], mode=0o644)
                tmp.replace(place / f"{environment}.json")
            finally:
                with contextlib.suppress(OSError):
                    tmp.unlink()

    def records(self) -> Iterator[Digest]:
        """Yield the records of which something may be kept."""
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if RECORD.fullmatch(entry.name):
                    yield Digest(f"sha256:{entry.name}")

    def read(self, record: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield what is kept of a record, by environment; unreadable is empty."""
        place = self._folder / digest_hex(record)
        try:
            names = sorted(os.listdir(place))  # noqa: PTH208 - names, not paths
        except OSError:
            return
        for name in names:
            found = FILE.fullmatch(name)
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


def _bytes(place: Path) -> bytes:
    """Return a small file whole; a link, a large file or an unreadable one is empty."""
    try:
        with os.fdopen(open_file(place), "rb") as file:
            data = file.read(MOST + 1)
    except OSError:
        return b""
    return data if len(data) <= MOST else b""
