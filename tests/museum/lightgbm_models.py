"""Models of LightGBM from 3.3 on. Rows that are held out have gaps and unseen categories."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from piece import METHODS, Piece, answers as _answers, drawn, framed
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_FIT, _HELD, _GOLDEN = 90, 40, 20
_QUIET = {"verbose": -1, "min_child_samples": 5, "num_leaves": 5, "n_jobs": 1, "random_state": 0}


def _frame(seed: int, rows: int, cities: list[str]) -> pd.DataFrame:
    frame = framed(seed, rows, cities)
    frame["level"] = pd.Categorical(np.arange(rows) % 4, ordered=False)
    return frame


X, HELD = drawn(0, _FIT), drawn(7, _HELD)
CLASSES = np.arange(_FIT) % 3
NAMES = np.array(["lima", "oslo", "rome"])[CLASSES]
BINARY = (CLASSES == 1).astype(int)
VALUES = np.nan_to_num(X) @ np.array([1.0, 2.0, 3.0, 4.0]) + 0.5
COUNTS = np.arange(_FIT) % 4
FRAME = _frame(2, _FIT, ["lima", "oslo", "rome"])
HELD_FRAME = _frame(9, _HELD, ["oslo", "lima", "rome", "quito"])
NUMBERS = FRAME[["age", "income", "visits"]]
HELD_NUMBERS = HELD_FRAME[["age", "income", "visits"]]


def _wrappers() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Yield wrappers of scikit-learn's kind: name, model, inputs, target, rows held out."""
    few = {"n_estimators": 4, **_QUIET}
    classifier, regressor = lightgbm.LGBMClassifier, lightgbm.LGBMRegressor
    yield "classes", classifier(**few), X, NAMES, HELD
    yield "binary", classifier(**few), X, BINARY, HELD
    yield "weighted", classifier(class_weight="balanced", **few), X, NAMES, HELD
    yield "one-versus-all", classifier(objective="multiclassova", **few), X, CLASSES, HELD
    yield "values", regressor(**few), X, VALUES, HELD
    yield "huber", regressor(objective="huber", **few), X, VALUES, HELD
    yield "quantile", regressor(objective="quantile", alpha=0.8, **few), X, VALUES, HELD
    yield "poisson", regressor(objective="poisson", **few), X, COUNTS, HELD
    yield "tweedie", regressor(objective="tweedie", **few), X, COUNTS, HELD
    yield "linear-trees", regressor(linear_tree=True, **few), X, VALUES, HELD
    yield "dart", regressor(boosting_type="dart", **few), X, VALUES, HELD
    bag = {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}
    yield "forest", classifier(**bag, **few), X, NAMES, HELD
    yield "forest-values", regressor(**bag, **few), X, VALUES, HELD
    yield "extra-trees", regressor(extra_trees=True, **few), X, VALUES, HELD
    yield "zero-missing", regressor(zero_as_missing=True, **few), np.nan_to_num(X), VALUES, HELD
    yield "constrained", regressor(monotone_constraints=[1, 0, 0, -1], **few), X, VALUES, HELD
    yield "named", regressor(**few), NUMBERS, VALUES, HELD_NUMBERS
    yield "categories", classifier(**few), FRAME, NAMES, HELD_FRAME
    yield "categories-values", regressor(cat_smooth=1, **few), FRAME, VALUES, HELD_FRAME
    yield "one-leaf", regressor(n_estimators=2, verbose=-1, n_jobs=1), X[:9], np.ones(9), HELD
    pipeline = make_pipeline(StandardScaler(), classifier(**few))
    yield "pipeline", pipeline, X, NAMES, HELD
    yield "search", GridSearchCV(regressor(**few), {"num_leaves": [3, 4]}, cv=2), X, VALUES, HELD


def _boosters() -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield bare boosters: name, model, rows for the golden set, rows held out."""
    quiet = {"verbose": -1, "num_leaves": 5, "min_data_in_leaf": 5, "num_threads": 1}
    data = lightgbm.Dataset(X, label=CLASSES, params={"verbose": -1})
    many = {"objective": "multiclass", "num_class": 3, **quiet}
    yield "booster", lightgbm.train(many, data, 4), X, HELD
    named = lightgbm.Dataset(FRAME, label=VALUES, params={"verbose": -1})
    yield "booster-categories", lightgbm.train(dict(quiet), named, 4), FRAME, HELD_FRAME


def pieces() -> Iterator[Piece]:
    """Fit and yield every model of the list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model, inputs, target, held_out in _wrappers():
            fitted = model.fit(inputs, target)
            yield Piece(name, fitted, inputs[:_GOLDEN], held_out, _native(fitted))
        ranker = lightgbm.LGBMRanker(n_estimators=4, **_QUIET)
        ranked = ranker.fit(X, COUNTS, group=[30, 30, 30])
        yield Piece("ranker", ranked, X[:_GOLDEN], HELD, _native(ranked))
        stopped = lightgbm.LGBMClassifier(n_estimators=40, **_QUIET).fit(
            X,
            BINARY,
            eval_set=[(HELD, np.arange(_HELD) % 2)],
            callbacks=[lightgbm.early_stopping(2, verbose=False)],
        )
        yield Piece("early-stopping", stopped, X[:_GOLDEN], HELD)
        for name, booster, inputs, held_out in _boosters():
            yield Piece(name, booster, inputs[:_GOLDEN], held_out, _native(booster))


def _native(model: Any) -> dict[str, Any]:
    """Return what writes the text of a model's booster."""
    booster = getattr(model, "booster_", model if isinstance(model, lightgbm.Booster) else None)
    return {} if booster is None else {"txt": lambda: booster.model_to_string().encode()}


def answers(model: Any, rows: Any, methods: Any = METHODS) -> dict[str, Any]:
    """Return what the model says of the rows; of a bare booster also its scores and reasons."""
    if not isinstance(model, lightgbm.Booster):
        return _answers(model, rows, methods)
    return {
        "predict": model.predict(rows),
        "scores": model.predict(rows, raw_score=True),
        "leaves": model.predict(rows, pred_leaf=True),
        "contributions": model.predict(rows, pred_contrib=True),
    }
