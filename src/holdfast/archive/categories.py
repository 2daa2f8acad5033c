"""Category columns: described as JSON, and recoded so that every code means what it meant."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.archive.families import look
from holdfast.errors import Corrupt, SignatureMismatch
from holdfast.plugins import import_extra

__all__ = ["as_json", "describe_categories", "recode"]

_NUMBERS: Final = re.compile(r"(int|uint|float)(8|16|32|64)")


def as_json(values: Sequence[Any]) -> list[Any] | None:
    """Return texts, truths and finite numbers as they are; None when there is anything else."""
    return list(values) if all(_is_plain(value) for value in values) else None


def _is_plain(value: Any) -> bool:
    match value:
        case bool():
            return True
        case int():
            return abs(value) < 2**53
        case float():
            return math.isfinite(value)
        case str():
            return not re.search("[\ud800-\udfff]", value)
    return False


def describe_categories(accessor: Any) -> dict[str, Any]:
    """Describe the categories of a column: values in order, their dtype, whether ordered.

    Args:
        accessor: The column's ``cat``.
    """
    values = accessor.categories.tolist()
    plain = as_json(values)
    described = {
        "categories": [str(value) for value in values] if plain is None else plain,
        "categories_dtype": str(accessor.categories.dtype),
        "ordered": bool(accessor.ordered),
    }
    if described["categories_dtype"] == "object":
        described["holds"] = look(values).family
    return described


def recode(column: Any, described: Mapping[str, Any], ref: str) -> tuple[Any, list[Any]]:
    """Give a column the recorded categories in the recorded order.

    Args:
        column: pandas Series: a category column, or plain values of the categories' family.
        described: The column's part of the signature.
        ref: The version, for messages.

    Returns:
        The column, and the values that are not among the recorded categories; those come after
        them, so that every known code is right.

    Raises:
        SignatureMismatch: The recorded categories cannot be built from JSON (intervals, dates)
            and the column's own differ from them.
        Corrupt: The recorded categories contradict themselves.
    """
    is_category = str(column.dtype) == "category"
    ordered = bool(described.get("ordered", False))
    if is_category and _same(column.cat.categories, described) and column.cat.ordered == ordered:
        return column, []
    known = _index(described)
    if known is None:
        raise SignatureMismatch(
            f"The categories of column {described['name']!r} are not those {ref} was saved with, "
            f"and {described.get('categories_dtype')} cannot be recoded.",
            hint=f"hold show {ref} --json",
            ref=ref,
        )
    used = column.cat.remove_unused_categories().cat.categories if is_category else None
    present = column.dropna().drop_duplicates() if used is None else used
    whole = known.dtype.kind in "iu"  # beside missing values pandas holds whole numbers as floats
    values = [
        int(value) if whole and isinstance(value, float) and value.is_integer() else value
        for value in present.tolist()
    ]
    unknown = [value for value in values if value not in known]
    categories = known.append(type(known)(unknown)) if unknown else known
    if is_category:
        return column.cat.set_categories(categories, ordered=ordered), unknown
    pandas = import_extra("pandas", needed_for="a category column")
    return column.astype(pandas.CategoricalDtype(categories, ordered=ordered)), unknown


def _same(categories: Any, described: Mapping[str, Any]) -> bool:
    values = categories.tolist()
    recorded = described["categories"]
    return values == recorded or (
        as_json(values) is None and [str(value) for value in values] == recorded
    )


def _index(described: Mapping[str, Any]) -> Any | None:
    """Build the recorded categories; None when JSON does not hold them."""
    pandas = import_extra("pandas", needed_for="a category column")
    dtype, values = str(described.get("categories_dtype", "object")), described["categories"]
    try:
        if _NUMBERS.fullmatch(dtype):
            index = pandas.Index(np.array(values, dtype))
        elif dtype == "bool":
            index = pandas.Index(np.array(values, bool))
        elif dtype == "object" or dtype.startswith("str"):
            index = pandas.Index(values, dtype=None if dtype.startswith("str") else object)
        else:
            return None
    except (TypeError, ValueError, OverflowError) as error:
        raise Corrupt(f"the recorded categories are not {dtype:.40}: {error!s:.100}") from error
    if not index.is_unique:
        raise Corrupt("the recorded categories name a value twice")
    return index
