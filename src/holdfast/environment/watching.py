"""Watching a process that is not trusted: how long it runs, what it writes, what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from holdfast.environment.inside import RESULT
from holdfast.errors import Corrupt

__all__ = ["Job", "require_plain", "result_of", "watch"]

_TAIL: Final = 8_000
_POLL: Final = 0.1
_MOST_FILES: Final = 10_000
_MOST_RESULT: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A process to be watched.

    Attributes:
        command: What to start.
        folder: Its working directory, the only place where it may write.
        environment: Its variables, all of them.
        wall: Seconds from beginning to end.
        disk: Bytes that it may have in its folder.
        told: Where bubblewrap says which process it started; None without bubblewrap.
        fds: Descriptors that are handed on.
    """

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    wall: float
    disk: int
    told: int | None
    fds: tuple[int, ...]


def watch(job: Job) -> tuple[str, str]:
    """Run a process and end it at a limit.

    Returns:
        How it ended, ``"done"``, ``"failed"``, ``"time"`` or ``"disk"``; and the end of what it
        printed.
    """
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        job.command,
        cwd=job.folder,
        env=dict(job.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=job.fds,
        start_new_session=True,
    )
    try:
        ended, output = _follow(process, job)
    finally:
        _end(process, job.told)
        if process.stdout is not None:
            process.stdout.close()
    ended = "failed" if ended == "done" and process.returncode else ended
    return ended, output.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes], told: int | None) -> None:
    """End a process: the confined one first, so that bubblewrap itself can take leave of it."""
    if process.poll() is None and told is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, subprocess.TimeoutExpired):
            os.kill(int(json.loads(os.read(told, 4096))["child-pid"]), signal.SIGKILL)
            process.wait(5)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _follow(process: subprocess.Popen[bytes], job: Job) -> tuple[str, bytes]:
    """Read what a process prints until it is gone or at a limit, whether it prints or not."""
    tail, next_look, end = b"", 0.0, time.monotonic() + job.wall
    with selectors.DefaultSelector() as selector:
        if process.stdout is not None:
            selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if now > end:
                return "time", tail
            if now > next_look:
                if _too_large(job.folder, job.disk):
                    return "disk", tail
                next_look = time.monotonic() + _POLL
            if not selector.get_map():  # it closed its output and may go on
                if process.poll() is not None:
                    return "done", tail
                time.sleep(_POLL)
                continue
            for key, _ in selector.select(_POLL):
                part = os.read(key.fd, 1 << 16)
                tail = (tail + part)[-_TAIL:]
                if not part:
                    selector.unregister(key.fileobj)


def _too_large(folder: Path, most: int) -> bool:
    """Say whether a folder has more bytes or files than it may; looks at no more than that."""
    size = count = 0
    for entry in _entries(folder):
        count += 1
        try:
            size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
        if size > most or count > _MOST_FILES:
            return True
    return False


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    todo = [str(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except OSError:
            continue


def require_plain(folder: Path) -> None:
    """Refuse links and pipes that were left behind: whoever reads them would be led elsewhere."""
    for count, entry in enumerate(_entries(folder)):
        file = entry.is_file(follow_symlinks=False)
        linked = file and entry.stat(follow_symlinks=False).st_nlink > 1
        plain = (file and not linked) or entry.is_dir(follow_symlinks=False)
        if not plain:
            raise Corrupt(f"the sandbox left {entry.name!r:.60}, which is no plain file")
        if count > _MOST_FILES:
            raise Corrupt(f"the sandbox left more than {_MOST_FILES} files")


def result_of(folder: Path) -> dict[str, Any] | None:
    """Read what the function returned; None when it is no JSON object of a moderate size."""
    file = folder / RESULT
    try:
        if file.stat().st_size > _MOST_RESULT:
            return None
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
