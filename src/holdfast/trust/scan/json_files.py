"""Reports on JSON: configurations by which Keras, skops or transformers choose what to run.

They are told by their content, so that one is judged wherever it lies: alone, in a folder, in an
archive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from holdfast.errors import Corrupt
from holdfast.trust import keras_config, skops_schema
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.scan.texts import add_template
from holdfast.trust.scan.vocabulary import DATA, AnyOf
from holdfast.trust.source import Source

__all__ = ["add_config", "look_at_json", "read_json"]

_MOST_BYTES: Final = 64 << 20
# Python makes some 100 bytes of each part of a document.
_MOST_PARTS: Final = 4_000_000
_TOO_DEEP: Final = "it is deeper than JSON is read here"
_SHOWN: Final = 20
# Types of the parts of sentence-transformers pipelines that come with the package.
_OWN_MODULE: Final = re.compile(r"sentence_transformers\.[A-Za-z_.]+")
# Writer to the keys that it is told by, the key of its version, and keys worth showing.
_WRITERS: Final = {
    "PEFT": (
        ("peft_type",), "peft_version",
        ("peft_type", "base_model_name_or_path", "task_type", "r"),
    ),
    "transformers": (
        ("model_type", "architectures"), "transformers_version",
        ("model_type", "architectures", "torch_dtype", "dtype"),
    ),
}  # fmt: skip
# Keys of what boosters write for people to read.
_BOOSTERS: Final = {"oblivious_trees": "CatBoost", "tree_info": "LightGBM"}
# Keys by which transformers and PEFT are told to import code that lies beside a model.
_CODE: Final = ("auto_map", "auto_mapping", "custom_pipelines", "trust_remote_code")


def read_json(source: Source) -> Any:
    """Read a document as Python's own reader does, within limits.

    Raises:
        Corrupt: It is none.
    """
    data = source.read(0, _MOST_BYTES + 1)
    if _is_too_much(data):
        raise Corrupt("it is more JSON than is read here")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise Corrupt(_TOO_DEEP) from error
    except ValueError as error:
        raise Corrupt(f"it is not JSON: {error!s:.80}") from error


def _is_too_much(data: bytes) -> bool:
    parts = sum(map(data.count, (b",", b"[", b"{")))
    return len(data) > _MOST_BYTES or parts > _MOST_PARTS


def look_at_json(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a document: what it would have a library import, read or call."""
    del depth
    if _is_too_much(source.read(0, _MOST_BYTES + 1)):
        draft.unread("JSON that is too large to be judged")
        return
    try:
        document = read_json(source)
    except Corrupt as error:
        draft.kind = "unknown"
        if error.message == _TOO_DEEP:
            draft.unread("JSON that is too deep to be read")
        else:
            draft.note(f"it begins as JSON, but {error.message}")
        return
    _keras(draft, document)
    _transformers(draft, document)
    if isinstance(document, dict) and "__loader__" in document:
        _skops(scanner, draft, document)


def _skops(scanner: Scanner, draft: Draft, schema: dict[str, Any]) -> None:
    found = skops_schema.judge(schema, AnyOf(scanner.known, DATA))
    draft.framework, draft.written_by = "skops", found.version
    if found.sklearn is not None:
        draft.framework, draft.written_by = "scikit-learn", found.sklearn[:40]
    draft.facts |= {"skops": found.version, "protocol": found.protocol}
    draft.imports(found.types)
    for name in found.unknown:
        draft.unsafe(f"would build {name}")
    for lie in found.lies:
        draft.unsafe(lie)
    for fault in found.faults:
        draft.broken(fault)
    for note in found.notes:
        draft.note(note)


def _keras(draft: Draft, document: Any) -> None:
    if isinstance(document, dict) and isinstance(document.get("keras_version"), str):
        draft.framework, draft.written_by = "Keras", document["keras_version"][:40]
    found = keras_config.judge(document)
    if found.classes or found.code or found.custom or not found.whole:
        add_config(draft, found)
    if found.classes or found.custom:
        draft.framework = "Keras"


def add_config(draft: Draft, found: keras_config.KerasConfig) -> None:
    """Add to a report what a Keras configuration names."""
    classes = list(found.classes)
    draft.imports(classes)
    if not found.whole:
        draft.unread("more parts of a configuration than are judged")
    if classes:
        draft.facts.setdefault("class", classes[0])
    for what in found.code:
        draft.unsafe(f"its configuration {what}")
    for name in list(found.custom)[:_SHOWN]:
        draft.note(f"its configuration needs the class {name:.100}, which the program registers")


def _transformers(draft: Draft, document: Any) -> None:
    """Judge a configuration, or the list of a pipeline's modules, of a Hugging Face folder."""
    if isinstance(document, list):
        _modules(draft, document)
    if not isinstance(document, dict):
        return
    for framework, (marks, version, keys) in _WRITERS.items():
        if any(isinstance(document.get(mark), str | list) for mark in marks):
            told = document.get(version)
            draft.framework = framework
            draft.written_by = told[:40] if isinstance(told, str) else None
            draft.facts = {key: str(document[key])[:200] for key in keys if key in document}
            break
    for mark, framework in _BOOSTERS.items():
        if isinstance(document.get(mark), list | dict):
            draft.framework = framework
    for key in _CODE:
        if document.get(key):
            draft.unsafe(f"asks for code of its own ({key})")
    for place, template in _templates(document.get("chat_template")):
        add_template(draft, template, place)


def _modules(draft: Draft, parts: list[Any]) -> None:
    named = draft.path.rpartition("/")[2] == "modules.json"
    for part in parts[:1_000]:
        kind = part.get("type") if isinstance(part, dict) and (named or "path" in part) else None
        if not isinstance(kind, str) or "." not in kind:
            continue
        draft.framework = "sentence-transformers"
        if not _OWN_MODULE.fullmatch(kind):
            draft.unsafe(f"would import {kind!r:.100}")


def _templates(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "chat_template", value
    elif isinstance(value, list | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in list(parts)[:1_000]:
            text = item.get("template") if isinstance(item, dict) else item
            if isinstance(text, str):
                yield f"chat_template {name!s:.40}", text
