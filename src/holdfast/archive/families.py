"""Which values are interchangeable as inputs: all numbers, all texts, all points in time."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np

__all__ = ["Held", "family", "family_of", "has_missing", "look"]

# A family by how the dtype's name begins; numpy, pandas, Arrow in pandas, torch.
_PREFIXES: Final = {
    "number": (
        "int", "uint", "float", "bool", "bfloat", "double", "half", "decimal",
    ),
    "complex": ("complex",),
    "text": ("str", "string", "large_string", "<u", ">u"),
    "time": ("datetime", "timestamp", "date32", "date64"),
    "duration": ("timedelta", "duration"),
}  # fmt: skip

_TYPES: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (str, "text"),
    ((bool, int, float, Decimal, np.integer, np.floating, np.bool_), "number"),
    ((complex, np.complexfloating), "complex"),
    ((date, np.datetime64), "time"),
    ((timedelta, np.timedelta64), "duration"),
)
_MARKS: Final = {"NoneType": "None", "NAType": "NA", "NaTType": "NaT"}
_COMPARABLE: Final = ("float16", "float32", "float64", "longdouble", "bfloat16", "complex")


class Held(NamedTuple):
    """What a sequence of Python objects holds.

    Attributes:
        family: ``text``, ``number``, ``complex``, ``time``, ``duration``, ``other``; ``mixed``
            when there are several, ``nothing`` when no value is there.
        missing: How missing values are marked: ``None``, ``nan``, ``NA``, ``NaT``.
    """

    family: str
    missing: frozenset[str]


def look(objects: Any) -> Held:
    """Say what objects there are in a list, an object array or a column."""
    values = objects if isinstance(objects, list) else np.asarray(objects, object).ravel().tolist()
    kinds = set(map(type, values))
    missing = {_MARKS[kind.__name__] for kind in kinds if kind.__name__ in _MARKS}
    kinds = {kind for kind in kinds if kind.__name__ not in _MARKS}
    floats = tuple(kind for kind in kinds if issubclass(kind, float | np.floating))
    if floats:
        numbers = [value for value in values if isinstance(value, floats)]
        absent = sum(value != value for value in numbers)  # noqa: PLR0124 - only NaN differs from itself
        if absent:
            missing.add("nan")
        if absent == len(numbers):
            kinds -= set(floats)
    families = {_family_of_type(kind) for kind in kinds}
    if len(families) > 1:
        return Held("mixed", frozenset(missing))
    return Held(families.pop() if families else "nothing", frozenset(missing))


def _family_of_type(kind: type) -> str:
    return next((name for known, name in _TYPES if issubclass(kind, known)), "other")


@functools.lru_cache(maxsize=256)
def family(dtype: str) -> str:
    """Group dtypes, by name, that are interchangeable as inputs; ``object`` is not told by it."""
    lower = dtype.lower().removeprefix("torch.")
    for wrapper in ("sparse[", "dictionary<values="):
        lower = lower.removeprefix(wrapper)
    for name, prefixes in _PREFIXES.items():
        if lower.startswith(prefixes):
            return name
    return lower.partition("[")[0]


def family_of(described: Mapping[str, Any]) -> str | None:
    """Return the family of a described column or array; None when none was recorded."""
    dtype = described.get("dtype")
    if dtype == "category":
        dtype = described.get("categories_dtype", "str")
    if dtype == "object":
        return str(described.get("holds", "text"))
    return None if dtype is None else family(str(dtype))


def has_missing(values: Any) -> bool | None:
    """Say whether an array or tensor has missing values; None where its dtype has none.

    Args:
        values: Array, tensor, sparse matrix or pandas Series.
    """
    if hasattr(values, "isna"):
        return bool(values.isna().any())
    if hasattr(values, "tocsr"):
        return has_missing(values.tocsr().data)
    dtype = str(values.dtype).removeprefix("torch.")
    if dtype == "object" or dtype.startswith("StringDType"):
        return bool(look(values).missing)
    if dtype.startswith((*_COMPARABLE, "datetime", "timedelta")):
        return bool((values != values).any())  # noqa: PLR0124 - NaN and NaT differ from themselves
    return None
