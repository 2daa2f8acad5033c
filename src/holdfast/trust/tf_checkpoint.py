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
from holdfast.trust.tf_graph import DTYPES

__all__ = ["TfCheckpoint", "TfTensor", "is_checkpoint", "read_checkpoint"]

_MAGIC: Final = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_FOOTER: Final = 48
_LARGEST_BLOCK: Final = 32 << 20
_MOST_TENSORS: Final = 200_000
# Bytes of an element, by dtype; texts and resources have none of their own.
_SIZES: Final = {
    "float32": 4, "float64": 8, "int32": 4, "uint8": 1, "int16": 2, "int8": 1, "complex64": 8,
    "int64": 8, "bool": 1, "bfloat16": 2, "uint16": 2, "complex128": 16, "float16": 2, "uint32": 4,
    "uint64": 8,
}  # fmt: skip


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
    """

    shards: int = 0
    tensors: list[TfTensor] = field(default_factory=list)
    faults: list[tuple[str, int | None]] = field(default_factory=list)


def is_checkpoint(source: Source) -> bool:
    """Say whether the bytes end as an index does."""
    return source.size >= _FOOTER and source.read(source.size - 8, 8) == _MAGIC


def read_checkpoint(source: Source) -> TfCheckpoint:
    """Read an index.

    Raises:
        Corrupt: It is damaged.
    """
    found = TfCheckpoint()
    footer = source.exactly(source.size - _FOOTER, _FOOTER, "the footer")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    for _, handle in _entries(_block(source, index)):
        for key, value in _entries(_block(source, _handle(handle, 0)[0])):
            if not key:
                found.shards = protobuf.table(value).signed(1)
            else:
                found.tensors.append(_tensor(key, value, found))
            if len(found.tensors) > _MOST_TENSORS:
                raise Corrupt(f"it has more than {_MOST_TENSORS} tensors")
    return found


def _tensor(key: bytes, value: bytes, found: TfCheckpoint) -> TfTensor:
    entry = protobuf.table(value)
    dtype = DTYPES.get(entry.signed(1), f"type {entry.signed(1)}")
    shape: tuple[int, ...] = ()
    for part in entry.all(2):
        shape = tuple(axis.table().signed(1) for axis in part.table().all(2))
    tensor = TfTensor(
        name=key.decode("utf-8", "replace")[:1000],
        dtype=dtype,
        shape=shape,
        shard=entry.signed(3),
        start=entry.signed(4),
        size=entry.signed(5),
    )
    width = _SIZES.get(dtype)
    whole = not entry.all(7)  # a tensor in slices has them under keys of their own
    if len(shape) > 64 or any(n < 0 for n in shape) or tensor.start < 0:
        raise Corrupt(f"the tensor {tensor.name!r:.100} has no possible shape or place")
    if not 0 <= tensor.shard < max(1, found.shards):
        found.faults.append((f"the tensor {tensor.name!r:.100} is in a shard that is none", None))
    if whole and width is not None and tensor.size != math.prod(shape) * width:
        found.faults.append((f"the tensor {tensor.name!r:.100} contradicts itself", None))
    return tensor


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
    data = source.exactly(start, size + 1, "a block")
    if data[-1]:
        raise Corrupt("a block is compressed, which is not read here")
    return data[:-1]


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
