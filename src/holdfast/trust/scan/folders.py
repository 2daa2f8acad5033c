"""Reports on folders: every file by its content, and the whole by what it is for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from holdfast.errors import UsageError
from holdfast.trust.report import Report, Severity
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.tf_folder import INDEX, MAIN, is_part, lacking

__all__ = ["is_store", "look_at_folder"]

_MOST_FILES: Final = 20_000
_DEEPEST: Final = 32
_MOST_MODELS: Final = 1_000
_WEIGHTS: Final = frozenset(
    {"safetensors", "torch", "torch-legacy", "keras-h5", "hdf5", "onnx", "gguf", "pickle", "joblib"}
)
_HUGGING_FACE: Final = frozenset({"PEFT", "sentence-transformers", "transformers"})
# Files at a folder's top by which it is told, to their writer and the kind that the folder is then.
_TELLING: Final = {
    MAIN: {"TensorFlow": "savedmodel"},
    "adapter_config.json": {"PEFT": "peft"},
    "modules.json": {"sentence-transformers": "huggingface"},
    "config.json": {"transformers": "huggingface"},
}

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
        draft.members.append(_as_part(member) if _is_piece(file) else member)
    _conclude(draft, path)
    return draft.report()


def is_store(path: Path) -> bool:
    """Say whether a folder looks like a store of Holdfast's, whose files are parts of models."""
    return all((path / part).exists() for part in ("store.json", "blobs", "log"))


def _is_piece(file: Path) -> bool:
    return file.parent.name == "sha256" and is_store(file.parents[2])


def _as_part(member: Report) -> Report:
    """Forgive a piece of a store, as the head of a safetensors file, that the rest is elsewhere."""
    if member.kind != "safetensors":
        return member
    found = tuple(each for each in member.findings if each.severity is not Severity.BROKEN)
    return replace(member, findings=found)


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
    for name, kinds in _TELLING.items():
        told = names.get(name)
        kind = kinds.get(told.framework or "") if told is not None else None
        if told is not None and kind is not None:
            draft.kind, draft.framework = kind, told.framework
            draft.written_by, draft.facts = told.written_by, told.facts
            break
    if draft.kind == "folder":
        _gather_models(draft, path)
    _code_beside(draft)
    if draft.kind == "folder":
        return
    for member in draft.members:  # one model, and not a shelf of them
        draft.count_tensors(member)
    if draft.kind == "huggingface" and not any(m.kind in _WEIGHTS for m in draft.members):
        draft.note("no weights were found beside it")
    kept = draft.kind != "savedmodel" or _is_kept_saved_model(draft, names, path)
    draft.take_as_data()
    if not kept:
        draft.takes = None


def _is_kept_saved_model(draft: Draft, members: Mapping[str, Report], path: Path) -> bool:
    """Say whether the graph and all files are such as the adapter of TensorFlow keeps."""
    places = dict.fromkeys((*path.iterdir(), *(path / name for name in members)))
    links = [place for place in places if place.is_symlink()]
    others = [name for name in members if not is_part(name)]
    for name in [*(link.relative_to(path).as_posix() for link in links), *others][:1]:
        draft.note(f"{name} keeps it from being taken over: it is a link, or no file of the model")
    index = members[INDEX].facts.get("bytes") if INDEX in members else None
    lack = lacking(index, {name: member.size for name, member in members.items()})
    if lack is not None and (index is not None or INDEX not in members):
        draft.broken(lack)
    return members[MAIN].takes == "data" and lack is None and not links and not others


def _gather_models(draft: Draft, path: Path) -> None:
    """Put the files of every model's folder below together, as a report on that folder."""
    tops = {
        name.rpartition("/")[0]
        for name in (member.path for member in draft.members)
        if name.rpartition("/")[2] in _TELLING
    }
    for top in sorted(tops - {""}, key=lambda top: (top.count("/"), top))[:_MOST_MODELS]:
        below = [m for m in draft.members if m.path.startswith(f"{top}/")]
        if not below:
            continue  # it is part of a model already
        model = Draft(top, "folder", sum(member.size for member in below), draft.allowance)
        model.members = [replace(m, path=m.path[len(top) + 1 :]) for m in below]
        _conclude(model, path / top)
        if model.kind != "folder":
            place, inside = draft.members.index(below[0]), {id(member) for member in below}
            draft.members[place] = model.report()
            draft.members = [member for member in draft.members if id(member) not in inside]


def _code_beside(draft: Draft) -> None:
    """Name the Python files beside a model of Hugging Face's, here or in a folder below."""
    places = {
        PurePosixPath(member.path).parent
        for member in draft.members
        if member.kind == "json" and member.framework in _HUGGING_FACE
    }
    for member in draft.members:
        name = PurePosixPath(member.path)
        if name.suffix == ".py" and any(name.is_relative_to(place) for place in places):
            draft.unsafe(f"{member.path} is code beside the model")
