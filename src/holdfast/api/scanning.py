"""Saying what a foreign file is and what it would run, without running anything of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Final

from holdfast import frameworks
from holdfast.api.bundle_scan import look_at_bundle
from holdfast.codec.function_table import FUNCTIONS
from holdfast.errors import UsageError
from holdfast.rescue.function_names import CLASSES, function_name
from holdfast.rescue.reading import kinds
from holdfast.rescue.recipes import RECIPES as PYTHON
from holdfast.rescue.sklearn_recipes import RECIPES as SKLEARN
from holdfast.trust.report import Report
from holdfast.trust.scan import scan_path
from holdfast.trust.scan.folders import is_store

__all__ = ["known_names", "scan"]

# What ``convert`` takes as data although no class of the registry has the name.
_TAKEN: Final = ("argparse:Namespace", "torch._utils:_rebuild_tensor_v3")
# Functions that estimators keep beside their data, and that taking them over makes anew.
_LEFT_ASIDE: Final = (
    "scipy._lib.array_api_compat.numpy._aliases:asarray",
    "sklearn.cluster._kmeans:_kmeans_single_elkan",
    "sklearn.cluster._kmeans:_kmeans_single_lloyd",
)


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
        UsageError: There is no such path, it cannot be read, or it is a store.
    """
    if is_store(Path(path)):
        raise UsageError(
            f"{path} is a store, whose parts are no models by themselves.",
            hint=f"hold verify --all --store {path}",
        )
    report = scan_path(Path(path), known_names(), progress, look_at_bundle)
    return _offered(report, kinds())


def _offered(report: Report, readable: frozenset[str]) -> Report:
    """Say of no file that it can be taken over unless something here reads its kind."""
    members = tuple(_offered(member, readable) for member in report.members)
    takes = report.takes if report.kind in readable or report.takes == "sandbox" else None
    return replace(report, takes=takes, members=members)


def known_names() -> Container[str]:
    """Return what pickles may name and is data, ``module:qualname``."""
    return _Known()


class _Known(Container[str]):
    """The classes and functions that Holdfast keeps, or takes over from pickles, as data."""

    def __init__(self) -> None:
        functions = (f"{module}:{name}" for module, name in FUNCTIONS.values())
        classes = frameworks.registry().by_class
        taken = (*CLASSES, *PYTHON, *SKLEARN, *_TAKEN, *_LEFT_ASIDE)
        self._names = frozenset((*classes, *functions, *taken))

    def __contains__(self, key: object) -> bool:
        return key in self._names or (isinstance(key, str) and function_name(key) is not None)
