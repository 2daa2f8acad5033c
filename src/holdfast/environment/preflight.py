"""Whether recorded libraries and this environment go together; nothing of them is imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.version import InvalidVersion, Version

from holdfast.environment.capture import installed_version
from holdfast.environment.memory import free as free_memory

__all__ = ["Finding", "devices", "libraries", "memory"]

_OURS: Final = "holdfast-ml"


class Finding(NamedTuple):
    """One thing that a load would meet.

    Attributes:
        kind: ``blocks`` a load, ``differs`` from what was recorded, or ``note``.
        what: In words.
        fix: One runnable next step; empty where nothing needs doing.
    """

    kind: str
    what: str
    fix: str = ""


def libraries(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the recorded Python and distributions with those here.

    Args:
        environment: The record's environment; what is no text in it is passed over.
    """
    packages = environment.get("packages")
    for name, wanted in sorted(packages.items()) if isinstance(packages, dict) else ():
        if name == _OURS or not isinstance(wanted, str):
            continue
        here = installed_version(name)
        if here is None:
            yield Finding(
                "blocks",
                f"{name} is not installed; the version was saved with {wanted:.40}",
                f'python -m pip install "{name}{_range(wanted)}"',
            )
        elif _minor(here) != _minor(wanted):
            yield Finding("differs", f"{name} {wanted:.40} -> {here}")
    python = environment.get("python")
    if isinstance(python, str) and _minor(python) != _minor(platform.python_version()):
        yield Finding("differs", f"Python {python:.40} -> {platform.python_version()}")
    for name, here in (("machine", platform.machine()), ("os", platform.system())):
        there = environment.get(name)
        if isinstance(there, str) and there != here:
            yield Finding("differs", f"{name} {there:.40} -> {here}")


def _range(wanted: str) -> str:
    """Return the recorded minor release as a requirement; local parts name an index, not code."""
    minor = _minor(wanted)
    return f"~={minor[0]}.{minor[1]}.0" if minor is not None else ""


def _minor(text: str) -> tuple[int, int] | None:
    try:
        found = Version(text) if len(text) < 100 else None
    except InvalidVersion:
        return None
    return None if found is None else (found.major, found.minor)


def memory(needed: int) -> Iterator[Finding]:
    """Compare the bytes of a version's tensors and files with the memory that is free."""
    free = free_memory()
    if free is not None and needed > free:
        yield Finding(
            "note",
            f"it holds {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of memory are free: "
            "mapped tensors load, copies of all of them may not",
        )


def devices(environment: Mapping[str, Any]) -> Iterator[Finding]:
    """Say when a model lay on a CUDA device and this machine shows none."""
    device = environment.get("device")
    cuda = isinstance(device, str) and device.startswith("cuda")
    if cuda and not any(Path("/dev").glob("nvidia[0-9]*")):
        yield Finding("note", f"it was saved from {device:.20}; here it loads on the CPU")
