"""Reading protobuf messages as data, without the protobuf package and within limits.

The wire format is a row of (field number, wire type, value); names and types are the reader's to
know. Source of the format: https://protobuf.dev/programming-guides/encoding/

::

    for field in protobuf.fields(data):  # a ModelProto
        if field.number == 7:  # graph
            nodes = [node for node in field.message() if node.number == 1]

A real parser lets the last of several values of a singular field win and merges messages. What
is judged must not be hidden by another of its kind, so ``table`` tells them apart: see
``Table.one``.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt

__all__ = ["FIXED32", "FIXED64", "LENGTH", "VARINT", "Field", "Limits", "Table", "fields", "table"]

# Wire types. Groups (3 and 4) have not been written since proto2 and are refused.
VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

_MOST_UNSIGNED: Final = (1 << 64) - 1
_MOST_TAG: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one document, with all messages inside it.

    Attributes:
        depth: Messages inside messages; real parsers stop at 100.
        fields: Fields and items of packed lists that are read in all.
        table: Fields of one message that are kept in a table.
        text: Bytes of one text.
    """

    depth: int = 100
    fields: int = 5_000_000
    table: int = 1_000_000
    text: int = 1 << 20


@dataclass(slots=True)
class _Budget:
    limits: Limits
    fields: int

    def take(self, count: int, position: int) -> None:
        self.fields -= count
        if self.fields < 0:
            raise _corrupt(f"it has more than {self.limits.fields:,} fields", position)


@dataclass(slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: Field number, 1 or more.
        wire: ``VARINT``, ``FIXED64``, ``LENGTH`` or ``FIXED32``.
        value: The unsigned number of the first three kinds but ``LENGTH``, whose value is a view
            of the bytes and no copy.
        position: Byte in the document where the value starts.
    """

    number: int
    wire: int
    value: int | memoryview
    position: int
    _depth: int
    _budget: _Budget

    def view(self) -> memoryview:
        """Return the bytes; raises ``Corrupt`` when the field is a number."""
        if isinstance(self.value, int):
            raise self._not("bytes")
        return self.value

    def message(self) -> Iterator[Field]:
        """Iterate over the fields of the message in here; raises ``Corrupt``."""
        return _walk(self.view(), self.position, self._depth + 1, self._budget)

    def table(self) -> Table:
        """Read the message in here into a table; raises ``Corrupt``."""
        return Table(self.message(), self.position, self._budget.limits.table)

    def text(self) -> str:
        """Return the UTF-8 text; raises ``Corrupt``."""
        view = self.view()
        if len(view) > self._budget.limits.text:
            raise _corrupt(f"field {self.number} is a text of {len(view):,} bytes", self.position)
        try:
            return str(view, "utf-8")
        except UnicodeDecodeError:
            raise _corrupt(f"the text in field {self.number} is not UTF-8", self.position) from None

    def unsigned(self) -> int:
        """Return a ``uint32``, ``uint64``, ``bool`` or ``fixed`` number; raises ``Corrupt``."""
        if not isinstance(self.value, int):
            raise self._not("a number")
        return self.value

    def signed(self) -> int:
        """Return an ``int32``, ``int64`` or ``enum`` (two's complement); raises ``Corrupt``."""
        return _signed(self.unsigned(), 32 if self.wire == FIXED32 else 64)

    def real(self) -> float:
        """Return a ``float`` or ``double`` of the field's width; raises ``Corrupt``."""
        if self.wire == FIXED32:
            return float(struct.unpack("<f", struct.pack("<I", self.value))[0])
        if self.wire == FIXED64:
            return float(struct.unpack("<d", struct.pack("<Q", self.value))[0])
        raise self._not("a real number")

    def integers(self) -> Iterator[int]:
        """Iterate over the signed integers of a repeated field, packed or this one; ``Corrupt``."""
        if isinstance(self.value, int):
            yield self.signed()
            return
        offset = 0
        while offset < len(self.value):
            self._budget.take(1, self.position + offset)
            number, offset = _varint(self.value, offset, self.position)
            yield _signed(number, 64)

    def _not(self, what: str) -> Corrupt:
        return _corrupt(f"field {self.number} is not {what}", self.position)


class Table:
    """The fields of one message by number, for messages that are looked into more than once."""

    __slots__ = ("_fields", "position")

    def __init__(self, found: Iterator[Field], position: int, most: int) -> None:
        """Read all of ``found``, at most ``most``; ``position`` is where the message starts."""
        self.position = position
        self._fields: dict[int, list[Field]] = defaultdict(list)
        for count, field in enumerate(found):
            if count >= most:
                raise _corrupt(f"one message has more than {most:,} fields", field.position)
            self._fields[field.number].append(field)

    def numbers(self) -> set[int]:
        """Return the numbers of the fields that are there."""
        return set(self._fields)

    def all(self, number: int) -> list[Field]:
        """Return the fields of that number, in order."""
        return self._fields.get(number, [])

    def one(self, number: int) -> Field | None:
        """Return the field of a singular number, or None; raises ``Corrupt`` when it is doubled."""
        found = self.all(number)
        if len(found) > 1:
            raise _corrupt(f"field {number} is there {len(found)} times", found[1].position)
        return found[0] if found else None

    def text(self, number: int) -> str:
        """Return a singular text, empty when it is not there; raises ``Corrupt``."""
        field = self.one(number)
        return "" if field is None else field.text()

    def signed(self, number: int, default: int = 0) -> int:
        """Return a singular signed integer or ``default``; raises ``Corrupt``."""
        field = self.one(number)
        return default if field is None else field.signed()


def fields(data: bytes | memoryview, limits: Limits | None = None) -> Iterator[Field]:
    """Iterate over the fields of a document's outermost message.

    Args:
        data: The document; views of a mapped file are not copied.
        limits: Bounds on the whole document; the messages inside share them.

    Raises:
        Corrupt: On the way: cut short, not protobuf, or beyond a limit; says at which byte.
    """
    limits = limits or Limits()
    return _walk(memoryview(data).cast("B"), 0, 0, _Budget(limits, limits.fields))


def table(data: bytes | memoryview, limits: Limits | None = None) -> Table:
    """Read a document's outermost message into a table; see ``fields``."""
    limits = limits or Limits()
    return Table(fields(data, limits), 0, limits.table)


def _walk(data: memoryview, base: int, depth: int, budget: _Budget) -> Iterator[Field]:
    if depth > budget.limits.depth:
        raise _corrupt(f"it has messages more than {budget.limits.depth} deep", base)
    offset, end = 0, len(data)
    while offset < end:
        budget.take(1, base + offset)
        tag, start = _varint(data, offset, base)
        number, wire = tag >> 3, tag & 7
        if not number or tag > _MOST_TAG or start - offset > 5:
            raise _corrupt("no field can have this number", base + offset)
        value: int | memoryview
        if wire == VARINT:
            value, offset = _varint(data, start, base)
        elif wire == LENGTH:
            length, start = _varint(data, start, base)
            value, offset = _cut(data, start, length, base), start + length
        elif wire in (FIXED32, FIXED64):
            offset = start + (4 if wire == FIXED32 else 8)
            value = int.from_bytes(_cut(data, start, offset - start, base), "little")
        else:
            raise _corrupt(f"wire type {wire} is not one that is read", base + offset)
        yield Field(number, wire, value, base + start, depth, budget)


def _cut(data: memoryview, start: int, length: int, base: int) -> memoryview:
    if length > len(data) - start:
        raise _corrupt(f"a value of {length:,} bytes goes beyond its message", base + start)
    return data[start : start + length]


def _varint(data: memoryview, offset: int, base: int) -> tuple[int, int]:
    """Return the number at ``offset`` and where it ends."""
    if offset < len(data) and data[offset] < 0x80:
        return data[offset], offset + 1
    number = shift = 0
    for at in range(offset, min(offset + 10, len(data))):
        byte = data[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number > _MOST_UNSIGNED:
                break
            return number, at + 1
        shift += 7
    raise _corrupt("a number is cut short or has more than 64 bits", base + offset)


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> (bits - 1) else number


def _corrupt(what: str, position: int) -> Corrupt:
    return Corrupt(f"These bytes are no protobuf message: {what} (byte {position:,}).")
