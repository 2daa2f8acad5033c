"""scikit-learn estimators: attributes by name from a reviewed table, trees as columns.

Which classes and attributes may appear is data: ``types.json``, written by
``tools/list_sklearn_types.py``. Where compiled code indexes by a stored number, the number is
judged first (``trees``, ``checks``).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import EnvironmentMismatch, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.drawn import standard_normal
from holdfast.frameworks.sklearn import checks, hist, losses, neighbors, parts, trees
from holdfast.frameworks.sklearn.migrations import migrating
from holdfast.frameworks.sklearn.table import TABLE, Entry
from holdfast.plugins import import_extra

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "difference",
    "methods",
    "migrating",
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
_FEW: Final = 64
# What a fit leaves behind and the next one sets anew: functions, and the address of a list.
_DERIVED: Final = frozenset({"_kmeans_single", "_raw_predict", "_stop_words_id"})
# Modules whose classes scikit-learn hides until they are asked for.
_EXPERIMENTAL: Final = (
    "sklearn.impute._iterative",
    "sklearn.model_selection._search_successive_halving",
)


_ENCODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **trees.ENCODERS,
    **hist.ENCODERS,
}


def _locate(classes: Sequence[str]) -> type:
    """Return the class where this scikit-learn has it: classes move between releases."""
    for place in reversed(classes):
        module, _, name = place.partition(":")
        if module.startswith(_EXPERIMENTAL):
            import_extra("sklearn.experimental.enable_iterative_imputer", needed_for=f"a {name}")
            import_extra("sklearn.experimental.enable_halving_search_cv", needed_for=f"a {name}")
        import_extra("sklearn", needed_for=f"a {name}")
        try:
            kind: type = getattr(import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
        return kind
    raise EnvironmentMismatch(
        f"The file holds a {classes[-1].rpartition(':')[2]}, which the scikit-learn installed here "
        "does not have.",
        hint='hold show "REF"  # tells the scikit-learn that it was saved with',
    )


def _spec(id_: str, entry: Entry) -> TypeSpec:
    encode = _ENCODERS.get(id_, vars)
    encode, build = checks.REBUILT.get(id_, (encode, None))
    locate = partial(_locate, entry.classes)
    judge = checks.JUDGES.get(id_)
    if judge is not None:
        build = partial(checks.build_judged, judge=judge)
    return TypeSpec(
        id=id_,
        locate=locate,
        classes=entry.classes,
        encode=encode,
        check=checks.check_of(id_),
        build=None if build is None else partial(build, locate),
        fields=entry.fields,
        derived=_DERIVED,
        attributes=True,
    )


TYPES: Final = (
    *trees.TYPES,
    *hist.TYPES,
    *losses.TYPES,
    *neighbors.TYPES,
    *parts.TYPES,
    *(_spec(id_, entry) for id_, entry in TABLE.items()),
)


READS: Final[Mapping[str, Callable[[Path], Any]]] = {}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {}


def owns(model: object) -> bool:
    """Say whether ``model`` is an estimator of scikit-learn, or of a class derived from one."""
    return any(base.__module__.partition(".")[0] == "sklearn" for base in type(model).__mro__)


def pack(model: Any, registry: Registry) -> Payload:
    """Encode an estimator without changing it.

    Raises:
        Unsupported: Something in it cannot be kept; the message names the attribute's path.
    """
    encoded = codec.encode(model, registry)
    return Payload(structure=encoded.structure, tensors=encoded.tensors, files=encoded.files)


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
    return codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare parameters and attributes with the live model's; see ``codec.first_difference``."""
    return codec.first_difference(model, built, registry, label=type(model).__name__.lower())


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
    """Call an output method.

    Raises:
        UsageError: The model has no such output method.
    """
    if method not in _METHODS or not callable(getattr(model, method, None)):
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    return getattr(model, method)(inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Draw standard normal inputs of the width the estimator was fitted on, else None.

    Returns:
        An array of shape (rows, features), or a DataFrame with the columns' names where the
        estimator was fitted on one.
    """
    width = getattr(model, "n_features_in_", None)
    if not isinstance(width, int):
        return None
    drawn = standard_normal(rows, width, getattr(model, "feature_names_in_", None), seed)
    # Without pandas an estimator takes an array for a table.
    return standard_normal(rows, width, None, seed) if drawn is None else drawn


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Seed the global generators; restore them and the model's own random states on exit."""
    owned = [(state, _state(state)) for state in _random_states(model)]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global one
    random.seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002 - same
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for generator, state in owned:
            _restore(generator, state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002 - same


def _random_states(model: Any) -> list[Any]:
    """Return the generators that the estimator and its steps hold, given or fitted."""
    kinds = (np.random.RandomState, np.random.Generator)
    found: dict[int, Any] = {}
    queue, seen = [model], {id(model)}
    while queue:
        item = queue.pop()
        parts = item if isinstance(item, list | tuple) else getattr(item, "__dict__", {}).values()
        for part in parts:
            if isinstance(part, kinds):
                found[id(part)] = part
            elif id(part) not in seen and _may_hold(part):
                seen.add(id(part))
                queue.append(part)
    return list(found.values())


def _may_hold(part: Any) -> bool:
    """Say whether to look for generators there; a forest's trees are seeded with numbers."""
    return len(part) <= _FEW if isinstance(part, list | tuple) else hasattr(part, "get_params")


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.bit_generator.state


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state
