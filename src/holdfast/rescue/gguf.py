"""GGUF files: numbers as arrays, quantised tensors as their blocks, the header as it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import Corrupt, Unsupported
from holdfast.rescue.mapped import bytes_of_file
from holdfast.rescue.taken import Taken, plain_facts
from holdfast.rescue.tensors import DTYPES, numpy_array, torch_tensor
from holdfast.trust.gguf import GgufTensor, read_gguf
from holdfast.trust.source import FileSource

__all__ = ["read_gguf_file"]


def read_gguf_file(path: Path) -> Taken:
    """Read tensors and metadata.

    Returns:
        Tensors by name. Quantised ones come as bytes, of shape (…, bytes per row), whose block
        type ``params["gguf_types"]`` names; reading their numbers needs the program that wrote
        them. The header, tokenizer included, is kept as the file ``header.gguf``.

    Raises:
        Corrupt: It is damaged, or lies about sizes.
        Unsupported: It is of a big-endian machine.
    """
    with FileSource(path) as source:
        file = read_gguf(source)
        version = int.from_bytes(source.read(4, 4), "little")
    if file.faults:
        raise Corrupt(file.faults[0][0])
    if version != file.version:
        raise Unsupported("it was written on a big-endian machine.")
    whole = bytes_of_file(path)
    quantised = {t.name: t.dtype for t in file.tensors if t.dtype not in (*DTYPES, "BF16")}
    torch = any(tensor.dtype == "BF16" for tensor in file.tensors)
    counts = {key: f"{count} items" for key, count in file.counts.items()}
    facts = plain_facts({**file.metadata, **counts})
    params: dict[str, Any] = {"gguf": facts}
    notes = []
    if quantised:
        params["gguf_types"] = quantised
        notes.append(f"{len(quantised)} quantised tensors are kept as the bytes of their blocks.")
    start = min((tensor.start for tensor in file.tensors), default=len(whole))
    return Taken(
        model={tensor.name: _tensor(tensor, whole, torch=torch) for tensor in file.tensors},
        how="read as data",
        notes=tuple(notes),
        params=params,
        files={"header.gguf": whole[:start].tobytes()},
    )


def _tensor(tensor: GgufTensor, whole: np.ndarray[Any, Any], *, torch: bool) -> Any:
    data = whole[tensor.start : tensor.start + tensor.size]
    make = torch_tensor if torch else numpy_array
    if tensor.dtype in DTYPES or tensor.dtype == "BF16":
        return make(tensor.dtype, tensor.shape, data)
    rows = math.prod(tensor.shape[:-1])
    return make("U8", (*tensor.shape[:-1], tensor.size // max(rows, 1)), data)
