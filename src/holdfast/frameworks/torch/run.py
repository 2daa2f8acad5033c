"""Calling modules repeatably: inference, fixed seeds, and leaving no trace."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from holdfast.errors import Unsupported

__all__ = ["arguments", "call", "call_program", "plain", "sampled", "steady"]

_SEED: Final = 20_260_301


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
    positional, keywords = arguments(model, inputs)
    try:
        model.eval()
        with torch.no_grad():
            return plain(model(*positional, **keywords))
    finally:
        for module, training in flags:
            module.training = training


def call_program(program: Any, inputs: Any) -> Any:
    """Run a ``torch.export`` program; inputs and outputs as for ``call``."""
    import torch

    module = program.module()
    positional, keywords = arguments(module, inputs)
    with torch.no_grad():
        return plain(module(*positional, **keywords))


def arguments(model: Any, inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return inputs as ``call`` passes them: positional ones, and those by name."""
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


def plain(value: Any) -> Any:
    """Turn outputs into data that the codec knows: tensors, tuples, lists and dicts."""
    import torch

    if isinstance(value, torch.Tensor):
        dense = value if value.layout is torch.strided else value.to_dense()
        return dense.detach().to("cpu").as_subclass(torch.Tensor)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def sampled(value: Any, most: int) -> Any:
    """Keep evenly spaced numbers of large outputs, at most so many of every row."""
    import torch

    if isinstance(value, Mapping):
        return {key: sampled(item, most) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(sampled(item, most) for item in value)
    if isinstance(value, torch.Tensor) and value.dim() > 1:
        rows = value.reshape(value.shape[0], -1)
        return rows[:, :: -(-rows.shape[1] // most)] if rows.shape[1] > most else value
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
