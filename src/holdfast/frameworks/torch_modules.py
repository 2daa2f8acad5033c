"""``nn.Module``s built from ``torch.nn`` layers: checked at save, rebuilt at load.

Each layer is kept by its constructor arguments (read by the table in ``torch_layers``), its own
parameters, buffers and children, and its training flag. The *twin* is the layer constructed from
those arguments on torch's meta device: no memory, no random numbers. At save an instance that
differs from its twin is refused, so nothing is lost silently; at load the twin receives the
stored tensors, which must be exactly the ones it expects.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.frameworks.torch_layers import FUNCTIONS, LAYERS, OPEN, Layer

__all__ = ["SPECS", "layer_of", "refuse_changed"]

# Entries of a module's __dict__ that are kept by other means or derived from what is kept.
_STRUCTURE: Final = frozenset(
    {
        "training",
        "_parameters",
        "_buffers",
        "_modules",
        "_non_persistent_buffers_set",
        "_is_full_backward_hook",
        "_compiled_call_impl",
        "_flat_weights",
        "_flat_weight_refs",
    }
)
# What ParameterList and ParameterDict keep beside their parameters.
_BOOKKEEPING: Final = frozenset({"_size", "_keys"})
_FIELDS: Final = frozenset({"training", "parameters", "buffers", "transient", "modules"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a layer owns, by name; None marks a slot that is registered but empty."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    buffers: Mapping[str, Any] = field(default_factory=dict)
    modules: Mapping[str, Any] = field(default_factory=dict)


def layer_of(module: Any) -> Layer | None:
    """Return the table's line for exactly the class of ``module``, None for any other class."""
    kind = type(module)
    layer = LAYERS.get(kind.__name__)
    if layer is None or kind is not _locate(layer):
        return None
    return layer


def _locate(layer: Layer) -> Any:
    """Return the layer's class, None where this torch does not have it."""
    module = importlib.import_module(f"torch.nn.modules.{layer.module}")
    return getattr(module, layer.name, None)


def _parts_of(module: Any) -> Parts:
    return Parts(
        parameters=module._parameters,  # noqa: SLF001 - named_parameters hides the empty slots
        buffers=module._buffers,  # noqa: SLF001 - same
        modules=module._modules,  # noqa: SLF001 - same
    )


def _arguments_of(layer: Layer, module: Any) -> dict[str, Any]:
    """Read the constructor arguments of an instance."""
    arguments: dict[str, Any] = {}
    for name, source, mark in layer.arguments:
        if mark == "@" or (mark == "*" and source in module._modules):  # noqa: SLF001 - see _parts_of
            continue
        value = attrgetter(source)(module)
        if mark == "*":
            arguments[name] = _function_name(value)
        elif mark == "?":
            arguments[name] = value is not None
        elif mark == "+":
            if value is None and module.weight is not None:
                arguments[name] = False
        elif mark == ":":
            arguments[name] = tuple(value[:-1])
        else:
            arguments[name] = tuple(value) if isinstance(value, tuple) else value
    return arguments


def _functions() -> dict[str, Any]:
    from torch.nn import functional

    return {name: getattr(functional, name) for name in FUNCTIONS if hasattr(functional, name)}


def _function_name(value: Any) -> str:
    for name, function in _functions().items():
        if value is function:
            return name
    raise ValueError(
        f"the function {getattr(value, '__qualname__', value)!s:.80} is not torch's own"
    )


def _construct(layer: Layer, arguments: Mapping[str, Any], parts: Parts) -> Any:
    """Make the twin of a layer on the meta device; raises whatever the constructor raises."""
    import torch

    depth = arguments.get("num_layers", 0)
    if layer.name in {"TransformerEncoder", "TransformerDecoder"}:
        if depth != len(parts.modules.get("layers") or ()):
            raise ValueError("num_layers is not the number of layers")
    elif depth > len(parts.parameters):
        raise ValueError("num_layers is more than there are parameters")
    given = {**arguments, **_given_parts(layer, arguments, parts)}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _locate(layer)(**given)


def _given_parts(layer: Layer, arguments: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """Return the arguments that are tensors, functions or children."""
    import torch

    given: dict[str, Any] = {}
    for name, source, mark in layer.arguments:
        if mark == "@" and parts.buffers.get(source) is not None:
            given[name] = torch.empty_like(parts.buffers[source], device="meta")
        elif mark == "*":
            given[name] = (
                parts.modules[source] if source in parts.modules else _functions()[arguments[name]]
            )
    if layer.name == "Transformer":
        given |= {"custom_encoder": torch.nn.Identity(), "custom_decoder": torch.nn.Identity()}
    elif layer.name in {"TransformerEncoder", "TransformerDecoder"}:
        kind = "encoder_layer" if layer.name == "TransformerEncoder" else "decoder_layer"
        # Copied num_layers times by the constructor, hence a twin and not the layer itself.
        given |= {kind: _first_twin(parts), "norm": parts.modules.get("norm")}
    return given


def _first_twin(parts: Parts) -> Any:
    import torch

    first = next(iter(parts.modules["layers"]), None)
    layer = layer_of(first)
    if layer is None:
        return torch.nn.Identity()
    return _construct(layer, _arguments_of(layer, first), _parts_of(first))


def _mismatch(layer: Layer, twin: Any, parts: Parts) -> str | None:
    """Say how stored or live parts are not what the twin expects."""
    if layer.name in OPEN:
        return _open_mismatch(layer, parts)
    expected = _parts_of(twin)
    if expected.modules.keys() != parts.modules.keys():
        return f"has the children {sorted(parts.modules)}, not {sorted(expected.modules)}"
    for kind, wanted, found in (
        ("parameter", expected.parameters, parts.parameters),
        ("buffer", expected.buffers, parts.buffers),
    ):
        for name in [*wanted, *found]:
            want, have = wanted.get(name), found.get(name)
            if (want is None) != (have is None) or (name in wanted) != (name in found):
                lacks = "an unexpected" if want is None else "no"
                return f"has {lacks} {kind} {name!r}"
            if want is not None and (reason := _tensor_mismatch(want, have)):
                return f"has the {kind} {name!r} with {reason}"
    return None


def _open_mismatch(layer: Layer, parts: Parts) -> str | None:
    for name in ("ModuleList", "Sequential", "ModuleDict"):
        if layer.name == name and (parts.parameters or parts.buffers):
            return f"has parameters or buffers of its own, which a {name} does not use"
    if layer.name == "ModuleList" and list(parts.modules) != [
        str(index) for index in range(len(parts.modules))
    ]:
        return "has children that are not numbered from 0"
    if layer.name.startswith("Parameter") and (parts.modules or parts.buffers):
        return f"has children or buffers, which a {layer.name} does not use"
    return None


def _tensor_mismatch(want: Any, have: Any) -> str | None:
    if have.shape != want.shape:
        return f"shape {tuple(have.shape)}, not {tuple(want.shape)}"
    inexact = have.is_floating_point() or have.is_complex()
    if inexact != want.is_floating_point() or (not inexact and have.dtype != want.dtype):
        return f"dtype {have.dtype}, not {want.dtype}"
    return None


def refuse_changed(module: Any, path: str | None) -> None:
    """Compare a layer with its twin and refuse what could not be kept.

    Args:
        module: An instance of a class in the table.
        path: Where it is in the model, for ``get_submodule``; empty for the model itself, None
            where the caller puts the place in front of the message.

    Raises:
        Unsupported: An attribute, hook, parameter or child is not the one its class makes.
    """
    layer = layer_of(module)
    if layer is None:
        return
    place = f"model.{path}" if path else "model" if path is not None else "layer"
    call = f"model.get_submodule({path!r})" if path else place
    try:
        parts = _parts_of(module)
        twin = _construct(layer, _arguments_of(layer, module), parts)
    except Exception as error:  # whatever a constructor raises for a changed instance
        raise Unsupported(
            f"{place} ({layer.name}) cannot be rebuilt from its attributes: {error!s:.200}",
            hint=f"print(vars({call}))",
        ) from error
    if reason := _mismatch(layer, twin, parts):
        raise Unsupported(
            f"{place} ({layer.name}) {reason}. Layers of torch.nn are kept as their class makes "
            "them; put the change into a module class of your own, or build the layer anew.",
            hint=f"print({call})",
        )
    _refuse_attributes(module, twin, (place, call))


def _refuse_attributes(module: Any, twin: Any, names: tuple[str, str]) -> None:
    place, call = names
    mine, made = vars(module), vars(twin)
    for key in [*mine, *made]:
        if key in _STRUCTURE or (key in _BOOKKEEPING and type(module).__name__ in OPEN):
            continue
        if "_hooks" in key:
            if len(mine.get(key, ())) != len(made.get(key, ())):
                raise Unsupported(
                    f"{place}.{key} holds a hook; a hook is code and is not kept. Remove it, or "
                    "put it into a module class of your own.",
                    hint=f"{call}.{key}.clear()",
                )
        elif key not in made:
            raise Unsupported(
                f"{place}.{key} is not an attribute that {type(module).__name__} makes and would "
                "be lost. Delete it, or keep it in a module class of your own.",
                hint=f"del {call}.{key}",
            )
        elif key not in mine or not _same(mine[key], made[key]):
            found = "is missing" if key not in mine else f"is {mine[key]!r:.60}"
            raise Unsupported(
                f"{place}.{key} {found} where the constructor of {type(module).__name__} makes "
                f"{made[key]!r:.60}; build the layer anew with the value you want.",
                hint=f"print(vars({call}))",
            )


def _same(mine: object, made: object) -> bool:
    if mine is made or (type(mine) is type(made) and repr(mine) == repr(made)):
        return True
    try:
        return bool(mine == made)
    except Exception:  # noqa: BLE001 - values that cannot be compared are not the same
        return False


def _encode(layer: Layer, module: Any) -> dict[str, Any]:
    refuse_changed(module, None)
    parts = _parts_of(module)
    transient = sorted(module._non_persistent_buffers_set)  # noqa: SLF001 - torch tells it nowhere else
    fields = {
        "parameters": dict(parts.parameters),
        "buffers": dict(parts.buffers),
        "transient": transient,
        "modules": dict(parts.modules),
    }
    kept = {name: value for name, value in fields.items() if value}
    return {**_arguments_of(layer, module), "training": bool(module.training), **kept}


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
        module = _construct(layer, arguments, parts)
    except Exception as error:  # whatever a constructor raises for bad arguments
        raise Corrupt(
            f"the stored arguments of a {layer.name} do not make one: {error!s:.200}"
        ) from error
    if reason := _mismatch(layer, module, parts):
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

    kind = _locate(layer)
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
        locate=partial(_locate, layer),
        classes=(f"torch.nn.modules.{layer.module}:{layer.name}",),
        encode=partial(_encode, layer),
        build=partial(_build, layer),
        fields=_FIELDS | {name for name, _, mark in layer.arguments if mark != "@"},
        required=frozenset({"training"}),
        transparent=frozenset({"parameters", "buffers", "modules"}),
    )
    for layer in LAYERS.values()
)
