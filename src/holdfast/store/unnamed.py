"""Blobs on their way into a store's folder: written first, then hashed several at once and named.

They are hashed where they were written to: what a blob holds is what its name says, though the
memory that it came from changed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

from holdfast.durable import mapped_os_errors, unfinished, write_new
from holdfast.record import Digest
from holdfast.store.base import Buffer
from holdfast.store.hashing import digests_of
from holdfast.store.local import LocalStore
from holdfast.store.reading import LocalReading

__all__ = ["Unnamed"]


class _Unfinished(NamedTuple):
    """A file being written.

    Attributes:
        path: Where it is.
        whole: Set when its bytes can be read, or never will be.
        durable: Done when they are on disk, or with what went wrong.
    """

    path: Path
    whole: threading.Event
    durable: Future[None]


class Unnamed:
    """Files of a store without a name; use it as a context, which removes those that got none.

    Args:
        store: Where to.
        threads: How many files are written at a time.
    """

    def __init__(self, store: LocalStore, threads: int) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=threads)
        self._files: list[_Unfinished] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True)
        for file in self._files:
            with contextlib.suppress(OSError):
                file.path.unlink()

    def stop(self) -> None:
        """Begin no file any more, and let nobody wait for one."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for file in self._files:
            file.whole.set()

    def write(self, chunks: Iterable[Buffer]) -> _Unfinished:
        """Write bytes on a thread; what goes wrong is told by ``name``."""
        path, whole = unfinished(self._store.path / "tmp"), threading.Event()

        def write() -> None:
            try:
                with mapped_os_errors(self._store.path, "saving"):
                    write_new(path, _then(chunks, whole.set))
            finally:
                whole.set()

        self._files.append(_Unfinished(path, whole, self._pool.submit(write)))
        return self._files[-1]

    def name(self, files: Sequence[_Unfinished], expected: Sequence[Digest | None]) -> list[Digest]:
        """Hash files, name them after their digests once they are durable, and return these.

        The names themselves are durable after the store's ``flush``.

        Raises:
            Corrupt: One has not the digest that was expected.
            NoSpace: The store is full.
        """
        for file in files:
            file.whole.wait()
            if file.durable.done():
                file.durable.result()
        with mapped_os_errors(self._store.path, "saving"):
            digests = digests_of([_bytes(file.path) for file in files])
            for file, digest, expect in zip(files, digests, expected, strict=True):
                file.durable.result()
                self._store.name(file.path, digest, expect)
                file.path.unlink(missing_ok=True)
        return digests


def _then(chunks: Iterable[Buffer], call: Callable[[], None]) -> Iterator[Buffer]:
    """Yield chunks; when another one is asked for, the last one was taken."""
    yield from chunks
    call()


def _bytes(file: Path) -> memoryview:
    with contextlib.closing(LocalReading(os.open(file, os.O_RDONLY | os.O_CLOEXEC))) as reading:
        return reading.view()
