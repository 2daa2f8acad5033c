"""Values as a document and runs of bytes, for a pipe to another process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.codec.audit import audit
from holdfast.codec.decode import decode
from holdfast.codec.encode import encode
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import ITEMSIZE, TensorView
from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.record import Structure

__all__ = ["from_message", "to_message"]


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value on its way: its node table, and (name, dtype, shape) of each run of bytes."""

    structure: Structure
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]


def to_message(
    value: Any, registry: Registry, *, label: str
) -> tuple[dict[str, Any], list[memoryview]]:
    """Encode a value; the inverse of ``from_message``.

    Args:
        value: What the codec keeps.
        registry: The closed registry.
        label: What the value is called in a refusal.

    Raises:
        Unsupported: Something in it cannot be kept.
    """
    encoded = encode(value, registry, label=label)
    if encoded.files:
        raise Unsupported(f"{label} holds a whole file, which does not go to another process.")
    tensors = encoded.tensors
    kinds = tuple((name, data.dtype, tuple(data.shape)) for name, data in tensors.items())
    document = msgspec.to_builtins(_Value(structure=encoded.structure, tensors=kinds))
    return document, [_flat(data.load()) for data in tensors.values()]


def _flat(view: memoryview) -> memoryview:
    return view.cast("B") if view.nbytes else memoryview(b"")  # no cast takes an empty view


def from_message(document: Any, runs: Sequence[memoryview], registry: Registry) -> Any:
    """Judge and build a value that another process sent, as the data of a stranger.

    Args:
        document: What its header says.
        runs: Its bytes; views of writable memory, which arrays will use.
        registry: The closed registry.

    Raises:
        Corrupt: It contradicts itself.
        EnvironmentMismatch: A type is not known here.
        MissingExtra: A type's package is not installed here.
    """
    try:
        value = msgspec.convert(document, _Value)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Corrupt(f"a value's description is damaged: {error!s:.200}") from error
    if len(value.tensors) != len(runs):
        raise Corrupt(f"{len(value.tensors)} tensors are described and {len(runs)} came")
    views: dict[str, TensorView] = {}
    for (name, dtype, shape), run in zip(value.tensors, runs, strict=True):
        size = ITEMSIZE.get(dtype)
        if size is None or name in views or any(count < 0 for count in shape):
            raise Corrupt(f"the tensor {name!r:.100} is described impossibly")
        if math.prod(shape) * size != run.nbytes:
            raise Corrupt(f"the tensor {name!r:.100} has not the bytes that it describes")
        views[name] = TensorView(dtype, shape, run)
    try:
        return decode(value.structure, views, registry, audit(value.structure, views, registry))
    except HoldfastError:
        raise
    except Exception as error:
        raise Corrupt(f"a value cannot be built: {type(error).__name__}: {error!s:.200}") from error
