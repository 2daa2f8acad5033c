"""PyTorch: state_dicts, modules built from ``torch.nn``, and modules of the user's own classes."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Corrupt, Unsupported, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.torch import (
    inputs as torch_inputs,
    match as torch_match,
    modules as torch_modules,
    program as torch_program,
    run as torch_run,
    state as torch_state,
    tensors as torch_tensors,
    twins as torch_twins,
)
from holdfast.frameworks.torch.classes import foreign_facts, register
from holdfast.frameworks.torch.devices import choose_device
from holdfast.frameworks.torch.match import Stored
from holdfast.plugins import import_extra

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "difference",
    "methods",
    "owns",
    "pack",
    "predict",
    "register",
    "requires",
    "steady",
    "synthetic",
    "takes_away",
    "unpack",
]

ID: Final = "torch"
TYPES: Final[tuple[TypeSpec, ...]] = (
    *torch_tensors.SPECS,
    *torch_modules.SPECS,
    torch_state.SPEC,
    torch_program.SPEC,
)
READS: Final[Mapping[str, Callable[[Path], Any]]] = {"torch-program": torch_program.read_program}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {"pt2": torch_program.write_program}

_NEEDED_FOR: Final = "Loading a PyTorch model"


def owns(model: object) -> bool:
    """Say whether ``model`` is a tensor, module or exported program, or containers of them."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "nn"):
        return False
    kinds = (torch.Tensor, torch.nn.Module)
    return any(isinstance(item, kinds) or torch_program.is_program(item) for item in _items(model))


def _items(model: object) -> Iterator[object]:
    """Walk plain containers; yields what is in them, each container once."""
    todo, seen = [model], set()
    while todo:
        item = todo.pop()
        if not isinstance(item, dict | list | tuple):
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            todo.extend(item.values() if isinstance(item, dict) else item)


def pack(model: Any, registry: Registry) -> Payload:
    """Encode a tensor, module or nested state; one tensor at a time is copied, when it is saved.

    The ``_metadata`` attribute of a state_dict (version numbers per layer) is left out: it is
    only used to upgrade state_dicts of old torch releases, which happens before a save.

    Raises:
        Unsupported: Something would be lost; the message names the attribute's path.
    """
    encoded = _encoded(model, registry)
    return Payload(
        structure=encoded.structure,
        tensors=encoded.tensors,
        files=encoded.files,
        facts=_facts(model, encoded),
    )


def _encoded(model: Any, registry: Registry) -> codec.Encoded:
    import torch

    foreign: dict[str, TypeSpec] = {}
    for item in _items(model):
        if isinstance(item, torch.nn.Module):
            for module in _checked(item, whole=item is model):
                kind = type(module)
                foreign[f"{kind.__module__}:{kind.__qualname__}"] = torch_state.spec_of(kind)
    extended = replace(registry, by_class={**registry.by_class, **foreign})
    return codec.encode(model, extended, label="model")


def _checked(model: Any, *, whole: bool) -> Iterator[Any]:
    """Yield the modules that are kept as state; refuse changed layers above them.

    Layers below other tables are checked when they are encoded, where their path is known.
    """
    todo, seen = [("", model)], set()
    while todo:
        path, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        if torch_twins.layer_of(module) is None:
            _refuse_parametrized(module, path)
            yield module
            continue
        if whole:
            torch_twins.refuse_changed(module, path)
        todo.extend((f"{path}.{name}" if path else name, c) for name, c in module.named_children())


def _refuse_parametrized(module: Any, path: str) -> None:
    if type(module).__module__ == "torch.nn.utils.parametrize":
        name = next(iter(module.parametrizations))
        raise Unsupported(
            f"model.{path}.{name} is parametrized, which is code and is not kept. Make the "
            "values permanent, or put the layer into a module class of your own.",
            hint="torch.nn.utils.parametrize.remove_parametrizations("
            f"model.get_submodule({path!r}), {name!r})",
        )


def _facts(model: Any, encoded: codec.Encoded) -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {}
    tensors = (
        tensor
        for item in _items(model)
        for tensor in (
            [*item.parameters(), *item.buffers()] if isinstance(item, torch.nn.Module) else [item]
        )
        if isinstance(tensor, torch.Tensor)
    )
    device = next((str(t.device) for t in tensors if t.device.type != "cpu"), None)
    if device is not None:
        facts["device"] = device
    if torch_state.SPEC.id in encoded.structure.types and isinstance(model, torch.nn.Module):
        told = foreign_facts(model)
        facts["classes"] = [{"class": told["class"], "source": told["source"]}]
    return facts


def takes_away(options: LoadOptions, facts: Mapping[str, Any]) -> bool:
    """Say whether ``unpack`` copies tensors to another device than the CPU, one by one.

    Raises:
        MissingExtra: torch is not installed.
        UsageError: There is no such device here.
    """
    import_extra("torch", needed_for=_NEEDED_FOR)
    return options.into is None and choose_device(options.device, facts) != "cpu"


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build what was stored, or fill ``options.into`` with it.

    Raises:
        MissingExtra: torch is not installed.
        Corrupt: The structure is not one that ``pack`` writes.
        PartialLoad: The tensors do not match ``into``; nothing was changed.
        EnvironmentMismatch: A user's class is needed; neither ``into`` nor ``register`` gave it.
        UsageError: ``into``, ``rename`` or ``device`` cannot be used.
    """
    import_extra("torch", needed_for=_NEEDED_FOR)
    device = choose_device(options.device, opened.facts)
    if options.into is not None:
        return _into(opened, registry, options)
    bound = _bind(registry, {"torch.Tensor": partial(torch_tensors.build_tensor, device=device)})
    model = _decode(opened, bound)
    if options.rename is not None:
        return _rename_keys(model, options.rename)
    if device != "cpu":
        for item in _items(model):
            if hasattr(item, "to") and hasattr(item, "named_modules"):
                item.to(device)
    return model


def _decode(opened: Opened, registry: Registry) -> Any:
    return codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)


def _bind(registry: Registry, builds: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> Registry:
    """Return a registry in which the given types are built another way."""
    specs = {
        id_: replace(spec, build=builds[id_]) if id_ in builds else spec
        for id_, spec in registry.by_id.items()
    }
    return Registry(specs, registry.by_class)


def _into(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    import torch

    if not isinstance(options.into, torch.nn.Module):
        raise UsageError(
            f"into= takes a torch.nn.Module, not a {type(options.into).__name__}.",
            hint='holdfast.load("REF", into=Net(...))',
        )
    builds: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        spec.id: _state_of for spec in torch_modules.SPECS
    }
    builds[torch_state.SPEC.id] = torch_state.stored_of
    stored = torch_match.flatten(_decode(opened, _bind(registry, builds)))
    torch_match.fill(options.into, torch_match.renamed(stored, options.rename))
    if options.device != "auto":
        options.into.to(choose_device(options.device, {}))
    return options.into


def _state_of(fields: Mapping[str, Any]) -> Stored:
    """Return the state below a layer's node without building the layer."""
    own = torch_state.stored_of({**fields, "extra": {}})
    tensors = {name: tensor for name, tensor in own.tensors.items() if tensor is not None}
    transient: set[str] = set(own.transient)
    extra: dict[str, Any] = {}
    children = fields.get("modules", {})
    if type(children) is not dict:
        raise Corrupt("the children of a layer are not a table of names")
    for name, child in children.items():
        if child is None:
            continue
        if not isinstance(child, Stored):
            raise Corrupt(f"the child {name!r:.60} of a layer is not a module")
        tensors |= {f"{name}.{key}": tensor for key, tensor in child.tensors.items()}
        transient |= {f"{name}.{key}" for key in child.transient}
        extra |= {f"{name}.{path}" if path else name: v for path, v in child.extra.items()}
    return Stored(tensors, frozenset(transient), extra)


def _rename_keys(model: Any, rename: str) -> Any:
    """Apply ``rename=`` to a plain table of tensors."""
    if type(model) not in {dict, OrderedDict}:
        raise UsageError(
            f"rename= changes names of a state_dict; this version holds a {type(model).__name__}.",
            hint=f'holdfast.load("REF", into=model, rename="{rename}")',
        )
    return type(model)(torch_match.renamed(Stored(model), rename).tensors)


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare two models' layers, settings and aliases, then every tensor bit by bit."""
    live, again = _encoded(model, registry), _encoded(built, registry)
    if live.structure != again.structure:
        return "The model comes back with other layers or settings"
    for name, data in live.tensors.items():
        if not codec.same_bytes(data.load(), again.tensors[name].load()):
            return f"The tensor {name} comes back with other numbers"
    for name, content in live.files.items():
        if not codec.same_bytes(content, again.files[name]):
            return f"The file {name} comes back with other bytes"
    return None


def requires(model: Any) -> tuple[str, ...]:
    """Return ``torch`` and the first names of the modules that other classes of its are from."""
    import torch

    parts = model.modules() if isinstance(model, torch.nn.Module) else ()
    homes = {type(part).__module__.partition(".")[0] for part in parts}
    return ("torch", *sorted(homes - {"torch", "__main__"}))


def methods(model: Any) -> tuple[str, ...]:
    """Return ``("forward",)`` for a module or program that can be called, else nothing."""
    import torch

    if torch_program.is_program(model):
        return ("forward",)
    if not isinstance(model, torch.nn.Module):
        return ()
    lazy = any(torch.nn.parameter.is_lazy(p) for p in [*model.parameters(), *model.buffers()])
    callable_ = type(model).forward is not torch.nn.Module.forward
    return ("forward",) if callable_ and not lazy else ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call the module in eval mode without gradients; see `torch_run.call`.

    Raises:
        UsageError: The method is not one of ``methods(model)``.
    """
    if method != "forward":
        raise UsageError(f"a torch module has no output method {method!r}; only 'forward'.")
    if torch_program.is_program(model):
        return torch_run.call_program(model, inputs)
    return torch_run.call(model, inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs from the first layer that knows its width, tried on the model; None otherwise."""
    if not methods(model) or torch_program.is_program(model):
        return None
    return torch_inputs.synthetic(model, rows, seed)


def steady(model: Any) -> AbstractContextManager[None]:
    """Fix seeds; restore generators, settings, attributes and buffers on exit."""
    return torch_run.steady(model)
