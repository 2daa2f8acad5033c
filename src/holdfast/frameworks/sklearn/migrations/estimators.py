"""Attributes that came, went or changed their meaning."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np

from holdfast.errors import EnvironmentMismatch
from holdfast.frameworks.sklearn.migrations.base import Fields, Migration
from holdfast.plugins import import_extra

__all__ = ["MIGRATIONS"]

_PLS: Final = ("sklearn.CCA", "sklearn.PLSCanonical", "sklearn.PLSRegression")
_SVM: Final = (
    "sklearn.SVC",
    "sklearn.SVR",
    "sklearn.NuSVC",
    "sklearn.NuSVR",
    "sklearn.OneClassSVM",
)
_META: Final = (
    "sklearn.AdaBoostClassifier",
    "sklearn.AdaBoostRegressor",
    "sklearn.BaggingClassifier",
    "sklearn.BaggingRegressor",
    "sklearn.CalibratedClassifierCV",
    "sklearn.SelfTrainingClassifier",
)


def _renamed(old: str, new: str) -> Callable[[Fields], None]:
    """Return what moves a value to its new name, unless a value has that name already."""

    def rename(fields: Fields) -> None:
        value = fields.pop(old, "deprecated")
        unset = isinstance(value, str) and value == "deprecated"
        if not unset and fields.get(new) is None:
            fields[new] = value

    return rename


def _idf(fields: Fields) -> None:
    if "_idf_diag" in fields:
        fields["idf_"] = np.asarray(fields.pop("_idf_diag").diagonal())


def _idf_diagonal(fields: Fields) -> None:
    if "idf_" in fields:
        sparse = import_extra("scipy.sparse", needed_for="a TfidfTransformer")
        idf = np.asarray(fields.pop("idf_"))
        fields["_idf_diag"] = sparse.diags(
            idf, offsets=0, shape=(len(idf), len(idf)), format="csr", dtype=idf.dtype
        )


def _fill_dtype(fields: Fields) -> None:
    if "statistics_" in fields:
        known = fields.get("_fit_dtype", np.asarray(fields["statistics_"]).dtype)
        fields.setdefault("_fill_dtype", known)


def _passed_through(fields: Fields) -> None:
    """Put the fitted identity functions where the words "passthrough" stood."""
    known = fields.pop("_name_to_fitted_passthrough", {})
    if "transformers_" in fields:
        fields["transformers_"] = [
            (name, known.get(name, part) if isinstance(part, str) else part, columns)
            for name, part, columns in fields["transformers_"]
        ]


def _infrequent(fields: Fields) -> None:
    wanted = fields.get("max_categories"), fields.get("min_frequency")
    fields.setdefault("_infrequent_enabled", any(each is not None for each in wanted))


def _gamma(fields: Fields) -> None:
    if "n_features_in_" in fields and "gamma_" not in fields:
        gamma = fields.get("gamma")
        fields["gamma_"] = 1 / fields["n_features_in_"] if gamma is None else gamma


def _uniform_prior(fields: Fields) -> None:
    if "classes_" in fields and "class_prior_" not in fields:
        classes = len(fields["classes_"])
        fields["class_prior_"] = np.asarray([1 / classes] * classes)


def _public_coefficients(fields: Fields) -> None:
    if "_coef_" in fields:
        fields["coef_"] = fields.pop("_coef_")
        fields.pop("_coef_warning", None)
        fields.setdefault("_predict_1d", False)


def _scaled_coefficients(fields: Fields) -> None:
    if "coef_" in fields:
        fields["coef_"] = np.asarray(fields["coef_"]) / np.asarray(fields["_x_std"])


def _unscaled_coefficients(fields: Fields) -> None:
    if "coef_" in fields:
        fields["coef_"] = np.asarray(fields["coef_"]) * np.asarray(fields["_x_std"])


def _probability(fields: Fields) -> None:
    if "support_" in fields:
        fields.setdefault("_effective_probability", fields.get("probability", False))


def _ridge_classes(fields: Fields) -> None:
    if "_label_binarizer" in fields:
        fields.setdefault("classes_", fields["_label_binarizer"].classes_)


def _empty_features(fields: Fields) -> None:
    if "initial_imputer_" in fields and "_is_empty_feature" not in fields:
        filled = np.asarray(fields["initial_imputer_"].statistics_)
        fields["_is_empty_feature"] = filled != filled  # noqa: PLR0124 - NaN of any dtype


def _l1_share(fields: Fields) -> None:
    if fields.get("l1_ratio", 0.0) is None:
        fields["l1_ratio"] = 1.0 if fields.get("penalty") == "l1" else 0.0


def _one_against_rest(fields: Fields) -> None:
    """Refuse what 1.8 and later would take for a multinomial model."""
    if "classes_" not in fields or len(fields["classes_"]) <= 2:
        return
    chosen = fields.get("multi_class", "deprecated")
    apart = chosen == "ovr" or (chosen != "multinomial" and fields.get("solver") == "liblinear")
    if apart:
        raise _lost(
            "a LogisticRegression of one model per class", "OneVsRestClassifier replaced it"
        )


def _newton(fields: Fields) -> None:
    """Refuse what 1.6 and later would take for a multinomial model."""
    if "classes_" in fields and len(fields["classes_"]) > 2:
        automatic = fields.get("multi_class", "deprecated") in ("auto", "deprecated", "warn")
        if automatic and fields.get("solver") == "newton-cholesky":
            raise _lost("a LogisticRegression of one model per class", "its solver joined them")


def _weighted_votes(fields: Fields) -> None:
    if fields.get("algorithm") == "SAMME.R" and "estimators_" in fields:
        raise _lost("an AdaBoostClassifier fitted by SAMME.R", "the algorithm was removed")


def _counted_votes(fields: Fields) -> None:
    if fields.get("algorithm") == "SAMME" and "estimators_" in fields:
        raise _lost("an AdaBoostClassifier of before 1.3", "votes are weighed in another way")


def _lost(what: str, why: str) -> EnvironmentMismatch:
    return EnvironmentMismatch(
        f"The file holds {what}, which the scikit-learn installed here cannot be: {why}.",
        hint='hold show "REF"  # tells the scikit-learn that it was saved with',
    )


def _finite_keyword(fields: Fields) -> None:
    """Rename the keyword of the check with which HistGradientBoosting encodes categories."""
    call = fields.get("func")
    if isinstance(call, functools.partial) and "force_all_finite" in call.keywords:
        keywords = dict(call.keywords)
        keywords["ensure_all_finite"] = keywords.pop("force_all_finite")
        fields["func"] = functools.partial(call.func, *call.args, **keywords)


def _criterion(fields: Fields) -> None:
    if fields.get("criterion") == "friedman_mse":
        fields["criterion"] = "squared_error"


def _automatic(fields: Fields) -> None:
    """Say as older releases do that a solver chooses between one and several models."""
    if fields.get("multi_class") == "deprecated":
        fields["multi_class"] = "auto"


MIGRATIONS: Final = (
    Migration(
        types=("sklearn.LogisticRegression", "sklearn.LogisticRegressionCV"),
        since="1.6",
        change="The solver newton-cholesky fits one model of all classes.",
        harm="Probabilities off by 0.28, without an error. Refused.",
        forward=_newton,
    ),
    Migration(
        types=("sklearn.LogisticRegression", "sklearn.LogisticRegressionCV"),
        since="1.8",
        change="multi_class is gone: a model of several classes is multinomial.",
        harm="Probabilities of one model per class are silently wrong. Refused.",
        forward=_one_against_rest,
    ),
    Migration(
        types=("sklearn.AdaBoostClassifier",),
        since="1.3",
        change="SAMME counts votes for other classes against a class.",
        harm="Probabilities and decision values of SAMME differ. Refused.",
        forward=_counted_votes,
    ),
    Migration(
        types=("sklearn.AdaBoostClassifier",),
        since="1.6",
        change="The algorithm SAMME.R was removed.",
        harm="Its models vote by the other algorithm, without an error. Refused.",
        forward=_weighted_votes,
        backward=lambda fields: fields.update(algorithm="SAMME"),
    ),
    Migration(
        types=("sklearn.FunctionTransformer",),
        since="1.6",
        change="check_array calls force_all_finite ensure_all_finite.",
        harm="HistGradientBoosting models with categories raise TypeError.",
        forward=_finite_keyword,
    ),
    Migration(
        types=("sklearn.DecisionTreeRegressor", "sklearn.ExtraTreeRegressor"),
        since="1.9",
        change="The criterion friedman_mse is called squared_error.",
        harm="clone raises RuntimeError.",
        forward=_criterion,
    ),
    Migration(
        types=("sklearn.TfidfTransformer",),
        since="1.5",
        change="The inverse document frequencies are an array, no longer a diagonal matrix.",
        harm="They are silently not applied: probabilities off by 0.085.",
        forward=_idf,
        backward=_idf_diagonal,
    ),
    Migration(
        types=("sklearn.SimpleImputer",),
        since="1.8",
        change="The imputer remembers the dtype that it fills in.",
        harm="transform raises AttributeError.",
        forward=_fill_dtype,
    ),
    Migration(
        types=("sklearn.ColumnTransformer",),
        since="1.4",
        change='Fitted transformers hold an identity function where "passthrough" was given.',
        harm="transform raises AttributeError on the word.",
        forward=_passed_through,
        backward=lambda fields: fields.setdefault("_name_to_fitted_passthrough", {}),
    ),
    Migration(
        types=("sklearn.OrdinalEncoder",),
        since="1.3",
        change="Ordinal encoders may group categories that are rare.",
        harm="transform raises AttributeError.",
        forward=_infrequent,
    ),
    Migration(
        types=("sklearn.KernelPCA",),
        since="1.3",
        change="The kernel's width that was used is kept.",
        harm="transform raises AttributeError.",
        forward=_gamma,
    ),
    Migration(
        types=("sklearn.NearestCentroid",),
        since="1.6",
        change="Classes have prior probabilities.",
        harm="predict raises AttributeError.",
        forward=_uniform_prior,
    ),
    Migration(
        types=_PLS,
        since="1.3",
        change="The coefficients have a public name.",
        harm="predict raises AttributeError.",
        forward=_public_coefficients,
        backward=_renamed("coef_", "_coef_"),
    ),
    Migration(
        types=_PLS,
        since="1.5",
        change="The coefficients are divided by the scale of the features.",
        harm="Predictions off by orders of magnitude, without an error.",
        forward=_scaled_coefficients,
        backward=_unscaled_coefficients,
    ),
    Migration(
        types=_SVM,
        since="1.9",
        change="Whether probabilities are estimated is kept apart from the parameter.",
        harm="Predictions for sparse inputs raise AttributeError.",
        forward=_probability,
    ),
    Migration(
        types=("sklearn.RidgeClassifier", "sklearn.RidgeClassifierCV"),
        since="1.8",
        change="The classes are an attribute, no longer looked up in the label binarizer.",
        harm="predict raises AttributeError.",
        forward=_ridge_classes,
    ),
    Migration(
        types=("sklearn.IterativeImputer",),
        since="1.6",
        change="Features that were empty in the fit are remembered.",
        harm="transform raises AttributeError.",
        forward=_empty_features,
    ),
    Migration(
        types=("sklearn.SelfTrainingClassifier",),
        since="1.6",
        change="The fitted base_estimator_ is called estimator_.",
        harm="Every prediction raises AttributeError.",
        forward=_renamed("base_estimator_", "estimator_"),
        backward=_renamed("estimator_", "base_estimator_"),
    ),
    Migration(
        types=("sklearn.LogisticRegression",),
        since="1.8",
        change="l1_ratio alone says which penalty is meant; it may not be None.",
        harm="SelectFromModel raises TypeError on the model.",
        forward=_l1_share,
    ),
    Migration(
        types=("sklearn.LogisticRegression", "sklearn.LogisticRegressionCV"),
        since="1.5",
        change='multi_class is deprecated; its default is the word "deprecated".',
        harm="Releases up to 1.4 take the word for multinomial: probabilities off by 0.150.",
        backward=_automatic,
    ),
    Migration(
        types=("sklearn._RemainderColsList",),
        since="1.5",
        change="The columns of a remainder warn when they are looked at.",
        harm="Older releases lack the class.",
        restore=lambda fields: list(fields["data"]),
    ),
    Migration(
        types=("sklearn._RemainderColsList",),
        since="1.7",
        change="The columns of a remainder are a plain list.",
        harm="The class is gone, so the transformer cannot be built.",
        build=lambda fields: list(fields["data"]),
    ),
    Migration(
        types=_META,
        since="1.6",
        change="base_estimator is called estimator.",
        harm="clone, repr and predictions raise AttributeError.",
        forward=_renamed("base_estimator", "estimator"),
        backward=_renamed("estimator", "base_estimator"),
    ),
    Migration(
        types=("sklearn.ClassifierChain", "sklearn.RegressorChain"),
        since="1.7",
        change="base_estimator is called estimator.",
        harm="clone, repr and predictions raise AttributeError.",
        forward=_renamed("base_estimator", "estimator"),
        backward=_renamed("estimator", "base_estimator"),
    ),
    Migration(
        types=("sklearn.ARDRegression", "sklearn.BayesianRidge"),
        since="1.3",
        change="n_iter is called max_iter.",
        harm="clone and repr raise AttributeError.",
        forward=_renamed("n_iter", "max_iter"),
        backward=_renamed("max_iter", "n_iter"),
    ),
    Migration(
        types=("sklearn.TSNE",),
        since="1.5",
        change="n_iter is called max_iter.",
        harm="clone and repr raise AttributeError.",
        forward=_renamed("n_iter", "max_iter"),
        backward=_renamed("max_iter", "n_iter"),
    ),
    Migration(
        types=("sklearn.RidgeCV", "sklearn.RidgeClassifierCV"),
        since="1.5",
        change="store_cv_values is called store_cv_results.",
        harm="clone and repr raise AttributeError.",
        forward=_renamed("store_cv_values", "store_cv_results"),
        backward=_renamed("store_cv_results", "store_cv_values"),
    ),
)
