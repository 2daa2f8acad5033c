"""Reports on pickles and on what is made of them: joblib files, old checkpoints, object arrays."""

from __future__ import annotations

from typing import Final

from holdfast.trust.pickles import Limits
from holdfast.trust.report import Severity
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.identify import identify
from holdfast.trust.scan.pickled import Described, describe
from holdfast.trust.scan.pickled_tensors import tensors_of
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import Source

__all__ = ["add_pickle", "look_at_pickle"]

_MOST_IN_A_ROW: Final = 64
_FIRST_OPCODES: Final = 1_000
# Before 1.6 torch wrote five pickles, and then the bytes of the storages.
_LEGACY: Final = 5


def look_at_pickle(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Describe every pickle in a row; a second one may hide behind the first."""
    legacy = draft.kind == "torch-legacy"
    found = add_pickle(scanner, source, draft, most=_LEGACY if legacy else _MOST_IN_A_ROW)
    if found[0].reading.inline:
        draft.kind = "joblib"
    if legacy:
        draft.framework = "PyTorch"
    elif len(found) > 1:
        draft.note(
            f"{len(found) - 1} pickles more follow, the first at byte {found[0].reading.end}"
        )
    end = found[-1].reading.end
    if len(found) == _MOST_IN_A_ROW and end is not None and end < source.size:
        draft.unread(f"what follows after {_MOST_IN_A_ROW} pickles in a row", end)
        draft.takes = None
    if not legacy and end is not None and end < source.size and depth >= 0:
        _rest(scanner, source.window(end), draft, end, depth)


def add_pickle(
    scanner: Scanner, source: Source, draft: Draft, *, most: int = 1, start: int = 0
) -> list[Described]:
    """Add what pickles in a row would import and call, and their tensors, to a report.

    Args:
        scanner: The scan.
        source: The bytes.
        draft: The report; its ``takes`` is set.
        most: How many pickles to follow.
        start: Where the first starts.

    Returns:
        What was read of each, at least of one.
    """
    data = source.view()
    found = [_describe(scanner, data, start)]
    while len(found) < most and (end := found[-1].reading.end) is not None and end < len(data):
        following = _describe(scanner, data, end)
        if not following.reading.globals and following.reading.end is None:
            break
        found.append(following)
    for each in found:
        for finding in each.findings:
            draft.find(finding)
        draft.imports(each.imports)
        for tensor in tensors_of(each.reading):
            draft.tensor(tensor.name, tensor.dtype, tensor.shape)
        draft.framework = draft.framework or each.framework
        draft.written_by = draft.written_by or each.written_by
    draft.facts["protocol"] = found[0].reading.protocol
    whole = all(each.takes is not None for each in found)
    known = all(each.takes == "data" for each in found) and not draft.has(Severity.UNSAFE)
    draft.takes = ("data" if known else "sandbox") if whole else None
    return found


def _describe(scanner: Scanner, data: memoryview, start: int) -> Described:
    """Read a pickle as far as the scan may; the first opcodes are read in any case."""
    limits = Limits(opcodes=max(_FIRST_OPCODES, scanner.allowance.opcodes))
    found = describe(data, scanner.known, offset=start, limits=limits)
    scanner.allowance.opcodes -= found.reading.opcodes
    return found


def _rest(scanner: Scanner, rest: Source, draft: Draft, end: int, depth: int) -> None:
    """Look at what follows the last pickle; zip archives there are told by the scan itself."""
    kind = identify(rest)
    if not any(rest.read(0, 4096)) and kind == "unknown":
        draft.note("zero bytes follow its end", end)
        return
    draft.note("more bytes follow its end, which an unpickler leaves unread", end)
    if kind not in ("unknown", "zip", "pickle") and scanner.may_look(depth):
        draft.members.append(scanner.look(rest, f"(from byte {end})", depth + 1))
