"""XGBoost: the native UBJSON as a file of the version, beside the wrapper's parameters.

The native file keeps trees, names, types and categories of features, and attributes; of the
wrappers of scikit-learn's kind it keeps nothing, so their attributes are kept by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, UnsafeContent, Unsupported, UsageError
from holdfast.frameworks.drawn import standard_normal
from holdfast.frameworks.python import difference, pack, steady, unpack
from holdfast.frameworks.xgboost import boosters
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

ID: Final = "xgboost"
_WRAPPERS: Final = (
    "XGBClassifier",
    "XGBRegressor",
    "XGBRanker",
    "XGBRFClassifier",
    "XGBRFRegressor",
)
_METHODS: Final = ("predict_proba", "predict")
_MOST_JSON: Final = 1 << 30
_MOST_JOBS: Final = 1024


def _locate(name: str) -> type:
    xgboost = import_extra("xgboost", needed_for=f"an xgboost.{name}")
    kind: type = getattr(xgboost, name)
    return kind


def _early_stopping() -> type:
    kind: type = import_extra("xgboost.callback", needed_for="an EarlyStopping").EarlyStopping
    return kind


def _encode_wrapper(wrapper: Any) -> Mapping[str, Any]:
    callables = [name for name, value in vars(wrapper).items() if _is_code(value)]
    if callables:
        raise Unsupported(
            f"{callables[0]} is a function, and functions are code.",
            hint="objective='reg:squarederror'  # or another by name; or keep an instance of a\n"
            "holdfast.register(MyObjective)  # class with __call__ in its place",
        )
    missing = [name for name in vars(type(wrapper)()) if name not in vars(wrapper)]
    if missing:
        raise Unsupported(
            f"{missing[0]} is missing: another XGBoost made the model, which was unpickled here.",
            hint=f"model.set_params({'=None, '.join(missing)}=None)",
        )
    attributes: Mapping[str, Any] = vars(wrapper)
    return attributes


def _is_code(value: Any) -> bool:
    return type(value).__name__ in ("function", "builtin_function_or_method", "method", "partial")


def _build_wrapper(name: str, fields: Mapping[str, Any]) -> Any:
    """Build a wrapper of attributes that compiled code takes at their word.

    Raises:
        Corrupt: It wraps something else than a booster, or asks for too many threads.
    """
    kind: Any = _locate(name)
    if "_Booster" in fields and type(fields["_Booster"]) is not _locate("Booster"):
        raise Corrupt(f"an {name} wraps something else than a booster")
    for key in ("n_jobs", "nthread"):
        jobs = fields.get(key)
        whole = isinstance(jobs, int | np.integer)
        if jobs is not None and not (whole and abs(int(jobs)) <= _MOST_JOBS):
            raise Corrupt(f"an {name} asks for an impossible number of threads")
    wrapper = kind()  # with the parameters that the release which wrote the file did not have
    vars(wrapper).update(fields)
    return wrapper


TYPES: Final = (
    TypeSpec(
        id="xgboost.Booster",
        locate=partial(_locate, "Booster"),
        classes=("xgboost.core:Booster",),
        encode=boosters.encode,
        build=boosters.build,
        fields=frozenset({"model", "config", "attributes"}),
        required=frozenset({"model", "config"}),
        state=boosters.state,
    ),
    *(
        TypeSpec(
            id=f"xgboost.{name}",
            locate=partial(_locate, name),
            classes=(f"xgboost.sklearn:{name}",),
            encode=_encode_wrapper,
            build=partial(_build_wrapper, name),
            attributes=True,
        )
        for name in _WRAPPERS
    ),
    TypeSpec(
        id="xgboost.EarlyStopping",
        locate=_early_stopping,
        classes=("xgboost.callback:EarlyStopping",),
        encode=vars,
        attributes=True,
    ),
)


def owns(model: object) -> bool:
    """Say whether ``model`` is a booster or a wrapper of XGBoost, or derived from one."""
    return any(
        base.__module__.partition(".")[0] == "xgboost" and base.__name__ in ("Booster", "XGBModel")
        for base in type(model).__mro__
    )


def requires(model: Any) -> tuple[str, ...]:
    """Return the packages that change the model's answers."""
    return (
        ("xgboost", "scipy")
        if type(model).__name__ == "Booster"
        else ("xgboost", "sklearn", "scipy")
    )


def methods(model: Any) -> tuple[str, ...]:
    """Return the output methods of a fitted model, the most telling first."""
    if type(model).__name__ == "Booster":
        return ("predict",)
    if not hasattr(model, "_Booster"):
        return ()
    return tuple(name for name in _METHODS if callable(getattr(model, name, None)))


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call an output method; a bare booster gets its matrix made of rows.

    Args:
        model: A booster or wrapper.
        method: One of ``methods(model)``.
        inputs: A frame, array or sparse matrix of shape (rows, features).

    Raises:
        UsageError: The model has no such output method.
    """
    if method not in methods(model):
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    if type(model).__name__ != "Booster":
        return getattr(model, method)(inputs)
    xgboost = import_module("xgboost")
    named = hasattr(inputs, "columns")
    rows = xgboost.DMatrix(
        inputs,
        feature_names=None if named else model.feature_names,
        feature_types=None if named else model.feature_types,
        enable_categorical="c" in (model.feature_types or ()),
    )
    return model.predict(rows)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Draw standard normal inputs, as a frame where features have names; None with categories.

    Returns:
        An array or DataFrame of shape (rows, features).
    """
    booster = model if type(model).__name__ == "Booster" else getattr(model, "_Booster", None)
    if booster is None or "c" in (booster.feature_types or ()):
        return None
    return standard_normal(rows, booster.num_features(), booster.feature_names, seed)


def _read_ubj_file(path: Path) -> Any:
    return boosters.from_ubj(path.read_bytes())


def _read_json_file(path: Path) -> Any:
    if path.stat().st_size > _MOST_JSON:
        raise Corrupt(f"{path} is larger than {_MOST_JSON} bytes", ref=str(path))
    return boosters.from_json(path.read_bytes())


def _refuse_binary(path: Path) -> Any:
    raise UnsafeContent(
        f"{path} is an XGBoost model in the binary format given up in 3.1; its reader cannot be "
        "judged from outside.",
        hint='python -m pip install "xgboost<3.1" and, in that environment,\n'
        f"python -c \"import xgboost as x; x.Booster(model_file='{path}').save_model('m.ubj')\"",
        ref=str(path),
    )


def _write(ending: str, model: Any, path: Path) -> None:
    booster = model if type(model).__name__ == "Booster" else model.get_booster()
    path.write_bytes(booster.save_raw(ending))


READS: Final[Mapping[str, Callable[[Path], Any]]] = {
    "xgboost-ubj": _read_ubj_file,
    "xgboost-json": _read_json_file,
    "xgboost-binary": _refuse_binary,
}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {
    "ubj": partial(_write, "ubj"),
    "json": partial(_write, "json"),
}
