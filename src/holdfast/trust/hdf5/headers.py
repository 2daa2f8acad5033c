"""Object headers: the messages that say what an object is (specification, section IV.A)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5.blocks import Blocks, Cursor

__all__ = [
    "ATTRIBUTE",
    "ATTRIBUTE_INFO",
    "DATASPACE",
    "DATATYPE",
    "EXTERNAL",
    "FILTERS",
    "LAYOUT",
    "LINK",
    "LINK_INFO",
    "SYMBOL_TABLE",
    "Message",
    "messages",
]

DATASPACE: Final = 0x01
LINK_INFO: Final = 0x02
DATATYPE: Final = 0x03
LINK: Final = 0x06
EXTERNAL: Final = 0x07
LAYOUT: Final = 0x08
FILTERS: Final = 0x0B
ATTRIBUTE: Final = 0x0C
_CONTINUATION: Final = 0x10
SYMBOL_TABLE: Final = 0x11
ATTRIBUTE_INFO: Final = 0x15

_MOST_CHUNKS: Final = 1_000
_MOST_MESSAGES: Final = 100_000
_LARGEST_CHUNK: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        kind: Its type.
        data: Its content; of a shared one where it is.
        shared: Whether its content is elsewhere.
    """

    kind: int
    data: bytes
    shared: bool


def messages(blocks: Blocks, address: int) -> Iterator[Message]:
    """Yield the messages of the object whose header is at an address.

    Raises:
        Corrupt: There is no header, or it is damaged.
    """
    begin = blocks.read(address, 6, "an object header")
    modern = begin.startswith(b"OHDR")
    if not modern and begin[0] != 1:
        raise Corrupt(f"there is no object header at byte {address}")
    flags = begin[5] if modern else 0
    first = _first(blocks, address, flags) if modern else _first_old(blocks, address)
    todo, seen, count = [first], {first}, 0
    while todo:
        start, size = todo.pop(0)
        if size > _LARGEST_CHUNK or len(seen) > _MOST_CHUNKS:
            raise Corrupt(f"the object header at byte {address} claims {size} bytes")
        cursor = blocks.cursor(start, size, "an object header")
        for message in _chunk(cursor, flags) if modern else _chunk_old(cursor):
            count += 1
            if count > _MOST_MESSAGES:
                raise Corrupt(f"the object header at byte {address} has too many messages")
            if message.kind != _CONTINUATION:
                yield message
                continue
            where = _continued(blocks, message.data, modern=modern)
            if where not in seen:
                seen.add(where)
                todo.append(where)


def _first(blocks: Blocks, address: int, flags: int) -> tuple[int, int]:
    """Return where the messages of a header of version 2 start, and their bytes."""
    before = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    cursor = blocks.cursor(address, before + width, "an object header")
    cursor.take(before)
    return address + before + width, cursor.number(width)


def _first_old(blocks: Blocks, address: int) -> tuple[int, int]:
    cursor = blocks.cursor(address, 16, "an object header")
    cursor.take(8)
    return address + 16, cursor.number(4)


def _continued(blocks: Blocks, data: bytes, *, modern: bool) -> tuple[int, int]:
    cursor = Cursor(data, blocks, "a continuation of an object header")
    start, size = cursor.needed("address"), cursor.length()
    if not modern:
        return start, size
    if blocks.read(start, 4, "an object header") != b"OCHK" or size < 8:
        raise Corrupt(f"no object header continues at byte {start}")
    return start + 4, size - 8


def _chunk(cursor: Cursor, flags: int) -> Iterator[Message]:
    width = 6 if flags & 4 else 4
    while cursor.left >= width:
        kind, size, how = cursor.number(1), cursor.number(2), cursor.number(1)
        cursor.take(width - 4)
        yield Message(kind, cursor.take(size), bool(how & 2))


def _chunk_old(cursor: Cursor) -> Iterator[Message]:
    while cursor.left >= 8:
        kind, size, how = cursor.number(2), cursor.number(2), cursor.number(1)
        cursor.take(3)
        yield Message(kind, cursor.take(size), bool(how & 2))
