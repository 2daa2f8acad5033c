"""Blocks of an HDF5 file by their addresses, within an allowance; and numbers out of a block."""

from __future__ import annotations

from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.source import Source

__all__ = ["Blocks", "Cursor"]

_MOST_READ: Final = 96 << 20
_MOST_BLOCKS: Final = 1_000_000
_AHEAD: Final = 1 << 11


class Blocks:
    """Reads blocks.

    Attributes:
        width: Bytes of an address.
        length: Bytes of a length.
        undefined: The address that means none.
    """

    def __init__(self, source: Source, width: int = 8, length: int = 8) -> None:
        self._source = source
        self.width = width
        self.length = length
        self.undefined = (1 << (8 * width)) - 1
        self._left = _MOST_READ
        self._blocks = _MOST_BLOCKS
        self._kept = b""
        self._kept_at = 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._source.size

    def read(self, address: int, size: int, what: str) -> bytes:
        """Return a block.

        Raises:
            Corrupt: It is beyond the file's end, or more was read than any file needs.
        """
        self._blocks -= 1
        self._left -= size
        if self._left < 0 or self._blocks < 0:
            raise Corrupt(f"its structure is larger than is read here ({what})")
        inside = address - self._kept_at
        if inside >= 0 and inside + size <= len(self._kept):
            return self._kept[inside : inside + size]
        data = self._source.read(address, max(size, _AHEAD))
        if len(data) < size:
            raise Corrupt(f"{what} at byte {address} is beyond the file's end")
        if size <= _AHEAD:  # small blocks lie side by side
            self._kept, self._kept_at = data, address
        return data[:size]

    def cursor(self, address: int, size: int, what: str) -> Cursor:
        """Return a block to take numbers from; raises ``Corrupt`` as ``read``."""
        return Cursor(self.read(address, size, what), self, what)

    def signed(self, address: int, size: int, signature: bytes, what: str) -> Cursor:
        """Return a block, after its signature.

        Raises:
            Corrupt: It has another signature.
        """
        cursor = self.cursor(address, size, what)
        if cursor.take(len(signature)) != signature:
            raise Corrupt(f"there is no {what} at byte {address}")
        return cursor


class Cursor:
    """Takes numbers from a block; raises ``Corrupt`` where it ends."""

    def __init__(self, data: bytes, blocks: Blocks, what: str) -> None:
        self.data = data
        self.at = 0
        self._blocks = blocks
        self._what = what

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= count <= self.left:
            raise Corrupt(f"{self._what} is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        """Return the next unsigned number of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def address(self) -> int | None:
        """Return the next address, None where it is undefined."""
        value = self.number(self._blocks.width)
        return None if value == self._blocks.undefined else value

    def needed(self, what: str) -> int:
        """Return the next address, which must be defined."""
        value = self.address()
        if value is None:
            raise Corrupt(f"{self._what} has no {what}")
        return value

    def length(self) -> int:
        """Return the next length."""
        return self.number(self._blocks.length)
