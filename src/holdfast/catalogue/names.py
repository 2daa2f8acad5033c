"""What a model and an alias may be called: one spelling per name, safe on every file system."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from holdfast.errors import UsageError

__all__ = ["check_alias", "check_name", "is_name"]

_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_RESERVED: Final = re.compile(r"v[0-9]+|latest|newest|sha256")
_LONGEST: Final = 128


def is_name(name: object) -> bool:
    """Say whether ``name`` can be a model's name."""
    return isinstance(name, str) and len(name) <= _LONGEST and _NAME.fullmatch(name) is not None


def check_name(name: object) -> str:
    """Return ``name`` when it can be a model's name.

    Raises:
        UsageError: It cannot; the hint has a name that can.
    """
    if isinstance(name, str) and is_name(name):
        return name
    raise UsageError(
        f"{name!r:.140} cannot be a model's name: lower-case letters, digits, and single "
        f"'.', '_' or '-' between them, at most {_LONGEST}.",
        hint=f'holdfast.save(model, "{_corrected(str(name))}")',
    )


def check_alias(alias: object) -> str:
    """Return ``alias`` when it can be an alias; ``v3``, ``latest`` and digests cannot.

    Raises:
        UsageError: It cannot; the hint has one that can.
    """
    if isinstance(alias, str) and is_name(alias) and not _RESERVED.fullmatch(alias):
        return alias
    corrected = _corrected(str(alias))
    if _RESERVED.fullmatch(corrected):
        corrected = "prod"
    raise UsageError(
        f"{alias!r:.140} cannot be an alias: it is spelled like a model's name, and is not v3, "
        "latest or a digest.",
        hint=f"hold promote NAME --to {corrected}",
    )


def _corrected(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].rstrip("-") or "model"
