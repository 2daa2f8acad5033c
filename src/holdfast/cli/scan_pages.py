"""What ``hold scan`` prints for people: a page for a file, a table for a shelf of them."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import click

from holdfast.cli.output import clean, human_bytes, table
from holdfast.trust.report import KINDS, MISNAMED, Report, Severity

__all__ = ["page"]

_SHOWN: Final = 12
_ROWS: Final = 500
# Reports whose parts are a table: folders, and archives that are no model's own.
_TABLES: Final = frozenset({"bundle", "folder", "huggingface", "peft", "savedmodel", "tar", "zip"})
_SHELVES: Final = frozenset({"folder", "tar", "zip"})
# A terminal of fewer columns gets a table of fewer.
_WIDE: Final = 120
_COLOURS: Final = {Severity.UNSAFE: "red", Severity.BROKEN: "yellow", Severity.UNREAD: "yellow"}
_WORDS: Final = {
    Severity.UNSAFE: "unsafe",
    Severity.BROKEN: "damaged",
    Severity.UNREAD: "not looked into",
}


def page(report: Report) -> Iterator[str]:
    """Yield the lines of what a file or folder is."""
    tabled = bool(report.kind in _TABLES and report.members)
    shelf = tabled and report.kind in _SHELVES
    files = f"{len(report.members)} entries, " if tabled else ""
    yield clean(f"{report.path}  {KINDS[report.kind]}, {files}{human_bytes(report.size)}")
    for title, text in report.facts_lines():
        if tabled and title in ("tensors", "", "names"):
            continue
        if shelf and title == "verdict":
            text = _summary(report.members)  # noqa: PLW2901 - one line of many is told otherwise
        yield _cut(clean(f"  {title:<12} {text}"))
    yield from _findings(report, inside=not tabled)
    if tabled:
        yield from _table(report.members)


def _summary(members: Sequence[Report]) -> str:
    """Count members by what they come to."""
    counts: Counter[str] = Counter()
    for member in members:
        worst = member.worst
        data = "can be taken over as data" if member.takes == "data" else "not taken over"
        counts[_WORDS.get(worst, data) if worst is not None else data] += 1
    order = (*_WORDS.values(), "can be taken over as data", "not taken over")
    return ", ".join(f"{counts[word]} {word}" for word in order if counts[word])


def _table(members: Sequence[Report]) -> Iterator[str]:
    shown = members[:_ROWS]
    header = ["FILE", "KIND", "WRITTEN BY", "SIZE", "VERDICT"]
    rows = [_row(member) for member in shown]
    if sys.stdout.isatty() and _columns() < _WIDE:
        header, rows = [header[0], header[4]], [[row[0], row[4]] for row in rows]
    head, *lines = table(header, rows)
    yield _cut(head)
    for member, line in zip(shown, lines, strict=True):
        colour = _COLOURS.get(member.worst) if member.worst is not None else None
        cut = _cut(line)
        yield click.style(cut, fg=colour) if colour and sys.stdout.isatty() else cut
    if len(members) > _ROWS:
        yield f"and {len(members) - _ROWS} more; --json has them all"


def _row(report: Report) -> list[str]:
    misnamed = any(finding.what.startswith(MISNAMED) for finding in report.findings)
    named = f"; named .{report.path.rpartition('.')[2][:12]}" if misnamed else ""
    nothing = report.kind in ("json", "unknown") and report.worst in (None, Severity.NOTE)
    return [
        report.path[-60:],
        "-" if report.kind == "unknown" else KINDS[report.kind],
        report.writer[:30],
        human_bytes(report.size),
        ("-" if nothing else report.verdict[:100]) + named,
    ]


def _findings(report: Report, *, inside: bool) -> Iterator[str]:
    found = [(place, f) for place, f in report.all_findings() if inside or place == report.path]
    for place, finding in found[:_SHOWN]:
        where = "" if place == report.path else f"{report.inside(place)}: "
        yield _cut(clean(f"  {finding.severity.value:<12} {where}{finding}"))
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN} findings more; --json has them all"


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _cut(line: str) -> str:
    """Cut a line to the terminal's width; in a pipe it stays whole."""
    if not sys.stdout.isatty() or len(line) <= _columns() or "\x1b" in line:
        return line
    return f"{line[: _columns() - 1]}…"
