"""Reading a pickle as data: an opcode reader with a symbolic stack that never calls anything."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from operator import length_hint
from typing import Any, Final

from holdfast.trust.pickles.dtypes import Unknown
from holdfast.trust.pickles.opcodes import TABLE
from holdfast.trust.pickles.stack import LIMITS, Break, Cut, Limits, Machine, Missing
from holdfast.trust.pickles.values import Call, Inline, Reading
from holdfast.trust.pickles.wrapped import facts_of, is_old_wrapper, is_wrapper, size_of
from holdfast.trust.report import Severity

__all__ = ["read"]

_STOP: Final = ord(".")
_BUILD: Final = ord("b")


def read(
    data: bytes | bytearray | memoryview | mmap.mmap,
    *,
    offset: int = 0,
    limits: Limits = LIMITS,
    joblib: bool = True,
) -> Reading:
    """Read one pickle, of any protocol, and describe what it would build, import and call.

    Args:
        data: The bytes that hold it; long byte strings of the result are views of them.
        offset: Where it starts.
        limits: Where reading gives up.
        joblib: Whether arrays follow their descriptions as joblib writes them. ``pickle.load``
            goes on with opcodes there instead.

    Returns:
        What was read up to its STOP, or up to where it breaks off: ``end`` is None then, and a
        finding says why. What comes before a break would have run by then, and is described.
    """
    view = memoryview(data).toreadonly()
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    machine = Machine(view, offset, limits)
    steps = iter(range(limits.opcodes))
    try:
        _run(machine, steps, joblib=joblib)
    except Missing as error:
        machine.find(f"{error}; what follows is not described", Severity.UNSAFE)
    except Break as error:
        machine.find(f"the pickle breaks off: {error}")
        machine.out.cut = isinstance(error, Cut)
    machine.out.opcodes += limits.opcodes - length_hint(steps)
    return machine.out


def _run(machine: Machine, steps: Iterator[int], *, joblib: bool) -> None:
    """Follow opcodes up to STOP, one a step; raises ``Break`` where an unpickler gives up."""
    data = machine.data
    for _ in steps:
        if machine.at == machine.frame_end:
            machine.leave_frame()
        if machine.at >= machine.size:
            raise Cut("it ends before its STOP")
        machine.opcode_at = machine.at
        code = data[machine.at]
        machine.at += 1
        if code == _STOP:
            if machine.at < machine.frame_end:
                machine.find("its last frame goes on after its end")
            machine.out.end = machine.at
            machine.out.root = machine.pop_root()
            return
        action = TABLE[code]
        if action is None:
            raise Break(f"no opcode is {code:#04x}")
        action(machine)
        if code == _BUILD and joblib and type(machine.stack[-1]) is Call:
            _after_build(machine, machine.stack[-1])
    raise Missing(f"it has more than {machine.limits.opcodes} opcodes")


def _after_build(machine: Machine, call: Call) -> None:
    """Put an array in the place of its description, as joblib does after every BUILD."""
    if is_wrapper(call):
        machine.stack[-1] = _inline(machine, call)
    elif is_old_wrapper(call):
        said = "some file"
        with suppress(Unknown):
            name = facts_of(call).get("filename")
            said = repr(name)[:100] if type(name) is str else said
        machine.find(f"would load {said} beside it, as a pickle if it is one", Severity.UNSAFE)


def _inline(machine: Machine, call: Call) -> Inline:
    start = machine.file_position()
    try:
        facts = facts_of(call)
        size = size_of(facts)
    except Unknown as error:
        raise Missing("an array of joblib is described in an unknown way") from error
    if size is None:
        nested = read(machine.data, offset=start, limits=machine.limits, joblib=False)
        _join(machine.out, nested)
        if nested.end is None:
            raise Break("the pickle of an array of objects breaks off")
        if nested.findings:
            raise Missing("the pickle of an array of objects is not as a pickler writes it")
        machine.go_on_at(nested.end)
        found = Inline(start, nested.end - start, call, facts, nested.root)
    else:
        start += _padding(machine, start, facts)
        if size > machine.size - start:
            raise Break(f"an array of {size} bytes is cut short")
        machine.go_on_at(start + size)
        found = Inline(start, size, call, facts)
    machine.out.inline.append(found)
    return found


def _padding(machine: Machine, start: int, facts: dict[str, Any]) -> int:
    """Return how many bytes stand before the array so that it is aligned; the first is a count."""
    if facts.get("numpy_array_alignment_bytes") is None or start >= machine.size:
        return 0
    return 1 + machine.data[start]


def _join(out: Reading, nested: Reading) -> None:
    """Take over what a pickle inside the stream would import and call."""
    out.globals.extend(nested.globals)
    out.calls.extend(nested.calls)
    out.changes.extend(nested.changes)
    out.persistent.extend(nested.persistent)
    out.findings.extend(nested.findings)
    out.opcodes += nested.opcodes
    out.python2 = out.python2 or nested.python2
