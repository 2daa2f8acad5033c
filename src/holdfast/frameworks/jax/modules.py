"""Modules of flax.nnx: their state by name, and what can be told of their class.

A module of flax's own classes is made again from a description. Of a class of the user the file
never names code that would be run: an instance is filled, after every leaf was accounted for.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch
from holdfast.frameworks.jax import layers as nnx_layers
from holdfast.frameworks.jax.arrays import imported
from holdfast.frameworks.jax.flax_types import is_variable
from holdfast.frameworks.jax.trees import Stored, fill
from holdfast.plugins import import_extra

__all__ = [
    "SPEC",
    "call",
    "class_name",
    "is_module",
    "leaves_of",
    "note_settings",
    "plain_settings",
    "put",
    "same_graph",
    "spec_of",
    "stored_of",
]

_LOG: Final = logging.getLogger("holdfast")
# Switches between training and use: no property of the model.
_SWITCHES: Final = frozenset({"deterministic", "use_running_average", "decode"})
_PLAIN: Final = (type(None), bool, int, float, str)


def is_module(value: object) -> bool:
    """Say whether a value is a module, optimiser or other node of flax.nnx; imports nothing."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return False
    bases = tuple(getattr(nnx, name) for name in ("Pytree", "Object") if hasattr(nnx, name))
    return isinstance(value, bases) and not is_variable(value)


def class_name(kind: type) -> str:
    """Return the import path of a class as people write it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def leaves_of(module: Any) -> dict[str, Any]:
    """Return a module's state by name: values of variables, random keys, counts, arrays."""
    leaves, names, _ = _state(module)
    return dict(zip(names, leaves, strict=True))


def _state(module: Any) -> tuple[list[Any], list[str], Any]:
    """Return leaves of the state, their names and what puts leaves together again."""
    tree_util = imported().tree_util
    state = import_extra("flax.nnx", needed_for="A module of Flax").state(module)
    variables, _ = tree_util.tree_flatten_with_path(state, is_leaf=is_variable)
    leaves, tree = tree_util.tree_flatten(state)
    names: list[str] = []
    for path, item in variables:
        name = _name(path)
        if not is_variable(item):
            names.append(name)
            continue
        inner = [below[1:] for below, _ in tree_util.tree_flatten_with_path(item)[0]]
        names += [".".join(filter(None, (name, _name(below)))) for below in inner]
    if len(names) != len(leaves) or len(set(names)) != len(names):
        raise Corrupt("the state of a module of flax.nnx has no names of its own")
    return leaves, names, tree


def _name(path: Sequence[Any]) -> str:
    parts = (
        str(getattr(key, attribute))
        for key in path
        for attribute in ("key", "idx", "name")
        if hasattr(key, attribute)
    )
    return ".".join(parts)


def put(module: Any, values: Mapping[str, Any]) -> None:
    """Give a module new values, which are known to fit; see ``trees.fill``."""
    _, names, tree = _state(module)
    nnx = import_extra("flax.nnx", needed_for="A module of Flax")
    nnx.update(module, tree.unflatten([values[name] for name in names]))


def plain_settings(module: Any) -> dict[str, Any]:
    """Return plain attributes of every module inside by name: widths, rates, modes."""
    nnx = import_extra("flax.nnx", needed_for="A module of Flax")
    found: dict[str, Any] = {}
    for path, node in nnx.iter_graph(module):
        if not is_module(node):
            continue
        for name, value in vars(node).items():
            if name.startswith("_") or name in _SWITCHES or type(value) not in _PLAIN:
                continue
            found[".".join((*map(str, path), name))] = value
    return dict(sorted(found.items()))


def note_settings(stored: Mapping[str, Any], target: Mapping[str, Any], kind: str) -> None:
    """Warn of settings in which what is filled is not like what was saved."""
    for name, value in stored.items():
        if name in target and target[name] != value:
            _LOG.warning(
                "%s was saved with %s=%r; the one that is filled has %r",
                kind, name, value, target[name],
            )  # fmt: skip


def _encode(module: Any) -> dict[str, Any]:
    kind = type(module)
    layers = _description(module)
    return {
        "class": class_name(kind),
        "source": _source_digest(kind),
        "layers": layers,
        "settings": {} if layers is not None else plain_settings(module),
        "state": leaves_of(module),
    }


def _compared(module: Any) -> dict[str, Any]:
    """Return what a round trip must give back; see ``same_graph`` for the rest."""
    return {"settings": plain_settings(module), "state": leaves_of(module)}


def _description(module: Any) -> list[Any] | None:
    """Return the description of a module if it says all of it, else None."""
    layers = nnx_layers.described(module)
    try:
        whole = layers is not None and same_graph(module, nnx_layers.made(layers))
    except (Corrupt, EnvironmentMismatch):
        return None
    return layers if whole else None


def same_graph(one: Any, other: Any) -> bool:
    """Compare everything of two modules but their arrays: classes, attributes, sharing."""
    nnx = import_extra("flax.nnx", needed_for="A module of Flax")
    return bool(nnx.graphdef(one) == nnx.graphdef(other))


def _source_digest(kind: type) -> str | None:
    """Return the SHA-256 of the class's source, None for flax's own or where there is none."""
    if kind.__module__.startswith("flax."):
        return None
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def stored_of(fields: Mapping[str, Any]) -> Stored:
    """Return what is stored of a module, for filling an instance; raises ``Corrupt``."""
    state, settings, name = fields["state"], fields["settings"], fields["class"]
    if type(state) is not dict or type(settings) is not dict or type(name) is not str:
        raise Corrupt("a module of flax.nnx is not stored as a table of names")
    return Stored(name, state, settings)


def _build(fields: Mapping[str, Any]) -> Any:
    """Make a module of flax's own classes and give it its state; refuse any other."""
    stored = stored_of(fields)
    if fields["layers"] is None:
        short = stored.kind.rpartition(".")[2]
        raise EnvironmentMismatch(
            f"Needs {stored.kind:.200}: Holdfast runs no code named by a file, so give an "
            "instance to fill.",
            hint=f'holdfast.load("REF", into={short:.60}(...))',
        )
    module = nnx_layers.made(fields["layers"])
    if not is_module(module):
        raise Corrupt("the description of a module is of something else")
    try:
        values = fill(leaves_of(module), stored.children, None)
    except Exception as error:
        raise Corrupt(f"a module's state is not that of its layers: {error!s:.300}") from error
    put(module, values)
    return module


def call(model: Any, inputs: Any) -> Any:
    """Call a copy of a module in its mode for use, so that the module itself does not change.

    Args:
        model: The module.
        inputs: One array, a tuple of positional or a mapping of named ones; each becomes a jax
            array.
    """
    nnx = import_extra("flax.nnx", needed_for="A module of Flax")
    copy = nnx.clone(model)
    copy.eval()
    if isinstance(inputs, Mapping):
        return copy(**{str(name): _array(value) for name, value in inputs.items()})
    return copy(*map(_array, inputs if isinstance(inputs, tuple) else (inputs,)))


def _array(value: Any) -> Any:
    """Return what has values as a jax array; texts and the like as they are."""
    jax = imported()
    if isinstance(value, jax.Array) or not (hasattr(value, "__array__") or type(value) is list):
        return value
    return jax.numpy.asarray(value)


def _module_class() -> Any:
    return import_extra("flax.nnx", needed_for="A module of Flax").Module


SPEC: Final = TypeSpec(
    id="flax.nnx.Module",
    locate=_module_class,
    classes=(),
    encode=_encode,
    build=_build,
    fields=frozenset({"class", "source", "layers", "settings", "state"}),
    required=frozenset({"class", "source", "layers", "settings", "state"}),
    transparent=frozenset({"state"}),
    state=_compared,
)


def spec_of(kind: type) -> TypeSpec:
    """Return the spec that keeps instances of exactly ``kind``; only for encoding."""
    locate: Callable[[], type] = lambda: kind  # noqa: E731 - one expression
    return replace(SPEC, locate=locate)
