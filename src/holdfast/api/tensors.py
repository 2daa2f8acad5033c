"""One tensor at a time as a numpy array, touching only the piece that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from holdfast.archive import read

if TYPE_CHECKING:
    from holdfast.api.version import Version

__all__ = ["LazyTensors"]

_DTYPES: Final = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NARROW: Final = {
    "BF16": ("bfloat16", "<u2"),
    "F8_E4M3": ("float8_e4m3fn", "u1"),
    "F8_E5M2": ("float8_e5m2", "u1"),
}


class LazyTensors(Mapping[str, "np.ndarray[Any, Any]"]):
    """Tensors of a version by name; looking one up reads and verifies only its piece."""

    def __init__(self, version: Version) -> None:
        store = version.store
        opened = read.open_version(
            store.blobs, version.manifest_id, verify="auto", stamps=store.stamps
        )
        self._views = opened.tensors

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        view = self._views[name]
        return np.frombuffer(view.data, dtype=_dtype(view.dtype)).reshape(view.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


def _dtype(name: str) -> Any:
    if name in _DTYPES:
        return np.dtype(_DTYPES[name])
    narrow, raw = _NARROW[name]
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(raw)
    return np.dtype(getattr(ml_dtypes, narrow))
