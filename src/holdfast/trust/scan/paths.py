"""Reports on files and folders."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from holdfast.trust.report import KINDS, MISNAMED, Finding, Report, Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.folders import look_at_folder
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import FileSource, Source

__all__ = ["OwnFile", "scan_path"]

# Endings that promise a kind; a file of another kind is worth a word.
_PROMISED: Final[dict[str, frozenset[str]]] = {
    ending: frozenset(kinds.split())
    for ending, kinds in {
        ".7z": "7z", ".bin": "", ".cbm": "catboost", ".gguf": "gguf", ".h5": "hdf5 keras-h5",
        ".hdf5": "hdf5 keras-h5", ".joblib": "joblib pickle compressed", ".keras": "keras",
        ".npy": "npy", ".npz": "npz", ".onnx": "onnx", ".p": "pickle joblib",
        ".pb": "graphdef keras-metadata savedmodel unknown", ".pickle": "pickle joblib",
        ".pkl": "pickle joblib",
        ".pt": "torch torch-legacy torchscript torch-program",
        ".pth": "torch torch-legacy torchscript", ".pt2": "torch-program",
        ".safetensors": "safetensors", ".skops": "skops", ".tar": "tar",
        ".ubj": "xgboost-ubj", ".zip": "zip npz torch torchscript torch-program keras skops",
        ".json": "xgboost-json json unknown", ".txt": "lightgbm unknown", ".md": "unknown",
        ".py": "unknown", ".csv": "unknown", ".yaml": "unknown", ".yml": "unknown",
    }.items()
    if kinds
}  # fmt: skip


# Reports on a file that Holdfast wrote, by its name in the report; None for any other file.
OwnFile = Callable[[Scanner, Source, Path, str], Report | None]


def scan_path(
    path: Path,
    known: Container[str],
    progress: Callable[[Path], None] | None = None,
    own: OwnFile | None = None,
) -> Report:
    """Report on a file, or on a folder and everything in it.

    Args:
        path: The file or folder.
        known: Names in pickles that are data beside the vocabulary.
        progress: Called with every file of a folder before it is looked into.
        own: Reports on files of Holdfast's; by default they are looked into like any other.

    Raises:
        UsageError: There is no such path, or it cannot be read.
    """
    if path.is_dir():
        return look_at_folder(scanner(known), path, partial(_file, own=own), progress)
    report = _file(scanner(known), path, str(path), own)
    # A SavedModel is taken over as a folder.
    return replace(report, takes=None) if report.kind == "savedmodel" else report


def _file(scan: Scanner, path: Path, name: str, own: OwnFile | None = None) -> Report:
    with FileSource(path) as source:
        report = (own and own(scan, source, path, name)) or scan.look(source, name)
    promised = _PROMISED.get(path.suffix.lower())
    if promised is None or report.kind in promised:
        return report
    what = f"{MISNAMED} {path.suffix}, but it is: {KINDS[report.kind]}"
    note = Finding(severity=Severity.NOTE, what=what)
    return replace(report, findings=(*report.findings, note))
