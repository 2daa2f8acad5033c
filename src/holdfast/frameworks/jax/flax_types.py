"""Flax's own containers: frozen dictionaries, nnx states and variables, boxed parameters.

A file names a class by its id; the tables below say which class of flax that is.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["SPECS", "is_variable"]

# Variables of flax.nnx, each in the module that defines it; the newest place last.
_VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("Variable", "Param", "BatchStat", "Cache", "Intermediate", "Perturbation"),
        ("flax.nnx.variables", "flax.nnx.variablelib"),
    ),
    **dict.fromkeys(("RngState", "RngCount", "RngKey"), ("flax.nnx.rnglib",)),
    **dict.fromkeys(("OptState", "OptArray", "OptVariable"), ("flax.nnx.training.optimizer",)),
    "MetricState": ("flax.nnx.training.metrics",),
    "LoRAParam": ("flax.nnx.nn.lora",),
}
# What every variable carries of flax's own settings.
_SETTINGS: Final = ("hijax", "ref", "eager_sharding")

# Frozen dataclasses of flax whose fields are arrays and plain values.
_DATACLASSES: Final[dict[str, str]] = {
    "Partitioned": "flax.core.meta",
    "LogicallyPartitioned": "flax.linen.spmd",
    "DynamicScale": "flax.training.dynamic_scale",
    "EarlyStopping": "flax.training.early_stopping",
}


def is_variable(value: object) -> bool:
    """Say whether a value is a variable of flax.nnx; imports nothing."""
    return any(
        base.__name__ == "Variable" and base.__module__.startswith("flax.nnx.")
        for base in type(value).__mro__
    )


def _found(places: tuple[str, ...], name: str) -> Any:
    """Return a class of flax; places and name come from the tables here.

    Raises:
        MissingExtra: flax is not installed.
        EnvironmentMismatch: This flax does not have it.
    """
    import_extra("flax", needed_for="A model of Flax")
    for place in reversed(places):
        try:
            return getattr(importlib.import_module(place), name)
        except (ImportError, AttributeError):
            continue
    raise EnvironmentMismatch(
        f"This flax has no {places[-1]}.{name}.",
        hint='python -m pip install --upgrade "flax>=0.12"',
    )


def _encode_frozen(frozen: Any) -> dict[str, Any]:
    return {"items": frozen.unfreeze()}


def _build_frozen(kind: Any, fields: Mapping[str, Any]) -> Any:
    if type(fields["items"]) is not dict:
        raise Corrupt("a FrozenDict is not made of a dictionary")
    return kind()(fields["items"])


def _encode_variable(variable: Any) -> dict[str, Any]:
    metadata = dict(variable.get_metadata())
    if metadata.get("ref") or metadata.get("hijax"):
        raise Unsupported(
            "a variable is a mutable reference of jax, whose value is not kept.",
            hint="flax.nnx.to_pure_dict(flax.nnx.state(model))",
        )
    return {"value": variable.get_raw_value(), "metadata": metadata}


def _build_variable(kind: Any, fields: Mapping[str, Any]) -> Any:
    value, metadata = fields["value"], fields["metadata"]
    if type(metadata) is not dict or not all(type(key) is str for key in metadata):
        raise Corrupt("the metadata of a variable are no table of names")
    if any(type(metadata.get(name, False)) is not bool for name in _SETTINGS):
        raise Corrupt("the settings of a variable are no truths")
    if metadata.get("ref") or metadata.get("hijax"):
        raise Corrupt("a variable claims to be a mutable reference")
    settings = {name: metadata[name] for name in _SETTINGS if name in metadata}
    variable = kind()(value, **settings)
    variable.set_metadata(metadata)  # later, since a mesh that it names need not be in force here
    return variable


def _encode_dataclass(box: Any) -> dict[str, Any]:
    return {field.name: getattr(box, field.name) for field in dataclasses.fields(box)}


def _build_dataclass(kind: Any, fields: Mapping[str, Any]) -> Any:
    cls = kind()
    unknown = fields.keys() ^ {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise EnvironmentMismatch(
            f"This flax's {cls.__name__} has other fields than the one saved: {min(unknown)}.",
            hint='python -m pip install --upgrade "flax>=0.12"',
        )
    return cls(**fields)


def _variable_spec(name: str, places: tuple[str, ...]) -> TypeSpec:
    locate = partial(_found, places, name)
    return TypeSpec(
        id=f"flax.nnx.{name}",
        locate=locate,
        classes=tuple(f"{place}:{name}" for place in places),
        encode=_encode_variable,
        build=partial(_build_variable, locate),
        fields=frozenset({"value", "metadata"}),
        required=frozenset({"value", "metadata"}),
        transparent=frozenset({"value"}),
    )


def _dataclass_spec(name: str, place: str) -> TypeSpec:
    locate = partial(_found, (place,), name)
    return TypeSpec(
        id=f"flax.{name}",
        locate=locate,
        classes=(f"{place}:{name}",),
        encode=_encode_dataclass,
        build=partial(_build_dataclass, locate),
        transparent=frozenset({"value"}),
    )


_frozen_dict = partial(_found, ("flax.core.frozen_dict",), "FrozenDict")
_state = partial(_found, ("flax.nnx.statelib",), "State")


def _encode_state(state: Any) -> dict[str, Any]:
    return {"items": state.raw_mapping}


SPECS: Final[tuple[TypeSpec, ...]] = (
    TypeSpec(
        id="flax.FrozenDict",
        locate=_frozen_dict,
        classes=("flax.core.frozen_dict:FrozenDict",),
        encode=_encode_frozen,
        build=partial(_build_frozen, _frozen_dict),
        fields=frozenset({"items"}),
        required=frozenset({"items"}),
        transparent=frozenset({"items"}),
    ),
    TypeSpec(
        id="flax.nnx.State",
        locate=_state,
        classes=("flax.nnx.statelib:State",),
        encode=_encode_state,
        build=partial(_build_frozen, _state),
        fields=frozenset({"items"}),
        required=frozenset({"items"}),
        transparent=frozenset({"items"}),
    ),
    *(_variable_spec(name, places) for name, places in _VARIABLES.items()),
    *(_dataclass_spec(name, place) for name, place in _DATACLASSES.items()),
)
