"""scikit-learn estimators: attributes by name from a reviewed table, trees as columns.

Which classes and attributes may appear is data: ``sklearn_types.json``, written by
``tools/list_sklearn_types.py``. Where compiled code indexes by a stored number, the number is
judged first (``sklearn_trees``, ``sklearn_checks``).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import UsageError
from holdfast.frameworks import sklearn_checks, sklearn_trees
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.sklearn_table import TABLE, Entry
from holdfast.plugins import import_extra

__all__ = [
    "ID",
    "TYPES",
    "methods",
    "owns",
    "pack",
    "predict",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "sklearn"

# Output methods, the most telling first: what derives from another one is not called twice.
_METHODS: Final = ("predict_proba", "decision_function", "predict", "transform")
_SEED: Final = 20_260_301


def _locate(module: str, name: str) -> type:
    kind: type = getattr(import_extra(module, needed_for=f"a {name}"), name)
    return kind


def _spec(id_: str, entry: Entry) -> TypeSpec:
    module, _, name = entry.classes[-1].partition(":")
    encode: Callable[[Any], Any] = sklearn_trees.ENCODERS.get(id_, vars)
    encode, build = sklearn_checks.REBUILT.get(id_, (encode, None))
    locate = partial(_locate, module, name)
    return TypeSpec(
        id=id_,
        locate=locate,
        classes=entry.classes,
        encode=encode,
        check=sklearn_trees.CHECKS.get(id_),
        build=None if build is None else partial(build, locate),
        fields=entry.fields,
    )


TYPES: Final = (*sklearn_trees.TYPES, *(_spec(id_, entry) for id_, entry in TABLE.items()))


def owns(model: object) -> bool:
    """Say whether ``model`` is an estimator of scikit-learn, or of a class derived from one."""
    return any(base.__module__.partition(".")[0] == "sklearn" for base in type(model).__mro__)


def pack(model: Any, registry: Registry) -> Payload:
    """Encode an estimator without changing it.

    Raises:
        Unsupported: Something in it cannot be kept; the message names the attribute's path.
    """
    encoded = codec.encode(model, registry)
    return Payload(structure=encoded.structure, tensors=encoded.tensors)


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build the estimator.

    Raises:
        MissingExtra: scikit-learn is not installed.
        Corrupt: Values contradict their type.
        UsageError: ``into=`` or ``rename=`` was given, which are for tensors by name.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            "into= and rename= are for PyTorch modules; an estimator is built whole.",
            hint='model = holdfast.load("REF")',
        )
    import_extra("sklearn", needed_for="loading a scikit-learn model")
    return codec.decode(opened.structure, opened.tensors, registry, opened.audit)


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return the packages that change an estimator's answers."""
    return ("sklearn", "scipy")


def methods(model: Any) -> tuple[str, ...]:
    """Return the output methods of a fitted estimator, the most telling first."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError):
        return ()
    return tuple(name for name in _METHODS if callable(getattr(model, name, None)))


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call an output method; sparse answers come as their parts, which the codec knows.

    Raises:
        UsageError: The method is not one of ``methods(model)``.
    """
    if method not in methods(model):
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    answer = getattr(model, method)(inputs)
    return _sparse_parts(answer) if hasattr(answer, "tocsr") else answer


def _sparse_parts(matrix: Any) -> dict[str, Any]:
    rows = matrix.tocsr().sorted_indices()
    parts = {name: getattr(rows, name) for name in ("data", "indices", "indptr")}
    return {"format": "csr", "shape": tuple(map(int, rows.shape)), **parts}


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Draw standard normal inputs of the width the estimator was fitted on, else None.

    Returns:
        An array of shape (rows, features), or a DataFrame with the columns' names where the
        estimator was fitted on one.
    """
    width = getattr(model, "n_features_in_", None)
    if not isinstance(width, int):
        return None
    values = np.random.default_rng(seed).standard_normal((rows, width))
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return values
    try:
        pandas = import_extra("pandas", needed_for="named inputs")
    except ImportError:
        return values
    return pandas.DataFrame(values, columns=list(names))


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Seed the global generators; restore them and the model's own random states on exit."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global one
    owned = [(state, _state(state)) for state in _random_states(model)]
    random.seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002 - same
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002 - same
        for generator, state in owned:
            _restore(generator, state)


def _random_states(model: Any) -> list[Any]:
    kinds = (np.random.RandomState, np.random.Generator)
    values = model.get_params(deep=True).values() if hasattr(model, "get_params") else ()
    return [value for value in values if isinstance(value, kinds)]


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.bit_generator.state


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state
