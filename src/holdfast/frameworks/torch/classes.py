"""The user's own module classes: what is told of them, and which the caller vouches for."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from holdfast import frameworks
from holdfast.codec.registry import UNUSABLE
from holdfast.errors import EnvironmentMismatch, UsageError

__all__ = [
    "class_name",
    "foreign_facts",
    "nested_facts",
    "register",
    "registered_as",
    "source_digest",
]


class Registered(NamedTuple):
    """A class the caller vouches for.

    Attributes:
        kind: The class.
        arguments: Reads the constructor's arguments from an instance; None: by attribute names.
    """

    kind: type
    arguments: Callable[[Any], Mapping[str, Any]] | None


_REGISTERED: dict[str, Registered] = {}


def register(
    cls: type,
    *,
    name: str | None = None,
    arguments: Callable[[Any], Mapping[str, Any]] | None = None,
) -> None:
    """Allow a module class of your own to be constructed at load.

    Args:
        cls: A subclass of ``torch.nn.Module``.
        name: Its name in files; default ``module.Class``, which is also what an unregistered
            class is saved under.
        arguments: Returns the constructor's keyword arguments for an instance, plain values only.
            Default: the attributes that carry the names of the constructor's parameters.

    Raises:
        UsageError: Not a module class, or the name stands for another class already.
    """
    import torch

    if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
        raise UsageError(
            f"{cls!r:.80} is not a subclass of torch.nn.Module.",
            hint="holdfast.register(MyModule)",
        )
    name = name or class_name(cls)
    known = _REGISTERED.get(name)
    if known is not None and class_name(known.kind) != class_name(cls):
        raise UsageError(
            f"{name!r} is registered for {class_name(known.kind)} already.",
            hint=f"holdfast.register({cls.__name__}, name={name + '2'!r})",
        )
    _REGISTERED[name] = Registered(cls, arguments)


def registered_as(name: str) -> type | None:
    """Return the class that the caller, or an installed package, registered under a stored name.

    Raises:
        EnvironmentMismatch: Nobody did, and an installed package that registers classes is broken.
    """
    broken = frameworks.installed().broken if name not in _REGISTERED else ()
    registered = _REGISTERED.get(name)
    if registered is None and broken:
        raise EnvironmentMismatch(
            f"Needs {name}, a class of the saver's own. {UNUSABLE} {'; '.join(broken)}.",
            hint=f'holdfast.load("REF", into={name.rpartition(".")[2]}(...))',
        )
    return None if registered is None else registered.kind


def class_name(kind: type) -> str:
    """Return the import path of a class as people write it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _stored_name(kind: type) -> str:
    for name, registered in _REGISTERED.items():
        if registered.kind is kind:
            return name
    return class_name(kind)


def source_digest(kind: type) -> str | None:
    """Return the SHA-256 of the class's source text, None where Python cannot find it."""
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def foreign_facts(module: Any) -> dict[str, Any]:
    """Return import path, constructor arguments and source digest of a module's class."""
    kind = type(module)
    name = _stored_name(kind)
    registered = _REGISTERED.get(name)
    if registered is not None and registered.kind is kind and registered.arguments is not None:
        arguments: Mapping[str, Any] | None = dict(registered.arguments(module))
    else:
        arguments = _guessed_arguments(module)
    return {"class": name, "arguments": arguments, "source": source_digest(kind)}


def _guessed_arguments(module: Any) -> dict[str, Any] | None:
    """Read each constructor parameter from the attribute of its name; None when one has none."""
    try:
        parameters = list(inspect.signature(type(module)).parameters.values())
    except (TypeError, ValueError):
        return None
    held, arguments = vars(module), {}
    for parameter in parameters:
        simple = parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        if not simple or parameter.name not in held or not _plain(held[parameter.name]):
            return None
        arguments[parameter.name] = held[parameter.name]
    return arguments


def _plain(value: object) -> bool:
    todo: list[Any] = [value]
    for item in todo:
        if len(todo) > 10_000:
            return False
        if type(item) in {list, tuple}:
            todo.extend(item)
        elif type(item) is dict:
            todo.extend([*item, *item.values()])
        elif type(item) not in {type(None), bool, int, float, str}:
            return False
    return True


def nested_facts(module: Any) -> list[dict[str, Any]]:
    """Return the facts of the user's classes used inside ``module``, each class once."""
    kinds = {
        type(child)
        for child in module.modules()
        if not type(child).__module__.startswith("torch.nn.modules.")
    }
    kinds.discard(type(module))
    return [
        {"class": _stored_name(kind), "source": source_digest(kind)}
        for kind in sorted(kinds, key=class_name)
    ]
