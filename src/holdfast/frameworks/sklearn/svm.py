"""Support vector machines: libsvm takes pointers and believes every count that comes with them.

Sources: ``sklearn/svm/_libsvm.pyx``, ``_libsvm_sparse.pyx``, ``src/libsvm/libsvm_helper.c``,
``libsvm_sparse_helper.c`` and ``svm.cpp``, where ``set_model`` and ``predict_values`` copy and
index without a check.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.shapes import Fields, array, whole, width_of

__all__ = ["JUDGES"]

_PARTS: Final = (
    "support_",
    "support_vectors_",
    "_n_support",
    "_dual_coef_",
    "_intercept_",
    "_probA",
    "_probB",
)
# Where a machine whose kernel is a function keeps what it was fitted on.
_SAMPLES: Final = "_BaseLibSVM__Xfit"
# Functions of two matrices that answer with a row per row of one and a column per row of the other.
_KERNELS: Final = frozenset(
    {
        "numpy.inner",
        *(
            f"sklearn.metrics.pairwise.{name}"
            for name in (
                "additive_chi2_kernel",
                "chi2_kernel",
                "cosine_similarity",
                "laplacian_kernel",
                "linear_kernel",
                "polynomial_kernel",
                "rbf_kernel",
                "sigmoid_kernel",
            )
        ),
    }
)


def _judge(fields: Fields, *, classifies: bool) -> None:
    if not any(name in fields for name in _PARTS):
        return
    missing = [name for name in (*_PARTS, "shape_fit_", "_sparse") if name not in fields]
    if missing:
        raise Corrupt(f"a support vector machine lacks its {missing[0]}")
    sparse = fields["_sparse"]
    if not isinstance(sparse, bool | np.bool_):
        raise Corrupt("a support vector machine does not say whether it was fitted sparse")
    count = len(array(fields["support_"], "support indices", kinds="i", shape=(None,)))
    _judge_counts(fields, count, classifies=classifies)
    classes = len(fields["_n_support"])
    (_judge_sparse if sparse else _judge_dense)(fields, count, classes - 1)
    pairs = classes * (classes - 1) // 2
    array(fields["_intercept_"], "intercepts", kinds="f", shape=(pairs,))
    _judge_probabilities(fields, pairs, classifies=classifies)


def _judge_counts(fields: Fields, count: int, *, classifies: bool) -> None:
    """Judge how many vectors each class has; what is no classifier counts as two classes."""
    counts = array(fields["_n_support"], "counts of support vectors", kinds="i", shape=(None,))
    if not classifies:
        if len(counts) != 2:  # what they are is unset after a sparse fit, and not read
            raise Corrupt("a support vector machine without classes counts them")
        return
    classes = fields.get("classes_")
    if type(classes) is not np.ndarray or classes.shape != counts.shape or len(counts) < 2:
        raise Corrupt("a support vector machine has another number of classes than of counts")
    if counts.min() < 0 or counts.sum(dtype=np.int64) != count:
        raise Corrupt("a support vector machine has another number of vectors than its classes")


def _judge_dense(fields: Fields, count: int, rows: int) -> None:
    kernel, shape = fields.get("kernel"), fields["shape_fit_"]
    if type(shape) is not tuple or not shape:
        raise Corrupt("a support vector machine does not know what it was fitted on")
    samples = whole(shape[0], "the number of samples of a support vector machine", 1, 2**31 - 1)
    support = fields["support_"]
    if count and (support.min() < 0 or support.max() >= samples):
        raise Corrupt("a support vector is none of the samples that the machine was fitted on")
    array(fields["_dual_coef_"], "dual coefficients", kinds="f", shape=(rows, count))
    vectors = fields["support_vectors_"]
    if callable(kernel):
        _judge_function(kernel, fields.get(_SAMPLES), samples)
    if kernel == "precomputed" or callable(kernel):
        array(vectors, "support vectors", kinds="f", shape=(None, None))
        if len(vectors) not in (0, count):
            raise Corrupt("a support vector machine has another number of vectors than it says")
    else:
        width = width_of(fields, "a support vector machine")
        array(vectors, "support vectors", kinds="f", shape=(count, width))


def _judge_function(kernel: Any, kept: Any, samples: int) -> None:
    """Require one column per sample; the decision function does not look how many there are."""
    if f"{getattr(kernel, '__module__', '')}.{getattr(kernel, '__name__', '')}" not in _KERNELS:
        raise Corrupt("the kernel of a support vector machine is a function that is none")
    if np.ndim(kept) != 2 or len(kept) != samples:
        raise Corrupt("a support vector machine lacks the samples that its kernel is taken with")


def _judge_sparse(fields: Fields, count: int, rows: int) -> None:
    if fields.get("kernel") == "precomputed" or callable(fields.get("kernel")):
        raise Corrupt("a sparse support vector machine cannot have a kernel computed before")
    width = width_of(fields, "a support vector machine")
    vectors, weights = fields["support_vectors_"], fields["_dual_coef_"]
    for part in (vectors, weights):
        if type(part).__name__ not in ("csr_matrix", "csr_array"):
            raise Corrupt("a sparse support vector machine holds dense parts")
    if vectors.shape != (count, width):
        raise Corrupt(f"support vectors have the shape {vectors.shape}, not {(count, width)}")
    if len(weights.data) != rows * count:
        raise Corrupt("a sparse support vector machine has another number of coefficients")


def _judge_probabilities(fields: Fields, pairs: int, *, classifies: bool) -> None:
    """Judge what turns distances into probabilities: as many as intercepts, or none at all."""
    first, second = (
        len(array(fields[name], "parameters of probabilities", kinds="f", shape=(None,)))
        for name in ("_probA", "_probB")
    )
    asked = bool(fields.get("_effective_probability", fields.get("probability", False)))
    if (first, second) == (pairs, pairs):
        return
    if asked or (classifies and (first or second)):
        raise Corrupt("a support vector machine lacks parameters of its probabilities")


JUDGES: Final[dict[str, Any]] = {
    **dict.fromkeys(("sklearn.SVC", "sklearn.NuSVC"), partial(_judge, classifies=True)),
    **dict.fromkeys(
        ("sklearn.SVR", "sklearn.NuSVR", "sklearn.OneClassSVM"), partial(_judge, classifies=False)
    ),
}
