"""Headers of a tar archive whose large members begin at multiples of a page.

A member's content begins after its header, at a multiple of 512 bytes. An extended header with a
comment before it, which every reader of pax archives skips, moves it on to the next page. The same
members are always the same bytes: no times, no owners. Source of the format: POSIX.1-2001, pax
interchange format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["END", "PAGE", "member", "padding"]

PAGE: Final = 4096
# Two blocks of zeros end an archive.
END: Final = bytes(1024)

_BLOCK: Final = 512
_NAME: Final = 100
_LARGEST: Final = 8**11 - 1


def member(name: str, size: int, at: int) -> bytes:
    """Return what stands before a member's content.

    Args:
        name: Its path.
        size: Bytes of its content.
        at: Where in the archive this will stand; a multiple of 512.
    """
    records = b""
    if len(name.encode()) > _NAME:
        records += _record(b"path", name.encode())
    if size > _LARGEST:
        records += _record(b"size", b"%d" % size)
    head = _header(name, size)
    gap = -(at + len(head)) % PAGE if size >= PAGE else 0
    if not gap and not records:
        return head
    needed = 2 * _BLOCK + len(records) // _BLOCK * _BLOCK if records else 2 * _BLOCK
    while gap < needed:
        gap += PAGE if size >= PAGE else _BLOCK
    room = gap - _BLOCK
    if len(records) + 32 < room:
        records += _record(b"comment", b" " * (room - len(records) - 32))
    return _header("PaxHeader", len(records), kind=b"x") + records.ljust(room, b"\0") + head


def padding(size: int) -> bytes:
    """Return what stands after a member's content."""
    return bytes(-size % _BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Write ``LENGTH KEY=VALUE``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _header(name: str, size: int, *, kind: bytes = b"0") -> bytes:
    fields: Mapping[tuple[int, int], bytes] = {
        (0, _NAME): name.encode()[:_NAME],
        (100, 8): b"0000444\0",
        (108, 8): b"0000000\0",
        (116, 8): b"0000000\0",
        (124, 12): b"%011o\0" % (size if size <= _LARGEST else 0),
        (136, 12): b"00000000000\0",
        (148, 8): b" " * 8,
        (156, 1): kind,
        (257, 8): b"ustar\x0000",
    }
    block = bytearray(_BLOCK)
    for (start, length), value in fields.items():
        block[start : start + len(value)] = value[:length]
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
