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


class Unknown(Exception):
    """The dtype is not one whose size is known here."""


def item_size(dtype: Any) -> int | None:
    """Return how many bytes an item takes.

    Args:
        dtype: A value of a pickle's graph.

    Returns:
        None for dtypes of Python objects, or with fields that are such.

    Raises:
        Unknown: It is no dtype that numpy's own pickling writes.
    """
    code, state = _parts(dtype)
    found = _CODE.fullmatch(code)
    if found is None:
        raise Unknown
    kind, digits = found.groups()
    if _has_objects(kind, state):
        return None
    size = int(digits) * (4 if kind == "U" else 1)
    if kind in "SUV" and state is not None and state[5:6] != (size,):
        raise Unknown
    return size


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


def _has_objects(kind: str, state: tuple[Any, ...] | None) -> bool:
    if kind == "O":
        return True
    if kind != "V" or state is None:
        return False
    if len(state) > 2 and type(state[2]) is tuple and len(state[2]) == 2:  # a subarray
        return item_size(state[2][0]) is None
    fields = state[4] if len(state) > 4 else None
    if fields is None:
        return False
    if type(fields) is not Pairs:
        raise Unknown
    return any(
        item_size(field[0]) is None if type(field) is tuple and field else True
        for _, field in fields.items
    )
