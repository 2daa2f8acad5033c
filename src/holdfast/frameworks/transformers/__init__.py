"""Hugging Face transformers: models, tokenizers, pipelines, adapters; code of theirs is not run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.torch.devices import choose_device
from holdfast.frameworks.transformers import folders, lora, models, run, types
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
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "transformers"
TYPES: Final[tuple[TypeSpec, ...]] = types.SPECS
READS: Final[Mapping[str, Callable[[Path], Any]]] = {
    "huggingface": folders.read_folder,
    "peft": folders.read_adapter,
}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {"folder": folders.write_folder}


def owns(model: object) -> bool:
    """Say whether ``model`` is an object of these packages, or plain containers of some."""
    imported = any(name in sys.modules for name in types.PACKAGES)
    return imported and any(map(types.is_ours, types.items_of(model)))


def pack(model: Any, registry: Registry) -> Payload:
    """Encode models, tokenizers and processors, alone or in plain containers.

    Raises:
        UnsafeContent: Something of it is code of the model's own.
        Unsupported: Something would be lost; the message names it.
    """
    encoded = _encoded(model, registry)
    facts = {}
    device = next((str(t.device) for t in _tensors(model) if t.device.type != "cpu"), None)
    if device is not None:
        facts["device"] = device
    spec = types.kind_of(model)
    if spec is not None and spec.id == lora.SPEC.id:
        facts["base"] = lora.base_digest(lora.base_of(model))
    return Payload(
        structure=encoded.structure,
        tensors=encoded.tensors,
        files=encoded.files,
        facts=facts,
    )


def _encoded(model: Any, registry: Registry) -> codec.Encoded:
    return codec.encode(model, types.Extended.over(registry), label="model")


def _tensors(model: Any) -> Any:
    for item in types.items_of(model):
        module = types.model_of(item)
        if hasattr(module, "parameters"):
            yield from module.parameters()


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build what was stored; tensors are views of the store's files.

    Raises:
        MissingExtra: transformers is not installed.
        Corrupt, UnsafeContent, Unsupported: What is kept is not what ``pack`` writes.
        PartialLoad: The tensors do not match this release's class.
        UsageError: ``into=`` or ``rename=`` was given.
    """
    if options.rename is not None or (options.into is not None and not _is_adapter(opened)):
        raise UsageError(
            "into= and rename= are for PyTorch modules; a transformers model is built whole.",
            hint='model = holdfast.load("REF")',
        )
    import_extra("transformers", needed_for="Loading a transformers model")
    device = choose_device(options.device, opened.facts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the packages call among themselves
        if options.into is not None:
            return _onto(opened, registry, options.into)
        model = codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)
    if device != "cpu":
        for item in types.items_of(model):
            module = types.model_of(item)
            if hasattr(module, "parameters"):
                module.to(device)
            if hasattr(item, "device") and not hasattr(item, "named_modules"):
                item.device = next(module.parameters()).device
    return model


def _is_adapter(opened: Opened) -> bool:
    root = opened.structure.nodes[opened.structure.root]
    return bool(root[0] == "object" and opened.structure.types[root[1]] == lora.SPEC.id)


def _onto(opened: Opened, registry: Registry, base: Any) -> Any:
    """Put a stored adapter onto the caller's base, which must be the one it was made for."""
    spec = types.kind_of(base)
    if spec is None or spec.id != models.SPEC.id:
        raise UsageError(
            f"into= takes the adapter's base, a transformers model, not a {type(base).__name__}.",
            hint='base = holdfast.load("BASE"); holdfast.load("REF", into=base)',
        )

    def onto(fields: Mapping[str, Any]) -> Any:
        lora.refuse_other(fields["base"], base)
        return lora.onto(fields, base)

    builds: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        models.SPEC.id: dict,
        lora.SPEC.id: onto,
    }
    specs = {
        name: replace(spec, build=builds[name]) if name in builds else spec
        for name, spec in registry.by_id.items()
    }
    bound = Registry(specs, registry.by_class)
    return codec.decode(opened.structure, opened.tensors, bound, opened.audit, opened.files)


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare configurations, settings and files, then every tensor bit by bit."""
    live, again = _encoded(model, registry), _encoded(built, registry)
    if live.structure != again.structure:
        extended = types.Extended.over(registry)
        found = codec.first_difference(model, built, extended, label="model")
        return found or "The model comes back with other settings"
    for one, other in zip(types.items_of(model), types.items_of(built), strict=True):
        modules = types.model_of(one), types.model_of(other)
        if hasattr(modules[0], "named_modules"):
            found = next(models.changes(*modules), None)
            if found is not None:
                return f"A module comes back otherwise: {found}"
    for name, data in live.tensors.items():
        if not codec.same_bytes(data.load(), again.tensors[name].load()):
            return f"The tensor {name} comes back with other numbers"
    for name, content in live.files.items():
        if not codec.same_bytes(content, again.files[name]):
            return f"The file {name} comes back with other bytes"
    return None


def requires(model: Any) -> tuple[str, ...]:
    """Return the packages that change the answers."""
    found = {
        spec.id.partition(".")[0] for spec in map(types.kind_of, types.items_of(model)) if spec
    }
    further = tuple(name for name in ("peft", "sentence_transformers") if name in found)
    return (*further, "transformers", "torch", "tokenizers")


def methods(model: Any) -> tuple[str, ...]:
    """Return what can be called; see ``run.methods``."""
    return run.methods(model)


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Answer inputs; see ``run.predict``."""
    return run.predict(model, method, inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs; see ``run.synthetic``."""
    return run.synthetic(model, rows, seed)


def steady(model: Any) -> AbstractContextManager[None]:
    """Fix seeds and restore everything; see ``run.steady``."""
    return run.steady(model)
