"""``nn.Module``s built from ``torch.nn`` layers: encoded at save, rebuilt at load.

Each layer is kept by its constructor arguments, its own parameters, buffers and children, and its
training flag. At save an instance that differs from its twin (see ``twins``) is refused, so
nothing is lost silently; at load a twin receives the stored tensors, which must be exactly the
ones it expects.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch
from holdfast.frameworks.torch.layers import LAYERS, OPEN, Layer
from holdfast.frameworks.torch.twins import (
    Parts,
    arguments_of,
    construct,
    locate,
    mismatch,
    parts_of,
    refuse_changed,
)

__all__ = ["SPECS"]

_FIELDS: Final = frozenset({"training", "parameters", "buffers", "transient", "modules"})


def _encode(layer: Layer, module: Any) -> dict[str, Any]:
    refuse_changed(module, None)
    parts = parts_of(module)
    transient = sorted(module._non_persistent_buffers_set)  # noqa: SLF001 - torch tells it nowhere else
    fields = {
        "parameters": dict(parts.parameters),
        "buffers": dict(parts.buffers),
        "transient": transient,
        "modules": dict(parts.modules),
    }
    kept = {name: value for name, value in fields.items() if value}
    return {**arguments_of(layer, module), "training": bool(module.training), **kept}


def _build(layer: Layer, fields: Mapping[str, Any]) -> Any:
    arguments = {name: value for name, value in fields.items() if name not in _FIELDS}
    parts = Parts(
        parameters=_section(layer, fields, "parameters"),
        buffers=_section(layer, fields, "buffers"),
        modules=_section(layer, fields, "modules"),
    )
    _check_parts(layer, fields, parts)
    _check_release(layer, arguments)
    try:
        module = construct(layer, arguments, parts)
    except Exception as error:  # whatever a constructor raises for bad arguments
        raise Corrupt(
            f"the stored arguments of a {layer.name} do not make one: {error!s:.200}"
        ) from error
    if reason := mismatch(layer, module, parts):
        raise Corrupt(f"a stored {layer.name} {reason}")
    try:
        _fill(layer, module, parts, frozenset(fields.get("transient", ())))
    except (KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"a stored {layer.name} has a bad name: {error!s:.200}") from error
    module.training = fields["training"]
    return module


def _section(layer: Layer, fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = fields.get(name, {})
    if type(section) is not dict or not all(type(key) is str for key in section):
        raise Corrupt(f"{name} of a {layer.name} is not a table of names")
    return section


def _check_parts(layer: Layer, fields: Mapping[str, Any], parts: Parts) -> None:
    import torch

    transient = fields.get("transient", [])
    right = (
        isinstance(fields["training"], bool)
        and all(type(p) in {torch.nn.Parameter, type(None)} for p in parts.parameters.values())
        and all(type(b) in {torch.Tensor, type(None)} for b in parts.buffers.values())
        and all(m is None or isinstance(m, torch.nn.Module) for m in parts.modules.values())
        and isinstance(transient, list)
        and all(isinstance(name, str) and name in parts.buffers for name in transient)
    )
    if not right:
        raise Corrupt(f"a {layer.name} holds a value of a wrong type")


def _check_release(layer: Layer, arguments: Mapping[str, Any]) -> None:
    import torch

    kind = locate(layer)
    parameters = {} if kind is None else inspect.signature(kind.__init__).parameters
    flexible = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    unknown = [name for name in arguments if name not in parameters and not flexible]
    if kind is None or unknown:
        what = f"torch.nn.{layer.name}" + (f" with {unknown[0]}=" if unknown else "")
        raise EnvironmentMismatch(
            f"Needs {what}, which torch {torch.__version__} does not have.",
            hint='python -m pip install --upgrade "torch>=2.1"',
        )


def _fill(layer: Layer, module: Any, parts: Parts, transient: frozenset[str]) -> None:
    """Give a twin its tensors and children; names were compared before unless the layer is open."""
    if layer.name == "ParameterList":
        module.extend(parts.parameters.values())
    elif layer.name == "ParameterDict":
        module.update(parts.parameters)
    elif layer.name in OPEN:
        for name, parameter in parts.parameters.items():
            module.register_parameter(name, parameter)
        for name, buffer in parts.buffers.items():
            module.register_buffer(name, buffer, persistent=name not in transient)
        for name, child in parts.modules.items():
            module.register_module(name, child)
    else:
        for name, value in [*parts.parameters.items(), *parts.buffers.items()]:
            if value is not None:
                setattr(module, name, value)  # recurrent layers follow their weights by setattr
        for name, child in parts.modules.items():
            module._modules[name] = child  # noqa: SLF001 - a child may be of another class


SPECS: Final[tuple[TypeSpec, ...]] = tuple(
    TypeSpec(
        id=f"torch.nn.{layer.name}",
        locate=partial(locate, layer),
        classes=(f"torch.nn.modules.{layer.module}:{layer.name}",),
        encode=partial(_encode, layer),
        build=partial(_build, layer),
        fields=_FIELDS | {name for name, _, mark in layer.arguments if mark != "@"},
        required=frozenset({"training"}),
        transparent=frozenset({"parameters", "buffers", "modules"}),
    )
    for layer in LAYERS.values()
)
