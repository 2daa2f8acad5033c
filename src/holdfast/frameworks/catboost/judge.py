"""Judging a CatBoost model before its native reader sees it.

A ``.cbm`` file is a FlatBuffer and, after it, tables of category statistics that the native reader
takes unlooked at; the predictor follows splits, leaves and buckets without looking either. Source
of the format: in ``catboost/libs/model``, ``flatbuffers/*.fbs``, ``model.cpp`` and
``static_ctr_provider.cpp``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.frameworks.catboost.features import judge_features
from holdfast.frameworks.catboost.flat import (
    Number,
    Numbers,
    Schema,
    Table,
    Tables,
    Text,
    Texts,
    read_flat,
)
from holdfast.frameworks.catboost.metadata import judge_metadata
from holdfast.frameworks.catboost.statistics import TABLE, judge_statistics
from holdfast.frameworks.catboost.trees import BIN, NODE, judge_trees

__all__ = ["Judged", "judge"]

_MAGIC: Final = b"CBM1"
_FORMAT: Final = b"FlabuffersModel_v1"
_STATISTICS: Final = b"static_provider_v1"
_UNSEEN: Final = {
    "text_features": "text features", "embedding_features": "embedding features",
    "estimated_features": "features computed of texts or embeddings",
}  # fmt: skip
_I4: Final = Number("<i", -1)
_ANY: Final[Schema] = {}
_FLOAT: Final[Schema] = {
    "has_nans": Number("<?", 0), "index": _I4, "flat": _I4, "borders": Numbers("<f4"),
    "name": Text(), "nans": Number("<b", 0),
}  # fmt: skip
_CATEGORY: Final[Schema] = {"index": _I4, "flat": _I4, "name": Text(), "used": Number("<?", 1)}
_ONE_HOT: Final[Schema] = {"index": _I4, "values": Numbers("<i4"), "texts": Texts()}
_STATISTIC: Final[Schema] = {
    "ctr": Table(
        {
            "base": TABLE["base"], "target": Number("<i", 0), "prior": Number("<f", 0),
            "prior_of": Number("<f", 1), "shift": Number("<f", 0), "scale": Number("<f", 1),
        }
    ),
    "borders": Numbers("<f4"),
}  # fmt: skip
_TREES: Final[Schema] = {
    "dimension": Number("<i", 0), "splits": Numbers("<i4"), "sizes": Numbers("<i4"),
    "starts": Numbers("<i4"), "categories": Tables(_CATEGORY), "floats": Tables(_FLOAT),
    "one_hot": Tables(_ONE_HOT), "ctrs": Tables(_STATISTIC), "leaves": Numbers("<f8"),
    "weights": Numbers("<f8"), "nodes": Numbers(NODE), "leaf_ids": Numbers("<u4"),
    "text_features": Numbers("<u4"), "estimated_features": Numbers("<u4"),
    "scale": Number("<d", 1), "bias": Number("<d", 0), "biases": Numbers("<f8"),
    "bins": Numbers(BIN), "embedding_features": Numbers("<u4"),
}  # fmt: skip
_MODEL: Final[Schema] = {
    "format": Text(), "trees": Table(_TREES),
    "info": Tables({"key": Text(), "value": Text()}), "parts": Texts(),
}  # fmt: skip


class Judged(NamedTuple):
    """What a sound model says of itself.

    Attributes:
        info: Its metadata.
        digest: Of all that it holds, in whatever order it was written.
        labels: Whether it predicts classes.
    """

    info: Mapping[bytes, bytes]
    digest: bytes
    labels: bool


def judge(data: bytes) -> Judged:
    """Check sizes and every index that compiled code follows.

    Raises:
        Corrupt: Something is missing, of the wrong size, or points outside.
        Unsupported: It has text or embedding features, whose dictionaries are not looked into, or
            some of its features were dropped.
    """
    try:
        return _judge(data)
    except (LookupError, ValueError, ArithmeticError, TypeError, AttributeError) as error:
        if isinstance(error, HoldfastError):
            raise
        raise Corrupt(f"the CatBoost model is malformed: {error!r:.100}") from error


def _judge(data: bytes) -> Judged:
    if data[:4] != _MAGIC:
        raise Corrupt("this is no CatBoost model")
    core, rest = _part(data, 4)
    model = read_flat(core, _MODEL)
    if model["format"] != _FORMAT or model["trees"] is None:
        raise Corrupt("this is no CatBoost model of a known form")
    trees: dict[str, Any] = {
        name: np.zeros(0, getattr(_TREES[name], "dtype", None)) if value is None else value
        for name, value in model["trees"].items()
    }
    _refuse_unseen(trees)
    parts = model["parts"] or []
    if len(parts) > 1 or any(part != _STATISTICS for part in parts):
        raise _unsupported("parts that are not known")
    tables: list[dict[str, Any]] = []
    if parts:
        tables, rest = _statistics(data, rest)
    if rest != len(data):
        raise Corrupt("the CatBoost model has something after its end")
    bins = judge_features(trees)
    judge_statistics(trees["ctrs"], tables, bins)
    judge_trees(trees, bins)
    info = _pairs(model["info"] or [])
    labels = judge_metadata(info, trees["dimension"])
    return Judged(info, _digest(trees, sorted(info.items()), tables), labels)


def _part(data: bytes, place: int) -> tuple[bytes, int]:
    """Return the bytes of a part whose length comes first, and where the next one begins."""
    size = _count(data, place)
    if place + 4 + size > len(data):
        raise Corrupt("the CatBoost model ends too early")
    return data[place + 4 : place + 4 + size], place + 4 + size


def _count(data: bytes, place: int) -> int:
    if place + 4 > len(data):
        raise Corrupt("the CatBoost model ends too early")
    return int.from_bytes(data[place : place + 4], "little")


def _statistics(data: bytes, place: int) -> tuple[list[dict[str, Any]], int]:
    count, tables = _count(data, place), []
    place += 4
    if count > len(data) // 8:
        raise Corrupt("the CatBoost model announces more tables than it has")
    for _ in range(count):
        part, place = _part(data, place)
        tables.append(read_flat(part, TABLE))
    return tables, place


def _refuse_unseen(trees: Mapping[str, Any]) -> None:
    for name, what in _UNSEEN.items():
        if len(trees[name]):
            raise _unsupported(what)


def _unsupported(what: str) -> Unsupported:
    return Unsupported(
        f"The CatBoost model has {what}, which Holdfast cannot look into before CatBoost does.",
        hint="CatBoost().fit(X_without_text, y)  # or with numbers computed of it beforehand",
    )


def _pairs(listed: Iterable[Mapping[str, Any]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for pair in listed:
        key, value = pair["key"], pair["value"]
        if key is None or value is None or key in found:
            raise Corrupt("the metadata of the CatBoost model have a key twice, or no value")
        key.decode(), value.decode()
        found[key] = value
    return found


def _digest(*content: Any) -> bytes:
    """Return a digest of parsed content; statistics have no order."""
    *ordered, tables = (msgspec.to_builtins(_plain(part)) for part in content)
    each = sorted(msgspec.msgpack.encode(table) for table in tables)
    return hashlib.sha256(msgspec.msgpack.encode([ordered, each])).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
