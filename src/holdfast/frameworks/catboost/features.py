"""The features of a CatBoost model, and the conditions that its trees may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt, Unsupported

__all__ = ["Bins", "judge_features"]

_MOST_FEATURES: Final = 1 << 24
# A byte says between which borders a value lies, so more of them take further bytes.
_BORDERS: Final = 254


class Bins(NamedTuple):
    """The conditions of a model, in the order in which trees number them.

    Attributes:
        borders: How many conditions each used feature has, in order.
        one_hot: Whether the conditions of the feature are about equality.
        numbers: Index and border of every condition on a number, as bytes.
        values: Index and value of every condition on a category, as bytes.
        categories: The indices of categories that the model uses.
    """

    borders: Any
    one_hot: Any
    numbers: frozenset[bytes]
    values: frozenset[bytes]
    categories: frozenset[int]

    def repacked(self) -> tuple[Any, Any, Any]:
        """Return for each condition the byte that it looks at, its mask, and what it compares to.

        Returns:
            Three arrays of shape (conditions,).
        """
        buckets = -(-self.borders // _BORDERS)
        first = np.repeat(np.cumsum(buckets) - buckets, self.borders)
        starts = np.repeat(np.cumsum(self.borders) - self.borders, self.borders)
        within = np.arange(len(starts)) - starts
        equal = np.repeat(self.one_hot, self.borders)
        number = within % _BORDERS + 1
        return (
            first + within // _BORDERS,
            np.where(equal, ~number & 0xFF, 0),
            np.where(equal, 0xFF, number),
        )


def judge_features(trees: Mapping[str, Any]) -> Bins:
    """Check where features are looked for, and gather what may be asked of them.

    Raises:
        Corrupt: Two features are the same, or one is out of order.
        Unsupported: Some features were dropped.
    """
    floats, categories = trees["floats"], trees["categories"]
    flats = []
    for features in (floats, categories):
        for name in ("index", "flat"):
            places = [feature[name] for feature in features]
            _require_rising(places)
        flats += places
    if len({*flats}) != len(flats):
        raise Corrupt("two features of the CatBoost model are in one place")
    if flats and max(flats) >= len(flats):  # contributions of features are written unlooked
        raise Unsupported(
            "The CatBoost model lacks features between those that it has.",
            hint="holdfast.save(model, name)  # before model.drop_unused_features()",
        )
    for feature in (*floats, *categories):
        (feature["name"] or b"").decode()
    if any(not 0 <= feature["nans"] <= 2 for feature in floats):
        raise Corrupt("a feature of the CatBoost model treats missing values in no known way")
    used = frozenset(feature["index"] for feature in categories if feature["used"])
    for feature in trees["one_hot"]:
        texts = feature["texts"]
        if feature["index"] not in used or len(texts or []) not in (0, _length(feature["values"])):
            raise Corrupt("a category of the CatBoost model does not belong to a feature")
    numbered = [feature for feature in floats if _length(feature["borders"])]
    columns = [
        *(feature["borders"] for feature in numbered),
        *(feature["values"] for feature in trees["one_hot"]),
        *(feature["borders"] for feature in trees["ctrs"]),
    ]
    equal = np.zeros(len(columns), bool)
    equal[len(numbered) : len(numbered) + len(trees["one_hot"])] = True
    return Bins(
        np.array([_length(column) for column in columns], np.int64),
        equal,
        _conditions(numbered, "borders"),
        _conditions(trees["one_hot"], "values"),
        used,
    )


def _length(column: Any) -> int:
    return 0 if column is None else len(column)


def _conditions(features: Sequence[Mapping[str, Any]], column: str) -> frozenset[bytes]:
    """Return the index of the feature and a border or value, four bytes each."""
    return frozenset(
        feature["index"].to_bytes(4, "little") + each.tobytes()
        for feature in features
        for each in (feature[column] if feature[column] is not None else ())
    )


def _require_rising(places: Sequence[int]) -> None:
    """Native code takes the last place for the largest."""
    if places and not 0 <= places[0] <= places[-1] < _MOST_FEATURES:
        raise Corrupt("a feature of the CatBoost model is in an impossible place")
    if any(one >= other for one, other in pairwise(places)):
        raise Corrupt("the features of the CatBoost model are out of order")
