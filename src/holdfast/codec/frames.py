"""pandas frames and series: columns and indexes as plain parts, put together by pandas itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.columns import build_column, build_index, column_parts, index_parts
from holdfast.codec.registry import TypeSpec
from holdfast.codec.zones import pandas
from holdfast.errors import Corrupt

__all__ = ["TYPES"]


def _encode_frame(frame: Any) -> dict[str, Any]:
    return {
        **_frame_values(frame),
        "names": index_parts(frame.columns, "columns"),
        "index": index_parts(frame.index, "index"),
        **_extras(frame),
    }


def _frame_values(frame: Any) -> dict[str, Any]:
    """Return one array where all columns are numbers of one kind, else part by part."""
    dtypes = set(frame.dtypes)
    if frame.shape[1] > 1 and len(dtypes) == 1 and _is_number(next(iter(dtypes))):
        return {"block": _block(frame)}
    return {
        "columns": [
            column_parts(frame.iloc[:, position], str(name))
            for position, name in enumerate(frame.columns)
        ]
    }


def _block(frame: Any) -> np.ndarray[Any, Any]:
    """Return all values; that pandas lends its own as read-only says nothing of the frame."""
    block: np.ndarray[Any, Any] = frame.to_numpy()
    if not block.flags.writeable:
        block = block.view()
        try:
            block.flags.writeable = True
        except ValueError:  # the memory itself is read-only
            return block.copy(order="K")
    return block


def _is_number(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf" and dtype.itemsize <= 8


def _extras(data: Any) -> dict[str, Any]:
    extras: dict[str, Any] = {"attrs": data.attrs} if data.attrs else {}
    return extras if data.flags.allows_duplicate_labels else {**extras, "unique": True}


def _finish(data: Any, fields: Mapping[str, Any]) -> Any:
    attrs = fields.get("attrs", {})
    if type(attrs) is not dict or type(fields.get("unique", True)) is not bool:
        raise Corrupt("the attributes of a pandas object are not what they should be")
    data.attrs = attrs
    return data.set_flags(allows_duplicate_labels=False) if fields.get("unique") else data


def _build_frame(fields: Mapping[str, Any]) -> Any:
    index, names = build_index(fields["index"]), build_index(fields["names"])
    if "block" in fields:
        return _finish(_build_block(fields, index, names), fields)
    if "columns" not in fields:
        raise Corrupt("a pandas frame has no columns")
    arrays = [build_column(parts) for parts in fields["columns"]]
    if len(arrays) != len(names) or any(len(array) != len(index) for array in arrays):
        raise Corrupt("a pandas frame's columns, names and rows do not fit together")
    columns = [pandas().Series(array, index=index, dtype=array.dtype) for array in arrays]
    frame = pandas().DataFrame(dict(enumerate(columns)), index=index)
    frame.columns = names
    return _finish(frame, fields)


def _build_block(fields: Mapping[str, Any], index: Any, names: Any) -> Any:
    block = fields["block"]
    sized = type(block) is np.ndarray and block.shape == (len(index), len(names))
    if not sized or not _is_number(block.dtype) or "columns" in fields:
        raise Corrupt("a pandas frame's columns, names and rows do not fit together")
    frame = pandas().DataFrame(block, copy=False)
    frame.index, frame.columns = index, names
    return frame


def _encode_series(series: Any) -> dict[str, Any]:
    return {
        "values": column_parts(series, str(series.name)),
        "index": index_parts(series.index, "index"),
        "name": series.name,
        **_extras(series),
    }


def _build_series(fields: Mapping[str, Any]) -> Any:
    index, values = build_index(fields["index"]), build_column(fields["values"])
    series = pandas().Series(values, index=index, name=fields["name"], dtype=values.dtype)
    return _finish(series, fields)


_FRAME: Final = frozenset({"names", "index"})
_SERIES: Final = frozenset({"values", "index", "name"})
_EXTRAS: Final = frozenset({"attrs", "unique"})

TYPES: Final = (
    TypeSpec(
        id="pandas.DataFrame",
        locate=lambda: pandas().DataFrame,
        classes=("pandas:DataFrame", "pandas.core.frame:DataFrame"),
        encode=_encode_frame,
        build=_build_frame,
        fields=_FRAME | _EXTRAS | {"block", "columns"},
        required=_FRAME,
    ),
    TypeSpec(
        id="pandas.Series",
        locate=lambda: pandas().Series,
        classes=("pandas:Series", "pandas.core.series:Series"),
        encode=_encode_series,
        build=_build_series,
        fields=_SERIES | _EXTRAS,
        required=_SERIES,
    ),
)
