"""How large the items of a numpy dtype are that a pickle describes, told without numpy.

Source: numpy's ``numpy/_core/src/multiarray/descriptor.c`` (``arraydescr_reduce`` and
``arraydescr_setstate``).
"""

from __future__ import annotations

import re
from typing import Any, Final

from holdfast.trust.pickles.values import Call, Global, Pairs

__all__ = ["Unknown", "item_size"]

# Classes whose instances are dtypes.
_DTYPES: Final = frozenset({"numpy:dtype", "numpy._core.multiarray:dtype"})
# Kind and size, as ``dtype.str`` spells them; for U the size is in characters of four bytes.
_CODE: Final = re.compile(r"[<>=|]?([biufcmMOSUV])([0-9]{1,9})")

# Bit of a dtype's flags (numpy's NPY_ITEM_HASOBJECT).
_HAS_OBJECTS: Final = 1


class Unknown(Exception):
    """The dtype is not one whose size is known here."""


def item_size(dtype: Any) -> int | None:
    """Return how many bytes an item takes.

    Args:
        dtype: A value of a pickle's graph.

    Returns:
        None for dtypes of Python objects, or with fields that are such.

    Raises:
        Unknown: It is no dtype that numpy's own pickling writes, or its state contradicts it: numpy
            believes the state, for example a flag that says that numbers are objects.
    """
    code, state = _parts(dtype)
    found = _CODE.fullmatch(code)
    if found is None:
        raise Unknown
    kind, digits = found.groups()
    size = int(digits) * (4 if kind == "U" else 1)
    objects = kind == "O"
    if state is not None:
        objects = _judged(kind, size, state)
    return None if objects else size


def _parts(dtype: Any) -> tuple[str, tuple[Any, ...] | None]:
    if type(dtype) is not Call or not isinstance(dtype.function, Global) or dtype.new:
        raise Unknown
    arguments = dtype.arguments
    if dtype.function.key not in _DTYPES or type(arguments) is not tuple or not arguments:
        raise Unknown
    if dtype.items or dtype.appended or dtype.added or len(dtype.states) > 1:
        raise Unknown
    code, state = arguments[0], dtype.states[0] if dtype.states else None
    if type(code) is not str or (state is not None and type(state) is not tuple):
        raise Unknown
    return code, state


def _judged(kind: str, size: int, state: tuple[Any, ...]) -> bool:
    """Return whether items are objects or hold some, once the state agrees with the rest."""
    if not 8 <= len(state) <= 9:
        raise Unknown
    subarray, names, fields, itemsize, flags = state[2], state[3], state[4], state[5], state[7]
    if type(itemsize) is not int or itemsize != (size if kind in "SUV" else -1):
        raise Unknown
    objects = kind == "O"
    if kind == "V":
        objects = _has_objects(subarray, fields)
    elif subarray is not None or names is not None or fields is not None:
        raise Unknown
    if type(flags) is not int or bool(flags & _HAS_OBJECTS) != objects:
        raise Unknown
    return objects


def _has_objects(subarray: Any, fields: Any) -> bool:
    if subarray is not None:
        if type(subarray) is not tuple or len(subarray) != 2:
            raise Unknown
        return item_size(subarray[0]) is None
    if fields is None:
        return False
    if type(fields) is not Pairs:
        raise Unknown
    inner = [field[0] if type(field) is tuple and field else None for _, field in fields.items]
    return any([item_size(dtype) is None for dtype in inner])  # noqa: C419 - each must be known
