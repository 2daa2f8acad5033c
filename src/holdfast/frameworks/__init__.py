"""Which framework keeps which model: the adapters, asked in a fixed order."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from importlib import import_module
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, Final, cast

from holdfast import codec
from holdfast.codec.registry import UNUSABLE, Further, Registry, TypeSpec
from holdfast.codec.standard import enum_spec
from holdfast.errors import EnvironmentMismatch, UsageError
from holdfast.frameworks.base import (
    OPTIONAL,
    REQUIRED,
    Adapter,
    LoadOptions,
    Opened,
    Payload,
)
from holdfast.plugins import ADAPTERS_GROUP, REQUIREMENTS, TYPES_GROUP, offer_installed
from holdfast.record import Structure

__all__ = [
    "Adapter",
    "LoadOptions",
    "Opened",
    "Payload",
    "adapter_for",
    "adapter_named",
    "adapters",
    "completed",
    "installed",
    "packages_of",
    "register",
    "registry",
    "steps_of",
]

# Adapter to the packages one of which its models come from, asked in this order: what builds on
# another framework comes before it. "python" takes whatever the codec can keep, so it is last.
_PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "transformers": ("transformers", "peft", "sentence_transformers"),
    "keras": ("keras",),
    "torch": ("torch",),
    "jax": ("jax",),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "statsmodels": ("statsmodels",),
    "spacy": ("spacy",),
    "sklearn": ("sklearn",),
    "onnx": ("onnx",),
    "tensorflow": ("tensorflow",),
    "python": (),
}
# First names of modules that say nothing of where a class of somebody's own comes from.
_NO_HOMES: Final = ("__main__", "holdfast", "jaxlib", "numpy")
# Adapters that know what other releases of their framework kept.
_MIGRATE: Final = ("sklearn",)
_MODULES: Final = {name: f"holdfast.frameworks.{name}" for name in _PACKAGES}

# Classes by their name in files: those the program registered, those that installed packages did.
_registered: dict[str, TypeSpec] = {}
_offered: dict[str, TypeSpec] = {}


def adapter_named(framework: str) -> Adapter:
    """Return the adapter whose id a content document names.

    Raises:
        Corrupt: This release has no such adapter.
    """
    if framework in _MODULES:
        return cast("Adapter", import_module(_MODULES[framework]))
    known, broken = _third_party()
    if framework in known:
        return known[framework]
    message = f"The version was packed by the adapter {framework!r:.60}, which this release lacks."
    if broken:
        message += f" {UNUSABLE} {'; '.join(broken)}."
    raise EnvironmentMismatch(
        message, hint="python -m pip install --upgrade holdfast-ml  # or the adapter's package"
    )


def takes_away(adapter: Adapter, options: LoadOptions, facts: Mapping[str, Any]) -> bool:
    """Say whether an adapter copies tensors to another device one by one, keeping none here.

    Args:
        adapter: The model's adapter.
        options: What the caller asked of the load.
        facts: The record's environment.

    Raises:
        UsageError: There is no such device here.
    """
    asked = getattr(adapter, "takes_away", None)
    return asked is not None and bool(asked(options, facts))


def adapter_for(model: object) -> Adapter:
    """Return the adapter that keeps ``model``; falls back to plain Python values.

    An adapter is asked only when a package of its models, or the adapter itself, was imported.
    Adapters of other distributions come first for models of packages that are not listed here.
    """
    listed = {"builtins", "numpy", *(p for names in _PACKAGES.values() for p in names)}
    if type(model).__module__.partition(".")[0] not in listed:
        for adapter in _third_party()[0].values():
            if adapter.owns(model):
                return adapter
    for framework, needs in _PACKAGES.items():
        if any(name in sys.modules for name in (*needs, _MODULES[framework])):
            adapter = adapter_named(framework)
            if adapter.owns(model):
                return adapter
    return adapter_named("python")


def adapters() -> Iterator[Adapter]:
    """Yield every adapter: ours, then those of installed distributions."""
    yield from map(adapter_named, _MODULES)
    yield from _third_party()[0].values()


@functools.lru_cache(maxsize=1)
def _third_party() -> tuple[dict[str, Adapter], tuple[str, ...]]:
    """Ask installed distributions for adapters; see ``docs/tutorials/an-adapter-of-your-own.md``.

    Each is declared in the entry point group ``holdfast.adapters``.
    """
    found: dict[str, Adapter] = {}

    def take(offer: Any) -> None:
        adapter = completed(offer)
        if adapter.ID in _MODULES or adapter.ID in found:
            raise UsageError(f"the adapter id {adapter.ID!r} is taken")
        found[adapter.ID] = adapter

    return found, offer_installed(ADAPTERS_GROUP, take)


def completed(offer: Any) -> Adapter:
    """Return an adapter of what another distribution offers, with the usual ways where it has none.

    Raises:
        UsageError: It lacks what every adapter must have.
    """
    lacks = [name for name in REQUIRED if not hasattr(offer, name)]
    if lacks:
        raise UsageError(f"it is no adapter, for it lacks {', '.join(lacks)}")
    usual = adapter_named("python")
    parts = {name: getattr(offer, name, getattr(usual, name)) for name in (*REQUIRED, *OPTIONAL)}
    return cast("Adapter", SimpleNamespace(**parts))


def packages_of(adapter: Adapter, model: Any, structure: Structure) -> tuple[str, ...]:
    """Return the import names of what loading a model needs, most important first.

    Args:
        adapter: The model's adapter, which names its own framework.
        model: The model.
        structure: Its structure, whose types may be of further frameworks.
    """
    families = (name.partition(".")[0] for name in structure.types)
    further = (family for family in families if family in REQUIREMENTS)
    return tuple(dict.fromkeys((*adapter.requires(model), *further, *_homes(model, structure))))


def _homes(model: Any, structure: Structure) -> Iterator[str]:
    """Yield the first names of the modules of classes that are no framework's."""
    own = {**_offered, **_registered}
    named = [own[name].classes[0] for name in structure.types if name in own]
    listed = {*_NO_HOMES, *REQUIREMENTS, *sys.stdlib_module_names}
    for module in (type(model).__module__, *named):
        first = module.partition(":")[0].partition(".")[0]
        if first not in listed:
            yield first


def registry(written: Mapping[str, str] | None = None) -> Registry:
    """Return the closed registry: the codec's types, every adapter's, and the caller's own.

    Args:
        written: For reading a version: the distributions that wrote it, with their releases. Where
            another one is installed, types migrate what that release kept.
    """
    offered = (spec for name, spec in _offered.items() if name not in _registered)
    whole = _registry((*offered, *_registered.values()))
    changed: dict[str, TypeSpec] = {}
    for framework in _MIGRATE:
        module = import_module(_MODULES[framework])
        changed.update({spec.id: spec for spec in module.migrating(whole.by_id, written or {})})
    return replace(whole, by_id={**whole.by_id, **changed}) if changed else whole


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
    theirs, faulty = _third_party()
    types = (spec for adapter in theirs.values() for spec in adapter.TYPES)
    return Further((*_offered.values(), *types), (*broken, *faulty))


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
        cls: A ``torch.nn.Module`` subclass, an enumeration, a ``NamedTuple``, or a class whose
            instances are their ``__dict__``.
        name: Name in files; default ``module.qualname`` of the class.
        arguments: For modules: instance to constructor arguments.

    Raises:
        UsageError: The name is taken, or instances are more than their ``__dict__``.
    """
    if _is_keras_class(cls) and arguments is None:
        import_module(_MODULES["keras"]).register(cls, name=name)
        return
    if _is_module_class(cls):
        adapter = import_module(_MODULES["torch"])
        adapter.register(cls, name=name, arguments=arguments)
        return
    if arguments is not None:
        raise UsageError(
            f"arguments= is for torch modules; {cls.__qualname__} is none.",
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


def steps_of(structure: Structure, written: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return what migrates in a load, in words; None where the state is of installed releases."""
    steps = import_module(f"{_MODULES['sklearn']}.migrations").steps_for(structure.types, written)
    return None if steps is None else tuple(f"since {s.since}: {s.change}" for s in steps)


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
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and cls.__dictoffset__ == 0:
        return _named_tuple_spec(cls, identifier)
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


def _named_tuple_spec(cls: Any, identifier: str) -> TypeSpec:
    fields = frozenset(cls._fields)
    return TypeSpec(
        id=identifier,
        locate=lambda: cls,
        classes=(f"{cls.__module__}:{cls.__qualname__}",),
        encode=lambda value: value._asdict(),
        build=lambda given: cls._make(given[name] for name in cls._fields),
        fields=fields,
        required=fields,
    )


def _is_keras_class(cls: type) -> bool:
    return any(base.__module__.startswith("keras.src.") for base in cls.__mro__)


def _is_module_class(cls: type) -> bool:
    return any(
        base.__module__ == "torch.nn.modules.module" and base.__name__ == "Module"
        for base in cls.__mro__
    )
