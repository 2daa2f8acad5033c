"""What a registry asks for when it answers 401.

Sources: RFC 9110 section 11.6.1 (``WWW-Authenticate``); the token specification of
distribution/distribution, "Token authentication".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Challenge", "best_challenge"]

_LONGEST: Final = 8192
_PARAMETER: Final = (
    r"(?P<name>[A-Za-z_-]+)\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<plain>[^\s\",]+))"
)
_TOKENS: Final = re.compile(rf"{_PARAMETER}|(?P<scheme>[A-Za-z][A-Za-z0-9-]*)(?=\s|,|$)|[\s,]+|.")


class Challenge(NamedTuple):
    """A way in.

    Attributes:
        scheme: ``bearer`` or ``basic``.
        realm: For a bearer: the URL of the token server.
        service: Whom the token is for.
        scope: What it is to allow.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def best_challenge(headers: Iterable[str]) -> Challenge | None:
    """Return the way in that is taken, tokens before passwords; None where none is known."""
    found = [challenge for header in headers for challenge in _parsed(header[:_LONGEST])]
    bearers = [c for c in found if c.scheme == "bearer" and c.realm]
    basics = [c for c in found if c.scheme == "basic"]
    return next(iter(bearers + basics), None)


def _parsed(header: str) -> list[Challenge]:
    schemes: list[tuple[str, dict[str, str]]] = []
    for match in _TOKENS.finditer(header):
        if match["scheme"]:
            schemes.append((match["scheme"].lower(), {}))
        elif match["name"] and schemes:
            text = match["plain"] or re.sub(r"\\(.)", r"\1", match["quoted"] or "")
            schemes[-1][1].setdefault(match["name"].lower(), text)
    return [
        Challenge(scheme, *(said.get(name, "") for name in ("realm", "service", "scope")))
        for scheme, said in schemes
    ]
