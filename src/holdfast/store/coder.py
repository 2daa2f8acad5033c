"""Keeping blobs of a folder coded in place of plain, and the reverse; readers see no difference.

A blob is always there in one form or the other: the new one is durable and was read back before
the old one goes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from holdfast.durable import fsync_dir, mapped_os_errors, unfinished, write_new
from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest, digest_of
from holdfast.store.coding import Kind, encode
from holdfast.store.local import LocalStore
from holdfast.store.reading import CodedReading
from holdfast.store.shelf import Shelf

__all__ = ["Coder"]

_WORTH: Final = 0.98  # a coded blob at least so small is kept
_CHUNK: Final = 1 << 20


class Coder:
    """Codes and decodes blobs while no other deletion is at work; use it as a context.

    Raises:
        Conflict: Something else deletes in the store.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._held = contextlib.ExitStack()
        self._bases: set[Digest] = set()

    def __enter__(self) -> Self:
        self._held.enter_context(self._store.only_deleter())
        self._store.drop_doubles()
        self._bases = {info.base for info in self._store.list() if info.base is not None}
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def code(self, digest: Digest, kinds: Sequence[Kind], bases: Sequence[Digest] = ()) -> int:
        """Keep a blob coded and return the bytes saved; 0 where it stays as it is.

        Args:
            digest: Which.
            kinds: What its bytes are, in order.
            bases: Blobs to the first sound one of which its floats may be coded as differences;
                one that is itself coded so, or is of another size, is passed over.

        Raises:
            NotFound: It is not there.
            Corrupt: Its bytes, or what was made of them, are not those of its name.
            NoSpace: There is no room for the coded form beside it.
        """
        with (
            mapped_os_errors(self._store.path, "coding"),
            contextlib.closing(self._store.open_blob(digest)) as reading,
        ):
            if isinstance(reading, CodedReading) or reading.size == 0:
                return 0
            plain = reading.view()
            wanted = () if digest in self._bases else bases
            below = next(filter(None, (self._usable(b, reading.size) for b in wanted)), None)
            with self._tmp() as tmp:
                stored = write_new(tmp, encode(plain, kinds, base=below))
                if stored > _WORTH * reading.size:
                    return 0
                used = self._proven(tmp, digest)
                self._swap(tmp, digest, self._store.coded, self._store.plain)
            if used is not None:
                self._bases.add(used)
            return reading.size - stored

    def decode(self, digest: Digest) -> int:
        """Keep a blob plain again and return the bytes that it occupies more; 0 where it was.

        Raises:
            NotFound: It is not there.
            Corrupt: It does not decode to the bytes of its name; it stays as it is.
            NoSpace: There is no room for them.
        """
        with (
            mapped_os_errors(self._store.path, "decoding"),
            contextlib.closing(self._store.open_blob(digest)) as reading,
        ):
            if not isinstance(reading, CodedReading):
                return 0
            plain = reading.view()
            if digest_of(plain) != digest:
                raise self._store.damaged(digest)
            with self._tmp() as tmp:
                write_new(tmp, (plain[at : at + _CHUNK] for at in range(0, reading.size, _CHUNK)))
                self._swap(tmp, digest, self._store.plain, self._store.coded)
            return reading.size - reading.stored

    def _usable(self, base: Digest, size: int) -> tuple[Digest, memoryview] | None:
        with (
            contextlib.suppress(NotFound, Corrupt),
            contextlib.closing(self._store.open_blob(base)) as reading,
        ):
            differs = isinstance(reading, CodedReading) and reading.base is not None
            if not differs and reading.size == size:
                view = reading.view()
                return (base, view) if digest_of(view) == base else None
        return None

    def _proven(self, tmp: Path, digest: Digest) -> Digest | None:
        """Read a coded file back and return its base; what it decodes to must be the blob."""
        fd = os.open(tmp, os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.closing(CodedReading(fd, self._store.base_of(digest))) as coded:
            if digest_of(coded.view()) != digest:
                raise self._store.damaged(digest)
            return coded.base

    @contextlib.contextmanager
    def _tmp(self) -> Iterator[Path]:
        tmp = unfinished(self._store.path / "tmp")
        try:
            yield tmp
        finally:
            tmp.unlink(missing_ok=True)

    def _swap(self, tmp: Path, digest: Digest, to: Shelf, instead_of: Shelf) -> None:
        """Give the new form its name, durably, before the old one loses its."""
        if not to.folder.is_dir():
            to.folder.mkdir(parents=True)
            fsync_dir(to.folder.parent)
            fsync_dir(to.folder.parent.parent)
        tmp.replace(to.place(digest))
        fsync_dir(to.folder)
        instead_of.place(digest).unlink(missing_ok=True)
