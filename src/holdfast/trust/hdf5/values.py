"""What an object's messages say: shapes, types, places of data, attributes.

Specification, sections IV.A.2.b (dataspace), d (datatype), g (link), h (external files), i
(layout), l (filters), m (attribute).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5.blocks import Blocks, Cursor
from holdfast.trust.hdf5.headers import DATATYPE, Message, messages
from holdfast.trust.hdf5.heaps import global_object, local_names

__all__ = [
    "Datatype",
    "Layout",
    "attribute",
    "datatype",
    "external_files",
    "filters",
    "layout",
    "shape_of",
]

_MOST_RANK: Final = 32
_MOST_ITEMS: Final = 1_000
_TEXT_LIMIT: Final = 32 << 20
_MOST_FILES: Final = 1_000
_NESTED: Final = 8

_FIXED, _FLOAT, _STRING, _COMPOUND, _ENUM, _VARIABLE, _ARRAY = 0, 1, 3, 6, 8, 9, 10
_NAMES: Final = {2: "time", 4: "bits", 5: "opaque", 6: "record", 7: "reference", 11: "complex"}
_FILTERS: Final = {
    1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scale-offset",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Datatype:
    """A type.

    Attributes:
        name: In numpy's spelling where there is one: ``<f4``, ``|S8``; else a word.
        size: Bytes of one element.
        kind: Its class in the format.
        text: Whether it is a text of variable length.
    """

    name: str
    size: int
    kind: int
    text: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a dataset's elements are.

    Attributes:
        kind: ``compact``, ``contiguous``, ``chunked`` or ``virtual``.
        start: Byte of the elements of a contiguous dataset, or None.
        size: Their bytes as the layout says, or None.
    """

    kind: str
    start: int | None = None
    size: int | None = None


def shape_of(cursor: Cursor) -> tuple[int, ...]:
    """Read a dataspace; a scalar has no dimensions, and nothing at all is one of 0."""
    version, rank, flags = (cursor.number(1) for _ in range(3))
    if version not in (1, 2) or rank > _MOST_RANK:
        raise Corrupt(f"a shape of version {version} has {rank} dimensions")
    cursor.take(5 if version == 1 else 0)
    none = version == 2 and cursor.number(1) == 2
    shape = tuple(cursor.length() for _ in range(rank))
    if flags & 1:
        for _ in range(rank):
            cursor.length()
    return (0,) if none else shape


def datatype(cursor: Cursor) -> Datatype:
    """Read a type; of arrays and variable lengths also what they are of."""
    around: list[str] = []
    outer: tuple[int, int, bool] | None = None
    for _ in range(_NESTED):
        head, bits, size = cursor.number(1), cursor.number(3), cursor.number(4)
        kind, version = head & 15, head >> 4
        text = kind == _VARIABLE and bits & 15 == 1
        outer = outer or (kind, size, text)
        if kind == _VARIABLE and not text:
            around.append("list of ")
        elif kind == _ARRAY:
            rank = cursor.number(1)
            cursor.take(3 if version < 3 else 0)
            sizes = [cursor.number(4) for _ in range(min(rank, _MOST_RANK))]
            cursor.take(4 * len(sizes) if version < 3 else 0)
            around.append(f"{'x'.join(map(str, sizes))} of ")
        elif kind != _ENUM:
            name = "text" if text else _name(cursor, kind, bits, size)
            return Datatype("".join(around) + name, outer[1], outer[0], outer[2])
    raise Corrupt("a type is of types of types")


def _name(cursor: Cursor, kind: int, bits: int, size: int) -> str:
    order = ">" if bits & 1 else "<"
    if kind == _FIXED:
        return f"{order if size > 1 else '|'}{'i' if bits & 8 else 'u'}{size}"
    if kind == _FLOAT:
        cursor.take(2)
        precision = cursor.number(2)
        cursor.take(1)
        exponent = cursor.number(1)
        known = (precision, exponent) in ((16, 5), (32, 8), (64, 11), (80, 15), (128, 15))
        return f"{order}f{size}" if known else f"float of {precision} bits ({exponent} exponent)"
    if kind == _STRING:
        return f"|S{size}"
    return _NAMES.get(kind, f"type {kind}")


def layout(cursor: Cursor) -> Layout:
    """Read where a dataset's elements are."""
    version = cursor.number(1)
    if version in (1, 2):
        cursor.take(1)
        kind = cursor.number(1)
        cursor.take(5)
        return Layout(_layout(kind), cursor.address() if kind == 1 else None)
    if not 3 <= version <= 5:
        raise Corrupt(f"a layout has the version {version}")
    kind = cursor.number(1)
    if kind == 0:
        return Layout("compact", None, cursor.number(2))
    if kind == 1:
        return Layout("contiguous", cursor.address(), cursor.length())
    return Layout(_layout(kind))


def _layout(kind: int) -> str:
    words = {0: "compact", 1: "contiguous", 2: "chunked", 3: "virtual"}
    if kind not in words:
        raise Corrupt(f"there is no layout {kind}")
    return words[kind]


def filters(cursor: Cursor) -> tuple[str, ...]:
    """Read through what chunks are put; a filter beyond the format's own is named by its number."""
    version, count = cursor.number(1), cursor.number(1)
    cursor.take(6 if version == 1 else 0)
    found = []
    for _ in range(min(count, _MOST_RANK)):
        number = cursor.number(2)
        name = cursor.number(2) if version == 1 or number >= 256 else 0
        cursor.take(2)
        values = cursor.number(2)
        cursor.take(-(-name // 8) * 8 if version == 1 else name)
        cursor.take(4 * (values + values % 2 if version == 1 else values))
        found.append(_FILTERS.get(number, f"filter {number}"))
    return tuple(found)


def external_files(blocks: Blocks, cursor: Cursor) -> tuple[str, ...]:
    """Read the names of the files beside this one in which a dataset keeps its elements."""
    cursor.take(6)
    used = cursor.number(2)
    names = local_names(blocks, cursor.needed("heap"))
    found = []
    for _ in range(min(used, _MOST_FILES)):
        place = cursor.length()
        cursor.length()
        cursor.length()
        found.append(names[place:].partition(b"\0")[0].decode("utf-8", "replace"))
    return tuple(found)


def attribute(blocks: Blocks, data: bytes) -> tuple[str, Any]:
    """Read an attribute: texts and plain numbers; of anything else the type in angle brackets."""
    cursor = Cursor(data, blocks, "an attribute")
    version, flags = cursor.number(1), cursor.number(1)
    if not 1 <= version <= 3:
        raise Corrupt(f"an attribute has the version {version}")
    name_size, type_size, space_size = (cursor.number(2) for _ in range(3))
    cursor.take(1 if version == 3 else 0)
    padded = (8 if version == 1 else 1,) * 3
    parts = []
    for size, step in zip((name_size, type_size, space_size), padded, strict=True):
        parts.append(cursor.take(min(-(-size // step) * step, cursor.left))[:size])
    name = parts[0].partition(b"\0")[0].decode("utf-8", "replace")
    kind = _shared_type(blocks, parts[1]) if flags & 1 and version > 1 else parts[1]
    dtype = datatype(Cursor(kind, blocks, "a type"))
    shape = shape_of(Cursor(parts[2], blocks, "a shape"))
    return name, _value(blocks, cursor, dtype, shape)


def _shared_type(blocks: Blocks, data: bytes) -> bytes:
    """Return a type that is an object of its own."""
    for message in messages(blocks, shared_place(blocks, data)):
        if message.kind == DATATYPE and not message.shared:
            return message.data
    raise Corrupt("an attribute's type is nowhere")


def shared_place(blocks: Blocks, data: bytes) -> int:
    """Return the address of the object that a shared message is kept in."""
    cursor = Cursor(data, blocks, "a shared message")
    version, kind = cursor.number(1), cursor.number(1)
    cursor.take(6 if version == 1 else 0)
    if version == 3 and kind != 2:
        raise Corrupt("a message is shared in a way that is not read here")
    return cursor.needed("place")


def type_of(blocks: Blocks, message: Message) -> Datatype:
    """Return the type that a message holds or leads to."""
    data = _shared_type(blocks, message.data) if message.shared else message.data
    return datatype(Cursor(data, blocks, "a type"))


def _value(blocks: Blocks, cursor: Cursor, dtype: Datatype, shape: tuple[int, ...]) -> Any:
    count = math.prod(shape)
    if not dtype.text and dtype.kind not in (_FIXED, _FLOAT, _STRING):
        return f"<{dtype.name}>"
    if not dtype.size or count * dtype.size > cursor.left:
        raise Corrupt("an attribute has fewer values than its shape says")
    values = list(_items(blocks, cursor, dtype, min(count, _MOST_ITEMS)))
    return values[0] if not shape else values


def _items(blocks: Blocks, cursor: Cursor, dtype: Datatype, count: int) -> Iterator[Any]:
    for _ in range(count):
        item = cursor.take(dtype.size)
        if dtype.text:
            yield _text(blocks, item)
        elif dtype.kind == _STRING:
            yield item.rstrip(b"\0 ").partition(b"\0")[0].decode("utf-8", "replace")
        elif dtype.kind == _FIXED:
            signed, big = "i" in dtype.name, dtype.name.startswith(">")
            yield int.from_bytes(item, "big" if big else "little", signed=signed)
        else:
            form = {2: "e", 4: "f", 8: "d"}.get(dtype.size)
            order = ">" if dtype.name.startswith(">") else "<"
            yield struct.unpack(order + form, item)[0] if form else f"<{dtype.name}>"


def _text(blocks: Blocks, item: bytes) -> str:
    cursor = Cursor(item, blocks, "a text")
    size, address, index = cursor.number(4), cursor.address(), cursor.number(4)
    if not size or not address:
        return ""
    data = global_object(blocks, address, index, min(size, _TEXT_LIMIT))
    return data.decode("utf-8", "replace")
