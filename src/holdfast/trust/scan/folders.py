"""Reports on folders: every file by its content, and the whole by what it is for."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from holdfast.errors import UsageError
from holdfast.trust.report import Report
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.scan.tensor_files import add_template
from holdfast.trust.source import FileSource

__all__ = ["look_at_folder"]

_MOST_FILES: Final = 20_000
_MOST_JSON: Final = 16 << 20
_DEEPEST: Final = 32
_SHOWN: Final = 20
_WEIGHTS: Final = frozenset(
    {"safetensors", "torch", "torch-legacy", "keras-h5", "hdf5", "onnx", "gguf", "pickle", "joblib"}
)
_CONFIGS: Final = (
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "generation_config.json",
)  # fmt: skip
# Types of the parts of sentence-transformers pipelines that come with the package.
_OWN_MODULE: Final = re.compile(r"sentence_transformers\.[A-Za-z_.]+")

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
    """Say what a folder is for by the files at its top."""
    names = {member.path: member for member in draft.members}
    for member in draft.members:
        draft.imports(member.imports)
    if "saved_model.pb" in names and names["saved_model.pb"].kind in ("savedmodel", "unknown"):
        draft.kind, draft.framework = "savedmodel", "TensorFlow"
        draft.written_by = names["saved_model.pb"].written_by
        draft.take_as_data()
    elif "adapter_config.json" in names:
        _adapter(draft, path)
    elif "config.json" in names or "modules.json" in names:
        _hugging_face(draft, path)
    _templates(draft, path)
    if draft.kind != "folder":  # one model, and not a shelf of them
        for member in draft.members:
            draft.count_tensors(member)
    if draft.kind in ("huggingface", "peft"):
        for name in sorted(name for name in names if name.endswith(".py")):
            draft.unsafe(f"{name} is code beside the model")
        draft.take_as_data()


def _adapter(draft: Draft, path: Path) -> None:
    config = _json(path / "adapter_config.json", draft)
    if not isinstance(config.get("peft_type"), str):
        return
    draft.kind, draft.framework = "peft", "PEFT"
    version = config.get("peft_version")
    draft.written_by = version[:40] if isinstance(version, str) else None
    for key in ("peft_type", "base_model_name_or_path", "task_type", "r"):
        if key in config:
            draft.facts[key] = _plain(config[key])
    if config.get("auto_mapping"):
        draft.unsafe("adapter_config.json names a class to import (auto_mapping)")


def _hugging_face(draft: Draft, path: Path) -> None:
    config = _json(path / "config.json", draft)
    modules = _json(path / "modules.json", draft, kind=list)
    if not (isinstance(config.get("model_type"), str) or config.get("architectures") or modules):
        return
    draft.kind = "huggingface"
    draft.framework = "sentence-transformers" if modules else "transformers"
    version = config.get("transformers_version")
    draft.written_by = version[:40] if isinstance(version, str) else None
    for key in ("model_type", "architectures", "torch_dtype", "dtype"):
        if key in config:
            draft.facts[key] = _plain(config[key])
    for part in modules[:_SHOWN]:
        kind = part.get("type") if isinstance(part, dict) else None
        if not (isinstance(kind, str) and _OWN_MODULE.fullmatch(kind)):
            draft.unsafe(f"modules.json would import {kind!r:.100}")
    for name in _CONFIGS:
        _remote_code(draft, name, config if name == "config.json" else _json(path / name, draft))
    if not any(member.kind in _WEIGHTS for member in draft.members):
        draft.note("no weights were found beside it")


def _remote_code(draft: Draft, name: str, config: dict[str, Any]) -> None:
    if config.get("auto_map"):
        draft.unsafe(f"{name} names code of its own (auto_map)")
    if config.get("trust_remote_code"):
        draft.unsafe(f"{name} asks for code of its own (trust_remote_code)")


def _templates(draft: Draft, path: Path) -> None:
    """Judge chat templates, which stand in files of their own or in the tokenizer's."""
    for member in list(draft.members):
        name = PurePosixPath(member.path)
        if name.suffix == ".jinja" or name.name == "chat_template.json":
            text = _text(path / name, draft)
            if name.suffix == ".json":
                text = str(_json(path / name, draft).get("chat_template", ""))
            add_template(draft, text, member.path)
        elif name.name in ("tokenizer_config.json", "processor_config.json"):
            for place, text in _templates_in(_json(path / name, draft).get("chat_template")):
                add_template(draft, text, f"{member.path}{place}")


def _templates_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, list):
        for item in value[:_SHOWN]:
            if isinstance(item, dict) and isinstance(item.get("template"), str):
                yield f" ({str(item.get('name'))[:40]})", item["template"]


def _text(path: Path, draft: Draft) -> str:
    try:
        with FileSource(path) as source:
            data = source.read(0, _MOST_JSON + 1)
    except UsageError:
        return ""
    if len(data) > _MOST_JSON:
        draft.broken(f"{path.name} has more than {_MOST_JSON} bytes")
        return ""
    return data.decode("utf-8", "replace")


def _json(path: Path, draft: Draft, kind: type = dict) -> Any:
    """Read a file of JSON that is an object or a list; else an empty one."""
    text = _text(path, draft)
    if not text:
        return kind()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        draft.broken(f"{path.name} is not JSON: {error!s:.80}")
        return kind()
    return found if isinstance(found, kind) else kind()


def _plain(value: Any) -> Any:
    return value[:200] if isinstance(value, str) else str(value)[:200]
