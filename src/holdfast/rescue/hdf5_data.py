"""The elements of HDF5 datasets as arrays, read without the HDF5 library.

What lies in one piece is a view of the file; chunks are put together, through the filters that h5py
writes of its own accord. Source of the format: "HDF5 File Format Specification Version 3.0",
sections III.A.1 (trees of chunks), IV.A.2.f (fill values), i (layouts) and l (filters), VII.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt, Unsupported
from holdfast.rescue.hdf5_chunks import Chunk, Chunked, chunked, chunks
from holdfast.rescue.tensors import torch_tensor
from holdfast.trust.hdf5 import Hdf5Dataset
from holdfast.trust.hdf5.blocks import Blocks, Cursor
from holdfast.trust.hdf5.headers import DATATYPE, LAYOUT, Message, messages
from holdfast.trust.hdf5.heaps import global_object

__all__ = ["Elements"]

_FILL: Final = 0x05
_NUMBERS: Final = frozenset(
    {"|i1", "|u1", *(f"{order}{kind}" for order in "<>" for kind in
     ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8"))}
)  # fmt: skip
_FILTERS: Final = frozenset({"deflate", "shuffle", "fletcher32"})
_ENUM: Final = 8
_MOST_TEXTS: Final = 200_000
_LONGEST_TEXT: Final = 1 << 20
# What is put together, and does not lie in the file as it is, may be so much, or so many times the
# file's size, whichever is more.
_SMALL: Final = 512 << 20
_RATIO: Final = 64


@dataclass(frozen=True, slots=True)
class _Described:
    """A dataset, and the messages of its header by their kinds."""

    told: Hdf5Dataset
    by_kind: dict[int, Message]


class Elements:
    """Reads the elements of one file's datasets."""

    def __init__(self, blocks: Blocks, whole: np.ndarray[Any, Any], start: int) -> None:
        """Begin.

        Args:
            blocks: Reads blocks of the file.
            whole: The file's bytes, of dtype uint8, which may be written to.
            start: Where in them the HDF5 file begins.
        """
        self._blocks = blocks
        self._whole = whole
        self._start = start
        self._left = max(_SMALL, _RATIO * len(whole))

    def array(self, told: Hdf5Dataset, attributes: dict[str, Any]) -> Any:
        """Return a dataset as an array; bfloat16 numbers, which numpy lacks, as a tensor of torch.

        Raises:
            Unsupported: It is of a type, a layout or a filter that is not read.
            Corrupt: It is damaged, or becomes so large that it is taken for a bomb.
        """
        found = {message.kind: message for message in messages(self._blocks, told.header)}
        dataset = _Described(told, found)
        if told.dtype == "text":
            return self._texts(dataset)
        half = told.dtype == "opaque" and attributes.get("dtype") == "bfloat16"
        if told.dtype not in _NUMBERS and told.dtype[:2] != "|S" and not half:
            raise Unsupported(
                f"its elements are of the type {told.dtype!r:.60}, which is not kept."
            )
        dtype = np.dtype("<u2" if half else told.dtype)
        if math.prod(told.shape) * dtype.itemsize != told.size:
            raise Corrupt(f"its elements are not of the type {told.dtype!r:.60}")
        array = self._numbers(dataset, dtype)
        if half:
            flat = np.frombuffer(np.ascontiguousarray(array).data, dtype=np.uint8)
            return torch_tensor("BF16", told.shape, flat)
        return array.view(np.bool_) if _is_bool(found[DATATYPE].data, array) else array

    def _numbers(self, dataset: _Described, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        told = dataset.told
        if told.layout == "contiguous":
            if told.start is None or not told.size:
                return self._filled(dataset, dtype)
            raw = self._whole[told.start : told.start + told.size]
            array = np.frombuffer(raw.data, dtype=dtype).reshape(told.shape)
            return array if array.flags.aligned else array.copy()
        if told.layout == "compact":
            data = _compact(self._cursor(dataset, LAYOUT, "a layout"))
            if len(data) != told.size:
                raise Corrupt("it has not as many elements as its shape says")
            return np.frombuffer(bytearray(data), dtype=dtype).reshape(told.shape)
        if told.layout != "chunked":
            raise Unsupported(f"its layout is {told.layout!r}, which is not read.")
        return self._gathered(dataset, dtype)

    def _cursor(self, dataset: _Described, kind: int, what: str) -> Cursor:
        return Cursor(dataset.by_kind[kind].data, self._blocks, what)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Corrupt("the file becomes so large that it is taken for a bomb")

    def _filled(self, dataset: _Described, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return an array of the value that stands where nothing was written."""
        self._spend(dataset.told.size)
        if _FILL not in dataset.by_kind:
            return np.zeros(dataset.told.shape, dtype)
        value = _fill_value(self._cursor(dataset, _FILL, "a fill value"))
        if not any(value):
            return np.zeros(dataset.told.shape, dtype)
        if len(value) != dtype.itemsize:
            raise Corrupt("its fill value is of another type")
        return np.full(dataset.told.shape, np.frombuffer(value, dtype)[0], dtype)

    def _gathered(self, dataset: _Described, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return an array put together from its chunks."""
        told = dataset.told
        strange = next((name for name in told.filters if name not in _FILTERS), None)
        if strange is not None:
            raise Unsupported(
                f"its chunks were put through {strange!r:.40}, which is not undone here.",
                hint="h5repack -f NONE old.h5 new.h5  # the same data, without filters",
            )
        described = chunked(self._cursor(dataset, LAYOUT, "a layout"), told.shape, dtype.itemsize)
        array = self._filled(dataset, dtype)
        for chunk in chunks(self._blocks, described, filtered=bool(told.filters)):
            self._spend(described.size)
            content = self._content(chunk, described, told.filters, dtype)
            part = np.frombuffer(content, dtype=dtype, count=math.prod(described.shape))
            inside = tuple(
                slice(at, min(at + step, length))
                for at, step, length in zip(chunk.at, described.shape, told.shape, strict=True)
            )
            room = tuple(slice(0, max(0, each.stop - each.start)) for each in inside)
            array[inside] = part.reshape(described.shape)[room]
        return array

    def _content(
        self, chunk: Chunk, described: Chunked, names: tuple[str, ...], dtype: np.dtype[Any]
    ) -> bytes:
        """Return a chunk's elements, what was done to them undone, last first."""
        start = self._start + chunk.address
        data = self._whole[start : start + chunk.size].tobytes()
        if len(data) != chunk.size:
            raise Corrupt(f"a chunk at byte {start} is cut short")
        for place, name in reversed([*enumerate(names)]):
            if not chunk.skipped >> place & 1:
                data = _undone(name, data, described.size, dtype.itemsize)
        if len(data) != described.size:
            raise Corrupt(f"a chunk at byte {start} has {len(data)} bytes for {described.size}")
        return data

    def _texts(self, dataset: _Described) -> np.ndarray[Any, Any]:
        """Return texts of variable length, which lie in a heap, as an array of objects."""
        told = dataset.told
        width = 8 + self._blocks.width
        count = math.prod(told.shape)
        if told.size != count * width or count > _MOST_TEXTS:
            raise Unsupported(f"it has {count} texts of variable length, more than are read.")
        where = self._numbers(dataset, np.dtype(("V", width))).reshape(-1)
        found = np.empty(count, dtype=object)
        for place, item in enumerate(where):
            found[place] = self._text(Cursor(item.tobytes(), self._blocks, "a text"))
        return found.reshape(told.shape)

    def _text(self, cursor: Cursor) -> str:
        size, address, index = cursor.number(4), cursor.address(), cursor.number(4)
        if not size or not address:
            return ""
        if size > _LONGEST_TEXT:
            raise Unsupported(f"it has a text of {size} bytes, longer than are read.")
        data = global_object(self._blocks, address, index, size)
        self._spend(len(data))
        return data.decode("utf-8", "replace")


def _is_bool(kind: bytes, array: np.ndarray[Any, Any]) -> bool:
    """Say whether numbers are truth values, which h5py writes as an enumeration."""
    named = kind[:1] and kind[0] & 15 == _ENUM and b"FALSE\0" in kind and b"TRUE\0" in kind
    return bool(named) and array.dtype.itemsize == 1 and not (array.view(np.uint8) > 1).any()


def _compact(cursor: Cursor) -> bytes:
    version = cursor.number(1)
    if version >= 3:
        cursor.take(1)
        return cursor.take(cursor.number(2))
    rank = cursor.number(1)
    cursor.take(6 + 4 * rank)
    return cursor.take(cursor.number(4))


def _fill_value(cursor: Cursor) -> bytes:
    """Return a fill value's bytes; none when it is not said, which means zeros."""
    version = cursor.number(1)
    if version == 3:
        return cursor.take(cursor.number(4)) if cursor.number(1) & 0x20 else b""
    if version not in (1, 2):
        raise Corrupt(f"a fill value has the version {version}")
    cursor.take(2)
    defined = cursor.number(1)
    return cursor.take(cursor.number(4)) if defined and cursor.left >= 4 else b""


def _undone(name: str, data: bytes, size: int, width: int) -> bytes:
    """Undo a filter.

    Args:
        name: The filter.
        data: What it made.
        size: Bytes of a whole chunk, beyond which nothing is decompressed.
        width: Bytes of an element.
    """
    if name == "deflate":
        try:
            return zlib.decompressobj().decompress(data, size + 8)
        except zlib.error as error:
            raise Corrupt(f"a chunk's compressed data is damaged: {error!s:.60}") from error
    if name == "shuffle":
        whole = len(data) // width * width
        planes = np.frombuffer(data, np.uint8, whole).reshape(width, -1)
        return planes.T.tobytes() + data[whole:]
    if len(data) < 4 or _fletcher32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise Corrupt("a chunk's checksum differs from its data")
    return data[:-4]


def _fletcher32(data: bytes) -> int:
    """Return the checksum of the format, over big-endian words of two bytes (H5checksum.c)."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), dtype=">u2").astype(np.uint64)
    first = second = 0
    for start in range(0, len(words), 1 << 16):
        part = words[start : start + (1 << 16)]
        weights = np.arange(len(part), 0, -1, dtype=np.uint64)
        second = (second + len(part) * first + int((part * weights).sum())) % 65535
        first = (first + int(part.sum())) % 65535
    # Sums that are not 0 are kept within 1 … 65535 there, so a multiple of 65535 is that.
    nonzero = bool(words.any())
    return ((second or 65535 * nonzero) << 16) | (first or 65535 * nonzero)
