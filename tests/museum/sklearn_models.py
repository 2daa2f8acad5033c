"""What the museum keeps: fitted estimators, rows for the golden set, and rows that are held out.

Runs under every scikit-learn from 1.2 on, so it may use nothing newer. Rows that are held out have
missing values and categories that the fit never saw, wherever the model takes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from piece import Piece, answers
from scipy.stats import uniform
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import NMF, PCA, KernelPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectFromModel, SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    OneHotEncoder,
    OrdinalEncoder,
    SplineTransformer,
    StandardScaler,
)
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC, LinearSVC, NuSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

__all__ = ["answers", "pieces"]

_FIT, _GOLDEN, _HELD = 80, 20, 40


def _draw(seed: int, rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.RandomState(seed)  # the same draws in every release of numpy
    target = np.arange(rows) % 3
    return np.abs(random.normal(size=(rows, 5)) + 1.5 * target[:, None] + 0.3), target


def _frame(seed: int, rows: int, cities: list[str]) -> pd.DataFrame:
    numbers, target = _draw(seed, rows)
    random = np.random.RandomState(seed + 1)
    frame = pd.DataFrame(numbers[:, :3], columns=["age", "income", "score"])
    frame["city"] = pd.Series([cities[i % len(cities)] for i in range(rows)], dtype=object)
    frame["plan"] = pd.Series(np.where(target == 1, "gold", "basic"), dtype=object)
    frame.loc[random.choice(rows, rows // 8, replace=False), "income"] = np.nan
    return frame


def _gaps(numbers: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    holes = np.random.RandomState(seed).random_sample(numbers.shape) < 0.15
    return np.where(holes, np.nan, numbers)


X, CLASSES = _draw(0, _FIT)
HELD, _ = _draw(7, _HELD)
NAMES = np.array(["lima", "oslo", "rome"])[CLASSES]
BINARY = CLASSES == 1
VALUES = X @ np.arange(1.0, 6.0) + 0.1
PAIR = np.column_stack([VALUES, X[:, 0] * 3 + 1])
GAPS, HELD_GAPS = _gaps(X, 1), _gaps(HELD, 8)
CODES = np.column_stack([np.floor(X[:, 0]) % 4, X[:, 1]])
HELD_CODES = np.column_stack([np.floor(HELD[:, 0]) % 6, HELD[:, 1]])
FRAME = _frame(2, _FIT, ["lima", "oslo", "rome"])
HELD_FRAME = _frame(9, _HELD, ["lima", "oslo", "rome", "quito"])
_TEXT = "the {w} tram of {c} was {a} on day {d}"
TEXTS = [
    _TEXT.format(w="old" if i % 2 else "new", c=NAMES[i], a="late" if i % 5 else "early", d=i % 9)
    for i in range(_FIT)
]
HELD_TEXTS = [f"a late boat of {NAMES[i]} and of quito on day {i % 11}" for i in range(_HELD)]


def _mixed(last: Any) -> Any:
    return make_pipeline(
        ColumnTransformer(
            [
                ("fill", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
                ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                (
                    "plan",
                    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                    make_column_selector(pattern="plan"),
                ),
            ],
            remainder="passthrough",
        ),
        last,
    )


def _numeric() -> dict[str, tuple[Any, Any]]:
    """Return estimators for plain numbers, each with its target."""
    forest = {"n_estimators": 4, "max_depth": 4, "random_state": 0}
    two = [("ridge", Ridge()), ("tree", DecisionTreeRegressor(max_depth=3, random_state=0))]
    return {
        "tree": (DecisionTreeClassifier(max_depth=4, random_state=0), NAMES),
        "tree-weighted": (DecisionTreeClassifier(max_depth=3, class_weight="balanced"), BINARY),
        "forest": (RandomForestClassifier(**forest), NAMES),
        "forest-two-outputs": (RandomForestClassifier(**forest), np.c_[CLASSES, BINARY]),
        "forest-values": (RandomForestRegressor(**forest), VALUES),
        "extra-trees": (ExtraTreesClassifier(**forest), CLASSES),
        "isolation-forest": (IsolationForest(n_estimators=4, random_state=0), None),
        "boosting": (GradientBoostingClassifier(n_estimators=4, random_state=0), NAMES),
        "boosting-binary": (GradientBoostingClassifier(n_estimators=4, random_state=0), BINARY),
        "boosting-exponential": (
            GradientBoostingClassifier(loss="exponential", n_estimators=4, random_state=0),
            BINARY,
        ),
        "boosting-huber": (
            GradientBoostingRegressor(loss="huber", n_estimators=4, random_state=0),
            VALUES,
        ),
        "boosting-quantile": (
            GradientBoostingRegressor(loss="quantile", n_estimators=4, random_state=0),
            VALUES,
        ),
        "adaboost": (AdaBoostClassifier(n_estimators=3, algorithm=_SAMME, random_state=0), NAMES)
        if _SAMME
        else (AdaBoostClassifier(n_estimators=3, random_state=0), NAMES),
        "bagging": (BaggingRegressor(n_estimators=3, random_state=0), VALUES),
        "logistic": (LogisticRegression(max_iter=300), NAMES),
        "logistic-binary": (LogisticRegression(C=0.5), BINARY),
        "logistic-lasso": (LogisticRegression(solver="liblinear", penalty="l1"), BINARY),
        "linear": (LinearRegression(), PAIR),
        "ridge-classes": (RidgeClassifier(), NAMES),
        "bayesian-ridge": (BayesianRidge(), VALUES),
        "sgd-log": (SGDClassifier(loss="log_loss", random_state=0), NAMES),
        "sgd-huber": (SGDClassifier(loss="huber", random_state=0), NAMES),
        "svc": (SVC(), NAMES),
        "nu-svr": (NuSVR(), VALUES),
        "linear-svc": (OneVsRestClassifier(LinearSVC(max_iter=5000, random_state=0)), NAMES),
        "neighbours": (KNeighborsClassifier(algorithm="kd_tree"), NAMES),
        "neighbours-ball": (
            KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
            CLASSES,
        ),
        "outliers": (LocalOutlierFactor(novelty=True), None),
        "centroids": (NearestCentroid(), NAMES),
        "network": (MLPClassifier(hidden_layer_sizes=(4,), max_iter=20, random_state=0), NAMES),
        "naive-bayes": (GaussianNB(), NAMES),
        "discriminant": (LinearDiscriminantAnalysis(), NAMES),
        "process-values": (GaussianProcessRegressor(optimizer=None), VALUES),
        "process-classes": (GaussianProcessClassifier(optimizer=None), BINARY),
        "mixture": (GaussianMixture(2, random_state=0), None),
        "kmeans": (KMeans(3, n_init=2, random_state=0), None),
        "kmeans-batches": (MiniBatchKMeans(3, n_init=1, random_state=0), None),
        "birch": (Birch(n_clusters=3), None),
        "pls": (PLSRegression(n_components=2), PAIR),
        "kernel-pca": (KernelPCA(n_components=2, kernel="rbf"), None),
        "pca": (make_pipeline(StandardScaler(), PCA(3, random_state=0)), None),
        "nmf": (NMF(2, init="nndsvda", random_state=0, max_iter=300), None),
        "svd": (TruncatedSVD(2, random_state=0), None),
        "splines": (make_pipeline(SplineTransformer(n_knots=4), Ridge()), VALUES),
        "bins": (KBinsDiscretizer(3, strategy="uniform"), None),
        "scaler": (MaxAbsScaler(), None),
        "union": (
            FeatureUnion([("pca", PCA(2, random_state=0)), ("scale", StandardScaler())]),
            None,
        ),
        "select": (SelectFromModel(LogisticRegression(max_iter=300)), NAMES),
        "select-best": (SelectKBest(k=2), CLASSES),
        "calibrated": (CalibratedClassifierCV(SVC(), cv=2), NAMES),
        "calibrated-isotonic": (
            CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2),
            NAMES,
        ),
        "stacking": (
            StackingClassifier(
                [("forest", RandomForestClassifier(**forest)), ("svc", SVC())],
                final_estimator=LogisticRegression(max_iter=300),
                cv=2,
            ),
            NAMES,
        ),
        "voting": (VotingRegressor(two), VALUES),
        "grid-search": (GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2), VALUES),
        "random-search": (
            RandomizedSearchCV(
                LogisticRegression(max_iter=300),
                {"C": uniform(0.1, 2)},
                n_iter=2,
                cv=2,
                random_state=0,
            ),
            NAMES,
        ),
        "target-log": (
            TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
            VALUES,
        ),
        "chain": (ClassifierChain(LogisticRegression(max_iter=300)), np.c_[BINARY, CLASSES == 2]),
        "chain-values": (RegressorChain(Ridge()), PAIR),
        "self-training": (
            SelfTrainingClassifier(LogisticRegression(max_iter=300)),
            np.where(np.arange(_FIT) % 5 == 0, -1, CLASSES),
        ),
    }


_SAMME = "SAMME" if "algorithm" in AdaBoostClassifier().get_params() else None


def _others() -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Yield estimators for other inputs: name, estimator, inputs, target, rows held out."""
    hist = {"max_iter": 4, "min_samples_leaf": 5, "random_state": 0}
    yield "hist-boosting", HistGradientBoostingClassifier(**hist), GAPS, NAMES, HELD_GAPS
    yield "hist-boosting-values", HistGradientBoostingRegressor(**hist), GAPS, VALUES, HELD_GAPS
    yield (
        "hist-boosting-categories",
        HistGradientBoostingRegressor(categorical_features=[0], **hist),
        CODES,
        VALUES,
        HELD_CODES,
    )
    yield "fill-mean", SimpleImputer(add_indicator=True), GAPS, None, HELD_GAPS
    yield "fill-neighbours", KNNImputer(n_neighbors=3), GAPS, None, HELD_GAPS
    yield "fill-iterative", IterativeImputer(max_iter=3, random_state=0), GAPS, None, HELD_GAPS
    yield "mixed-logistic", _mixed(LogisticRegression(max_iter=300)), FRAME, NAMES, HELD_FRAME
    yield (
        "mixed-forest",
        _mixed(RandomForestClassifier(4, max_depth=4, random_state=0)),
        FRAME,
        NAMES,
        HELD_FRAME,
    )
    yield (
        "one-hot",
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=30),
        FRAME[["city", "plan"]],
        None,
        HELD_FRAME[["city", "plan"]],
    )
    yield (
        "text",
        make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=300)),
        TEXTS,
        NAMES,
        HELD_TEXTS,
    )
    yield "isotonic", IsotonicRegression(out_of_bounds="clip"), X[:, 0], VALUES, HELD[:, 0]


def pieces() -> Iterator[Piece]:
    """Fit and yield every model that this scikit-learn has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (model, target) in _numeric().items():
            fitted = model.fit(X) if target is None else model.fit(X, target)
            yield Piece(name, fitted, X[:_GOLDEN], HELD)
        for name, model, inputs, target, held_out in _others():
            fitted = model.fit(inputs) if target is None else model.fit(inputs, target)
            yield Piece(name, fitted, inputs[:_GOLDEN], held_out)
