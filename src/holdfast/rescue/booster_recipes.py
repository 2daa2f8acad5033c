"""What to make of boosters in pickles: their native form is in their state.

Sources: ``Booster.__getstate__`` in ``xgboost/core.py``, whose handle ``XGBoosterSerialize``
writes (configuration and model as UBJSON), and in ``lightgbm/basic.py``, whose handle is the text.
"""

from __future__ import annotations

import json
from typing import Any, Final

from holdfast.codec.encode import Path
from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.xgboost.ubj import Reader, read_ubj
from holdfast.rescue.graph import Graph, Recipe, arguments_of, named, state_of
from holdfast.trust.pickles import Call

__all__ = ["RECIPES"]

# What LightGBM's adapter keeps of a booster beside its text.
_KEPT: Final = ("best_iteration", "best_score", "params", "pandas_categorical")


def _xgboost(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a booster of XGBoost by its native model, its settings and its own attributes."""
    arguments_of(raw, 0)
    state = named(state_of(raw))
    handle = graph.make(state.pop("handle", None), path)
    if not isinstance(handle, bytes | bytearray):
        raise Unsupported("a booster of XGBoost has no model.")
    spans: list[tuple[int, int]] = []

    def model(reader: Reader, depth: int) -> Any:
        start = reader.place
        value = reader.value(depth)
        if depth == 1:
            spans.append((start, reader.place))
        return value

    told = read_ubj(bytes(handle), {"Model": model})
    if not isinstance(told, dict) or told.keys() != {"Config", "Model"} or len(spans) != 1:
        raise Unsupported("a booster of XGBoost is kept in a form that is not known here.")
    try:
        config = json.dumps(told["Config"], separators=(",", ":"))
    except TypeError as error:
        raise Corrupt("the settings of a booster are no plain values") from error
    (start, end) = spans[0]
    fields: dict[str, Any] = {
        "model": FileData(".ubj", bytes(handle[start:end])),
        "config": config,
    }
    if state:
        fields["attributes"] = graph.fill_dict({}, state.items(), path)
    return graph.cast.fields("xgboost.Booster", fields)


def _lightgbm(graph: Graph, raw: Call, path: Path) -> Any:
    """Take a booster of LightGBM by its text and what the adapter keeps beside it."""
    arguments_of(raw, 0)
    state = named(state_of(raw))
    text = state.get("_handle", state.get("handle"))
    if type(text) is not str or not state.keys() >= {*_KEPT}:
        raise Unsupported("a booster of LightGBM has no model, or is of an unknown release.")
    kept = {name: graph.make(state[name], path) for name in _KEPT}
    return graph.cast.fields("lightgbm.Booster", {"model": FileData(".txt", text.encode()), **kept})


RECIPES: Final[dict[str, Recipe]] = {
    "xgboost.core:Booster": _xgboost,
    "lightgbm.basic:Booster": _lightgbm,
}
