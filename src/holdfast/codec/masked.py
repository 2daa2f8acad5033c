"""numpy's array classes beside ``ndarray``: masked arrays and matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported

__all__ = ["TYPES"]


def _encode_masked(array: Any) -> dict[str, Any]:
    if array.baseclass is not np.ndarray or array._optinfo:  # noqa: SLF001 - numpy's own state
        raise Unsupported(
            f"a masked {array.baseclass.__name__}, or one with further facts, cannot be kept.",
            hint="numpy.ma.MaskedArray(numpy.asarray(array), mask=array.mask)",
        )
    fill = array._fill_value  # noqa: SLF001 - None says that none was set, which the public one hides
    return {
        "data": array.view(np.ndarray),
        "mask": None if array.mask is np.ma.nomask else array.mask.view(np.ndarray),
        "fill": None if fill is None else np.asarray(fill),
        "hard": bool(array.hardmask),
    }


def _build_masked(fields: Mapping[str, Any]) -> Any:
    data, mask, fill, hard = (fields[name] for name in ("data", "mask", "fill", "hard"))
    if type(data) is not np.ndarray or type(hard) is not bool:
        raise Corrupt("a masked array is not an array with a mask")
    if mask is not None and (
        type(mask) is not np.ndarray
        or mask.shape != data.shape
        or mask.dtype != np.ma.make_mask_descr(data.dtype)
    ):
        raise Corrupt("the mask of a masked array does not fit its values")
    if fill is not None and (
        type(fill) is not np.ndarray or fill.shape != () or not _fits(fill.dtype, data.dtype)
    ):
        raise Corrupt("the fill value of a masked array does not fit its values")
    array: Any = np.ma.MaskedArray(
        data, mask=np.ma.nomask if mask is None else mask, hard_mask=hard
    )
    array._fill_value = fill  # noqa: SLF001 - as numpy's own __setstate__ does
    return array


def _fits(fill: np.dtype[Any], data: np.dtype[Any]) -> bool:
    """Say whether a fill value is of the data's dtype; for objects numpy's usual one is a text."""
    return fill == data or (data == np.dtype(object) and fill.kind == "U")


def _build_matrix(fields: Mapping[str, Any]) -> Any:
    values = fields["values"]
    if type(values) is not np.ndarray or values.ndim != 2:
        raise Corrupt("a matrix is not an array of two dimensions")
    return values.view(np.matrix)


_FIELDS: Final = frozenset({"data", "mask", "fill", "hard"})

TYPES: Final = (
    TypeSpec(
        id="numpy.ma.MaskedArray",
        locate=lambda: np.ma.MaskedArray,
        classes=("numpy.ma:MaskedArray", "numpy.ma.core:MaskedArray"),
        encode=_encode_masked,
        build=_build_masked,
        fields=_FIELDS,
        required=_FIELDS,
        transparent=frozenset({"data"}),
    ),
    TypeSpec(
        id="numpy.ma.masked",
        locate=lambda: type(np.ma.masked),
        classes=("numpy.ma.core:MaskedConstant", "numpy.ma:MaskedConstant"),
        encode=lambda _: {},
        build=lambda _: np.ma.masked,
        fields=frozenset(),
    ),
    TypeSpec(
        id="numpy.matrix",
        locate=lambda: np.matrix,
        classes=("numpy:matrix", "numpy.matrixlib.defmatrix:matrix"),
        encode=lambda matrix: {"values": matrix.view(np.ndarray)},
        build=_build_matrix,
        fields=frozenset({"values"}),
        required=frozenset({"values"}),
        transparent=frozenset({"values"}),
    ),
)
