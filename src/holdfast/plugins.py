"""Packages that may be installed: what provides an extra, and what others offer to Holdfast."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from holdfast.errors import HoldfastError, MissingExtra

__all__ = ["ADAPTERS_GROUP", "REQUIREMENTS", "TYPES_GROUP", "import_extra", "offer_installed"]

# The group in which a distribution declares the classes that its models hold.
TYPES_GROUP: Final = "holdfast.types"
# The group in which a distribution declares adapters for frameworks that Holdfast does not know.
ADAPTERS_GROUP: Final = "holdfast.adapters"

# Import name to the requirement that provides it: the framework's own package, never ours.
REQUIREMENTS: Final[dict[str, str]] = {
    "catboost": "catboost>=1.2",
    "flax": "flax>=0.12",
    "h5py": "h5py>=3.10",
    "httpx": "httpx>=0.27",
    "jax": "jax>=0.10",
    "keras": "keras>=3.5",
    "lightgbm": "lightgbm>=3.3",
    "ml_dtypes": "ml_dtypes>=0.4",
    "obstore": "obstore>=0.9",
    "onnx": "onnx>=1.15",
    "onnxruntime": "onnxruntime>=1.17",
    "optax": "optax>=0.2.4",
    "pandas": "pandas>=2.0",
    "patsy": "patsy>=0.5.6",
    "peft": "peft>=0.19",
    "pyarrow": "pyarrow>=14",
    "safetensors": "safetensors>=0.4",
    "scipy": "scipy>=1.9",
    "sentence_transformers": "sentence-transformers>=6.0",
    "skl2onnx": "skl2onnx>=1.17",
    "sklearn": "scikit-learn>=1.2",
    "spacy": "spacy>=3.7",
    "statsmodels": "statsmodels>=0.14",
    "tensorflow": "tensorflow>=2.16",
    "tokenizers": "tokenizers>=0.22",
    "torch": "torch>=2.1",
    "transformers": "transformers>=5.8",
    "xgboost": "xgboost>=1.7",
}


def import_extra(name: str, *, needed_for: str) -> ModuleType:
    """Import an optional package by its dotted module name.

    The name always comes from Holdfast's own code or tables, never from a file.

    Args:
        name: Module to import, for example ``"torch"`` or ``"sklearn.pipeline"``.
        needed_for: What the caller wanted to do, for the message.

    Raises:
        MissingExtra: The package is not installed; the hint installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top:
            raise
        requirement = REQUIREMENTS.get(top, top)
        raise MissingExtra(
            f"{needed_for} needs the package {requirement.partition('>')[0]!r}, "
            "which is not installed here.",
            hint=f'python -m pip install "{requirement}"',
        ) from error


def offer_installed(group: str, take: Callable[[Any], None]) -> tuple[str, ...]:
    """Hand to ``take`` every object that installed distributions declare in an entry point group.

    Args:
        group: The group's name in ``entry_points.txt``.
        take: Receives each object; what it raises counts as the distribution's fault.

    Returns:
        What is wrong, one text for each entry point that could not be used; each names its
        distribution. The others are not disturbed.
    """
    broken: list[str] = []
    for distribution in importlib.metadata.distributions():
        try:
            points = distribution.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001 - metadata that others wrote
            broken.append(_fault(distribution, "entry_points.txt", error))
            continue
        for point in points:
            try:
                take(point.load())
            except (Exception, SystemExit) as error:  # noqa: BLE001 - code that others wrote
                broken.append(_fault(distribution, f"{group}: {point.value}", error))
    return tuple(broken)


def _fault(distribution: importlib.metadata.Distribution, place: str, error: BaseException) -> str:
    said = error.message if isinstance(error, HoldfastError) else f"{type(error).__name__}: {error}"
    name = distribution.metadata["Name"] or "a distribution without a name"
    return f"{name} {distribution.version} ({place}): {said!s:.200}"
