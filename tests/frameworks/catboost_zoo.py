"""CatBoost models of every kind that Holdfast keeps, each with rows for it."""

import catboost
import numpy as np
import pandas as pd

ROWS = 240
QUIET = {
    "iterations": 8, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1,
}  # fmt: skip


def numbers():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(ROWS, 3)), columns=["a", "b", "d"])
    X.loc[::7, "a"] = np.nan
    return X


def frame():
    rng = np.random.default_rng(1)
    X = numbers()
    X["kind"] = rng.choice(["x", "y", "z", "né"], ROWS)
    X["town"] = rng.integers(0, 30, ROWS)
    return X


def target(kinds=2):
    return (np.arange(ROWS) * 7 + (frame()["kind"] == "x")).to_numpy() % kinds


def with_categories(kind=catboost.CatBoostClassifier, labels=None, **params):
    params = {**QUIET, "cat_features": ["kind", "town"], **params}
    return kind(**params).fit(frame(), target() if labels is None else labels), frame()


def plain(kind=catboost.CatBoostRegressor, labels=None, fit=(), **params):
    model = kind(**{**QUIET, **params})
    labels = numbers()["b"] if labels is None else labels
    return model.fit(numbers(), labels, **dict(fit)), numbers()


def summed():
    two = [with_categories(random_seed=seed)[0] for seed in (0, 1)]
    return catboost.sum_models(two, weights=[0.5, 0.5]), frame()


STATISTICS = {
    "simple_ctr": ["BinarizedTargetMeanValue", "Buckets", "Counter", "Borders"],
    "combinations_ctr": ["Borders", "Buckets"],
    "max_ctr_complexity": 3,
}
NAMES = np.array(["low", "mid", "high"])

MODELS = {
    "classifier": lambda: plain(catboost.CatBoostClassifier, target()),
    "regressor": plain,
    "categories": with_categories,
    "every kind of statistics": lambda: with_categories(**STATISTICS),
    "statistics of borders": lambda: with_categories(
        catboost.CatBoostRegressor,
        numbers()["b"],
        simple_ctr=["Buckets:TargetBorderCount=3", "Borders:TargetBorderCount=3"],
    ),
    "one hot": lambda: with_categories(one_hot_max_size=50),
    "three classes by name": lambda: with_categories(labels=NAMES[target(3)]),
    "early stopping": lambda: plain(
        catboost.CatBoostClassifier,
        target(),
        iterations=40,
        fit={"eval_set": (numbers(), target()[::-1]), "early_stopping_rounds": 3},
    ),
    "leaf by leaf": lambda: plain(grow_policy="Lossguide", max_leaves=9),
    "level by level, classes": lambda: with_categories(grow_policy="Depthwise", labels=target(3)),
    "ranker": lambda: plain(
        catboost.CatBoostRanker, target(4), fit={"group_id": np.arange(ROWS) // 20}
    ),
    "several targets": lambda: plain(labels=numbers()[["b", "d"]], loss_function="MultiRMSE"),
    "uncertainty": lambda: plain(loss_function="RMSEWithUncertainty"),
    "quantiles": lambda: plain(loss_function="MultiQuantile:alpha=0.1,0.5,0.9"),
    "ranker by groups": lambda: plain(
        catboost.CatBoostRanker,
        target(4),
        loss_function="YetiRank:mode=NDCG;top=3",
        fit={"group_id": np.arange(ROWS) // 20},
    ),
    "one leaf": lambda: plain(grow_policy="Lossguide", min_data_in_leaf=1000),
    "bare": lambda: (catboost.CatBoost(QUIET).fit(numbers(), numbers()["b"]), numbers()),
    "sum of models": summed,
}
