"""Writing pieces on threads: hashed, known ones skipped, tensors never copied as a whole.

Into a folder on this machine pieces are written first and hashed from their files, many at once.
Reading them back from anywhere else would cost more, so there each is hashed while it is written.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Final, NamedTuple, TypeAlias, TypeVar

from holdfast.archive import layout
from holdfast.codec.tensors import TensorData
from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store.base import BlobStore
from holdfast.store.hashing import digests_of, digests_on, groups_of, lanes
from holdfast.store.local import LocalStore
from holdfast.store.unnamed import Unnamed

__all__ = ["Done", "Named", "Progress", "writer_for"]

_CHUNK: Final = 1 << 20
_MISSES: Final = 4
# Bytes of tensors that are hashed at once though they are copies, made for it.
_COPIED: Final = 64 << 20
# Pieces that are hashed at once before it is known which of them are there.
_MOST: Final = 64
_T = TypeVar("_T")

Progress: TypeAlias = Callable[[int, int], None]


class Named(NamedTuple):
    """A tensor to be written, under its name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: TensorData


class Done(NamedTuple):
    """A piece that is in the store.

    Attributes:
        digest: Its digest.
        size: Its bytes.
        new: Whether it was written now.
        tensors: The digests of the tensors in it.
    """

    digest: Digest
    size: int
    new: bool
    tensors: dict[str, Digest]


_Piece: TypeAlias = Sequence[layout.TensorLike]


def writer_for(
    store: BlobStore, known: frozenset[Digest], total: int, progress: Progress | None
) -> Writer:
    """Return what writes pieces into a store.

    Args:
        store: Where to.
        known: Digests of pieces that are probably among them.
        total: Bytes in all.
        progress: Called with (bytes done, bytes in all).
    """
    if isinstance(store, LocalStore) and not store.far():
        return _Together(store, known, total, progress)
    return Writer(store, known, total, progress)


class Writer:
    """Writes each piece by itself; hashing and writing both release the interpreter lock."""

    def __init__(
        self, store: BlobStore, known: frozenset[Digest], total: int, progress: Progress | None
    ) -> None:
        self._store = store
        self._hash_first = bool(known)
        self._misses = 0
        self._total = total
        self._progress = progress
        self._bytes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # Twice the cores: half of the threads wait for fsync while the others work.
        self._threads = min(8, 2 * (os.cpu_count() or 1))

    def run(self, pieces: Sequence[_Piece]) -> list[Done]:
        """Write pieces and return what became of each.

        Raises:
            Corrupt: A tensor has another size than its shape says, or changed meanwhile.
            NoSpace: The store is full.
        """
        pool = ThreadPoolExecutor(max_workers=self._threads)
        try:
            return _results([pool.submit(self._piece, piece) for piece in pieces])
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _piece(self, piece: _Piece) -> Done:
        hashes: dict[str, Digest] = {}
        expect: Digest | None = None
        if self._hash_first:
            hasher = hashlib.sha256()
            for chunk in self._chunks(piece, hashes):
                hasher.update(chunk)
            expect = Digest(f"sha256:{hasher.hexdigest()}")
            if self._is_known(expect):
                self._tell(piece)
                return _done(piece, expect, hashes, new=False)
        written: dict[str, Digest] = {}

        def chunks() -> Iterator[memoryview]:
            written.clear()
            return self._chunks(piece, written)

        digest = self._store.put(chunks, expect=expect)
        self._tell(piece)
        return _done(piece, digest, written or hashes, new=True)

    def _is_known(self, digest: Digest) -> bool:
        """Say whether the store has a piece; after a few misses it is not asked again."""
        if self._store.freshen(digest):
            self._misses = 0
            return True
        self._misses += 1
        if self._misses >= _MISSES:
            self._hash_first = False
        return False

    def _tell(self, piece: _Piece) -> None:
        with self._lock:
            self._bytes += _size(piece)
            if self._progress is not None:
                self._progress(self._bytes, self._total)

    def _loaded(self, piece: _Piece) -> Iterator[memoryview]:
        for item in piece:
            assert isinstance(item, Named)  # noqa: S101 - run() is given what was planned of them
            if self._stop.is_set():
                raise InterruptedError
            data = item.data.load()
            if data.nbytes != layout.nbytes(item):
                raise Corrupt(
                    f"tensor {item.name!r} gave {data.nbytes} bytes for the shape "
                    f"{tuple(item.shape)} of {item.dtype}; did it change while being saved?"
                )
            yield data

    def _chunks(self, piece: _Piece, hashes: dict[str, Digest]) -> Iterator[memoryview]:
        """Yield a piece's bytes in bounded chunks; small tensors are hashed on the way."""
        parts: Iterator[memoryview] = self._loaded(piece)
        if len(piece) > 1:
            held = [*parts]
            hashes.update(zip((i.name for i in piece), digests_of(held), strict=True))
            parts = iter(held)
        for data in parts:
            for start in range(0, data.nbytes, _CHUNK):
                if self._stop.is_set():
                    raise InterruptedError
                yield data[start : start + _CHUNK]


class _Together(Writer):
    """Writes pieces and hashes many of them at once, where they were written to."""

    _store: LocalStore
    _copies = False

    def run(self, pieces: Sequence[_Piece]) -> list[Done]:
        """Write pieces; see ``Writer.run``."""
        pool = ThreadPoolExecutor(max_workers=self._threads)
        with Unnamed(self._store, self._threads) as unnamed:
            try:
                done, expected = self._hashed(pieces, pool)
                rest = [n for n in range(len(pieces)) if n not in done]
                hashes: dict[int, dict[str, Digest]] = {n: {} for n in rest}
                files = {n: unnamed.write(self._written(pieces[n], hashes[n])) for n in rest}

                def name(numbers: Sequence[int]) -> dict[int, Done]:
                    wanted = [expected.get(n) for n in numbers]
                    digests = unnamed.name([files[n] for n in numbers], wanted)
                    each = zip(numbers, digests, strict=True)
                    return {n: _done(pieces[n], d, hashes[n], new=True) for n, d in each}

                groups = groups_of([_size(pieces[n]) for n in rest])
                for named in _results([pool.submit(name, rest[part]) for part in groups]):
                    done |= named
            finally:
                self._stop.set()
                unnamed.stop()
                pool.shutdown(wait=True, cancel_futures=True)
        return [done[n] for n in range(len(pieces))]

    def _written(self, piece: _Piece, hashes: dict[str, Digest]) -> Iterator[memoryview]:
        yield from self._chunks(piece, hashes)
        self._tell(piece)

    def _hashed(
        self, pieces: Sequence[_Piece], pool: ThreadPoolExecutor
    ) -> tuple[dict[int, Done], dict[int, Digest]]:
        """Hash pieces in memory while they are known; return these, and the others' digests."""
        done: dict[int, Done] = {}
        missing: dict[int, Digest] = {}
        at, most = 0, max(_MISSES, lanes())  # full lanes take no longer than a few of them
        while self._hash_first and at < len(pieces):
            batch = self._batch(pieces[at : at + most])
            digests = digests_on(pool, [buffer for buffer, _ in batch])
            for n, (digest, (_, parts)) in enumerate(zip(digests, batch, strict=True), at):
                if self._is_known(digest):
                    hashes = dict(zip(parts, digests_of([*parts.values()]), strict=True))
                    done[n] = _done(pieces[n], digest, hashes, new=False)
                    self._tell(pieces[n])
                else:
                    missing[n] = digest
            at, most = at + len(batch), _MOST
        return done, missing

    def _batch(self, pieces: Sequence[_Piece]) -> list[tuple[memoryview, dict[str, memoryview]]]:
        """Return the bytes of the first pieces, and within each its tensors if it has several."""
        held = []
        copied = 0
        for piece in pieces:
            parts = [*self._loaded(piece)]
            whole = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
            if len(parts) > 1 or self._is_copy(piece[0], whole):
                copied += whole.nbytes
            held.append((whole, _cut(piece, whole) if len(parts) > 1 else {}))
            if copied >= _COPIED:
                break
        return held

    def _is_copy(self, item: layout.TensorLike, data: memoryview) -> bool:
        """Say whether a tensor's bytes were made by asking; once some were, others are held so."""
        if not self._copies:
            import numpy as np

            again = next(self._loaded([item]))
            self._copies = not np.may_share_memory(
                np.frombuffer(data, "u1"), np.frombuffer(again, "u1")
            )
        return self._copies


def _results(futures: Sequence[Future[_T]]) -> list[_T]:
    """Return results once all are there, or as soon as one is an exception raise that."""
    wait(futures, return_when=FIRST_EXCEPTION)
    return [future.result() for future in futures]


def _size(piece: _Piece) -> int:
    return sum(map(layout.nbytes, piece))


def _cut(piece: _Piece, whole: memoryview) -> dict[str, memoryview]:
    parts: dict[str, memoryview] = {}
    start = 0
    for item in piece:
        end = start + layout.nbytes(item)
        parts[item.name] = whole[start:end]
        start = end
    return parts


def _done(piece: _Piece, digest: Digest, hashes: dict[str, Digest], *, new: bool) -> Done:
    if len(piece) == 1:  # the piece is the tensor: one hash serves both
        hashes = {piece[0].name: digest}
    return Done(digest, _size(piece), new, hashes)
