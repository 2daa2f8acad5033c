"""Saying what a version or a file is, without running or building anything of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from holdfast.api.history import get
from holdfast.api.refs import in_bundle
from holdfast.api.scanning import scan
from holdfast.api.store import Store

__all__ = ["inspect"]


def inspect(
    what: str | os.PathLike[str], *, store: Store | str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Describe a version or a model file as JSON-like facts.

    Args:
        what: A reference, or a path to a file. A bundle of one model is its newest version.
        store: Store or path; default: the store in force.

    Returns:
        For a file its kind, size, writer, verdict and tensors, as ``scan`` finds them; for a
        version its reference, documents and sizes.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        NotFound: No such version.
    """
    path = Path(what)
    if in_bundle(str(what)) is None and (isinstance(what, os.PathLike) or path.is_file()):
        return _file_facts(path)
    version = get(str(what), store=store)
    record, content = version.record, version.content
    return {
        "kind": "version",
        "ref": version.ref,
        "content_id": version.content_id,
        "record_id": version.record_id,
        "framework": content.framework,
        "types": list(content.structure.types),
        "tensors": {
            entry.name: {"dtype": entry.dtype, "shape": list(entry.shape)}
            for entry in content.tensors
        },
        "files": {entry.name: entry.size for entry in content.files},
        "signature": content.signature,
        "size": version.size,
        "aliases": list(version.aliases),
        "created": record.created,
        "author": record.author,
        "environment": record.environment,
        "metrics": record.metrics,
        "params": record.params,
        "note": record.note,
        "license": record.license,
        "source": record.source,
        "parents": list(record.parents),
        "golden": _golden_facts(record.golden),
        "attachments": {
            role: {"blob": state.blob, "size": state.size, "by": state.by, "at": state.at}
            for role, state in version.info.attachments.items()
        },
    }


def _file_facts(path: Path) -> dict[str, Any]:
    report = scan(path)
    return {
        "kind": report.kind,
        "path": str(path),
        "size": report.size,
        "writer": report.writer,
        "verdict": report.verdict,
        "tensors": {t.name: {"dtype": t.dtype, "shape": list(t.shape)} for t in report.tensors},
    }


def _golden_facts(golden: dict[str, Any] | None) -> dict[str, Any] | None:
    if golden is None:
        return None
    return {key: golden[key] for key in ("level", "method", "rows", "nondeterministic")}
