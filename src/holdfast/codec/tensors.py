"""Tensor bytes on their way out and in: dtype, shape and a buffer, no framework.

Bytes are little-endian and C-ordered; dtypes are those of the safetensors format
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["ITEMSIZE", "FileData", "TensorData", "TensorView"]

# safetensors dtype to bytes per item.
ITEMSIZE: Final[dict[str, int]] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}


@dataclass(frozen=True, slots=True, eq=False)
class TensorData:
    """A tensor to be written.

    Attributes:
        dtype: safetensors dtype.
        shape: Dimensions.
        load: Returns its bytes, little-endian and C-ordered, of exactly ``nbytes``. Called once
            or more, possibly from another thread; views the caller's memory where it can, so
            that a save copies at most one tensor at a time.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], memoryview]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * ITEMSIZE[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class FileData:
    """Bytes in another program's own format, kept as a file of the record under a name of ours.

    Attributes:
        ending: How the file's name ends, for example ``".ubj"``.
        data: Its bytes.
    """

    ending: str
    data: bytes | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class TensorView:
    """A tensor that was read.

    Attributes:
        dtype: safetensors dtype.
        shape: Dimensions.
        data: Its bytes; mapped privately (writable, copy-on-write) where the store can map,
            else possibly read-only. Start is aligned to the item size. Of a tensor that is passed
            on to another device each look may read it anew.
    """

    dtype: str
    shape: tuple[int, ...]
    data: memoryview
