"""Blobs that were written to a store's folder and have no names yet, hashed several at once.

They are hashed where they were written to: what a blob holds is what its name says, though the
memory that it came from changed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from holdfast.durable import mapped_os_errors, unfinished, write_new
from holdfast.record import Digest
from holdfast.store.base import Buffer
from holdfast.store.hashing import digests_of
from holdfast.store.local import LocalStore
from holdfast.store.reading import LocalReading

__all__ = ["Unnamed"]


class Unnamed:
    """Files of a store without a name; use it as a context, which removes those that got none.

    Threads may share it.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._files: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink()

    def write(self, chunks: Iterable[Buffer]) -> Path:
        """Write bytes, durable but for their name; raises ``NoSpace``."""
        file = unfinished(self._store.path / "tmp")
        self._files.add(file)
        with mapped_os_errors(self._store.path, "saving"):
            write_new(file, chunks)
        return file

    def name(self, files: Sequence[Path], expected: Sequence[Digest | None]) -> list[Digest]:
        """Hash written files, name them after their digests, and return these.

        Their names are durable after the store's ``flush``.

        Raises:
            Corrupt: One has not the digest that was expected.
        """
        with mapped_os_errors(self._store.path, "saving"):
            digests = digests_of([_bytes(file) for file in files])
            for file, digest, expect in zip(files, digests, expected, strict=True):
                self._store.name(file, digest, expect)
                file.unlink(missing_ok=True)
                self._files.discard(file)
        return digests


def _bytes(file: Path) -> memoryview:
    with contextlib.closing(LocalReading(os.open(file, os.O_RDONLY | os.O_CLOEXEC))) as reading:
        return reading.view()
