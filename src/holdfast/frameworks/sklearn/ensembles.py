"""Ensembles whose trees take inputs unchecked: all parts must agree on widths and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.rows import require_rows
from holdfast.frameworks.sklearn.shapes import places, whole, width_of

__all__ = ["JUDGES"]


def _widths(trees: Iterable[Any]) -> list[int]:
    """Return the number of features of each tree."""
    found = []
    for tree in trees:
        compiled: Any = getattr(tree, "tree_", None)
        if type(compiled).__name__ != "Tree":
            raise Corrupt("an ensemble of trees holds something that is no fitted tree")
        found.append(int(compiled.n_features))
    return found


def _judge_isolation(fields: Mapping[str, Any]) -> None:
    """Judge an isolation forest: each tree sees the features drawn for it, or all."""
    trees = fields.get("estimators_")
    if trees is None:
        return
    drawn, width = fields.get("estimators_features_"), width_of(fields, "an isolation forest")
    if type(trees) is not list or type(drawn) is not list or len(drawn) != len(trees):
        raise Corrupt("an isolation forest has another number of trees than of drawn features")
    for own, features in zip(_widths(trees), drawn, strict=True):
        if places(features, "drawn features", width) != own:
            raise Corrupt("a tree of an isolation forest has another width than its features")
        if fields.get("_max_features") == width and own != width:
            raise Corrupt("an isolation forest checks its inputs against another width")


def _judge_bagging(fields: Mapping[str, Any]) -> None:
    """Judge the features that each model is asked about: a sparse matrix believes them."""
    drawn, classes = fields.get("estimators_features_"), fields.get("classes_")
    if drawn is not None:
        if type(drawn) is not list:
            raise Corrupt("the drawn features of an ensemble are no list")
        width = width_of(fields, "an ensemble")
        for features in drawn:
            places(features, "drawn features", width)
    if classes is not None and "n_classes_" in fields:
        count = np.size(classes)
        whole(fields["n_classes_"], "the number of classes of an ensemble", count, count)


def _judge_classes(fields: Mapping[str, Any]) -> None:
    """Judge how many classes each output of a forest has: its answers are made as large."""
    classes, counts = fields.get("classes_"), fields.get("n_classes_")
    if classes is None or counts is None:
        return
    if type(classes) is not list:
        classes, counts = [classes], [counts]
    if type(counts) is not list or len(counts) != len(classes):
        raise Corrupt("a forest has another number of outputs than of classes")
    for names, count in zip(classes, counts, strict=True):
        whole(count, "the number of classes of a forest", np.size(names), np.size(names))


def _judge_gradient(fields: Mapping[str, Any]) -> None:
    """Judge gradient boosting: a grid of trees, one column per output of the initial model."""
    trees = fields.get("estimators_")
    if trees is None:
        return
    width = fields.get("n_features_in_")
    if type(trees) is not np.ndarray or trees.ndim != 2 or not trees.size:
        raise Corrupt("the trees of a boosting model are not a grid")
    if set(_widths(trees.ravel())) != {width}:
        raise Corrupt("a boosting model checks its inputs against another width than its trees")
    # Releases before 1.4 ask the loss.
    own = getattr(fields.get("_loss"), "K", trees.shape[1])
    if fields.get("n_trees_per_iteration_", own) != trees.shape[1]:
        raise Corrupt("an iteration of a boosting model has another number of trees")
    _judge_start(fields, trees.shape[1], width)


def _judge_start(fields: Mapping[str, Any], outputs: int, width: Any) -> None:
    """Ask the initial model for two rows: compiled code adds as many columns as trees to it."""
    start = fields.get("init_")
    if start is None or (isinstance(start, str) and start == "zero"):
        return
    require_rows(start, "the initial model of a boosting model")
    classifies = "classes_" in fields
    if classifies and outputs > 1 and not getattr(fields.get("_loss"), "is_multiclass", True):
        raise Corrupt("the loss of a boosting model is for another number of classes")
    rows = np.zeros((2, width), dtype=np.float32)
    try:
        answer = start.predict_proba(rows) if classifies else start.predict(rows)
    except Exception as error:
        raise Corrupt(
            f"the initial model of a boosting model does not answer: {type(error).__name__}"
        ) from error
    if np.ndim(answer) not in (1, 2) or len(answer) != len(rows):
        raise Corrupt("the initial model of a boosting model does not answer once per row")
    answered = np.shape(answer)[1] if np.ndim(answer) == 2 else 1
    if outputs > (1 if answered == 2 and outputs == 1 else answered):
        raise Corrupt("the initial model of a boosting model has too few outputs for its trees")


JUDGES: Final[dict[str, Callable[[Mapping[str, Any]], None]]] = {
    "sklearn.ExtraTreesClassifier": _judge_classes,
    "sklearn.RandomForestClassifier": _judge_classes,
    "sklearn.BaggingClassifier": _judge_bagging,
    "sklearn.BaggingRegressor": _judge_bagging,
    "sklearn.IsolationForest": _judge_isolation,
    "sklearn.GradientBoostingClassifier": _judge_gradient,
    "sklearn.GradientBoostingRegressor": _judge_gradient,
}
