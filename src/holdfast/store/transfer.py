"""Blobs from one store into another: what is missing, several at once, hashed on the way.

What the source keeps coded goes as it is, where both ends know how, and where its base is at the
far end or goes first.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest
from holdfast.remote.base import in_parallel
from holdfast.store.base import BlobInfo, BlobStore, Buffer, Coding, Distant

__all__ = ["copy_blobs", "lacking", "missing_blobs", "planned", "send_blobs"]

_AT_ONCE: Final = 4
_ASKED_AT_ONCE: Final = 16
_CHUNK: Final = 1 << 20

Progress = Callable[[int], None]


def missing_blobs(store: BlobStore, digests: Collection[Digest]) -> list[Digest]:
    """Return which blobs are not there; the others are in use from now on."""
    if isinstance(store, Distant):
        return store.missing(digests)
    coding = store if isinstance(store, Coding) and store.codes() else None
    return [
        digest
        for digest in digests
        if not (store.freshen(digest) or store.has(digest))
        or (coding is not None and coding.find(digest) is None)
    ]


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


def planned(
    source: BlobStore,
    to: BlobStore | None,
    sizes: Mapping[Digest, int],
    before: Mapping[Digest, BlobInfo] | None = None,
) -> dict[Digest, BlobInfo]:
    """Say in which form blobs are to be sent, and which bases go along for their sake.

    Args:
        source: Where they are.
        to: Where they go; None where there is no store yet.
        sizes: What is to be sent, with the sizes they must have.
        before: What is there by then although it is not there now.
    """
    plan = {digest: BlobInfo(digest, size, 0.0, size) for digest, size in sizes.items()}
    if isinstance(source, Coding) and source.codes() and (to is None or isinstance(to, Coding)):
        _Forms(source, to, before or {}).choose(plan)
    return plan


class _Forms:
    """Which blobs of one copy go coded."""

    def __init__(
        self, source: Coding, to: Coding | None, before: Mapping[Digest, BlobInfo]
    ) -> None:
        self._source = source
        self._to = to
        self._before = before

    def choose(self, plan: dict[Digest, BlobInfo]) -> None:
        """Put the coded form of blobs in the place of the plain one, where it can be sent."""
        threads = _ASKED_AT_ONCE if isinstance(self._source, Distant) else 1
        found = in_parallel(self._source.find, plan, threads=threads)
        coded = [
            info
            for info, plain in zip(found, plan.values(), strict=True)
            if info is not None and info.stored < info.size == plain.size
        ]
        plan.update({info.digest: info for info in coded if info.base is None})
        differing: dict[Digest, list[BlobInfo]] = {}
        for info in coded:
            if info.base is not None:
                differing.setdefault(info.base, []).append(info)
        needed = self._to.bases() if differing and self._to is not None else set()
        for base, infos in differing.items():
            usable = {info.digest: info for info in infos if info.digest not in needed}
            if usable and self._served(base, usable.values(), plan):
                plan.update(usable)

    def _served(
        self, base: Digest, infos: Iterable[BlobInfo], plan: dict[Digest, BlobInfo]
    ) -> bool:
        """Say whether a base is or will be at the far end; it joins the plan where that pays."""
        for known in (plan, self._before):
            if base in known:
                return known[base].base is None
        there = None if self._to is None else self._to.find(base)
        if there is not None:
            return there.base is None
        here = self._source.find(base)
        if here is None or here.base is not None:
            return False
        if here.stored >= sum(info.size - info.stored for info in infos):
            return False
        plan[base] = here
        return True


def copy_blobs(source: BlobStore, to: BlobStore, sizes: Mapping[Digest, int]) -> None:
    """Copy blobs plain; see ``send_blobs``.

    Args:
        source: Where they are.
        to: Where they go.
        sizes: What to copy, with the sizes they must have.
    """
    send_blobs(source, to, {d: BlobInfo(d, size, 0.0, size) for d, size in sizes.items()})


def send_blobs(
    source: BlobStore,
    to: BlobStore,
    plan: Mapping[Digest, BlobInfo],
    progress: Progress | None = None,
) -> dict[Digest, int]:
    """Copy blobs, each visible at the far end only when it is whole and has been hashed.

    Args:
        source: Where they are.
        to: Where they go.
        plan: What to copy, and in which form.
        progress: Called with the bytes that went over since the last call.

    Returns:
        The bytes that went over of each.

    Raises:
        Corrupt: A blob is damaged at its source, or arrived otherwise than it was sent.
        NotFound: A blob is not at its source.
    """
    lock = threading.Lock()
    sent: dict[Digest, int] = {}

    def copy(info: BlobInfo) -> None:
        went = _copied(source, to, info)
        with lock:
            sent[info.digest] = went
            if progress is not None:
                progress(info.stored)

    bases_first = [
        [i for i in plan.values() if (i.base is None) is alone] for alone in (True, False)
    ]
    for infos in bases_first:
        in_parallel(copy, infos, threads=_AT_ONCE)
    return sent


def _copied(source: BlobStore, to: BlobStore, info: BlobInfo) -> int:
    """Copy a blob, in its coded form if it can be, and return the bytes that went over."""
    digest, size = info.digest, info.size
    if info.stored < size and isinstance(source, Coding) and isinstance(to, Coding):
        went = _copy_coded(source, to, digest)
        if went and _arrived(to, digest) == size:
            return went
    _copy(source, to, digest)
    if _arrived(to, digest) != size:  # one was there and is damaged, so that it was not sent
        to.drop_damaged(digest)
        _copy(source, to, digest)
    return size


def _arrived(to: BlobStore, digest: Digest) -> int | None:
    with contextlib.suppress(Corrupt, NotFound):
        return to.size(digest)
    return None


def _copy_coded(source: Coding, to: Coding, digest: Digest) -> int:
    """Send a coded form; 0 where there is none any more, or the far end cannot take it."""
    coded = source.open_coded(digest)
    if coded is None:
        return 0
    with contextlib.closing(coded):
        return coded.stored if to.put_coded(digest, coded) else 0


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
