"""What a pickle would import and call, as a report's parts."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final, NamedTuple

from holdfast.trust.pickles import LIMITS, Call, Global, Limits, Pairs, Reading, read
from holdfast.trust.report import Finding, Severity
from holdfast.trust.scan.usual_calls import USUAL
from holdfast.trust.scan.vocabulary import DATA, FAMILIES, UNREAD

__all__ = ["Described", "describe"]

_MOST: Final = 200
# Names that say which release wrote the objects around them.
_VERSIONS: Final = {"_sklearn_version": "scikit-learn", "pytorch-lightning_version": "Lightning"}


class Described(NamedTuple):
    """What is known of a pickle.

    Attributes:
        imports: What it would import, ``module.name``, each once.
        findings: What would run, and what is wrong.
        framework: What wrote it, or None.
        written_by: Its version, or None.
        takes: ``"data"``, ``"sandbox"``, or None when it is damaged.
        reading: The reading itself.
    """

    imports: tuple[str, ...]
    findings: tuple[Finding, ...]
    framework: str | None
    written_by: str | None
    takes: str | None
    reading: Reading


def describe(
    data: memoryview, known: Container[str], *, offset: int = 0, limits: Limits = LIMITS
) -> Described:
    """Read a pickle and say what it is made of.

    Args:
        data: The bytes.
        known: Further names that are data: classes that Holdfast's registry knows,
            ``module:qualname``.
        offset: Where it starts.
        limits: Where reading gives up.
    """
    reading = read(data, offset=offset, limits=limits)
    others = [item for item in reading.globals if item.key not in DATA and item.key not in known]
    strange = [item for item in others if item.key not in UNREAD]
    findings = list(_would_run(strange, reading))
    findings += _hidden(data, reading, offset, limits)
    findings += reading.findings[:_MOST]
    framework, version = _writer(reading)
    broken = any(finding.severity is Severity.BROKEN for finding in reading.findings)
    unsafe = any(finding.severity is Severity.UNSAFE for finding in findings)
    takes = "sandbox" if unsafe or others else "data"
    return Described(
        imports=tuple(dict.fromkeys(f"{g.module}.{g.name}" for g in reading.globals)),
        findings=tuple(findings),
        framework=framework,
        written_by=version,
        takes=None if broken or reading.end is None else takes,
        reading=reading,
    )


def _would_run(strange: Iterable[Global], reading: Reading) -> Iterable[Finding]:
    """Yield what is not known to be data: calls of strangers, and imports of them."""
    strangers = {id(item): item for item in strange}
    called: set[str] = set()
    count = 0
    for call in reading.calls:
        name = _called(call, strangers) or _oddly_called(call)
        if name is None or name in called:
            continue
        called.add(name)
        count += 1
        if count <= _MOST:
            yield Finding(
                severity=Severity.UNSAFE, what=f"would call {name}", position=call.position
            )
    for item in strangers.values():
        name = f"{item.module}.{item.name}"
        if name in called:
            continue
        called.add(name)
        count += 1
        if count <= _MOST:
            yield Finding(
                severity=Severity.UNSAFE, what=f"would import {name}", position=item.position
            )
    for change in reading.changes[:_MOST]:
        yield Finding(
            severity=Severity.UNSAFE,
            what=f"would change something that it did not make ({change.how})",
            position=change.position,
        )
    if count > _MOST:
        yield Finding(severity=Severity.UNSAFE, what=f"and {count - _MOST} names more")


def _called(call: Call, strangers: dict[int, Global]) -> str | None:
    """Return the name of what a call calls when it is not known to be data."""
    function = call.function
    if type(function) is Global:
        return f"{function.module}.{function.name}" if id(function) in strangers else None
    return "something that it computes"


def _oddly_called(call: Call) -> str | None:
    """Return the name of known data that is called as no pickler calls it.

    What an unpickler makes of that is not certain, and so is what its further opcodes work on.
    """
    function = call.function
    if type(function) is not Global:
        return None
    name = f"{function.module}.{function.name}"
    if type(call.arguments) is not tuple:
        return f"{name} with arguments that it computes"
    if call.keywords is not None and type(call.keywords) is not Pairs:
        return f"{name} with arguments that it computes"
    expected = USUAL.get(function.key)
    return None if expected is None or expected(call) else f"{name} in an unusual way"


def _hidden(data: memoryview, reading: Reading, offset: int, limits: Limits) -> Iterable[Finding]:
    """Yield what runs only where ``pickle.load`` reads a joblib file: arrays as opcodes."""
    if not reading.inline:
        return
    plain = read(data, offset=offset, limits=limits, joblib=False)
    seen = {(item.position, item.key) for item in reading.globals}
    for item in plain.globals:
        if (item.position, item.key) not in seen:
            yield Finding(
                severity=Severity.UNSAFE,
                what=f"would import {item.module}.{item.name} where pickle.load reads it",
                position=item.position,
            )
    calls = {call.position for call in reading.calls}
    for call in plain.calls:
        if call.position not in calls:
            yield Finding(
                severity=Severity.UNSAFE,
                what="would call something where pickle.load reads it",
                position=call.position,
            )


def _writer(reading: Reading) -> tuple[str | None, str | None]:
    """Tell the framework by the names, and its release where an object says it."""
    families = [FAMILIES.get(item.module.partition(".")[0]) for item in reading.globals]
    named = [family for family in families if family is not None]
    framework = next((name for name in named if name != "NumPy"), named[0] if named else None)
    for call in reading.calls:
        for state in call.states:
            for key, value in _entries(state):
                if key in _VERSIONS and type(value) is str:
                    return _VERSIONS[key], value[:40]
    for key, value in _entries(reading.root):
        if key in _VERSIONS and type(value) is str:
            return _VERSIONS[key], value[:40]
    return framework, None


def _entries(state: Any) -> Iterable[tuple[Any, Any]]:
    for part in state if type(state) is tuple else (state,):
        if type(part) is Pairs:
            yield from part.items
