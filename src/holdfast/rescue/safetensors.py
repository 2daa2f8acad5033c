"""safetensors files: tensors as views of the mapped file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.codec.tensors import ITEMSIZE
from holdfast.errors import Corrupt, Unsupported
from holdfast.rescue.mapped import bytes_of_file
from holdfast.rescue.tensors import DTYPES, has_torch, numpy_array, torch_tensor
from holdfast.trust.safetensors import read_safetensors_header
from holdfast.trust.source import FileSource

__all__ = ["read_safetensors"]


def read_safetensors(path: Path) -> dict[str, Any]:
    """Map a safetensors file.

    Returns:
        Tensors by name: numpy arrays; torch tensors when the file says that it comes from torch
        and torch is installed, or when it holds dtypes that numpy lacks.

    Raises:
        Corrupt: It is damaged, or its header lies.
        Unsupported: It has a dtype that is not kept.
        MissingExtra: It has a dtype that only torch has here.
    """
    whole = bytes_of_file(path)
    with FileSource(path) as source:
        header = read_safetensors_header(source)
    strange = next((span for span in header.tensors if span.dtype not in ITEMSIZE), None)
    if strange is not None:
        said = f"tensor {strange.name!r:.100} has the dtype {strange.dtype!r:.40}"
        raise Unsupported(f"{said}, which is not kept.")
    if header.faults:
        raise Corrupt(header.faults[0][0])
    from_torch = header.metadata.get("format") == "pt"
    exotic = any(span.dtype not in DTYPES for span in header.tensors)
    make = torch_tensor if (from_torch and has_torch()) or exotic else numpy_array
    return {
        span.name: make(span.dtype, span.shape, whole[span.start : span.start + span.size])
        for span in header.tensors
    }
