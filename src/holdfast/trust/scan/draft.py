"""A report in the making."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from holdfast.trust.report import MOST_TENSORS, Finding, Report, Severity, Tensor
from holdfast.trust.source import Allowance

__all__ = ["DEFECTS", "Draft"]

# What keeps a file from being taken over in any way.
DEFECTS: Final = (Severity.BROKEN, Severity.UNREAD)

_MOST_FINDINGS: Final = 200
_MOST_IMPORTS: Final = 5_000
_LONGEST: Final = 300
_LONGEST_PATH: Final = 4_096


class Draft:
    """Collects what is found; attributes are those of ``Report``."""

    def __init__(self, path: str, kind: str, size: int, allowance: Allowance) -> None:
        self.path = path[:_LONGEST_PATH]
        self.kind = kind
        self.size = size
        self.framework: str | None = None
        self.written_by: str | None = None
        self.takes: str | None = None
        self.facts: dict[str, Any] = {}
        self.members: list[Report] = []
        self.allowance = allowance
        self._imports: dict[str, None] = {}
        self._tensors: list[Tensor] = []
        self._tensor_count = 0
        self._findings: dict[Finding, None] = {}
        self._more: dict[Severity, int] = {}

    def find(self, finding: Finding) -> None:
        """Add a finding; what is there already is not repeated."""
        if len(finding.what) > _LONGEST:
            finding = replace(finding, what=finding.what[:_LONGEST])
        if len(self._findings) < _MOST_FINDINGS:
            self._findings[finding] = None
        elif finding not in self._findings:
            self._more[finding.severity] = self._more.get(finding.severity, 0) + 1

    def unsafe(self, what: str, position: int | None = None) -> None:
        """Say that opening the file would run something, or reach out of it."""
        self._say(Severity.UNSAFE, what, position)

    def broken(self, what: str, position: int | None = None) -> None:
        """Say that the file is damaged, lies, or is beyond a limit."""
        self._say(Severity.BROKEN, what, position)

    def unread(self, what: str, position: int | None = None) -> None:
        """Say that a part was not looked into."""
        self._say(Severity.UNREAD, what, position)

    def note(self, what: str, position: int | None = None) -> None:
        """Say something that is worth knowing."""
        self._say(Severity.NOTE, what, position)

    def _say(self, severity: Severity, what: str, position: int | None) -> None:
        self.find(Finding(severity=severity, what=what, position=position))

    def faults(self, faults: Iterable[tuple[str, int | None]]) -> None:
        """Add what a reader found damaged."""
        for what, position in faults:
            self.broken(what, position)

    def imports(self, names: Iterable[str]) -> None:
        """Add what would be imported or called, each once."""
        for name in names:
            if len(self._imports) >= _MOST_IMPORTS:
                break
            self._imports[name[:_LONGEST]] = None

    def tensor(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Add a tensor; it is counted in any case, and named while the scan may name more."""
        self._tensor_count += 1
        if len(self._tensors) < MOST_TENSORS and self.allowance.tensors > 0:
            self.allowance.tensors -= 1
            self._tensors.append(Tensor(name=name[:_LONGEST], dtype=dtype[:_LONGEST], shape=shape))

    def count_tensors(self, report: Report) -> None:
        """Take over the tensors of a member as those of the whole."""
        room = MOST_TENSORS - len(self._tensors)
        self._tensors.extend(report.tensors[:room])
        self._tensor_count += report.tensor_count

    def has(self, *severities: Severity) -> bool:
        """Say whether something of these severities was found, here or in a member."""
        return any(finding.severity in severities for finding in self._findings) or any(
            finding.severity in severities
            for member in self.members
            for _, finding in member.all_findings()
        )

    def take_as_data(self) -> None:
        """Say that Holdfast can take it over as data, if nothing that was found forbids it."""
        self.takes = None if self.has(Severity.UNSAFE, *DEFECTS) else "data"

    def report(self) -> Report:
        """Return the report."""
        more = [
            Finding(severity=severity, what=f"and {count} findings more")
            for severity, count in self._more.items()
        ]
        return Report(
            path=self.path,
            kind=self.kind,
            size=self.size,
            framework=self.framework,
            written_by=self.written_by,
            takes=self.takes,
            imports=tuple(self._imports),
            tensors=tuple(self._tensors),
            tensor_count=self._tensor_count,
            findings=(*self._findings, *more),
            facts=self.facts,
            members=tuple(self.members),
        )
