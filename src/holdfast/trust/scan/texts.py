"""Reports on files without a format of their own: templates, scripts, libraries and the rest."""

from __future__ import annotations

from typing import Final

from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.identify import words_for
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import Source
from holdfast.trust.templates import LONGEST, suspicions

__all__ = ["add_template", "look_at_unknown"]

_TEMPLATE_NAMES: Final = (".jinja", ".jinja2", ".j2")
_TEMPLATE_BEGINS: Final = (b"{%", b"{{", b"{#")


def look_at_unknown(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a file of no known kind; a template, which some program renders, is judged."""
    del scanner, depth
    head = source.read(0, 4096)
    words = words_for(head)
    if words is not None:
        draft.facts["looks_like"] = words
        if "native" in words:
            draft.unsafe(f"it is {words}")
        elif "archive" in words:
            draft.unread(words)
    elif draft.path.endswith(_TEMPLATE_NAMES) or head.lstrip().startswith(_TEMPLATE_BEGINS):
        text = source.read(0, 4 * LONGEST + 1).decode("utf-8", "replace")
        add_template(draft, text, draft.path.rpartition("/")[2], 0)


def add_template(draft: Draft, template: str, place: str, start: int | None = None) -> None:
    """Judge a template and say that it is a program, whatever is found in it.

    Args:
        draft: The report.
        template: Its text.
        place: Where it stands, in words.
        start: Byte where it starts, or None.
    """
    quiet = True
    for what, at in suspicions(template):
        quiet = False
        position = None if start is None else start + len(template[:at].encode())
        draft.unsafe(f"the template {place:.80} {what}", position)
    if quiet:
        draft.note(f"the template {place:.80} is a program in Jinja; it was not rendered", start)
