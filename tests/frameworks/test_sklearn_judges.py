"""Fitted attributes that contradict each other are refused before compiled code could follow them.

Each case changes what takes more than one field, or what a single change is unlikely to meet;
``test_sklearn_forgery.py`` tries the rest.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import Birch, KMeans
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import (
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    IsolationForest,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDRegressor
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer, PolynomialFeatures
from sklearn.svm import SVC, SVR

from holdfast import codec, frameworks
from holdfast.errors import Corrupt
from holdfast.frameworks import sklearn as adapter
from holdfast.frameworks.base import LoadOptions, Opened

X = np.random.default_rng(0).random((40, 4)) + 0.1
CLASSES = np.arange(40) % 3
VALUES = X @ np.arange(4.0)


@pytest.fixture(name="keep")
def keep_and_build(views):
    def run(model):
        registry = frameworks.registry()
        payload = adapter.pack(model, registry)
        tensors = views(payload)
        audit = codec.audit(payload.structure, tensors, registry)
        parts = Opened(
            structure=payload.structure, audit=audit, tensors=tensors, files={}, facts={}
        )
        return adapter.unpack(parts, registry, LoadOptions())

    return run


def changed(model, **attributes):
    vars(model).update(attributes)
    return model


def boosted():
    return GradientBoostingRegressor(n_estimators=2).fit(X, VALUES)


FORGED = {
    "a start that drops rows": lambda: changed(
        boosted(),
        init_=make_pipeline(
            FunctionTransformer(np.median, kw_args={"axis": 0, "keepdims": True}),
            LinearRegression().fit(X, VALUES),
        ),
    ),
    "a loss for two classes": lambda: changed(
        GradientBoostingClassifier(n_estimators=2).fit(X, CLASSES),
        _loss=GradientBoostingClassifier(n_estimators=1).fit(X, CLASSES == 1)._loss,
    ),
    "norms among a metric's parameters": lambda: changed(
        NearestNeighbors(algorithm="brute").fit(X),
        effective_metric_params_={"Y_norm_squared": np.ones(1)},
    ),
    "labels beyond the classes": lambda: changed(
        KNeighborsClassifier(algorithm="brute").fit(X, CLASSES), _y=CLASSES + 1
    ),
    "another width of kept samples": lambda: changed(
        NearestNeighbors(algorithm="brute").fit(X), _fit_X=X[:, :2].copy()
    ),
    "fewer norms than clusters": lambda: changed(
        Birch(threshold=0.1).fit(X), _subcluster_norms=np.ones(1)
    ),
    "a numbering of labels": lambda: changed(
        MultiLabelBinarizer().fit([("a", "b")]), _cached_dict={"a": 0, "b": 2**31}
    ),
    "the same label twice": lambda: changed(
        MultiLabelBinarizer().fit([("a", "b")]), classes_=np.array(["a", "b", "b"], dtype=object)
    ),
    "more categories than memory holds": lambda: changed(
        CategoricalNB().fit(np.floor(X), CLASSES), min_categories=2**31
    ),
    "a vocabulary with a hole": lambda: changed(CountVectorizer(), vocabulary_={"a": 0, "b": 2}),
    "a sparse machine of a kernel computed before": lambda: changed(
        SVC().fit(sparse.csr_matrix(X), CLASSES), kernel="precomputed"
    ),
    "counts that make up for each other": lambda: changed(
        SVC().fit(X, CLASSES), _n_support=np.array([2**30, -(2**30), 40], dtype=np.int32)
    ),
    "probabilities without parameters": lambda: changed(
        SVR().fit(sparse.csr_matrix(X), VALUES), _effective_probability=True
    ),
    "a kernel of any shape": lambda: changed(SVC(kernel=rbf_kernel).fit(X, CLASSES), kernel=np.add),
    "wider weights on the side": lambda: changed(
        SGDRegressor(average=True).fit(X, VALUES), _standard_coef=np.zeros(2)
    ),
    "a narrower precision": lambda: changed(EmpiricalCovariance().fit(X), precision_=np.eye(2)),
    "more threads than anybody has": lambda: changed(KMeans(2, n_init=1).fit(X), _n_threads=10**6),
    "a flag that is a number": lambda: changed(PolynomialFeatures().fit(X), interaction_only=2),
    "features that are no numbers": lambda: changed(
        BaggingRegressor(n_estimators=1).fit(X, VALUES), estimators_features_=[np.full(4, np.nan)]
    ),
    "an unchecked width": lambda: changed(
        IsolationForest(n_estimators=2).fit(X), n_features_in_=3, _max_features=3
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_contradiction_is_refused(keep, name):
    forged = FORGED[name]()
    with pytest.raises(Corrupt):
        keep(forged)


HONEST = {
    "a start with an elementwise function": lambda: GradientBoostingRegressor(
        n_estimators=2, init=make_pipeline(FunctionTransformer(np.log1p), LinearRegression())
    ).fit(X, VALUES),
    "a start of classes": lambda: GradientBoostingClassifier(
        n_estimators=2, init=LogisticRegression()
    ).fit(X, CLASSES),
    "a kernel that is a function": lambda: SVC(kernel=rbf_kernel).fit(X, CLASSES),
    "numbered labels": lambda: changed(
        MultiLabelBinarizer().fit([("a", "b")]), _cached_dict={"a": 0, "b": 1}
    ),
    "neighbours fitted on neighbours": lambda: NearestNeighbors(algorithm="kd_tree").fit(
        NearestNeighbors(algorithm="kd_tree").fit(X)
    ),
    "weights of both kinds": lambda: SGDRegressor(average=True).fit(X, VALUES),
    "nothing fitted": SVC,
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_honest_model_is_kept(keep, name):
    model = HONEST[name]()
    assert vars(keep(model)).keys() == vars(model).keys()
