"""numpy's ``StringDType`` (numpy 2): its arrays as a list of texts and a mask, and the dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported

__all__ = ["ARRAY", "TYPES"]

_MOST_AXES: Final = 32  # what every numpy takes


def _is_missing(item: Any) -> bool:
    """Say whether an object may stand for a missing text."""
    if type(item) is float:
        return math.isnan(item)
    return item is None or type(item).__name__ == "NAType"


def _encode_dtype(dtype: Any) -> dict[str, Any]:
    if not hasattr(dtype, "na_object"):
        return {"coerce": bool(dtype.coerce)}
    marker = dtype.na_object
    if type(marker) is not str and not _is_missing(marker):
        raise Unsupported(
            f"a StringDType whose missing texts are a {type(marker).__name__} cannot be kept.",
            hint="array.astype(numpy.dtypes.StringDType(na_object=None))",
        )
    return {"coerce": bool(dtype.coerce), "missing": marker}


def _string_dtype() -> Any:
    """Return numpy's class; it is told apart from a plain look-up because numpy 1 has none."""
    found = getattr(getattr(np, "dtypes", None), "StringDType", None)
    if found is None:
        raise EnvironmentMismatch(
            f"It holds texts of numpy's StringDType, which numpy {np.__version__} lacks.",
            hint='python -m pip install "numpy>=2"',
        )
    return found


def _build_dtype(fields: Mapping[str, Any]) -> Any:
    coerce, given = fields["coerce"], {}
    if type(coerce) is not bool:
        raise Corrupt("a StringDType does not say whether it takes other values than texts")
    if "missing" in fields:
        given["na_object"] = marker = fields["missing"]
        if type(marker) is not str and not _is_missing(marker):
            raise Corrupt("what stands for missing texts is neither a text nor a missing value")
    return _string_dtype()(coerce=coerce, **given)


def _encode_array(array: Any) -> dict[str, Any]:
    items = array.ravel().tolist()
    gaps = np.array([type(item) is not str for item in items], dtype=bool)
    fields = {
        "dtype": array.dtype,
        "shape": array.shape,
        "values": ["" if gap else item for gap, item in zip(gaps, items, strict=True)],
    }
    optional = {
        "mask": gaps if gaps.any() else None,
        "order": None if array.flags.c_contiguous or array.ndim < 2 else "F",
        "readonly": None if array.flags.writeable else True,
    }
    return fields | {name: value for name, value in optional.items() if value is not None}


def _build_array(fields: Mapping[str, Any]) -> Any:
    dtype, values, shape = fields["dtype"], fields["values"], fields["shape"]
    mask, order = fields.get("mask"), fields.get("order", "C")
    if type(dtype) is not _string_dtype():
        raise Corrupt("an array of texts has the dtype of something else")
    if type(values) is not list or any(type(item) is not str for item in values):
        raise Corrupt("an array of texts holds something else")
    if order not in ("C", "F") or fields.get("readonly", True) is not True:
        raise Corrupt("an array of texts has unknown options")
    if (
        type(shape) is not tuple
        or len(shape) > _MOST_AXES
        or any(type(size) is not int or size < 0 for size in shape)
        or math.prod(shape) != len(values)
    ):
        raise Corrupt("an array of texts has an impossible shape")
    try:
        flat = np.array([*values, ""], dtype=dtype)[:-1]  # numpy guesses of an empty list
        if mask is not None:
            gaps = _gaps(mask, dtype, len(values))
            flat[gaps] = dtype.na_object
        array = np.array(flat.reshape(shape), order=order)
    except (UnicodeEncodeError, ValueError, TypeError) as error:
        raise Corrupt(f"numpy takes no such texts: {error!s:.100}") from error
    array.flags.writeable = "readonly" not in fields
    return array


def _gaps(mask: Any, dtype: Any, length: int) -> Any:
    if type(mask) is not np.ndarray or mask.dtype != bool or mask.shape != (length,):
        raise Corrupt("the mask of an array of texts does not fit it")
    if type(getattr(dtype, "na_object", "")) is str:
        raise Corrupt("an array of texts has gaps, for which its dtype has no object")
    return mask


ARRAY: Final = TypeSpec(
    id="numpy.StringArray",
    locate=lambda: np.ndarray,
    classes=(),  # an array's dtype tells, not its class
    encode=_encode_array,
    build=_build_array,
    fields=frozenset({"dtype", "shape", "values", "mask", "order", "readonly"}),
    required=frozenset({"dtype", "shape", "values"}),
    transparent=frozenset({"values"}),
)

TYPES: Final = (
    ARRAY,
    TypeSpec(
        id="numpy.StringDType",
        locate=_string_dtype,
        classes=("numpy.dtypes:StringDType",),
        encode=_encode_dtype,
        build=_build_dtype,
        fields=frozenset({"coerce", "missing"}),
        required=frozenset({"coerce"}),
    ),
)
