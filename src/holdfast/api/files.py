"""What can be kept from disk without running anything: safetensors, npz, ONNX, model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from holdfast.errors import UnsafeContent, Unsupported
from holdfast.rescue.reading import read
from holdfast.trust.report import KINDS, Report, Severity
from holdfast.trust.scan import scan_path

__all__ = ["model_from_file"]

_SAVED: Final = frozenset({"huggingface", "npz", "onnx", "safetensors", "savedmodel"})
_PICKLED: Final = frozenset({"joblib", "pickle", "torch", "torch-legacy", "torchscript"})


def model_from_file(path: Path) -> Any:
    """Read a model file as something ``save`` keeps.

    The content decides, never the extension. Tensors are views of the mapped file.

    Returns:
        A dictionary of numpy arrays (of torch tensors when the file says it comes from torch,
        or holds dtypes numpy lacks), an ``onnx.OnnxFile``, a ``tensorflow.SavedModel``, or what a
        Hugging Face folder holds.

    Raises:
        UnsafeContent: The file is a pickle or contains one; it was not opened.
        Unsupported: It is something else.
        Corrupt: It is damaged or lies about its sizes.
    """
    report = scan_path(path, frozenset())
    _refuse_pickles(path, report)
    if report.kind in _SAVED:
        return read(path, report.kind).model
    raise Unsupported(
        f"{path}: {KINDS[report.kind]}. Only safetensors, npz and ONNX files and the folders of "
        "SavedModels and of Hugging Face are saved as they are.",
        hint=f"hold convert {path} --name NAME  # or save the live object: holdfast.save(model)",
        ref=str(path),
    )


def _refuse_pickles(path: Path, report: Report) -> None:
    """Refuse what is a pickle or holds one, known data or not: saving keeps no pickles."""
    parts = (report, *report.members)
    pickled = any(part.kind in _PICKLED or "protocol" in part.facts for part in parts)
    if report.kind == "huggingface":  # pickles beside the weights are not read
        pickled = False
    if not pickled and not report.unsafe:
        return
    unsafe = (f for _, f in report.all_findings() if f.severity is Severity.UNSAFE)
    reason = next(map(str, unsafe), "which holds a pickle")
    raise UnsafeContent(
        f"UNSAFE  {path} is a {KINDS[report.kind]}, {reason}. Nothing was run.",
        hint=f"hold scan {path}  # what is in it; then: hold convert {path} --name NAME",
        ref=str(path),
    )
