"""Importing Keras under a backend that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from holdfast.errors import EnvironmentMismatch, MissingExtra
from holdfast.plugins import REQUIREMENTS, import_extra

__all__ = ["the_keras"]

_BACKENDS: Final = ("tensorflow", "jax", "torch")
_VARIABLE: Final = "KERAS_BACKEND"


def the_keras(needed_for: str = "a Keras model") -> ModuleType:
    """Import Keras 3.

    Where nobody chose a backend for it, and the usual one is not installed, the first that is.

    Raises:
        MissingExtra: Keras or its backend is not installed.
        EnvironmentMismatch: It is Keras 2.
    """
    if "keras" not in sys.modules:
        _choose_backend()
    try:
        keras = import_extra("keras", needed_for=needed_for)
    except ModuleNotFoundError as error:  # of the backend
        missing = (error.name or "").partition(".")[0]
        requirement = REQUIREMENTS.get(missing, missing)
        raise MissingExtra(
            f"Keras is set to compute with {missing!r}, which is not installed here.",
            hint=f'python -m pip install "{requirement}"  # or: export {_VARIABLE}=jax',
        ) from error
    if not hasattr(keras, "ops"):
        raise EnvironmentMismatch(
            f"Needs Keras 3; installed is {keras.__version__}.",
            hint=f'python -m pip install "{REQUIREMENTS["keras"]}"',
        )
    return keras


def _choose_backend() -> None:
    if os.environ.get(_VARIABLE) or _is_installed(_configured()):
        return
    for name in _BACKENDS:
        if _is_installed(name):
            os.environ[_VARIABLE] = name
            return


def _is_installed(name: str) -> bool:
    return name in (*_BACKENDS, "numpy", "openvino") and importlib.util.find_spec(name) is not None


def _configured() -> str:
    """Return the backend in Keras' own file of settings."""
    home = os.environ.get("KERAS_HOME")
    folder = Path(home) if home else Path("~/.keras").expanduser()
    try:
        settings = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "tensorflow"
    chosen = settings.get("backend") if isinstance(settings, dict) else None
    return chosen if isinstance(chosen, str) else "tensorflow"
