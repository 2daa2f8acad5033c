"""Models of XGBoost from 1.7 on. Rows that are held out have gaps and categories out of order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from piece import METHODS, Piece, answers as _answers, drawn, framed
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_FIT, _HELD, _GOLDEN = 90, 40, 20
_VERSION = tuple(int(part) for part in xgboost.__version__.split(".")[:2])


def _frame(seed: int, rows: int, cities: list[str]) -> pd.DataFrame:
    frame = framed(seed, rows, cities)
    frame["vip"] = frame["city"].cat.codes == 1
    return frame


X, HELD = drawn(0, _FIT), drawn(7, _HELD)
CLASSES = np.arange(_FIT) % 3
BINARY = (CLASSES == 1).astype(int)
VALUES = np.nan_to_num(X) @ np.array([1.0, 2.0, 3.0, 4.0]) + 0.5
COUNTS = np.arange(_FIT) % 4
FRAME = _frame(2, _FIT, ["lima", "oslo", "rome"])
HELD_FRAME = _frame(9, _HELD, ["lima", "oslo", "rome"])
NUMBERS, HELD_NUMBERS = FRAME.drop(columns="city"), HELD_FRAME.drop(columns="city")


def _native(model: Any, *endings: str) -> dict[str, Any]:
    """Return what writes files of XGBoost's own of a model."""
    booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
    return {ending: partial(booster.save_raw, ending) for ending in ("ubj", "json", *endings)}


def _wrappers() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Yield wrappers of scikit-learn's kind: name, model, inputs, target, rows held out."""
    few = {"n_estimators": 4, "max_depth": 3, "n_jobs": 1}
    hist = {**few, "tree_method": "hist"}
    yield "classes", xgboost.XGBClassifier(**few), X, CLASSES, HELD
    yield "binary", xgboost.XGBClassifier(**few), X, BINARY, HELD
    yield "softmax", xgboost.XGBClassifier(objective="multi:softmax", **few), X, CLASSES, HELD
    yield "weighted", xgboost.XGBClassifier(scale_pos_weight=2.0, **hist), X, BINARY, HELD
    yield "hinge", xgboost.XGBClassifier(objective="binary:hinge", **few), X, BINARY, HELD
    yield "values", xgboost.XGBRegressor(**few), X, VALUES, HELD
    yield "base-score", xgboost.XGBRegressor(base_score=3.5, **few), X, VALUES, HELD
    yield "poisson", xgboost.XGBRegressor(objective="count:poisson", **few), X, COUNTS, HELD
    yield "gamma", xgboost.XGBRegressor(objective="reg:gamma", **few), X, COUNTS + 1.0, HELD
    yield "absolute", xgboost.XGBRegressor(objective="reg:absoluteerror", **hist), X, VALUES, HELD
    yield "tweedie", xgboost.XGBRegressor(objective="reg:tweedie", **few), X, COUNTS, HELD
    yield "dart", xgboost.XGBRegressor(booster="dart", rate_drop=0.5, **few), X, VALUES, HELD
    yield "linear", xgboost.XGBRegressor(booster="gblinear", n_jobs=1), X, VALUES, HELD
    yield "forest", xgboost.XGBRFClassifier(**few), X, BINARY, HELD
    yield "forest-values", xgboost.XGBRFRegressor(**few), X, VALUES, HELD
    pair = np.column_stack([VALUES, COUNTS])
    yield "two-outputs", xgboost.XGBRegressor(**few), X, pair, HELD
    labels = np.column_stack([BINARY, COUNTS > 1]).astype(int)
    yield "two-labels", xgboost.XGBClassifier(**few), X, labels, HELD
    bounds = {"monotone_constraints": (1, 0, 0, -1), "interaction_constraints": "[[0, 1], [2, 3]]"}
    yield "constrained", xgboost.XGBRegressor(**bounds, **hist), X, VALUES, HELD
    yield "named", xgboost.XGBRegressor(**few), NUMBERS, VALUES, HELD_NUMBERS
    categories = {**hist, "enable_categorical": True}
    yield "categories", xgboost.XGBClassifier(**categories), FRAME, CLASSES, HELD_FRAME
    split = {**categories, "max_cat_to_onehot": 1}
    yield "categories-split", xgboost.XGBRegressor(**split), FRAME, VALUES, HELD_FRAME
    yield "missing-zero", xgboost.XGBRegressor(missing=0.0, **few), np.nan_to_num(X), VALUES, HELD
    pipeline = make_pipeline(StandardScaler(), xgboost.XGBClassifier(**few))
    yield "pipeline", pipeline, X, CLASSES, HELD
    search = GridSearchCV(xgboost.XGBRegressor(**few), {"max_depth": [2, 3]}, cv=2)
    yield "search", search, X, VALUES, HELD
    voting = VotingRegressor([("trees", xgboost.XGBRegressor(**few)), ("ridge", Ridge())])
    yield "voting", voting, np.nan_to_num(X), VALUES, np.nan_to_num(HELD)
    if _VERSION >= (2, 0):
        quantile = {"objective": "reg:quantileerror", "quantile_alpha": np.array([0.2, 0.8])}
        yield "quantiles", xgboost.XGBRegressor(**quantile, **hist), X, VALUES, HELD
        vectors = {"multi_strategy": "multi_output_tree", **hist}
        yield "vectors", xgboost.XGBRegressor(**vectors), X, pair, HELD


def _boosters() -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield bare boosters: name, model, rows for the golden set, rows held out."""
    plain = xgboost.DMatrix(X, label=CLASSES)
    soft = {"objective": "multi:softprob", "num_class": 3, "max_depth": 3, "nthread": 1}
    yield "booster", xgboost.train(soft, plain, 4), X, HELD
    named = xgboost.DMatrix(FRAME, label=VALUES, enable_categorical=True)
    hist = {"tree_method": "hist", "max_depth": 3, "nthread": 1}
    yield "booster-categories", xgboost.train(hist, named, 4), FRAME, HELD_FRAME
    margins = xgboost.DMatrix(X, label=BINARY)
    raw = {"objective": "binary:logitraw", "max_depth": 3, "nthread": 1}
    yield "booster-margins", xgboost.train(raw, margins, 4), X, HELD


def _stopped() -> Any:
    model = xgboost.XGBClassifier(n_estimators=40, early_stopping_rounds=2, n_jobs=1)
    return model.fit(X, BINARY, eval_set=[(HELD, np.arange(_HELD) % 2)], verbose=False)


def pieces() -> Iterator[Piece]:
    """Fit and yield every model that this XGBoost has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model, inputs, target, held_out in _wrappers():
            fitted = model.fit(inputs, target)
            native = _native(fitted) if hasattr(fitted, "get_booster") else {}
            yield Piece(name, fitted, inputs[:_GOLDEN], held_out, native)
        ranker = xgboost.XGBRanker(n_estimators=4, max_depth=3, n_jobs=1)
        ranked = ranker.fit(X, COUNTS, group=[30, 30, 30])
        yield Piece("ranker", ranked, X[:_GOLDEN], HELD, _native(ranked))
        yield Piece("early-stopping", _stopped(), X[:_GOLDEN], HELD)
        for name, booster, inputs, held_out in _boosters():
            old = ("deprecated",) if name == "booster" and _VERSION < (3, 1) else ()
            yield Piece(name, booster, inputs[:_GOLDEN], held_out, _native(booster, *old))


def answers(model: Any, rows: Any, methods: Any = METHODS) -> dict[str, Any]:
    """Return what the model says of the rows; of a bare booster also its margins and reasons."""
    if not isinstance(model, xgboost.Booster):
        return _answers(model, rows, methods)
    # A booster that was read from bare bytes has no names; the frame's are those of the fit.
    data = xgboost.DMatrix(rows, enable_categorical=isinstance(rows, pd.DataFrame))
    return {
        "predict": model.predict(data),
        "margins": model.predict(data, output_margin=True),
        "leaves": model.predict(data, pred_leaf=True),
        "contributions": model.predict(data, pred_contribs=True),
    }
