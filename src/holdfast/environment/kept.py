"""The environments in the cache: what there is, what is in use, and deleting the rest."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from holdfast.environment.recreate import ABOUT, BUILDING, FOLDER, LOCK

__all__ = ["Kept", "kept", "prune"]


class Kept(NamedTuple):
    """An environment in the cache.

    Attributes:
        key: Its folder's name.
        requirements: What was asked for.
        python: ``3.11``.
        size: Bytes on disk.
        used: Seconds since the epoch of its last use.
        busy: Whether a worker uses it now.
        locked: Whether it was built from a lock.
    """

    key: str
    requirements: tuple[str, ...]
    python: str
    size: int
    used: float
    busy: bool
    locked: bool = False


def kept(cache: Path) -> list[Kept]:
    """Return the environments in the cache, the one used last first."""
    found = [_kept(place) for place in _places(cache)]
    return sorted(found, key=lambda each: each.used, reverse=True)


def _places(cache: Path) -> Iterator[Path]:
    folder = cache / FOLDER
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if place.is_dir() and place.suffix != BUILDING:
            yield place


def _kept(place: Path) -> Kept:
    try:
        about = json.loads((place / ABOUT).read_text("utf-8"))
        used = (place / ABOUT).stat().st_mtime
        asked = tuple(map(str, about["requirements"]))
        python, locked = str(about["python"]), about.get("locked") is True
    except (OSError, ValueError, KeyError, TypeError):
        asked, python, used, locked = (), "", 0.0, False
    with _alone(place) as alone:
        return Kept(place.name, asked, python, _size(place), used, not alone, locked)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Hold an environment's lock; yields whether nobody else does."""
    with place.with_name(f"{place.stem}{LOCK}").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _size(place: Path) -> int:
    size = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - a text per file would cost more
    return size


def prune(cache: Path, *, dry_run: bool = False) -> tuple[list[Kept], list[Kept]]:
    """Delete the environments that no worker uses, and what killed builds left.

    Args:
        cache: Folder of disposable files.
        dry_run: Only say what would go.

    Returns:
        Those that are gone, and those that are in use.
    """
    found = kept(cache)
    gone = [each for each in found if not each.busy]
    folder = cache / FOLDER
    left = list(folder.glob(f"*{BUILDING}")) if folder.is_dir() else []
    for place in [] if dry_run else [*(folder / each.key for each in gone), *left]:
        with _alone(place) as alone:
            if alone:
                shutil.rmtree(place, ignore_errors=True)
    return gone, [each for each in found if each.busy]
