"""Where the chunks of an HDF5 dataset are, by each of the indexes that a chunked one may have.

Source of the format: "HDF5 File Format Specification Version 3.0", sections III.A.1 (trees of
version 1), IV.A.2.i (layouts of versions 3 and 4) and VII (fixed arrays).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt, Unsupported
from holdfast.trust.hdf5.blocks import Blocks, Cursor
from holdfast.trust.hdf5.heaps import records

__all__ = ["Chunk", "Chunked", "chunked", "chunks"]

_MOST_CHUNKS: Final = 1_000_000
_DEEPEST: Final = 32
_LARGEST: Final = 1 << 32
_CHUNKED: Final = 2
_TREE, _SINGLE, _IMPLICIT, _FIXED, _EXTENSIBLE, _NEW_TREE = range(6)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk.

    Attributes:
        at: Where in the dataset its first element is.
        address: Where its bytes are in the file.
        size: How many they are there.
        skipped: Bit mask of the filters that it was not put through.
    """

    at: tuple[int, ...]
    address: int
    size: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """How a dataset is cut into chunks.

    Attributes:
        shape: Of a chunk.
        size: Bytes of a chunk, before filters.
        index: Which of the indexes it has.
        address: Where the index is; None when there are no chunks.
        grid: How many chunks there are along each dimension.
        facts: What the layout says for its index.
    """

    shape: tuple[int, ...]
    size: int
    index: int
    address: int | None
    grid: tuple[int, ...]
    facts: tuple[int, ...] = ()


def chunked(cursor: Cursor, shape: Sequence[int], width: int) -> Chunked:
    """Read a layout message.

    Args:
        cursor: The message.
        shape: Of the dataset.
        width: Bytes of an element.

    Raises:
        Corrupt: It contradicts the dataset.
        Unsupported: It is of releases of HDF5 before 1.6.3.
    """
    version, kind = cursor.number(1), cursor.number(1)
    if version not in (3, 4, 5):
        raise Unsupported(f"its layout is of version {version}, which is not read.")
    if kind != _CHUNKED:
        raise Corrupt("its layout has no chunks")
    facts: tuple[int, ...] = ()
    if version == 3:
        rank, index, address = cursor.number(1), _TREE, cursor.address()
        sizes = [cursor.number(4) for _ in range(rank)]
    else:
        flags, rank, each = (cursor.number(1) for _ in range(3))
        sizes = [cursor.number(each) for _ in range(rank)]
        index = cursor.number(1)
        facts = _facts(cursor, index, flags)
        address = cursor.address()
    step = tuple(sizes[:-1])
    if rank != len(shape) + 1 or sizes[-1] != width or not all(sizes):
        raise Corrupt("its chunks are of another shape or type than it is itself")
    size = math.prod(sizes)
    grid = tuple(-(-length // part) for length, part in zip(shape, step, strict=True))
    if size > _LARGEST or math.prod(grid) > _MOST_CHUNKS:
        raise Corrupt(f"it has {math.prod(grid)} chunks of {size} bytes")
    return Chunked(step, size, index, address, grid, facts)


def _facts(cursor: Cursor, index: int, flags: int) -> tuple[int, ...]:
    """Read what a layout of version 4 says for its index."""
    if index == _SINGLE:
        return (cursor.length(), cursor.number(4)) if flags & 2 else ()
    if index == _FIXED:
        return (cursor.number(1),)
    if index == _EXTENSIBLE:
        return tuple(cursor.number(1) for _ in range(5))
    if index == _NEW_TREE:
        return cursor.number(4), cursor.number(1), cursor.number(1)
    if index != _IMPLICIT:
        raise Corrupt(f"there is no index {index} of chunks")
    return ()


def chunks(blocks: Blocks, described: Chunked, *, filtered: bool) -> Iterator[Chunk]:
    """Yield the chunks that are there; none of them twice.

    Raises:
        Corrupt: The index is damaged.
        Unsupported: It is an index that is not read.
    """
    if described.address is None or not math.prod(described.grid):
        return
    find = _INDEXES.get(described.index)
    if find is None:
        raise Unsupported(
            "its chunks are kept in an index that is not read (extensible array).",
            hint="h5repack -l CONTI old.h5 new.h5  # the same data, each dataset in one piece",
        )
    seen: set[tuple[int, ...]] = set()
    for chunk in find(blocks, described, filtered):
        steps = zip(chunk.at, described.shape, described.grid, strict=True)
        if any(at % step or at // step >= most for at, step, most in steps):
            continue  # it is beyond the shape: the dataset was made smaller
        if chunk.at in seen:
            raise Corrupt("a chunk is there twice")
        seen.add(chunk.at)
        yield chunk


def _places(described: Chunked) -> Iterator[tuple[int, ...]]:
    """Yield where the chunks begin, in the order in which arrays of them are kept."""
    for place in itertools.product(*map(range, described.grid)):
        yield tuple(n * step for n, step in zip(place, described.shape, strict=True))


def _in_tree(blocks: Blocks, described: Chunked, filtered: bool) -> Iterator[Chunk]:  # noqa: FBT001 - called by the table
    """Follow a tree of version 1: keys of size, filter mask and place, with addresses between."""
    del filtered
    rank = len(described.shape) + 1
    key, head = 8 + 8 * rank, 8 + 2 * blocks.width
    todo = [(described.address or 0, _DEEPEST)]
    visited = {described.address}
    while todo:
        address, above = todo.pop()
        cursor = blocks.signed(address, head, b"TREE", "tree of chunks")
        kind, level, used = cursor.number(1), cursor.number(1), cursor.number(2)
        if kind != 1 or level >= above:
            raise Corrupt(f"the tree of chunks at byte {address} is none")
        cursor = blocks.cursor(address + head, used * (key + blocks.width), "a tree of chunks")
        for _ in range(used):
            size, skipped = cursor.number(4), cursor.number(4)
            at = tuple(cursor.number(8) for _ in range(rank))
            child = cursor.needed("chunk")
            if not level:
                yield Chunk(at[:-1], child, size, skipped)
            elif child not in visited:
                visited.add(child)
                todo.append((child, level))


def _single(blocks: Blocks, described: Chunked, filtered: bool) -> Iterator[Chunk]:  # noqa: FBT001 - same
    del blocks, filtered
    size, skipped = described.facts or (described.size, 0)
    yield Chunk((0,) * len(described.shape), described.address or 0, size, skipped)


def _implicit(blocks: Blocks, described: Chunked, filtered: bool) -> Iterator[Chunk]:  # noqa: FBT001 - same
    del blocks, filtered
    for number, at in enumerate(_places(described)):
        yield Chunk(at, (described.address or 0) + number * described.size, described.size, 0)


def _in_array(blocks: Blocks, described: Chunked, filtered: bool) -> Iterator[Chunk]:  # noqa: FBT001 - same
    """Read a fixed array: one record for each chunk of the grid, in pages when they are many."""
    head = blocks.signed(
        described.address or 0, 8 + blocks.length + blocks.width, b"FAHD", "array of chunks"
    )
    version, _, width, page_bits = (head.number(1) for _ in range(4))
    count, block = head.length(), head.address()
    size_width = width - blocks.width - 4
    if version or count != math.prod(described.grid) or (filtered and not 0 < size_width <= 8):
        raise Corrupt("an array of chunks is not of its dataset")
    if block is None:
        return
    start = block + 6 + blocks.width
    page, paged = 1 << min(page_bits, 32), count > 1 << min(page_bits, 32)
    pages = -(-count // page)
    blocks.signed(block, 6 + blocks.width, b"FADB", "array of chunks")
    used = blocks.read(start, -(-pages // 8), "an array of chunks") if paged else b""
    start += len(used) + 4 if paged else 0
    for number, at in enumerate(_places(described)):
        if paged and not used[number // page // 8] >> (7 - number // page % 8) & 1:
            continue
        where = start + number * width + (number // page * 4 if paged else 0)
        cursor = blocks.cursor(where, width, "an array of chunks")
        address = cursor.address()
        if address is None:
            continue
        size = cursor.number(size_width) if filtered else described.size
        yield Chunk(at, address, size, cursor.number(4) if filtered else 0)


def _in_new_tree(blocks: Blocks, described: Chunked, filtered: bool) -> Iterator[Chunk]:  # noqa: FBT001 - same
    """Read a tree of version 2, whose records hold numbers of chunks along each dimension."""
    rank = len(described.shape)
    for record in records(blocks, described.address or 0, (10, 11)):
        cursor = Cursor(record, blocks, "a record of a tree of chunks")
        address, size, skipped = cursor.needed("chunk"), described.size, 0
        if filtered:
            size, skipped = (
                cursor.number(len(record) - blocks.width - 4 - 8 * rank),
                cursor.number(4),
            )
        place = tuple(cursor.number(8) for _ in range(rank))
        at = tuple(n * step for n, step in zip(place, described.shape, strict=True))
        yield Chunk(at, address, size, skipped)


_INDEXES: Final = {
    _TREE: _in_tree,
    _SINGLE: _single,
    _IMPLICIT: _implicit,
    _FIXED: _in_array,
    _NEW_TREE: _in_new_tree,
}
