"""pandas' own dtypes as plain parts; ``kind`` says how to put them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from holdfast.codec.columns import MASKED, build_index, index_parts, text_dtype
from holdfast.codec.zones import UNITS, pandas, period_dtype, period_text, zone_of, zone_text
from holdfast.errors import Corrupt, Unsupported

__all__ = ["build_dtype", "dtype_parts"]

_Parts = dict[str, Any]


def dtype_parts(dtype: Any) -> _Parts:
    """Split an extension dtype into plain parts.

    Raises:
        Unsupported: It is none of pandas' own.
    """
    if str(dtype) in MASKED:
        return {"kind": "masked", "dtype": str(dtype)}
    splitter = _SPLITTERS.get(type(dtype).__name__)
    if splitter is None:
        raise Unsupported(f"the pandas dtype {dtype!s:.60} cannot be kept.", hint="str(dtype)")
    return splitter(dtype)


def _category_parts(dtype: Any) -> _Parts:
    known = dtype.categories
    categories = None if known is None else index_parts(known, "categories")
    return {"kind": "category", "categories": categories, "ordered": dtype.ordered}


def _interval_parts(dtype: Any) -> _Parts:
    inner = dtype.subtype
    if inner is not None and not isinstance(inner, np.dtype):
        inner = dtype_parts(inner)
    return {"kind": "interval", "subtype": inner, "closed": dtype.closed}


_SPLITTERS: Final[dict[str, Callable[[Any], _Parts]]] = {
    "CategoricalDtype": _category_parts,
    "DatetimeTZDtype": lambda dtype: {
        "kind": "zoned",
        "unit": str(dtype.unit),
        "zone": zone_text(dtype.tz),
    },
    "IntervalDtype": _interval_parts,
    "PeriodDtype": lambda dtype: {"kind": "period", "freq": period_text(dtype)},
    "SparseDtype": lambda dtype: {
        "kind": "sparse",
        "subtype": dtype.subtype,
        "fill": dtype.fill_value,
    },
    "StringDtype": lambda dtype: {
        "kind": "text",
        "dtype": str(dtype),
        "storage": str(dtype.storage),
    },
}


def build_dtype(parts: Any) -> Any:
    """Put a dtype together again; raises ``Corrupt`` for parts that do not fit."""
    kind = parts.get("kind") if type(parts) is dict else None
    builder = _BUILDERS.get(kind) if isinstance(kind, str) else None
    if builder is None:
        raise Corrupt("a pandas dtype is of an unknown kind")
    return builder(parts)


def _build_masked(parts: _Parts) -> Any:
    name = parts["dtype"]
    if not isinstance(name, str) or name not in MASKED:
        raise Corrupt("a masked pandas dtype is of an unknown kind")
    return pandas().api.types.pandas_dtype(name)


def _build_category(parts: _Parts) -> Any:
    categories, ordered = parts["categories"], parts["ordered"]
    if ordered is not None and type(ordered) is not bool:
        raise Corrupt("the order of categories is neither there nor not")
    known = None if categories is None else build_index(categories, labels=True)
    return pandas().CategoricalDtype(known, ordered=ordered)


def _build_zoned(parts: _Parts) -> Any:
    if parts["unit"] not in UNITS:
        raise Corrupt("a pandas dtype counts time in an unknown unit")
    return pandas().DatetimeTZDtype(unit=parts["unit"], tz=zone_of(parts["zone"]))


def _build_interval(parts: _Parts) -> Any:
    inner = parts["subtype"]
    if type(inner) is dict:
        inner = _build_zoned(inner)
    if inner is not None and not isinstance(inner, np.dtype | pandas().DatetimeTZDtype):
        raise Corrupt("intervals are of an unknown type")
    return pandas().IntervalDtype(inner, parts["closed"])


def _build_sparse(parts: _Parts) -> Any:
    if not isinstance(parts["subtype"], np.dtype):
        raise Corrupt("a sparse pandas dtype is of an unknown type")
    return pandas().SparseDtype(parts["subtype"], parts["fill"])


_BUILDERS: Final[dict[str, Callable[[_Parts], Any]]] = {
    "masked": _build_masked,
    "category": _build_category,
    "text": lambda parts: text_dtype(parts["dtype"], parts["storage"]),
    "zoned": _build_zoned,
    "period": lambda parts: period_dtype(parts["freq"]),
    "interval": _build_interval,
    "sparse": _build_sparse,
}
