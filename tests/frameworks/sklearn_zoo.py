"""Every estimator of the installed scikit-learn, fitted: as it comes, and with options that matter.

Used by the tests, by ``forgery_sklearn.py``, and by ``tools/list_sklearn_types.py``, which runs
it under old releases: what a release lacks is left out, so nothing here may need a new one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_selector
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.gaussian_process import kernels
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

ROWS = 90
OUTPUTS = (
    "predict", "predict_proba", "predict_log_proba", "decision_function", "transform",
    "score_samples", "kneighbors", "inverse_transform", "apply", "decision_path", "staged_predict",
)  # fmt: skip


class Case(NamedTuple):
    """A fitted estimator.

    Attributes:
        name: The class, and the options where they are not the defaults.
        model: The estimator.
        inputs: Rows that its output methods take.
    """

    name: str
    model: Any
    inputs: Any


def _numbers() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    target = np.arange(ROWS) % 3
    features = np.abs(random.normal(size=(ROWS, 6)) + 2.0 * target[:, None] + 0.5)
    return features, target


X, CLASSES = _numbers()
BINARY = CLASSES == 1
WORDS = np.array(["lima", "oslo", "rome"])[CLASSES]
VALUES = X @ np.arange(1.0, 7.0) + 0.1
PAIR = np.column_stack([VALUES, X[:, 0] * 3 + 1])
MULTILABEL = np.column_stack([CLASSES > 0, CLASSES == 2]).astype(int)
PARTLY = np.where(np.arange(ROWS) % 4 == 0, -1, CLASSES)
GAPS = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
GROUPED = np.floor(X)
SPARSE = sparse.csr_matrix(np.where(X > 2, X, 0.0))
TEXTS = [
    f"{word} has {'rain' if row % 2 else 'sun'} and {'trams' if row % 5 else 'boats'} on day {row}"
    for row, word in enumerate(WORDS)
]
DICTS = [{"city": str(word), "day": row % 7} for row, word in enumerate(WORDS)]
FRAME = pd.DataFrame(X, columns=[f"f{i}" for i in range(6)]).assign(city=WORDS)
SQUARE = X @ X.T
IMAGES = np.random.default_rng(2).random((4, 8, 8))

# What the constructor needs, or what makes a fit of the small data quick or possible.
_BASE: dict[str, Callable[[], dict[str, Any]]] = {
    **dict.fromkeys(
        ("ClassifierChain", "FixedThresholdClassifier", "MultiOutputClassifier",
         "OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier", "RFE", "RFECV",
         "SelectFromModel", "SequentialFeatureSelector", "TunedThresholdClassifierCV",
         "SelfTrainingClassifier"),
        lambda: {"estimator": LogisticRegression(max_iter=500)},
    ),
    **dict.fromkeys(("MultiOutputRegressor", "RegressorChain"), lambda: {"estimator": Ridge()}),
    **dict.fromkeys(
        ("GridSearchCV", "HalvingGridSearchCV"),
        lambda: {"estimator": LogisticRegression(max_iter=500), "param_grid": {"C": [0.1, 1.0]}},
    ),
    **dict.fromkeys(
        ("RandomizedSearchCV", "HalvingRandomSearchCV"),
        lambda: {
            "estimator": LogisticRegression(max_iter=500),
            "param_distributions": {"C": _uniform()},
            "random_state": 0,
        },
    ),
    **dict.fromkeys(
        ("StackingClassifier", "VotingClassifier"),
        lambda: {"estimators": [("a", LogisticRegression(max_iter=500)),
                                ("b", DecisionTreeClassifier(random_state=0))]},
    ),
    **dict.fromkeys(
        ("StackingRegressor", "VotingRegressor"),
        lambda: {"estimators": [("a", Ridge()), ("b", DecisionTreeRegressor(random_state=0))]},
    ),
    **dict.fromkeys(
        ("AdaBoostClassifier", "AdaBoostRegressor", "BaggingClassifier", "BaggingRegressor",
         "GradientBoostingClassifier", "GradientBoostingRegressor", "RandomForestClassifier",
         "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
         "IsolationForest", "RandomTreesEmbedding"),
        lambda: {"n_estimators": 5, "random_state": 0},
    ),
    **dict.fromkeys(
        ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
        lambda: {"max_iter": 5, "min_samples_leaf": 5, "random_state": 0},
    ),
    "ColumnTransformer": lambda: {"transformers": [
        ("scale", StandardScaler(), ["f0", "f1"]),
        ("city", OneHotEncoder(), make_column_selector("city")),
    ], "remainder": "passthrough"},
    "FeatureUnion": lambda: {"transformer_list": [("a", StandardScaler()), ("b", MinMaxScaler())]},
    "Pipeline": lambda: {"steps": [("scale", StandardScaler()), ("model", LogisticRegression())]},
    "FrozenEstimator": lambda: {"estimator": Ridge().fit(X, VALUES)},
    **dict.fromkeys(
        ("GaussianRandomProjection", "SparseRandomProjection"),
        lambda: {"n_components": 3, "random_state": 0},
    ),
    "SparseCoder": lambda: {"dictionary": np.eye(6)},
    "SelectKBest": lambda: {"k": 3},
    "TSNE": lambda: {"max_iter": 250, "perplexity": 5, "random_state": 0},
    "MDS": lambda: {"max_iter": 20, "random_state": 0},
    "FastICA": lambda: {"max_iter": 1000, "tol": 0.1, "random_state": 0},
    "CCA": lambda: {"n_components": 1},
    "PLSCanonical": lambda: {"n_components": 1},
    "PLSSVD": lambda: {"n_components": 1},
    "MLPClassifier": lambda: {"hidden_layer_sizes": (5,), "max_iter": 20, "random_state": 0},
    "MLPRegressor": lambda: {"hidden_layer_sizes": (5,), "max_iter": 20, "random_state": 0},
    "FeatureHasher": lambda: {"n_features": 16},
    "HashingVectorizer": lambda: {"n_features": 64},
    "PatchExtractor": lambda: {"patch_size": (3, 3), "random_state": 0},
    "LassoLarsIC": lambda: {"criterion": "bic"},
    "MiniBatchDictionaryLearning": lambda: {"n_components": 3, "max_iter": 5, "random_state": 0},
    "DictionaryLearning": lambda: {"n_components": 3, "max_iter": 5, "random_state": 0},
    "SpectralBiclustering": lambda: {"n_clusters": (3, 2), "random_state": 0},
    "SpectralCoclustering": lambda: {"n_clusters": 3, "random_state": 0},
    "KBinsDiscretizer": lambda: {"n_bins": 3},
    "QuantileTransformer": lambda: {"n_quantiles": 20, "random_state": 0},
    "IsotonicRegression": lambda: {"out_of_bounds": "clip"},
    "QuantileRegressor": lambda: {"solver": "highs"},
    "GraphicalLasso": lambda: {"alpha": 0.5},
    "NMF": lambda: {"n_components": 3, "random_state": 0},
    "MiniBatchNMF": lambda: {"n_components": 3, "random_state": 0},
}  # fmt: skip


def _uniform() -> Any:
    from scipy.stats import uniform

    return uniform(0.1, 2.0)


# Inputs and targets of fit, by class, where they are not numbers and classes, or numbers and
# values for what regresses.
_TARGETS: dict[str, Any] = {
    **dict.fromkeys(("CCA", "PLSCanonical", "PLSRegression", "PLSSVD"), PAIR),
    **dict.fromkeys(("MultiOutputRegressor", "RegressorChain"), PAIR),
    **dict.fromkeys(
        ("MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV"), PAIR
    ),
    **dict.fromkeys(("ClassifierChain", "MultiOutputClassifier"), MULTILABEL),
    **dict.fromkeys(("SelfTrainingClassifier", "LabelPropagation", "LabelSpreading"), PARTLY),
    **dict.fromkeys(("FixedThresholdClassifier", "TunedThresholdClassifierCV"), BINARY),
}
_INPUTS: dict[str, Any] = {
    **dict.fromkeys(("CountVectorizer", "TfidfVectorizer", "HashingVectorizer"), TEXTS),
    **dict.fromkeys(("DictVectorizer", "FeatureHasher"), DICTS),
    **dict.fromkeys(("LabelBinarizer", "LabelEncoder"), WORDS),
    "MultiLabelBinarizer": [(str(word), "city") for word in WORDS],
    "KernelCenterer": SQUARE,
    "PatchExtractor": IMAGES,
    "IsotonicRegression": X[:, 0],
    "ColumnTransformer": FRAME,
    "CategoricalNB": GROUPED,
    **dict.fromkeys(("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"), FRAME[["city"]]),
    **dict.fromkeys(("SimpleImputer", "KNNImputer", "MissingIndicator", "IterativeImputer"), GAPS),
}


class Option(NamedTuple):
    """Options of a class, and the data it is fitted on where it is not the usual."""

    kind: str
    params: dict[str, Any]
    inputs: Any = None
    target: Any = None


def _options() -> list[Option]:
    o = Option
    rbf, noise = kernels.RBF(0.7), kernels.WhiteKernel(0.1)
    return [
        *(o(k, {"kernel": kernel}) for k in ("SVC", "SVR", "NuSVC", "NuSVR", "OneClassSVM")
            for kernel in ("linear", "poly", "sigmoid")), *(o(k, {"kernel": "precomputed"}, SQUARE)
            for k in ("SVC", "NuSVR", "OneClassSVM")), *(o(k, {}, SPARSE) for k in ("SVC", "SVR",
            "NuSVC", "OneClassSVM", "LinearSVC")), o("SVC", {"probability": True,
            "random_state": 0}), o("SVC", {"decision_function_shape": "ovo", "break_ties": False,
            "class_weight": "balanced"}), o("SVC", {"class_weight": {0: 1.0, 1: 3.0, 2: 1.0}}),
        o("SVC", {}, None, WORDS), o("SVC", {}, None, BINARY),
        o("NuSVC", {"probability": True, "random_state": 0}, SPARSE),
        *(o(k, {"criterion": c, "random_state": 0}) for k in ("DecisionTreeClassifier",
            "ExtraTreeClassifier") for c in ("entropy", "log_loss")),
        *(o("DecisionTreeRegressor", {"criterion": c}, None, np.round(VALUES) + 1)
            for c in ("friedman_mse", "absolute_error", "poisson")),
        o("DecisionTreeClassifier", {"max_leaf_nodes": 4, "ccp_alpha": 0.01}),
        o("DecisionTreeClassifier", {}, GAPS), o("DecisionTreeClassifier", {}, None,
            np.column_stack([CLASSES, WORDS == "oslo"])), o("DecisionTreeClassifier",
            {"class_weight": {0: 1, 1: 2, 2: 1}}, SPARSE), o("DecisionTreeRegressor", {}, None,
            PAIR), o("DecisionTreeRegressor", {"monotonic_cst": [1, 0, 0, 0, 0, 0]}),
        *(o(k, {"n_estimators": 4, "bootstrap": True, "oob_score": True, "max_samples": 0.9,
            "random_state": 0}) for k in ("RandomForestClassifier", "ExtraTreesClassifier",
            "RandomForestRegressor", "ExtraTreesRegressor")),
        *(o(k, {"n_estimators": 3, "warm_start": True, "random_state": 0}, None, t) for k,
            t in (("RandomForestClassifier", WORDS), ("ExtraTreesRegressor", PAIR))),
        o("RandomForestClassifier", {"n_estimators": 3, "class_weight": "balanced_subsample"},
            None, MULTILABEL), *(o("GradientBoostingClassifier", {"n_estimators": 4, **p}, None,
            BINARY) for p in ({"loss": "exponential"}, {"init": "zero"}, {"subsample": 0.7},
            {"n_iter_no_change": 2}, {"init": LogisticRegression(max_iter=500)})),
        *(o("GradientBoostingRegressor", {"n_estimators": 4, "loss": loss})
            for loss in ("absolute_error", "huber", "quantile")),
        *(o("HistGradientBoostingRegressor", {"max_iter": 4, **p}, None, VALUES)
            for p in ({"loss": "absolute_error"}, {"loss": "poisson"}, {"loss": "gamma"},
            {"interaction_cst": "pairwise"}, {"loss": "quantile", "quantile": 0.7},
            {"monotonic_cst": [1, 0, 0, 0, 0, -1]}, {"early_stopping": True, "scoring": "r2"})),
        *(o(k, {"max_iter": 4, "categorical_features": [0, 2]}, GROUPED, t) for k,
            t in (("HistGradientBoostingClassifier", BINARY), ("HistGradientBoostingRegressor",
            VALUES))), o("HistGradientBoostingClassifier", {"max_iter": 4,
            "categorical_features": "from_dtype"}, FRAME.astype({"city": "category"})),
        o("HistGradientBoostingClassifier", {"max_iter": 4, "early_stopping": True,
            "class_weight": "balanced", "max_bins": 16, "warm_start": True}, GAPS, WORDS),
        *(o(k, {"algorithm": a, "metric": m}) for k in ("KNeighborsClassifier", "NearestNeighbors")
            for a, m in (("ball_tree", "manhattan"), ("kd_tree", "chebyshev"), ("brute", "cosine"),
            ("ball_tree", "canberra"))), o("KNeighborsRegressor", {"algorithm": "ball_tree",
            "metric": "minkowski", "p": 3, "weights": "distance"}, None, PAIR),
        o("KNeighborsClassifier", {"algorithm": "ball_tree", "metric": "seuclidean",
            "metric_params": {"V": np.ones(6)}}), o("KNeighborsClassifier", {"algorithm": "brute",
            "metric": "mahalanobis", "metric_params": {"VI": np.eye(6)}}),
        o("KNeighborsClassifier", {"algorithm": "ball_tree", "metric": "mahalanobis",
            "metric_params": {"V": np.eye(6)}}), o("KNeighborsClassifier", {}, SPARSE, WORDS),
        o("KNeighborsClassifier", {"metric": "haversine", "algorithm": "ball_tree"}, X[:, :2]),
        o("KNeighborsClassifier", {"algorithm": "kd_tree"}, None, MULTILABEL),
        o("KNeighborsClassifier", {"metric": "nan_euclidean"}, GAPS),
        o("RadiusNeighborsClassifier", {"radius": 9.0, "outlier_label": "most_frequent",
            "algorithm": "kd_tree"}), o("RadiusNeighborsRegressor", {"radius": 9.0,
            "weights": "distance"}), o("LocalOutlierFactor", {"novelty": True}),
        o("LocalOutlierFactor", {"novelty": True, "algorithm": "ball_tree",
            "metric": "manhattan"}), *(o("KernelDensity", {"kernel": k, "bandwidth": "scott"})
            for k in ("tophat", "epanechnikov", "linear", "cosine")),
        o("KernelDensity", {"algorithm": "ball_tree", "metric": "manhattan"}),
        o("KernelDensity", {"algorithm": "kd_tree", "atol": 1e-4}),
        *(o("GaussianProcessRegressor", {"kernel": k, "random_state": 0, "optimizer": None})
            for k in (1.5 * rbf + noise, kernels.Matern(nu=1.5), kernels.RationalQuadratic(),
            kernels.ExpSineSquared() + kernels.WhiteKernel(9.0), kernels.DotProduct() ** 2,
            kernels.ConstantKernel(2.0) + kernels.PairwiseKernel(metric="rbf"),
            kernels.RBF(np.ones(6), (0.1, 10.0)))), o("GaussianProcessRegressor",
            {"kernel": rbf + noise, "normalize_y": True, "n_restarts_optimizer": 1,
            "random_state": 0}), o("GaussianProcessClassifier", {"kernel": 2.0 * rbf}, None,
            BINARY), o("GaussianProcessClassifier", {"multi_class": "one_vs_one"}),
        *(o("LogisticRegression", {"solver": s, "max_iter": 500}) for s in ("newton-cg",
            "newton-cholesky", "sag", "saga")), o("LogisticRegression", {"solver": "liblinear",
            "penalty": "l1"}, None, BINARY), o("LogisticRegression", {"solver": "liblinear"}, None,
            BINARY), o("LogisticRegression", {"solver": "saga", "penalty": "elasticnet",
            "l1_ratio": 0.5}, SPARSE, WORDS), o("LogisticRegression", {"class_weight": {False: 1,
            True: 5}}, None, BINARY), o("LogisticRegression", {}, FRAME.iloc[:, :6], WORDS),
        o("LogisticRegressionCV", {"cv": 3, "scoring": "accuracy", "Cs": 2}),
        o("LogisticRegressionCV", {"cv": StratifiedKFold(2), "Cs": [0.1]}),
        *(o("Ridge", {"solver": s}, None, PAIR) for s in ("svd", "cholesky", "lsqr", "sparse_cg",
            "sag", "saga")), o("Ridge", {"positive": True, "solver": "lbfgs"}),
        o("RidgeCV", {"cv": 3}), o("RidgeCV", {"scoring": "r2", "store_cv_results": True}),
        o("RidgeCV", {"scoring": make_scorer(mean_absolute_error, greater_is_better=False),
            "cv": KFold(3)}), *(o("SGDClassifier", {"loss": x, "random_state": 0})
            for x in ("log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error",
            "huber", "epsilon_insensitive")), o("SGDClassifier", {"average": True,
            "early_stopping": True, "random_state": 0}, SPARSE, WORDS),
        *(o("SGDRegressor", {"loss": x}) for x in ("huber", "epsilon_insensitive",
            "squared_epsilon_insensitive")), o("SGDRegressor", {"average": True,
            "penalty": "elasticnet"}), o("SGDOneClassSVM", {"average": True}),
        o("Perceptron", {"early_stopping": True}), o("Lasso", {"precompute": True}),
        o("ElasticNet", {"positive": True}, SPARSE, PAIR), o("LinearRegression",
            {"positive": True}), o("LinearRegression", {}, SPARSE, PAIR),
        o("RANSACRegressor", {"estimator": Ridge(), "min_samples": 9, "random_state": 0}),
        o("TweedieRegressor", {"power": 1.5, "link": "log"}),
        o("TweedieRegressor", {"power": 0}), o("PoissonRegressor", {"solver": "newton-cholesky"}),
        *(o("MLPClassifier", {"hidden_layer_sizes": (4, 3), "max_iter": 9, "activation": a,
            "solver": s, "random_state": 0}) for a, s in (("tanh", "sgd"), ("logistic", "lbfgs"),
            ("identity", "adam"))), o("MLPClassifier", {"max_iter": 5, "early_stopping": True},
            None, MULTILABEL), o("MLPRegressor", {"max_iter": 5, "warm_start": True}, None, PAIR),
        *(o("PCA", {"n_components": 3, "svd_solver": s, "random_state": 0}) for s in ("full",
            "randomized", "arpack", "covariance_eigh")), o("PCA", {"n_components": "mle"}),
        o("PCA", {"n_components": 0.9, "whiten": True}), o("TruncatedSVD", {"algorithm": "arpack"},
            SPARSE), *(o("KernelPCA", {"n_components": 2, "kernel": k}) for k in ("rbf", "poly",
            "cosine", "sigmoid")), o("KernelPCA", {"n_components": 2, "kernel": "rbf",
            "fit_inverse_transform": True}), o("KernelPCA", {"kernel": "precomputed"}, SQUARE),
        o("NMF", {"n_components": 2, "solver": "mu", "beta_loss": "kullback-leibler",
            "init": "random", "random_state": 0}), o("FastICA", {"algorithm": "deflation",
            "fun": "exp", "max_iter": 500, "tol": 0.1, "random_state": 0}),
        *(o("KMeans", {"n_clusters": 3, "algorithm": a, "n_init": 2, "random_state": 0})
            for a in ("lloyd", "elkan")), o("KMeans", {"n_clusters": 3, "n_init": 1}, SPARSE),
        o("MiniBatchKMeans", {"n_clusters": 3}, SPARSE), o("BisectingKMeans", {"n_clusters": 4,
            "algorithm": "elkan"}), o("Birch", {"n_clusters": None, "threshold": 0.8}),
        o("Birch", {"n_clusters": KMeans(2, n_init=1)}), o("MeanShift", {"bandwidth": 3.0,
            "bin_seeding": True}), *(o("AgglomerativeClustering", {"linkage": x,
            "compute_distances": True}) for x in ("average", "single", "complete")),
        o("FeatureAgglomeration", {"pooling_func": np.median}),
        o("SpectralClustering", {"affinity": "nearest_neighbors", "n_clusters": 3}),
        o("OPTICS", {"min_samples": 4, "cluster_method": "dbscan", "eps": 2.0}),
        o("HDBSCAN", {"store_centers": "both"}), *(o(k, {"n_components": 2, "covariance_type": c,
            "random_state": 0}) for k in ("GaussianMixture", "BayesianGaussianMixture")
            for c in ("full", "tied", "diag", "spherical")), o("BayesianGaussianMixture",
            {"weight_concentration_prior_type": "dirichlet_distribution"}),
        *(o("LinearDiscriminantAnalysis", {"solver": s}) for s in ("lsqr", "eigen")),
        o("LinearDiscriminantAnalysis", {"solver": "eigen", "shrinkage": "auto"}),
        o("QuadraticDiscriminantAnalysis", {"store_covariance": True}),
        o("GaussianNB", {"priors": [0.2, 0.3, 0.5]}, None, WORDS),
        *(o("OneHotEncoder", p, FRAME[["city"]]) for p in ({"drop": "first"}, {"min_frequency": 40,
            "handle_unknown": "infrequent_if_exist"}, {"max_categories": 2, "drop": "if_binary"},
            {"sparse_output": False}, {"categories": [["lima", "oslo", "rome"]],
            "handle_unknown": "ignore"})), o("OneHotEncoder", {"min_frequency": 5,
            "handle_unknown": "ignore"}, GROUPED), o("OrdinalEncoder", {"min_frequency": 35},
            FRAME[["city"]]), o("OrdinalEncoder", {"handle_unknown": "use_encoded_value",
            "unknown_value": -1, "encoded_missing_value": -2}, FRAME[["city", "f0"]]),
        o("TargetEncoder", {"target_type": "continuous"}, FRAME[["city"]], VALUES),
        o("TargetEncoder", {"smooth": 2.0}, FRAME[["city"]], BINARY),
        *(o("KBinsDiscretizer", {"n_bins": 3, "encode": e, "strategy": s}) for e, s in (("ordinal",
            "uniform"), ("onehot-dense", "kmeans"))), o("SplineTransformer",
            {"extrapolation": "periodic", "include_bias": False}),
        o("SplineTransformer", {"knots": "quantile", "sparse_output": True}),
        o("PolynomialFeatures", {"interaction_only": True, "degree": 3}),
        o("PowerTransformer", {"method": "box-cox"}), o("QuantileTransformer",
            {"output_distribution": "normal", "n_quantiles": 10}, SPARSE),
        *(o("SimpleImputer", {"strategy": s, "add_indicator": True}, GAPS) for s in ("median",
            "most_frequent", "constant")), o("SimpleImputer", {"strategy": "constant",
            "fill_value": "none", "missing_values": "oslo"}, FRAME[["city"]].astype(object)),
        o("MissingIndicator", {"features": "all", "sparse": True}, GAPS),
        o("KNNImputer", {"weights": "distance", "add_indicator": True}, GAPS),
        o("IterativeImputer", {"max_iter": 2, "sample_posterior": True, "random_state": 0,
            "add_indicator": True}, GAPS), o("FunctionTransformer", {"func": np.log1p,
            "inverse_func": np.expm1, "feature_names_out": "one-to-one"}),
        o("FunctionTransformer", {"func": np.clip, "kw_args": {"a_min": 0.0, "a_max": 2.0}}),
        o("CountVectorizer", {"ngram_range": (1, 2), "stop_words": "english", "max_df": 0.9,
            "binary": True}, TEXTS), o("CountVectorizer", {"analyzer": "char_wb",
            "ngram_range": (2, 3), "max_features": 30}, TEXTS),
        o("CountVectorizer", {"vocabulary": ["rain", "sun"]}, TEXTS),
        o("CountVectorizer", {"vocabulary": {"rain": 1, "sun": 0}, "dtype": np.float32}, TEXTS),
        o("CountVectorizer", {"stop_words": ["has"], "token_pattern": r"\w+"}, TEXTS),
        o("TfidfVectorizer", {"sublinear_tf": True, "use_idf": False}, TEXTS),
        o("TfidfVectorizer", {"norm": None, "smooth_idf": False}, TEXTS),
        o("TfidfTransformer", {"sublinear_tf": True}, SPARSE),
        o("HashingVectorizer", {"n_features": 32, "analyzer": "char"}, TEXTS),
        o("DictVectorizer", {"sparse": False, "sort": False}, DICTS),
        o("FeatureHasher", {"n_features": 8, "input_type": "string"}, [["a", "b"]] * ROWS),
        *(o(k, {"score_func": getattr(importlib.import_module("sklearn.feature_selection"), f)},
            None, t) for k, f, t in (("SelectKBest", "chi2", CLASSES), ("SelectPercentile",
            "mutual_info_classif", CLASSES), ("SelectFdr", "f_regression", VALUES))),
        o("GenericUnivariateSelect", {"mode": "k_best", "param": 2}),
        o("SelectFromModel", {"estimator": RandomForestClassifier(3), "threshold": "median"}),
        o("SelectFromModel", {"estimator": Ridge(), "max_features": 2,
            "importance_getter": "coef_"}, None, VALUES), *(o("CalibratedClassifierCV",
            {"method": m, "cv": 3, "ensemble": e}) for m, e in (("isotonic", True), ("sigmoid",
            False))), o("CalibratedClassifierCV", {"estimator": SVC(), "method": "temperature",
            "cv": 2}), o("GridSearchCV", {"estimator": make_pipeline(StandardScaler(), SVC()),
            "param_grid": [{"svc__C": [1, 2]}, {"svc__kernel": ["linear"]}],
            "scoring": {"acc": "accuracy", "ll": "balanced_accuracy"}, "refit": "acc",
            "cv": KFold(2), "return_train_score": True}), o("GridSearchCV",
            {"estimator": RandomForestRegressor(2, random_state=0), "param_grid": {"max_depth": [2,
            None]}, "scoring": make_scorer(mean_absolute_error, greater_is_better=False), "cv": 2},
            None, VALUES), o("GridSearchCV", {"estimator": Pipeline([("scale", "passthrough"),
            ("model", Ridge())]), "param_grid": {"scale": [StandardScaler(), "passthrough"]}},
            None, VALUES), o("StackingClassifier", {"estimators": [("a",
            LogisticRegression(max_iter=500)), ("b", SVC())],
            "final_estimator": RandomForestClassifier(3, random_state=0), "passthrough": True,
            "cv": 2}, None, WORDS), o("VotingClassifier", {"estimators": [("a",
            LogisticRegression(max_iter=500)), ("b", "drop"), ("c",
            DecisionTreeClassifier(random_state=0))], "voting": "soft", "weights": [1, 0, 2],
            "flatten_transform": False}, None, WORDS), o("BaggingClassifier", {"estimator": SVC(),
            "n_estimators": 3, "max_features": 3, "random_state": 0}),
        o("BaggingRegressor", {"n_estimators": 3, "oob_score": True, "bootstrap_features": True,
            "random_state": 0}), o("AdaBoostRegressor", {"estimator": LinearRegression(),
            "n_estimators": 3, "loss": "square"}), o("OutputCodeClassifier", {"estimator": SVC(),
            "code_size": 3}), o("OneVsRestClassifier", {"estimator": SVC()}, None, MULTILABEL),
        o("OneVsOneClassifier", {"estimator": SVC()}, None, WORDS),
        o("ClassifierChain", {"estimator": LogisticRegression(), "order": "random", "cv": 2,
            "random_state": 0}, None, MULTILABEL), o("RegressorChain", {"estimator": Ridge(),
            "order": [1, 0]}, None, PAIR), o("MultiOutputClassifier",
            {"estimator": DecisionTreeClassifier()}, None, MULTILABEL),
        o("TransformedTargetRegressor", {"regressor": Ridge(), "func": np.log1p,
            "inverse_func": np.expm1}, None, VALUES), o("TransformedTargetRegressor",
            {"transformer": StandardScaler()}, None, PAIR), o("RFE",
            {"estimator": SVC(kernel="linear"), "n_features_to_select": 0.5}),
        o("ColumnTransformer", {"transformers": [("a", "passthrough", slice(0, 2)), ("b", "drop",
            [2]), ("c", StandardScaler(), np.array([3]))]}, X),
        o("ColumnTransformer", {"transformers": [("a", make_pipeline(MinMaxScaler()),
            make_column_selector(dtype_include=np.number))], "sparse_threshold": 0.0}, FRAME),
        o("Pipeline", {"steps": [("scale", StandardScaler()), ("none", "passthrough"), ("model",
            Ridge())]}, None, VALUES), o("LabelBinarizer", {"sparse_output": True}, WORDS),
        o("MultiLabelBinarizer", {"classes": ["lima", "oslo", "rome", "city"],
            "sparse_output": True}, [(str(word), "city") for word in WORDS]),
        o("IncrementalPCA", {"n_components": 2, "whiten": True, "batch_size": 20}),
        o("LatentDirichletAllocation", {"learning_method": "online", "n_components": 3,
            "max_iter": 2}, SPARSE), o("Nystroem", {"kernel": "polynomial", "degree": 2}),
        o("GaussianRandomProjection", {"n_components": 3, "compute_inverse_components": True}),
        o("SparseRandomProjection", {"n_components": 3, "dense_output": True}),
        o("IsolationForest", {"n_estimators": 4, "max_features": 3, "contamination": 0.1}),
        o("RandomTreesEmbedding", {"n_estimators": 4, "sparse_output": False}),
        *(o("LocallyLinearEmbedding", {"method": m, "n_neighbors": 12}) for m in ("modified",
            "hessian", "ltsa")), o("Isomap", {"metric": "manhattan", "n_components": 3}),
        o("SpectralEmbedding", {"affinity": "rbf"}), o("LabelSpreading", {"kernel": "knn",
            "n_neighbors": 4}, None, PARTLY), o("DummyClassifier", {"strategy": "constant",
            "constant": "oslo"}, None, WORDS), o("DummyClassifier", {"strategy": "stratified",
            "random_state": 0}, None, MULTILABEL), o("DummyRegressor", {"strategy": "quantile",
            "quantile": 0.3}), o("HuberRegressor", {"warm_start": True}),
        o("QuantileRegressor", {"quantile": 0.8, "alpha": 0.1}),
        o("KernelRidge", {"kernel": "rbf"}, None, PAIR), o("KernelRidge", {"kernel": "polynomial",
            "degree": 2}), o("EllipticEnvelope", {"contamination": 0.2, "random_state": 0}),
        o("SparseCoder", {"dictionary": np.eye(6), "transform_algorithm": "lasso_lars",
            "split_sign": True}), o("SelfTrainingClassifier", {"estimator": SVC(probability=True,
            random_state=0), "criterion": "k_best"}, None, PARTLY),
        o("TunedThresholdClassifierCV", {"estimator": LogisticRegression(), "scoring": "f1",
            "store_cv_results": True}, None, BINARY),
    ]  # fmt: skip


@functools.cache
def kinds() -> dict[str, type]:
    """Return every class of estimator by name."""
    return dict(all_estimators())


def _target(kind: type) -> Any:
    known = _TARGETS.get(kind.__name__)
    if known is not None:
        return known
    regresses = hasattr(kind, "predict") and "Regressor" in str(kind.__mro__)
    return VALUES if regresses else CLASSES


def unfitted(kind: type, params: dict[str, Any] | None = None) -> Any:
    """Make one estimator with what its constructor needs, under the names of this release."""
    accepted = inspect.signature(kind).parameters
    wanted = {**_BASE.get(kind.__name__, dict)(), **(params or {})}
    for new, old in (("estimator", "base_estimator"), ("max_iter", "n_iter")):
        if new in wanted and new not in accepted and old in accepted:
            wanted[old] = wanted.pop(new)
    return kind(**wanted)


def fitted(kind: type, params: dict[str, Any], inputs: Any = None, target: Any = None) -> Case:
    """Fit one estimator; raises what scikit-learn raises."""
    name = kind.__name__
    model = unfitted(kind, params)
    given = _INPUTS.get(name, X) if inputs is None else inputs
    wanted = _target(kind) if target is None else target
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        needs_target = {"y", "Y"} & inspect.signature(model.fit).parameters.keys()
        if name in ("LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer"):
            model.fit(given)
        elif needs_target and len(wanted) == np.shape(given)[0]:
            model.fit(given, wanted)
        else:
            model.fit(given)
    shown = ", ".join(f"{key}={_short(value)}" for key, value in params.items())
    parts = [shown, _short(inputs), _short(target)]
    return Case(f"{name}({'; '.join(part for part in parts if part)})", model, given)


def _short(value: Any) -> str:
    if value is None:
        return ""
    for label, data in DATA.items():
        if value is data:
            return label
    return " ".join(str(value).split())[:60]


DATA = {
    "sparse": SPARSE, "gaps": GAPS, "grouped": GROUPED, "square": SQUARE, "texts": TEXTS,
    "dicts": DICTS, "words": WORDS, "binary": BINARY, "pair": PAIR, "multilabel": MULTILABEL,
    "partly": PARTLY, "values": VALUES, "classes": CLASSES, "frame": FRAME, "x": X,
}  # fmt: skip


def plain_cases() -> Iterator[Case]:
    """Yield each estimator with the fewest options its fit needs."""
    for kind in kinds().values():
        yield fitted(kind, {})


def options() -> list[Option]:
    """Return the options that matter of classes that this release has."""
    known = kinds()
    return [option for option in _options() if option.kind in known]


def case_of(option: Option) -> Case:
    """Fit what an option describes."""
    params = {
        key: clone(value) if hasattr(value, "get_params") and hasattr(value, "fit") else value
        for key, value in option.params.items()
    }
    return fitted(kinds()[option.kind], params, option.inputs, option.target)


def answers(case: Case) -> dict[str, Any]:
    """Call every output method that takes the inputs; an exception's type stands for its answer."""
    found: dict[str, Any] = {}
    for method in OUTPUTS:
        call = getattr(case.model, method, None)
        if not callable(call) or (method == "inverse_transform"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.random.seed(0)  # some answers are drawn
            try:
                answer = call(case.inputs)
                found[method] = list(answer) if method.startswith("staged") else answer
            except Exception as error:  # noqa: BLE001 - the same exception is expected of the copy
                found[method] = type(error).__name__
    return found
