"""Pickles and joblib files taken over as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, UnsafeContent
from holdfast.rescue.graph import Graph, built
from holdfast.rescue.mapped import inflated_file
from holdfast.trust.pickles import read
from holdfast.trust.report import Severity

__all__ = ["read_pickle"]


def read_pickle(path: Path, registry: Registry) -> Any:
    """Read a pickle or joblib file, compressed or not, without unpickling it.

    Plain values and arrays come as they are. Objects of classes that the registry keeps are
    encoded, judged and built as if they came from an archive; their library is imported only then.

    Raises:
        UnsafeContent: Something in it is not known to be data.
        Unsupported: An object in it cannot be read this way; the message has its path.
        Corrupt: It is damaged.
        EnvironmentMismatch: Another minor release of scikit-learn wrote it.
    """
    whole = inflated_file(path)
    data = whole.data.toreadonly()
    reading = read(data)
    unsafe = [f.what for f in reading.findings if f.severity is Severity.UNSAFE]
    if unsafe or reading.changes:
        told = unsafe[0] if unsafe else "it changes what it did not make"
        raise UnsafeContent(f"{path}: {told}", hint=f"hold scan {path}", ref=str(path))
    if reading.end is None or reading.findings:
        told = reading.findings[0].what if reading.findings else "it breaks off"
        raise Corrupt(f"{path}: {told}", hint=f"hold scan {path}", ref=str(path))
    return built(Graph(registry, data, whole=whole), reading.root, registry, "model")
