"""Names of files in a version: relative paths that stay inside a folder on every machine."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

__all__ = ["is_file_name"]


def is_file_name(name: str) -> bool:
    """Say whether a name stays inside a folder on every file system, look-alikes included."""
    if not name.isprintable() or unicodedata.normalize("NFC", name) != name:
        return False
    for spelling in (name, unicodedata.normalize("NFKC", name)):
        path = PurePosixPath(spelling)
        inside = path.parts and not path.is_absolute() and ".." not in path.parts
        if not inside or str(path) != spelling or {"\\", ":"} & {*spelling}:
            return False
    return True
