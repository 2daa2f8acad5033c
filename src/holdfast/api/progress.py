"""A progress bar on a terminal, nothing when piped or when the work is short."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["bytes_progress", "counted", "counting", "waiting"]

_WORTH_SHOWING: Final = 128 << 20


@contextlib.contextmanager
def bytes_progress(title: str, total: int) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callable ``(done_bytes, total_bytes)``, or None when nothing should be shown.

    Args:
        title: What is being done.
        total: Bytes expected; under 128 MiB nothing is shown.
    """
    if total < _WORTH_SHOWING or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True)
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show that something takes a while, on a terminal; nothing when piped."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(title):
        yield


@contextlib.contextmanager
def counting(title: str, *, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callable ``(what, done, total)`` that moves a bar on a terminal.

    Args:
        title: What is being done.
        shown: False shows nothing, as a pipe does.
    """
    if not shown or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(
        *columns, TextColumn("{task.fields[what]}"), console=Console(stderr=True), transient=True
    )
    with bar:
        task = bar.add_task(title, total=None, what="")
        yield lambda what, done, total: bar.update(task, completed=done, total=total, what=what)


@contextlib.contextmanager
def counted(title: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Like ``bytes_progress``, for work that tells what came in since it last said so."""
    done = 0
    with bytes_progress(title, total) as show:

        def add(count: int) -> None:
            nonlocal done
            done += count
            if show is not None:
                show(done, total)

        yield add
