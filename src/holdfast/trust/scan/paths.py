"""Reports on files and folders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from holdfast.errors import Corrupt, UsageError
from holdfast.trust.report import Finding, Report, Severity
from holdfast.trust.scan.contents import report_on
from holdfast.trust.source import FileSource

__all__ = ["kind_of", "scan_path"]

_MOST_FILES: Final = 20_000
_MOST_JSON: Final = 16 << 20
# Endings that promise a kind; a file of another kind is worth a word.
_PROMISED: Final = {
    ".cbm": {"catboost"}, ".gguf": {"gguf"}, ".h5": {"hdf5"}, ".hdf5": {"hdf5"},
    ".joblib": {"joblib", "pickle", "compressed"}, ".keras": {"keras"}, ".npy": {"npy"},
    ".npz": {"npz"}, ".onnx": {"onnx"}, ".pkl": {"pickle", "joblib"},
    ".safetensors": {"safetensors"}, ".skops": {"skops"}, ".ubj": {"xgboost-ubj"},
}  # fmt: skip


def scan_path(
    path: Path, known: frozenset[str], progress: Callable[[Path], None] | None = None
) -> Report:
    """Report on a file, or on a folder and everything in it. Links are not followed.

    Args:
        path: The file or folder.
        known: Names in pickles that are data beside the vocabulary.
        progress: Called with every file of a folder before it is looked into.

    Raises:
        UsageError: There is no such path, or it cannot be read.
    """
    if path.is_dir() and not path.is_symlink():
        return _folder(path, known, progress)
    return _file(path, known)


def kind_of(path: Path) -> str:
    """Return the kind of a file or folder, one of ``report.KINDS``; raises ``UsageError``."""
    return scan_path(path, frozenset()).kind


def _file(path: Path, known: frozenset[str]) -> Report:
    with FileSource(path) as source:
        report = report_on(source, path.name, known)
    promised = _PROMISED.get(path.suffix.lower())
    if promised is None or report.kind in promised:
        return report
    what = f"its name promises {path.suffix}, which it is not"
    note = Finding(severity=Severity.NOTE, what=what)
    return replace(report, findings=(*report.findings, note))


def _folder(path: Path, known: frozenset[str], progress: Callable[[Path], None] | None) -> Report:
    members: list[Report] = []
    findings: list[Finding] = []
    size = 0
    for place, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(place) / name
            relative = file.relative_to(path).as_posix()
            if len(members) >= _MOST_FILES:
                what = f"more than {_MOST_FILES} files; the rest was not looked into"
                findings.append(Finding(severity=Severity.NOTE, what=what))
                return _concluded(path, size, members, findings)
            if file.is_symlink():
                what = f"{relative} is a link to {os.readlink(file)!r:.100}"  # noqa: PTH115 - a text
                findings.append(Finding(severity=Severity.NOTE, what=what))
                continue
            if progress is not None:
                progress(file)
            try:
                member = _file(file, known)
            except UsageError as error:
                findings.append(Finding(severity=Severity.BROKEN, what=error.message))
                continue
            size += member.size
            members.append(replace(member, path=relative))
    return _concluded(path, size, members, findings)


def _concluded(path: Path, size: int, members: list[Report], findings: list[Finding]) -> Report:
    """Say what a folder is for by the files in it."""
    names = {member.path for member in members}
    kind, framework = "folder", None
    if "saved_model.pb" in names:
        kind, framework = "savedmodel", "TensorFlow"
    elif "adapter_config.json" in names:
        kind, framework = "peft", "PEFT"
    elif "config.json" in names:
        config = _config(path / "config.json")
        if isinstance(config.get("model_type"), str):
            kind, framework = "huggingface", "transformers"
        if "auto_map" in config:
            findings.append(_code("config.json names code of its own (auto_map)"))
    if kind in ("huggingface", "peft"):
        findings += [
            _code(f"{n} is code beside the model") for n in sorted(names) if n.endswith(".py")
        ]
    return Report(
        path=str(path),
        kind=kind,
        size=size,
        framework=framework,
        findings=tuple(findings),
        members=tuple(members),
    )


def _code(what: str) -> Finding:
    return Finding(severity=Severity.UNSAFE, what=what)


def _config(path: Path) -> dict[str, Any]:
    try:
        with FileSource(path) as source:
            found = json.loads(source.exactly(0, min(source.size, _MOST_JSON), "the file"))
    except (ValueError, RecursionError, Corrupt, UsageError):
        return {}
    return found if isinstance(found, dict) else {}
