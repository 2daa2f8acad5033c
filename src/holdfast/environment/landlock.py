"""Landlock: a process gives up the file system but for a few places, for good.

Sources: the kernel's ``Documentation/userspace-api/landlock.rst`` and
``include/uapi/linux/landlock.h``; the numbers of its system calls are the same on every machine.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Final

__all__ = ["release", "restrict"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
# Rights by their bits, as far as each release of the interface has them.
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE, _DEVICE = 1 << 1, 1 << 14, 1 << 15
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES: Final = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE | _DEVICE
# Making and removing folders, files and names of files, but no devices, sockets, pipes or links.
_CHANGE: Final = _WRITE_FILE | _TRUNCATE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13
_RIGHTS: Final = {3: 1 << 15, 4: 1 << 15, 5: 1 << 16}
# Before the third a process could empty files that it may not write.
_LEAST: Final = 3
_NET: Final = 3  # bind and connect of TCP, from the fourth
_SCOPES: Final = 3  # abstract sockets and signals, from the sixth


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def release() -> int:
    """Return the release of Landlock that the kernel has; 0 when it has none, or too old a one."""
    if sys.platform != "linux":
        return 0
    try:
        found = _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except (OSError, AttributeError):
        return 0
    return found if found >= _LEAST else 0


def restrict(reading: Iterable[str], writing: Iterable[str]) -> None:
    """Let this thread, and what it starts, read below some places and write below others only.

    ``PR_SET_NO_NEW_PRIVS`` must be set before.

    Raises:
        OSError: The kernel refuses.
    """
    known = release()
    rights = _RIGHTS.get(known, _RIGHTS[5]) - 1
    net, scopes = (_NET if known >= 4 else 0), (_SCOPES if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    attributes = struct.pack("=QQQ", rights, net, scopes)[:size]
    rules = _call(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for place in reading:
            _allow(rules, place, _READ)
        for place in writing:
            _allow(rules, place, (_READ | _CHANGE) & rights)
        _call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    finally:
        os.close(rules)


def _allow(rules: int, place: str, rights: int) -> None:
    try:
        file = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(file).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, file)
        _call(_ADD, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(file)
