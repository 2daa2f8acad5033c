"""What one migration is: which types, since which release, why, and a pure function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Fields", "Migration", "defaults"]

Fields = dict[str, Any]


@functools.lru_cache(maxsize=512)
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    parameters = inspect.signature(kind).parameters.values()
    return tuple((p.name, p.default) for p in parameters if p.default is not p.empty)


def defaults(kind: type) -> dict[str, Any]:
    """Return the parameters of an estimator's constructor that have a default, with it."""
    return dict(_defaults(kind)) if hasattr(kind, "get_params") else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A change of scikit-learn's state, and what undoes its harm.

    Attributes:
        types: Ids of the types concerned.
        since: The first release that keeps the new state, for example ``"1.4"``.
        change: What changed upstream.
        harm: What happens to an older state without the migration.
        forward: Changes the decoded attributes of an older release into those of ``since``.
        backward: Changes those of ``since`` into an older release's; None where there is no way.
        build: In place of ``forward`` for a type that ``since`` no longer has: its fields to the
            value that stands for it now.
        restore: The same for a type that releases before ``since`` do not have.
    """

    types: tuple[str, ...]
    since: str
    change: str
    harm: str
    forward: Callable[[Fields], None] | None = None
    backward: Callable[[Fields], None] | None = None
    build: Callable[[Mapping[str, Any]], Any] | None = None
    restore: Callable[[Mapping[str, Any]], Any] | None = None
