"""Columns found by name when a loaded LightGBM model predicts.

LightGBM takes the columns of a table by position, whatever their names: the same table with its
columns in another order gets other answers without a word (lightgbm-org/LightGBM 4102, 5664). A
booster that Holdfast loads is of a class of its own, below LightGBM's, that looks at the names
first. It stays so when it is copied or pickled; wrappers of scikit-learn's kind ask their booster,
so their own class stays as it is.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from holdfast.errors import SignatureMismatch
from holdfast.plugins import import_extra

__all__ = ["named_class", "predicting_by_name"]

_MADE_UP: Final = re.compile(r"Column_\d+")


def __getattr__(name: str) -> type:
    """Make the class when a pickle asks for it: LightGBM is not imported before."""
    if name == "Booster":
        return named_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def named_class() -> type:
    """Return the class of loaded boosters."""
    plain: type = import_extra("lightgbm", needed_for="a LightGBM model").Booster
    methods = {"predict": _predict, "__deepcopy__": _deepcopy, "__module__": __name__}
    return type("Booster", (plain,), {**methods, "__doc__": plain.__doc__})


def predicting_by_name(booster: Any) -> Any:
    """Let a booster order columns by name before it predicts; return the booster."""
    booster.__class__ = named_class()
    return booster


def _predict(self: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    """Predict as ``lightgbm.Booster.predict`` does, with the columns in the model's order.

    Raises:
        SignatureMismatch: The table has other columns than the model was trained on.
    """
    plain: Any = named_class().__base__
    return plain.predict(self, _ordered(self, data), *args, **kwargs)


def _deepcopy(self: Any, memo: Any) -> Any:
    plain: Any = named_class().__base__
    return predicting_by_name(plain.__deepcopy__(self, memo))


def _ordered(booster: Any, data: Any) -> Any:
    columns = getattr(data, "column_names", getattr(data, "columns", None))
    if columns is None or callable(columns):
        return data
    expected = booster.feature_name()
    found = [_as_lightgbm_writes(name) for name in columns]
    if found == expected or all(map(_MADE_UP.fullmatch, expected)):
        return data
    names = dict(zip(found, columns, strict=True))
    if len(names) != len(found) or names.keys() != {*expected}:
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
