"""Foreign files that cannot be read as data, opened in a sandbox and taken over from there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from holdfast.api import boxed
from holdfast.api.save import save
from holdfast.api.verbs import load
from holdfast.archive import frames
from holdfast.environment import sandbox
from holdfast.errors import HoldfastError, UnsafeContent, Unsupported
from holdfast.rescue.taken import Taken
from holdfast.trust.report import KINDS, Report

__all__ = ["can_open", "opened_in_sandbox"]

_LEAST: Final = 4 << 30
_TIMES: Final = 6
_SECONDS: Final = 300
# What code leaves that was there for its effect.
_NO_MODELS: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_ENDS: Final = {
    "time": f"was not done after {_SECONDS} seconds",
    "disk": "wrote more than it may",
    "failed": "came to no end, as a process does that is killed or out of memory",
}


def can_open(report: Report) -> bool:
    """Say whether the sandbox knows how to open files of this kind."""
    return report.kind in boxed.KINDS


@contextmanager
def opened_in_sandbox(path: Path, report: Report, options: Mapping[str, Any]) -> Iterator[Taken]:
    """Open a file in a process that can do little, and take over what it saved there as data.

    The process saves the object through the ordinary codec and replays its golden set; what it
    leaves is then read, judged and replayed again here, as the store of a stranger.

    Args:
        path: The file.
        report: What the scan found of it.
        options: Those of ``save``; ``inputs`` and ``golden`` are used inside as well.

    Raises:
        EnvironmentMismatch: Nothing can be confined on this machine.
        Unsupported: It cannot be opened or kept; the message says why, as the process told it.
        UnsafeContent: The process was ended at a limit.
        Anything ``load`` raises of a store that is damaged, lies or answers otherwise here.
    """
    if not can_open(report):
        raise Unsupported(
            f"{path}: the sandbox does not open a {KINDS[report.kind]}.", hint=f"hold scan {path}"
        )
    with tempfile.TemporaryDirectory(prefix="holdfast-") as place:
        folder = Path(place, "work")
        folder.mkdir()
        given = {"file": path}
        inputs = frames.native(options.get("inputs"))
        if inputs is not None:
            given["rows"] = Path(place, "rows")
            save(inputs, "rows", store=given["rows"], golden=None)
        outcome = sandbox.run(
            boxed.__name__,
            folder=folder,
            arguments={"kind": report.kind, "golden": options.get("golden", "inputs")},
            inputs=given,
            limits=_limits(path),
        )
        told = _told(path, outcome)
        model = load(
            boxed.NAME,
            store=folder / boxed.STORE,
            verify="always",
            replay="always",
            environment="here",  # what it left chooses no other way to be loaded
        )
        if type(model) in _NO_MODELS:
            said = f"what comes out is of the type {type(model).__name__}, no model."
            raise Unsupported(f"{path} was opened in a sandbox: {said}", hint=f"hold scan {path}")
        notes = (
            f"It was opened in a sandbox ({outcome.by}), as a {told.get('type', '?')!s:.100}.",
            f"What it became was proven there and here: {told.get('proof', '?')!s:.40}.",
        )
        yield Taken(model=model, how="run in a sandbox", notes=notes)


def _limits(path: Path) -> sandbox.Limits:
    size = max(_LEAST, _TIMES * path.stat().st_size)
    return sandbox.Limits(memory=size, disk=size, cpu=_SECONDS, wall=_SECONDS)


def _told(path: Path, outcome: sandbox.Outcome) -> dict[str, Any]:
    """Return what the process returned; none of it is trusted, and it is only shown."""
    if outcome.result is not None and "error" not in outcome.result:
        return outcome.result
    hint = f"hold scan {path}"
    if outcome.result is not None:
        said = f"{outcome.result['error']!s:.500}"
        raise Unsupported(f"{path} was opened in a sandbox and is not kept: {said}", hint=hint)
    last = outcome.output.strip().splitlines()[-1:]
    printed = f" (it printed {last[0]!r:.200})" if last else ""
    kind: type[HoldfastError] = Unsupported if outcome.ended == "failed" else UnsafeContent
    raise kind(f"{path} was opened in a sandbox and {_ENDS[outcome.ended]}{printed}.", hint=hint)
