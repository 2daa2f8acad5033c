"""Which installed distribution a module comes from, without reading all of all of them."""

from __future__ import annotations

import functools
import json
import sys
import urllib.parse
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["owner_of"]


def owner_of(module: str) -> tuple[str, str] | None:
    """Return name and version of the distribution that an imported module comes from.

    Args:
        module: Its first name, without dots.

    Returns:
        None for what no distribution owns, such as a script's own modules.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(file)
    place = path.parent.parent if path.stem == "__init__" else path.parent
    try:
        stamps = tuple((site, Path(site).stat().st_mtime_ns) for site in _sites())
        return _owner(path.relative_to(place).as_posix(), str(place), stamps)
    except Exception:  # noqa: BLE001 - metadata that others wrote, and a fact is worth no failure
        return None


def _sites() -> list[str]:
    """Return the folders that distributions are installed in."""
    return [each for each in sys.path if each.endswith("-packages") and Path(each).is_dir()]


@functools.lru_cache(maxsize=64)
def _owner(file: str, place: str, stamps: tuple[tuple[str, int], ...]) -> tuple[str, str] | None:
    for site, _ in stamps:
        find = _installed_there if Path(site) == Path(place) else _editable
        found = find(Path(site), place, file)
        if found is not None:
            known: Any = metadata.Distribution.at(found)
            return str(known.metadata["Name"]), str(known.version)
    return None


def _installed_there(site: Path, _place: str, file: str) -> Path | None:
    line = file.encode() + b","
    for record in site.glob("*.dist-info/RECORD"):
        data = record.read_bytes()
        if data.startswith(line) or b"\n" + line in data:
            return record.parent
    return None


def _editable(site: Path, place: str, _file: str) -> Path | None:
    """Find a distribution that was installed as a link to its sources, where the module lies."""
    for note in site.glob("*.dist-info/direct_url.json"):
        url = urllib.parse.urlsplit(json.loads(note.read_bytes())["url"])
        folder = Path(urllib.parse.unquote(url.path))
        if url.scheme == "file" and Path(place).is_relative_to(folder):
            return note.parent
    return None
