"""KD trees and ball trees by their data: the tree over it is built again, bit for bit the same.

No node range or index of a file is ever followed, for there is none in it. Distances are enumerated
by name; a distance that calls a function of the user's is refused.
Sources: ``sklearn/neighbors/_binary_tree.pxi``, ``__getstate__``, and
``sklearn/metrics/_dist_metrics.pyx``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

# Class of a distance, without its width, to the metric's name in files.
_METRICS: Final = {
    "EuclideanDistance": "euclidean",
    "SEuclideanDistance": "seuclidean",
    "ManhattanDistance": "manhattan",
    "ChebyshevDistance": "chebyshev",
    "MinkowskiDistance": "minkowski",
    "MahalanobisDistance": "mahalanobis",
    "HammingDistance": "hamming",
    "CanberraDistance": "canberra",
    "BrayCurtisDistance": "braycurtis",
    "JaccardDistance": "jaccard",
    "DiceDistance": "dice",
    "RogersTanimotoDistance": "rogerstanimoto",
    "RussellRaoDistance": "russellrao",
    "SokalMichenerDistance": "sokalmichener",
    "SokalSneathDistance": "sokalsneath",
    "HaversineDistance": "haversine",
}
_KINDS: Final = {
    "KDTree": "sklearn.neighbors._kd_tree",
    "KDTree32": "sklearn.neighbors._kd_tree",
    "BallTree": "sklearn.neighbors._ball_tree",
    "BallTree32": "sklearn.neighbors._ball_tree",
}
# Positions in what a tree's __getstate__ returns.
_DATA, _LEAF_SIZE, _METRIC, _WEIGHTS = 0, 4, 11, 12
_FIELDS: Final = frozenset({"data", "leaf_size", "metric", "params", "sample_weight"})


def _locate(name: str) -> type:
    kind: type = getattr(import_extra(_KINDS[name], needed_for="neighbours"), name)
    return kind


def _encode(tree: Any) -> dict[str, Any]:
    state = tree.__getstate__()
    distance = state[_METRIC]
    metric = _METRICS.get(type(distance).__name__.removesuffix("64").removesuffix("32"))
    if metric is None:
        raise Unsupported(
            f"a {type(tree).__name__} measures with a {type(distance).__name__}, which is code; "
            "code is never kept in a file.",
            hint='metric="euclidean"  # or another metric that has a name',
        )
    return {
        "data": state[_DATA],
        "leaf_size": int(state[_LEAF_SIZE]),
        "metric": metric,
        "params": _parameters(metric, distance),
        "sample_weight": state[_WEIGHTS],
    }


def _parameters(metric: str, distance: Any) -> dict[str, Any]:
    power, vector, matrix = distance.__getstate__()[:3]
    if metric == "minkowski":
        return {"p": float(power), **({"w": np.array(vector)} if len(vector) else {})}
    if metric == "seuclidean":
        return {"V": np.array(vector)}
    return {"VI": np.array(matrix)} if metric == "mahalanobis" else {}


def _build(name: str, fields: Mapping[str, Any]) -> Any:
    data, weights, metric = fields["data"], fields["sample_weight"], fields["metric"]
    dtype = np.float32 if name.endswith("32") else np.float64
    _judge_array(data, name, dtype, 2)
    if not all(data.shape):
        raise Corrupt(f"a {name} has no points")
    if weights is not None:
        _judge_array(weights, name, np.float64, 1)
        if len(weights) != len(data) or (weights < 0).any():
            raise Corrupt(f"a {name} has another number of weights than of points")
    leaf_size = fields["leaf_size"]
    if type(leaf_size) is not int or not 1 <= leaf_size <= 2**31:
        raise Corrupt(f"a {name} has leaves of an impossible size")
    if metric not in _METRICS.values() or (metric == "haversine" and data.shape[1] != 2):
        raise Corrupt(f"a {name} measures by the impossible metric {metric!r:.60}")
    params = _judged_parameters(metric, fields["params"], data.shape[1])
    kind: Any = _locate(name)
    # The tree keeps the array itself, and a mapped file could change between now and a query.
    return kind(data, leaf_size=leaf_size, metric=metric, sample_weight=weights, **params)


def _judge_array(array: Any, name: str, dtype: type, ndim: int) -> None:
    """Require finite numbers: partitioning by a NaN would leave the array."""
    if type(array) is not np.ndarray or array.dtype != dtype or array.ndim != ndim:
        raise Corrupt(f"the numbers of a {name} are of another type or shape")
    if not np.isfinite(array).all():
        raise Corrupt(f"a point of a {name} is not finite")


def _judged_parameters(metric: str, params: Any, width: int) -> dict[str, Any]:
    shapes: dict[str, tuple[int, ...]] = {"V": (width,), "w": (width,), "VI": (width, width)}
    needed = {"seuclidean": {"V"}, "mahalanobis": {"VI"}, "minkowski": {"p"}}.get(metric, set())
    optional = {"w"} if metric == "minkowski" else set()
    if type(params) is not dict or not needed <= params.keys() <= needed | optional:
        raise Corrupt(f"the metric {metric} has other parameters than it takes")
    for key, value in params.items():
        if key == "p":
            sound = type(value) is float and value >= 1
        else:
            sound = (
                type(value) is np.ndarray
                and value.dtype == np.float64
                and value.shape == shapes[key]
                and bool(np.isfinite(value).all())
            )
        if not sound:
            raise Corrupt(f"the parameter {key} of the metric {metric} is impossible")
    return params


TYPES: Final = tuple(
    TypeSpec(
        id=f"sklearn.{name}",
        locate=partial(_locate, name),
        classes=(f"{module}:{name}",),
        encode=_encode,
        build=partial(_build, name),
        fields=_FIELDS,
        required=_FIELDS,
    )
    for name, module in _KINDS.items()
)
