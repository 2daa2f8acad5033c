"""A system call filter for sandboxed programs: threads, and no processes, sockets or signals.

Sources: ``linux/seccomp.h`` and ``linux/filter.h`` (classic BPF), the kernel's tables
``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from typing import Final

__all__ = ["apply", "die_with_parent", "forgo_privileges", "program"]

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_HAS_BITS: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
# Places in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _FOURTH_ARGUMENT = 0, 4, 16, 40

_CLONE_THREAD: Final = 0x10000
_X32: Final = 0x40000000
_SHARED, _ANONYMOUS = 0x01, 0x20

# Machine to its audit number, the numbers of clone and clone3, of the call that asks and sets
# limits (of other processes where its first argument is not 0), and of mmap.
_MACHINES: Final[dict[str, tuple[int, int, int, int, int]]] = {
    "x86_64": (0xC000003E, 56, 435, 302, 9),
    "aarch64": (0xC00000B7, 220, 435, 261, 222),
}
# What is refused: fork and vfork, ptrace, mounts and namespaces, keys, kernel modules, bpf, perf,
# userfaultfd, io_uring, memory of other processes, files by handle; and what only root may:
# clocks, names of the machine, swap, ports, reboot.
_EXOTIC: Final[dict[str, tuple[int, ...]]] = {
    "x86_64": (
        57, 58, 101, 155, 161, 165, 166, 175, 246, 248, 249, 250, 272, 298, 308, 310, 311, 313,
        103, 159, 163, 164, 167, 168, 169, 170, 171, 172, 173, 179, 227, 303, 304, 305,
        319, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442, 447,
    ),
    "aarch64": (
        39, 40, 41, 51, 97, 104, 105, 117, 217, 218, 219, 241, 268, 270, 271, 273, 279, 280, 282,
        60, 89, 112, 116, 142, 161, 162, 170, 171, 224, 225, 264, 265, 266,
        294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442, 447,
    ),
}  # fmt: skip
# And sockets; signals for other processes, and their handles; memory shared under a number; modes,
# owners, times and attributes of files, which Landlock leaves open.
_OUTWARD: Final[dict[str, tuple[int, ...]]] = {
    "x86_64": (
        41, 29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 62, 129, 200, 234, 297, 424, 434, 438,
        440, 90, 91, 92, 93, 94, 132, 235, 260, 261, 268, 280, 452, 188, 189, 190, 197, 198, 199,
    ),
    "aarch64": (
        198, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 129, 130, 131, 138, 240,
        424, 434, 438, 440, 52, 53, 54, 55, 88, 452, 5, 6, 7, 14, 15, 16,
    ),
}  # fmt: skip
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER_MODE = 1, 38, 22, 2


def program() -> bytes | None:
    """Return the filter for this machine as ``struct sock_filter[]``; None where there is none."""
    machine = platform.machine()
    known = _MACHINES.get(machine)
    if known is None:
        return None
    architecture, clone, clone3, limits, mmap = known
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
        (_EQUAL, 0, 4, limits),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
        # Shared memory of no file is not counted by the limit of memory.
        (_EQUAL, 0, 5, mmap),
        (_LOAD, 0, 0, _FOURTH_ARGUMENT),
        (_HAS_BITS, 0, 2, _ANONYMOUS),
        (_HAS_BITS, 0, 1, _SHARED),
        (_RETURN, 0, 0, _ERROR | errno.ENOMEM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for number in (*_EXOTIC[machine], *_OUTWARD[machine]):
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("count", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def forgo_privileges() -> None:
    """Give up, for good, what a program could gain by starting one with more rights.

    Raises:
        OSError: The kernel refuses.
    """
    _control(_NO_NEW_PRIVILEGES, 1, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends.

    Raises:
        OSError: The kernel refuses.
    """
    _control(_DEATH_SIGNAL, signal.SIGKILL, 0)


def apply() -> None:
    """Put the filter on this thread and what it starts.

    Raises:
        OSError: The kernel refuses, or there is no filter for this machine.
    """
    lines = program()
    if lines is None:
        raise OSError(errno.ENOSYS, "no filter for this machine")
    told = _Program(len(lines) // 8, lines)
    _control(_SET_FILTER, _FILTER_MODE, ctypes.addressof(told))


def _control(option: int, one: int, two: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(word) for word in (one, two, 0, 0)]
    if library.prctl(ctypes.c_int(option), *words):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
