"""JAX: pytrees of arrays, Flax parameters and modules, optax states.

The tree's structure is data in the record and every array one of its tensors. A tree of plain
containers, and of the classes that the tables of this package know, comes back by itself; a node
of the user's own class comes back into a tree of the same names, given with ``into=``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import EnvironmentMismatch, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.jax import (
    arrays as jax_arrays,
    flax_types,
    inputs as jax_inputs,
    modules as nnx_modules,
    nodes as jax_nodes,
    optax_states,
    trees,
)
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

ID: Final = "jax"
TYPES: Final[tuple[TypeSpec, ...]] = (
    *jax_arrays.SPECS,
    *flax_types.SPECS,
    *optax_states.SPECS,
    jax_nodes.SPEC,
    nnx_modules.SPEC,
)
READS: Final[Mapping[str, Callable[[Path], Any]]] = {}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {}

_NEEDED_FOR: Final = "Loading a JAX model"
_FLAX: Final = ("flax", "optax")


def owns(model: object) -> bool:
    """Say whether there is a jax array, or something of Flax or optax, in a tree."""
    jax = sys.modules.get("jax")
    if jax is None or not hasattr(jax, "tree_util"):
        return False
    return any(
        isinstance(node, jax.Array)
        or type(node).__module__.partition(".")[0] in _FLAX
        or nnx_modules.is_module(node)
        or jax_nodes.refusal(node) is not None
        for node in jax_nodes.walk(model)
    )


def pack(model: Any, registry: Registry) -> Payload:
    """Encode a tree or module; one array at a time comes to the host, when it is written.

    Raises:
        Unsupported: Something in it is code or has no values; the message names its path.
    """
    encoded = codec.encode(model, jax_nodes.extended(model, registry), label=_label(model))
    return Payload(
        structure=encoded.structure,
        tensors=encoded.tensors,
        files=encoded.files,
        facts=_facts(model),
    )


def _label(model: Any) -> str:
    return "model" if nnx_modules.is_module(model) else "tree"


def _arrays(model: Any) -> Iterator[Any]:
    """Yield every jax array of a tree, those in modules too."""
    jax = jax_arrays.imported()
    for node in jax_nodes.walk(model):
        leaves = nnx_modules.leaves_of(node).values() if nnx_modules.is_module(node) else (node,)
        yield from (leaf for leaf in leaves if isinstance(leaf, jax.Array))


def _facts(model: Any) -> dict[str, Any]:
    """Return where the arrays were, and whether 64-bit numbers were meant."""
    facts: dict[str, Any] = {}
    for array in _arrays(model):
        devices = sorted(array.devices(), key=lambda device: device.id)
        if devices[0].platform != "cpu":
            facts.setdefault("device", f"{devices[0].platform}:{devices[0].id}")
        if len(devices) > 1:
            facts["sharded_over"] = max(len(devices), facts.get("sharded_over", 0))
        if str(array.dtype) in jax_arrays.WIDE and jax_arrays.imported().config.jax_enable_x64:
            facts["jax_enable_x64"] = True
    return facts


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build what was stored, or fill ``options.into`` with it.

    A tree that is filled is returned anew, on the devices of the one given; modules of flax.nnx
    in it are changed in place. Without it, arrays lie on jax's default device or the one asked.

    Raises:
        MissingExtra: jax, flax or optax is not installed.
        Corrupt: The structure is not one that ``pack`` writes.
        PartialLoad: The leaves do not match ``into`` one to one; nothing was changed.
        EnvironmentMismatch: A user's class is needed and there is no ``into``, or 64-bit numbers
            are not enabled.
        UsageError: ``rename`` or ``device`` cannot be used.
    """
    jax = import_extra("jax", needed_for=_NEEDED_FOR)
    if opened.facts.get("jax_enable_x64") is True and not jax.config.jax_enable_x64:
        raise EnvironmentMismatch(
            "Saved with 64-bit numbers enabled; here jax would cut what it computes to 32 bits.",
            hint='jax.config.update("jax_enable_x64", True)  # at the start of the program',
        )
    build = partial(jax_arrays.build_array, device=_device(options.device))
    builds: dict[str, Callable[[Mapping[str, Any]], Any]] = {"jax.Array": build}
    if options.into is None:
        if options.rename is not None:
            raise UsageError(
                "rename= goes with into=, the tree whose names are wanted.",
                hint=f'holdfast.load("REF", into=tree, rename="{options.rename}")',
            )
        return _decode(opened, registry, builds)
    builds |= {
        jax_nodes.SPEC.id: jax_nodes.stored_of,
        nnx_modules.SPEC.id: nnx_modules.stored_of,
    }
    return _into(_decode(opened, registry, builds), options)


def _decode(
    opened: Opened, registry: Registry, builds: Mapping[str, Callable[[Mapping[str, Any]], Any]]
) -> Any:
    specs = {
        id_: replace(spec, build=builds[id_]) if id_ in builds else spec
        for id_, spec in registry.by_id.items()
    }
    bound = Registry(specs, registry.by_class)
    return codec.decode(opened.structure, opened.tensors, bound, opened.audit, opened.files)


def _device(wanted: str) -> Any:
    """Return a device of jax by a name such as ``cpu`` or ``gpu:1``; None for ``auto``."""
    if wanted == "auto":
        return None
    platform, _, index = wanted.partition(":")
    try:
        return jax_arrays.imported().devices(platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise UsageError(
            f"There is no device {wanted!r} here.", hint='holdfast.load("REF", device="cpu")'
        ) from error


def _into(stored: Any, options: LoadOptions) -> Any:
    target = trees.flatten(options.into, _module_leaves)
    values = trees.fill(target, trees.flatten(stored, lambda _: None), options.rename)
    if isinstance(stored, trees.Stored):
        here = jax_nodes.settings_of(options.into)
        nnx_modules.note_settings(stored.settings, here, stored.kind)
    filled: list[tuple[Any, dict[str, Any]]] = []
    tree = _rebuilt(options.into, values, "", filled)
    for module, own in filled:
        nnx_modules.put(module, own)
    return tree


def _module_leaves(node: Any) -> dict[str, Any] | None:
    return nnx_modules.leaves_of(node) if nnx_modules.is_module(node) else None


def _rebuilt(
    node: Any, values: Mapping[str, Any], name: str, filled: list[tuple[Any, dict[str, Any]]]
) -> Any:
    """Return the tree with its new leaves; modules are noted in ``filled`` and stay themselves."""
    if nnx_modules.is_module(node):
        names = nnx_modules.leaves_of(node)
        filled.append((node, {step: values[trees.joined(name, step)] for step in names}))
        return node
    below = trees.branch(node)
    if below is None:
        return None if node is None else values[name]
    return below.rebuild(
        [
            _rebuilt(child, values, trees.joined(name, step), filled)
            for step, child in below.children
        ]
    )


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare two trees node by node, arrays bit by bit; of modules also every attribute."""
    extended = jax_nodes.extended(model, registry)
    if (
        nnx_modules.is_module(model)
        and nnx_modules.is_module(built)
        and not nnx_modules.same_graph(model, built)
    ):
        return "The model comes back with other layers or settings"
    return codec.first_difference(model, built, extended, label=_label(model))


def requires(model: Any) -> tuple[str, ...]:
    """Return ``jax``; and ``flax`` for a module, also of a class of the user's own."""
    return ("jax", "flax") if nnx_modules.is_module(model) else ("jax",)


def methods(model: Any) -> tuple[str, ...]:
    """Return ``("call",)`` for a module of flax.nnx that can be called; a tree has no behaviour."""
    if not nnx_modules.is_module(model):
        return ()
    nnx = import_extra("flax.nnx", needed_for=_NEEDED_FOR)
    can = isinstance(model, nnx.Module) and callable(model)
    return ("call",) if can else ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call a copy of the module in its mode for use; see ``modules.call``.

    Raises:
        UsageError: The method is not one of ``methods(model)``.
    """
    if method not in methods(model):
        raise UsageError(
            f"a {type(model).__name__} has no output method {method!r}; modules of flax.nnx "
            "that can be called have 'call'."
        )
    return nnx_modules.call(model, inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs from the first layer that tells its width, tried on the model; None otherwise."""
    return jax_inputs.synthetic(model, rows, seed) if methods(model) else None


def steady(model: Any) -> AbstractContextManager[None]:  # noqa: ARG001 - the adapter's contract
    """Return a context that does nothing: random keys are part of the model, and it is copied."""
    return nullcontext()
