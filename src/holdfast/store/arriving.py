"""Blobs that come from another store coded, into a folder: decoded here before they get a name."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.durable import fsync_dir, mapped_os_errors, unfinished, write_new
from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store.base import Coded
from holdfast.store.reading import CodedReading

if TYPE_CHECKING:
    from holdfast.store.local import LocalStore

__all__ = ["put_coded", "require_decodes"]

_CHUNK: Final = 1 << 20


def require_decodes(coded: Coded, digest: Digest) -> None:
    """Decode a blob, few of its bytes in memory at a time, and compare it with its name.

    Raises:
        Corrupt: It is another one, or does not decode.
    """
    hasher = hashlib.sha256()
    for piece in coded.pieces():
        hasher.update(piece)
    if f"sha256:{hasher.hexdigest()}" != digest:
        raise Corrupt(f"The coded form of {digest} does not decode to it.", ref=digest)


def put_coded(store: LocalStore, digest: Digest, coded: Coded) -> bool:
    """Keep a blob coded in a folder; see ``Coding.put_coded``.

    Nothing deletes or codes blobs while it gets its name, so that its base, which was looked at
    under the same lock, is found by whatever does so later. Where something is at work already it
    is written plain from the coded form that has come.
    """
    if store.plain.has(digest):
        return False
    if coded.base is not None and not _serves(store, coded.base, coded.size):
        return False
    with mapped_os_errors(store.path, "copying"), _written(store, coded) as tmp:
        fd = os.open(tmp, os.O_RDONLY | os.O_CLOEXEC)
        with contextlib.closing(CodedReading(fd, store.base_of(digest))) as here:
            require_decodes(here, digest)
            with store.arriving() as alone:
                if alone and (here.base is None or _serves(store, here.base, here.size)):
                    _name(store, tmp, digest)
                    return True
            store.put(here.pieces, expect=digest)
    return True


def _serves(store: LocalStore, base: Digest, size: int) -> bool:
    """Say whether a blob is there, no difference, long enough, and in use from now on."""
    store.freshen(base)
    found = store.find(base)
    return found is not None and found.base is None and found.size >= size


@contextlib.contextmanager
def _written(store: LocalStore, coded: Coded) -> Iterator[Path]:
    tmp = unfinished(store.path / "tmp")
    try:
        write_new(tmp, (coded.file[at : at + _CHUNK] for at in range(0, coded.stored, _CHUNK)))
        yield tmp
    finally:
        tmp.unlink(missing_ok=True)


def _name(store: LocalStore, tmp: Path, digest: Digest) -> None:
    folder = store.coded.folder
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        fsync_dir(folder.parent)
        fsync_dir(folder.parent.parent)
    tmp.replace(store.coded.place(digest))
    fsync_dir(folder)
