"""Calling modules repeatably: inference, made-up inputs, and leaving no trace."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from holdfast.errors import Unsupported

__all__ = ["call", "steady", "synthetic"]

_SEED: Final = 20_260_301
_MAX_BYTES: Final = 1_000_000
_SEQUENCE: Final = 8
# Edge lengths tried for images; the first is taken when any will do.
_EDGES: Final = (32, 28, 64, 224)


def call(model: Any, inputs: Any) -> Any:
    """Run a module for inference: eval mode, no gradients, outputs as plain CPU data.

    Args:
        model: The module; its training flags are the same afterwards.
        inputs: A tensor or array, a tuple or list of them (positional), or a dict (keywords).
            numpy arrays become tensors; floating ones take the dtype of the model's parameters.

    Returns:
        Tensors (detached, on the CPU), and tuples, lists and dicts of them.
    """
    import torch

    flags = [(module, module.training) for module in model.modules()]
    positional, keywords = _arguments(model, inputs)
    try:
        model.eval()
        with torch.no_grad():
            return _plain(model(*positional, **keywords))
    finally:
        for module, training in flags:
            module.training = training


def _arguments(model: Any, inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    convert = _converter(model)
    if isinstance(inputs, Mapping):
        return [], {str(name): convert(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple) or (isinstance(inputs, list) and not _numbers(inputs)):
        return [convert(value) for value in inputs], {}
    return [convert(inputs)], {}


def _numbers(value: list[Any]) -> bool:
    first = value[0] if value else None
    return isinstance(first, list | int | float)


def _converter(model: Any) -> Callable[[Any], Any]:
    """Return what turns one input into what the model's parameters go with."""
    import numpy as np
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    floating = next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())

    def convert(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        if isinstance(value, list) and not _numbers(value):
            return [convert(item) for item in value]
        if hasattr(value, "to_numpy"):
            value = value.to_numpy()
        if isinstance(value, list | np.ndarray | np.generic):
            array = np.asarray(value)
            tensor = torch.from_numpy(np.array(array, order="C"))
            return tensor.to(device, floating if array.dtype.kind == "f" else None)
        return value

    return convert


def _plain(value: Any) -> Any:
    """Turn outputs into data that the codec knows: tensors, tuples, lists and dicts."""
    import torch

    if isinstance(value, torch.Tensor):
        dense = value if value.layout is torch.strided else value.to_dense()
        return dense.detach().to("cpu").as_subclass(torch.Tensor)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Seed all generators, make kernels deterministic, and restore everything on exit.

    Restored are the generators of torch, numpy and random, torch's determinism settings, and for
    a module its attributes and buffers.

    Raises:
        Unsupported: The code inside changed a parameter, which is not restored.
    """
    import torch

    with _seeded(), _deterministic():
        if not isinstance(model, torch.nn.Module):
            yield
            return
        with _unchanged(model):
            yield


@contextmanager
def _seeded() -> Iterator[None]:
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global one
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002 - same
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 - same


@contextmanager
def _deterministic() -> Iterator[None]:
    import torch

    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    modules = list(model.modules())
    attributes = [(module, dict(vars(module))) for module in modules]
    tables = [
        (table, dict(table))
        for module in modules
        for table in (module._parameters, module._buffers, module._modules)  # noqa: SLF001 - the registries themselves are restored
    ]
    buffers = [(b, b._version, b.detach().clone()) for b in model.buffers() if not b.is_meta]  # noqa: SLF001 - torch's change counter
    parameters = [(name, p, p._version) for name, p in model.named_parameters()]  # noqa: SLF001 - same
    try:
        yield
    finally:
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        for table, before in tables:
            table.clear()
            table.update(before)
        _restore_buffers(buffers)
    for name, parameter, version in parameters:
        if parameter._version != version:  # noqa: SLF001 - same
            raise Unsupported(
                f"Calling the model changes its parameter {name!r}; such a model cannot be "
                "proven by calling it.",
                hint="holdfast.save(model, name, golden=None)",
            )


def _restore_buffers(buffers: list[tuple[Any, int, Any]]) -> None:
    import torch

    with torch.no_grad():
        for buffer, version, copy in buffers:
            # Some kernels (batch norm) update buffers without counting it, hence the comparison.
            if buffer._version != version or not torch.equal(buffer, copy):  # noqa: SLF001 - torch's change counter
                buffer.copy_(copy)


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
    from holdfast.frameworks.torch_modules import layer_of

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
