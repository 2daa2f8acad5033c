"""Which file systems tell the truth about when a file changed."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

__all__ = ["trustworthy"]

_LOCAL: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs", "zfs"})


@functools.lru_cache(maxsize=64)
def trustworthy(device: int) -> bool:
    """Say whether a device holds a known local file system, whose inode times can be believed.

    Args:
        device: ``st_dev`` of a file.

    Source of the table's format: proc(5), /proc/pid/mountinfo. Where there is no such table the
    answer is no.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    kinds = set()
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            kinds.add(after.split()[0])
    return bool(kinds) and kinds <= _LOCAL
