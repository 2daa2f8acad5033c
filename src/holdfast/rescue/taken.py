"""What came out of a file, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError

__all__ = ["Taken", "naming"]


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
def naming(path: Path) -> Iterator[None]:
    """Put a file's name in front of what a reader says of it, and a next step behind."""
    try:
        yield
    except HoldfastError as error:
        if str(path) in error.message:
            raise
        usual = error.hint == type(error).usual_hint
        hint = f"hold scan {path}" if usual else error.hint
        said = f"{path}: {error.message}"
        raise type(error)(said, hint=hint, ref=str(path)) from error
