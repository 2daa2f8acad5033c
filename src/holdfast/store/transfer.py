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

__all__ = ["Planner", "copy_blobs", "lacking", "missing_blobs", "send_blobs"]

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


class Planner:
    """In which form the blobs of one copy are to be sent, and which bases go along for their sake.

    Args:
        source: Where they are.
        to: Where they go; None where there is no store yet.
    """

    def __init__(self, source: BlobStore, to: BlobStore | None) -> None:
        self._to: Coding | None = to if isinstance(to, Coding) else None
        self._source: Coding | None = None
        if isinstance(source, Coding) and (to is None or self._to is not None):
            self._source = source
        self._asked: set[Digest] = set()
        self._forms: dict[Digest, BlobInfo] = {}
        self._serving: dict[Digest, BlobInfo | None] = {}
        self._bases: set[Digest] | None = None

    def expect(self, digests: Collection[Digest]) -> None:
        """Note blobs that will be sent in the end: a base may pay for all of them together."""
        new = [digest for digest in digests if digest not in self._asked]
        if self._source is not None and new:
            self._asked.update(new)
            self._forms.update(self._source.forms(new))

    def plan(
        self, sizes: Mapping[Digest, int], before: Mapping[Digest, BlobInfo]
    ) -> dict[Digest, BlobInfo]:
        """Say how to send blobs.

        Args:
            sizes: Which, with the sizes they must have.
            before: What is there by then although it is not there now.
        """
        plan = {digest: BlobInfo(digest, size, 0.0, size) for digest, size in sizes.items()}
        self.expect(sizes)
        differing: dict[Digest, list[BlobInfo]] = {}
        for digest, size in sizes.items():
            info = self._forms.get(digest)
            if info is None or not info.stored < info.size == size:
                continue
            if info.base is None:
                plan[digest] = info
            else:
                differing.setdefault(info.base, []).append(info)
        for base, infos in differing.items():
            size = max(info.size for info in infos)
            if self._served(base, size, plan, before):
                usable = [info for info in infos if info.digest not in self._needed_plain()]
                plan.update({info.digest: info for info in usable})
        return plan

    def _needed_plain(self) -> set[Digest]:
        """Return what blobs at the far end are differences to, and so must be none itself."""
        if self._bases is None:
            self._bases = set() if self._to is None else self._to.bases()
        return self._bases

    def _served(
        self,
        base: Digest,
        size: int,
        plan: dict[Digest, BlobInfo],
        before: Mapping[Digest, BlobInfo],
    ) -> bool:
        """Say whether a base is or will be at the far end; it joins the plan where that pays."""
        for known in (plan, before):
            if base in known:
                return known[base].base is None
        there = self._there(base)
        if there is not None:
            return there.base is None and there.size >= size
        here = None if self._source is None else self._source.find(base)
        if here is None or here.base is not None:
            return False
        if base not in self._asked and here.stored >= self._saved(base):
            return False
        plan[base] = here
        return True

    def _there(self, base: Digest) -> BlobInfo | None:
        """Look for a base at the far end; ``put_coded`` looks again."""
        if self._serving.get(base) is None:
            self._serving[base] = None if self._to is None else self._to.find(base)
        return self._serving[base]

    def _saved(self, base: Digest) -> int:
        infos = (info for info in self._forms.values() if info.base == base)
        return sum(info.size - info.stored for info in infos)


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
    if isinstance(source, Distant):
        source.expect({info.digest: info.size for info in plan.values()})
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
        if went:
            return went
    _copy(source, to, digest)
    if _arrived(to, digest) != size:  # one was there and is damaged, so that it was not sent
        to.drop_damaged(digest)
        _copy(source, to, digest)
    return size


def _arrived(to: BlobStore, digest: Digest) -> int | None:
    """Return the size of a blob that is there and can be decoded."""
    if isinstance(to, Coding):
        found = to.find(digest)
        return None if found is None else found.size
    with contextlib.suppress(Corrupt, NotFound):
        return to.size(digest)
    return None


def _copy_coded(source: Coding, to: Coding, digest: Digest) -> int:
    """Send a coded form; 0 where there is none that is sound, or the far end cannot take it."""
    with contextlib.suppress(Corrupt):
        coded = source.open_coded(digest)
        if coded is not None:
            with contextlib.closing(coded):
                return coded.stored if to.put_coded(digest, coded) else 0
    return 0


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
