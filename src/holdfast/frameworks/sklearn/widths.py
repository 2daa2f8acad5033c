"""Weights and covariances that compiled code takes to be as wide as the inputs.

Sources: ``sklearn/linear_model/_sgd_fast.pyx``, whose ``partial_fit`` adds rows to weights in
place, and ``cdist`` of ``scipy.spatial``, which reads a Mahalanobis metric's matrix unchecked.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.shapes import Fields, array, rows_of, width_of

__all__ = ["JUDGES"]

# Averages and plain weights have been called with and without a leading underscore.
_WEIGHTS: Final = (
    "coef_",
    "_standard_coef",
    "_average_coef",
    "standard_coef_",
    "average_coef_",
)


def _judge_weights(fields: Fields) -> None:
    """Judge linear models by stochastic gradients: one row of weights per problem."""
    present = [fields[name] for name in _WEIGHTS if fields.get(name) is not None]
    if not present:
        return
    width = width_of(fields, "a linear model")
    classes = fields.get("classes_")
    problems = 1 if classes is None or np.size(classes) == 2 else np.size(classes)
    for weights in present:
        flat = type(weights) is np.ndarray and weights.ndim == 1
        rows = rows_of(weights[None] if flat else weights, "weights", width)
        if rows != problems:
            raise Corrupt("a linear model has another number of weights than of problems")


def _judge_covariance(fields: Fields) -> None:
    precision = fields.get("precision_")
    if precision is not None:
        width = width_of(fields, "a covariance")
        array(precision, "the precision of a covariance", kinds="f", shape=(width, width))


JUDGES: Final[dict[str, Any]] = {
    **dict.fromkeys(
        (
            "sklearn.PassiveAggressiveClassifier",
            "sklearn.PassiveAggressiveRegressor",
            "sklearn.Perceptron",
            "sklearn.SGDClassifier",
            "sklearn.SGDOneClassSVM",
            "sklearn.SGDRegressor",
        ),
        _judge_weights,
    ),
    **dict.fromkeys(
        (
            "sklearn.EllipticEnvelope",
            "sklearn.EmpiricalCovariance",
            "sklearn.GraphicalLasso",
            "sklearn.GraphicalLassoCV",
            "sklearn.LedoitWolf",
            "sklearn.MinCovDet",
            "sklearn.OAS",
            "sklearn.ShrunkCovariance",
        ),
        _judge_covariance,
    ),
}
