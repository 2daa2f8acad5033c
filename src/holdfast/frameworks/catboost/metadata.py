"""The metadata of a CatBoost model, of which native code reads some as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.errors import Corrupt

__all__ = ["judge_metadata"]

_MOST_DIMENSIONS: Final = 1 << 16
_MOST_THREADS: Final = 1024
_DEEPEST: Final = 64
# What is metadata to users and JSON to native code.
_DOCUMENTS: Final = (
    b"params", b"class_params", b"multiclass_params", b"training", b"output_options",
    b"loss_function",
)  # fmt: skip

# What may be optimised, of ``ELossFunction``.
_LOSSES: Final = frozenset(
    """
    Logloss CrossEntropy CtrFactor Focal RMSE LogCosh Lq MAE Quantile MultiQuantile Expectile
    LogLinQuantile MAPE Poisson MSLE MedianAbsoluteError SMAPE Huber Tweedie Cox RMSPE
    RMSEWithUncertainty MultiClass MultiClassOneVsAll PairLogit PairLogitPairwise YetiRank
    YetiRankPairwise QueryRMSE GroupQuantile QuerySoftMax QueryCrossEntropy StochasticFilter
    LambdaMart StochasticRank PythonUserDefinedPerObject PythonUserDefinedMultiTarget SurvivalAft
    MultiRMSE MultiRMSEWithMissingValues MultiLogloss MultiCrossEntropy Combination
    """.split()  # noqa: SIM905 - forty names are read more easily so
)
# Parameters of losses that are words; all others are numbers, one or several.
_WORDED: Final = re.compile(r"mode|hints|dist|metric|type|denominator|loss[0-9]{1,3}")
_WORD: Final = re.compile(r"[A-Za-z0-9_~|.;:=()]{0,100}")
_NUMBER: Final = r"[-+]?\.?[0-9][-+.0-9eE]{0,30}"
_NUMBERS: Final = re.compile(rf"(?i:true|false)|{_NUMBER}(,{_NUMBER}){{0,10000}}")
# In which order the parameters were given.
_ORDER: Final = "__params_key_order"


def judge_metadata(info: Mapping[bytes, bytes], dimension: int) -> bool:
    """Check what native code takes from the metadata.

    Args:
        info: The metadata.
        dimension: How many values the model predicts for a row.

    Returns:
        Whether there are classes.

    Raises:
        Corrupt: There is something that native code would not bear.
    """
    documents = {key: _document(info[key]) for key in _DOCUMENTS if key in info}
    params = documents.get(b"params", {})
    options = params.get("data_processing_options", {})
    told: list[Sequence[Any]] = []
    for of in (documents.get(b"class_params"), documents.get(b"multiclass_params"), options):
        classes = of or {}
        told += [classes.get(name) or [] for name in ("class_names", "class_to_label")]
        told.append(range(classes.get("classes_count") or 0))
    needed = max(dimension, 2)
    if any(labels and not needed <= len(labels) <= _MOST_DIMENSIONS for labels in told):
        raise Corrupt("the CatBoost model has fewer classes than it predicts")
    for loss in (params.get("loss_function"), documents.get(b"loss_function")):
        if loss is not None:
            _judge_loss(loss, dimension)
    return any(len(labels) for labels in told)


def _judge_loss(loss: Mapping[str, Any], dimension: int) -> None:
    """Native code ends the process over a loss that it cannot read."""
    name, params = loss["type"], dict(loss["params"])
    if len(loss) != 2 or name not in _LOSSES:
        raise Corrupt(f"the CatBoost model has the unknown loss {name!r:.40}")
    if name == "RMSEWithUncertainty" and dimension != 2:
        raise Corrupt("the CatBoost model predicts no uncertainty, though it says so")
    order = params.pop(_ORDER, None)
    if order is not None and sorted(json.loads(order)) != sorted(params):
        raise Corrupt("the CatBoost model orders other parameters of its loss than it has")
    for key, value in params.items():
        if not (_WORD if _WORDED.fullmatch(key) else _NUMBERS).fullmatch(value):
            raise Corrupt(f"the CatBoost model has the impossible parameter {key!r:.40} of a loss")


def _document(text: bytes) -> dict[str, Any]:
    """Read JSON that is nested no deeper than native readers bear."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise Corrupt("the metadata of the CatBoost model are nested too deeply") from error
    if type(found) is not dict:
        raise Corrupt("the metadata of the CatBoost model are no table")
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        few = [item.get("thread_count", 1) for item in level if isinstance(item, dict)]
        if any(type(threads) is int and threads > _MOST_THREADS for threads in few):
            raise Corrupt("the CatBoost model asks for an impossible number of threads")
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return found
    raise Corrupt("the metadata of the CatBoost model are nested too deeply")
