"""Which framework keeps which model: the adapters, asked in a fixed order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from importlib import import_module
from types import MemberDescriptorType
from typing import Any, Final, cast

from holdfast import codec
from holdfast.codec.registry import Further, Registry, TypeSpec
from holdfast.codec.standard import enum_spec
from holdfast.errors import Corrupt, UsageError
from holdfast.frameworks.base import Adapter, LoadOptions, Opened, Payload
from holdfast.plugins import TYPES_GROUP, offer_installed

__all__ = [
    "Adapter",
    "LoadOptions",
    "Opened",
    "Payload",
    "adapter_for",
    "adapter_named",
    "installed",
    "register",
    "registry",
]

# Asked in this order; "python" takes whatever the codec can keep, so it is last.
_MODULES: Final = {
    name: f"holdfast.frameworks.{name}" for name in ("torch", "sklearn", "onnx", "python")
}

# Classes by their name in files: those the program registered, those that installed packages did.
_registered: dict[str, TypeSpec] = {}
_offered: dict[str, TypeSpec] = {}


def adapter_named(framework: str) -> Adapter:
    """Return the adapter whose id a content document names.

    Raises:
        Corrupt: This release has no such adapter.
    """
    if framework not in _MODULES:
        raise Corrupt(
            f"The version was packed by the adapter {framework!r:.60}, which this release lacks.",
            hint="python -m pip install --upgrade holdfast-ml",
        )
    return cast("Adapter", import_module(_MODULES[framework]))


def adapter_for(model: object) -> Adapter:
    """Return the adapter that keeps ``model``; falls back to plain Python values."""
    for framework in _MODULES:
        adapter = adapter_named(framework)
        if adapter.owns(model):
            return adapter
    return adapter_named("python")


def registry() -> Registry:
    """Return the closed registry: the codec's types, every adapter's, and the caller's own."""
    offered = (spec for name, spec in _offered.items() if name not in _registered)
    return _registry((*offered, *_registered.values()))


@functools.lru_cache(maxsize=4)
def _registry(registered: tuple[TypeSpec, ...]) -> Registry:
    newest = {spec.classes: spec.id for spec in registered}
    # A class with two names is written under the newer and read under both.
    own = (s if newest[s.classes] == s.id else replace(s, classes=()) for s in registered)
    specs = [*codec.TYPES, *own]
    for framework in _MODULES:
        specs.extend(adapter_named(framework).TYPES)
    return replace(Registry.of(specs), further=installed)


def installed() -> Further:
    """Ask installed packages for the classes they register; see ``Registry.grow``.

    A distribution declares them in the entry point group ``holdfast.types``: a class, or a function
    without arguments that calls ``holdfast.register``. What the program registered stays as it is.
    """
    own = dict(_registered)
    broken = offer_installed(TYPES_GROUP, _take)
    _registered.update(own)
    for name in [name for name in _registered if name not in own]:
        _offered[name] = _registered.pop(name)
    return Further(tuple(_offered.values()), broken)


def _take(offer: object) -> None:
    if isinstance(offer, type):
        register(offer, arguments=None)
    elif callable(offer):
        offer()
    else:
        raise UsageError(f"it is a {type(offer).__name__}, neither a class nor a function")


def register(
    cls: type, *, name: str | None = None, arguments: Callable[[Any], Mapping[str, Any]] | None
) -> None:
    """Let a class of the caller be kept and built; the same call is needed at save and at load.

    Args:
        cls: A ``torch.nn.Module`` subclass, an enumeration, or a class whose instances are their
            ``__dict__``.
        name: Name in files; default ``module.qualname`` of the class.
        arguments: For modules: instance to constructor arguments.

    Raises:
        UsageError: The name is taken, or instances are more than their ``__dict__``.
    """
    if _is_module_class(cls):
        adapter = import_module(_MODULES["torch"])
        adapter.register(cls, name=name, arguments=arguments)
        return
    if arguments is not None:
        raise UsageError(
            f"arguments= is for torch modules; {cls.__qualname__} is kept by its __dict__.",
            hint=f"holdfast.register({cls.__qualname__})",
        )
    spec = _own_spec(cls, "user." + (name or f"{cls.__module__}.{cls.__qualname__}"))
    known = _registered.get(spec.id, _offered.get(spec.id, spec))
    if known.classes != spec.classes:
        raise UsageError(
            f"The name {spec.id!r} is registered for {known.classes[0]} already.",
            hint=f"holdfast.register({cls.__qualname__}, name='another-name')",
        )
    _registered.pop(spec.id, None)  # the newest comes last
    _registered[spec.id] = spec


class _Plain:
    """A class whose instances are their ``__dict__``."""


def _keeps_more(cls: type) -> bool:
    """Say whether instances have slots, or a base written in C with a content of its own."""
    slots = any(
        isinstance(member, MemberDescriptorType)
        for base in cls.__mro__
        for member in vars(base).values()
    )
    large = cls.__itemsize__ or cls.__basicsize__ > _Plain.__basicsize__
    return slots or bool(large) or not cls.__dictoffset__


def _own_spec(cls: type, identifier: str) -> TypeSpec:
    if issubclass(cls, Enum):
        return enum_spec(cls, identifier)
    if _keeps_more(cls):
        raise UsageError(
            f"An instance of {cls.__qualname__} is more than its __dict__: the class has __slots__ "
            "or derives from a built-in type, so something of it would be lost.",
            hint=f"class {cls.__name__}:  # without such a base and __slots__; data in attributes",
        )
    return TypeSpec(
        id=identifier,
        locate=lambda: cls,
        classes=(f"{cls.__module__}:{cls.__qualname__}",),
        encode=vars,
        attributes=True,
    )


def _is_module_class(cls: type) -> bool:
    return any(
        base.__module__ == "torch.nn.modules.module" and base.__name__ == "Module"
        for base in cls.__mro__
    )
