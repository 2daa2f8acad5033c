"""Modules made of flax.nnx's own classes: described as data, and made again from the description.

A description names a class or function of the tables below and gives constructor arguments; it
says nothing of arrays. What is made has shapes for its arrays and takes no memory for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt, EnvironmentMismatch
from holdfast.frameworks.jax.arrays import DTYPES, imported
from holdfast.plugins import import_extra

__all__ = ["described", "made"]

# Classes of flax.nnx whose constructor's arguments their attributes tell.
_LAYERS: Final = (
    "BatchNorm", "Bidirectional", "Conv", "ConvTranspose", "Dropout", "Einsum", "Embed", "GRUCell",
    "GroupNorm", "InstanceNorm", "LSTMCell", "LayerNorm", "Linear", "LinearGeneral", "LoRA",
    "LoRALinear", "MultiHeadAttention", "OptimizedLSTMCell", "PReLU", "RMSNorm", "RNN",
    "SimpleCell", "SpectralNorm", "WeightNorm",
)  # fmt: skip
# Containers, which have no arguments but their members.
_CONTAINERS: Final = ("Sequential", "List", "Dict")
# Functions of jax.nn and jax.numpy that models hold between their layers.
_FUNCTIONS: Final = (
    "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_tanh", "identity",
    "leaky_relu", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_sign", "softmax", "softplus", "sparse_plus", "sparse_sigmoid", "squareplus",
    "standardize", "cos", "exp", "sin", "tanh",
)  # fmt: skip
_PRECISIONS: Final = ("DEFAULT", "HIGH", "HIGHEST")
_PLAIN: Final = (type(None), bool, int, float, str)
_DEEPEST: Final = 50

# Arguments that have no attribute of their name, or one that says something else.
_DERIVED: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "GroupNorm": lambda layer: {"num_features": layer.num_groups * layer.group_size},
    "LoRA": lambda layer: {"lora_rank": layer.lora_a.shape[-1]},
    "LoRALinear": lambda layer: {"lora_rank": layer.lora.lora_a.shape[-1]},
}
# Attributes of an argument's name that are no arguments; the comparison of the whole sees them.
_COMPUTED: Final = {"GroupNorm": ("group_size",), "RNN": ("state_axes",)}


class _CannotSayError(Exception):
    """Something in a module has no description."""


def _nnx() -> Any:
    return import_extra("flax.nnx", needed_for="A module of Flax")


def described(module: Any) -> list[Any] | None:
    """Return the description of a module, None when it or a part of it has none.

    What is made of it must be compared with the module: an attribute that the constructor does
    not take is not in the description.
    """
    nnx = _nnx()
    tags = {
        str(node.tag) for _, node in nnx.iter_graph(module) if type(node).__name__ == "RngStream"
    }
    try:
        return ["model", sorted(tags), _said(module, 0)]
    except (_CannotSayError, TypeError, ValueError, AttributeError):
        return None


def _said(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise _CannotSayError
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (list, tuple):
        return [kind.__name__, *(_said(item, depth + 1) for item in value)]
    if kind is _nnx().Rngs:
        return ["Rngs", *sorted(name for name in vars(value) if not name.startswith("_"))]
    for name in _CONTAINERS:
        if kind is getattr(_nnx(), name, None):
            return [name, *_members(name, value, depth)]
    for name in _LAYERS:
        if kind is getattr(_nnx(), name, None):
            return ["layer", name, _arguments(value, depth)]
    return _constant(value)


def _members(name: str, container: Any, depth: int) -> list[Any]:
    if name == "Dict":
        names = [key for key in vars(container) if not key.startswith("_")]
        if names != sorted(names):  # flax puts the members of what it copies in this order
            raise _CannotSayError
        return [part for key in names for part in (key, _said(container[key], depth + 1))]
    items = container.layers if name == "Sequential" else container
    return [_said(item, depth + 1) for item in items]


def _arguments(layer: Any, depth: int) -> dict[str, Any]:
    """Read constructor arguments from the attributes of their names, defaults left out."""
    held, kind = vars(layer), type(layer)
    arguments = _DERIVED[kind.__name__](layer) if kind.__name__ in _DERIVED else {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in _COMPUTED.get(kind.__name__, ()):
            continue
        if name == "rngs":  # what it drew from is state; that it needs some is an argument
            needed = parameter.default is inspect.Parameter.empty or held.get(name) is not None
            arguments |= {name: True} if needed else {}
        elif name in held and held[name] is not parameter.default:
            arguments[name] = _said(held[name], depth + 1)
    return arguments


def _constant(value: Any) -> list[Any]:
    """Describe a function, dtype or precision of the tables."""
    jax = imported()
    for name in _FUNCTIONS:
        if value is _function(name):
            return ["function", name]
    for name in DTYPES:
        if value is getattr(jax.numpy, name, jax):
            return ["dtype", "jax", name]
    if isinstance(value, np.dtype) and value.name in DTYPES:
        return ["dtype", "numpy", value.name]
    if isinstance(value, jax.lax.Precision) and value.name in _PRECISIONS:
        return ["precision", value.name]
    raise _CannotSayError


def _function(name: str) -> Any:
    """Return a function of the table, None where this jax lacks it."""
    jax = imported()
    return getattr(jax.nn, name, None) or getattr(jax.numpy, name, None)


def made(description: Any) -> Any:
    """Make a module whose arrays are shapes, from a description that was read.

    Raises:
        Corrupt: It is not one that ``described`` returns.
        EnvironmentMismatch: This flax lacks a class or one of its arguments.
    """
    if not (isinstance(description, list) and description[:1] == ["model"]):
        raise Corrupt("the description of a module is damaged")
    try:
        _, tags, layers = description
        streams = {str(tag): 0 for tag in tags} | {"params": 0}
        return _nnx().eval_shape(lambda: _make(layers, streams, 0))
    except (Corrupt, EnvironmentMismatch):
        raise
    except Exception as error:  # whatever a constructor raises for arguments from a file
        raise Corrupt(
            f"a module cannot be made of its description: {type(error).__name__}: {error!s:.200}"
        ) from error


def _make(said: Any, streams: Mapping[str, int], depth: int) -> Any:
    if depth > _DEEPEST:
        raise Corrupt("a module is nested too deeply")
    if type(said) in _PLAIN:
        return said
    if type(said) is not list or not said or type(said[0]) is not str:
        raise Corrupt("the description of a module is damaged")
    tag, items = said[0], said[1:]
    if tag == "layer" and len(items) == 2:
        return _layer(items[0], items[1], streams, depth)
    if tag in ("function", "dtype", "precision"):
        return _named(tag, items)
    return _container(tag, [_make(item, streams, depth + 1) for item in items])


def _container(tag: str, parts: list[Any]) -> Any:
    nnx = _nnx()
    names = {"Rngs": parts, "Dict": parts[::2]}.get(tag, [])
    if not all(type(name) is str and name.isidentifier() and name[0] != "_" for name in names):
        raise Corrupt(f"a {tag} of a description has a part without a name")
    match tag:
        case "list":
            return parts
        case "tuple":
            return tuple(parts)
        case "Rngs":
            return nnx.Rngs(**dict.fromkeys(parts, 0))
        case "Dict":
            return nnx.Dict(zip(names, parts[1::2], strict=True))
        case "List":
            return nnx.List(parts)
        case "Sequential":
            return nnx.Sequential(*parts)
    raise Corrupt(f"a description names the unknown part {tag!r:.60}")


def _layer(name: str, given: Any, streams: Mapping[str, int], depth: int) -> Any:
    kind = getattr(_nnx(), name, None) if name in _LAYERS else None
    if type(given) is not dict or name not in _LAYERS:
        raise Corrupt(f"a description names the unknown layer {name!r:.60}")
    known = {} if kind is None else inspect.signature(kind.__init__).parameters
    unknown = [key for key in given if key not in known or key == "self"]
    if kind is None or unknown:
        raise EnvironmentMismatch(
            f"Needs flax.nnx.{name}{f' with {unknown[0]}=' if unknown else ''}, which this flax "
            "does not have.",
            hint='python -m pip install --upgrade "flax>=0.12"',
        )
    arguments = {
        key: _nnx().Rngs(**streams) if key == "rngs" else _make(item, streams, depth + 1)
        for key, item in given.items()
    }
    return kind(**arguments)


def _named(tag: str, items: list[Any]) -> Any:
    jax = imported()
    match tag, items:
        case "function", [str(name)] if name in _FUNCTIONS and _function(name) is not None:
            return _function(name)
        case "precision", [str(name)] if name in _PRECISIONS:
            return jax.lax.Precision[name]
        case "dtype", ["jax" | "numpy" as where, str(name)] if name in DTYPES:
            kind = getattr(jax.numpy, name)
            return kind if where == "jax" else jax.numpy.dtype(kind)
    raise Corrupt(f"a description names the unknown {tag} {items!r:.60}")
