"""Universal Binary JSON as XGBoost writes it, read within limits and without copying numbers.

Sources: https://ubjson.org, and for the 64-bit lengths and typed arrays that are always used
``src/common/json.cc`` in XGBoost.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["Numbers", "Reader", "Special", "read_ubj"]

_DEPTH: Final = 16
_LONGEST_TEXT: Final = 1 << 24
_KEY: Final = struct.Struct(">cq")
_TYPED: Final = struct.Struct(">cccq")
_DTYPES: Final[dict[bytes, np.dtype[Any]]] = {
    b"d": np.dtype(">f4"), b"D": np.dtype(">f8"), b"l": np.dtype(">i4"), b"L": np.dtype(">i8"),
    b"I": np.dtype(">i2"), b"U": np.dtype("u1"), b"i": np.dtype("i1"),
}  # fmt: skip
_SIZES: Final = {code: dtype.itemsize for code, dtype in _DTYPES.items()}
_NUMBERS: Final = {
    code: struct.Struct(">" + letter)
    for code, letter in zip(_DTYPES, ("f", "d", "i", "q", "h", "B", "b"), strict=True)
}
_BY_MARKER: Final = {ord(code): number for code, number in _NUMBERS.items()}
_ATOMS: Final = {b"T": True, b"F": False, b"Z": None}


class Numbers(NamedTuple):
    """A typed array: its numbers are not looked at yet.

    Attributes:
        dtype: Big-endian.
        data: The bytes.
    """

    dtype: np.dtype[Any]
    data: bytes

    def array(self) -> np.ndarray[Any, Any]:
        """Return the numbers, one axis."""
        return np.frombuffer(self.data, self.dtype)


class Reader:
    """A place in a document, from which values are read.

    Attributes:
        data: The document.
        end: Its length.
        place: The byte that is read next.
        special: Keys whose values are read by a function of the caller's.
    """

    def __init__(self, data: bytes, special: Mapping[str, Special]) -> None:
        self.data = data
        self.end = len(data)
        self.place = 0
        self.special = special

    def marker(self) -> bytes:
        """Return the next byte without reading it; nothing at the end."""
        return self.data[self.place : self.place + 1]

    def count_at(self, place: int) -> int:
        """Return the eight bytes there as a number, -1 beyond the end."""
        if not 0 <= place <= self.end - 8:
            return -1
        return int.from_bytes(self.data[place : place + 8], "big", signed=True)

    def announced(self) -> int:
        """Read the head of a list that says how long it is, and return that."""
        head = self.data[self.place : self.place + 3]
        length = self.count_at(self.place + 3)
        self.place += 11
        if head != b"[#L" or not 0 <= length <= self.end - self.place:
            raise Corrupt(f"the UBJSON has no list of a possible length at byte {self.place - 11}")
        return length

    def value(self, depth: int) -> Any:
        """Read a value that is nested so deeply."""
        code = self.marker()
        self.place += 1
        if code == b"[":
            return self.array(depth)
        if code == b"{":
            return self.table(depth)
        if code == b"S":
            return self.text()
        if code in _NUMBERS:
            (number,) = _NUMBERS[code].unpack_from(self.data, self.place)
            self.place += _SIZES[code]
            return number
        if code in _ATOMS:
            return _ATOMS[code]
        raise Corrupt(f"the UBJSON has the unknown marker {code!r} at byte {self.place - 1}")

    def text(self) -> str:
        """Read a length and as many bytes of UTF-8."""
        code, length = _KEY.unpack_from(self.data, self.place)
        start = self.place + 9
        if code != b"L" or not 0 <= length <= min(_LONGEST_TEXT, self.end - start):
            raise Corrupt(f"the UBJSON has a text of impossible length at byte {self.place}")
        self.place = start + length
        return str(self.data[start : self.place], "utf-8")

    def table(self, depth: int) -> dict[str, Any]:
        """Read keys and values up to a brace; no key is there twice."""
        if depth > _DEPTH:
            raise Corrupt("the UBJSON is nested too deeply")
        data, found = self.data, {}
        while data[self.place] != 0x7D:  # }
            key = self.text()
            if key in found:
                raise Corrupt(f"the UBJSON has the key {key!r:.60} twice")
            special = self.special.get(key)
            found[key] = special(self, depth + 1) if special else self.value(depth + 1)
        self.place += 1
        return found

    def array(self, depth: int) -> Any:
        """Read a typed array as ``Numbers``, or a list."""
        if depth > _DEPTH:
            raise Corrupt("the UBJSON is nested too deeply")
        if self.data[self.place] != 0x24:  # $, which begins a typed array
            return self.items(depth)
        kind, mark, code, length = _TYPED.unpack_from(self.data, self.place + 1)
        start = self.place + 12
        size = _SIZES.get(kind, 0)
        if (
            (mark, code) != (b"#", b"L")
            or not size
            or not 0 <= length <= (self.end - start) // size
        ):
            raise Corrupt(f"the UBJSON has an array of impossible length at byte {self.place}")
        self.place = start + length * size
        return Numbers(_DTYPES[kind], self.data[start : self.place])

    def items(self, depth: int) -> list[Any]:
        """Read values up to a bracket, or as many as are announced."""
        found: list[Any] = []
        if self.data[self.place] == 0x23:  # #
            code, length = _KEY.unpack_from(self.data, self.place + 1)
            self.place += 10
            if code != b"L" or not 0 <= length <= self.end - self.place:
                raise Corrupt(f"the UBJSON announces an impossible count at byte {self.place}")
            while len(found) < length:
                number = _BY_MARKER.get(self.data[self.place])
                if number is None:
                    found.append(self.value(depth + 1))
                    continue
                found.extend(number.unpack_from(self.data, self.place + 1))
                self.place += 1 + number.size
            return found
        while self.data[self.place] != 0x5D:  # ]
            found.append(self.value(depth + 1))
        self.place += 1
        return found


Special: TypeAlias = Callable[[Reader, int], Any]


def read_ubj(
    data: bytes | memoryview, special: Mapping[str, Special] = MappingProxyType({})
) -> Any:
    """Read a whole document; typed arrays are ``Numbers``.

    Args:
        data: The document.
        special: Key to what reads its values, wherever it is met.

    Raises:
        Corrupt: It is damaged, ends too early or late, or is nested too deeply.
    """
    reader = Reader(bytes(data), special)
    try:
        value = reader.value(0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Corrupt(f"the UBJSON ends too early or is damaged: {error!s:.80}") from error
    if reader.place != reader.end:
        raise Corrupt(f"{reader.end - reader.place} bytes follow the end of the UBJSON")
    return value
