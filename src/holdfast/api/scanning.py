"""Saying what a foreign file is and what it would run, without running anything of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast import frameworks
from holdfast.codec.function_table import FUNCTIONS
from holdfast.trust.report import Report
from holdfast.trust.scan import scan_path

__all__ = ["known_names", "scan"]

# What ``convert`` takes as data although no class of the registry has the name.
_TAKEN: Final = ("argparse:Namespace", "torch._utils:_rebuild_tensor_v3")


def scan(path: str | os.PathLike[str], *, progress: Callable[[Path], None] | None = None) -> Report:
    """Describe a model file, or a folder of them; nothing in it is run, imported or unpacked.

    Args:
        path: A file or folder, of any kind; ``holdfast.trust.report.KINDS`` names those that are
            looked into.
        progress: Called with every file of a folder before it is looked into.

    Returns:
        What it is, what wrote it, what it would import and call and at which byte, its tensors,
        and whether Holdfast can take it over as data. That nothing was found does not make a
        file safe: it says that everything in it is known to be data.

    Raises:
        UsageError: There is no such path, or it cannot be read.
    """
    return scan_path(Path(path), known_names(), progress)


def known_names() -> frozenset[str]:
    """Return the classes and functions that Holdfast keeps as data, ``module:qualname``."""
    functions = (f"{module}:{name}" for module, name in FUNCTIONS.values())
    return frozenset((*frameworks.registry().by_class, *functions, *_TAKEN))
