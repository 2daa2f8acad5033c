"""A system call filter for sandboxed programs: threads but no processes, and nothing exotic.

Sources: ``linux/seccomp.h`` and ``linux/filter.h`` (classic BPF), the kernel's tables
``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import Final

__all__ = ["program"]

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_HAS_BITS: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
# Places in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_CLONE_THREAD: Final = 0x10000
_X32: Final = 0x40000000

# Machine to its audit number, the numbers of clone and clone3, and of what is refused: fork and
# vfork, ptrace, mounts and namespaces, keys, kernel modules, bpf, perf, userfaultfd, io_uring,
# memory that belongs to no file or process.
_MACHINES: Final[dict[str, tuple[int, int, int, tuple[int, ...]]]] = {
    "x86_64": (
        0xC000003E, 56, 435,
        (57, 58, 101, 155, 161, 165, 166, 175, 246, 248, 249, 250, 272, 298, 308, 310, 311, 313,
         319, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442),
    ),
    "aarch64": (
        0xC00000B7, 220, 435,
        (39, 40, 41, 51, 97, 104, 105, 117, 217, 218, 219, 241, 268, 270, 271, 273, 279, 280, 282,
         294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442),
    ),
}  # fmt: skip


def program() -> bytes | None:
    """Return the filter for this machine as ``struct sock_filter[]``; None where there is none."""
    known = _MACHINES.get(platform.machine())
    if known is None:
        return None
    architecture, clone, clone3, refused = known
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
        # Whoever finds that clone3 does not exist falls back to clone, whose flags can be seen.
        (_EQUAL, 0, 1, clone3),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_EQUAL, 0, 4, clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_HAS_BITS, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for number in refused:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
