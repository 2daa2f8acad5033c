"""Statistics of categories in a CatBoost model: hash tables and what they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.catboost.features import Bins
from holdfast.frameworks.catboost.flat import Number, Numbers, Schema, Table

__all__ = ["TABLE", "judge_statistics"]

_MOST_CLASSES: Final = 1 << 16
_PAIR: Final = np.dtype([("index", "<i4"), ("value", "<u4")])
_BUCKET: Final = np.dtype([("hash", "<u8"), ("index", "<u4")])
_EMPTY: Final = 2**64 - 1
_NOT_FOUND: Final = 2**32 - 1
# The kinds of statistics, in the order of ``ECtrType``.
_BORDERS, _BUCKETS, _MEANS, _FLOAT_MEANS, _, _LAST = range(6)

_COMBINATION: Final[Schema] = {
    "categories": Numbers("<i4"), "numbers": Numbers(_PAIR), "values": Numbers(_PAIR),
}  # fmt: skip
_BASE: Final[Schema] = {
    "combination": Table(_COMBINATION), "type": Number("<b", 0), "targets": Number("<i", 0),
}  # fmt: skip
TABLE: Final[Schema] = {
    "base": Table(_BASE), "hash": Numbers("u1"), "blob": Numbers("u1"),
    "denominator": Number("<i", 0), "classes": Number("<i", 0),
}  # fmt: skip


def judge_statistics(
    features: Sequence[Mapping[str, Any]], tables: Sequence[Mapping[str, Any]], bins: Bins
) -> None:
    """Check that every bucket leads to numbers that exist, for every feature that asks for them.

    Args:
        features: Features made of statistics, as read by the schema.
        tables: What the statistics are, as read by ``TABLE``.
        bins: What the model may ask of plain features.

    Raises:
        Corrupt: A table is missing or cut, has no empty bucket, or leads outside.
    """
    known = {_key(table["base"]): table for table in tables}
    if len(known) != len(tables):
        raise Corrupt("the CatBoost model has a table of statistics twice")
    for table in tables:
        _judge_table(table)
    for feature in features:
        if feature["ctr"] is None:
            raise Corrupt("a feature of the CatBoost model has no statistics")
        base, target = feature["ctr"]["base"], feature["ctr"]["target"]
        table = known[_key(base)]
        _judge_combination(base["combination"], bins)
        classes = table["classes"]
        most = {_BUCKETS: classes - 1, _BORDERS: max(classes, 2) - 2}.get(base["type"])
        if most is not None and not 0 <= target <= most:
            raise Corrupt("a feature of the CatBoost model asks for a class that does not exist")


def _key(base: Mapping[str, Any] | None) -> tuple[Any, ...]:
    if base is None or base["combination"] is None:
        raise Corrupt("statistics of the CatBoost model are of nothing")
    parts = base["combination"].values()
    return (
        base["type"],
        base["targets"],
        *(b"" if part is None else part.tobytes() for part in parts),
    )


def _judge_table(table: Mapping[str, Any]) -> None:
    kind, classes = table["base"]["type"], table["classes"]
    if not 0 <= kind <= _LAST or not 0 <= classes <= _MOST_CLASSES:
        raise Corrupt("statistics of the CatBoost model are of no known kind")
    if table["hash"] is None or table["blob"] is None or len(table["hash"]) % _BUCKET.itemsize:
        raise Corrupt("a table of statistics of the CatBoost model is cut wrongly")
    buckets = np.frombuffer(table["hash"].tobytes(), _BUCKET)
    full = buckets[buckets["hash"] != _EMPTY]
    if not len(buckets) or len(buckets) & (len(buckets) - 1) or len(full) == len(buckets):
        raise Corrupt("a table of statistics of the CatBoost model has no empty bucket")
    led = full["index"][full["index"] != _NOT_FOUND]
    widths = {_BORDERS: max(classes, 2), _BUCKETS: classes, _MEANS: 2, _FLOAT_MEANS: 2}
    width = 4 * widths.get(kind, 1)
    if len(led) and (int(led.max()) + 1) * width > len(table["blob"]):
        raise Corrupt("a table of statistics of the CatBoost model leads outside")


def _judge_combination(combination: Mapping[str, Any], bins: Bins) -> None:
    categories = combination["categories"]
    if not {*([] if categories is None else categories.tolist())} <= bins.categories:
        raise Corrupt("statistics of the CatBoost model are of a category that does not exist")
    for name, known in (("numbers", bins.numbers), ("values", bins.values)):
        pairs = combination[name]
        if pairs is not None and not {pair.tobytes() for pair in pairs} <= known:
            raise Corrupt("statistics of the CatBoost model are of a split that does not exist")
