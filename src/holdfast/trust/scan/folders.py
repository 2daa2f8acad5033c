"""Reports on folders: every file by its content, and the whole by what it is for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from holdfast.errors import Corrupt, UsageError
from holdfast.trust.report import Report
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.json_files import read_json
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import FileSource

__all__ = ["look_at_folder"]

_MOST_FILES: Final = 20_000
_DEEPEST: Final = 32
_WEIGHTS: Final = frozenset(
    {"safetensors", "torch", "torch-legacy", "keras-h5", "hdf5", "onnx", "gguf", "pickle", "joblib"}
)
Progress = Callable[[Path], None]
LookAtFile = Callable[[Scanner, Path, str], Report]


def look_at_folder(
    scanner: Scanner, path: Path, look: LookAtFile, progress: Progress | None = None
) -> Report:
    """Report on a folder. Links that lead out of it are not followed.

    Args:
        scanner: The scan.
        path: The folder.
        look: Reports on one of its files.
        progress: Called with every file before it is looked into.
    """
    draft = Draft(str(path), "folder", 0, scanner.allowance)
    for file in _files(path, draft):
        if progress is not None:
            progress(file)
        name = file.relative_to(path).as_posix()
        if not scanner.may_look(0):
            draft.broken("it has more files than are looked into")
            break
        try:
            member = look(scanner, file, name)
        except UsageError as error:
            draft.broken(error.message)
            continue
        draft.size += member.size
        draft.members.append(member)
    _conclude(draft, path)
    return draft.report()


def _files(path: Path, draft: Draft) -> Iterator[Path]:
    """Yield regular files in order, and note what is none."""
    count = 0
    for place, folders, names in os.walk(path, onerror=lambda error: draft.broken(str(error))):
        here = Path(place)
        folders.sort()
        if len(here.relative_to(path).parts) >= _DEEPEST:
            draft.broken(f"folders deeper than {_DEEPEST} were not looked into")
            folders.clear()
        for name in folders:
            if (here / name).is_symlink():
                draft.note(f"{_shown(here / name, path)}, which was not followed")
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                draft.broken(f"more than {_MOST_FILES} files; the rest was not looked into")
                return
            if _is_file(here / name, path, draft):
                yield here / name


def _is_file(file: Path, root: Path, draft: Draft) -> bool:
    name = file.relative_to(root).as_posix()
    try:
        mode = file.stat().st_mode
    except OSError as error:
        draft.note(f"{name} leads nowhere: {error.strerror}")
        return False
    if file.is_symlink() and not _may_follow(file, root):
        draft.note(f"{_shown(file, root)}, out of the folder; it was not followed")
        return False
    if stat.S_ISREG(mode):
        return True
    draft.note(f"{name} is a pipe or a device; it was not opened")
    return False


def _may_follow(link: Path, root: Path) -> bool:
    """Say whether a link stays in the folder, or in the cache of a hub that the folder is of.

    Hugging Face keeps ``snapshots/REVISION/NAME`` as links to ``blobs/DIGEST`` beside it.
    """
    target, top = link.resolve(), root.resolve()
    blobs = top.parent.parent / "blobs"
    return target.is_relative_to(top) or (top.parent.name == "snapshots" and target.parent == blobs)


def _shown(file: Path, root: Path) -> str:
    return f"{file.relative_to(root).as_posix()} is a link to {os.readlink(file)!r:.100}"  # noqa: PTH115 - a text


def _conclude(draft: Draft, path: Path) -> None:
    """Say what a folder is for by the files at its top, and look for models with code below."""
    names = {member.path: member for member in draft.members}
    for member in draft.members:
        draft.imports(member.imports)
    if "saved_model.pb" in names and names["saved_model.pb"].kind in ("savedmodel", "unknown"):
        draft.kind, draft.framework = "savedmodel", "TensorFlow"
        draft.written_by = names["saved_model.pb"].written_by
    elif "adapter_config.json" in names:
        _adapter(draft, path)
    elif "config.json" in names or "modules.json" in names:
        _hugging_face(draft, path)
    if draft.kind != "folder":  # one model, and not a shelf of them
        for member in draft.members:
            draft.count_tensors(member)
    for place in sorted(_models(names)):
        for name in sorted(names):
            if name.endswith(".py") and PurePosixPath(name).is_relative_to(place):
                draft.unsafe(f"{name} is code beside the model")
    if draft.kind != "folder":
        draft.take_as_data()


def _models(names: Iterable[str]) -> set[PurePosixPath]:
    """Return the folders that hold a model of Hugging Face's: a configuration and weights."""
    places: dict[PurePosixPath, set[str]] = {}
    for name in map(PurePosixPath, names):
        places.setdefault(name.parent, set()).add(name.name)
    weights = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx", ".gguf")
    return {
        place
        for place, inside in places.items()
        if inside & {"config.json", "adapter_config.json", "modules.json"}
        and ("modules.json" in inside or any(name.endswith(weights) for name in inside))
    }


def _adapter(draft: Draft, path: Path) -> None:
    config = _json(path / "adapter_config.json", dict)
    if not isinstance(config.get("peft_type"), str):
        return
    draft.kind, draft.framework = "peft", "PEFT"
    version = config.get("peft_version")
    draft.written_by = version[:40] if isinstance(version, str) else None
    _facts(draft, config, ("peft_type", "base_model_name_or_path", "task_type", "r"))


def _hugging_face(draft: Draft, path: Path) -> None:
    config, modules = _json(path / "config.json", dict), _json(path / "modules.json", list)
    if not (isinstance(config.get("model_type"), str) or config.get("architectures") or modules):
        return
    draft.kind = "huggingface"
    draft.framework = "sentence-transformers" if modules else "transformers"
    version = config.get("transformers_version")
    draft.written_by = version[:40] if isinstance(version, str) else None
    _facts(draft, config, ("model_type", "architectures", "torch_dtype", "dtype"))
    if not any(member.kind in _WEIGHTS for member in draft.members):
        draft.note("no weights were found beside it")


def _facts(draft: Draft, config: dict[str, Any], keys: Iterable[str]) -> None:
    for key in keys:
        if key in config:
            draft.facts[key] = str(config[key])[:200]


def _json(path: Path, kind: Callable[[], Any]) -> Any:
    """Read a document of one kind, or return an empty one; what is wrong with it its own look told.

    Args:
        path: The file.
        kind: ``dict`` or ``list``.
    """
    try:
        with FileSource(path) as source:
            found = read_json(source)
    except (UsageError, Corrupt):
        return kind()
    return found if type(found) is kind else kind()
