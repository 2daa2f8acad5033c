"""Made-up inputs for a module whose first layer tells how wide they must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from holdfast.frameworks.torch.run import call, steady
from holdfast.frameworks.torch.twins import layer_of

__all__ = ["synthetic"]

_MAX_BYTES: Final = 1_000_000


_SEQUENCE: Final = 8


# Edge lengths tried for images; the first is taken when any will do.
_EDGES: Final = (32, 28, 64, 224)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs for a module whose first layer tells their width.

    Args:
        model: The module.
        rows: Rows wanted; fewer when they would exceed 1 MB.
        seed: Of the generator.

    Returns:
        The first candidate that goes through the model, or None.
    """
    for kind, *shapes in _candidates(model):
        for shape in shapes:
            inputs = _made(kind, shape, (rows, seed))
            if _goes_through(model, inputs):
                return inputs
    return None


def _goes_through(model: Any, inputs: Any) -> bool:
    try:
        with steady(model):
            call(model, inputs)
    except Exception:  # noqa: BLE001 - made-up inputs need not suit the model
        return False
    return True


def _made(kind: str | int, shape: tuple[Any, ...], wish: tuple[int, int]) -> Any:
    import torch

    rows, seed = wish
    generator = torch.Generator().manual_seed(seed)
    if kind == "several":
        return tuple(_made("normal", one, wish) for one in shape)
    fitting = max(1, min(rows, _MAX_BYTES // (8 * math.prod(shape) or 1)))
    if isinstance(kind, int):
        return torch.randint(kind, (fitting, *shape), generator=generator)
    return torch.randn((fitting, *shape), generator=generator)


def _candidates(model: Any) -> Iterator[tuple[Any, ...]]:
    """Yield ``(kind, shape...)`` by the first layer that knows its input's width.

    ``kind`` is "normal", "several" (inputs of the given shapes) or the exclusive upper bound of
    integers; shapes are without the row dimension.
    """
    for module in model.modules():
        layer = layer_of(module)
        if layer is None:
            continue
        shape = _SHAPES.get(layer.name)
        if shape is not None:
            yield shape(module)
            return


def _conv(dimensions: int) -> Callable[[Any], tuple[Any, ...]]:
    edges = (16, 8) if dimensions == 3 else _EDGES
    return lambda m: ("normal", *((m.in_channels, *[edge] * dimensions) for edge in edges))


def _norm(dimensions: int) -> Callable[[Any], tuple[Any, ...]]:
    edge = (_SEQUENCE,)
    if dimensions == 1:
        return lambda m: ("normal", (m.num_features,), (m.num_features, *edge))
    return lambda m: ("normal", (m.num_features, *edge * dimensions))


def _indices(module: Any) -> tuple[Any, ...]:
    return (module.num_embeddings, (_SEQUENCE,), ())


def _recurrent(module: Any) -> tuple[Any, ...]:
    return ("normal", (_SEQUENCE, module.input_size))


def _cell(module: Any) -> tuple[Any, ...]:
    return ("normal", (module.input_size,))


def _attention(module: Any) -> tuple[Any, ...]:
    widths = (module.embed_dim, module.kdim, module.vdim)
    return ("several", tuple((_SEQUENCE, width) for width in widths))


def _encoder(module: Any) -> tuple[Any, ...]:
    return ("normal", (_SEQUENCE, module.self_attn.embed_dim))


def _decoder(module: Any) -> tuple[Any, ...]:
    return ("several", ((_SEQUENCE, module.self_attn.embed_dim),) * 2)


_SHAPES: Final[dict[str, Callable[[Any], tuple[Any, ...]]]] = {
    "Linear": lambda m: ("normal", (m.in_features,), (_SEQUENCE, m.in_features)),
    "Bilinear": lambda m: ("several", ((m.in1_features,), (m.in2_features,))),
    "Embedding": _indices,
    "EmbeddingBag": _indices,
    **{f"{kind}{d}d": _conv(d) for kind in ("Conv", "ConvTranspose") for d in (1, 2, 3)},
    **{f"{kind}Norm{d}d": _norm(d) for kind in ("Batch", "Instance") for d in (1, 2, 3)},
    "LayerNorm": lambda m: ("normal", tuple(m.normalized_shape)),
    "RMSNorm": lambda m: ("normal", tuple(m.normalized_shape)),
    "GroupNorm": lambda m: ("normal", (m.num_channels, _SEQUENCE, _SEQUENCE)),
    **dict.fromkeys(("RNN", "LSTM", "GRU"), _recurrent),
    **dict.fromkeys(("RNNCell", "LSTMCell", "GRUCell"), _cell),
    "MultiheadAttention": _attention,
    "TransformerEncoderLayer": _encoder,
    "TransformerDecoderLayer": _decoder,
    "Transformer": lambda m: ("several", ((_SEQUENCE, m.d_model),) * 2),
}
