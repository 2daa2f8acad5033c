"""Columns found by name when a loaded LightGBM model predicts.

LightGBM takes the columns of a table by position, whatever their names: the same table with its
columns in another order gets other answers without a word (lightgbm-org/LightGBM 4102, 5664). A
booster that Holdfast loads looks at the names first.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from holdfast.errors import SignatureMismatch

__all__ = ["predicting_by_name"]

_MADE_UP: Final = re.compile(r"Column_\d+")


def predicting_by_name(booster: Any) -> Any:
    """Give a booster a ``predict`` of its own that orders columns by name; return the booster."""
    booster.predict = functools.partial(_predict, booster)
    return booster


def _predict(booster: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    """Predict as ``lightgbm.Booster.predict`` does, with the columns in the model's order."""
    return type(booster).predict(booster, _ordered(booster, data), *args, **kwargs)


def _ordered(booster: Any, data: Any) -> Any:
    expected = booster.feature_name()
    columns = getattr(data, "column_names", getattr(data, "columns", None))
    if columns is None or callable(columns) or all(map(_MADE_UP.fullmatch, expected)):
        return data
    names = {_as_lightgbm_writes(name): name for name in columns}
    found = [_as_lightgbm_writes(name) for name in columns]
    if found == expected:
        return data
    if len(names) != len(found) or set(found) != set(expected):
        missing = [name for name in expected if name not in names]
        told = f"lacks {missing[0]!r:.60}" if missing else "has columns the model does not know"
        raise SignatureMismatch(
            f"The table {told}; the model was trained on {len(expected)} named columns.",
            hint="model.predict(table[names])  # names: " + ", ".join(expected)[:120],
        )
    order = [names[name] for name in expected]
    return data.select(order) if hasattr(data, "column_names") else data[order]


def _as_lightgbm_writes(name: Any) -> str:
    return str(name).replace(" ", "_")
