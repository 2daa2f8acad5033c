"""Trees: what their leaves hold, and what ensembles keep beside them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from holdfast.frameworks.sklearn.migrations.base import Fields, Migration, defaults
from holdfast.plugins import import_extra

__all__ = ["MIGRATIONS"]

_TREES: Final = ("sklearn.Tree", "sklearn.Trees")


def _classifies(fields: Fields) -> bool:
    return int(np.max(fields["n_classes"], initial=1)) > 1


def _to_fractions(fields: Fields) -> None:
    if _classifies(fields):
        values = np.asarray(fields["values"])
        sums = values.sum(axis=2, keepdims=True)
        fields["values"] = values / np.where(sums == 0.0, 1.0, sums)


def _to_counts(fields: Fields) -> None:
    if _classifies(fields):
        weights = np.asarray(fields["weighted_n_node_samples"])
        fields["values"] = np.asarray(fields["values"]) * weights[:, None, None]


def _path_lengths(fields: Fields) -> None:
    """Compute what ``IsolationForest.fit`` caches of its trees since 1.3."""
    if "estimators_" not in fields:
        return
    forest = import_extra("sklearn.ensemble._iforest", needed_for="an IsolationForest")
    trees = [estimator.tree_ for estimator in fields["estimators_"]]
    average = forest._average_path_length  # noqa: SLF001 - what fit calls
    fields["_average_path_length_per_tree"] = tuple(average(t.n_node_samples) for t in trees)
    fields["_decision_path_lengths"] = tuple(tree.compute_node_depths() for tree in trees)


def _boosted(fields: Fields) -> None:
    """Count trees, and keep decision values where raw predictions are centred since 1.4.

    Raw predictions of several classes began at log(prior), and begin at log(prior) less its mean
    now. The mean goes into the leaves of the first trees, which all rows pass through.
    """
    if "estimators_" not in fields:
        return
    trees = fields["estimators_"]
    fields.setdefault("n_trees_per_iteration_", trees.shape[1])
    _shift(fields, 1.0)


def _shift(fields: Fields, sign: float) -> None:
    trees, init = fields["estimators_"], fields["init_"]
    if trees.shape[1] > 1 and type(init).__name__ == "DummyClassifier" and fields["learning_rate"]:
        tiny = np.finfo(np.float64).eps
        prior = np.clip(np.asarray(init.class_prior_, dtype=np.float64), tiny, 1 - tiny)
        for tree in trees[0]:
            tree.tree_.value[...] += sign * np.log(prior).mean() / fields["learning_rate"]


def _boosted_before(fields: Fields) -> None:
    """Return to the losses and raw predictions of before 1.4."""
    if "estimators_" not in fields:
        return
    _shift(fields, -1.0)
    module = import_extra("sklearn.ensemble._gb_losses", needed_for="a GradientBoosting model")
    loss, alpha = fields["_loss"], fields.get("alpha", 0.9)
    name, arguments = {
        "HalfSquaredError": ("LeastSquaresError", ()),
        "AbsoluteError": ("LeastAbsoluteError", ()),
        "HuberLoss": ("HuberLossFunction", (alpha,)),
        "PinballLoss": ("QuantileLossFunction", (alpha,)),
        "HalfBinomialLoss": ("BinomialDeviance", (2,)),
        "HalfMultinomialLoss": ("MultinomialDeviance", (fields["estimators_"].shape[1],)),
        "ExponentialLoss": ("ExponentialLoss", (2,)),
    }[type(loss).__name__]
    fields["_loss"] = getattr(module, name)(*arguments)


def _no_path_lengths(fields: Fields) -> None:
    for name in ("_average_path_length_per_tree", "_decision_path_lengths"):
        fields.pop(name, None)


def _not_remapped(fields: Fields) -> None:
    """Say that categories were not encoded before the trees, as was so up to 1.3."""
    if "_predictors" in fields:
        fields.setdefault("_preprocessor", None)
        fields.setdefault("_is_categorical_remapped", fields.get("is_categorical_"))


def _estimator_columns(fields: Fields) -> None:
    """Give the trees of an ensemble the constructor parameters that came later."""
    module: Any = import_extra("sklearn.tree", needed_for="a decision tree")
    kind = getattr(module, str(fields["kind"]).removeprefix("sklearn."), None)
    known = {*fields["shared"], *fields["varying"]}
    if kind is not None:
        missing = {n: v for n, v in defaults(kind).items() if n not in known}
        fields["shared"] = {**fields["shared"], **missing}


MIGRATIONS: Final = (
    Migration(
        types=_TREES,
        since="1.4",
        change="Leaves of classification trees hold fractions of the classes, no longer counts.",
        harm="Probabilities of 68 in place of 0.7, without an error since 1.9.",
        forward=_to_fractions,
        backward=_to_counts,
    ),
    Migration(
        types=("sklearn.IsolationForest",),
        since="1.3",
        change="fit computes the path lengths of each tree once, for all later scores.",
        harm="score_samples and all that calls it raise AttributeError.",
        forward=_path_lengths,
        backward=_no_path_lengths,
    ),
    Migration(
        types=("sklearn.GradientBoostingClassifier", "sklearn.GradientBoostingRegressor"),
        since="1.4",
        change="Raw predictions of several classes are centred; trees of a step are counted.",
        harm="decision_function is off by a constant of each model, without an error.",
        forward=_boosted,
        backward=_boosted_before,
    ),
    Migration(
        types=("sklearn.HistGradientBoostingClassifier", "sklearn.HistGradientBoostingRegressor"),
        since="1.4",
        change="Categories may be encoded by a ColumnTransformer of the model's own.",
        harm="Every prediction raises AttributeError.",
        forward=_not_remapped,
    ),
    Migration(
        types=("sklearn.Trees",),
        since="1.4",
        change="Trees have the parameter monotonic_cst.",
        harm="clone and repr of a forest's trees raise AttributeError.",
        forward=_estimator_columns,
    ),
)
