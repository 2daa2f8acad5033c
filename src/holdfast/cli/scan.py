"""Looking into foreign files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from holdfast.cli.output import Out, clean, human_bytes, out_options, table
from holdfast.errors import HoldfastError, UnsafeContent
from holdfast.trust.report import KINDS, Report, Severity

__all__ = ["scan"]

_SHOWN: Final = 12


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_options
def scan(paths: tuple[Path, ...], out: Out) -> None:
    """Say what each of PATHS is and what it would run; nothing is run.

    Exit status 6 when opening one as its writer meant would run something that is not known to be
    data, 1 when one is damaged, else 0.
    """
    from holdfast.api.scanning import scan as look

    reports = [look(path) for path in paths]
    lines = [line for report in reports for line in _lines(report)]
    document = {"reports": [_document(report) for report in reports]}
    flagged = [report for report in reports if report.unsafe]
    out.data(document, lines, (report.path for report in flagged))
    if flagged:
        first = flagged[0]
        place, finding = next(
            (place, f) for place, f in first.all_findings() if f.severity is Severity.UNSAFE
        )
        raise UnsafeContent(
            f"UNSAFE  {place}: {finding.what}{_at(finding.position)}. Nothing was run.",
            hint=f"hold scan {paths[0]} --json",
            ref=first.path,
        )
    broken = [
        (place, f)
        for report in reports
        for place, f in report.all_findings()
        if f.severity is Severity.BROKEN
    ]
    if broken:
        place, finding = broken[0]
        raise HoldfastError(f"{place} is damaged: {finding.what}", hint=f"ls -l {paths[0]}")


def _lines(report: Report) -> Iterator[str]:
    if report.kind == "folder" or (report.members and report.kind in ("zip", "tar")):
        yield f"{clean(report.path)}  {KINDS[report.kind]}  {human_bytes(report.size)}"
        rows = [_row(member) for member in report.members]
        yield from table(["FILE", "KIND", "WRITTEN BY", "SIZE", "VERDICT"], rows)
        yield from _findings(report)
        return
    yield clean(f"{report.path}  {KINDS[report.kind]}  {human_bytes(report.size)}")
    for title, text in _facts(report):
        yield clean(f"  {title:<12} {text}")
    yield from _findings(report)


def _row(report: Report) -> list[str]:
    return [
        report.path,
        KINDS[report.kind],
        " ".join(filter(None, (report.framework, report.written_by))),
        human_bytes(report.size),
        _verdict(report),
    ]


def _verdict(report: Report) -> str:
    found = [finding for _, finding in report.all_findings()]
    for severity, word in ((Severity.UNSAFE, "UNSAFE"), (Severity.BROKEN, "damaged")):
        bad = [finding for finding in found if finding.severity is severity]
        if bad:
            return f"{word}: {bad[0].what}{_at(bad[0].position)}"
    if report.takes == "data":
        return "known to be data"
    return "not looked into" if report.takes is None else report.takes


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    writer = " ".join(filter(None, (report.framework, report.written_by)))
    if writer:
        yield "written by", writer
    if report.imports:
        more = f" and {len(report.imports) - _SHOWN} more" if len(report.imports) > _SHOWN else ""
        yield "would import", ", ".join(report.imports[:_SHOWN]) + more
    if report.tensor_count:
        yield "tensors", str(report.tensor_count)
        for tensor in report.tensors[:_SHOWN]:
            yield "", f"{tensor.name[:60]}  {tensor.dtype} {list(tensor.shape)}"
    yield "verdict", _verdict(report)
    if report.takes == "data":
        yield "take it over", "hold convert FILE --name NAME"


def _findings(report: Report) -> Iterator[str]:
    found = list(report.all_findings())
    for place, finding in found[:_SHOWN]:
        yield clean(f"  {finding.severity.value:<7} {place}: {finding.what}{_at(finding.position)}")
    if len(found) > _SHOWN:
        yield f"  and {len(found) - _SHOWN} findings more; --json has them all"


def _at(position: int | None) -> str:
    return "" if position is None else f" (byte {position})"


def _document(report: Report) -> dict[str, Any]:
    document = dataclasses.asdict(report)
    document["unsafe"] = report.unsafe
    return document
