"""Taking over foreign files as versions, without running anything of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.api.sandboxing import can_open, opened_in_sandbox
from holdfast.api.save import save
from holdfast.api.scanning import scan
from holdfast.api.version import Version
from holdfast.errors import SecretFound, UnsafeContent, Unsupported, UsageError
from holdfast.rescue.reading import read
from holdfast.rescue.taken import Taken
from holdfast.trust.report import Report, Severity

__all__ = ["convert", "taken_from"]

_MOST_NOTES: Final = 100
# Their arrays are data whatever code is kept beside them; the readers take nothing else.
_ARRAYS_APART: Final = frozenset({"keras", "keras-h5", "torch", "torch-legacy"})


def convert(
    path: str | os.PathLike[str], name: str, *, sandbox: bool = False, **options: Any
) -> Version:
    """Keep what a foreign file holds as a new version; nothing in the file is run.

    The file is scanned first. Taken over as data are scikit-learn pickles and joblib files of 1.2
    up to the installed release (states migrate, see ``docs/migrations.md``), skops files, pickles
    of plain values and arrays, PyTorch and Lightning checkpoints, HDF5 and Keras files,
    safetensors, GGUF, NumPy and ONNX files, native XGBoost, LightGBM and CatBoost files,
    ``torch.export`` programs, and folders of SavedModels and of Hugging Face models.

    Args:
        path: The file, or a folder that is one model.
        name: The model's name.
        sandbox: Open what cannot be read as data in a process without network that can write
            nowhere, may take so much memory and time and is ended then; what it makes of the file
            is taken over as data and proven. The file's code runs there, and only there.
        options: Those of ``holdfast.save``, for example ``inputs=`` for the proof.

    Returns:
        The new version; ``params["converted_from"]`` says which file it came from and how.

    Raises:
        UnsafeContent: Opening it would run something that is not known to be data.
        Unsupported: It cannot be read as data; the message says what of it, and the way out.
        Corrupt: It is damaged.
        EnvironmentMismatch: A sandbox was asked for, and nothing can be confined here.
        Anything ``save`` raises.
    """
    path = Path(path)
    report = scan(path)
    if report.kind == "bundle":
        raise UsageError(
            f"{path} is a bundle of versions that Holdfast packed, not a foreign file.",
            hint=f"hold unbundle {path}",
        )
    try:
        return kept(path, report, taken_from(path, report), name, options)
    except (UnsafeContent, Unsupported) as error:
        if isinstance(error, SecretFound) or not can_open(report):
            raise
        if not sandbox:
            error.hint = f"hold scan {path}\nhold convert {path} --sandbox  # runs it, shut in"
            raise
    with opened_in_sandbox(path, report, options) as taken:
        return kept(path, report, taken, name, options)


def taken_from(path: Path, report: Report) -> Taken:
    """Read a scanned file as something that ``save`` keeps; raises as ``convert``."""
    unsafe = next((f for f in report.all_findings() if f[1].severity is Severity.UNSAFE), None)
    try:
        if unsafe is None or report.kind in _ARRAYS_APART:
            return read(path, report.kind)
    except Unsupported:
        if unsafe is None:
            raise
    place, finding = unsafe
    raise UnsafeContent(
        f"UNSAFE  {place}: {finding}. Nothing was run.", hint=f"hold scan {path}", ref=str(path)
    )


def kept(
    path: Path, report: Report, taken: Taken, name: str, options: Mapping[str, Any]
) -> Version:
    """Save what was taken from a file, with where it came from among its ``params``."""
    origin = {
        "file": path.name,
        "kind": report.kind,
        "sha256": _digest(path),
        "written_by": report.writer,
        "how": taken.how,
        "notes": [*taken.notes[:_MOST_NOTES]],
    }
    own = {**taken.params, **(options.get("params") or {}), "converted_from": origin}
    files = _files(taken.files, options.get("files"))
    return save(taken.model, name, **{**options, "params": own, "files": files})


def _files(taken: Mapping[str, bytes], given: Any) -> Any:
    """Return the files of both sides; the caller's win."""
    if not taken or not given:
        return given or taken
    mine = given if isinstance(given, Mapping) else {Path(item).name: item for item in given}
    return {**taken, **mine}


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and digests in order."""
    if not path.is_dir():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(_inside(path)):
        whole.update(f"{_digest(file)}  {file.relative_to(path).as_posix()}\n".encode())
    return whole.hexdigest()


def _inside(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        files = (Path(place, name) for name in names)
        yield from (file for file in files if file.is_file() and not file.is_symlink())
