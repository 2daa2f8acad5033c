"""Single values, dtypes, indexes and extension arrays of pandas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.codec.columns import build_column, build_index, column_parts, index_parts
from holdfast.codec.pandas_dtypes import build_dtype, dtype_parts
from holdfast.codec.registry import TypeSpec
from holdfast.codec.zones import (
    UNITS,
    pandas,
    period_dtype,
    period_text,
    zone_of,
    zone_text,
)
from holdfast.errors import Corrupt

__all__ = ["TYPES"]


def _moment(value: Any, kind: type[np.datetime64 | np.timedelta64]) -> Any:
    if not isinstance(value, kind) or np.isnat(value):
        raise Corrupt("a moment of pandas is not one of numpy's")
    unit, steps = np.datetime_data(value.dtype)
    if unit not in UNITS or steps != 1:
        raise Corrupt("a moment of pandas counts in an unknown unit")
    return value


def _encode_timestamp(moment: Any) -> dict[str, Any]:
    if moment.tz is None:
        return {"value": moment.to_datetime64(), "zone": None}
    naive = moment.tz_convert("UTC").tz_localize(None)
    return {"value": naive.to_datetime64(), "zone": zone_text(moment.tz)}


def _build_timestamp(fields: Mapping[str, Any]) -> Any:
    moment = pandas().Timestamp(_moment(fields["value"], np.datetime64))
    if fields["zone"] is None:
        return moment
    return moment.tz_localize("UTC").tz_convert(zone_of(fields["zone"]))


def _build_timedelta(fields: Mapping[str, Any]) -> Any:
    return pandas().Timedelta(_moment(fields["value"], np.timedelta64))


def _encode_interval(interval: Any) -> dict[str, Any]:
    return {"left": interval.left, "right": interval.right, "closed": str(interval.closed)}


def _build_interval(fields: Mapping[str, Any]) -> Any:
    ends = (int, float, np.number, pandas().Timestamp, pandas().Timedelta)
    if not all(isinstance(fields[side], ends) for side in ("left", "right")):
        raise Corrupt("the ends of an Interval are neither numbers nor times")
    return pandas().Interval(fields["left"], fields["right"], closed=fields["closed"])


def _encode_period(period: Any) -> dict[str, Any]:
    dtype = pandas().PeriodDtype(period.freq)
    return {"ordinal": int(period.ordinal), "freq": period_text(dtype)}


def _build_period(fields: Mapping[str, Any]) -> Any:
    ordinal = fields["ordinal"]
    if type(ordinal) is not int or not -(2**63) < ordinal < 2**63:
        raise Corrupt("a Period is not a number of steps")
    array = pandas().arrays.PeriodArray(np.array([ordinal]), dtype=period_dtype(fields["freq"]))
    return array[0]


def _build_array(fields: Mapping[str, Any]) -> Any:
    array = build_column(fields["parts"])
    if isinstance(array, np.ndarray):
        return pandas().array(array, dtype=array.dtype)
    return array


def _own(kinds: tuple[str, ...], obj: Any) -> bool:
    """Say whether an object's type is the one that pandas offers under its name."""
    name = type(obj).__name__
    offered = [getattr(where, name, None) for where in (pandas(), pandas().arrays)]
    return name in kinds and type(obj) in offered


def _spec(
    kinds: tuple[str, ...], modules: tuple[str, ...], codings: tuple[Any, Any], fields: str
) -> TypeSpec:
    names = frozenset(fields.split())
    return TypeSpec(
        id=f"pandas.{kinds[0]}",
        locate=lambda: object,  # the spec stands for several classes: accepts tells them
        classes=tuple(f"{module}:{kind}" for kind in kinds for module in modules),
        accepts=partial(_own, kinds),
        encode=codings[0],
        build=codings[1],
        fields=names,
        required=names,
        transparent=frozenset({"parts"}),
    )


_INDEXES: Final = (
    *("Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "CategoricalIndex"),
    *("IntervalIndex", "PeriodIndex"),
)
_ARRAYS: Final = (
    *("ExtensionArray", "Categorical", "IntegerArray", "FloatingArray", "BooleanArray"),
    *("StringArray", "ArrowStringArray", "DatetimeArray", "TimedeltaArray", "PeriodArray"),
    *("IntervalArray", "SparseArray", "NumpyExtensionArray", "PandasArray"),
)
_DTYPES: Final = (
    *("ExtensionDtype", "CategoricalDtype", "StringDtype", "DatetimeTZDtype", "PeriodDtype"),
    *("IntervalDtype", "SparseDtype", "BooleanDtype", "Float32Dtype", "Float64Dtype"),
    *(f"{sign}Int{bits}Dtype" for sign in ("", "U") for bits in (8, 16, 32, 64)),
)
_TSLIBS: Final = "pandas._libs.tslibs"


def _modules(base: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{base}.{name}" for name in names)


def _constant(name: str, kind: str, modules: tuple[str, ...]) -> TypeSpec:
    return TypeSpec(
        id=f"pandas.{name}",
        locate=lambda: type(getattr(pandas(), name)),
        classes=tuple(f"{module}:{kind}" for module in modules),
        encode=lambda _: {},
        build=lambda _: getattr(pandas(), name),
        fields=frozenset(),
    )


TYPES: Final = (
    _constant("NaT", "NaTType", ("pandas.api.typing", f"{_TSLIBS}.nattype")),
    _constant("NA", "NAType", ("pandas.api.typing", "pandas._libs.missing")),
    _spec(
        ("Timestamp",),
        ("pandas", f"{_TSLIBS}.timestamps"),
        (_encode_timestamp, _build_timestamp),
        "value zone",
    ),
    _spec(
        ("Timedelta",),
        ("pandas", f"{_TSLIBS}.timedeltas"),
        (lambda delta: {"value": delta.to_timedelta64()}, _build_timedelta),
        "value",
    ),
    _spec(
        ("Interval",),
        ("pandas", "pandas._libs.interval"),
        (_encode_interval, _build_interval),
        "left right closed",
    ),
    _spec(
        ("Period",),
        ("pandas", f"{_TSLIBS}.period"),
        (_encode_period, _build_period),
        "ordinal freq",
    ),
    _spec(
        _INDEXES,
        (
            "pandas",
            *_modules("pandas.core.indexes", "base", "range", "multi", "datetimes", "timedeltas"),
            *_modules("pandas.core.indexes", "category", "interval", "period"),
        ),
        (
            lambda index: {"parts": index_parts(index, type(index).__name__)},
            lambda fields: build_index(fields["parts"]),
        ),
        "parts",
    ),
    _spec(
        _ARRAYS,
        (
            *("pandas", "pandas.arrays"),
            *_modules("pandas.core.arrays", "categorical", "integer", "floating", "boolean"),
            *_modules("pandas.core.arrays", "string_", "string_arrow", "datetimes", "timedeltas"),
            *_modules("pandas.core.arrays", "period", "interval", "sparse.array", "numpy_"),
        ),
        (lambda array: {"parts": column_parts(array, type(array).__name__)}, _build_array),
        "parts",
    ),
    _spec(
        _DTYPES,
        (
            *("pandas", "pandas.core.dtypes.dtypes"),
            *_modules("pandas.core.arrays", "integer", "floating", "boolean", "string_"),
        ),
        (
            lambda dtype: {"parts": dtype_parts(dtype)},
            lambda fields: build_dtype(fields["parts"]),
        ),
        "parts",
    ),
)
