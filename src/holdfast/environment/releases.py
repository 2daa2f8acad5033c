"""Which releases of libraries are past their support, by published dates and one stated rule.

The rule is SPEC 0 of the Scientific Python project: a minor release is supported for two years
after it came out. The newest one that the table knows is always supported, and so is a release that
it does not know. Python's own dates are those that it publishes. ``tools/list_releases.py`` writes
the table.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final, NamedTuple

from packaging.version import InvalidVersion, Version

__all__ = ["Ended", "ended"]

_YEARS: Final = 2
# Distributions that are others under another name.
_SAME: Final = {"tensorflow-cpu": "tensorflow", "xgboost-cpu": "xgboost"}


class Ended(NamedTuple):
    """A release past its support.

    Attributes:
        name: The distribution, or ``Python``.
        minor: The minor release.
        since: The day on which its support ended, ISO.
        why: In words.
    """

    name: str
    minor: str
    since: str
    why: str


@functools.lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    text = resources.files("holdfast.environment").joinpath("releases.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def ended(environment: Mapping[str, Any], day: str) -> Iterator[Ended]:
    """Yield what of an environment is past its support.

    Args:
        environment: As in a record; what is no version in it is passed over.
        day: The day to judge by, ISO.
    """
    python = environment.get("python")
    minor = _minor(python)
    until = _table()["python_ends"].get(minor)
    if until is not None and until < day:
        yield Ended("Python", minor, until, f"Python {minor} had its last fixes on {until}")
    packages = environment.get("packages")
    for name, version in sorted(packages.items()) if isinstance(packages, dict) else ():
        minor = _minor(version)
        found = _library(_SAME.get(name, name), minor)
        if found is not None and found[1] < day:
            out, until = found
            why = f"{name} {minor} came out on {out}, over two years ago (SPEC 0)"
            yield Ended(name, minor, until, why)


@functools.lru_cache(maxsize=1024)
def _library(name: str, minor: str) -> tuple[str, str] | None:
    """Return when a minor release came out and when its support ends, None for no end known."""
    released = _table()["released"].get(name, {})
    out = released.get(minor)
    later = [day for each, day in released.items() if _pair(each) > _pair(minor)] if out else []
    if not later:
        return None
    year, rest = int(out[:4]), out[4:].replace("-02-29", "-03-01")
    return out, max(f"{year + _YEARS}{rest}", min(later))


@functools.lru_cache(maxsize=1024)
def _minor(text: object) -> str:
    """Return the minor release of a version, empty for what is none."""
    try:
        found = Version(text) if isinstance(text, str) and len(text) < 100 else None
    except InvalidVersion:
        return ""
    return "" if found is None else f"{found.major}.{found.minor}"


def _pair(minor: str) -> tuple[int, int]:
    major, _, rest = minor.partition(".")
    return int(major), int(rest)
