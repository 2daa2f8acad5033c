"""Whatever the codec keeps by itself: plain values, numpy arrays, frames, registered classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from holdfast import codec
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload

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

ID: Final = "python"
TYPES: Final[Sequence[TypeSpec]] = ()
READS: Final[Mapping[str, Callable[[Path], Any]]] = {}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {}


def owns(model: object) -> bool:  # noqa: ARG001 - the adapter's contract
    """Return True: what the codec cannot keep is refused by ``pack`` with its path."""
    return True


def pack(model: Any, registry: Registry) -> Payload:
    """Encode any object graph that the codec knows.

    Raises:
        Unsupported: Something in it cannot be kept; the message names its path.
    """
    encoded = codec.encode(model, registry)
    return Payload(structure=encoded.structure, tensors=encoded.tensors, files=encoded.files)


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build the object graph.

    Raises:
        Corrupt: Values contradict their type.
        UsageError: ``into=`` or ``rename=`` was given, which are for PyTorch.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            "into= and rename= are for PyTorch modules and state_dicts.",
            hint='model = holdfast.load("REF")',
        )
    return codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare parameters and attributes with the live model's; see ``codec.first_difference``."""
    return codec.first_difference(model, built, registry, label=type(model).__name__.lower())


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return no package: numpy is always there."""
    return ()


def methods(model: Any) -> tuple[str, ...]:
    """Return the ``predict`` of a registered class; plain values have no behaviour."""
    has_predict = type(model).__module__ != "builtins" and callable(getattr(model, "predict", None))
    return ("predict",) if has_predict else ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call the model's ``predict``."""
    if method != "predict":
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    return model.predict(inputs)


def synthetic(model: Any, rows: int, seed: int) -> None:
    """Return None: the input width of a user's class is not known."""


def steady(model: Any) -> AbstractContextManager[None]:  # noqa: ARG001 - the adapter's contract
    """Return a context that does nothing."""
    return nullcontext()
