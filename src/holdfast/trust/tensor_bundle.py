"""Reading the index of a TensorFlow checkpoint: which tensors lie where in its data files.

An index is a sorted table of keys and small messages in blocks. Sources of the format:
``tensorflow/core/lib/io/table_format.txt`` and ``tensorflow/core/protobuf/tensor_bundle.proto``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.protobuf import Table

__all__ = ["Stored", "check_bundle", "read_bundle", "shard_name"]

_FOOTER: Final = 48
_MAGIC: Final = 0xDB4775248B80FB57
_TRAILER: Final = 5  # kind of compression, checksum
_MOST_ENTRIES: Final = 1_000_000
_MOST_SHARDS: Final = 10_000
_MOST_RANK: Final = 254

# Number in DataType to name and bytes per item; 0 bytes: texts, whose size the index says.
DTYPES: Final[dict[int, tuple[str, int]]] = {
    1: ("float32", 4), 2: ("float64", 8), 3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2),
    6: ("int8", 1), 7: ("string", 0), 8: ("complex64", 8), 9: ("int64", 8), 10: ("bool", 1),
    14: ("bfloat16", 2), 17: ("uint16", 2), 18: ("complex128", 16), 19: ("float16", 2),
    22: ("uint32", 4), 23: ("uint64", 8), 24: ("float8_e5m2", 1), 25: ("float8_e4m3fn", 1),
}  # fmt: skip


class Stored(NamedTuple):
    """A tensor of a checkpoint.

    Attributes:
        key: Its key.
        dtype: Name of the items' type.
        shape: Dimensions.
        shard: Number of the data file.
        offset: Where in the file.
        size: How many bytes.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_bundle(data: bytes | memoryview) -> tuple[int, list[Stored]]:
    """Read an index.

    Returns:
        The number of data files, and the tensors.

    Raises:
        Corrupt: It is damaged, contradicts itself or is beyond a limit.
    """
    view = memoryview(data)
    shards: int | None = None
    found: dict[str, Stored] = {}
    for key, value in _entries(view):
        if not key:
            shards = _shards(protobuf.table(value))
        elif key in found:
            raise Corrupt(f"the index of a checkpoint has {key!r:.100} twice")
        else:
            found[key] = _stored(key, protobuf.table(value))
        if len(found) > _MOST_ENTRIES:
            raise Corrupt(f"the index of a checkpoint has more than {_MOST_ENTRIES:,} entries")
    if shards is None:
        raise Corrupt("the index of a checkpoint has no header")
    return shards, list(found.values())


def shard_name(number: int, shards: int) -> str:
    """Return how a data file's name ends."""
    return f".data-{number:05d}-of-{shards:05d}"


def check_bundle(index: bytes | memoryview, sizes: Mapping[str, int]) -> list[Stored]:
    """Read an index and compare it with its data files.

    Args:
        index: Bytes of the index.
        sizes: Bytes of each data file by how its name ends: ``.data-00000-of-00001``.

    Raises:
        Corrupt: It is damaged, a data file is missing, or a tensor lies beyond its end.
    """
    shards, tensors = read_bundle(index)
    for number in range(shards):
        if shard_name(number, shards) not in sizes:
            raise Corrupt(f"the checkpoint has no file …{shard_name(number, shards)}")
    for each in tensors:
        if each.shard >= shards:
            raise Corrupt(f"{each.key[:100]!r} is in data file {each.shard} of {shards}")
        if each.offset + each.size > sizes[shard_name(each.shard, shards)]:
            raise Corrupt(f"{each.key[:100]!r} lies beyond the end of its data file")
    return tensors


def _shards(header: Table) -> int:
    shards = header.signed(1)
    if not 0 < shards <= _MOST_SHARDS or header.signed(2):
        raise Corrupt(f"a checkpoint says it has {shards} data files, or is of another byte order")
    return shards


def _stored(key: str, entry: Table) -> Stored:
    number = entry.signed(1)
    if number not in DTYPES:
        raise Corrupt(f"{key[:100]!r} in the checkpoint has the dtype {number}, which is not read")
    if entry.all(7):
        raise Corrupt(f"{key[:100]!r} in the checkpoint is put together of slices")
    dtype, width = DTYPES[number]
    shape = shape_of(entry, 2) or ()
    shard, offset, size = entry.signed(3), entry.signed(4), entry.signed(5)
    if min(shard, offset, size, *shape, 0) < 0:
        raise Corrupt(f"{key[:100]!r} in the checkpoint has a negative size or place")
    if width and math.prod(shape) * width != size:
        raise Corrupt(f"{key[:100]!r} in the checkpoint has {size:,} bytes for {list(shape)[:8]}")
    if not width and math.prod(shape) > size:  # each text has a length of a byte or more
        raise Corrupt(f"{key[:100]!r} in the checkpoint has {size:,} bytes for {list(shape)[:8]}")
    return Stored(key, dtype, tuple(shape), shard, offset, size)


def shape_of(message: Table, number: int) -> tuple[int, ...] | None:
    """Read a field that is a TensorShapeProto; None where the rank is not known.

    Raises:
        Corrupt: It has more dimensions than a tensor can have.
    """
    field = message.one(number)
    if field is None:
        return ()
    shape = field.table()
    if shape.signed(3):
        return None
    dims = shape.all(2)
    if len(dims) > _MOST_RANK:
        raise Corrupt(f"a shape has {len(dims)} dimensions")
    return tuple(dim.table().signed(1) for dim in dims)


def _entries(view: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Yield keys and values in the order of the table."""
    if len(view) < _FOOTER or int.from_bytes(view[-8:], "little") != _MAGIC:
        raise Corrupt("this is no index of a TensorFlow checkpoint")
    footer = view[-_FOOTER:-8]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    last = -1
    for _, value in _block(view, index):
        handle, _ = _handle(value, 0)
        if handle[0] <= last:
            raise Corrupt("the blocks of a checkpoint's index are out of order")
        last = handle[0]
        for key, entry in _block(view, handle):
            try:
                yield str(key, "utf-8"), entry
            except UnicodeDecodeError as error:
                raise Corrupt("a key of a checkpoint's index is not UTF-8") from error


def _block(view: memoryview, handle: tuple[int, int]) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the entries of a block; each key leaves out what it shares with the one before."""
    start, size = handle
    if start + size + _TRAILER > len(view):
        raise Corrupt("a block of a checkpoint's index lies beyond its end")
    if view[start + size]:
        raise Corrupt("the index of a checkpoint is compressed, which TensorFlow does not do")
    block = view[start : start + size]
    if size < 4:
        raise Corrupt("a block of a checkpoint's index is cut short")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise Corrupt("a block of a checkpoint's index is cut short")
    key, at = b"", 0
    while at < end:
        shared, at = _number(block, at)
        fresh, at = _number(block, at)
        length, at = _number(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise Corrupt("an entry of a checkpoint's index lies beyond its block")
        key = key[:shared] + bytes(block[at : at + fresh])
        at += fresh
        yield key, block[at : at + length]
        at += length


def _handle(view: memoryview, at: int) -> tuple[tuple[int, int], int]:
    start, at = _number(view, at)
    size, at = _number(view, at)
    return (start, size), at


def _number(view: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(view) and shift < 64:
        byte = view[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise Corrupt("a number in a checkpoint's index is cut short")
