"""Models that others trust to answer once per row: functions inside them might not."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["require_rows"]

_PARTS: Final = 1_000_000
_ITEMS: Final = (list, tuple)


def require_rows(model: Any, what: str) -> None:
    """Refuse a model in which a function or a step could drop rows of its inputs.

    Every estimator answers once per row that it is given, but for what functions make of them.

    Args:
        model: An estimator that is built.
        what: How a message calls it.

    Raises:
        Corrupt: Something in it might answer for other rows than it is asked for.
    """
    stack, seen = [model], {id(model)}
    while stack:
        part = stack.pop()
        if _is_function(part) or type(part).__name__ == "PatchExtractor":
            raise Corrupt(f"{what} holds {part!r:.60}, which might drop rows")
        parts = _parts(part)
        fresh = {id(inner): inner for inner in parts if id(inner) not in seen}
        seen |= fresh.keys()
        stack += fresh.values()
        if len(seen) > _PARTS:
            raise Corrupt(f"{what} has too many parts")


def _parts(part: Any) -> list[Any]:
    if isinstance(part, _ITEMS):
        return list(part)
    if isinstance(part, dict):
        return list(part.values())
    if isinstance(part, np.ndarray) and part.dtype == object:
        return list(part.ravel())
    return list(getattr(part, "__dict__", {}).values())


def _is_function(part: Any) -> bool:
    """Say whether a value is a function other than an elementwise one or a check of arrays."""
    if isinstance(part, functools.partial):
        return part.func.__name__ != "check_array"
    if isinstance(part, np.ufunc):
        return (part.nin, part.nout) != (1, 1) or part.signature is not None
    named = callable(part) and hasattr(part, "__name__") and not isinstance(part, type)
    return named and part.__name__ != "check_array"
