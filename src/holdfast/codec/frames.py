"""pandas frames both ways, by columns: enough for golden inputs and for frames inside models.

pandas is imported inside functions. A column keeps its dtype by name from a closed list and its
values as a plain array, with a mask or codes where the dtype needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

_MASKED: Final = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)) | {
    "Float32",
    "Float64",
    "boolean",
}
_MASKED_VALUES: Final = {"boolean": "bool"}


def _pandas() -> Any:
    return import_extra("pandas", needed_for="a pandas object")


def _column(values: Any, place: str) -> dict[str, Any]:
    """Split a Series or Index into plain parts; ``kind`` says how to put them together."""
    dtype = values.dtype
    name = str(dtype)
    if name == "category":
        categories = values.cat.categories if hasattr(values, "cat") else values.categories
        codes = values.cat.codes if hasattr(values, "cat") else values.codes
        return {
            "kind": "category",
            "codes": np.array(codes, dtype=np.int32),
            "categories": _column(categories, place),
            "ordered": bool(dtype.ordered),
        }
    if name in _MASKED:
        mask = np.asarray(values.isna())
        plain = values.fillna(0 if name != "boolean" else False)
        data = plain.to_numpy(dtype=_MASKED_VALUES.get(name, name.lower()))
        return {"kind": "masked", "dtype": name, "values": np.array(data), "mask": np.array(mask)}
    if name.startswith("datetime64[") and getattr(dtype, "tz", None) is not None:
        moments = values.dt if hasattr(values, "dt") else values
        naive = moments.tz_convert("UTC").values if not hasattr(values, "dt") else None
        data = np.asarray(
            naive if naive is not None else moments.tz_convert("UTC").dt.tz_localize(None)
        )
        return {"kind": "zoned", "zone": str(dtype.tz), "values": np.array(data)}
    if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
        return {"kind": "plain", "values": np.array(values.to_numpy(), dtype=dtype)}
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return {"kind": "object", "values": _texts(values.tolist(), place)}
    if name in ("str", "string"):
        missing = np.asarray(values.isna())
        texts = ["" if gone else str(text) for text, gone in zip(values, missing, strict=True)]
        return {"kind": "text", "dtype": name, "values": texts, "mask": np.array(missing)}
    raise Unsupported(
        f"{place} has the pandas dtype {name}, which this release cannot keep.",
        hint=f"frame[{place!r}] = frame[{place!r}].astype(object)",
    )


def _texts(items: list[Any], place: str) -> list[Any]:
    """Keep plain values of an object column; pandas' own missing marks become None."""
    pandas = _pandas()
    plain = []
    for item in items:
        if item is pandas.NA or item is pandas.NaT:
            raise Unsupported(
                f"{place} holds {item!r} in an object column.",
                hint=f"frame[{place!r}] = frame[{place!r}].convert_dtypes()",
            )
        plain.append(item)
    return plain


def _array(parts: Any) -> Any:
    """Put a column together again; raises ``Corrupt`` for parts that do not fit."""
    pandas = _pandas()
    match parts:
        case {"kind": "plain", "values": np.ndarray() as values} if values.ndim == 1:
            return values
        case {"kind": "object", "values": list(values)}:
            column = np.empty(len(values), dtype=object)
            column[:] = values
            return column
        case {"kind": "text", "dtype": "str" | "string" as dtype, "values": list(values),
              "mask": np.ndarray() as mask} if mask.shape == (len(values),):  # fmt: skip
            items = [None if gone else text for text, gone in zip(values, mask, strict=True)]
            return pandas.array(items, dtype=dtype)
        case {"kind": "masked", "dtype": str(dtype), "values": np.ndarray() as values,
              "mask": np.ndarray() as mask} if dtype in _MASKED and mask.dtype == bool:  # fmt: skip
            column = pandas.array(values, dtype=dtype)
            column[mask] = pandas.NA
            return column
        case {"kind": "zoned", "zone": str(zone), "values": np.ndarray() as values}:
            return pandas.DatetimeIndex(values).tz_localize("UTC").tz_convert(zone).array
        case {"kind": "category", "codes": np.ndarray() as codes, "categories": categories,
              "ordered": bool(ordered)}:  # fmt: skip
            return pandas.Categorical.from_codes(
                codes, categories=_index(_array(categories)), ordered=ordered
            )
    raise Corrupt("a pandas column's parts do not fit together")


def _index(array: Any, name: Any = None) -> Any:
    # The dtype is said because pandas 3 otherwise turns an object array of texts into ``str``.
    return _pandas().Index(array, dtype=array.dtype, name=name)


def _index_parts(index: Any, place: str) -> dict[str, Any]:
    pandas = _pandas()
    if type(index) is pandas.RangeIndex:
        bounds = [int(index.start), int(index.stop), int(index.step)]
        return {"kind": "range", "bounds": bounds, "name": index.name}
    if isinstance(index, pandas.MultiIndex):
        raise Unsupported(f"{place} is a MultiIndex.", hint="frame.reset_index()")
    if type(index) not in (pandas.Index, pandas.DatetimeIndex, pandas.CategoricalIndex):
        raise Unsupported(f"{place} is a {type(index).__name__}.", hint="frame.reset_index()")
    return {"kind": "index", "values": _column(index, place), "name": index.name}


def _build_index(parts: Any) -> Any:
    pandas = _pandas()
    match parts:
        case {"kind": "range", "bounds": [int(start), int(stop), int(step)], "name": name} if step:
            return pandas.RangeIndex(start, stop, step, name=name)
        case {"kind": "index", "values": values, "name": name}:
            return _index(_array(values), name)
    raise Corrupt("a pandas index's parts do not fit together")


def _encode_frame(frame: Any) -> dict[str, Any]:
    columns = [
        _column(frame.iloc[:, position], str(name)) for position, name in enumerate(frame.columns)
    ]
    return {
        "columns": columns,
        "names": _index_parts(frame.columns, "columns"),
        "index": _index_parts(frame.index, "index"),
    }


def _build_frame(fields: Mapping[str, Any]) -> Any:
    pandas = _pandas()
    index, names = _build_index(fields["index"]), _build_index(fields["names"])
    arrays = [_array(parts) for parts in fields["columns"]]
    if len(arrays) != len(names) or any(len(array) != len(index) for array in arrays):
        raise Corrupt("a pandas frame's columns, names and rows do not fit together")
    columns = [pandas.Series(array, index=index, dtype=array.dtype) for array in arrays]
    frame = pandas.DataFrame(dict(enumerate(columns)), index=index)
    frame.columns = names
    return frame


def _encode_series(series: Any) -> dict[str, Any]:
    return {
        "values": _column(series, str(series.name)),
        "index": _index_parts(series.index, "index"),
        "name": series.name,
    }


def _build_series(fields: Mapping[str, Any]) -> Any:
    index, values = _build_index(fields["index"]), _array(fields["values"])
    return _pandas().Series(values, index=index, name=fields["name"], dtype=values.dtype)


def _names(name: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"{module}:{name}" for module in modules)


_FRAME: Final = frozenset({"columns", "names", "index"})
_SERIES: Final = frozenset({"values", "index", "name"})

TYPES: Final = (
    TypeSpec(
        id="pandas.DataFrame",
        locate=lambda: _pandas().DataFrame,
        classes=_names("DataFrame", "pandas", "pandas.core.frame"),
        encode=_encode_frame,
        build=_build_frame,
        fields=_FRAME,
        required=_FRAME,
    ),
    TypeSpec(
        id="pandas.Series",
        locate=lambda: _pandas().Series,
        classes=_names("Series", "pandas", "pandas.core.series"),
        encode=_encode_series,
        build=_build_series,
        fields=_SERIES,
        required=_SERIES,
    ),
)
