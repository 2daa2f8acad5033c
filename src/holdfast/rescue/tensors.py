"""Tensors of foreign files as views of their bytes: numpy arrays, or torch tensors where needed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.plugins import import_extra

__all__ = ["DTYPES", "has_torch", "numpy_array", "torch_tensor"]

# safetensors dtype to numpy's; those that numpy lacks are not here.
DTYPES: Final = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_TORCH: Final = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def has_torch() -> bool:
    """Say whether torch is installed, without importing it."""
    return find_spec("torch") is not None


def numpy_array(dtype: str, shape: tuple[int, ...], data: np.ndarray[Any, Any]) -> Any:
    """Return bytes as an array that is a view of them, aligned or not.

    Args:
        dtype: One of ``DTYPES``.
        shape: Dimensions, as many elements as there are bytes for.
        data: The bytes, of dtype uint8.

    Raises:
        Corrupt: No array has that shape.
    """
    try:
        return np.frombuffer(data.data, dtype=DTYPES[dtype]).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise Corrupt(f"no array has the shape {shape!r:.100}") from error


def torch_tensor(dtype: str, shape: tuple[int, ...], data: np.ndarray[Any, Any]) -> Any:
    """Return bytes as a tensor of torch; raises as ``numpy_array``, and ``MissingExtra``."""
    torch = import_extra("torch", needed_for=f"reading tensors of dtype {dtype}")
    if dtype in DTYPES and data.size:
        return torch.from_numpy(numpy_array(dtype, shape, data))
    kind = getattr(torch, _TORCH.get(dtype, ""), torch.float32)
    try:
        if not data.size:
            return torch.empty(shape, dtype=kind)
        return torch.frombuffer(data.data, dtype=kind).reshape(shape)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise Corrupt(f"no tensor has the shape {shape!r:.100}") from error
