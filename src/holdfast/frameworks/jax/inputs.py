"""Made-up inputs for a module whose first layer tells how wide they must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from holdfast.frameworks.jax.modules import call, is_module

__all__ = ["synthetic"]

_MAX_BYTES: Final = 1_000_000
_SEQUENCE: Final = 8
_EDGE: Final = 32


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs for a module whose first layer tells their width.

    Args:
        model: The module.
        rows: Rows wanted; fewer when they would exceed 1 MB.
        seed: Of the generator.

    Returns:
        A numpy array that goes through the model, or None.
    """
    for shape, below in _candidates(model):
        fitting = max(1, min(rows, _MAX_BYTES // (4 * int(np.prod(shape, dtype=np.int64)) or 1)))
        generator = np.random.default_rng(seed)
        if below is None:
            inputs: Any = generator.standard_normal((fitting, *shape), dtype=np.float32)
        else:
            inputs = generator.integers(below, size=(fitting, *shape), dtype=np.int32)
        try:
            call(model, inputs)
        except Exception:  # noqa: BLE001, S112 - made-up inputs need not suit the model
            continue
        return inputs
    return None


def _candidates(model: Any) -> Iterator[tuple[tuple[int, ...], int | None]]:
    """Yield shapes without rows, and for whole numbers the bound they stay below."""
    for node in _in_order(model):
        shapes = _SHAPES.get(type(node).__name__)
        if shapes is not None:
            yield from shapes(node)
            return


def _in_order(module: Any) -> Iterator[Any]:
    """Walk the modules of a module by their attributes' order, each before those inside it."""
    todo, seen = [module], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if is_module(node):
            yield node
            todo.extend(reversed(list(vars(node).values())))
        elif isinstance(node, list | tuple):
            todo.extend(reversed(node))
        elif isinstance(node, dict):
            todo.extend(reversed(list(node.values())))


def _wide(width: int) -> list[tuple[tuple[int, ...], int | None]]:
    return [((width,), None), ((_SEQUENCE, width), None)]


def _image(layer: Any) -> list[tuple[tuple[int, ...], int | None]]:
    axes = (layer.kernel_size,) if isinstance(layer.kernel_size, int) else layer.kernel_size
    return [((*[_EDGE] * len(axes), layer.in_features), None)]


# What goes into a layer, by its class in flax.nnx.
_SHAPES: Final[dict[str, Callable[[Any], list[tuple[tuple[int, ...], int | None]]]]] = {
    "Linear": lambda layer: _wide(layer.in_features),
    "LoRALinear": lambda layer: _wide(layer.in_features),
    "LayerNorm": lambda layer: _wide(layer.num_features),
    "RMSNorm": lambda layer: _wide(layer.num_features),
    "BatchNorm": lambda layer: _wide(layer.num_features),
    "MultiHeadAttention": lambda layer: [((_SEQUENCE, layer.in_features), None)],
    "Conv": _image,
    "ConvTranspose": _image,
    "Embed": lambda layer: [
        ((_SEQUENCE,), layer.num_embeddings),
        ((), layer.num_embeddings),
    ],
    "LSTMCell": lambda layer: [((_SEQUENCE, layer.in_features), None)],
    "GRUCell": lambda layer: [((_SEQUENCE, layer.in_features), None)],
    "SimpleCell": lambda layer: [((_SEQUENCE, layer.in_features), None)],
}
