"""ONNX models: the file is kept whole; tensors stay inside it.

A graph is a program for the runtime that will execute it, so loading returns the parsed
``onnx.ModelProto`` and runs nothing. Source of the format: https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.plugins import import_extra
from holdfast.record import Structure

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "OnnxFile",
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

ID: Final = "onnx"
TYPES: Final[Sequence[TypeSpec]] = ()
READS: Final[Mapping[str, Callable[[Path], Any]]] = {}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {}
_FILE: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The bytes of a ``.onnx`` file, for saving without the onnx package."""

    data: bytes


def owns(model: object) -> bool:
    """Say whether ``model`` is an ONNX file or an ``onnx.ModelProto``."""
    kind = type(model)
    return isinstance(model, OnnxFile) or (
        kind.__name__ == "ModelProto" and kind.__module__.partition(".")[0] == "onnx"
    )


def pack(model: Any, registry: Registry) -> Payload:  # noqa: ARG001 - the adapter's contract
    """Keep the serialised model as one file.

    Raises:
        Unsupported: The model refers to tensors in other files, which would be lost.
    """
    data = model.data if isinstance(model, OnnxFile) else model.SerializeToString()
    proto = model if not isinstance(model, OnnxFile) else _parsed_if_possible(data)
    if proto is not None and any(t.data_location == 1 for t in proto.graph.initializer):
        raise Unsupported(
            "The ONNX model keeps tensors in other files; saving this file alone would lose them.",
            hint="onnx.save(onnx.load('model.onnx'), 'whole.onnx')",
        )
    return Payload(structure=Structure(nodes=(("none",),)), tensors={}, files={_FILE: data})


def _parsed_if_possible(data: bytes) -> Any | None:
    try:
        onnx = import_extra("onnx", needed_for="checking an ONNX model")
    except ImportError:
        return None
    return _parse(onnx, data)


def _parse(onnx: Any, data: bytes) -> Any:
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:
        raise Corrupt(f"model.onnx is not an ONNX model: {error!s:.200}") from error


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:  # noqa: ARG001
    """Return the parsed ``onnx.ModelProto``.

    Raises:
        MissingExtra: The onnx package is not installed.
        Corrupt: The file is missing or does not parse.
    """
    if set(opened.files) != {_FILE}:
        raise Corrupt(f"an ONNX version holds exactly the file {_FILE}")
    onnx = import_extra("onnx", needed_for="loading an ONNX model")
    return _parse(onnx, bytes(opened.files[_FILE]))


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Return None: every tensor and file is read by its digest."""


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return the packages that loading needs."""
    return ("onnx",)


def methods(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return no method: running the graph needs a runtime."""
    return ()


def predict(model: Any, method: str, inputs: Any) -> Any:  # noqa: ARG001 - the adapter's contract
    """Refuse: running the graph needs a runtime."""
    raise Unsupported(f"an ONNX model cannot be called here ({method})")


def synthetic(model: Any, rows: int, seed: int) -> None:
    """Return None: nothing is called."""


def steady(model: Any) -> AbstractContextManager[None]:  # noqa: ARG001 - the adapter's contract
    """Return a context that does nothing."""
    return nullcontext()
