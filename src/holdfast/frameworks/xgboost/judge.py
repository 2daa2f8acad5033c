"""Judging an XGBoost model before its native reader sees it.

The native reader and predictor follow sizes, child and feature indices and category segments
without looking. Source of the schema: ``doc/model.schema``, ``src/learner.cc``, ``src/gbm`` and
``src/data/cat_container.cc`` in XGBoost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.xgboost.trees import Forest, gathered, judge_trees, read_trees, whole
from holdfast.frameworks.xgboost.ubj import Numbers, read_ubj

__all__ = ["Judged", "judge_json", "judge_objective", "judge_ubj", "unique"]

# 64 rows at a time are spread over all features, whatever the trees ask for: a gigabyte here.
_MOST_FEATURES: Final = 1 << 22
_MOST_GROUPS: Final = 1 << 16
_MOST_TREES: Final = 1 << 24
# Numbers and lists of them as parameters are written; what parses a list looks at neither end.
_LIST: Final = re.compile(r"[\[(]?[-+0-9.eEinfaN, ]*[0-9fN][-+0-9.eEinfaN, ]*[\])]?")
_WORD: Final = re.compile(r"[-+:._@A-Za-z0-9]{1,200}")


class Judged(NamedTuple):
    """What a sound model says of itself.

    Attributes:
        learner: Its parameters, objective and booster.
        version: The release that wrote it.
        tables: Whether several values in a leaf are kept in a table of their own, as releases from
            3.2 on do; None where leaves have one value.
    """

    learner: Mapping[str, Any]
    version: tuple[int, ...]
    tables: bool | None


def judge_ubj(data: bytes | memoryview) -> Judged:
    """Read a model's UBJSON and check sizes and every index that compiled code follows.

    Raises:
        Corrupt: Something is missing, of the wrong size, or points outside.
    """
    with _malformed():
        return _judged(read_ubj(data, {"trees": read_trees}))


def judge_json(data: bytes) -> tuple[Judged, bytes]:
    """Check a model in JSON in the same way.

    Returns:
        What it says of itself, and the model written anew, so that the native reader meets no more
        than was looked at.

    Raises:
        Corrupt: It is no JSON, or see ``judge_ubj``.
    """
    try:
        document = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the XGBoost model is not JSON: {error!s:.100}") from error
    with _malformed():
        judged = _judged(document)
    return judged, json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _judged(document: Mapping[str, Any]) -> Judged:
    version = tuple(_ints(document["version"]).tolist())
    if len(version) != 3 or not all(0 <= part < 10_000 for part in version):
        raise Corrupt("the XGBoost model has no version")
    learner = document["learner"]
    forest = _judge_learner(learner)
    vectors = [] if forest is None else [*forest.vectors.values()]
    tables = {vector.leaf_weights is not None for vector in vectors}
    if len(tables) > 1:
        raise Corrupt("some trees of the XGBoost model keep their leaves in a table, some do not")
    return Judged(learner, version, tables.pop() if tables else None)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a table of a JSON object, in which no key may be twice; raises ``Corrupt``."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise Corrupt("the JSON has a key twice")
    return table


@contextmanager
def _malformed() -> Iterator[None]:
    """Say of what is missing or of another type that the model is malformed."""
    try:
        yield
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the XGBoost model is malformed: {error!r:.100}") from error


def _judge_learner(learner: Mapping[str, Any]) -> Forest | None:
    params = learner["learner_model_param"]
    features = whole(params["num_feature"], 0, _MOST_FEATURES)
    classes = whole(params.get("num_class", "0"), 0, _MOST_GROUPS)
    targets = whole(params.get("num_target", "1"), 1, _MOST_GROUPS)
    _require_texts(params.values(), _LIST)
    for name in ("feature_names", "feature_types"):
        words = learner.get(name, [])
        if not isinstance(words, list) or len(words) not in (0, features):
            raise Corrupt(f"the XGBoost model has {features} features and another number of names")
        if not all(isinstance(word, str) and "\0" not in word for word in words):
            raise Corrupt(f"{name} of the XGBoost model are not texts")
    if not all(isinstance(value, str) for value in learner["attributes"].values()):
        raise Corrupt("an attribute of the XGBoost model is not a text")
    judge_objective(learner["objective"], classes)
    return _judge_booster(learner["gradient_booster"], features, max(classes, targets, 1))


def judge_objective(objective: Mapping[str, Any], classes: int) -> None:
    """Require that answers are cut into as many numbers as there are classes.

    Raises:
        Corrupt: They are not, or a parameter is none.
    """
    name = objective["name"]
    for key, value in objective.items():
        if isinstance(value, dict):
            _require_texts(value.values(), _LIST, _WORD)
        elif key == "name":
            _require_texts([value], _WORD)
        elif len(_floats(value)) > _MOST_GROUPS:  # of LambdaMART: a bias for each place
            raise Corrupt("the objective of the XGBoost model has too many numbers")
    if name.startswith("multi:"):
        told = objective["softmax_multiclass_param"]["num_class"]
        if whole(told, 1, _MOST_GROUPS) != classes:
            raise Corrupt("the objective of the XGBoost model has another number of classes")


def _require_texts(values: Any, *patterns: re.Pattern[str]) -> None:
    for value in values:
        if not isinstance(value, str) or not any(p.fullmatch(value) for p in patterns):
            raise Corrupt(f"the XGBoost model has the impossible parameter {value!r:.40}")


def _judge_booster(booster: Mapping[str, Any], features: int, groups: int) -> Forest | None:
    name = booster["name"]
    if name == "gblinear":
        weights = _floats(booster["model"]["weights"])
        if len(weights) not in (0, (features + 1) * groups):
            raise Corrupt("the linear XGBoost model has another number of weights than features")
        return None
    if name == "gbtree":
        return _judge_model(booster["model"], features, groups)
    if name != "dart" or booster["gbtree"]["name"] != "gbtree":
        raise Corrupt(f"the XGBoost model has the unknown booster {name!r:.40}")
    forest = _judge_model(booster["gbtree"]["model"], features, groups)
    if len(_floats(booster["weight_drop"])) != len(forest):
        raise Corrupt("the XGBoost model has another number of dropped weights than trees")
    if forest.vectors:
        raise Corrupt("the XGBoost model drops trees with several values in a leaf")
    return forest


def _judge_model(model: Mapping[str, Any], features: int, groups: int) -> Forest:
    forest = model["trees"]
    if not isinstance(forest, Forest):
        forest = gathered(forest)
    count, params = len(forest), model["gbtree_model_param"]
    if whole(params["num_trees"], 0, _MOST_TREES) != count:
        raise Corrupt("the XGBoost model announces another number of trees")
    info = _ints(model["tree_info"])
    if len(info) != count or _outside(info, 0, groups) or (forest.vectors and info.any()):
        raise Corrupt("the trees of the XGBoost model belong to groups that do not exist")
    if "iteration_indptr" in model:
        rounds = _ints(model["iteration_indptr"])
        if not len(rounds) or rounds[0] != 0 or rounds[-1] != count or (np.diff(rounds) < 0).any():
            raise Corrupt("the rounds of the XGBoost model do not cover its trees")
    else:  # then they follow from the sizes, as before 2.0
        each = whole(params.get("num_parallel_tree", "1"), 1, _MOST_TREES)
        if count and count % ((int(info.max()) + 1) * each):
            raise Corrupt("the rounds of the XGBoost model do not cover its trees")
    judge_trees(forest, features, groups)
    _judge_encoder(model.get("cats"), features)
    return forest


def _judge_encoder(cats: Any, features: int) -> None:
    """Look at the categories by which inputs are coded anew, since 3.1."""
    if cats is None:
        return
    segments, order = _ints(cats["feature_segments"]), _ints(cats["sorted_idx"])
    columns = cats["enc"]
    if not isinstance(columns, list) or len(columns) not in (0, features):
        raise Corrupt("the XGBoost model codes features that do not exist")
    counts = [_judged_names(column) for column in columns]
    edges = np.cumsum([0, *counts])
    if (len(segments) or columns) and not np.array_equal(segments, edges):
        raise Corrupt("the XGBoost model has another number of categories than it says")
    if len(order) != edges[-1]:
        raise Corrupt("the XGBoost model has an impossible order of categories")
    for begin, end in zip(edges.tolist(), edges[1:].tolist(), strict=False):
        part = order[begin:end]
        if _outside(part, 0, end - begin) or len(np.unique(part)) != len(part):
            raise Corrupt("the XGBoost model has an impossible order of categories")


def _judged_names(column: Mapping[str, Any]) -> int:
    """Return how many categories a feature has; texts are kept one after the other."""
    values = _ints(column["values"])
    if "offsets" not in column:
        return len(values)
    offsets = _ints(column["offsets"])
    if not len(offsets):
        return 0
    if offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
        raise Corrupt("the XGBoost model has category names that are cut wrongly")
    return len(offsets) - 1


def _raw(value: Any) -> Any:
    if isinstance(value, Numbers):
        return value.array()
    if not isinstance(value, list):
        raise Corrupt("the XGBoost model has no array where one belongs")
    return value


def _ints(value: Any) -> Any:
    raw = _raw(value)
    if isinstance(raw, list) and not {*map(type, raw)} <= {int}:
        raise Corrupt("the XGBoost model has something else where whole numbers belong")
    array = np.asarray(raw, np.int64 if isinstance(raw, list) else None)
    if array.dtype.kind not in "iu":
        raise Corrupt("the XGBoost model has something else where whole numbers belong")
    return array.astype(np.int64)


def _floats(value: Any) -> Any:
    raw = _raw(value)
    if isinstance(raw, list) and not {*map(type, raw)} <= {int, float}:
        raise Corrupt("the XGBoost model has something else where numbers belong")
    return np.asarray(raw, dtype=np.float64)


def _outside(values: Any, low: int, high: int) -> bool:
    return len(values) > 0 and bool(values.min() < low or values.max() >= high)
