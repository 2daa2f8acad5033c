"""What goes into a model and what comes out, as plain JSON.

A signature never needs pandas or torch to be read: kinds are ``frame`` (named columns),
``array`` (dtype and shape, the row dimension is null), ``rows`` (a list of texts or objects),
``mapping`` and ``sequence`` (several inputs, by name or by position) and ``value``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from holdfast.archive.categories import as_json, describe_categories
from holdfast.archive.families import has_missing, look
from holdfast.archive.frames import is_frame, is_sparse
from holdfast.errors import Corrupt

__all__ = ["classes_of", "describe", "require_sound", "without_dtypes"]

_MOST_CLASSES: Final = 1_000


class _Column(msgspec.Struct):
    name: str
    dtype: str | None = None
    holds: str = ""
    missing: bool = False
    missing_as: str = ""
    categories: list[str | int | float | bool] | None = None
    categories_dtype: str = ""
    ordered: bool = False
    integer_name: bool = False

    def __post_init__(self) -> None:
        if self.dtype == "category" and self.categories is None:
            raise ValueError("a category column without categories")


class _Inputs(msgspec.Struct):
    """What ``describe`` writes, for refusing what it cannot have written."""

    kind: str
    columns: list[_Column] | None = None
    dtype: str | None = None
    shape: list[int | None] | None = None
    names: list[str] | None = None
    type: str = ""
    items: dict[str, Any] | list[Any] | None = None

    def __post_init__(self) -> None:
        if (self.kind, self.columns) == ("frame", None) or (
            self.kind == "mapping" and not isinstance(self.items, dict)
        ):
            raise ValueError(f"a {self.kind} without its parts")


def require_sound(signature: Mapping[str, Any], ref: str) -> None:
    """Check a signature that was read, as far as fitting inputs to it relies on it.

    Raises:
        Corrupt: It contradicts itself.
    """
    try:
        msgspec.convert(signature.get("inputs"), _Inputs | None)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the signature of {ref} is damaged: {error!s:.200}", ref=ref) from error


def describe(value: Any, model: Any = None) -> dict[str, Any]:
    """Return the signature of inputs or outputs.

    Args:
        value: DataFrame, numpy array, sparse matrix, pandas Series, tensor, list of rows, tuple
            or mapping of these.
        model: For inputs: the model they go into. Where it was fitted on named columns and these
            are a plain array, its names are recorded, so that a frame can be put in order.
    """
    if is_frame(value):
        columns = [_column(name, value.iloc[:, i]) for i, name in enumerate(value.columns)]
        return {"kind": "frame", "columns": columns}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value) | _names(model, value.shape)
    if isinstance(value, Mapping):
        return {"kind": "mapping", "items": {str(k): describe(v) for k, v in value.items()}}
    if isinstance(value, tuple):
        return {"kind": "sequence", "items": [describe(item) for item in value]}
    if isinstance(value, list):
        names = sorted({type(item).__name__ for item in value})
        return {"kind": "rows", "type": names[0] if len(names) == 1 else "object"}
    return {"kind": "value", "type": type(value).__name__}


def _column(name: Any, column: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": str(name),
        "dtype": str(column.dtype),
        "missing": bool(column.isna().any()),
    }
    if isinstance(name, int | np.integer) and not isinstance(name, bool):
        described["integer_name"] = True
    if described["dtype"] == "category":
        described |= describe_categories(column.cat)
    elif described["dtype"] == "object":
        held = look(column)
        described["holds"] = held.family
        if held.family == "text" and held.missing in ({"None"}, {"nan"}):
            described["missing_as"] = next(iter(held.missing))
    return described


def _array(value: Any) -> dict[str, Any]:
    shape: list[int | None] = [int(n) for n in value.shape]
    if shape:
        shape[0] = None
    dtype = str(value.dtype).removeprefix("torch.")
    described: dict[str, Any] = {"kind": "array", "dtype": dtype, "shape": shape}
    if is_sparse(value):
        described["sparse"] = str(value.format)
    if dtype == "object":
        described["holds"] = look(value).family
    if dtype == "category":
        described |= describe_categories(value.cat)
    missing = has_missing(value)
    return described if missing is None else {**described, "missing": missing}


def _names(model: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    names = getattr(model, "feature_names_in_", None)
    if not isinstance(names, np.ndarray) or len(shape) != 2 or names.shape != (shape[1],):
        return {}
    given = names.tolist()
    return {"names": given} if all(isinstance(name, str) for name in given) else {}


def without_dtypes(signature: dict[str, Any]) -> dict[str, Any]:
    """Keep names and shapes only: what synthetic inputs can honestly say."""
    if signature["kind"] == "frame":
        columns = [{"name": column["name"]} for column in signature["columns"]]
        return {"kind": "frame", "columns": columns}
    if signature["kind"] == "array":
        return {key: signature[key] for key in ("kind", "shape", "names") if key in signature}
    return signature


def classes_of(model: Any) -> list[Any] | None:
    """Return the classes a fitted classifier knows, as JSON; a list of lists for many outputs.

    Returns:
        None when it has none, when there are more than 1,000, or when JSON does not hold them.
    """
    found = getattr(model, "classes_", None)
    if isinstance(found, list) and found:
        each = [_plain_classes(classes) for classes in found]
        return None if None in each else each
    return _plain_classes(found)


def _plain_classes(classes: Any) -> list[Any] | None:
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) > _MOST_CLASSES:
        return None
    return as_json(classes.tolist())
