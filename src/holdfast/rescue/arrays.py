"""numpy arrays, dtypes and scalars out of a pickle's graph, without calling what the graph names.

Source of the forms: numpy's ``_core/src/multiarray/methods.c`` (``array_reduce``,
``array_setstate``), ``descriptor.c`` (``arraydescr_reduce``), ``_core/numeric.py``
(``_frombuffer``), ``ma/core.py`` (``_mareconstruct``) and joblib's ``numpy_pickle.py``. All
releases since numpy 1.5 are read, under the old module names and the new ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np

from holdfast.errors import Corrupt, Unsupported
from holdfast.trust.pickles import Call, Global, Inline, LongBytearray, OutOfBand, Pairs

__all__ = [
    "MaskedObjects",
    "Objects",
    "array_of",
    "bytes_of",
    "dtype_of",
    "is_array",
    "is_bytes",
    "is_dtype",
    "is_scalar",
    "scalar_of",
]

_DEPTH: Final = 20
_MOST_EMPTY: Final = 1 << 20
_OLD_AND_NEW: Final = ("numpy.core", "numpy._core")
_DTYPE: Final = frozenset({"numpy:dtype"})
_ENCODE: Final = frozenset({"_codecs:encode", "codecs:encode"})
_SCALAR: Final = frozenset(f"{place}.multiarray:scalar" for place in _OLD_AND_NEW)
_RECONSTRUCT: Final = frozenset(f"{place}.multiarray:_reconstruct" for place in _OLD_AND_NEW)
_FROMBUFFER: Final = frozenset(f"{place}.numeric:_frombuffer" for place in _OLD_AND_NEW)
_MASKED: Final = frozenset({"numpy.ma.core:_mareconstruct"})
_MASKED_CLASSES: Final = frozenset({"numpy.ma.core:MaskedArray", "numpy.ma:MaskedArray"})
_CLASSES: Final = frozenset(
    {"numpy:ndarray", "numpy:memmap", "numpy.core.memmap:memmap", "numpy._core.memmap:memmap"}
)
_CODE: Final = re.compile(r"[<>=|]?(?:[biufcmMOSUV][0-9]{1,9}|\?)")
_UNIT: Final = re.compile(rb"(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as|generic)")


@dataclass(frozen=True, slots=True)
class Objects:
    """An array of Python objects; its items are values of the graph.

    Attributes:
        shape: Dimensions.
        order: ``"C"`` or ``"F"``: how ``items`` are laid out.
        items: As many as the shape says.
    """

    shape: tuple[int, ...]
    order: str
    items: Sequence[Any]

    def build(self, make: Callable[[Any], Any]) -> np.ndarray[Any, Any]:
        """Make the array of what ``make`` returns for each item."""
        flat = np.empty(len(self.items), dtype=object)
        for place, item in enumerate(self.items):
            flat[place] = make(item)
        return flat.reshape(self.shape, order="F" if self.order == "F" else "C")


@dataclass(frozen=True, slots=True)
class MaskedObjects:
    """A masked array of Python objects, whose items are yet to be made.

    Attributes:
        array: The masked array.
        flat: Its data, of shape (items,), in the order of the items.
        items: Values of the graph.
    """

    array: Any
    flat: np.ndarray[Any, Any]
    items: Sequence[Any]


def _key(value: Any) -> str | None:
    """Return the name of what a call calls, ``module:name``."""
    return value.function.key if type(value) is Call and type(value.function) is Global else None


def is_dtype(value: Any) -> bool:
    """Say whether a value stands for a dtype."""
    return _key(value) in _DTYPE


def is_scalar(value: Any) -> bool:
    """Say whether a value stands for a numpy scalar."""
    return _key(value) in _SCALAR


def is_array(value: Any) -> bool:
    """Say whether a value stands for an array of any kind, masked ones included."""
    return type(value) is Inline or _key(value) in (_RECONSTRUCT | _FROMBUFFER | _MASKED)


def is_bytes(value: Any) -> bool:
    """Say whether a value stands for bytes, in whichever way its protocol writes them."""
    if isinstance(value, (bytes, bytearray, memoryview, LongBytearray)):
        return True
    return _key(value) in (_ENCODE | {"builtins:bytes", "builtins:bytearray"})


def bytes_of(value: Any) -> bytes | bytearray | memoryview:
    """Return bytes, in whichever way a pickle's protocol writes them.

    Protocols below 3 write bytes as ``_codecs.encode(text, "latin1")``; Python 2 as a string.

    Raises:
        Corrupt: It stands for no bytes.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value
    if isinstance(value, LongBytearray):
        return value.data
    arguments: Any = value.arguments if type(value) is Call and is_bytes(value) else None
    match arguments:
        case ():
            if _key(value) not in _ENCODE:
                return b""
        case (str() as text, "latin1" | "latin-1") if text.isascii() or max(text) <= "\xff":
            return text.encode("latin-1")
        case (data,) if _key(value) not in _ENCODE and is_bytes(data):
            return _direct(data)
        case _:
            pass
    if isinstance(value, str):  # of Python 2, whose strings are bytes
        return _latin(value)
    raise Corrupt("a pickle has something else where bytes belong")


def _direct(value: Any) -> bytes | bytearray | memoryview:
    """Return the bytes that ``bytes`` or ``bytearray`` is given, which are one level deep."""
    if type(value) is Call and _key(value) not in _ENCODE:
        raise Corrupt("a pickle makes bytes of bytes of bytes")
    return bytes_of(value)


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise Corrupt("a pickle has a text where bytes belong") from error


def dtype_of(value: Any, depth: int = 0) -> np.dtype[Any]:
    """Return a dtype.

    Raises:
        Corrupt: It contradicts itself.
        Unsupported: It is not one that can be told from its description.
    """
    if not is_dtype(value) or value.new or depth > _DEPTH:
        raise Unsupported("something stands for a dtype that is none of numpy's own")
    code = value.arguments[0] if type(value.arguments) is tuple and value.arguments else None
    code = str(code, "latin-1") if isinstance(code, bytes) else code
    if isinstance(code, Global) and (code.module, code.name) == ("numpy", "record"):
        code = "V0"
    if not isinstance(code, str) or not _CODE.fullmatch(code) or len(value.states) > 1:
        raise Unsupported(f"a dtype of the kind {code!r:.40} cannot be read")
    state = value.states[0] if value.states else None
    if state is None:
        return _plain_dtype(code)
    if type(state) is not tuple or len(state) < 5 or type(state[0]) is not int:
        raise Corrupt("the state of a dtype is not one that numpy writes")
    try:
        return _dtype_from(code, state, depth)
    except (ValueError, TypeError, OverflowError, IndexError, RecursionError) as error:
        raise Corrupt(f"a dtype contradicts itself: {error!s:.100}") from error


def _plain_dtype(code: str) -> np.dtype[Any]:
    try:
        return np.dtype(code)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"numpy has no dtype {code!r:.40}") from error


def _dtype_from(code: str, state: tuple[Any, ...], depth: int) -> np.dtype[Any]:
    order, subarray, names, fields, *rest = state[1:]
    size = rest[0] if rest and type(rest[0]) is int else -1
    if subarray is not None:
        base, shape = subarray
        shape = (shape,) if type(shape) is int else shape
        return np.dtype((dtype_of(base, depth + 1), _shape(shape)))
    if names is not None or fields is not None:
        return _record(names, fields, size, depth)
    order = str(bytes_of(order), "latin-1") if not isinstance(order, str) else order
    if order not in ("<", ">", "=", "|"):
        raise Corrupt(f"a dtype has the byte order {order!r:.20}")
    if code.lstrip("<>=|")[0] in "mM" and len(rest) > 3:
        code = f"{code.lstrip('<>=|')[0]}8{_unit(rest[3])}"
    dtype = _plain_dtype(code)
    if code.lstrip("<>=|")[0] in "SUV" and size >= 0 and size != dtype.itemsize:
        raise Corrupt(f"a dtype of {dtype.itemsize} bytes claims {size}")
    return dtype.newbyteorder(cast("Any", order)) if order in "<>" else dtype


def _unit(metadata: Any) -> str:
    """Return the unit of a time dtype as its name has it: ``[25s]``."""
    if type(metadata) is tuple and len(metadata) == 2:
        metadata = metadata[1]
    if type(metadata) is not tuple or len(metadata) < 3:
        raise Corrupt("a time dtype has no unit")
    unit, count, divisor = bytes(bytes_of(metadata[0])), *metadata[1:3]
    if not _UNIT.fullmatch(unit) or type(count) is not int or divisor != 1 or count < 1:
        raise Corrupt("a time dtype has an unknown unit")
    name = unit.decode("ascii")
    return "" if name == "generic" else f"[{count if count > 1 else ''}{name}]"


def _record(names: Any, fields: Any, size: int, depth: int) -> np.dtype[Any]:
    if type(names) not in (tuple, list) or type(fields) is not Pairs or size < 0:
        raise Corrupt("the fields of a record dtype are not what numpy writes")
    known = {key: field for key, field in fields.items if isinstance(key, str)}
    described: list[Any] = [known.get(name, ()) for name in names if isinstance(name, str)]
    if any(type(field) is not tuple or len(field) < 2 for field in described):
        raise Corrupt("a record dtype names a field that it does not describe")
    parts: Any = {
        "names": list(names),
        "formats": [dtype_of(field[0], depth + 1) for field in described],
        "offsets": [field[1] for field in described],
        "itemsize": size,
    }
    dtype: np.dtype[Any] = np.dtype(parts)
    return dtype


def _shape(value: Any) -> tuple[int, ...]:
    value = tuple(value) if type(value) is list else value
    if type(value) is not tuple or not all(type(n) is int and n >= 0 for n in value):
        raise Corrupt("the shape of an array is not a tuple of sizes")
    if len(value) > 64:
        raise Corrupt(f"an array has {len(value)} dimensions")
    return value


def array_of(
    value: Any, data: memoryview | None = None
) -> np.ndarray[Any, Any] | Objects | MaskedObjects:
    """Return an array, as a read-only view of the pickle's bytes where they lie in it.

    Args:
        value: A value of the graph for which ``is_array`` holds.
        data: What was read, for arrays that joblib writes into the stream (``Inline``).

    Returns:
        An array, which may be unaligned; ``Objects`` or ``MaskedObjects`` for arrays of Python
        objects.

    Raises:
        Corrupt: Its bytes, shape and dtype contradict each other.
        Unsupported: It is of a class of its own, or its bytes are not in the pickle.
    """
    if type(value) is Inline:
        return _inline(value, data)
    key = _key(value)
    if key in _MASKED:
        return _masked(value, data)
    if key in _FROMBUFFER:
        return _from_buffer(value)
    if key not in _RECONSTRUCT:
        raise Corrupt("something stands for an array that is none")
    _refuse_class(value.arguments[0] if value.arguments else None)
    return _from_state(value)


def _refuse_class(kind: Any) -> None:
    key = kind.key if isinstance(kind, Global) else None
    if key not in _CLASSES:
        raise Unsupported(
            f"an array is of the class {key or 'unknown'}; only plain arrays are read here.",
            hint="numpy.asarray(array)  # where the file was written, then write it again",
        )


def _state_of(value: Call, size: int) -> tuple[Any, ...]:
    """Return the one state of an array without the version that newer numpy puts first."""
    states = value.states
    if len(states) != 1 or type(states[0]) is not tuple or value.items or value.appended:
        raise Corrupt("an array has not exactly one state")
    state = states[0]
    state = state[1:] if len(state) == size + 1 else state
    if len(state) != size:
        raise Corrupt(f"the state of an array has {len(state)} parts")
    return state


def _from_state(value: Call) -> np.ndarray[Any, Any] | Objects:
    shape, dtype, fortran, raw = _state_of(value, 4)
    order = "F" if fortran else "C"
    kind = dtype_of(dtype)
    if kind == np.dtype(object):
        return _objects(shape, order, raw)
    return _filled(bytes_of(raw), kind, _shape(shape), order)


def _objects(shape: Any, order: str, items: Any) -> Objects:
    sizes = _shape(shape)
    if type(items) is not list or len(items) != math.prod(sizes):
        raise Corrupt(f"an array of objects of shape {sizes} has not as many items")
    return Objects(sizes, order, items)


def _filled(
    raw: bytes | bytearray | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
) -> np.ndarray[Any, Any]:
    """Return a view of bytes as an array."""
    count = math.prod(shape)
    if dtype.hasobject:
        raise Unsupported("an array of records holds Python objects")
    if count * dtype.itemsize != len(raw) or (not dtype.itemsize and count > _MOST_EMPTY):
        raise Corrupt(f"an array of shape {shape} and dtype {dtype} has {len(raw)} bytes")
    try:
        if not raw:
            return np.zeros(shape, dtype, "F" if order == "F" else "C")
        flat = np.frombuffer(raw, dtype=dtype, count=count)
        array = flat.reshape(shape, order="F" if order == "F" else "C")
    except (ValueError, TypeError, MemoryError) as error:
        raise Corrupt(f"an array cannot be: {error!s:.100}") from error
    array.flags.writeable = False
    return array


def _from_buffer(value: Call) -> np.ndarray[Any, Any]:
    arguments = value.arguments
    if type(arguments) is not tuple or len(arguments) not in (4, 5) or value.states:
        raise Corrupt("an array of protocol 5 is not what numpy writes")
    raw, dtype, shape, order, *axes = arguments
    if isinstance(raw, OutOfBand):
        raise Unsupported("the bytes of an array are not in the pickle, but in buffers beside it")
    if order not in ("C", "F", "K", "A"):
        raise Corrupt(f"an array has the order {order!r:.20}")
    array = _filled(bytes_of(raw), dtype_of(dtype), _shape(shape), order)
    if order == "K" and axes and axes[0] is not None:
        return _transposed(array, axes[0])
    return array


def _transposed(array: np.ndarray[Any, Any], axes: Any) -> np.ndarray[Any, Any]:
    try:
        return array.transpose(_shape(axes))
    except ValueError as error:
        raise Corrupt(f"the axes of an array are {axes!r:.60}") from error


def _masked(value: Call, data: memoryview | None) -> np.ndarray[Any, Any] | MaskedObjects:
    """Return a masked array."""
    arguments = value.arguments
    if type(arguments) is not tuple or len(arguments) < 2:
        raise Corrupt("a masked array is not what numpy writes")
    if not isinstance(arguments[0], Global) or arguments[0].key not in _MASKED_CLASSES:
        _refuse_class(arguments[0])
    _refuse_class(arguments[1])
    shape, dtype, fortran, raw, mask, fill = _state_of(value, 6)
    kind, sizes, order = dtype_of(dtype), _shape(shape), "F" if fortran else "C"
    hidden = _filled(bytes_of(mask), np.ma.make_mask_descr(kind), sizes, order)
    if kind == np.dtype(object):
        objects = _objects(shape, order, raw)
        flat = np.empty(len(objects.items), dtype=object)
        values = flat.reshape(sizes, order="F" if fortran else "C")
        told = MaskedObjects(np.ma.masked_array(values, mask=hidden.copy()), flat, objects.items)
        told.array.fill_value = _fill_of(fill, data)
        return told
    values = _filled(bytes_of(raw), kind, sizes, order)
    masked: Any = np.ma.masked_array(values, mask=hidden)
    masked.fill_value = _fill_of(fill, data)  # none is numpy's usual one, as numpy itself has it
    return cast("np.ndarray[Any, Any]", masked)


def _fill_of(fill: Any, data: memoryview | None) -> Any:
    """Return a masked array's fill value; None when it says none."""
    if fill is None or type(fill) is str:
        return fill
    content = array_of(fill, data)
    if isinstance(content, Objects) and content.shape == () and type(content.items[0]) is str:
        return content.items[0]
    if not isinstance(content, np.ndarray) or content.shape != ():
        raise Corrupt("a masked array has no scalar as its fill value")
    return content[()]


def _inline(
    value: Inline, data: memoryview | None
) -> np.ndarray[Any, Any] | Objects | MaskedObjects:
    facts = value.facts
    _refuse_class(facts.get("subclass"))
    if value.nested is not None:
        return array_of(value.nested)
    if data is None:
        raise Corrupt("an array lies in a stream that is not at hand")
    raw = data[value.offset : value.offset + value.size]
    shape, order = _shape(facts.get("shape")), facts.get("order")
    if order not in ("C", "F"):
        raise Corrupt(f"an array has the order {order!r:.20}")
    return _filled(raw, dtype_of(facts.get("dtype")), shape, order)


def scalar_of(value: Any) -> np.generic:
    """Return a numpy scalar.

    Raises:
        Corrupt: It is not what numpy writes.
        Unsupported: It holds a Python object.
    """
    arguments = value.arguments if is_scalar(value) else None
    if type(arguments) is not tuple or len(arguments) != 2 or value.states:
        raise Corrupt("a numpy scalar is not what numpy writes")
    dtype = dtype_of(arguments[0])
    if dtype.hasobject:
        raise Unsupported("a numpy scalar holds a Python object")
    return cast("np.generic", _filled(bytes_of(arguments[1]), dtype, (), "C")[()])
