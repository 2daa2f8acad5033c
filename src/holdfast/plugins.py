"""Optional packages: one place knows what to install for each, so that every message agrees."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

from holdfast.errors import MissingExtra

__all__ = ["import_extra"]

# Import name to the requirement that provides it: the framework's own package, never ours.
REQUIREMENTS: Final[dict[str, str]] = {
    "ml_dtypes": "ml_dtypes>=0.4",
    "onnx": "onnx>=1.15",
    "pandas": "pandas>=2.0",
    "pyarrow": "pyarrow>=14",
    "scipy": "scipy>=1.9",
    "sklearn": "scikit-learn>=1.2",
    "torch": "torch>=2.1",
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
