"""The twin of a ``torch.nn`` layer, and refusing instances that differ from it.

The twin is the layer constructed on torch's meta device, from the arguments that the table in
``layers`` reads: it takes no memory and no random numbers.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from holdfast.errors import Unsupported
from holdfast.frameworks.torch.layers import FUNCTIONS, LAYERS, OPEN, Layer

__all__ = [
    "Parts",
    "arguments_of",
    "construct",
    "layer_of",
    "locate",
    "mismatch",
    "parts_of",
    "refuse_changed",
]

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


# What takes torch's own hooks off again, by their class.
_HOOK_FIXES: Final = {
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm",
    "WeightNorm": "torch.nn.utils.remove_weight_norm",
}

_INITIALISERS: Final = frozenset({"fill_", "normal_", "uniform_", "zero_"})

# What ParameterList and ParameterDict keep beside their parameters.
_BOOKKEEPING: Final = frozenset({"_size", "_keys"})


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
    if layer is None or kind is not locate(layer):
        return None
    return layer


def locate(layer: Layer) -> Any:
    """Return the layer's class, None where this torch does not have it."""
    module = importlib.import_module(f"torch.nn.modules.{layer.module}")
    return getattr(module, layer.name, None)


def parts_of(module: Any) -> Parts:
    """Return what a live layer owns, empty slots included; the tables are its own, not copies."""
    return Parts(
        parameters=module._parameters,  # noqa: SLF001 - named_parameters hides the empty slots
        buffers=module._buffers,  # noqa: SLF001 - same
        modules=module._modules,  # noqa: SLF001 - same
    )


def arguments_of(layer: Layer, module: Any) -> dict[str, Any]:
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


def construct(layer: Layer, arguments: Mapping[str, Any], parts: Parts) -> Any:
    """Make the twin of a layer on the meta device; raises whatever the constructor raises."""
    import torch

    depth = arguments.get("num_layers", 0)
    if layer.name in {"TransformerEncoder", "TransformerDecoder"}:
        if depth != len(parts.modules.get("layers") or ()):
            raise ValueError("num_layers is not the number of layers")
    elif depth > len(parts.parameters):
        raise ValueError("num_layers is more than there are parameters")
    given = {**arguments, **_given_parts(layer, arguments, parts)}
    with _no_init(), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return locate(layer)(**given)


def _no_init() -> Any:
    """Return a mode in which initialisers do nothing.

    Some of them are Python on the meta device, whose first call imports for seconds.
    """
    from torch.overrides import TorchFunctionMode

    class NoInit(TorchFunctionMode):  # type: ignore[misc]  # torch is not typed here
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "") in _INITIALISERS:
                return args[0] if args else kwargs["tensor"]  # torch.nn.init passes it by name
            return func(*args, **(kwargs or {}))

    return NoInit()


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
    return construct(layer, arguments_of(layer, first), parts_of(first))


def mismatch(layer: Layer, twin: Any, parts: Parts) -> str | None:
    """Say how stored or live parts are not what the twin expects."""
    if layer.name in OPEN:
        return _open_mismatch(layer, parts)
    expected = parts_of(twin)
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
    _refuse_hooks(module, (place, call))
    try:
        parts = parts_of(module)
        twin = construct(layer, arguments_of(layer, module), parts)
    except Exception as error:  # whatever a constructor raises for a changed instance
        raise Unsupported(
            f"{place} ({layer.name}) cannot be rebuilt from its attributes: {error!s:.200}",
            hint=f"print(vars({call}))",
        ) from error
    if reason := mismatch(layer, twin, parts):
        raise Unsupported(
            f"{place} ({layer.name}) {reason}. Layers of torch.nn are kept as their class makes "
            "them; put the change into a module class of your own, or build the layer anew.",
            hint=f"print({call})",
        )
    _refuse_attributes(module, twin, (place, call))


def _refuse_hooks(module: Any, names: tuple[str, str]) -> None:
    place, call = names
    for key, hooks in vars(module).items():
        if "_hooks" in key and hooks:
            kind = type(next(iter(hooks.values()))).__name__
            fix = _HOOK_FIXES.get(kind)
            raise Unsupported(
                f"{place}.{key} holds a hook ({kind}); a hook is code and is not kept. Remove it, "
                "or put the layer into a module class of your own.",
                hint=f"{call}.{key}.clear()" if fix is None else f"{fix}({call})",
            )


def _refuse_attributes(module: Any, twin: Any, names: tuple[str, str]) -> None:
    place, call = names
    mine, made = vars(module), vars(twin)
    for key in [*mine, *made]:
        if (
            key in _STRUCTURE
            or "_hooks" in key
            or (key in _BOOKKEEPING and type(module).__name__ in OPEN)
        ):
            continue
        if key not in made:
            raise Unsupported(
                f"{place}.{key} is not an attribute that {type(module).__name__} makes and would "
                "be lost. Delete it, or keep it in a module class of your own.",
                hint=f"del {call}.{key}",
            )
        if key not in mine or not _same(mine[key], made[key]):
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
