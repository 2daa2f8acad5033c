"""Blobs from one store into another: what is missing, several at once, hashed on the way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest
from holdfast.remote.base import in_parallel
from holdfast.store.base import BlobStore, Buffer, Distant

__all__ = ["copy_blobs", "lacking", "missing_blobs"]

_AT_ONCE: Final = 4
_ASKED_AT_ONCE: Final = 16
_CHUNK: Final = 1 << 20

Progress = Callable[[int], None]


def missing_blobs(store: BlobStore, digests: Collection[Digest]) -> list[Digest]:
    """Return which blobs are not there; the others are in use from now on."""
    if isinstance(store, Distant):
        return store.missing(digests)
    return [digest for digest in digests if not (store.freshen(digest) or store.has(digest))]


def lacking(store: BlobStore, sizes: Mapping[Digest, int]) -> list[Digest]:
    """Return which blobs are not there with the size they must have; changes nothing."""

    def lacks(item: tuple[Digest, int]) -> bool:
        try:
            return store.size(item[0]) != item[1]
        except (NotFound, Corrupt):
            return True

    threads = _ASKED_AT_ONCE if isinstance(store, Distant) else 1
    answers = in_parallel(lacks, sizes.items(), threads=threads)
    return [digest for digest, is_lacking in zip(sizes, answers, strict=True) if is_lacking]


def copy_blobs(
    source: BlobStore, to: BlobStore, sizes: Mapping[Digest, int], progress: Progress | None = None
) -> None:
    """Copy blobs, each visible at the far end only when it is whole and has been hashed.

    Args:
        source: Where they are.
        to: Where they go.
        sizes: What to copy, with the sizes they must have.
        progress: Called with the bytes that went over since the last call.

    Raises:
        Corrupt: A blob is damaged at its source, or arrived otherwise than it was sent.
        NotFound: A blob is not at its source.
    """
    lock = threading.Lock()

    def copy(item: tuple[Digest, int]) -> None:
        digest, size = item
        _copy(source, to, digest)
        arrived = to.size(digest)
        if arrived != size:  # one was there and is damaged, so that it was not sent
            to.drop_damaged(digest)
            _copy(source, to, digest)
        if progress is not None:
            with lock:
                progress(size)

    in_parallel(copy, sizes.items(), threads=_AT_ONCE)


def _copy(source: BlobStore, to: BlobStore, digest: Digest) -> None:
    if isinstance(source, Distant):
        distant = source
        _put(source, to, digest, lambda: distant.stream(digest))
        return
    with contextlib.closing(source.open_blob(digest)) as reading:
        view = reading.view()
        if isinstance(to, Distant):
            try:
                to.send(digest, view)
            except Corrupt as error:
                raise source.damaged(digest) from error
            return
        _put(source, to, digest, lambda: _chunks(view))


def _put(
    source: BlobStore, to: BlobStore, digest: Digest, chunks: Callable[[], Iterable[Buffer]]
) -> None:
    """Put streamed bytes; what does not match its name is damaged at its source."""
    try:
        to.put(chunks, expect=digest)
    except Corrupt as error:
        raise source.damaged(digest) from error


def _chunks(view: memoryview) -> Iterator[memoryview]:
    for start in range(0, view.nbytes, _CHUNK):
        yield view[start : start + _CHUNK]
