"""Reading the rows of a CSV file as the kinds of values that a model was saved with."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from holdfast.archive.families import family_of
from holdfast.errors import UsageError
from holdfast.plugins import import_extra

__all__ = ["read_csv"]

# What pandas takes for a missing value unless told otherwise (pandas.read_csv, na_values).
_MISSING_WORDS: Final = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


def read_csv(path: Path, expected: Mapping[str, Any]) -> Any:
    """Read a table with a header; ``-`` is stdin.

    Texts stay texts where the model was saved with texts (``007``), points in time are parsed,
    and a word such as ``NA`` is a value where it is among the recorded categories.

    Args:
        path: The file.
        expected: The signature of the model's inputs; empty when it is not known.

    Returns:
        A DataFrame where pandas is there, else numbers as an array; a single column as a list
        where the model takes rows without columns.

    Raises:
        UsageError: The file cannot be read as such.
        MissingExtra: The model takes named columns and pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        return _numbers(path, expected)
    columns = expected.get("columns", ())
    flat = expected.get("type") == "str" or expected.get("shape") == [None]
    texts = dict.fromkeys(_names(columns, "text"), str)
    source: Any = sys.stdin if str(path) == "-" else path
    try:
        frame = pd.read_csv(
            source,
            dtype=str if flat and _is_text(expected) else texts,
            na_values=_missing_words(columns),
            keep_default_na=not columns,
        )
        for name in {*_names(columns, "time")} & {*frame.columns}:
            frame[name] = pd.to_datetime(frame[name])
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read as CSV: {error!s:.200}", hint=f"head {path}"
        ) from error
    return frame.iloc[:, 0].tolist() if flat and frame.shape[1] == 1 else frame


def _is_text(expected: Mapping[str, Any]) -> bool:
    return expected.get("type") == "str" or family_of(expected) == "text"


def _names(columns: Sequence[Mapping[str, Any]], family: str) -> list[str]:
    return [column["name"] for column in columns if family_of(column) == family]


def _missing_words(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[str]] | None:
    """Return per column the words that mean a missing value: not those that are categories."""
    if not columns:
        return None
    return {
        column["name"]: [w for w in _MISSING_WORDS if w not in column.get("categories", ())]
        for column in columns
    }


def _numbers(path: Path, expected: Mapping[str, Any]) -> Any:
    """Read numbers without pandas."""
    import numpy as np

    text = sys.stdin if str(path) == "-" else path.open(encoding="utf-8", newline="")
    with text:
        header, *rows = list(csv.reader(text)) or [[]]
    if expected.get("kind") == "frame":
        import_extra("pandas", needed_for="predicting from named columns")
    try:
        return np.array(rows, dtype=expected.get("dtype", "float64")).reshape(-1, len(header))
    except ValueError as error:
        raise UsageError(f"{path}: {error!s:.200}", hint=f"head {path}") from error
