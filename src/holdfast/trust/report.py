"""What a scan found of a foreign file, as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

__all__ = ["KINDS", "MOST_TENSORS", "Finding", "Report", "Severity", "Tensor"]

# How many tensors a report names.
MOST_TENSORS: Final = 10_000

# Kinds of files and folders, in words.
KINDS: Final[dict[str, str]] = {
    "7z": "7z archive",
    "catboost": "CatBoost model (cbm)",
    "compressed": "compressed file",
    "folder": "folder",
    "gguf": "GGUF",
    "graphdef": "TensorFlow GraphDef",
    "hdf5": "HDF5",
    "huggingface": "Hugging Face model folder",
    "joblib": "joblib file",
    "keras": "Keras archive (.keras)",
    "keras-h5": "Keras model or weights in HDF5",
    "lightgbm": "LightGBM model (text)",
    "npy": "NumPy array",
    "npz": "NumPy archive",
    "onnx": "ONNX model",
    "peft": "PEFT adapter folder",
    "pickle": "pickle",
    "safetensors": "safetensors",
    "savedmodel": "TensorFlow SavedModel",
    "skops": "skops file",
    "tar": "tar archive",
    "torch": "PyTorch checkpoint (zip)",
    "torch-legacy": "PyTorch checkpoint (before 1.6)",
    "torch-program": "torch.export program",
    "torchscript": "TorchScript program",
    "unknown": "unknown kind of file",
    "xgboost-binary": "XGBoost model (old binary)",
    "xgboost-json": "XGBoost model (JSON)",
    "xgboost-ubj": "XGBoost model (UBJSON)",
    "zip": "zip archive",
}


class Severity(StrEnum):
    """How much a finding matters."""

    UNSAFE = "unsafe"
    """Opening the file as its writer meant would run something that is not known to be data."""
    BROKEN = "broken"
    """The file is damaged, lies about itself or is beyond a limit."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: How much it matters.
        what: What it is, in words: ``would call posix.system``.
        position: Byte in the file or member where it is, or None.
    """

    severity: Severity
    what: str
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor that the file describes.

    Attributes:
        name: Its name in the file.
        dtype: As the file spells it.
        shape: Dimensions.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a file or folder is, read and never run.

    Attributes:
        path: The file, or the member's name inside its archive.
        kind: One of ``KINDS``.
        size: Bytes; of a folder all of its files.
        framework: What wrote it, as far as that is told: ``scikit-learn``.
        written_by: Version of that, or None.
        takes: ``"data"`` when Holdfast can take it over without running anything, ``"sandbox"``
            when only by running it in a sandbox, None when not at all.
        imports: What it would import or call, ``module.name``, in order, each once.
        tensors: Tensors, at most ``MOST_TENSORS`` of them.
        tensor_count: How many there are in all.
        findings: What else was found, in order.
        facts: JSON-like facts of the format, for example a Keras configuration's class.
        members: Reports on what is inside, for archives and folders.
    """

    path: str
    kind: str
    size: int
    framework: str | None = None
    written_by: str | None = None
    takes: str | None = None
    imports: tuple[str, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    tensor_count: int = 0
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    members: tuple[Report, ...] = ()

    def all_findings(self) -> Iterator[tuple[str, Finding]]:
        """Yield (place, finding) of this file and of everything inside it."""
        for finding in self.findings:
            yield self.path, finding
        for member in self.members:
            for place, finding in member.all_findings():
                yield f"{self.path}!{place}", finding

    @property
    def unsafe(self) -> bool:
        """Whether opening it, or something inside, as its writer meant would run code."""
        return any(f.severity is Severity.UNSAFE for _, f in self.all_findings())
