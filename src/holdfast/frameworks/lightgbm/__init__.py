"""LightGBM: the native text as a file of the version, beside the wrapper's parameters.

The text keeps trees, names of features, parameters and the categories of pandas columns; what the
Python objects know besides is kept by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported, UsageError
from holdfast.frameworks.drawn import standard_normal
from holdfast.frameworks.lightgbm import boosters
from holdfast.frameworks.lightgbm.by_name import named_class
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

ID: Final = "lightgbm"
_WRAPPERS: Final = ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")
_METHODS: Final = ("predict_proba", "predict")
_MOST_JOBS: Final = 1024
# What sets the number of threads; see ``num_threads`` in the list of LightGBM's parameters.
_THREADS: Final = ("n_jobs", "num_threads", "num_thread", "nthread", "nthreads")


def _locate(name: str) -> type:
    lightgbm = import_extra("lightgbm", needed_for=f"a lightgbm.{name}")
    kind: type = getattr(lightgbm, name)
    return kind


def _is_booster(value: Any) -> bool:
    """Say whether it is a booster of LightGBM, or one that Holdfast loaded."""
    return type(value) in (_locate("Booster"), named_class())


def _encode_wrapper(wrapper: Any) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = vars(wrapper)
    missing = [name for name in vars(type(wrapper)()) if name not in attributes]
    if missing:
        raise Unsupported(
            f"{missing[0]} is missing: another LightGBM made the model, which was unpickled here.",
            hint="holdfast.save(model, name)  # in the environment that made it; then load it here",
        )
    for name, value in attributes.items():
        if type(value).__name__ in ("function", "method", "partial", "_ObjectiveFunctionWrapper"):
            raise Unsupported(
                f"{name} is a function, and functions are code.",
                hint="objective='regression'  # or another by name; or keep an instance of a\n"
                "holdfast.register(MyObjective)  # class with __call__ in its place",
            )
    return attributes


def _build_wrapper(name: str, fields: Mapping[str, Any]) -> Any:
    """Build a wrapper of attributes that compiled code takes at their word.

    Raises:
        Corrupt: It wraps something else than a booster, or asks for too many threads.
    """
    kind: Any = _locate(name)
    if not isinstance(fields.get("_Booster"), _locate("Booster") | type(None)):
        raise Corrupt(f"an {name} wraps something else than a booster")
    others = fields.get("_other_params", {})
    if type(others) is not dict:
        raise Corrupt(f"the further parameters of an {name} are no table")
    for key in _THREADS:
        for jobs in (fields.get(key), others.get(key)):
            whole = isinstance(jobs, int | np.integer)
            if jobs is not None and not (whole and abs(int(jobs)) <= _MOST_JOBS):
                raise Corrupt(f"an {name} asks for an impossible number of threads")
    wrapper = kind()
    # What a release does not know yet it says otherwise or not at all: None before 4.0, then -1.
    unknown = {key for key, value in vars(wrapper).items() if value == -1 and key[:1] == "_"}
    known = {key: v for key, v in fields.items() if v is not None or key not in unknown}
    vars(wrapper).update(known)
    return wrapper


TYPES: Final = (
    TypeSpec(
        id="lightgbm.Booster",
        locate=partial(_locate, "Booster"),
        classes=("lightgbm.basic:Booster", "holdfast.frameworks.lightgbm.by_name:Booster"),
        encode=boosters.encode,
        build=boosters.build,
        fields=boosters.FIELDS,
        required=boosters.FIELDS,
        state=boosters.state,
        accepts=_is_booster,
    ),
    *(
        TypeSpec(
            id=f"lightgbm.{name}",
            locate=partial(_locate, name),
            classes=(f"lightgbm.sklearn:{name}",),
            encode=_encode_wrapper,
            build=partial(_build_wrapper, name),
            attributes=True,
        )
        for name in _WRAPPERS
    ),
)


def owns(model: object) -> bool:
    """Say whether ``model`` is a booster or a wrapper of LightGBM, or derived from one."""
    return any(
        base.__module__.partition(".")[0] == "lightgbm"
        and base.__name__ in ("Booster", "LGBMModel")
        for base in type(model).__mro__
    )


def requires(model: Any) -> tuple[str, ...]:
    """Return the packages that change the model's answers."""
    own = ("lightgbm", "scipy")
    return own if type(model).__name__ == "Booster" else (*own, "sklearn")


def methods(model: Any) -> tuple[str, ...]:
    """Return the output methods of a fitted model, the most telling first."""
    if type(model).__name__ == "Booster":
        return ("predict",)
    if getattr(model, "_Booster", None) is None:
        return ()
    return tuple(name for name in _METHODS if callable(getattr(model, name, None)))


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call an output method.

    Args:
        model: A booster or wrapper.
        method: One of ``methods(model)``.
        inputs: A frame, array or sparse matrix of shape (rows, features).

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
    booster = model if type(model).__name__ == "Booster" else getattr(model, "_Booster", None)
    if booster is None or booster.pandas_categorical:
        return None
    names = booster.feature_name()
    named = getattr(model, "_fitted_with_feature_names", names[0] != "Column_0")
    return standard_normal(rows, booster.num_feature(), names if named else None, seed)


def _read(path: Path) -> Any:
    return boosters.from_text(path.read_bytes())


def _write(model: Any, path: Path) -> None:
    path.write_bytes(boosters.text_of(model if _is_booster(model) else model.booster_))


READS: Final[Mapping[str, Callable[[Path], Any]]] = {"lightgbm": _read}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {"txt": _write}
