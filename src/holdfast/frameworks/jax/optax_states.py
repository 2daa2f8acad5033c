"""States of optax's optimisers: named tuples from a closed table.

``tools/list_optax_types.py`` writes the table from the source of optax's releases. Functions
(``GradientTransformation``) are not in it: an optimiser is code, its state is data.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import partial
from importlib import resources
from typing import Any, Final, NamedTuple

from holdfast.codec.registry import TypeSpec
from holdfast.errors import EnvironmentMismatch
from holdfast.plugins import import_extra

__all__ = ["SPECS"]


class Entry(NamedTuple):
    """One state.

    Attributes:
        modules: Where the class is or was, over all supported releases, the newest last.
        fields: Fields it has or had.
    """

    modules: tuple[str, ...]
    fields: frozenset[str]


def _read() -> dict[str, Entry]:
    text = resources.files("holdfast.frameworks.jax").joinpath("optax_states.json")
    return {
        name: Entry(tuple(entry["modules"]), frozenset(entry["fields"].split()))
        for name, entry in json.loads(text.read_text("utf-8")).items()
    }


def _locate(name: str, entry: Entry) -> Any:
    """Return the class of this release; name and modules come from the table.

    Raises:
        MissingExtra: optax is not installed.
        EnvironmentMismatch: This optax does not have the state.
    """
    optax = import_extra("optax", needed_for="The state of an optimiser")
    for module in reversed(entry.modules):
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise EnvironmentMismatch(
        f"optax {optax.__version__} has no {name}.", hint="python -m pip index versions optax"
    )


def _encode(state: Any) -> dict[str, Any]:
    return dict(state._asdict())


def _build(name: str, entry: Entry, fields: Mapping[str, Any]) -> Any:
    kind = _locate(name, entry)
    if set(kind._fields) != fields.keys():
        raise EnvironmentMismatch(
            f"{name} has the fields {', '.join(kind._fields)} in this optax; it was saved with "
            f"{', '.join(fields) or 'none'}.",
            hint="hold show REF  # the release it was saved with",
        )
    return kind(**fields)


def _spec(name: str, entry: Entry) -> TypeSpec:
    return TypeSpec(
        id=f"optax.{name}",
        locate=partial(_locate, name, entry),
        classes=tuple(f"{module}:{name}" for module in entry.modules),
        encode=_encode,
        build=partial(_build, name, entry),
        fields=entry.fields,
    )


SPECS: Final[tuple[TypeSpec, ...]] = tuple(_spec(name, entry) for name, entry in _read().items())
