"""What came out of a file, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

__all__ = ["Taken", "sandbox_hint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A model taken over from a file without running anything of it.

    Attributes:
        model: What ``save`` keeps; its tensors may be views of the mapped file.
        how: What was done, in words: ``"read as data"``.
        notes: What the user should know, a sentence each.
        params: JSON-like facts that the file keeps beside the tensors.
        files: What is kept as a file beside the model, by relative path.
    """

    model: Any
    how: str
    notes: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def sandbox_hint(path: Path, name: str | None) -> str:
    """Return the command that loads a file in a sandbox, for what cannot be read as data."""
    return f"hold convert {quote(str(path))} --name {name or 'NAME'} --sandbox"
