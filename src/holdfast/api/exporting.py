"""Writing a version in a format that others read, so that nobody is locked in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast import frameworks
from holdfast.api.history import get
from holdfast.api.store import Store
from holdfast.api.version import Version
from holdfast.durable import fsync_dir, mapped_os_errors, write_all
from holdfast.errors import Corrupt, Unsupported, UsageError
from holdfast.plugins import import_extra
from holdfast.record import Digest

__all__ = ["export", "formats"]

_CHUNK: Final = 1 << 20

# Formats that hold a version's tensors, whatever its framework.
_TENSORS: Final = {
    "safetensors": "the tensors, bit for bit",
    "npz": "the tensors, for numpy.load",
    "h5": "the tensors by their paths, for h5py",
}
# Frameworks whose models get portable forms: the format of the file, and that of the form.
_FORMED: Final = {
    "sklearn": ("onnx", "onnx"),
    "torch": ("pt2", "torch.export"),
    "transformers": ("pt2", "torch.export"),
}
_PROGRAM: Final = "torch.ExportedProgram"
# What formats of frameworks hold.
_WORDS: Final = {
    "cbm": "the model, for CatBoost",
    "folder": "the model folder, for from_pretrained",
    "h5": "the model in HDF5, for Keras",
    "json": "the booster, for XGBoost",
    "keras": "the model, for keras.saving.load_model",
    "onnx": "the graph, for ONNX runtimes",
    "pt2": "the program, for torch.export.load",
    "savedmodel": "the functions, for TensorFlow Serving",
    "txt": "the booster, for LightGBM",
    "ubj": "the booster, for XGBoost",
}

# How a target's name ends to the format it asks for; a folder has no ending.
_ENDINGS: Final = {
    ".cbm": "cbm", ".h5": "h5", ".json": "json", ".keras": "keras", ".npz": "npz",
    ".onnx": "onnx", ".pt2": "pt2", ".safetensors": "safetensors", ".txt": "txt", ".ubj": "ubj",
}  # fmt: skip


def export(
    ref: str,
    to: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the field's own word
    store: Store | str | os.PathLike[str] | None = None,
) -> Path:
    """Write a version to a new file or folder in a format of others.

    ``safetensors``, ``npz`` and ``h5`` hold the version's tensors and need no framework. ``onnx``
    of an estimator of scikit-learn, and ``pt2`` of a module, are its portable form, made and proven
    now where none was kept. Every other
    format is written by the framework from the loaded, proven model.

    Args:
        ref: The version.
        to: A path that does not exist. It appears whole or not at all.
        format: ``safetensors``, ``npz``, ``h5``, or one of the framework's own: ``ubj``, ``json``
            (XGBoost), ``txt`` (LightGBM), ``cbm`` (CatBoost), ``keras``, ``h5``, ``savedmodel``,
            ``onnx``, ``pt2``, ``folder`` (Hugging Face). Default: by the ending of ``to``.
        store: Store or path; default: the store in force.

    Returns:
        The path written.

    Raises:
        Unsupported: The version cannot be written in this format; the message names those that
            can.
        UsageError: The path exists, or nothing says which format is meant.
        Anything ``load`` raises.
    """
    version = get(ref, store=store)
    target = Path(to)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists; an export never overwrites.", hint=f"ls -ld {target}")
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {target.parent}.", hint=f"mkdir -p {target.parent}")
    with mapped_os_errors(target.parent, f"exporting {version.ref}"), _appearing(target) as beside:
        _writer(version, target, format)(beside)
    return target


def formats(
    ref: str, *, store: Store | str | os.PathLike[str] | None = None
) -> dict[str, tuple[str, str]]:
    """Return what a version can be exported as: format to (ending, what it holds), best first.

    Raises:
        NotFound: No such version.
        EnvironmentMismatch: Its adapter is not here.
    """
    version = get(ref, store=store)
    native = frameworks.adapter_named(version.content.framework).WRITES
    endings = {name: ending for ending, name in _ENDINGS.items()}
    found = {name: _WORDS.get(name, "the model, in the framework's own format") for name in native}
    if version.content.framework in _FORMED:
        name, _ = _FORMED[version.content.framework]
        found |= {name: _WORDS[name]}
    if version.content.tensors:
        found |= {name: words for name, words in _TENSORS.items() if name not in native}
    return {name: (endings.get(name, ""), words) for name, words in found.items()}


def _writer(version: Version, target: Path, wanted: str | None) -> Callable[[Path], None]:
    """Return what writes the version to a path."""
    framework = version.content.framework
    native = frameworks.adapter_named(framework).WRITES
    tensors = _TENSOR_WRITERS if version.content.tensors else {}
    if framework in _FORMED and _PROGRAM not in version.content.structure.types:
        name, _ = _FORMED[framework]
        tensors = {name: _portable, **tensors}
        native = {other: write for other, write in native.items() if other != name}
    known = [*native, *(name for name in tensors if name not in native)]
    chosen = wanted or _ENDINGS.get(target.suffix.lower()) or _folder_format(target, native)
    if chosen is None or chosen not in known:
        asked = f"as {chosen!r:.40}" if chosen else "to a path without a known ending"
        raise Unsupported(
            f"{version.ref} ({framework}) cannot be exported {asked}; "
            f"it can be as {', '.join(known) or 'nothing: it has no tensors'}.",
            hint=_example(version.ref, known),
            ref=version.ref,
        )
    if chosen not in native:
        return lambda path: tensors[chosen](version, path)
    model, write = version.load(environment="here"), native[chosen]
    return lambda path: write(model, path)


def _folder_format(target: Path, native: Mapping[str, Any]) -> str | None:
    folders = [name for name in ("folder", "savedmodel") if name in native]
    return folders[0] if folders and not target.suffix else None


def _example(ref: str, formats: list[str]) -> str:
    if not formats:
        return f"hold show {ref}"
    ending = {name: ending for ending, name in _ENDINGS.items()}.get(formats[0], "")
    return f"hold export {ref} model{ending}"


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give a path beside the target with its ending; it becomes the target when all went well."""
    beside = target.with_name(f".{secrets.token_hex(6)}-{target.name}")
    try:
        yield beside
        os.rename(beside, target)  # noqa: PTH104 - Path.rename says no more
        fsync_dir(target.parent)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


def _safetensors(version: Version, path: Path) -> None:
    """Write the version's pieces one after the other: they are the file; each is verified."""
    blobs = version.store.blobs
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for piece in version.manifest.pieces:
            hasher = hashlib.sha256()
            with contextlib.closing(blobs.open_blob(Digest(piece.digest))) as reading:
                view = reading.view()
            for start in range(0, len(view), _CHUNK):
                chunk = view[start : start + _CHUNK]
                hasher.update(chunk)
                write_all(fd, chunk)
            if f"sha256:{hasher.hexdigest()}" != piece.digest:
                raise Corrupt(f"A blob of {version.ref} is damaged.", ref=piece.digest)
        os.fsync(fd)
    finally:
        os.close(fd)


def _portable(version: Version, path: Path) -> None:
    """Write the portable form that is kept, or one that is made and proven now."""
    from holdfast.api import portable

    kept = version.record.portable or {}
    data = portable.form_bytes(version) if "blob" in kept else _formed_now(version)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _formed_now(version: Version) -> bytes:
    """Make the portable form of a version that has none, of its model and golden set here."""
    from holdfast.api import forming, portable
    from holdfast.api.load import behaviour_of
    from holdfast.archive import golden as goldens

    registry, record = frameworks.registry(), version.record
    adapter = frameworks.adapter_named(version.content.framework)
    model, captured = version.load(environment="here"), None
    if record.golden is not None:
        golden = goldens.Golden.parse(record.golden)
        blob = None if golden.blob is None else version.store.blobs.read(Digest(golden.blob))
        rows = goldens.inputs_of(golden, None if blob is None else memoryview(blob), registry)
        behaviour = behaviour_of(adapter, model)
        captured = goldens.capture(behaviour, rows, registry, mode="inputs")
    name, wanted = _FORMED[version.content.framework]
    try:
        form = forming.formed(wanted, forming.Subject(adapter, model, captured), registry)
    except Unsupported as error:
        error.message = f"{version.ref} cannot be exported as {name}. {error.message}"
        error.hint = f"hold export {version.ref} model.safetensors"
        raise
    assert form is not None  # noqa: S101 - it was asked for by name
    assert form.blob is not None  # noqa: S101 - same
    return portable.file_of(version, form.document, form.blob)


def _npz(version: Version, path: Path) -> None:
    """Write the tensors as a NumPy archive; what numpy has no dtype for is raw integers."""
    tensors = version.tensors()
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name in tensors:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, tensors[name], allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _h5(version: Version, path: Path) -> None:
    """Write the tensors as datasets of HDF5; a name's parts become groups."""
    h5py = import_extra("h5py", needed_for="writing HDF5")
    tensors = version.tensors()
    with path.open("xb") as made, h5py.File(made, "w") as file:
        for name in tensors:
            try:
                file.create_dataset(name, data=tensors[name])
            except (TypeError, ValueError) as error:
                raise Unsupported(
                    f"HDF5 cannot hold a tensor of the name {name!r:.100}: {error!s:.100}",
                    hint=f"hold export {version.ref} model.npz",
                    ref=version.ref,
                ) from error
        file.flush()
        made.flush()
        os.fsync(made.fileno())


_TENSOR_WRITERS: Final[Mapping[str, Callable[[Version, Path], None]]] = {
    "safetensors": _safetensors,
    "npz": _npz,
    "h5": _h5,
}
