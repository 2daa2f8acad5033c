"""ONNX models: the file is kept whole, with the files beside it that hold its larger tensors.

A graph is a program for the runtime that executes it, so it is judged as data first: only
operators that compute outputs from inputs are let in. Loading returns the parsed
``onnx.ModelProto``, or an ``OnnxFile`` of mapped bytes where tensors lie in other files. Where
onnxruntime is installed, its answers are recorded and replayed.
Source of the format: https://onnx.ai/onnx/repo-docs/IR.html
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import Registry, TypeSpec
from holdfast.errors import Corrupt, UnsafeContent, Unsupported, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.onnx import files as onnx_files, protos, run
from holdfast.frameworks.onnx.files import MAIN, OnnxFile, open_file
from holdfast.record import Structure
from holdfast.trust.onnx_graph import Described
from holdfast.trust.onnx_operators import minimum_runtime

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "OnnxFile",
    "difference",
    "methods",
    "open_file",
    "owns",
    "pack",
    "predict",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

_LOG: Final = logging.getLogger("holdfast")

ID: Final = "onnx"
TYPES: Final[Sequence[TypeSpec]] = ()
READS: Final[Mapping[str, Callable[[Path], Any]]] = {"onnx": open_file}


def _write(model: Any, path: Path) -> None:
    """Write a model as a file; tensors beyond 2 GB, or in files of their own, lie beside it."""
    onnx_files.write_file(protos.file_of(model, f"{path.name}.data"), path)


WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {"onnx": _write}


def owns(model: object) -> bool:
    """Say whether ``model`` is an ONNX file or an ``onnx.ModelProto``."""
    return isinstance(model, OnnxFile) or protos.is_proto(model)


def pack(model: Any, registry: Registry) -> Payload:  # noqa: ARG001 - the adapter's contract
    """Keep the serialised model as one file, and tensors that lie in others as those files.

    Raises:
        Corrupt: The model contradicts itself, or onnx's checker refuses it.
        UnsafeContent: An operator reaches out of the graph.
        Unsupported: Nothing is known of an operator, or tensors lie in files that are not given.
    """
    file = protos.file_of(model)
    described = onnx_files.describe(file.data)
    onnx_files.refuse_operators(described)
    if described.externals and not file.files:
        raise Unsupported(
            "The ONNX model keeps tensors in other files, and does not say in which folder.",
            hint='holdfast.save(pathlib.Path("model.onnx"), name)  # reads the files beside it',
        )
    files = onnx_files.neighbours(described, file.files)
    complaint = protos.complaint(file)
    if complaint is not None:
        _note_or_refuse(file, complaint)
    return Payload(
        structure=Structure(nodes=(("none",),)),
        tensors={},
        files={MAIN: file.data, **files},
        facts={"onnx": _facts(described) | ({"checker": complaint} if complaint else {})},
    )


def _note_or_refuse(file: OnnxFile, complaint: str) -> None:
    """Keep a model that onnx's checker dislikes if the runtime takes it; old exporters made many.

    Raises:
        Corrupt: The runtime does not take it either, or is not installed.
    """
    if not run.opens(file):
        raise Corrupt(
            f"The ONNX model is not sound: {complaint}",
            hint="python -c \"import onnx; onnx.checker.check_model('model.onnx')\"",
        )
    _LOG.warning("onnx's checker says of the model: %s; onnxruntime takes it", complaint)


def _facts(described: Described) -> dict[str, Any]:
    """Return what a later environment must know: versions, the first runtime that has them."""
    contrib = sorted(name for name in described.operators if name.startswith("com.microsoft::"))
    facts: dict[str, Any] = {
        "ir_version": described.ir_version,
        "opsets": {domain or "ai.onnx": n for domain, n in sorted(described.opsets.items())},
        "producer": f"{described.producer} {described.producer_version}".strip(),
        "minimum_onnxruntime": minimum_runtime(described.ir_version, described.opsets),
    }
    if contrib:  # they have no versions, so nothing says which release has them
        facts["onnxruntime_operators"] = contrib
    if described.locales:
        facts["locales"] = sorted(described.locales)[:10]
    return facts


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:  # noqa: ARG001
    """Return the parsed ``onnx.ModelProto``, or an ``OnnxFile`` where tensors lie in other files.

    The latter's bytes are the store's, mapped; ``OnnxFile.proto`` reads them all.

    Raises:
        MissingExtra: The onnx package is not installed.
        Corrupt: A file is missing, contradicts itself or does not parse.
        UnsafeContent: An operator reaches out of the graph.
        UsageError: ``into=`` or ``rename=`` was given.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            "into= and rename= are for modules and trees; an ONNX model is loaded whole.",
            hint='holdfast.load("REF")',
        )
    if MAIN not in opened.files:
        raise Corrupt(f"an ONNX version holds the file {MAIN}, and this one does not")
    described = onnx_files.describe(opened.files[MAIN])
    if described.reaching:
        onnx_files.refuse_operators(described)
    files = onnx_files.neighbours(described, opened.files)
    model = OnnxFile(opened.files[MAIN], files)
    return model if files else protos.proto_of(model)


def difference(model: Any, built: Any, registry: Registry) -> str | None:  # noqa: ARG001
    """Compare every field of two models, tensors in other files with those in the model."""
    return None if protos.same(model, built) else "The ONNX model comes back with other content"


def requires(model: Any) -> tuple[str, ...]:  # noqa: ARG001 - the adapter's contract
    """Return what loading needs, and the runtime where its answers are part of the proof."""
    return ("onnx", "onnxruntime") if run.is_installed() else ("onnx",)


def methods(model: Any) -> tuple[str, ...]:
    """Return ``("run",)`` where onnxruntime can run the graph, else nothing."""
    try:
        return ("run",) if run.can_run(model) else ()
    except (Corrupt, Unsupported, UnsafeContent):
        return ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Run the graph; see ``run.call``.

    Raises:
        UsageError: The method is not ``run``, or the inputs are not the graph's.
    """
    if method != "run":
        raise UsageError(f"an ONNX model has no output method {method!r}; only 'run'.")
    return run.call(model, inputs)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs of the declared types and shapes; None where they are not declared."""
    return run.synthetic(model, rows, seed) if methods(model) else None


def steady(model: Any) -> AbstractContextManager[None]:  # noqa: ARG001 - the adapter's contract
    """Return a context that does nothing: a session has no state between calls."""
    return nullcontext()
