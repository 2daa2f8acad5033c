"""Data on stdout, talk on stderr; JSON with a schema version; nothing fancy when piped."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from holdfast.cli.given import complete, note, note_arguments

__all__ = ["SCHEMA_VERSION", "Out", "human_bytes", "out_options", "say"]

SCHEMA_VERSION: Final = 1

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Out:
    """How a command was asked to answer.

    Attributes:
        as_json: One JSON document on stdout.
        quiet: Only ids on stdout, no talk.
        store: The ``--store`` argument or None.
    """

    as_json: bool
    quiet: bool
    store: str | None

    def data(self, document: Mapping[str, Any], lines: Iterable[str], ids: Iterable[str]) -> None:
        """Print the answer in the form that was asked for.

        Args:
            document: For ``--json``; ``schema_version`` is added.
            lines: For people.
            ids: For ``-q``, one a line.
        """
        if self.as_json:
            click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document}, default=str))
            return
        for line in ids if self.quiet else lines:
            click.echo(line)

    def talk(self, text: str) -> None:
        """Say something to the person at the terminal, never to the pipe."""
        if not self.quiet and not self.as_json:
            say(text)


def say(text: str) -> None:
    """Write a line to stderr, commands in it with the store that the user has named."""
    click.echo(complete(text), err=True)


def out_options(command: Command) -> Command:
    """Add ``--store``, ``--json`` and ``-q``; the command receives one ``out``."""

    @click.option("--store", metavar="PATH", help="The store; default: see 'hold where'.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
    @functools.wraps(command)
    def wrapped(*args: Any, store: str | None, as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        note_arguments(kwargs)
        note(store)
        return command(*args, out=Out(as_json, quiet, store), **kwargs)

    return wrapped  # type: ignore[return-value]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Align columns; control characters in cells are shown, not sent to the terminal."""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [list(header), *cells]
    ]
    if sys.stdout.isatty():
        lines[0] = click.style(lines[0], bold=True)
    return lines


def clean(text: str) -> str:
    """Replace control characters, so that stored text cannot steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def human_bytes(count: float) -> str:
    """Write a size with a decimal unit: ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def day(moment: str) -> str:
    """Shorten an RFC 3339 moment to minutes for tables."""
    return moment[:16].replace("T", " ")
