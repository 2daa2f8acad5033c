"""Modules of the user's own classes: kept as state and facts, loaded into an instance.

The file never names code that would be run. A class is constructed only when the caller
registered it beforehand, and an instance is filled only after every tensor was accounted for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.frameworks.torch import (
    classes as torch_classes,
)
from holdfast.frameworks.torch.classes import class_name, foreign_facts, nested_facts
from holdfast.frameworks.torch.match import Stored, fill

__all__ = ["SPEC", "spec_of", "stored_of"]

_LOG: Final = logging.getLogger("holdfast")


def _encode(module: Any) -> dict[str, Any]:
    from torch.nn.parameter import is_lazy

    _refuse_wrappers(module)
    persistent = set(module.state_dict(keep_vars=True)) if _plain_state(module) else None
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    if any(is_lazy(value) for value in parameters.values()):
        raise Unsupported(
            f"{class_name(type(module))} has lazy layers without parameters; run one batch "
            "through the model first.",
            hint="model(first_batch)",
        )
    optional = {
        "uses": nested_facts(module),
        "unlike": [n for n, m in module.named_modules() if m.training != module.training],
        "parameters": parameters,
        "buffers": buffers,
        "transient": [] if persistent is None else sorted(buffers.keys() - persistent),
        "extra": {path: _frozen(value) for path, value in _extra_state(module).items()},
    }
    kept = {name: value for name, value in optional.items() if value}
    facts = foreign_facts(module)
    facts["arguments"] = _frozen(facts["arguments"])
    return {**facts, "training": bool(module.training), **kept}


def _frozen(value: Any) -> Any:
    """Write containers as tagged tuples, which are complete before an object is built from them."""
    if type(value) in {list, tuple}:
        return (type(value).__name__, *map(_frozen, value))
    if type(value) is dict:
        return ("dict", *((_frozen(key), _frozen(item)) for key, item in value.items()))
    return value


def _thawed(value: Any) -> Any:
    if type(value) is not tuple:
        return value
    tag, items = value[0], value[1:]
    if tag == "dict":
        return {_thawed(key): _thawed(item) for key, item in items}
    if tag not in {"list", "tuple"}:
        raise Corrupt(f"unknown container {tag!r:.60}")
    return [*map(_thawed, items)] if tag == "list" else tuple(map(_thawed, items))


def _plain_state(module: Any) -> bool:
    """Say that no state_dict hook renames the keys, so that names tell what is persistent."""
    return not any(child._state_dict_hooks for child in module.modules())  # noqa: SLF001 - no public way


def _refuse_wrappers(module: Any) -> None:
    for attribute, package in (("_orig_mod", "torch._dynamo"), ("module", "torch.nn.parallel")):
        if type(module).__module__.startswith(package):
            raise Unsupported(
                f"{class_name(type(module))} only wraps a model; save the model inside it.",
                hint=f"holdfast.save(model.{attribute}, name)",
            )


def _extra_state(module: Any) -> dict[str, Any]:
    import torch

    default = torch.nn.Module.get_extra_state
    return {
        path: child.get_extra_state()
        for path, child in module.named_modules()
        if type(child).get_extra_state is not default
    }


def stored_of(fields: Mapping[str, Any]) -> Stored:
    """Return the state in a foreign node's fields, checked for its types.

    Raises:
        Corrupt: A field has the wrong type.
    """
    tensors: dict[str, Any] = {}
    for section in ("parameters", "buffers"):
        part = fields.get(section, {})
        if type(part) is not dict or not all(isinstance(name, str) for name in part):
            raise Corrupt(f"{section} of a module are not a table of names")
        tensors |= part
    transient, extra = fields.get("transient", []), fields.get("extra", {})
    if type(transient) is not list or type(extra) is not dict:
        raise Corrupt("the state of a module has a wrong type")
    thawed = {str(path): _thawed(value) for path, value in extra.items()}
    return Stored(tensors, frozenset(map(str, transient)), thawed)


def _build(fields: Mapping[str, Any]) -> Any:
    """Construct a registered class and fill it; refuse any other."""
    import torch

    name, source = fields["class"], fields["source"]
    arguments = _thawed(fields["arguments"])
    if not isinstance(name, str) or not isinstance(fields["training"], bool):
        raise Corrupt("a module of a user's class has no class name or training flag")
    kind = torch_classes.registered_as(name)
    if kind is None:
        raise EnvironmentMismatch(_needs(name, source), hint=_into_hint(name, arguments))
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise EnvironmentMismatch(
            f"{name} is registered, but its constructor arguments were not known when it was "
            "saved: not every parameter of the constructor is an attribute with a plain value.",
            hint=_into_hint(name, None),
        )
    here = torch_classes.source_digest(kind)
    if source is not None and here is not None and here != source:
        _LOG.warning(
            "the source of %s changed since it was saved: %.8s then, %.8s now", name, source, here
        )
    stored = stored_of(fields)
    with torch.random.fork_rng():
        module = _constructed(name, kind, arguments)
    fill(module, stored)
    _restore_flags(module, fields)
    return module


def _needs(name: str, source: object) -> str:
    known = f"source {source:.8}" if isinstance(source, str) else "source not known"
    short = name.rpartition(".")[2]
    return (
        f"Needs {name} ({known}): Holdfast runs no code named by a file, so give an instance "
        f"to fill, or register the class before loading: holdfast.register({short})."
    )


def _into_hint(name: str, arguments: object) -> str:
    short = name.rpartition(".")[2]
    given = "..."
    if isinstance(arguments, dict) and all(str(key).isidentifier() for key in arguments):
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f'holdfast.load("REF", into={short}({given if len(given) < 200 else "..."}))'


def _constructed(name: str, kind: type, arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except Exception as error:  # the user's constructor may raise anything
        raise EnvironmentMismatch(
            f"{name} cannot be constructed with the arguments it was saved with: "
            f"{type(error).__name__}: {error!s:.200}",
            hint=_into_hint(name, None),
        ) from error


def _restore_flags(module: Any, fields: Mapping[str, Any]) -> None:
    unlike = fields.get("unlike", [])
    if type(unlike) is not list:
        raise Corrupt("the training flags of a module have a wrong type")
    for path, child in module.named_modules():
        child.training = fields["training"] != (path in unlike)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(fields["parameters"][name].requires_grad)


def _module_class() -> type:
    import torch

    kind: type = torch.nn.Module
    return kind


SPEC: Final = TypeSpec(
    id="torch.Module",
    locate=_module_class,
    classes=(),
    encode=_encode,
    build=_build,
    fields=frozenset(
        {
            "class",
            "arguments",
            "source",
            "uses",
            "training",
            "unlike",
            "parameters",
            "buffers",
            "transient",
            "extra",
        }
    ),
    required=frozenset({"class", "arguments", "source", "training"}),
    transparent=frozenset({"parameters", "buffers"}),
)


def spec_of(kind: type) -> TypeSpec:
    """Return the spec that keeps instances of exactly ``kind`` as state; only for encoding."""
    return replace(SPEC, locate=lambda: kind)
