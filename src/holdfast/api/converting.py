"""Taking over foreign files as versions, without running anything of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast import frameworks
from holdfast.api.files import model_from_file
from holdfast.api.save import save
from holdfast.api.scanning import scan
from holdfast.api.version import Version
from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, UnsafeContent, Unsupported
from holdfast.rescue.pickle_files import read_pickle
from holdfast.rescue.torch_files import read_torch
from holdfast.trust.report import KINDS, Report, Severity

__all__ = ["convert", "model_from_report"]


def convert(path: str | os.PathLike[str], name: str, **options: Any) -> Version:
    """Keep what a foreign file holds as a new version; nothing in the file is run.

    The file is scanned first. Taken over as data are scikit-learn pickles and joblib files of the
    installed minor release, pickles of plain values and arrays, PyTorch checkpoints, safetensors,
    NumPy and ONNX files, native XGBoost and LightGBM files and ``torch.export`` programs.

    Args:
        path: The file.
        name: The model's name.
        options: Those of ``holdfast.save``, for example ``inputs=`` for the proof.

    Returns:
        The new version; its ``params`` say which file it came from.

    Raises:
        UnsafeContent: Opening it would run something that is not known to be data.
        Unsupported: It cannot be read as data; the message says what of it, and the way out.
        Corrupt: It is damaged.
        Anything ``save`` raises.
    """
    path = Path(path)
    report = scan(path)
    try:
        model = model_from_report(path, report)
    except (Unsupported, Corrupt) as error:
        if error.hint == type(error).usual_hint:
            error.hint = f"hold scan {path}"
        raise
    origin = {
        "file": path.name,
        "kind": report.kind,
        "sha256": _digest(path),
        "written_by": " ".join(filter(None, (report.framework, report.written_by))),
    }
    params = {**(options.pop("params", None) or {}), "converted_from": origin}
    return save(model, name, params=params, **options)


def model_from_report(path: Path, report: Report) -> Any:
    """Read a scanned file as something that ``save`` keeps; raises as ``convert``."""
    if report.kind == "torch":  # a module's state is data whatever its class would run
        with contextlib.suppress(Unsupported):
            return read_torch(path, frameworks.registry())
    for place, finding in report.all_findings():
        if finding.severity is Severity.UNSAFE:
            at = "" if finding.position is None else f" (byte {finding.position})"
            raise UnsafeContent(
                f"UNSAFE  {place}: {finding.what}{at}. Nothing was run.",
                hint=f"hold scan {path}",
                ref=str(path),
            )
    registry = frameworks.registry()
    reader = _READERS.get(report.kind)
    if reader is not None:
        return reader(path, registry)
    for adapter in frameworks.adapters():
        if report.kind in adapter.READS:
            return adapter.READS[report.kind](path)
    raise Unsupported(
        f"{path} is a {KINDS[report.kind]}, which this release does not take over.",
        hint=f"hold scan {path}",
        ref=str(path),
    )


def _npy(path: Path, registry: Registry) -> Any:  # noqa: ARG001 - every reader is called alike
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except ValueError as error:
        raise Unsupported(
            f"{path} holds Python objects in an array, which is a pickle of its own.",
            hint="numpy.savez('plain.npz', **columns)  # where the file was written",
            ref=str(path),
        ) from error


def _own(path: Path, registry: Registry) -> Any:  # noqa: ARG001 - same
    return model_from_file(path)


_READERS: Final[dict[str, Callable[[Path, Registry], Any]]] = {
    "joblib": read_pickle,
    "npy": _npy,
    "npz": _own,
    "onnx": _own,
    "pickle": read_pickle,
    "safetensors": _own,
    "torch": read_torch,
}


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and digests in order."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for inside in sorted(each for each in path.rglob("*") if each.is_file()):
        whole.update(f"{_digest(inside)}  {inside.relative_to(path).as_posix()}\n".encode())
    return whole.hexdigest()
