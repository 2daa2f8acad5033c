"""Reading FlatBuffers by a schema, trusting none of the offsets.

The layout: https://flatbuffers.dev/internals/. A table begins with the distance to its list of
fields; whatever is no plain number is a distance to where it begins.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["Kind", "Number", "Numbers", "Schema", "Table", "Tables", "Text", "Texts", "read_flat"]

_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")
_U16: Final = struct.Struct("<H")
# What is met by several ways is read once for each, by native readers too; so much is shared.
_SHARED: Final = 16
_SLACK: Final = 1 << 16


class Number(NamedTuple):
    """One number of a format of ``struct``; a field that is left out has the default."""

    format: str
    default: float


class Numbers(NamedTuple):
    """A list of numbers of a NumPy type, which may be a record."""

    dtype: Any


class Text(NamedTuple):
    """Bytes that are meant as text."""


class Texts(NamedTuple):
    """A list of texts."""


class Table(NamedTuple):
    """A table with a schema of its own."""

    schema: Mapping[str, Any]


class Tables(NamedTuple):
    """A list of tables of one schema."""

    schema: Mapping[str, Any]


Kind = Number | Numbers | Text | Texts | Table | Tables
# The fields of a table in their order.
Schema = Mapping[str, Kind]


def read_flat(data: bytes, schema: Schema) -> dict[str, Any]:
    """Read a buffer whose root is a table.

    Returns:
        Field to its value: a number, an array over ``data``, bytes, a table as another dictionary,
        or a list; None for what is no number and was left out.

    Raises:
        Corrupt: An offset leads outside, or a table has fields that the schema lacks.
    """
    return _Reader(data).table(0, schema)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _SHARED * len(data) + _SLACK

    def _take(self, place: int, size: int) -> bytes:
        self._require(place, size)
        return self._data[place : place + size]

    def _require(self, place: int, size: int) -> None:
        if not 0 <= place <= place + size <= len(self._data):
            raise Corrupt("an offset in the CatBoost model leads outside")
        self._left -= size
        if self._left < 0:
            raise Corrupt("the CatBoost model shares more than it holds")

    def _follow(self, place: int) -> int:
        distance: int = _U32.unpack(self._take(place, 4))[0]
        if not distance:
            raise Corrupt("an offset in the CatBoost model leads nowhere")
        return place + distance

    def table(self, place: int, schema: Schema) -> dict[str, Any]:
        """Read the table that an offset leads to."""
        start = self._follow(place)
        listed = start - _I32.unpack(self._take(start, 4))[0]
        size: int = _U16.unpack(self._take(listed, 2))[0]
        if size < 4 or size % 2:
            raise Corrupt("a table in the CatBoost model has an impossible size")
        fields = struct.unpack(f"<{size // 2}H", self._take(listed, size))[2:]
        if any(fields[len(schema) :]):
            raise Corrupt("the CatBoost model has parts that are not known: a newer one wrote it")
        offsets = (*fields, *(0 for _ in schema))
        return {
            name: self._field(start + offset if offset else None, kind)
            for (name, kind), offset in zip(schema.items(), offsets, strict=False)
        }

    def _field(self, place: int | None, kind: Kind) -> Any:
        if place is None:
            return kind.default if isinstance(kind, Number) else None
        if isinstance(kind, Number):
            return struct.unpack(kind.format, self._take(place, struct.calcsize(kind.format)))[0]
        if isinstance(kind, Table):
            return self.table(place, kind.schema)
        if isinstance(kind, Texts | Tables):
            return self._list(place, kind)
        dtype = np.dtype("u1" if isinstance(kind, Text) else kind.dtype)
        content = self._vector(place, dtype.itemsize)[1]
        return content if isinstance(kind, Text) else np.frombuffer(content, dtype)

    def _list(self, place: int, kind: Texts | Tables) -> list[Any]:
        first, content = self._vector(place, 4)
        places = range(first, first + len(content), 4)
        if isinstance(kind, Texts):
            return [self._vector(each, 1)[1] for each in places]
        return [self.table(each, kind.schema) for each in places]

    def _vector(self, place: int, size: int) -> tuple[int, bytes]:
        """Return where the elements of a list begin, and their bytes."""
        start = self._follow(place)
        count: int = _U32.unpack(self._take(start, 4))[0]
        return start + 4, self._take(start + 4, count * size)
