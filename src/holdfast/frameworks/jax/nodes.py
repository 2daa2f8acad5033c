"""Nodes of a pytree whose class is the user's: named tuples, dataclasses, training states.

They are kept as what jax sees of them, by name, and loaded into a tree of the same names. What is
no part of the tree, such as the functions of a ``TrainState``, comes with the tree that is filled.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, NoReturn

from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.frameworks.jax import modules as nnx_modules
from holdfast.frameworks.jax.trees import Stored, branch

__all__ = ["SPEC", "extended", "refusal", "settings_of", "stored_of", "walk"]

_PLAIN: Final = (type(None), bool, int, float, str)

# What is code or has no values, by a base class: what it is, and what to save in its place.
_REFUSED: Final[dict[str, tuple[str, str]]] = {
    "jax.core.Tracer": (
        "an array inside a function that jax traces, so it has no values yet",
        "holdfast.save(tree, name)  # outside of jit, grad, vmap and scan",
    ),
    "jax.ShapeDtypeStruct": (
        "a description of an array, which has no values",
        "holdfast.save(jax.jit(init)(), name)  # what the function makes, not its eval_shape",
    ),
    "flax.linen.Module": (
        "a Flax module, which is code and holds no parameters",
        "holdfast.save(variables, name)  # what module.init returned or training made of it",
    ),
    "flax.nnx.GraphDef": (
        "the code of a module apart from its state",
        "holdfast.save(flax.nnx.merge(graphdef, state), name)",
    ),
    "optax.GradientTransformation": (
        "an optimiser, which is code; its state is data",
        'holdfast.save({"params": params, "opt_state": opt_state, "step": step}, name)',
    ),
}


def refusal(value: object) -> tuple[str, str] | None:
    """Return what a value that cannot be kept is, and what to save instead; else None."""
    for place, told in _REFUSED.items():
        module, _, name = place.rpartition(".")
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and isinstance(value, kind):
            return told
    return None


def _refuse(told: tuple[str, str], value: object) -> NoReturn:
    what, hint = told
    raise Unsupported(f"{type(value).__name__} is {what}.", hint=hint)


def walk(tree: Any) -> list[Any]:
    """Return every node and leaf of a tree, modules of flax.nnx not taken apart."""
    found: list[Any] = [tree]
    seen: set[int] = set()
    for node in found:  # grows on the way; it holds what it saw, so that no id is used twice
        if id(node) in seen or nnx_modules.is_module(node):
            continue
        seen.add(id(node))
        below = branch(node)
        if below is not None:
            found.extend(child for _, child in below.children)
    return found


def extended(tree: Any, registry: Registry) -> Registry:
    """Return a registry that also encodes the classes in ``tree`` that are kept as state."""
    more: dict[str, TypeSpec] = {}
    for node in walk(tree):
        kind = type(node)
        name = f"{kind.__module__}:{kind.__qualname__}"
        if kind.__module__ == "builtins" or name in more:
            continue
        told = refusal(node)
        if told is not None:
            more[name] = replace(SPEC, locate=partial(_given, kind), encode=partial(_refuse, told))
        elif nnx_modules.is_module(node):
            more[name] = nnx_modules.spec_of(kind)
        elif branch(node) is not None and not _known(registry, name):
            more[name] = replace(SPEC, locate=partial(_given, kind))
    return replace(registry, by_class={**registry.by_class, **more})


def _known(registry: Registry, name: str) -> bool:
    """Say whether a class is registered, by an installed package too."""
    if name not in registry.by_class:
        registry.grow()
    return name in registry.by_class


def _given(kind: type) -> type:
    return kind


def _encode(node: Any) -> dict[str, Any]:
    found = branch(node)
    children = {} if found is None else dict(found.children)
    if found is None or len(children) != len(found.children):
        raise Unsupported(
            f"two parts of a {type(node).__name__} have the same name in its pytree.",
            hint="jax.tree_util.register_pytree_with_keys  # with a key of its own for each",
        )
    return {
        "class": nnx_modules.class_name(type(node)),
        "settings": _settings(node, children),
        "children": children,
    }


def _settings(node: Any, children: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain fields of a dataclass that are no part of its tree."""
    if not dataclasses.is_dataclass(node):
        return {}
    values = {field.name: getattr(node, field.name, None) for field in dataclasses.fields(node)}
    return {
        name: value
        for name, value in values.items()
        if name not in children and type(value) in _PLAIN
    }


def settings_of(node: Any) -> dict[str, Any]:
    """Return the plain settings of a node that is filled, to compare with those stored."""
    if nnx_modules.is_module(node):
        return nnx_modules.plain_settings(node)
    found = branch(node)
    return _settings(node, {} if found is None else dict(found.children))


def stored_of(fields: Mapping[str, Any]) -> Stored:
    """Return what is stored of a node, for filling another; raises ``Corrupt``."""
    name, children, settings = fields["class"], fields["children"], fields["settings"]
    if type(name) is not str or type(children) is not dict or type(settings) is not dict:
        raise Corrupt("a node of a pytree is not stored as a table of names")
    if not all(type(key) is str for key in (*children, *settings)):
        raise Corrupt("a node of a pytree has a part without a name")
    return Stored(name, children, settings)


def _build(fields: Mapping[str, Any]) -> NoReturn:
    name = stored_of(fields).kind
    short = name.rpartition(".")[2]
    made = "TrainState.create(apply_fn=..., params=..., tx=...)" if short == "TrainState" else None
    raise EnvironmentMismatch(
        f"Needs {name:.200}: Holdfast runs no code named by a file, so give a tree of the same "
        "names to fill.",
        hint=f'holdfast.load("REF", into={made or f"{short:.60}(...)"})',
    )


def _node_class() -> type:
    return Stored


SPEC: Final = TypeSpec(
    id="jax.Node",
    locate=_node_class,
    classes=(),
    encode=_encode,
    build=_build,
    fields=frozenset({"class", "children", "settings"}),
    required=frozenset({"class", "children", "settings"}),
    transparent=frozenset({"children"}),
)
