"""From a live Keras model to its judged configuration, and back to a model without numbers."""

from __future__ import annotations

import json
import logging
import math
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Final

import numpy as np

from holdfast.errors import (
    Corrupt,
    EnvironmentMismatch,
    HoldfastError,
    UnsafeContent,
    Unsupported,
)
from holdfast.frameworks.keras.imported import the_keras
from holdfast.frameworks.keras.judge import REGISTER, Judged, judge
from holdfast.frameworks.keras.later import without_later
from holdfast.plugins import import_extra

__all__ = ["bounded", "build", "describe", "registered_names"]

_LOG: Final = logging.getLogger("holdfast")
_NEEDED_FOR: Final = "a Keras model"
# Modules of Keras in which layers and models are, and models of the module "keras".
_LAYERS: Final = frozenset({"keras.layers", "keras._legacy.layers", "keras.src.models.functional"})
_MODELS: Final = frozenset({"Model", "Sequential"})
# Items of metrics and of what layers make beside their variables.
_SPARE: Final = 1 << 24


def registered_names() -> frozenset[str]:
    """Return the names under which the program registered classes and functions with Keras."""
    keras = the_keras()
    state = import_extra("keras.src.backend.common.global_state", needed_for=_NEEDED_FOR)
    scoped = state.get_global_attribute("custom_objects_scope_dict", {})
    return frozenset((*keras.saving.get_custom_objects(), *scoped))


def describe(model: Any) -> dict[str, Any]:
    """Return a model's configuration as JSON would give it back, judged.

    Raises:
        Unsupported: It holds code or what cannot be written as JSON; the message says where.
    """
    library = import_extra("keras.src.saving.serialization_lib", needed_for=_NEEDED_FOR)
    try:
        with library.ObjectSharingScope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lambdas, which are refused below
            _number_all()
            config = library.serialize_keras_object(model)
        config = json.loads(json.dumps(config))
    except NotImplementedError as error:
        raise Unsupported(
            f"{type(model).__name__} does not say how it is made: {error!s:.200}",
            hint="def get_config(self): return {**super().get_config(), 'units': self.units}\n"
            "# of the class: every argument of its constructor by name",
        ) from error
    except Exception as error:
        raise Unsupported(
            f"The configuration of {type(model).__name__} cannot be kept, which happens where it "
            f"holds code or an object that is no part of Keras: {error!s:.200}",
            hint=REGISTER,
        ) from error
    _renumber(config)
    try:
        judged = judge(config, registered_names(), strangers=True).config
    except (UnsafeContent, EnvironmentMismatch, Corrupt) as error:
        said = error.message.removeprefix("UNSAFE  ").partition(". Nothing")[0]
        raise Unsupported(
            f"{said.rstrip('.')}. Code is never kept in a file, and names only of what is "
            "registered.",
            hint=error.hint if isinstance(error, UnsafeContent) else REGISTER,
        ) from error
    return dict(judged)


class _Known(dict[int, dict[str, Any]]):
    """Says of every object that it was met before, so that Keras writes a number to each.

    Keras would write it to the second and later occurrences and then to the first, of which models
    in models hold a copy by then.
    """

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: int) -> dict[str, Any]:
        return {}


def _number_all() -> None:
    state = import_extra("keras.src.backend.common.global_state", needed_for=_NEEDED_FOR)
    state.set_global_attribute("shared_objects/id_to_config_map", _Known())


def _renumber(config: Any) -> None:
    """Number shared layers in the order of the tree, and forget other sharing.

    Keras numbers objects by their addresses, also objects that are gone by then, whose addresses
    others may have; and to be shared means nothing for what has no state.
    """
    groups: dict[int, list[dict[str, Any]]] = {}
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            number = item.pop("shared_object_id", None)
            if isinstance(number, int) and _may_share(item):
                groups.setdefault(number, []).append(item)
            todo.extend(reversed(item.values()))
        elif isinstance(item, list):
            todo.extend(reversed(item))
    shared = (items for items in groups.values() if len(items) > 1)
    for place, items in enumerate(shared):
        for item in items:
            item["shared_object_id"] = place


def _may_share(item: dict[str, Any]) -> bool:
    """Say whether an object may be a layer or a model."""
    module = item.get("module") or ""
    if module == "keras":
        return item.get("class_name") in _MODELS
    return module in _LAYERS or not module.startswith("keras.")


def build(config: Any, items: int, *, fresh: bool = False) -> Any:
    """Build a model from its configuration.

    Args:
        config: As read from JSON; it is judged here.
        items: Items of all stored variables; a model that asks for many more is refused before it
            takes memory for them.
        fresh: Draw the numbers of its layers as for a new model; else they are zero, for all of
            them are stored.

    Raises:
        UnsafeContent: The configuration holds code or names what is no part of a model.
        EnvironmentMismatch: It needs a class that the program did not register.
        Corrupt: Keras makes no model of it.
        Unsupported: A class of the program's own makes none of it.
    """
    names = registered_names()
    if not isinstance(config, dict):
        raise Corrupt("a Keras configuration is not a JSON object")
    plan = {name: value for name, value in config.items() if name != "compile_config"}
    judged = judge(plan, names)
    compilation = _compilation(config.get("compile_config"), names)
    library = import_extra("keras.src.saving.serialization_lib", needed_for=_NEEDED_FOR)
    with library.ObjectSharingScope(), bounded(items, zeros=not fresh):
        known = without_later(judged.config)
        model = _made(judged, lambda: library.deserialize_keras_object(known))
        if compilation is not None:
            if not hasattr(model, "compile_from_config"):
                raise Corrupt("a configuration compiles what is no model")
            compiled = without_later(compilation.config)
            _made(compilation, lambda: model.compile_from_config(compiled))
    _name_operations(plan, model)
    keras = the_keras()
    if not isinstance(model, keras.layers.Layer):
        raise Corrupt(f"a configuration makes a {type(model).__name__}, which is no layer")
    return model


def _name_operations(config: Any, model: Any) -> None:
    """Give operations on arrays the names that they had; Keras before 3.11 counts them anew."""
    todo = [(config, model)]
    while todo:
        told, built = todo.pop()
        inner = told.get("config")
        plan = inner.get("layers") if isinstance(inner, dict) else None
        parts = getattr(built, "operations", None)
        if isinstance(built, the_keras().Sequential):
            parts = built.layers
            plan = [each for each in plan or () if each.get("class_name") != "InputLayer"]
        if not plan or not parts or len(plan) != len(parts):
            continue
        for each, part in zip(plan, parts, strict=True):
            name, module = each.get("name"), each.get("module")
            if isinstance(name, str) and str(module).startswith("keras.src.ops."):
                part.name = name
            todo.append((each, part))


def _compilation(config: Any, names: frozenset[str]) -> Judged | None:
    """Judge how a model was compiled; a loss of the program's own is not needed to predict."""
    if not config:
        return None
    try:
        return judge(config, names)
    except EnvironmentMismatch as error:
        _LOG.warning("the model comes back uncompiled: %s", error.message)
        return None


def _made(judged: Judged, make: Callable[[], Any]) -> Any:
    """Make something of a judged configuration; whatever Keras raises is the configuration's."""
    try:
        return make()
    except HoldfastError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        found = f"{type(error).__name__}: {said:.300}"
        if judged.custom:
            names = ", ".join(list(judged.custom)[:5])
            raise Unsupported(
                f"The model cannot be built from its configuration, in which classes of the "
                f"program's own take part ({names}): {found}",
                hint="def get_config(self): return {**super().get_config(), 'units': self.units}\n"
                "# of each class: every argument of its constructor by name",
            ) from error
        raise Corrupt(f"Keras makes no model of the configuration: {found}") from error


class _Allowance:
    """How many items variables may still have."""

    def __init__(self, items: int, *, zeros: bool) -> None:
        self.left = items
        self.zeros = zeros

    def take(self, shape: Any) -> None:
        sizes = shape if isinstance(shape, list | tuple) else (shape or 1,)
        if all(isinstance(size, int) for size in sizes):
            self.left -= math.prod(sizes)
        if self.left < 0:
            raise Corrupt("the configuration asks for more variables than are stored")


_allowed: Final[ContextVar[_Allowance | None]] = ContextVar("_allowed", default=None)
_lock: Final = threading.Lock()
_patches: Final = ExitStack()
_users: list[object] = []


@contextmanager
def bounded(items: int, *, zeros: bool) -> Iterator[None]:
    """Let layers make at most some more than ``items`` items of variables.

    With ``zeros`` all are zero: numbers drawn at random would be overwritten at once. Python's and
    numpy's generators, from which Keras takes seeds, are the same afterwards.
    """
    token = _allowed.set(_Allowance(2 * items + _SPARE, zeros=zeros))
    states = (random.getstate(), np.random.get_state())  # noqa: NPY002 - it is the global one
    user = object()
    with _lock:
        if not _users:
            _patch()
        _users.append(user)
    try:
        yield
    finally:
        with _lock:
            _users.remove(user)
            if not _users:
                _patches.close()
        _allowed.reset(token)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _patch() -> None:
    """Have layers and metrics ask before they make a variable; only inside ``bounded``."""
    keras = the_keras()
    for kind, name, drawn in (
        (keras.layers.Layer, "add_weight", True),
        (keras.metrics.Metric, "add_variable", False),
    ):
        original = getattr(kind, name)

        def asking(
            self: Any, *args: Any, original: Any = original, drawn: bool = drawn, **options: Any
        ) -> Any:
            allowance = _allowed.get()
            if allowance is None:
                return original(self, *args, **options)
            allowance.take(args[0] if args else options.get("shape", ()))
            zeros = drawn and allowance.zeros
            if zeros and len(args) > 1:
                args = (args[0], "zeros", *args[2:])
            elif zeros:
                options["initializer"] = "zeros"
            return original(self, *args, **options)

        setattr(kind, name, asking)
        _patches.callback(setattr, kind, name, original)


def items_of(stored: Mapping[str, Any]) -> int:
    """Count the items of tensors or arrays."""
    return sum(math.prod(each.shape) for each in stored.values())
