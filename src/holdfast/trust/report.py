"""What a scan found of a foreign file, as plain values."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

__all__ = ["KINDS", "MISNAMED", "MOST_TENSORS", "Finding", "Report", "Severity", "Tensor"]

# How many tensors a report names.
MOST_TENSORS: Final = 10_000
# How the finding begins that a file is not what its name promises.
MISNAMED: Final = "its name ends in"
# How many of a kind a page shows.
_SHOWN: Final = 12

# Kinds of files and folders, in words.
KINDS: Final[dict[str, str]] = {
    "7z": "7z archive",
    "bundle": "Holdfast bundle",
    "catboost": "CatBoost model (cbm)",
    "compressed": "compressed file",
    "folder": "folder",
    "gguf": "GGUF",
    "graphdef": "TensorFlow GraphDef",
    "hdf5": "HDF5",
    "huggingface": "Hugging Face model folder",
    "joblib": "joblib file",
    "json": "JSON",
    "keras": "Keras archive (.keras)",
    "keras-h5": "Keras model or weights in HDF5",
    "keras-metadata": "what Keras 2 says of a SavedModel",
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
    "tf-checkpoint": "TensorFlow checkpoint (index)",
    "torch": "PyTorch checkpoint (zip)",
    "torch-legacy": "PyTorch checkpoint (before 1.6)",
    "torch-program": "torch.export program",
    "torchscript": "TorchScript program",
    "unknown": "unknown kind of file",
    "version": "Holdfast version",
    "xgboost-binary": "XGBoost model (old binary)",
    "xgboost-json": "XGBoost model (JSON)",
    "xgboost-ubj": "XGBoost model (UBJSON)",
    "zip": "zip archive",
}


# What is no foreign file, and what is done with it.
_OURS: Final = {
    "bundle": "loads where it lies; 'hold unbundle' takes it in",
    "version": "loads from its bundle",
}
_FOLDERS: Final = frozenset({"folder", "huggingface", "peft", "savedmodel"})


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{key} {inner}" for key, inner in value.items()]
    return (", ".join(map(str, value[:_SHOWN])) if isinstance(value, list) else str(value))[:200]


class Severity(StrEnum):
    """How much a finding matters."""

    UNSAFE = "unsafe"
    """Opening the file as its writer meant would run something that is not known to be data, or
    reach out of it: write elsewhere when unpacked, read another file."""
    BROKEN = "broken"
    """The file is damaged, lies about itself or is beyond a limit."""
    UNREAD = "unread"
    """A part was not looked into, so what it would run is not known."""
    NOTE = "note"
    """Worth knowing."""


_VERDICTS: Final = {
    Severity.UNSAFE: "UNSAFE",
    Severity.BROKEN: "damaged",
    Severity.UNREAD: "not looked into",
}


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

    def __str__(self) -> str:
        return self.what if self.position is None else f"{self.what} (byte {self.position})"


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
        between = "/" if self.kind in _FOLDERS else "!"
        for member in self.members:
            for place, finding in member.all_findings():
                yield f"{self.path}{between}{place}", finding

    def inside(self, place: str) -> str:
        """Return a place of ``all_findings`` without the path of this file; empty for itself."""
        return place.removeprefix(self.path)[1:]

    @property
    def unsafe(self) -> bool:
        """Whether opening it, or something inside, as its writer meant would run code."""
        return self.worst is Severity.UNSAFE

    @property
    def worst(self) -> Severity | None:
        """The most severe that was found of it or inside; None when nothing was."""
        found = {finding.severity for _, finding in self.all_findings()}
        return next((severity for severity in Severity if severity in found), None)

    @property
    def writer(self) -> str:
        """What wrote it, with its version; empty when that is not told."""
        return " ".join(filter(None, (self.framework, self.written_by)))

    @property
    def verdict(self) -> str:
        """What it comes to, in a line. It never says that a file is safe."""
        for severity, word in _VERDICTS.items():
            for _, finding in self.all_findings():
                if finding.severity is severity:
                    return f"{word}: {finding}"
        if self.kind in _OURS:
            return _OURS[self.kind]
        words = {"data": "can be taken over as data", "sandbox": "only by running it in a sandbox"}
        return words.get(self.takes or "", "is not taken over")

    def facts_lines(self) -> Iterator[tuple[str, str]]:
        """Yield what is known of it, as (title, text) for a page; the findings are not among it."""
        if self.writer:
            yield "written by", self.writer
        if self.imports:
            rest = len(self.imports) - _SHOWN
            more = f" and {rest} more" if rest > 0 else ""
            yield "names", ", ".join(self.imports[:_SHOWN]) + more
        for key, value in list(self.facts.items())[:_SHOWN]:
            yield key.rpartition(".")[2].replace("_", " ")[:20], _in_words(value)
        if self.tensor_count:
            yield "tensors", str(self.tensor_count)
        for tensor in self.tensors[:_SHOWN]:
            yield "", f"{tensor.name[-60:]}  {tensor.dtype} {list(tensor.shape)}"
        yield "verdict", self.verdict

    def __str__(self) -> str:
        """Describe the file for people; control characters of it are left out."""
        lines = [f"{self.path}  {KINDS[self.kind]}, {self.size} bytes"]
        lines += [f"  {title:<12} {text}" for title, text in self.facts_lines()]
        found = list(self.all_findings())
        for place, finding in found[:_SHOWN]:
            inside = "" if place == self.path else f"{self.inside(place)}: "
            lines.append(f"  {finding.severity.value:<12} {inside}{finding}")
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} findings more")
        return "\n".join("".join(c for c in line if c.isprintable()) for line in lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
