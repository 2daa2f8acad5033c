"""What kind of file system a device holds: whose times can be believed, and which is far away."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

__all__ = ["network", "trustworthy"]

_LOCAL: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs", "zfs"})
# Where a page that is touched may be one request over a wire; ``fuse.`` is followed by a name.
_NETWORK: Final = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "glusterfs", "gpfs", "lustre", "nfs",
        "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
    }
)  # fmt: skip


@functools.lru_cache(maxsize=64)
def trustworthy(device: int) -> bool:
    """Say whether a device holds a known local file system, whose inode times can be believed.

    Where the kinds of mounted file systems cannot be told the answer is no.

    Args:
        device: ``st_dev`` of a file.
    """
    kinds = _kinds(device)
    return bool(kinds) and kinds <= _LOCAL


@functools.lru_cache(maxsize=64)
def network(device: int) -> bool:
    """Say whether a device is known to hold a file system of another machine or of a program.

    Args:
        device: ``st_dev`` of a file.
    """
    return any(kind in _NETWORK or kind.startswith("fuse.") for kind in _kinds(device))


def _kinds(device: int) -> set[str]:
    """Return the kinds under which a device is mounted; none where there is no such table.

    Source of the table's format: proc(5), /proc/pid/mountinfo.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    kinds = set()
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            kinds.add(after.split()[0])
    return kinds
