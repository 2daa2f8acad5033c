"""How much memory is free: of the machine, and of the control group that this process is in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["bound", "free"]

_GROUP: Final = Path("/sys/fs/cgroup")
# Limit and use of the group that a container is, in the second and the first version of the files.
_COUNTS: Final = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
_LEAST: Final = 4 << 30
_SHARE: Final = 0.9


def free() -> int | None:
    """Return the free memory in bytes, from /proc and /sys where there are such files."""
    found = [size for size in (_of_machine(), _of_group()) if size is not None]
    return min(found, default=None)


def bound(mapped: int) -> int | None:
    """Return how many bytes a process may take so that others are left some; None if unknown.

    Never less than 4 GiB, since what is only reserved counts as well.

    Args:
        mapped: Bytes of files that it maps, which are not taken from what is free.
    """
    most = free()
    return None if most is None else max(_LEAST, int(most * _SHARE)) + mapped


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) << 10 if found and found[0].isdecimal() else None


def _of_group() -> int | None:
    for limit, used in _COUNTS:
        try:
            most, now = ((_GROUP / name).read_text("ascii").strip() for name in (limit, used))
        except (OSError, UnicodeDecodeError):
            continue
        if most.isdecimal() and now.isdecimal():
            return max(0, int(most) - int(now))
    return None
