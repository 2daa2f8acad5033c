"""Which framework keeps which model: the adapters, asked in a fixed order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from enum import Enum
from importlib import import_module
from typing import Any, Final, cast

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.standard import enum_spec
from holdfast.errors import Corrupt, UsageError
from holdfast.frameworks.base import Adapter, LoadOptions, Opened, Payload

__all__ = [
    "Adapter",
    "LoadOptions",
    "Opened",
    "Payload",
    "adapter_for",
    "adapter_named",
    "register",
    "registry",
]

# Asked in this order; "python" takes whatever the codec can keep, so it is last.
_MODULES: Final = {
    name: f"holdfast.frameworks.{name}" for name in ("torch", "sklearn", "onnx", "python")
}

_registered: dict[str, TypeSpec] = {}


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
    return _registry(tuple(_registered.values()))


@functools.lru_cache(maxsize=4)
def _registry(registered: tuple[TypeSpec, ...]) -> Registry:
    specs = [*codec.TYPES, *registered]
    for framework in _MODULES:
        specs.extend(adapter_named(framework).TYPES)
    return Registry.of(specs)


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
        UsageError: The class is local to a function or a lambda's, so that it cannot be found
            again, or the name is taken.
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
    key = f"{cls.__module__}:{cls.__qualname__}"
    identifier = "user." + (name or f"{cls.__module__}.{cls.__qualname__}")
    for known in list(_registered.values()):
        if known.id == identifier and known.classes != (key,):
            raise UsageError(
                f"The name {identifier!r} is registered for {known.classes[0]} already.",
                hint=f"holdfast.register({cls.__qualname__}, name='another-name')",
            )
    _registered[identifier] = (
        enum_spec(cls, identifier)
        if issubclass(cls, Enum)
        else TypeSpec(
            id=identifier, locate=lambda: cls, classes=(key,), encode=vars, attributes=True
        )
    )


def _is_module_class(cls: type) -> bool:
    return any(
        base.__module__ == "torch.nn.modules.module" and base.__name__ == "Module"
        for base in cls.__mro__
    )
