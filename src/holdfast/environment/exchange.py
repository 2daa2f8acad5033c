"""One message to a process, one from it, and what it prints meanwhile."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Generator, Sequence
from typing import Any, Final

from holdfast.environment import messages
from holdfast.errors import Corrupt

__all__ = ["Exchange", "hear_out"]

_TAIL: Final = 4_000
_PART: Final = 1 << 20
_LAST_PARTS: Final = 64


class Exchange:
    """One message out, one in, and what is printed meanwhile, without waiting on any of them."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        tail: bytearray,
        parts: Sequence[memoryview],
        seconds: float,
    ) -> None:
        self._process = process
        self._tail = tail
        self._parts = [part for part in parts if part.nbytes]
        self._seconds = seconds
        self._reader = _reader()
        self._wanted = next(self._reader)
        self._answer: tuple[dict[str, Any], list[memoryview]] | None = None

    def run(self) -> tuple[dict[str, Any], list[memoryview]]:
        """Return the answer.

        Raises:
            Corrupt: It is none.
            EOFError: The process closed the pipe.
            TimeoutError: It took too long.
            OSError: The process is gone.
        """
        process, end = self._process, time.monotonic() + self._seconds
        steps = {process.stdin: self._write, process.stdout: self._read, process.stderr: self._hear}
        with selectors.DefaultSelector() as selector:
            for pipe, step in steps.items():
                assert pipe is not None  # noqa: S101 - all three are pipes
                kind = selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ
                selector.register(pipe, kind, step)
            while self._answer is None:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                for key, _ in selector.select(left):
                    if not key.data(key.fd):
                        selector.unregister(key.fileobj)
        if self._parts:
            raise Corrupt("it answered before it was asked")
        return self._answer

    def _write(self, fd: int) -> bool:
        while self._parts:
            try:
                sent = os.write(fd, self._parts[0][:_PART])
            except BlockingIOError:
                return True
            self._parts[0] = self._parts[0][sent:]
            if not self._parts[0].nbytes:
                del self._parts[0]
        return False

    def _read(self, fd: int) -> bool:
        while True:
            try:
                got = os.readv(fd, [self._wanted])
            except BlockingIOError:
                return True
            if not got:
                raise EOFError
            self._wanted = self._wanted[got:]
            try:
                while not self._wanted.nbytes:
                    self._wanted = next(self._reader)
            except StopIteration as done:
                self._answer = done.value
                return False

    def _hear(self, fd: int) -> bool:
        try:
            heard = os.read(fd, _PART)
        except BlockingIOError:
            return True
        self._tail += heard
        del self._tail[:-_TAIL]
        return bool(heard)


def hear_out(process: subprocess.Popen[bytes], tail: bytearray) -> None:
    """Take what a process printed before it ended and nobody has read yet."""
    assert process.stderr is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(OSError, ValueError):
        for _ in range(_LAST_PARTS):
            heard = os.read(process.stderr.fileno(), _PART)
            if not heard:
                return
            tail += heard
            del tail[:-_TAIL]


def _reader() -> Generator[memoryview, None, tuple[dict[str, Any], list[memoryview]]]:
    """Yield memory to be filled; returns the header and the runs that follow it."""
    prefix = bytearray(messages.PREFIX)
    yield memoryview(prefix)
    text = bytearray(messages.header_length(prefix))
    yield memoryview(text)
    header, sizes = messages.parsed(text)
    runs = []
    for size in sizes:
        runs.append(memoryview(bytearray(size)))
        yield runs[-1]
    return header, runs
