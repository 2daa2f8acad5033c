"""How picklers call what is known to be data, where another call would be something else.

Sources: CPython's ``Lib/pickle.py`` (``save_bytes``, ``save_bytearray``), ``Lib/copyreg.py``, and
numpy's ``_core/src/multiarray/multiarraymodule.c`` (``array_scalar`` returns what it is given when
the dtype is of objects).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from holdfast.trust.pickles import Call, Global, LongBytearray

__all__ = ["USUAL"]

_ENCODE: Final = ("_codecs:encode", "codecs:encode")
_BYTES: Final = (bytes, bytearray, memoryview, LongBytearray, str)
_CORES: Final = ("numpy.core.multiarray", "numpy._core.multiarray")
_RECONSTRUCT: Final = frozenset(f"{core}:_reconstruct" for core in _CORES)


def _encodes_bytes(call: Call) -> bool:
    match call.arguments:
        case (str(), "latin1" | "latin-1"):
            return True
        case _:
            return False


def _are_bytes(value: Any) -> bool:
    """Say whether a value is bytes as some protocol writes them."""
    if isinstance(value, _BYTES):
        return True
    return type(value) is Call and type(value.function) is Global and value.function.key in _ENCODE


def _makes_bytes(call: Call) -> bool:
    arguments = call.arguments
    return (
        not arguments
        or (len(arguments) == 1 and _are_bytes(arguments[0]) and type(arguments[0]) is not str)
        or _encodes_bytes(call)
    )


def _makes_scalar(call: Call) -> bool:
    if len(call.arguments) != 2 or not _are_bytes(call.arguments[1]):
        return False
    dtype = call.arguments[0]
    code = dtype.arguments[0] if type(dtype) is Call and type(dtype.arguments) is tuple else None
    return type(code) is str and not code.lstrip("<>=|").startswith("O")


def _makes_array(call: Call) -> bool:
    match call.arguments:
        case (Global(), tuple(), kind):
            return _are_bytes(kind)
        case _:
            return False


def _makes_object(call: Call) -> bool:
    match call.arguments:
        case (Global(), Global(), _):
            return True
        case _:
            return False


def _is_only_named(call: Call) -> bool:
    return call.new and call.arguments == ()


def _is_given_class_of(package: str, call: Call) -> bool:
    """Say whether the class to be made, the first argument, is one of the package's own."""
    kind = call.arguments[0] if call.arguments else None
    return type(kind) is Global and kind.module.partition(".")[0] == package


def _makes_array_as_dill(call: Call) -> bool:
    match call.arguments:
        case (Global() as function, tuple(), tuple(), _):
            return function.key in _RECONSTRUCT
        case _:
            return False


def _rebuilds(call: Call) -> bool:
    function = call.arguments[0] if call.arguments else None
    return type(function) is Global and function.key.startswith("torch._utils:_rebuild_")


# These make an object of whatever class they are given.
_PANDAS: Final = (
    "pandas.core.indexes.base:_new_Index",
    "pandas.core.indexes.datetimes:_new_DatetimeIndex",
    "pandas.core.indexes.interval:_new_IntervalIndex",
    "pandas.core.indexes.period:_new_PeriodIndex",
    "pandas.core.indexes.timedeltas:_new_TimedeltaIndex",
    "pandas._libs.arrays:__pyx_unpickle_NDArrayBacked",
    "pandas._libs.interval:__pyx_unpickle_IntervalMixin",
)

# By ``module:name``; what stands here with another call is none that a pickler writes.
USUAL: Final[dict[str, Callable[[Call], bool]]] = {
    **dict.fromkeys(_ENCODE, _encodes_bytes),
    **{f"{core}:scalar": _makes_scalar for core in _CORES},
    **{f"{core}:_reconstruct": _makes_array for core in _CORES},
    "builtins:bytes": _makes_bytes,
    "builtins:bytearray": _makes_bytes,
    "copyreg:_reconstructor": _makes_object,
    "joblib.numpy_pickle:NumpyArrayWrapper": _is_only_named,
    "sklearn.externals.joblib.numpy_pickle:NumpyArrayWrapper": _is_only_named,
    "array:_array_reconstructor": partial(_is_given_class_of, "array"),
    **dict.fromkeys(_PANDAS, partial(_is_given_class_of, "pandas")),
    "torch._tensor:_rebuild_from_type_v2": _rebuilds,
    "dill._dill:_create_array": _makes_array_as_dill,
}
