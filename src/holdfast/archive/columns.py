"""Fitting a frame's columns to those recorded: selected by name, each brought to its dtype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.archive.categories import recode
from holdfast.archive.families import family, family_of, look
from holdfast.archive.units import in_recorded_unit
from holdfast.errors import SignatureMismatch

__all__ = ["fit_columns", "select", "some"]

# Recorded families that say nothing about what else would fit.
_ANY: Final = (None, "mixed", "other", "nothing")


def select(expected: Sequence[str], frame: Any, ref: str) -> tuple[Any, tuple[str, ...]]:
    """Return the expected columns in their order, and what was done in words.

    Args:
        expected: Column names as recorded; names in the frame are compared as texts.
        frame: The caller's pandas frame; never changed.
        ref: The version, for messages.

    Raises:
        SignatureMismatch: A column is missing or given twice.
    """
    given = [str(name) for name in frame.columns]
    if given == list(expected):
        return frame, ()
    counts, known = Counter(given), set(expected)
    missing = [name for name in expected if name not in counts]
    twice = [name for name in counts if counts[name] > 1 and name in known]
    if missing or twice or len(known) < len(expected):
        raise _other_columns(missing, twice, [name for name in given if name not in known], ref)
    places = {name: place for place, name in enumerate(given)}
    order = [places[name] for name in expected]
    moved = sum(1 for want, have in enumerate(order) if want != have)
    dropped = len(given) - len(order)
    notes = []
    if moved:
        notes.append(f"Columns reordered to match training ({moved} moved).")
    if dropped:
        notes.append(f"{dropped} columns the model does not know were left out.")
    return frame.iloc[:, order], tuple(notes)


def _other_columns(
    missing: Sequence[str], twice: Sequence[str], extra: Sequence[str], ref: str
) -> SignatureMismatch:
    if missing:
        what = f"missing {some(missing)}"
    elif twice:
        what = f"given twice {some(twice)}"
    else:
        what = "it was saved with a name twice, so only the same columns in the same order fit"
    return SignatureMismatch(
        f"The input columns differ from those {ref} was saved with: {what}"
        f"{'; not known ' + some(extra) if extra else ''}. Nothing was predicted.",
        hint=_renaming(missing, extra) or f"hold show {ref}",
        ref=ref,
    )


def _renaming(missing: Sequence[str], extra: Sequence[str]) -> str | None:
    """Return the line that renames columns which differ in case, spaces or underscores only."""
    plain = {_plain_name(name): name for name in missing}
    renamed = {name: plain[_plain_name(name)] for name in extra if _plain_name(name) in plain}
    if not missing or len(renamed) != len(missing):
        return None
    return f"X = X.rename(columns={renamed!r})"


def _plain_name(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


def some(names: Sequence[Any], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def fit_columns(
    columns: Sequence[Mapping[str, Any]], frame: Any, ref: str
) -> tuple[Any, tuple[str, ...]]:
    """Bring each column to what was recorded of it; say what is unusual.

    Args:
        columns: The recorded columns, in the frame's order.
        frame: pandas frame; never changed.
        ref: The version, for messages.

    Raises:
        SignatureMismatch: A column is of another family of values.
    """
    notes: list[str] = []
    changed = {}
    for place, (described, dtype) in enumerate(zip(columns, frame.dtypes, strict=True)):
        if not _fits(described, str(dtype)):
            column = frame.iloc[:, place]
            fitted = _fit_column(column, described, notes.append, ref)
            if fitted is not column:
                changed[place] = fitted
    if changed:
        frame = frame.copy(deep=False)
    for place, fitted in changed.items():
        frame.isetitem(place, fitted)
    missing = _newly_missing(columns, frame)
    if missing:
        notes.append(f"Missing values in {some(missing)}; there were none at save.")
    return _with_integer_names(columns, frame), tuple(notes)


def _fits(described: Mapping[str, Any], dtype: str) -> bool:
    """Say whether a column can be handed on without a look at its values."""
    want = family_of(described)
    if want in _ANY:
        return True
    if want in ("time", "duration") and dtype != described["dtype"]:
        return False  # they may be counted in another unit
    looked_at = {"object", "category"} & {dtype, str(described["dtype"])}
    return not looked_at and "missing_as" not in described and family(dtype) == want


def _with_integer_names(columns: Sequence[Mapping[str, Any]], frame: Any) -> Any:
    """Give back names that were whole numbers and came as texts, as from a CSV file."""
    if not all(column.get("integer_name") for column in columns):
        return frame
    if not any(isinstance(name, str) for name in frame.columns):
        return frame
    return frame.set_axis([int(column["name"]) for column in columns], axis="columns")


def _newly_missing(columns: Sequence[Mapping[str, Any]], frame: Any) -> list[str]:
    found = frame.isna().any().tolist()
    return [
        column["name"]
        for column, missing in zip(columns, found, strict=True)
        if missing and column.get("missing") is False
    ]


def _fit_column(
    column: Any, described: Mapping[str, Any], note: Callable[[str], None], ref: str
) -> Any:
    want, have = family_of(described), _family_of_column(column)
    if want != have:
        if not column.isna().all():
            raise _other_family(column, have, described, ref)
        column = column.astype("float64" if want == "number" else object)
    if described["dtype"] == "category":
        recoded, unknown = recode(column, described, ref)
        if unknown:
            note(f"Not among the categories of {described['name']!r} at save: {some(unknown)}.")
        return recoded
    if str(column.dtype) == "category":  # a model may treat categories otherwise than values
        column = _values(column)
    if want == "number" and str(column.dtype) == "object":
        return column.to_numpy(dtype="float64", na_value=np.nan)
    return _mark_missing(in_recorded_unit(column, str(described["dtype"]), ref), described)


def _values(column: Any) -> Any:
    dtype = column.cat.categories.dtype
    numbers = family(str(dtype)) == "number"
    return column.astype("float64" if numbers and column.isna().any() else dtype)


def _family_of_column(column: Any) -> str:
    dtype = str(column.dtype)
    if dtype == "category":
        categories = column.cat.categories
        return family(str(categories.dtype)) if categories.dtype != object else look(categories)[0]
    return look(column).family if dtype == "object" else family(dtype)


def _mark_missing(column: Any, described: Mapping[str, Any]) -> Any:
    """Mark missing texts as at save: to an encoder None and NaN are two categories."""
    mark = described.get("missing_as") or ("nan" if described["dtype"] == "str" else None)
    marked = mark == "nan" and str(column.dtype) == "str"
    if mark is None or marked or not column.isna().any():
        return column
    objects = column.astype(object)
    return objects.where(objects.notna(), None if mark == "None" else np.nan)


def _other_family(
    column: Any, have: str, described: Mapping[str, Any], ref: str
) -> SignatureMismatch:
    name, want = f"X[{described['name']!r}]", str(family_of(described))
    hints = {
        "number": f"{name} = pandas.to_numeric({name})",
        "text": f"{name} = {name}.astype(str)",
        "time": f"{name} = pandas.to_datetime({name})",
    }
    return SignatureMismatch(
        f"Column {described['name']!r} is {column.dtype} ({have}), but {ref} was saved with "
        f"{described['dtype']} ({want}).",
        hint=hints.get(want, f"hold show {ref}"),
        ref=ref,
    )
