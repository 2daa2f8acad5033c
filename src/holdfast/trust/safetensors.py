"""Reading the header of a safetensors file.

Source of the format: the README of huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.errors import Corrupt
from holdfast.trust.source import Source

__all__ = ["ITEMSIZE", "SafetensorsFile", "TensorSpan", "looks_like", "read_safetensors_header"]

# The format allows 100 MB; entries are bounded too, as Python makes some 500 bytes of each.
_HEADER_LIMIT: Final = 32 << 20
_MOST_ENTRIES: Final = 200_000

# Bits of one element, by dtype.
ITEMSIZE: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32,
    "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpan:
    """A tensor and where it is.

    Attributes:
        name: Its name.
        dtype: As the file spells it.
        shape: Dimensions.
        start: Byte in the file.
        size: Bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(slots=True)
class SafetensorsFile:
    """What the header says.

    Attributes:
        metadata: ``__metadata__``.
        tensors: In the header's order.
        faults: What is a lie, with the byte.
    """

    metadata: dict[str, str] = field(default_factory=dict)
    tensors: list[TensorSpan] = field(default_factory=list)
    faults: list[tuple[str, int | None]] = field(default_factory=list)


def looks_like(head: bytes, size: int) -> bool:
    """Say whether a file of that size and beginning is safetensors, complete or not."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 9 and head[8:9] == b"{" and 2 <= length <= max(size, _HEADER_LIMIT)


def read_safetensors_header(source: Source) -> SafetensorsFile:
    """Read and judge the header; what is wrong is told in ``faults``."""
    file = SafetensorsFile()
    try:
        length = _length(source)
        header = _header(source.exactly(8, length, "the header"), file)
        metadata = header.pop("__metadata__", {})
        if isinstance(metadata, dict):
            file.metadata = {str(key): str(value) for key, value in metadata.items()}
        _spans(header, file, 8 + length)
        _cover(file, 8 + length, source.size)
    except Corrupt as error:
        file.faults.append((error.message, None))
    return file


def _length(source: Source) -> int:
    length = int.from_bytes(source.exactly(0, 8, "the header's length"), "little")
    if length > min(_HEADER_LIMIT, source.size - 8):
        raise Corrupt(f"the header claims {length} bytes")
    return length


def _header(data: bytes, file: SafetensorsFile) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            file.faults.append(("the header names something twice: readers disagree", 8))
        return result

    try:
        header = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"the header is not JSON: {error!s:.100}") from error
    if not isinstance(header, dict) or len(header) > _MOST_ENTRIES:
        raise Corrupt(f"the header is no object of at most {_MOST_ENTRIES} tensors")
    return header


def _spans(header: dict[str, Any], file: SafetensorsFile, body: int) -> None:
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(a), int(b)]}:
                if not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 64:
                    raise Corrupt(f"the tensor {name!r:.100} has no possible shape")
                bits = ITEMSIZE.get(dtype)
                if not 0 <= a <= b or (bits and (b - a) * 8 != math.prod(shape) * bits):
                    file.faults.append((f"the tensor {name!r:.100} contradicts itself", None))
                if bits is None:
                    file.faults.append((f"the dtype {dtype!r:.40} is not known", None))
                span = TensorSpan(
                    name=name, dtype=dtype, shape=tuple(shape), start=body + a, size=b - a
                )
                file.tensors.append(span)
            case _:
                raise Corrupt(f"the header's entry {name!r:.100} is no tensor")


def _cover(file: SafetensorsFile, body: int, size: int) -> None:
    """Tensors cover the rest of the file, without holes and without sharing."""
    at = body
    for span in sorted(file.tensors, key=lambda span: (span.start, span.size)):
        if span.start != at:
            said = f"the tensor {span.name!r:.100} leaves a hole or shares bytes with another"
            file.faults.append((said, span.start))
            return
        at = span.start + span.size
    if at != size:
        file.faults.append((f"the tensors end at byte {at} of {size}", min(at, size)))
