"""numpy arrays both ways: every dtype becomes one safetensors tensor plus a few options.

Logical dtypes that safetensors lacks are kept by a stand-in: complex as floats with a last axis
of 2, datetime64 and timedelta64 as I64, fixed-width text as U32 code points and bytes as U8 with
a last axis of the width, structured dtypes as their bytes with padding set to zero.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Final, NamedTuple, cast

import numpy as np

from holdfast.codec.tensors import ITEMSIZE, TensorData, TensorView
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra

__all__ = ["NARROW", "Stored", "array_shape", "dtype_of", "dtype_text", "load_array", "store_array"]

_PLAIN: Final = {
    "b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32",
    "u8": "U64", "i8": "I64", "f2": "F16", "f4": "F32", "f8": "F64",
}  # fmt: skip
_NATIVE: Final = {tensor: np.dtype(f"<{code}") for code, tensor in _PLAIN.items()}
NARROW: Final = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
_PARTS: Final = {"c8": "F32", "c16": "F64"}
_TIME: Final = re.compile(r"[<>][mM]8(\[([1-9][0-9]{0,9})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
_TEXT: Final = re.compile(r"[<>|]([US])([0-9]{1,9})")
_RAW: Final = re.compile(r"\|V([0-9]{1,9})")
_SIMPLE: Final = re.compile(r"[<>|=]?([biufc][0-9]{1,2})")


class Stored(NamedTuple):
    """How an array goes into the file.

    Attributes:
        tensor: Its bytes.
        options: What a reader needs beside dtype and shape of the tensor.
    """

    tensor: TensorData
    options: dict[str, Any]


def dtype_text(dtype: np.dtype[Any]) -> Any:
    """Return the JSON form of a dtype: its ``str``, or for records names, formats and offsets.

    Raises:
        Unsupported: It holds objects or depends on the platform.
    """
    if dtype.name in NARROW and type(dtype.type(0)).__module__ == "ml_dtypes":
        return dtype.name
    if dtype.hasobject or dtype.kind in "gG" or dtype.char in "gG":
        raise Unsupported(
            f"arrays of dtype {dtype} cannot be kept: they hold objects or depend on the platform.",
            hint="array.astype(numpy.float64)",
        )
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": dtype_text(base), "shape": list(shape)}
    if dtype.fields is not None:
        names = list(dtype.names or ())
        if any(len(dtype.fields[name]) > 2 for name in names):
            raise Unsupported(
                "arrays whose fields have titles cannot be kept.",
                hint="array.astype([(name, array.dtype[name]) for name in array.dtype.names])",
            )
        return {
            "names": names,
            "formats": [dtype_text(dtype.fields[name][0]) for name in names],
            "offsets": [int(dtype.fields[name][1]) for name in names],
            "itemsize": dtype.itemsize,
        }
    return dtype.str


def dtype_of(text: Any, depth: int = 0) -> np.dtype[Any]:
    """Read a dtype from its JSON form, from a closed grammar.

    Raises:
        Corrupt: It is not in the grammar.
        MissingExtra: A narrow float needs the ml_dtypes package.
    """
    if isinstance(text, str):
        if text in NARROW:
            module = import_extra("ml_dtypes", needed_for=f"an array of {text}")
            narrow: np.dtype[Any] = np.dtype(getattr(module, text))
            return narrow
        simple = _SIMPLE.fullmatch(text)
        if (simple and simple.group(1) in {*_PLAIN, *_PARTS}) or any(
            grammar.fullmatch(text) for grammar in (_TIME, _TEXT, _RAW)
        ):
            return _parsed(text)
    elif isinstance(text, dict) and depth < 16:
        try:
            return _compound(text, depth)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            if isinstance(error, Corrupt):
                raise
            raise Corrupt(f"a structured dtype contradicts itself: {error!s:.100}") from error
    raise Corrupt(f"unknown dtype {text!r:.60}")


def _parsed(text: str) -> np.dtype[Any]:
    try:
        return np.dtype(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise Corrupt(f"unknown dtype {text!r:.60}") from error


def _compound(text: dict[str, Any], depth: int) -> np.dtype[Any]:
    if text.keys() == {"base", "shape"}:
        shape = tuple(text["shape"])
        if any(not isinstance(n, int) or n < 0 for n in shape) or math.prod(shape) > 2**31:
            raise Corrupt("a sub-array dtype has an impossible shape")
        sized: np.dtype[Any] = np.dtype((dtype_of(text["base"], depth + 1), shape))
        return sized
    if text.keys() != {"names", "formats", "offsets", "itemsize"}:
        raise Corrupt(f"a structured dtype has the keys {sorted(text)!r:.100}")
    if not all(isinstance(text[key], list | tuple) for key in ("names", "formats", "offsets")):
        raise Corrupt("a structured dtype's fields are not lists")
    spec = {**text, "formats": [dtype_of(item, depth + 1) for item in text["formats"]]}
    if len({len(spec[key]) for key in ("names", "formats", "offsets")}) != 1:
        raise Corrupt("a structured dtype names more or fewer fields than it describes")
    ends = [
        offset + item.itemsize
        for offset, item in zip(spec["offsets"], spec["formats"], strict=True)
    ]
    if any(offset < 0 for offset in spec["offsets"]) or max(ends, default=0) > spec["itemsize"]:
        raise Corrupt("a structured dtype reaches beyond its own size")
    whole: np.dtype[Any] = np.dtype(cast("Any", spec))
    return whole


def _layout(dtype: np.dtype[Any]) -> tuple[str, tuple[int, ...]]:
    """Return the safetensors dtype and the extra last axis of a logical dtype."""
    code = f"{dtype.kind}{dtype.itemsize}"
    if code in _PLAIN:
        return _PLAIN[code], ()
    if code in _PARTS:
        return _PARTS[code], (2,)
    if dtype.name in NARROW:
        return NARROW[dtype.name], ()
    if dtype.kind in "mM":
        return "I64", ()
    if dtype.kind == "U":
        return "U32", (dtype.itemsize // 4,)
    return "U8", (dtype.itemsize,)


def store_array(array: np.ndarray[Any, Any]) -> Stored:
    """Describe an array for the file; its bytes are read when the tensor is written.

    Raises:
        Unsupported: Its dtype cannot be kept.
    """
    text = dtype_text(array.dtype)
    tensor, extra = _layout(array.dtype)
    options: dict[str, Any] = {}
    if tensor not in _NATIVE or text != _NATIVE[tensor].str:
        options["dtype"] = text
    if _by_columns(array):
        options["order"] = "F"
    if not array.flags.writeable:
        options["readonly"] = True
    return Stored(TensorData(tensor, (*array.shape, *extra), lambda: _bytes(array)), options)


def _by_columns(array: np.ndarray[Any, Any]) -> bool:
    """Say whether columns lie together, with gaps between them or not.

    BLAS adds in another order for rows than for columns, so this decides the last bit of answers.
    """
    if array.ndim < 2 or array.flags.c_contiguous:
        return False
    steps = [step for step, size in zip(array.strides, array.shape, strict=True) if size > 1]
    return array.flags.f_contiguous or (len(steps) > 1 and steps == sorted(steps))


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """Return little-endian, C-ordered bytes; a view of the caller's memory where it can be."""
    if array.dtype.fields is not None:
        clean = np.zeros(array.shape, array.dtype)  # padding is whatever memory held: zero it
        clean[...] = array
        array = clean
    elif array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.nbytes == 0:
        return memoryview(b"")
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if array.dtype.kind == "b":
        flat = (flat != 0).view(np.uint8)  # numpy counts on 0 and 1 alone, and so do readers
    return flat.data


def array_shape(tensor_dtype: str, tensor_shape: tuple[int, ...], options: dict[str, Any]) -> Any:
    """Return (logical dtype, logical shape) of a stored array, checking that they agree.

    Raises:
        Corrupt: Options, tensor dtype and shape contradict each other.
    """
    if not options.keys() <= {"dtype", "order", "readonly"}:
        raise Corrupt(f"an array has unknown options {sorted(options)!r:.100}")
    if options.get("order", "F") != "F" or options.get("readonly", True) is not True:
        raise Corrupt("an array's options have unknown values")
    dtype = dtype_of(options["dtype"]) if "dtype" in options else _NATIVE.get(tensor_dtype)
    if dtype is None:
        raise Corrupt(f"a tensor of {tensor_dtype} is not a numpy array by itself")
    stored, extra = _layout(dtype)
    split = len(tensor_shape) - len(extra)
    if stored != tensor_dtype or split < 0 or tuple(tensor_shape[split:]) != extra:
        raise Corrupt(f"a tensor {tensor_dtype}{list(tensor_shape)} cannot be an array of {dtype}")
    return dtype, tuple(tensor_shape[:split])


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], order: Any) -> np.ndarray[Any, Any]:
    try:
        return np.ndarray(shape, dtype, order=order)
    except (ValueError, OverflowError) as error:
        raise Corrupt(f"no array has the shape {shape!r:.100}") from error


def _shaped(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise Corrupt(f"no array has the shape {shape!r:.100}") from error


def _check_values(array: np.ndarray[Any, Any]) -> None:
    """Refuse bytes that numpy trusts blindly: booleans beyond 1, code points beyond Unicode."""
    dtype = array.dtype
    if dtype.fields is not None:
        for name in dtype.names or ():
            _check_values(array[name])
    elif dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise Corrupt("an array of booleans holds other bytes than 0 and 1")
    elif dtype.kind == "U" and array.nbytes:
        points = np.ascontiguousarray(array).reshape(-1).view(f"{dtype.byteorder}u4")
        if points.max() > sys.maxunicode:
            raise Corrupt("an array of texts holds characters beyond Unicode")


def load_array(view: TensorView, options: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Build an array over the tensor's bytes, copying only where order or byte order needs it.

    Raises:
        Corrupt: Options, tensor dtype and shape contradict each other.
    """
    dtype, shape = array_shape(view.dtype, tuple(view.shape), options)
    data = view.data
    if len(data) != math.prod(view.shape) * ITEMSIZE[view.dtype]:
        raise Corrupt(f"a tensor of {len(data)} bytes cannot have the shape {view.shape}")
    order = options.get("order", "C")
    if len(data) == 0:
        array = _empty(shape, dtype, order)
    else:
        little = dtype if dtype.fields is not None else dtype.newbyteorder("<")
        array = _shaped(np.frombuffer(data, dtype=little), shape)
        _check_values(array)
        array = np.asarray(array, dtype=dtype, order=order)
    if options.get("readonly"):
        array.flags.writeable = False
    elif not array.flags.writeable:
        array = array.copy(order="K")
    return array
