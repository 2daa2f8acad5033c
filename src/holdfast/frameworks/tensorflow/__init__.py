"""TensorFlow: a SavedModel's own files, its graph judged before TensorFlow reads it.

A graph is a program, some of which runs while it is loaded: only operators that compute are let
in. Keras models are kept by the adapter for Keras.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Unsupported, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.tensorflow import run
from holdfast.frameworks.tensorflow.files import (
    SavedModel,
    exported,
    judge,
    open_folder,
    write_folder,
)
from holdfast.plugins import import_extra
from holdfast.record import Structure
from holdfast.trust.tf_folder import is_part

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "SavedModel",
    "difference",
    "methods",
    "open_folder",
    "owns",
    "pack",
    "predict",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "tensorflow"
TYPES: Final[Sequence[TypeSpec]] = ()
READS: Final[Mapping[str, Callable[[Path], Any]]] = {"savedmodel": open_folder}


def _write(model: Any, path: Path) -> None:
    """Write a folder that ``tf.saved_model.load`` reads."""
    write_folder(_as_files(model), path)


WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {"savedmodel": _write}


def owns(model: object) -> bool:
    """Say whether ``model`` is a SavedModel or a live object of TensorFlow that can become one."""
    if isinstance(model, SavedModel):
        return True
    tracking = sys.modules.get("tensorflow.python.trackable.autotrackable")
    return tracking is not None and isinstance(model, tracking.AutoTrackable)


def pack(model: Any, registry: Registry) -> Payload:  # noqa: ARG001 - the adapter's contract
    """Keep the files of a SavedModel; of a live module those that TensorFlow writes of it.

    Raises:
        UnsafeContent: An operator reaches out of the graph.
        Unsupported: Nothing is known of an operator, or variables were changed after loading.
        Corrupt: A file is damaged.
    """
    files = _as_files(model)
    _refuse_changed(model)
    described = files.described
    return Payload(
        structure=Structure(nodes=(("none",),)),
        tensors={},
        files=files.files,
        facts={
            "tensorflow": {
                "written_by": described.version or "",
                "signatures": sorted(described.signatures),
                "operators": len(described.operators),
            }
        },
    )


def _as_files(model: Any) -> SavedModel:
    if isinstance(model, SavedModel):
        return model
    signatures = {name: each.function for name, each in run.signatures_of(model).items()}
    return exported(model, signatures)


def _refuse_changed(model: Any) -> None:
    """Refuse a loaded SavedModel whose variables are no longer those of its files."""
    if not isinstance(model, SavedModel) or not model.is_loaded:
        return
    if _numbers(model) != _numbers(SavedModel(model.files)):
        raise Unsupported(
            "Variables of the SavedModel were changed after it was loaded, and its files say what "
            "they were.",
            hint="holdfast.save(model.root, name)  # writes what they are now",
        )


def _numbers(model: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Return every variable's numbers, in an order that only they decide."""
    return sorted(
        (each.dtype.name, tuple(each.shape), each.numpy().tobytes())
        for each in run.variables_of(model)
    )


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:  # noqa: ARG001
    """Return the ``SavedModel``, loaded.

    Raises:
        MissingExtra: TensorFlow is not installed.
        UnsafeContent: An operator reaches out of the graph.
        Unsupported: Nothing is known of an operator.
        Corrupt: A file is missing or damaged, or TensorFlow does not load it.
        UsageError: ``into=`` or ``rename=`` was given.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            "into= and rename= are for modules and trees; a SavedModel is loaded whole.",
            hint='holdfast.load("REF")',
        )
    model = SavedModel({name: data for name, data in opened.files.items() if is_part(name)})
    judge(model.files)
    with _on(options.device):
        _ = model.root
    return model


def _on(device: str) -> AbstractContextManager[Any]:
    if device in ("auto", "cpu"):
        return nullcontext()
    tensorflow = import_extra("tensorflow", needed_for="loading a SavedModel")
    try:
        placed: AbstractContextManager[Any] = tensorflow.device(device)
    except ValueError as error:
        raise UsageError(f"TensorFlow knows no device {device!r:.60}.") from error
    return placed


def difference(model: Any, built: Any, registry: Registry) -> str | None:  # noqa: ARG001
    """Compare files byte for byte; of a live module every variable bit by bit."""
    if isinstance(model, SavedModel) and isinstance(built, SavedModel):
        for name in sorted({*model.files, *built.files}):
            one, two = (side.files.get(name) for side in (model, built))
            if one is None or two is None or bytes(one) != bytes(two):
                return f"{name} comes back with other content"
        return None
    return None if _numbers(model) == _numbers(built) else "variables come back with other numbers"


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return TensorFlow."""
    return ("tensorflow",)


def methods(model: Any) -> tuple[str, ...]:
    """Return the names of its signatures, ``serving_default`` first."""
    return tuple(run.signatures_of(model))


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call the signature of that name; see ``run.call``.

    Raises:
        UsageError: There is no such signature, or the inputs are not its.
    """
    found = run.signatures_of(model)
    if method not in found:
        raise UsageError(
            f"There is no signature {method!r:.60}; there are {', '.join(found) or 'none'}."
        )
    return run.call(found[method], inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs for the first signature; None where its shapes are not told."""
    found = run.signatures_of(model)
    return run.synthetic(next(iter(found.values())), rows, seed) if found else None


def steady(model: Any) -> AbstractContextManager[None]:
    """Restore variables that a call may change on exit."""
    return run.steady(model)
