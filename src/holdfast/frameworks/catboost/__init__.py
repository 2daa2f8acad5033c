"""CatBoost: the native file of the version, beside the estimator's parameters.

The file keeps trees, names of features, categories with their statistics, class names, metrics of
the training and metadata; what the Python objects know besides is kept by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported, UsageError
from holdfast.frameworks.catboost import boosters
from holdfast.frameworks.drawn import standard_normal
from holdfast.frameworks.python import difference, pack, steady, unpack
from holdfast.plugins import import_extra

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "difference",
    "methods",
    "owns",
    "pack",
    "predict",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "catboost"
_KINDS: Final = ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
_METHODS: Final = ("predict_proba", "predict")
# Made of the parameters when it is asked for.
_DERIVED: Final = frozenset({"_canonized_params"})


def _locate(name: str) -> type:
    catboost = import_extra("catboost", needed_for=f"a catboost.{name}")
    kind: type = getattr(catboost, name)
    return kind


def _encode(estimator: Any) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = vars(estimator)
    for name, value in attributes["_init_params"].items():
        if type(value).__name__ in ("function", "method", "partial"):
            raise Unsupported(
                f"{name} is a function, and functions are code.",
                hint="loss_function='Logloss'  # or another by name; or keep an instance of a\n"
                "holdfast.register(MyLoss)  # class in its place",
            )
    return {name: value for name, value in attributes.items() if name not in _DERIVED}


def _build(name: str, fields: Mapping[str, Any]) -> Any:
    """Build an estimator around its model.

    Raises:
        Corrupt: It is around something else, or says of the model what is not so.
    """
    model, params = fields["_object"], fields["_init_params"]
    if type(model) is not boosters.locate() or type(params) is not dict:
        raise Corrupt(f"a {name} has something else than a model and its parameters")
    trees = boosters.count_trees(model)
    if fields.get("_tree_count", trees) != trees:
        raise Corrupt(f"a {name} counts other trees than it has")
    estimator = _locate(name)()
    vars(estimator).update(fields)
    return estimator


TYPES: Final = (
    TypeSpec(
        id="catboost.Model",
        locate=boosters.locate,
        classes=("_catboost:_CatBoost",),
        encode=boosters.encode,
        build=boosters.build,
        fields=boosters.FIELDS,
        required=boosters.FIELDS,
        state=boosters.state,
    ),
    *(
        TypeSpec(
            id=f"catboost.{name}",
            locate=partial(_locate, name),
            classes=(f"catboost.core:{name}",),
            encode=_encode,
            build=partial(_build, name),
            required=frozenset({"_object", "_init_params"}),
            derived=_DERIVED,
            attributes=True,
        )
        for name in _KINDS
    ),
)


def owns(model: object) -> bool:
    """Say whether ``model`` is an estimator of CatBoost, or derived from one."""
    return any(
        base.__module__ == "catboost.core" and base.__name__ == "CatBoost"
        for base in type(model).__mro__
    )


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return the packages that change the model's answers."""
    return ("catboost",)


def methods(model: Any) -> tuple[str, ...]:
    """Return the output methods of a fitted model, the most telling first."""
    if not model.is_fitted():
        return ()
    return tuple(name for name in _METHODS if callable(getattr(model, name, None)))


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call an output method.

    Args:
        model: An estimator.
        method: One of ``methods(model)``.
        inputs: A frame or array of shape (rows, features).

    Raises:
        UsageError: The model has no such output method.
    """
    if method not in methods(model):
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    return getattr(model, method)(inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Draw standard normal inputs, as a frame where features have names; None with categories.

    Returns:
        An array or DataFrame of shape (rows, features).
    """
    names = model.feature_names_
    if not names or len(model.get_cat_feature_indices()):
        return None
    numbered = names == [str(place) for place in range(len(names))]
    return standard_normal(rows, len(names), None if numbered else names, seed)


def _read(path: Path) -> Any:
    """Read a file: classes make it a classifier, for what kind it was a file does not say."""
    data = path.read_bytes()
    _, judged = boosters.native(data)
    return _locate("CatBoostClassifier" if judged.labels else "CatBoost")().load_model(blob=data)


def _write(form: str, model: Any, path: Path) -> None:
    model.save_model(str(path), format=form)


READS: Final[Mapping[str, Callable[[Path], Any]]] = {"catboost": _read}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {
    "cbm": partial(_write, "cbm"),
    "json": partial(_write, "json"),
}
