"""The symbolic machine below the opcodes: input, stack, marks and memo.

It follows CPython's unpicklers: the one in C (``Modules/_pickle.c``) and the one in Python
(``Lib/pickle.py``), which joblib and dill use. Where they differ, what goes on in either goes on
here, so that nothing which either would run is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from holdfast.trust.pickles.values import (
    Call,
    Change,
    Global,
    Inline,
    LongBytearray,
    Members,
    OutOfBand,
    Pairs,
    Persistent,
    Reading,
)
from holdfast.trust.report import Finding, Severity

__all__ = ["LIMITS", "PLAIN", "Break", "Cut", "Limits", "Machine", "Missing"]

_LINE: Final = 1 << 16
_LONGEST_LINE: Final = 256 << 20
# Bytes of this length or more are views of the input.
_LONG: Final = 1 << 10
# What certainly is no callable and has no attributes to set.
PLAIN: Final = (
    type(None), bool, int, float, str, bytes, bytearray, memoryview, tuple, list,
    Pairs, Members, LongBytearray,
)  # fmt: skip
_ELSEWHERE: Final = (Global, Persistent, Inline, OutOfBand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where reading a pickle gives up.

    Attributes:
        opcodes: How many opcodes are read.
        calls: How many calls are described.
        findings: How many findings are kept.
    """

    opcodes: int = 20_000_000
    calls: int = 4_000_000
    findings: int = 1_000


LIMITS: Final = Limits()


class Break(Exception):
    """Where an unpickler would give up, and why."""


class Cut(Break):
    """Where the bytes end before the pickle does."""


class Missing(Break):
    """Where reading gives up although an unpickler may go on."""


class Machine:
    """What opcodes work on."""

    def __init__(self, data: memoryview, at: int, limits: Limits) -> None:
        self.data = data
        self.size = len(data)
        self.at = at
        self.limits = limits
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.fence = 0
        self.memo: dict[int, Any] = {}
        self.opcode_at = at
        # Python's unpickler holds a frame of its own: its end, and where the file then goes on.
        self.frame_end = -1
        self.file_at = -1
        # The C unpickler's buffer ends with the longest frame.
        self.buffer_end = -1
        self.out = Reading()

    # Findings.

    def find(self, what: str, severity: Severity = Severity.BROKEN) -> None:
        """Note something that is wrong at the present opcode."""
        if len(self.out.findings) < self.limits.findings:
            self.out.findings.append(Finding(severity=severity, what=what, position=self.opcode_at))

    # Input.

    def take(self, count: int) -> memoryview:
        """Return the next bytes; raises ``Break`` when there are not so many."""
        if self.at == self.frame_end:
            self.leave_frame()
        start, stop = self.at, self.at + count
        if stop > self.size:
            raise Cut(f"it is cut short: {count} bytes were to follow")
        if start < self.buffer_end < stop:
            self.disagree()
        self.at = stop
        return self.data[start:stop]

    def number(self, width: int) -> int:
        """Return the next unsigned little-endian number."""
        return int.from_bytes(self.take(width), "little")

    def line(self) -> bytes:
        """Return the next bytes up to a newline, without it.

        Python's unpickler takes a line that the file's end cuts short, less its last byte.
        """
        if self.at == self.frame_end:
            self.leave_frame()
        start = at = self.at
        while at < self.size and at - start < _LONGEST_LINE:
            found = bytes(self.data[at : at + _LINE]).find(b"\n")
            if found >= 0:
                self.at = at + found + 1
                if start < self.buffer_end < self.at:
                    self.disagree()
                return bytes(self.data[start : at + found])
            at += _LINE
        if at < self.size:
            raise Missing("a line is longer than is read")
        if start >= self.size:
            raise Cut("it is cut short: a line was to follow")
        self.at = self.size
        self.find("its last line does not end")
        return bytes(self.data[start : self.size - 1])

    def long_bytes(self, count: int) -> bytes | memoryview:
        """Return the next bytes, as a view when they are many."""
        taken = self.take(count)
        return bytes(taken) if count < _LONG else taken

    def leave_frame(self) -> None:
        """Go on in the file after a frame that was read to its end."""
        self.at = self.file_at
        self.frame_end = -1

    def file_position(self) -> int:
        """Return where Python's unpickler has read its file to: a frame is read as a whole."""
        return self.file_at if self.at <= self.frame_end else self.at

    def go_on_at(self, position: int) -> None:
        """Go on after bytes that were taken from the file, past the frame's remaining opcodes."""
        if self.at <= self.frame_end:
            self.file_at = position
        else:
            self.at = position

    def enter_frame(self, length: int) -> None:
        """Begin a frame; the C unpickler only demands that its bytes are there."""
        if length > self.size - self.at:
            self.find(f"a frame claims {length} bytes, more than there are")
        end = min(self.at + length, self.size)
        if self.at < self.buffer_end < end:
            self.disagree()
        self.frame_end = self.file_at = end
        self.buffer_end = max(self.buffer_end, end)

    def disagree(self) -> None:
        """Note a frame whose end readers treat differently.

        Of bytes of the frame that are too few, ``pickle.loads`` reads the rest behind it, Python's
        unpickler fails, and ``pickle.load`` of a file without ``peek`` forgets them.
        """
        self.find("a frame ends within an opcode: readers disagree on it", Severity.UNSAFE)

    # Stack.

    def pop(self) -> Any:
        """Take the top of the stack, which a mark fences off."""
        if len(self.stack) <= self.fence:
            raise Break("it takes from an empty stack")
        return self.stack.pop()

    def pop_root(self) -> Any:
        """Take the result; a STOP without one still ends the pickle."""
        if len(self.stack) <= self.fence:
            self.find("it ends without a result")
            return None
        return self.stack.pop()

    def top(self, below: int = 0) -> Any:
        """Return the top of the stack, or what is so many below it."""
        if len(self.stack) - below <= self.fence:
            raise Break("it takes from an empty stack")
        return self.stack[-1 - below]

    def unmark(self) -> int:
        """Take the last mark."""
        if not self.marks:
            raise Break("it takes a mark that it never set")
        mark = self.marks.pop()
        self.fence = self.marks[-1] if self.marks else 0
        return mark

    def cut(self, start: int) -> list[Any]:
        """Take everything from a place of the stack on."""
        if start < self.fence or start > len(self.stack):
            raise Break("it takes from an empty stack")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def remember(self, place: int) -> None:
        """Keep the top of the stack in the memo."""
        value = self.top()
        if place > 1 << 24 and place > 16 * len(self.memo):
            self.find(f"the memo would be made {place} entries large")
        self.memo[place] = value

    def recall(self, place: int) -> None:
        """Push what the memo has."""
        if place not in self.memo:
            raise Break(f"it recalls {place}, which it never memoized")
        self.stack.append(self.memo[place])

    # Descriptions.

    def imported(self, module: str, name: str) -> Global:
        """Note an import."""
        found = Global(module, name, self.opcode_at)
        self.out.globals.append(found)
        return found

    def called(self, function: Any, arguments: Any, keywords: Any = None, *, new: bool) -> None:
        """Push a call."""
        if isinstance(function, PLAIN):
            raise Break(f"it calls a value of type {_name(function)}")
        if len(self.out.calls) >= self.limits.calls:
            raise Missing(f"it has more than {self.limits.calls} calls")
        call = Call(function, arguments, self.opcode_at, keywords, new)
        self.out.calls.append(call)
        self.stack.append(call)

    def changed(self, target: Any, how: str, arguments: Any) -> None:
        """Note a change of something that the pickle did not make."""
        if not isinstance(target, _ELSEWHERE):
            raise Break(f"it cannot {how} a value of type {_name(target)}")
        self.out.changes.append(Change(target, how, arguments, self.opcode_at))


def _name(value: Any) -> str:
    names = {"Pairs": "dict", "Members": "set", "memoryview": "bytes", "LongBytearray": "bytearray"}
    return names.get(type(value).__name__, type(value).__name__)
