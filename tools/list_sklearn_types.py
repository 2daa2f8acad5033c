"""Write the table of scikit-learn types: fit every class below in several ways and list attributes.

Run it under each supported release of scikit-learn and review the difference; attributes are only
ever added, so that files of every release stay readable::

    python tools/list_sklearn_types.py
"""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

TABLE = Path(__file__).parents[1] / "src/holdfast/frameworks/sklearn_types.json"

# What any estimator may carry, whatever it was fitted on.
COMMON = {"_sklearn_output_config", "feature_names_in_", "n_features_in_"}


def recipes() -> list[Any]:
    """Return unfitted estimators that together show every attribute."""
    trees = [DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor]
    forests = [RandomForestClassifier, ExtraTreesClassifier]
    regressors = [RandomForestRegressor, ExtraTreesRegressor]
    return [
        *(kind() for kind in trees),
        *(kind(3, bootstrap=True, oob_score=True, max_samples=0.9) for kind in forests),
        *(kind(3, bootstrap=True, oob_score=True) for kind in regressors),
        *(kind(3, bootstrap=False) for kind in (*forests, *regressors)),
        *(kind(3, warm_start=True, class_weight="balanced") for kind in forests),
        *(kind() for kind in (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)),
        *(kind() for kind in (Normalizer, LabelEncoder, LabelBinarizer)),
        *(kind() for kind in (GaussianNB, MissingIndicator)),
        *(kind() for kind in (LinearRegression, Lasso, ElasticNet, DummyClassifier)),
        LinearRegression(positive=True),
        DummyRegressor(),
        *(PCA(3, svd_solver=s) for s in ("full", "randomized", "arpack", "covariance_eigh")),
        PCA("mle"),
        TruncatedSVD(3),
        *(LogisticRegression(solver=solver) for solver in ("lbfgs", "saga", "liblinear")),
        LogisticRegression(l1_ratio=0.5, solver="saga", class_weight="balanced"),
        *(Ridge(solver=solver) for solver in ("auto", "sag", "lsqr")),
        *(RidgeClassifier(solver=solver) for solver in ("auto", "sag")),
        *(SimpleImputer(strategy=s, add_indicator=True) for s in ("mean", "constant")),
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(drop="first"),
        OneHotEncoder(min_frequency=5, handle_unknown="ignore"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=5),
        FunctionTransformer(),
        Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())]),
        FeatureUnion([("scale", StandardScaler()), ("pca", PCA(2))]),
        ColumnTransformer([("scale", StandardScaler(), [0, 1])], remainder="passthrough"),
    ]


def attributes(estimator: Any, features: Any, target: Any) -> set[str]:
    """Fit one estimator in the ways that leave attributes and return all their names."""
    found: set[str] = set()
    if isinstance(estimator, LabelEncoder | LabelBinarizer):
        return set(vars(estimator.fit(target)))
    for data in (features.to_numpy(), features):
        found |= set(vars(estimator.fit(data, target)))
    if hasattr(estimator, "partial_fit"):
        found |= set(vars(estimator.partial_fit(features, target)))
    if hasattr(estimator, "set_output") and hasattr(estimator, "transform"):
        found |= set(vars(estimator.set_output(transform="pandas")))
    if "sample_weight" in inspect.signature(estimator.fit).parameters:
        found |= set(vars(estimator.fit(features, target, sample_weight=np.ones(len(target)))))
    return found | set(estimator.get_params(deep=False))


def main() -> None:
    """Merge what this release of scikit-learn shows into the table."""
    warnings.simplefilter("ignore")
    data = load_breast_cancer(as_frame=True)
    features, target = pd.DataFrame(data.data.iloc[:200, :8]), data.target[:200]
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    for estimator in recipes():
        kind: type[BaseEstimator] = type(estimator)
        entry = table.setdefault(f"sklearn.{kind.__name__}", {"classes": [], "fields": []})
        name = f"{kind.__module__}:{kind.__qualname__}"
        entry["classes"] = sorted({*entry["classes"], name})
        seen = attributes(estimator, features, target)
        entry["fields"] = sorted({*entry["fields"], *COMMON, *seen})
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
