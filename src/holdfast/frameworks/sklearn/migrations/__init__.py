"""Estimators of other scikit-learn releases made those of the installed one.

Each step is a pure function of decoded attributes, keyed by type and release, applied before the
object exists. What no step knows is caught by the replay. The measured causes are in the steps'
``change`` and ``harm``, from which the table in the documentation is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any, Final

from packaging.version import InvalidVersion, Version

from holdfast.codec.functions import function_named
from holdfast.codec.registry import TypeSpec
from holdfast.frameworks.sklearn.migrations import estimators, losses, trees
from holdfast.frameworks.sklearn.migrations.base import Fields, Migration, defaults
from holdfast.frameworks.sklearn.table import TABLE

__all__ = ["MIGRATIONS", "Migration", "migrating", "steps_for"]

MIGRATIONS: Final = tuple(
    sorted(
        (*estimators.MIGRATIONS, *losses.MIGRATIONS, *trees.MIGRATIONS),
        key=lambda step: Version(step.since),
    )
)


def migrating(known: Mapping[str, TypeSpec], written: Mapping[str, str]) -> Iterator[TypeSpec]:
    """Yield the types that differ for states which another scikit-learn kept.

    Args:
        known: The types by id, as the installed release has them.
        written: The distributions that wrote the version, with their releases.
    """
    there, here = _release(written.get("scikit-learn")), _installed()
    if there is None or here is None or there == here:
        return
    steps = _steps(there, here)
    for id_ in (*TABLE, *(id_ for id_ in steps if id_ not in TABLE)):
        if id_ in known:
            yield _migrated(known[id_], steps.get(id_, ()), upward=there < here)
    yield replace(known["function"], build=_function)


def steps_for(types: Iterable[str], written: Mapping[str, str]) -> tuple[Migration, ...] | None:
    """Return the steps that a load of these types would take; None for the installed release."""
    there, here = _release(written.get("scikit-learn")), _installed()
    if there is None or here is None or there == here:
        return None
    steps = _steps(there, here)
    return tuple(dict.fromkeys(step for id_ in types for step in steps.get(id_, ())))


def _release(text: object) -> Version | None:
    """Return the minor release: state changes with those only."""
    try:
        whole = Version(text) if isinstance(text, str) and len(text) < 100 else None
    except InvalidVersion:
        return None
    return None if whole is None else Version(f"{whole.major}.{whole.minor}")


@functools.lru_cache(maxsize=1)
def _installed() -> Version | None:
    try:
        return _release(metadata.version("scikit-learn"))
    except metadata.PackageNotFoundError:
        return None


@functools.lru_cache(maxsize=32)
def _steps(there: Version, here: Version) -> dict[str, tuple[Migration, ...]]:
    """Return the steps from one release to another by type, in the order to take them."""
    found: dict[str, list[Migration]] = {}
    upward = there < here
    for step in MIGRATIONS if upward else reversed(MIGRATIONS):
        between = min(there, here) < Version(step.since) <= max(there, here)
        ways = (step.forward, step.build) if upward else (step.backward, step.restore)
        if between and any(ways):
            for id_ in step.types:
                found.setdefault(id_, []).append(step)
    return {id_: tuple(steps) for id_, steps in found.items()}


def _migrated(spec: TypeSpec, steps: tuple[Migration, ...], *, upward: bool) -> TypeSpec:
    taken: list[Callable[[Fields], None]] = []
    for step in steps:
        build = step.build if upward else step.restore
        if build is not None:
            return replace(spec, build=build)
        change = step.forward if upward else step.backward
        if change is not None:
            taken.append(change)
    return replace(
        spec,
        migrate=functools.partial(_taken, taken) if taken else None,
        lacking=(lambda: defaults(spec.locate())) if spec.id in TABLE else None,
    )


def _taken(steps: list[Callable[[Fields], None]], fields: Mapping[str, Any]) -> Fields:
    changed = dict(fields)
    for step in steps:
        step(changed)
    return changed


def _function(fields: Mapping[str, Any]) -> Any:
    if fields["name"] == "sklearn.passthrough_scorer":
        return losses.Unbound()
    return function_named(fields["name"])
