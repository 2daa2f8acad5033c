"""Finding credentials before they are stored for ever. Shapes only; the value is never shown.

Sources of the shapes: the vendors' own descriptions of their token prefixes, as collected in
GitHub's "Supported secret scanning patterns".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from holdfast.errors import SecretFound

__all__ = ["Finding", "find_in_bytes", "find_secrets", "refuse_secrets"]

_SHAPES: Final = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{50,})",
    "a GitLab token": r"\bglpat-[0-9A-Za-z_-]{20,}",
    "a Hugging Face token": r"\bhf_[0-9A-Za-z]{30,}",
    "an API key": r"\bsk-(?:ant-|proj-)?[0-9A-Za-z_-]{32,}",
    "a Slack token": r"\bxox[abposr]-[0-9A-Za-z-]{20,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Stripe key": r"\b[sr]k_live_[0-9A-Za-z]{20,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a JSON web token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]{3,}@",
}
_ANY: Final = re.compile("|".join(f"(?P<s{i}>{p})" for i, p in enumerate(_SHAPES.values())))
_KINDS: Final = tuple(_SHAPES)
_NAMED: Final = re.compile(
    r"(?:^|[._-])(?:password|passwd|secret|secret[_-]?key|api[_-]?key|access[_-]?key|"
    r"auth[_-]?token|access[_-]?token|private[_-]?key|token)$",
    re.IGNORECASE,
)
_LINE: Final = re.compile(
    r"(?im)^[\s\"']*[\w.-]*(?:password|passwd|secret|api[_-]?key|access[_-]?token)[\"']?"
    r"\s*[:=]\s*[\"']?[^\s\"'#]{8,}"
)
_TEXT_LIMIT: Final = 4 << 20


class Finding(NamedTuple):
    """Something that looks like a credential.

    Attributes:
        place: Where, for example ``params.api_key``.
        kind: What it looks like, in words.
    """

    place: str
    kind: str


def find_secrets(value: Any, place: str) -> Iterator[Finding]:
    """Walk JSON-like values and yield what looks like a credential."""
    stack: list[tuple[Any, str, str]] = [(value, place, "")]
    while stack:
        item, where, key = stack.pop()
        if isinstance(item, str):
            kind = _kind(item)
            if kind is None and _NAMED.search(key) and len(item) >= 8 and " " not in item:
                kind = f"the value of {key!r}"
            if kind is not None:
                yield Finding(where, kind)
        elif isinstance(item, Mapping):
            stack.extend((part, f"{where}.{name}", str(name)) for name, part in item.items())
        elif isinstance(item, Sequence) and not isinstance(item, bytes | bytearray | memoryview):
            stack.extend((part, f"{where}[{i}]", key) for i, part in enumerate(item))


def find_in_bytes(data: bytes | memoryview, place: str) -> Iterator[Finding]:
    """Look through a text file's lines; other files are looked through for shapes only."""
    head = bytes(data[:_TEXT_LIMIT])
    text = head.decode("utf-8", "replace")
    matches = [(m.start(), _KINDS[int((m.lastgroup or "s0")[1:])]) for m in _ANY.finditer(text)]
    if b"\x00" not in head:
        matches += [(m.start(), "a named credential") for m in _LINE.finditer(text)]
    seen: set[int] = set()
    for position, kind in sorted(matches):
        line = text.count("\n", 0, position) + 1
        if line not in seen:
            seen.add(line)
            yield Finding(f"{place} line {line}", kind)


def _kind(text: str) -> str | None:
    if len(text) < 12:
        return None
    found = _ANY.search(text)
    return None if found is None else _KINDS[int((found.lastgroup or "s0")[1:])]


def refuse_secrets(findings: Sequence[Finding], allowed: frozenset[str]) -> None:
    """Refuse what was found at places that are not allowed.

    Raises:
        SecretFound: The first place, what it looks like, and how many more there are.
    """
    refused = [finding for finding in findings if finding.place not in allowed]
    if refused:
        first = refused[0]
        more = f" ({len(refused) - 1} more places)" if len(refused) > 1 else ""
        raise SecretFound(
            f"{first.place} looks like {first.kind}{more}. Nothing was stored.",
            hint=f"remove it, or allow it: --allow-secret {first.place!r} "
            f"(Python: allow_secrets=[{first.place!r}])",
            ref=first.place,
        )
