"""Transformers whose options are numbers that compiled code counts on."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.shapes import Fields, array, finite, whole, width_of

__all__ = ["JUDGES"]

_DEGREES: Final = 1000
_STEPS: Final = 1000
_MOST: Final = 2**20  # columns of answers


def _judge_polynomial(fields: Fields) -> None:
    """Judge polynomial features: ``_csr_polynomial_expansion.pyx`` computes sizes from a flag."""
    interactions = fields.get("interaction_only", False)
    if not isinstance(interactions, bool | np.bool_):
        raise Corrupt("polynomial features do not say whether they are interactions only")
    if "_max_degree" not in fields:
        return
    what = "a degree of polynomial features"
    most = whole(fields["_max_degree"], what, 0, _DEGREES)
    least = whole(fields.get("_min_degree"), what, 0, most)
    width = width_of(fields, "polynomial features")
    for name, first in (("n_output_features_", least), ("_n_out_full", 0)):
        outputs = _terms(width, first, most, interactions=bool(interactions))
        if fields.get(name) != outputs + bool(fields.get("include_bias")):
            raise Corrupt("polynomial features have another number of outputs than of terms")


def _terms(width: int, least: int, most: int, *, interactions: bool) -> int:
    """Return how many products of up to ``most`` features exist."""
    if interactions:
        degrees = range(max(1, least), min(most, width) + 1)
        return sum(math.comb(width, degree) for degree in degrees)
    below = math.comb(width + least - 1, least - 1) - 1 if least else 0
    return math.comb(width + most, most) - 1 - below


def _judge_sampler(fields: Fields) -> None:
    if "sample_steps" in fields:
        whole(fields["sample_steps"], "the steps of an AdditiveChi2Sampler", 1, _STEPS)


def _judge_sketch(fields: Fields) -> None:
    """Judge a PolynomialCountSketch: its answers are as large as two options say."""
    if "indexHash_" in fields:
        degrees = len(array(fields["indexHash_"], "hashes", kinds="iu", shape=(None, None)))
        whole(fields.get("degree"), "the degree of a sketch", degrees, degrees)
        whole(fields.get("n_components"), "the size of a sketch", 1, _MOST)


def _judge_spline(fields: Fields) -> None:
    if not isinstance(fields.get("include_bias", True), bool | np.bool_):
        raise Corrupt("a SplineTransformer does not say whether it includes a bias")
    if "n_features_out_" in fields:
        whole(fields["n_features_out_"], "the columns of a SplineTransformer", 0, _MOST)


def _judge_stacking(fields: Fields) -> None:
    for count in fields.get("_n_feature_outs") or ():
        whole(count, "the number of answers of a stacked model", 0, _MOST)


def _judge_categories(fields: Fields) -> None:
    """Judge a CategoricalNB: a further fit counts as many categories as an option asks for."""
    least = fields.get("min_categories")
    if least is not None:
        whole(np.max(least, initial=0), "the categories of a CategoricalNB", 0, _MOST)


def _judge_dummy(fields: Fields) -> None:
    constant = fields.get("constant_")
    if constant is not None and "n_outputs_" in fields:
        whole(fields["n_outputs_"], "the outputs of a DummyRegressor", 1, np.size(constant))


def _judge_finite(fields: Fields, *, names: tuple[str, ...]) -> None:
    for name in names:
        value = fields.get(name)
        finite(getattr(value, "data", value) if hasattr(value, "tocsr") else value, name)


_FINITE: Final = {
    "BayesianGaussianMixture": ("covariances_",),
    "GaussianMixture": ("covariances_",),
    "IncrementalPCA": ("singular_values_", "components_", "mean_"),
    "SparseRandomProjection": ("components_",),
    "GaussianRandomProjection": ("components_",),
}

JUDGES: Final[dict[str, Any]] = {
    "sklearn.PolynomialCountSketch": _judge_sketch,
    "sklearn.SplineTransformer": _judge_spline,
    **dict.fromkeys(("sklearn.StackingClassifier", "sklearn.StackingRegressor"), _judge_stacking),
    "sklearn.PolynomialFeatures": _judge_polynomial,
    "sklearn.CategoricalNB": _judge_categories,
    "sklearn.DummyRegressor": _judge_dummy,
    "sklearn.AdditiveChi2Sampler": _judge_sampler,
    **{f"sklearn.{name}": partial(_judge_finite, names=names) for name, names in _FINITE.items()},
}
