"""LightGBM models of every kind that Holdfast keeps, each with rows for it."""

import lightgbm
import numpy as np
import pandas as pd

ROWS = 300
QUIET = {"verbose": -1, "min_child_samples": 5, "num_leaves": 6, "n_jobs": 1}


def frame():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=["a", "b", "d", "e"])
    X["c"] = pd.Categorical(rng.choice(["x", "y", "z"], ROWS))
    return X


def numbers():
    return frame()[["a", "b", "d", "e"]]


def plain():
    return np.random.default_rng(1).normal(size=(ROWS, 4))


def target(kinds=2):
    return (np.arange(ROWS) * 7) % kinds


def bare():
    data = lightgbm.Dataset(numbers(), label=target())
    return lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 5}, data, 4)


MODELS = {
    "classifier": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, **QUIET).fit(plain(), target()),
        plain(),
    ),
    "three classes by name": lambda: (
        lightgbm.LGBMClassifier(n_estimators=4, **QUIET).fit(
            plain(), np.array(["low", "mid", "high"])[target(3)]
        ),
        plain(),
    ),
    "categories": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, **QUIET).fit(frame(), frame()["c"] == "y"),
        frame(),
    ),
    "named columns": lambda: (
        lightgbm.LGBMRegressor(n_estimators=5, **QUIET).fit(numbers(), target()),
        numbers(),
    ),
    "early stopping": lambda: (
        lightgbm.LGBMClassifier(n_estimators=30, **QUIET).fit(
            plain(),
            target(),
            eval_set=[(plain(), target()[::-1])],
            callbacks=[lightgbm.early_stopping(2, verbose=False)],
        ),
        plain(),
    ),
    "linear trees": lambda: (
        lightgbm.LGBMRegressor(n_estimators=4, linear_tree=True, **QUIET).fit(
            plain(), plain()[:, 0]
        ),
        plain(),
    ),
    "dart": lambda: (
        lightgbm.LGBMRegressor(n_estimators=4, boosting_type="dart", **QUIET).fit(
            plain(), target()
        ),
        plain(),
    ),
    "random forest": lambda: (
        lightgbm.LGBMRegressor(
            n_estimators=4, boosting_type="rf", subsample=0.5, subsample_freq=1, **QUIET
        ).fit(plain(), target()),
        plain(),
    ),
    "ranker": lambda: (
        lightgbm.LGBMRanker(n_estimators=3, **QUIET).fit(
            plain(), target(4), group=[20] * (ROWS // 20)
        ),
        plain(),
    ),
    "one leaf": lambda: (
        lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(plain()[:9], np.ones(9)),
        plain(),
    ),
    "booster": lambda: (bare(), numbers()),
}  # fmt: skip
