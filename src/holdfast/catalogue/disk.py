"""The log in a folder: ``<name>/<seq>.json``, each file created once by ``link(2)``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.catalogue.names import check_name, is_name
from holdfast.durable import create_only, fsync_dir, mapped_os_errors, unfinished

__all__ = ["DiskLog"]

_ENTRY: Final = re.compile(r"[0-9]{8,}\.json")


class DiskLog:
    """Entries as files. ``link`` fails when the name exists, so no entry is ever replaced.

    Args:
        root: The folder of the log.
        tmp: A folder on the same file system for unfinished files.
    """

    def __init__(self, root: Path, tmp: Path) -> None:
        self.url = str(root)
        self._root = root
        self._tmp = tmp

    def names(self) -> list[str]:
        """Return all names that have an entry, sorted."""
        try:
            with os.scandir(self._root) as entries:
                names = sorted(entry.name for entry in entries if is_name(entry.name))
        except FileNotFoundError:
            return []
        return [name for name in names if self._file(name, 1).exists() or self.newest(name)]

    def newest(self, name: str) -> int:
        """Return the highest number of an entry of this name, 0 when there is none."""
        if not is_name(name):
            return 0
        try:
            with os.scandir(self._root / name) as entries:
                files = [entry.name for entry in entries if _ENTRY.fullmatch(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return max((int(file[:-5]) for file in files), default=0)

    def read(self, name: str, seq: int) -> bytes | None:
        """Return an entry's bytes, or None when it does not exist."""
        if not is_name(name):
            return None
        try:
            return self._file(name, seq).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_from(self, name: str, seq: int) -> Iterator[bytes]:
        """Yield the entries from ``seq`` on until one does not exist."""
        while (data := self.read(name, seq)) is not None:
            yield data
            seq += 1

    def append(self, name: str, seq: int, data: bytes, after: str | None = None) -> bool:
        """Create the entry durably; False when it exists. None is ever replaced."""
        del after
        target = self._file(check_name(name), seq)
        with mapped_os_errors(self._root, f"writing the log of {name}"):
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                fsync_dir(self._root)
            return create_only(target, [data], tmp=unfinished(self._tmp))

    def stamp(self, name: str, seq: int) -> tuple[int, ...] | None:
        """Return (inode, size, mtime_ns) of the entry, None when it does not exist."""
        if not is_name(name):
            return None
        try:
            found = self._file(name, seq).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def _file(self, name: str, seq: int) -> Path:
        return self._root / name / f"{seq:08d}.json"
