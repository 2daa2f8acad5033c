"""Reading the index of a TensorFlow checkpoint: which tensors it keeps, and where.

Sources of the format: ``tensor_bundle.proto`` of TensorFlow, and for the sorted table around it
``doc/table_format.md`` of LevelDB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.source import Source
from holdfast.trust.tf_messages import DTYPES, dtype_of, shape_of

__all__ = ["TfCheckpoint", "TfTensor", "is_checkpoint", "read_checkpoint"]

_MAGIC: Final = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_FOOTER: Final = 48
_TRAILER: Final = 5  # kind of compression, checksum
_LARGEST_BLOCK: Final = 32 << 20
_MOST_TENSORS: Final = 200_000
_MOST_SHARDS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TfTensor:
    """A tensor of a checkpoint.

    Attributes:
        name: Its key.
        dtype: Name of its type.
        shape: Dimensions.
        shard: Which file of data.
        start: Byte in that file.
        size: Bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    start: int
    size: int


@dataclass(slots=True)
class TfCheckpoint:
    """What an index says.

    Attributes:
        shards: How many files of data there are.
        tensors: In the order of their names.
        faults: What is a lie.
        unread: What is told and not looked into: slices, types without a size.
    """

    shards: int = 0
    tensors: list[TfTensor] = field(default_factory=list)
    faults: list[tuple[str, int | None]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def needs(self) -> dict[str, int]:
        """Return how the name of each file of data ends, to the bytes that it must have.

        Raises:
            Corrupt: The index lies, or a part of it is not looked into.
        """
        for what in (*(what for what, _ in self.faults), *self.unread):
            raise Corrupt(f"in the index of the checkpoint {what}")
        found = dict.fromkeys(range(self.shards), 0)
        for tensor in self.tensors:
            found[tensor.shard] = max(found[tensor.shard], tensor.start + tensor.size)
        return {f".data-{n:05d}-of-{self.shards:05d}": size for n, size in found.items()}


def is_checkpoint(source: Source) -> bool:
    """Say whether the bytes end as an index does."""
    return source.size >= _FOOTER and source.read(source.size - 8, 8) == _MAGIC


def read_checkpoint(source: Source) -> TfCheckpoint:
    """Read an index.

    Raises:
        Corrupt: It is damaged.
    """
    if not is_checkpoint(source):
        raise Corrupt("this is no index of a TensorFlow checkpoint")
    found = TfCheckpoint()
    names: set[bytes] = set()
    for key, value in _pairs(source):
        if key in names:
            found.faults.append((f"the key {key!r:.100} is there twice", None))
        names.add(key)
        if key:
            found.tensors.append(_tensor(key, protobuf.table(value), found))
        else:
            header = protobuf.table(value)
            found.shards = header.signed(1)
            if header.signed(2):
                found.unread.append("the numbers are of another byte order")
        if len(names) > _MOST_TENSORS or len(found.faults) > _MOST_TENSORS:
            raise Corrupt(f"it has more than {_MOST_TENSORS:,} tensors")
    if not 0 < found.shards <= _MOST_SHARDS:
        found.faults.append((f"there are {found.shards} files of data", None))
    return found


def _tensor(key: bytes, entry: protobuf.Table, found: TfCheckpoint) -> TfTensor:
    tensor = TfTensor(
        name=key.decode("utf-8", "replace")[:1000],
        dtype=dtype_of(entry.signed(1)),
        shape=shape_of(entry, 2) or (),
        shard=entry.signed(3),
        start=entry.signed(4),
        size=entry.signed(5),
    )
    said = f"the tensor {tensor.name!r:.100}"
    if min(tensor.start, tensor.size, *tensor.shape, 0) < 0:
        raise Corrupt(f"{said} has no possible shape or place")
    if not 0 <= tensor.shard < max(1, found.shards):
        found.faults.append((f"{said} is in a shard that is none", None))
    width = DTYPES.get(entry.signed(1), ("", 0))[1]
    if entry.all(7):  # its slices have keys of their own, which are no texts
        found.unread.append(f"{said} is put together of slices")
    elif width or tensor.dtype == "string":
        items = math.prod(tensor.shape)
        # Each text has a length of a byte or more.
        if tensor.size != items * width if width else tensor.size < items:
            found.faults.append((f"{said} contradicts itself", None))
    else:
        found.unread.append(f"{said} is of the type {tensor.dtype}")
    return tensor


def _pairs(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of the whole table."""
    footer = source.exactly(source.size - _FOOTER, _FOOTER, "the footer")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    last = -1
    for _, value in _entries(_block(source, index)):
        handle, _ = _handle(value, 0)
        if handle[0] <= last:
            raise Corrupt("the blocks of the index are out of order")
        last = handle[0]
        yield from _entries(_block(source, handle))


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return where a block is, its size, and where its handle ends."""
    start, at = _varint(data, at)
    size, at = _varint(data, at)
    return (start, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    raise Corrupt("a number of the index is cut short")


def _block(source: Source, handle: tuple[int, int]) -> bytes:
    start, size = handle
    if size > _LARGEST_BLOCK:
        raise Corrupt(f"a block claims {size} bytes")
    data = source.exactly(start, size + _TRAILER, "a block")
    if data[size]:
        raise Corrupt("a block is compressed, which is not read here")
    return data[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values; each key repeats the beginning of the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if len(block) < 4 or end < 0:
        raise Corrupt("a block of the index is damaged")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        more, at = _varint(block, at)
        size, at = _varint(block, at)
        if shared > len(key) or at + more + size > end:
            raise Corrupt("a block of the index is damaged")
        key = key[:shared] + block[at : at + more]
        at += more + size
        yield key, block[at - size : at]
