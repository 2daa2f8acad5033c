"""Model files that can be kept without running anything: safetensors, npz, ONNX, SavedModel."""

from __future__ import annotations

import json
import math
import mmap
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.codec.tensors import ITEMSIZE
from holdfast.errors import Corrupt, UnsafeContent, Unsupported
from holdfast.frameworks import onnx, tensorflow
from holdfast.plugins import import_extra
from holdfast.trust.report import KINDS, Report, Severity
from holdfast.trust.scan import scan_path

__all__ = ["model_from_file"]

_HEADER_LIMIT: Final = 100_000_000  # the safetensors format's own limit
_NPZ_RATIO: Final = 1_100  # deflate cannot do better; more is a lie or a bomb
_NUMPY: Final = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_PICKLED: Final = frozenset({"joblib", "pickle", "torch", "torch-legacy", "torchscript"})
_TORCH: Final = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def model_from_file(path: Path) -> Any:
    """Read a model file as something ``save`` keeps.

    The content decides, never the extension. Tensors are views of the mapped file.

    Returns:
        A dictionary of numpy arrays (of torch tensors when the file says it comes from torch,
        or holds dtypes numpy lacks), an ``onnx.OnnxFile`` or a ``tensorflow.SavedModel``.

    Raises:
        UnsafeContent: The file is a pickle or contains one; it was not opened.
        Unsupported: It is something else.
        Corrupt: It is damaged or lies about its sizes.
    """
    report = scan_path(path, frozenset())
    _refuse_pickles(path, report)
    kind = report.kind
    if kind == "safetensors":
        return read_safetensors(path)
    if kind == "npz":
        return read_npz(path)
    if kind == "onnx":
        return onnx.open_file(path)
    if kind == "savedmodel" and path.is_dir():
        return tensorflow.open_folder(path)
    raise Unsupported(
        f"{path}: {KINDS[kind]}. Only safetensors, npz and ONNX files and the folders of "
        "SavedModels are saved as they are.",
        hint=f"hold convert {path} --name NAME  # or save the live object: holdfast.save(model)",
        ref=str(path),
    )


def _refuse_pickles(path: Path, report: Report) -> None:
    """Refuse what is a pickle or holds one, known data or not: saving keeps no pickles."""
    pickled = report.kind in _PICKLED or any(m.kind in _PICKLED for m in report.members)
    if not pickled and not report.unsafe:
        return
    unsafe = (f for _, f in report.all_findings() if f.severity is Severity.UNSAFE)
    reason = next(map(str, unsafe), "which holds a pickle")
    raise UnsafeContent(
        f"UNSAFE  {path} is a {KINDS[report.kind]}, {reason}. Nothing was run.",
        hint=f"hold scan {path}  # what is in it; then: hold convert {path} --name NAME",
        ref=str(path),
    )


def read_safetensors(path: Path) -> dict[str, Any]:
    """Map a safetensors file; source of the format: its README, section "Format"."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size < 10:
            raise Corrupt(f"{path} is too short to be a safetensors file")
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    length = int.from_bytes(mapped[:8], "little")
    if length > min(_HEADER_LIMIT, size - 8):
        raise Corrupt(f"{path}: the header claims {length} bytes of a file of {size}")
    header = _header(bytes(mapped[8 : 8 + length]), path)
    metadata = header.pop("__metadata__", {})
    body = mapped[8 + length :]
    spans = {name: _span(name, entry, path) for name, entry in header.items()}
    position = 0
    for name in sorted(spans, key=lambda key: spans[key][2:]):
        begin, end = spans[name][2:]
        if begin != position:
            raise Corrupt(f"{path}: tensor {name!r} leaves a hole or overlaps at byte {begin}")
        position = end
    if position != len(body):
        raise Corrupt(f"{path}: tensors cover {position} bytes of {len(body)}")
    from_torch = isinstance(metadata, dict) and metadata.get("format") == "pt"
    exotic = any(dtype not in _NUMPY for dtype, *_ in spans.values())
    make = _torch_tensor if (from_torch and _has_torch()) or exotic else _numpy_array
    return {
        name: make(dtype, shape, body[begin:end])
        for name, (dtype, shape, begin, end) in spans.items()
    }


def _header(data: bytes, path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise Corrupt(f"{path}: the header names something twice")
        return result

    try:
        header = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"{path}: the header is not JSON: {error!s:.200}") from error
    if not isinstance(header, dict):
        raise Corrupt(f"{path}: the header is not a JSON object")
    return header


def _span(name: str, entry: Any, path: Path) -> tuple[str, tuple[int, ...], int, int]:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            sizes = all(isinstance(n, int) and n >= 0 for n in shape)
            if dtype not in ITEMSIZE:
                raise Unsupported(f"{path}: tensor {name!r} has the unknown dtype {dtype!r:.40}")
            if sizes and 0 <= begin <= end == begin + math.prod(shape) * ITEMSIZE[dtype]:
                return dtype, tuple(shape), begin, end
    raise Corrupt(f"{path}: the header entry of tensor {name!r} contradicts itself")


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def _numpy_array(dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    return np.frombuffer(data, dtype=_NUMPY[dtype]).reshape(shape)


def _torch_tensor(dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    torch = import_extra("torch", needed_for=f"reading tensors of dtype {dtype}")
    if dtype in _NUMPY and len(data):
        return torch.from_numpy(_numpy_array(dtype, shape, data))
    kind = getattr(torch, _TORCH.get(dtype, ""), torch.float32)
    if not len(data):
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(data, dtype=kind).reshape(shape)


def read_npz(path: Path) -> dict[str, Any]:
    """Read a ``.npz`` archive; object arrays, which need pickle, are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > max(1 << 20, member.compress_size * _NPZ_RATIO):
                    raise Corrupt(f"{path}: {member.filename!r} claims an impossible size")
        with np.load(path, allow_pickle=False) as arrays:
            return {str(name): _array(arrays[name], name, path) for name in arrays.files}
    except ValueError as error:
        if isinstance(error, Corrupt):
            raise
        if "pickle" in str(error):
            raise UnsafeContent(
                f"UNSAFE  {path} holds object arrays, which are pickles. It was not opened.",
                hint=f"python -c \"import numpy; print(numpy.load('{path}').files)\"",
                ref=str(path),
            ) from error
        raise Corrupt(f"{path} is not a sound npz archive: {error!s:.200}") from error
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise Corrupt(f"{path} is not a sound npz archive: {error!s:.200}") from error


def _array(value: Any, name: str, path: Path) -> Any:
    if not isinstance(value, np.ndarray):  # numpy hands out a member's bytes when it is no .npy
        raise Corrupt(f"{path}: {name!r:.100} is not an array")
    return value
