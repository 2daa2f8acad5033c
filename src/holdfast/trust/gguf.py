"""Reading GGUF files: what they say of themselves, and where their tensors are.

Source of the format: docs/gguf.md and ggml.h (``ggml_type``, block sizes) of ggml-org/ggml.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from holdfast.errors import Corrupt
from holdfast.trust.source import Source

__all__ = ["GGML_TYPES", "GgufFile", "GgufTensor", "read_gguf"]

_HEADER_LIMIT: Final = 64 << 20
_MOST_KEYS: Final = 65_536
_MOST_TENSORS: Final = 200_000
_MOST_STRINGS: Final = 2_000_000
_TEXT_LIMIT: Final = 4 << 20
_KEPT_ITEMS: Final = 16
_MOST_DIMENSIONS: Final = 8
_BLOCK: Final = 1 << 18

# Type number of a tensor to its name, values in a block and bytes of a block.
GGML_TYPES: Final[dict[int, tuple[str, int, int]]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}  # fmt: skip

# Type number of a value to how ``struct`` reads it; 8 is a text and 9 an array.
_NUMBERS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_TEXT: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """A tensor as the file describes it.

    Attributes:
        name: Its name.
        dtype: Name of its ggml type; ``type 99`` for one that is not known.
        shape: Dimensions, outermost first as numpy has them (the file lists them the other way).
        start: Byte in the file.
        size: Bytes; 0 when the type is not known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(slots=True)
class GgufFile:
    """What was read, as far as it could be.

    Attributes:
        version: Of the format.
        metadata: Keys and values; of long arrays the first items.
        counts: Keys of arrays to how many items each has.
        places: Keys of texts to the byte where each starts.
        tensors: In the file's order.
        faults: What is damaged or a lie, with the byte.
    """

    version: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    tensors: list[GgufTensor] = field(default_factory=list)
    faults: list[tuple[str, int | None]] = field(default_factory=list)


class _Reader:
    """Goes forward through the header; every count is compared with the bytes that are left."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._block = b""
        self.at = 4
        self.order = "<"
        self.wide = True
        self.strings = _MOST_STRINGS

    def take(self, count: int, what: str) -> bytes:
        inside = self.at - self._start
        if inside + count > len(self._block):
            if self.at + count > min(self._source.size, _HEADER_LIMIT):
                raise Corrupt(f"{what} of {count} bytes goes beyond the header")
            self._start, inside = self.at, 0
            self._block = self._source.read(self.at, max(count, _BLOCK))
        data = self._block[inside : inside + count]
        if len(data) != count:
            raise Corrupt(f"{what} is cut short")
        self.at += count
        return data

    def skip(self, count: int, what: str) -> None:
        if self.at + count > min(self._source.size, _HEADER_LIMIT):
            raise Corrupt(f"{what} of {count} bytes goes beyond the header")
        self.at += count

    def number(self, form: str, what: str) -> Any:
        form = self.order + form
        return struct.unpack(form, self.take(struct.calcsize(form), what))[0]

    def count(self, what: str) -> int:
        return int(self.number("Q" if self.wide else "I", what))

    def text(self, what: str) -> str:
        size = self.count(what)
        if size > _TEXT_LIMIT:
            raise Corrupt(f"{what} claims {size} bytes")
        return self.take(size, what).decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        """Go over texts, hundreds of thousands of which are a tokenizer."""
        width = 8 if self.wide else 4
        order: Literal["little", "big"] = "little" if self.order == "<" else "big"
        while count:
            block, inside = self._source.read(self.at, _BLOCK), 0
            while count:
                end = inside + width
                end += int.from_bytes(block[inside:end], order)
                if end > len(block) or inside + width > len(block):
                    break
                inside, count = end, count - 1
            if inside:
                self.skip(inside, "texts")
            elif count:  # longer than a block, or beyond the file's end
                self.skip(self.count("a text"), "a text")
                count -= 1

    def array(self, key: str) -> tuple[int, list[Any]]:
        """Read how many items there are, and the first of them."""
        kind = self.number("I", "the type of an array")
        count = self.count("the length of an array")
        if kind == _TEXT:
            self.strings -= count
            if self.strings < 0:
                raise Corrupt(f"{key!r:.100} claims {count} texts")
            kept = [self.text("a text") for _ in range(min(count, _KEPT_ITEMS))]
            self.skip_texts(count - len(kept))
            return count, kept
        form = _NUMBERS.get(kind)
        if form is None:
            raise Corrupt(f"{key!r:.100} is an array of the type {kind}, which there is not")
        start, size = self.at, struct.calcsize(form)
        self.skip(count * size, f"the array {key!r:.100}")
        end, self.at = self.at, start
        kept = [self.number(form, "a number") for _ in range(min(count, _KEPT_ITEMS))]
        self.at = end
        return count, kept


def read_gguf(source: Source) -> GgufFile:
    """Read the header, which is bounded; damage ends the reading and is told in ``faults``."""
    file = GgufFile()
    reader = _Reader(source)
    try:
        tensors, keys = _counts(reader, file)
        _metadata(reader, file, keys)
        file.tensors = list(_tensors(reader, file, tensors, source.size))
    except Corrupt as error:
        file.faults.append((error.message, reader.at))
    return file


def _counts(reader: _Reader, file: GgufFile) -> tuple[int, int]:
    version = reader.number("I", "the version")
    if not version & 0xFFFF:  # written on a big-endian machine
        reader.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    file.version = version
    if not 1 <= version <= 3:
        raise Corrupt(f"it claims version {version} of the format")
    reader.wide = version > 1
    tensors, keys = reader.count("the number of tensors"), reader.count("the number of keys")
    if tensors > _MOST_TENSORS or keys > _MOST_KEYS:
        raise Corrupt(f"it claims {tensors} tensors and {keys} keys")
    return tensors, keys


def _metadata(reader: _Reader, file: GgufFile, keys: int) -> None:
    for _ in range(keys):
        place = reader.at
        key = reader.text("a key")
        if key in file.metadata:
            file.faults.append((f"the key {key!r:.100} is there twice", place))
        kind = reader.number("I", "the type of a value")
        if kind == _TEXT:
            file.places[key] = reader.at + (8 if reader.wide else 4)
            file.metadata[key] = reader.text(f"the text {key!r:.100}")
        elif kind == _ARRAY:
            file.counts[key], file.metadata[key] = reader.array(key)
        elif kind in _NUMBERS:
            file.metadata[key] = reader.number(_NUMBERS[kind], "a number")
        else:
            raise Corrupt(f"the key {key!r:.100} has the type {kind}, which there is not")


def _tensors(reader: _Reader, file: GgufFile, count: int, size: int) -> Iterator[GgufTensor]:
    rows: list[tuple[str, int, tuple[int, ...], int]] = []
    names: set[str] = set()
    for _ in range(count):
        place = reader.at
        name = reader.text("a tensor's name")
        if name in names:
            file.faults.append((f"the tensor {name!r:.100} is there twice", place))
        names.add(name)
        rank = reader.number("I", "a tensor's rank")
        if rank > _MOST_DIMENSIONS:
            raise Corrupt(f"the tensor {name!r:.100} claims {rank} dimensions")
        shape = tuple(reader.count("a dimension") for _ in range(rank))[::-1]
        kind = reader.number("I", "a tensor's type")
        rows.append((name, kind, shape, reader.number("Q", "a tensor's place")))
    alignment = file.metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise Corrupt(f"it claims an alignment of {alignment!r:.40}")
    body = -(-reader.at // alignment) * alignment
    found = [_tensor(file, (*row[:3],), body + row[3], size) for row in rows]
    _overlaps(file, found)
    yield from found


def _overlaps(file: GgufFile, tensors: list[GgufTensor]) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.size)):
        if tensor.start < end:
            said = f"the tensor {tensor.name!r:.100} shares bytes with another"
            file.faults.append((said, tensor.start))
            return
        end = tensor.start + tensor.size


def _tensor(
    file: GgufFile, row: tuple[str, int, tuple[int, ...]], start: int, size: int
) -> GgufTensor:
    name, kind, shape = row
    dtype, block, block_size = GGML_TYPES.get(kind, (f"type {kind}", 1, 0))
    count = math.prod(shape)
    if count % block or (shape and shape[-1] % block):
        file.faults.append((f"the tensor {name!r:.100} is no whole number of blocks", None))
    held = count // block * block_size
    if start + held > size:
        said = f"the tensor {name!r:.100} claims {held} bytes, which the file does not have"
        file.faults.append((said, start))
    return GgufTensor(name=name, dtype=dtype, shape=shape, start=start, size=held)
