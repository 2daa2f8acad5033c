"""Clusters and neighbours by brute force: distances are taken over a width nobody compares.

Sources: ``_k_means_common.pyx``, ``_k_means_lloyd.pyx``, ``_k_means_minibatch.pyx``,
``_hdbscan/_tree.pyx`` in ``sklearn/cluster``; ``sklearn/metrics/_pairwise_distances_reduction``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.shapes import Fields, array, places, rows_of, whole, width_of

__all__ = ["CHECKS", "JUDGES"]

_THREADS: Final = 4096
# Norms computed before; compiled code reads as many of them as there are rows.
_NORMS: Final = frozenset({"X_norm_squared", "Y_norm_squared"})


def _judge_centers(fields: Fields) -> None:
    """Judge k-means: every center is as wide as the inputs, and threads are few."""
    if "_n_threads" in fields:
        whole(fields["_n_threads"], "the number of threads of k-means", 1, _THREADS)
    centers = fields.get("cluster_centers_")
    if centers is None:
        return
    width = width_of(fields, "k-means")
    count = len(array(centers, "centers of clusters", kinds="f", shape=(None, width)))
    if not count:
        raise Corrupt("k-means has no center")
    if "_counts" in fields:
        array(fields["_counts"], "weights of clusters", kinds="f", shape=(count,))
    if "_bisecting_tree" in fields:
        _judge_bisections(fields["_bisecting_tree"], width)


def _judge_bisections(root: Any, width: int) -> None:
    stack = [root]
    while stack:
        own = vars(stack.pop())
        array(own.get("center"), "centers of clusters", kinds="f", shape=(width,))
        children = [own.get(side) for side in ("left", "right")]
        if children.count(None) == 1:
            raise Corrupt("a cluster was cut in one")
        stack += [child for child in children if child is not None]


def _judge_neighbors(fields: Fields) -> None:
    """Judge kept samples: as many and as wide as the estimator says, with labels that exist."""
    kept = fields.get("_fit_X")
    if kept is None:
        return
    tree = fields.get("_tree")
    if tree is not None and "n_features_in_" not in fields:  # fitted on another one; trees look
        width = int(np.shape(tree.data)[1])
    else:
        width = width_of(fields, "a neighbours' estimator")
    samples = rows_of(kept, "kept samples", width)
    if whole(fields.get("n_samples_fit_"), "the number of kept samples", 1, 2**62) != samples:
        raise Corrupt("a neighbours' estimator has another number of samples than it says")
    if tree is not None and np.shape(tree.data) != (samples, width):
        raise Corrupt("the tree of a neighbours' estimator holds other samples than it kept")
    for name in ("effective_metric_params_", "metric_params"):
        _judge_metric(fields.get(name), width)
    if "classes_" in fields and "_y" in fields:
        _judge_labels(fields["_y"], fields["classes_"], samples)


def _judge_metric(params: Any, width: int) -> None:
    if not isinstance(params, Mapping):
        return
    if not _NORMS.isdisjoint(params):
        raise Corrupt("a metric has norms of samples among its parameters")
    for name in ("V", "VI", "w"):
        value = params.get(name)
        shapes = [(width, width)] if name == "VI" else [(width,), (width, width)]
        if value is not None and np.shape(value) not in shapes:
            raise Corrupt(f"the parameter {name!r} of a metric has another width than the inputs")


def _judge_labels(labels: Any, classes: Any, samples: int) -> None:
    if type(labels) is not np.ndarray or labels.dtype.kind not in "iu":
        raise Corrupt("labels of kept samples are no whole numbers")
    per_output = classes if type(classes) is list else [classes]
    columns = labels.T if labels.ndim == 2 else labels[None]
    if labels.ndim not in (1, 2) or columns.shape != (len(per_output), samples):
        raise Corrupt("a neighbours' classifier has another number of labels than of samples")
    for column, names in zip(columns, per_output, strict=True):
        if np.ndim(names) != 1 or column.min() < 0 or column.max() >= len(names):
            raise Corrupt("a label of a kept sample is none of the classes")


def _judge_linkage(fields: Fields) -> None:
    """Judge the tree of an HDBSCAN: each step joins two clusters that exist by then."""
    tree = fields.get("_single_linkage_tree_")
    if tree is None:
        return
    names = tree.dtype.names if type(tree) is np.ndarray and tree.ndim == 1 else None
    if not names or not {"left_node", "right_node", "value", "cluster_size"} <= set(names):
        raise Corrupt("the tree of an HDBSCAN is none")
    limits = len(tree) + 1 + np.arange(len(tree))
    joined = np.stack([tree["left_node"], tree["right_node"]])
    if (joined < 0).any() or (joined >= limits).any():
        raise Corrupt("a step of an HDBSCAN joins a cluster that does not exist")
    flat = joined.ravel()
    if len(flat) and np.bincount(flat).max() > 1:
        raise Corrupt("two steps of an HDBSCAN join the same cluster")


def _judge_agglomeration(fields: Fields) -> None:
    """Judge which features go together: as many counters are made as the largest label says."""
    labels = fields.get("labels_")
    if labels is None:
        return
    width = width_of(fields, "a FeatureAgglomeration")
    if places(labels, "labels of features", width) != width:
        raise Corrupt("a FeatureAgglomeration has another number of labels than of features")


def _check_birch(fields: Mapping[str, Any]) -> None:
    """Require norms of all clusters; a Birch's nodes form a circle, so it is judged unbuilt."""
    if "dummy_leaf_" in fields:
        _check_chain(fields["dummy_leaf_"])
    centers, norms = fields.get("subcluster_centers_"), fields.get("_subcluster_norms")
    if centers is None or norms is None:
        return
    width = fields.get("n_features_in_")
    shape = centers.shape
    if (
        shape is None
        or width is None
        or len(shape) != 2
        or norms.shape != (shape[0],)
        or (type(width.value), width.value) != (int, shape[1])
    ):
        raise Corrupt("the clusters of a Birch contradict its norms or the width of its inputs")


def _check_chain(leaf: Any) -> None:
    """Require that the leaves of a Birch come to an end: it goes from one to the next."""
    seen = set()
    while leaf is not None and leaf.kind == "object":
        place = leaf._index  # noqa: SLF001 - a node's number is what tells it from its like
        if place in seen:
            raise Corrupt("the leaves of a Birch go round in a circle")
        seen.add(place)
        leaf = leaf.fields.get("next_leaf_")


JUDGES: Final[dict[str, Any]] = {
    **dict.fromkeys(
        ("sklearn.KMeans", "sklearn.MiniBatchKMeans", "sklearn.BisectingKMeans"), _judge_centers
    ),
    **dict.fromkeys(
        (
            "sklearn.KNeighborsClassifier",
            "sklearn.KNeighborsRegressor",
            "sklearn.KNeighborsTransformer",
            "sklearn.LocalOutlierFactor",
            "sklearn.NearestNeighbors",
            "sklearn.RadiusNeighborsClassifier",
            "sklearn.RadiusNeighborsRegressor",
            "sklearn.RadiusNeighborsTransformer",
        ),
        _judge_neighbors,
    ),
    "sklearn.FeatureAgglomeration": _judge_agglomeration,
    "sklearn.HDBSCAN": _judge_linkage,
}
CHECKS: Final[dict[str, Any]] = {"sklearn.Birch": _check_birch}
