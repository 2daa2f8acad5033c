"""What came out of a file, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from holdfast.errors import HoldfastError

__all__ = ["Taken", "naming", "plain_facts"]

_LONGEST: Final = 200
_SAFE: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A model taken over from a file.

    Attributes:
        model: What ``save`` keeps; its tensors may be views of the mapped file.
        how: What was done, in words: ``"read as data"``.
        notes: What the user should know, a sentence each.
        params: JSON-like facts that the file keeps beside the tensors.
        files: What is kept as a file beside the model, by relative path.
    """

    model: Any
    how: str = "read as data"
    notes: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@contextmanager
def naming(path: Path, kind: str) -> Iterator[None]:
    """Put a file's name and kind in front of what a reader says of it, and a next step behind."""
    try:
        yield
    except HoldfastError as error:
        if str(path) in error.message:
            raise
        usual = error.hint == type(error).usual_hint
        hint = f"hold scan {path}" if usual else error.hint
        said = f"{path} ({kind}): {error.message}"
        raise type(error)(said, hint=hint, ref=str(path)) from error


def plain_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of itself as short JSON-like values; what is long is only counted."""
    return {key[:_LONGEST]: _plain(value) for key, value in told.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{len(value)} characters"
    if isinstance(value, list):
        return [_plain(item) for item in value] if len(value) <= _LONGEST else f"{len(value)} items"
    exact = isinstance(value, int) and abs(value) < _SAFE
    return value if exact or (isinstance(value, float) and math.isfinite(value)) else str(value)
