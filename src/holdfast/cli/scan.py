"""Looking into foreign files."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from holdfast.cli.output import Out, clean, out_options
from holdfast.cli.scan_pages import page
from holdfast.errors import HoldfastError, PartlyDone, UnsafeContent, UsageError
from holdfast.trust.report import KINDS, Finding, Report, Severity

__all__ = ["scan"]


@click.command()
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@out_options
def scan(paths: tuple[Path, ...], out: Out) -> None:
    """Say what each FILE or folder is and what it would run; nothing of it is run.

    What it is is decided by its content. Exit status 6 when opening one as its writer meant would
    run something that is not known to be data or reach out of the file, 2 when one cannot be
    read, 1 when one is damaged, 3 when a part was not looked into, else 0. That nothing was found
    does not make a file safe.
    """
    from holdfast.api.scanning import scan as look

    reports: list[Report] = []
    unreadable: list[UsageError] = []
    for path in paths:
        try:
            with _progress(path, out) as tick:
                reports.append(look(path, progress=tick))
        except UsageError as error:
            if len(paths) == 1:
                raise
            unreadable.append(error)
    lines = [line for report in reports for line in page(report)]
    document = {
        "reports": [_document(report) for report in reports],
        "unreadable": [error.message for error in unreadable],
    }
    flagged = [report for report in reports if report.unsafe]
    shown = clean if sys.stdout.isatty() else str
    out.data(document, lines, (shown(report.path) for report in flagged))
    if flagged:
        raise _refusal(flagged, alone=len(paths) == 1)
    if unreadable:
        raise unreadable[0]
    _raise_for_defects(reports)
    for report in reports:
        if report.takes == "data":
            out.talk(f"Try: hold convert {report.path} --name NAME")
        elif report.kind == "bundle":
            out.talk(f"Try: hold verify --all --store {report.path}")


def _raise_for_defects(reports: Sequence[Report]) -> None:
    """Raise for the first file that is damaged, else for the first that was not read as a whole."""
    for report in reports:
        place, finding = _first(report, Severity.BROKEN)
        if finding is not None:
            raise HoldfastError(
                f"{place} is damaged: {finding}", hint=f"hold scan {report.path} --json"
            )
    for report in reports:
        place, finding = _first(report, Severity.UNREAD)
        if finding is not None:
            raise PartlyDone(f"{place}: {finding}", hint=f"hold scan {report.path} --json")


def _refusal(flagged: Sequence[Report], *, alone: bool) -> UnsafeContent:
    """Return the error that names the first unsafe thing, as the last word on stderr."""
    first = flagged[0]
    place, finding = _first(first, Severity.UNSAFE)
    inside = first.inside(place)
    where = ": ".join(filter(None, ("" if alone else first.path, inside)))
    told = ", ".join(filter(None, (where, KINDS[first.kind] if not inside else "", str(finding))))
    more = f" {len(flagged) - 1} files more are unsafe." if len(flagged) > 1 else ""
    return UnsafeContent(
        f"UNSAFE  {told}. Nothing was run.{more}",
        hint=f"hold scan {_unsafe_part(first)}",
        ref=first.path,
    )


def _unsafe_part(report: Report) -> str:
    """Return what to scan next: the first unsafe file of a folder, or all that a file tells."""
    if report.kind == "folder":
        return next((f"{report.path}/{m.path}" for m in report.members if m.unsafe), report.path)
    return f"{report.path} --json"


def _first(report: Report, severity: Severity) -> tuple[str, Finding | None]:
    """Return the first finding of a severity, and where it is."""
    found = (pair for pair in report.all_findings() if pair[1].severity is severity)
    return next(found, (report.path, None))


def _document(report: Report) -> dict[str, Any]:
    document = dataclasses.asdict(report)
    document["unsafe"] = report.unsafe
    document["verdict"] = report.verdict
    return document


@contextmanager
def _progress(path: Path, out: Out) -> Iterator[Callable[[Path], None] | None]:
    """Show on a terminal which file of a folder is looked into; yield None anywhere else."""
    if out.quiet or out.as_json or not sys.stderr.isatty() or not path.is_dir():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text("looking")) as status:
        yield lambda file: status.update(Text(clean(f"looking into {file.name}")[:70]))
