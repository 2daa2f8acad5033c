"""Columns and indexes of pandas as plain parts; ``kind`` says how to put them together.

pandas trusts codes, masks and levels once they are inside, so everything is put together by its
validating constructors, never by filling objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from holdfast.codec.zones import (
    freq_of,
    freq_text,
    pandas,
    period_dtype,
    period_text,
    zone_of,
    zone_text,
)
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra

__all__ = ["MASKED", "build_column", "build_index", "column_parts", "index_parts", "text_dtype"]

_INTEGERS: Final = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
MASKED: Final = _INTEGERS | {"Float32", "Float64", "boolean"}
_MAX_LABELS: Final = 1 << 24

_Parts = dict[str, Any]


def column_parts(values: Any, place: str) -> _Parts:
    """Split a Series, Index or extension array into plain parts.

    Raises:
        Unsupported: It is of a dtype that cannot be kept; the message names ``place``.
    """
    array = getattr(values, "array", values)
    dtype = array.dtype
    if type(dtype).__name__ in ("NumpyEADtype", "PandasDtype"):
        dtype = dtype.numpy_dtype
    if isinstance(dtype, np.dtype):
        if dtype.kind in "biufcmM":
            return {"kind": "plain", "values": np.array(np.asarray(array), dtype=dtype)}
        if dtype.kind == "O":
            return {"kind": "object", "values": list(np.asarray(array, dtype=object))}
    splitter = _SPLITTERS.get(type(dtype).__name__)
    if str(dtype) in MASKED:
        splitter = _masked_parts
    if splitter is None or type(dtype).__module__.partition(".")[0] != "pandas":
        raise Unsupported(
            f"{place} has the pandas dtype {dtype}, which this release cannot keep.",
            hint=f"frame[{place!r}] = frame[{place!r}].astype(object)",
        )
    return splitter(array, place)


def _category_parts(array: Any, place: str) -> _Parts:
    return {
        "kind": "category",
        "codes": np.array(array.codes, dtype=np.int32),
        "categories": index_parts(array.categories, f"{place}.categories"),
        "ordered": bool(array.ordered),
    }


def _masked_parts(array: Any, _: str) -> _Parts:
    name = str(array.dtype)
    dtype = "bool" if name == "boolean" else name.lower()
    return {
        "kind": "masked",
        "dtype": name,
        "values": np.array(array.to_numpy(dtype=dtype, na_value=np.dtype(dtype).type(0))),
        "mask": np.array(array.isna()),
    }


def _zoned_parts(array: Any, _: str) -> _Parts:
    naive = np.array(array.tz_convert("UTC").tz_localize(None))
    return {"kind": "zoned", "zone": zone_text(array.dtype.tz), "values": naive}


def _text_parts(array: Any, _: str) -> _Parts:
    missing = np.asarray(array.isna())
    texts = ["" if gone else str(text) for text, gone in zip(array, missing, strict=True)]
    return {
        "kind": "text",
        "dtype": str(array.dtype),
        "storage": str(array.dtype.storage),
        "values": texts,
        "mask": np.array(missing),
    }


def _period_parts(array: Any, _: str) -> _Parts:
    return {"kind": "period", "freq": period_text(array.dtype), "values": np.array(array.asi8)}


def _interval_parts(array: Any, place: str) -> _Parts:
    return {
        "kind": "interval",
        "closed": str(array.closed),
        "left": column_parts(array.left, place),
        "right": column_parts(array.right, place),
    }


def _sparse_parts(array: Any, place: str) -> _Parts:
    values = np.array(array.sp_values)
    if values.dtype.kind not in "biufc":
        raise Unsupported(
            f"{place} is a sparse column of {values.dtype}.",
            hint=f"frame[{place!r}] = frame[{place!r}].sparse.to_dense()",
        )
    return {
        "kind": "sparse",
        "length": len(array),
        "places": np.array(array.sp_index.to_int_index().indices, dtype=np.int32),
        "values": values,
        "fill": array.fill_value,
        "blocks": array.kind == "block",
    }


_SPLITTERS: Final[dict[str, Callable[[Any, str], _Parts]]] = {
    "CategoricalDtype": _category_parts,
    "DatetimeTZDtype": _zoned_parts,
    "IntervalDtype": _interval_parts,
    "PeriodDtype": _period_parts,
    "SparseDtype": _sparse_parts,
    "StringDtype": _text_parts,
}


def build_column(parts: Any) -> Any:
    """Put a column together again: a numpy array, or pandas' own.

    Raises:
        Corrupt: The parts do not fit.
    """
    kind = parts.get("kind") if type(parts) is dict else None
    builder = _BUILDERS.get(kind) if isinstance(kind, str) else None
    if builder is None:
        raise Corrupt("a pandas column is of an unknown kind")
    return builder(parts)


def _array(parts: _Parts, name: str, kinds: str) -> Any:
    values = parts[name]
    if type(values) is not np.ndarray or values.ndim != 1 or values.dtype.kind not in kinds:
        raise Corrupt(f"the {name} of a pandas column are not what they should be")
    if not values.dtype.isnative:
        raise Corrupt(f"the {name} of a pandas column have a foreign byte order")
    return values


def _mask(parts: _Parts, length: int) -> Any:
    mask = _array(parts, "mask", "b")
    if len(mask) != length:
        raise Corrupt("the mask of a pandas column does not fit its values")
    return mask


def _list(parts: _Parts) -> list[Any]:
    values = parts["values"]
    if type(values) is not list:
        raise Corrupt("the values of a pandas column are not a list")
    return values


def _build_object(parts: _Parts) -> Any:
    values = _list(parts)
    column = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        column[position] = value
    return column


def text_dtype(name: Any, storage: Any) -> Any:
    """Return the dtype of texts: ``str``, whose missing mark is NaN, or ``string``, with NA.

    Up to pandas 2.2, texts that may miss by NaN are objects. Where pyarrow is not installed, Python
    keeps the texts that it kept.
    """
    if name not in ("str", "string") or storage not in ("python", "pyarrow"):
        raise Corrupt("a pandas column of texts is of an unknown kind")
    dtype = pandas().StringDtype
    options = {} if name == "string" else {"na_value": np.nan}
    try:
        return dtype(storage, **options)
    except ImportError:
        return dtype("python", **options)
    except TypeError:
        return np.dtype(object)


def _build_text(parts: _Parts) -> Any:
    values = _list(parts)
    if any(type(text) is not str for text in values):
        raise Corrupt("a pandas column of texts holds something else")
    mask = _mask(parts, len(values))
    dtype = text_dtype(parts["dtype"], parts["storage"])
    missing = np.nan if isinstance(dtype, np.dtype) else None
    items = [missing if gone else text for text, gone in zip(values, mask, strict=True)]
    return pandas().array(items, dtype=dtype)


def _build_masked(parts: _Parts) -> Any:
    name = parts["dtype"]
    if not isinstance(name, str) or name not in MASKED:
        raise Corrupt("a masked pandas column is of an unknown kind")
    values = _array(parts, "values", "biuf")
    if values.dtype != np.dtype("bool" if name == "boolean" else name.lower()):
        raise Corrupt("the values of a masked pandas column are of another type than it says")
    arrays = pandas().arrays
    kind = arrays.IntegerArray if name in _INTEGERS else arrays.FloatingArray
    return (arrays.BooleanArray if name == "boolean" else kind)(values, _mask(parts, len(values)))


def _build_zoned(parts: _Parts) -> Any:
    times = pandas().DatetimeIndex(_array(parts, "values", "M"))
    return times.tz_localize("UTC").tz_convert(zone_of(parts["zone"])).array


def _build_category(parts: _Parts) -> Any:
    categories, ordered = build_index(parts["categories"], labels=True), parts["ordered"]
    if type(ordered) is not bool:
        raise Corrupt("the categories of a pandas column are not what they should be")
    codes = _array(parts, "codes", "i")
    return pandas().Categorical.from_codes(codes, categories=categories, ordered=ordered)


def _build_period(parts: _Parts) -> Any:
    ordinals = _array(parts, "values", "i").astype(np.int64, copy=False)
    return pandas().arrays.PeriodArray(ordinals, dtype=period_dtype(parts["freq"]))


def _build_interval(parts: _Parts) -> Any:
    closed = parts["closed"]
    if closed not in ("left", "right", "both", "neither"):
        raise Corrupt("the intervals of a pandas column are closed in an unknown manner")
    sides = (pandas().Index(build_column(parts[side])) for side in ("left", "right"))
    return pandas().arrays.IntervalArray.from_arrays(*sides, closed=closed)


def _build_sparse(parts: _Parts) -> Any:
    length, places, fill = parts["length"], _array(parts, "places", "i"), parts["fill"]
    values = _array(parts, "values", "biufc")
    if type(length) is not int or not 0 <= length <= np.iinfo(np.int32).max:
        raise Corrupt("a sparse pandas column has an impossible length")
    if len(places) != len(values) or type(parts["blocks"]) is not bool:
        raise Corrupt("the values of a sparse pandas column do not fit their places")
    if len(places) and (places[0] < 0 or places[-1] >= length or (np.diff(places) <= 0).any()):
        raise Corrupt("the places of a sparse pandas column are out of order or range")
    if np.ndim(fill) or np.asarray(fill).dtype.kind not in "biufc":
        raise Corrupt("a sparse pandas column is filled with something that is not a number")
    return _sparse_array(parts, places.astype(np.int32))


def _sparse_array(parts: _Parts, places: Any) -> Any:
    kind: Any = pandas().arrays.SparseArray
    values, fill, length = parts["values"], parts["fill"], parts["length"]
    if hasattr(kind, "from_indices"):  # the only way from pandas 3.1 on
        form = "block" if parts["blocks"] else "integer"
        return kind.from_indices(values, places, length, fill_value=fill, kind=form)
    inner = import_extra("pandas._libs.sparse", needed_for="a sparse pandas column")
    index = inner.IntIndex(length, places)
    index = index.to_block_index() if parts["blocks"] else index
    dtype = pandas().SparseDtype(values.dtype, fill)
    return kind(values, sparse_index=index, fill_value=fill, dtype=dtype)


_BUILDERS: Final[dict[str, Callable[[_Parts], Any]]] = {
    "plain": lambda parts: _array(parts, "values", "biufcmM"),
    "object": _build_object,
    "text": _build_text,
    "masked": _build_masked,
    "zoned": _build_zoned,
    "category": _build_category,
    "period": _build_period,
    "interval": _build_interval,
    "sparse": _build_sparse,
}


def index_parts(index: Any, place: str) -> _Parts:
    """Split an index into plain parts; raises ``Unsupported`` as ``column_parts`` does."""
    if type(index) is pandas().RangeIndex:
        bounds = [int(index.start), int(index.stop), int(index.step)]
        return {"kind": "range", "bounds": bounds, "name": index.name}
    if type(index) is pandas().MultiIndex:
        return {
            "kind": "multi",
            "levels": [index_parts(level, place) for level in index.levels],
            "codes": [np.array(codes, dtype=np.int32) for codes in index.codes],
            "names": list(index.names),
        }
    freq = freq_text(index.freq) if type(index).__name__ in _PACED else None
    values = column_parts(index, place)
    return {"kind": "index", "values": values, "name": index.name, "freq": freq}


# Indexes that know the step between their members.
_PACED: Final = frozenset({"DatetimeIndex", "TimedeltaIndex"})


def build_index(parts: Any, *, labels: bool = False) -> Any:
    """Put an index together again.

    Args:
        parts: What ``index_parts`` gave.
        labels: It serves as categories or as a level, which pandas spells out one by one.

    Raises:
        Corrupt: The parts do not fit.
    """
    match parts:
        case {"kind": "range", "bounds": [int(start), int(stop), int(step)], "name": name} if step:
            index = pandas().RangeIndex(start, stop, step, name=name)
        case {"kind": "index", "values": values, "name": name, "freq": freq}:
            index = _build_labels(build_column(values), name, freq)
        case {"kind": "multi", "levels": list(levels), "codes": list(codes), "names": list(names)} \
            if not labels:  # fmt: skip
            built = [build_index(level, labels=True) for level in levels]
            numbers = [_array({"codes": item}, "codes", "i") for item in codes]
            return pandas().MultiIndex(built, numbers, names=names, verify_integrity=True)
        case _:
            raise Corrupt("a pandas index's parts do not fit together")
    if labels and len(index) > _MAX_LABELS:
        raise Corrupt("a pandas index has more labels than can be meant")
    return index


def _build_labels(array: Any, name: Any, freq: Any) -> Any:
    # The dtype is said because pandas 3 otherwise makes ``str`` of an array of texts.
    index = pandas().Index(array, dtype=array.dtype, name=name)
    if freq is not None:
        if type(index).__name__ not in _PACED:
            raise Corrupt("an index without times has a frequency")
        index.freq = freq_of(freq)
    return index
