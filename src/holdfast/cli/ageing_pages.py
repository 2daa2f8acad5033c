"""The ageing report as text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final

from holdfast.cli.given import complete
from holdfast.cli.output import table

if TYPE_CHECKING:
    from holdfast.api.ageing import Ageing, Concern

__all__ = ["pages"]

_WIDTH: Final = 80
_REFS: Final = 4
_GROUPS: Final = 30
_ROWS: Final = 40
_COLUMNS: Final = 5


def pages(found: Ageing) -> Iterator[str]:
    """Yield the lines: what needs attention, then what was checked where."""
    troubled = {each.ref for each in found.concerns}
    looked = len({*found.versions, *troubled})
    yield f"{len(troubled)} of {looked} versions need attention."
    yield from _concerns(found.concerns)
    if found.environments:
        yield ""
        yield from _environments(found)
        yield ""
        yield from _matrix(found, troubled)


def _concerns(concerns: tuple[Concern, ...]) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Concern]] = {}
    for each in concerns:
        groups.setdefault((each.kind, each.what), []).append(each)
    heading = ""
    for number, ((kind, what), members) in enumerate(groups.items()):
        if number == _GROUPS:
            yield ""
            yield f"and {len(groups) - number} more kinds of trouble; --json has all."
            return
        if kind != heading:
            heading = kind
            yield ""
            yield kind.upper()
        yield from _wrapped(f"{_named(members)}: {what}", "  ")
        yield f"    Try: {complete(members[0].fix)}"


def _named(members: list[Concern]) -> str:
    refs = [
        f"{each.ref} ({', '.join(each.aliases)})" if each.aliases else each.ref for each in members
    ]
    more = f" and {len(refs) - _REFS} more" if len(refs) > _REFS else ""
    return ", ".join(refs[:_REFS]) + more


def _environments(found: Ageing) -> Iterator[str]:
    yield "CHECKED WITH"
    for letter, each in zip(ascii_uppercase, found.environments[:_COLUMNS], strict=False):
        here = " (here)" if each.here else ""
        yield from _wrapped(f"{letter}  {each.label}{here}", "  ", "     ")
    more = len(found.environments) - _COLUMNS
    if more > 0:
        yield f"  and {more} other environments, earlier; --json has all."


def _matrix(found: Ageing, troubled: set[str]) -> Iterator[str]:
    """Yield the table: versions with a concern each in a row, the others by what was found."""
    count = min(_COLUMNS, len(found.environments))
    groups: dict[tuple[str, ...], list[str]] = {}
    for ref in sorted(found.versions, key=lambda ref: ref not in troubled):
        cells = tuple("-" if cell is None else _cell(cell) for cell in found.matrix[ref][:count])
        groups.setdefault((ref if ref in troubled else "", *cells), []).append(ref)
    rows = [(_row_name(refs), *cells) for (_, *cells), refs in groups.items()]
    yield from table(("VERSION", *ascii_uppercase[:count]), rows[:_ROWS])
    if len(rows) > _ROWS:
        yield f"and {len(rows) - _ROWS} more rows; --json has all."
    if any(cell.startswith("(") for _, *cells in groups for cell in cells):
        yield "In parentheses: what a registry told, not checked by this store."


def _row_name(refs: list[str]) -> str:
    return refs[0] if len(refs) == 1 else f"{refs[0]} and {len(refs) - 1} more"


def _cell(cell: dict[str, str]) -> str:
    outcome = cell["outcome"].partition(",")[0]
    shown = "synthetic" if outcome.endswith("inputs") else outcome
    return f"({shown})" if "heard" in cell else shown


def _wrapped(text: str, first: str, rest: str = "    ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )
