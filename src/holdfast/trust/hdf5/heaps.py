"""Heaps, which keep names, texts and what groups are made of, and the trees that index them.

Specification, sections III.A (trees), III.D (local heaps), III.E (global heap) and III.G (fractal
heaps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5.blocks import Blocks, Cursor

__all__ = ["FractalHeap", "global_object", "local_names", "records"]

_LARGEST: Final = 16 << 20
_MOST_NODES: Final = 100_000
_MOST_RECORDS: Final = 500_000
_DEEPEST: Final = 32


def local_names(blocks: Blocks, address: int) -> bytes:
    """Return the names of a local heap, one after another."""
    cursor = blocks.signed(address, 8 + 2 * blocks.length + blocks.width, b"HEAP", "local heap")
    cursor.take(4)
    size = cursor.length()
    cursor.length()
    start = cursor.needed("data")
    if size > _LARGEST:
        raise Corrupt(f"a local heap claims {size} bytes")
    return blocks.read(start, size, "a local heap")


def global_object(blocks: Blocks, address: int, index: int, most: int) -> bytes:
    """Return an object of a global heap, for example a text; at most so many bytes."""
    cursor = blocks.signed(address, 8 + blocks.length, b"GCOL", "global heap")
    cursor.take(4)
    end = address + min(cursor.length(), _LARGEST)
    at = address + 8 + blocks.length
    for _ in range(_MOST_RECORDS):
        if at + 8 + blocks.length > end:
            break
        cursor = blocks.cursor(at, 8 + blocks.length, "an object of a global heap")
        number = cursor.number(2)
        cursor.take(6)
        size = cursor.length()
        at += 8 + blocks.length
        if number == index:
            return blocks.read(at, min(size, most), "an object of a global heap")
        if not number:
            break
        at += -(-size // 8) * 8
    raise Corrupt(f"the global heap at byte {address} has no object {index}")


@dataclass(frozen=True, slots=True)
class _Tree:
    """The header of a tree of version 2: sizes of nodes, records and pointers."""

    kind: int
    node: int
    record: int
    depth: int
    pointers: tuple[tuple[int, int], ...]


def records(blocks: Blocks, address: int, kinds: tuple[int, ...]) -> Iterator[bytes]:
    """Yield the records of a tree of version 2, in no particular order."""
    cursor = blocks.signed(address, 22 + blocks.width + blocks.length, b"BTHD", "tree")
    cursor.take(1)
    kind, node, size, depth = (cursor.number(n) for n in (1, 4, 2, 2))
    cursor.take(2)
    root, count = cursor.address(), cursor.number(2)
    if kind not in kinds or not 0 < size < node <= _LARGEST or depth > _DEEPEST:
        raise Corrupt(f"the tree at byte {address} is none that is read here")
    if root is None:
        return
    tree = _Tree(kind, node, size, depth, _pointer_sizes(blocks, node, size, depth))
    todo, seen, left = [(root, count, depth)], {root}, _MOST_RECORDS
    while todo:
        place, count, level = todo.pop()
        left -= count
        if left < 0 or len(seen) > _MOST_NODES:
            raise Corrupt(f"the tree at byte {address} is larger than is read here")
        cursor = _node(blocks, tree, place, level)
        for _ in range(count):
            yield cursor.take(size)
        for child in _children(cursor, tree, count, level):
            if child[0] not in seen:
                seen.add(child[0])
                todo.append(child)


def _pointer_sizes(
    blocks: Blocks, node: int, record: int, depth: int
) -> tuple[tuple[int, int], ...]:
    """Return per level how wide the two counts of a pointer to a node of that level are."""
    most = max(0, node - 10) // record
    width, total, total_width = _width(most), most, 0
    sizes = [(width, 0)]
    for _ in range(depth):
        pointer = blocks.width + width + total_width
        most = max(0, node - 10 - pointer) // (record + pointer)
        total = (most + 1) * total + most
        total_width = _width(total)
        sizes.append((width, total_width))
    return tuple(sizes)


def _width(limit: int) -> int:
    return (max(1, limit).bit_length() + 7) // 8


def _node(blocks: Blocks, tree: _Tree, place: int, level: int) -> Cursor:
    signature, what = (b"BTIN", "inner node") if level else (b"BTLF", "leaf")
    cursor = blocks.signed(place, tree.node, signature, what)
    cursor.take(2)
    return cursor


def _children(
    cursor: Cursor, tree: _Tree, count: int, level: int
) -> Iterator[tuple[int, int, int]]:
    if not level:
        return
    width, total = tree.pointers[level - 1]
    for _ in range(count + 1):
        place, number = cursor.needed("child"), cursor.number(width)
        cursor.take(total)
        yield place, number, level - 1


class FractalHeap:
    """A heap whose objects are found by ids."""

    def __init__(self, blocks: Blocks, address: int) -> None:
        """Read the heap's header; raises ``Corrupt``."""
        self._blocks = blocks
        size = 22 + 12 * blocks.length + 3 * blocks.width
        cursor = blocks.signed(address, size, b"FRHP", "fractal heap")
        cursor.take(1)
        self._id_size = cursor.number(2)
        filtered = cursor.number(2)
        self._checked = bool(cursor.number(1) & 2)
        largest = cursor.number(4)
        cursor.length()
        self._huge = cursor.address()
        cursor.length()
        cursor.address()
        for _ in range(8):
            cursor.length()
        self._columns = cursor.number(2)
        self._first, self._largest = cursor.length(), cursor.length()
        bits = cursor.number(2)
        cursor.number(2)
        self._root, self._rows = cursor.address(), cursor.number(2)
        if filtered or not self._possible(bits):
            raise Corrupt(f"the fractal heap at byte {address} is none that is read here")
        self._place = (bits + 7) // 8
        # The block's size is a power of two, and this many bits count its bytes.
        self._length = min((self._largest.bit_length() + 6) // 8, _width(largest))

    def _possible(self, bits: int) -> bool:
        sizes = self._first, self._largest, self._columns
        powers = all(size > 0 and not size & (size - 1) for size in sizes)
        return powers and self._first <= self._largest <= _LARGEST and bits <= 64

    def get(self, name: bytes) -> bytes:
        """Return an object by its id.

        Raises:
            Corrupt: There is none.
        """
        cursor = Cursor(name, self._blocks, "an id of a fractal heap")
        kind = cursor.number(1)
        if kind >> 4 & 3 == 2:  # it is in the id itself
            return cursor.take((kind & 15) + 1)
        if kind >> 4 & 3 == 1:
            return self._get_huge(cursor)
        place, size = cursor.number(self._place), cursor.number(self._length)
        address, inside = self._block(place)
        return self._blocks.read(address + inside, size, "an object of a fractal heap")

    def _get_huge(self, cursor: Cursor) -> bytes:
        if self._id_size > self._blocks.width + self._blocks.length:
            return self._large(cursor.needed("place"), cursor.length())
        number = cursor.number(min(cursor.left, self._blocks.length))
        for record in records(self._blocks, self._huge, (1,)) if self._huge is not None else ():
            found = Cursor(record, self._blocks, "a record of a fractal heap")
            place, size = found.needed("place"), found.length()
            if found.length() == number:
                return self._large(place, size)
        raise Corrupt(f"a fractal heap has no object {number}")

    def _large(self, place: int, size: int) -> bytes:
        if size > _LARGEST:
            raise Corrupt(f"an object of a fractal heap claims {size} bytes")
        return self._blocks.read(place, size, "an object of a fractal heap")

    def _block(self, place: int) -> tuple[int, int]:
        """Return the address of the block that holds a place, and the place inside the block."""
        address, rows = self._root, self._rows
        direct_rows = (self._largest // self._first).bit_length() + 1
        for _ in range(_DEEPEST):
            if address is None:
                break
            if not rows:
                return address, place
            row, start, size = 0, 0, self._first
            while row < rows and place >= start + size * self._columns:
                start += size * self._columns
                row += 1
                size = self._first << max(0, row - 1)
            column, place = divmod(place - start, size)
            if row >= rows:
                break
            before = 5 + self._blocks.width + self._place
            entry = before + (row * self._columns + column) * self._blocks.width
            cursor = self._blocks.cursor(address + entry, self._blocks.width, "a fractal heap")
            address = cursor.address()
            rows = 0
            if row >= direct_rows:
                rows = (size // (self._first * self._columns)).bit_length()
        raise Corrupt("an id of a fractal heap leads nowhere")
