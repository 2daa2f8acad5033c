"""References: ``churn``, ``churn@v3``, ``churn@prod``, ``churn@sha256:ab12…``.

A bundle may stand before one, ``path/file.hold:churn@v3``, or alone where it holds one model. What
ends in ``.hold`` or has ``.hold:`` in it is always a bundle.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from holdfast.errors import UsageError

__all__ = ["Ref", "in_bundle", "parse_ref"]

_VERSION = re.compile(r"v([1-9][0-9]{0,9})")
_BUNDLE = re.compile(r"(.*?\.hold)(?::([^/]*))?", re.DOTALL)


class Ref(NamedTuple):
    """A parsed reference.

    Attributes:
        name: The model's name.
        selector: None for the newest version, a version number, an alias, or ``sha256:<prefix>``.
    """

    name: str
    selector: int | str | None

    def __str__(self) -> str:
        if self.selector is None:
            return self.name
        if isinstance(self.selector, int):
            return f"{self.name}@v{self.selector}"
        return f"{self.name}@{self.selector}"


def in_bundle(text: object) -> tuple[str, str] | None:
    """Return the bundle and the rest of a reference into one, None for any other reference."""
    found = _BUNDLE.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else (found[1], found[2] or "")


def parse_ref(text: object) -> Ref:
    """Read a reference.

    Raises:
        UsageError: It is not one.
    """
    if not isinstance(text, str) or not text or text != text.strip():
        raise UsageError(
            f"not a reference: {text!r:.80}. A reference is NAME, NAME@v3, NAME@ALIAS or "
            "NAME@sha256:DIGEST.",
            hint="hold ls",
        )
    name, at, selector = text.partition("@")
    if not at:
        return Ref(name, None)
    if not selector or "@" in selector:
        raise UsageError(
            f"not a reference: {text!r:.80}; after '@' comes v3, an alias or sha256:DIGEST.",
            hint=f"hold ls {name}",
        )
    number = _VERSION.fullmatch(selector)
    return Ref(name, int(number.group(1)) if number else selector)
