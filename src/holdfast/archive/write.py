"""Tensors into blobs: hashed on threads, known ones skipped, never copied as a whole."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Final, NamedTuple

from holdfast.archive import layout
from holdfast.codec.tensors import TensorData
from holdfast.errors import Corrupt
from holdfast.record import Digest, Piece, TensorEntry, digest_of
from holdfast.store.base import BlobStore

__all__ = ["Written", "write_document", "write_tensors"]

_CHUNK: Final = 1 << 20  # what was just hashed is still in the cache when it is written
_MISSES: Final = 4

Progress = Callable[[int, int], None]


class Written(NamedTuple):
    """What a save wrote.

    Attributes:
        entries: The tensors with their digests, sorted by name.
        pieces: The blobs of ``model.safetensors`` in order; none without tensors.
        new_bytes: Bytes of pieces that the store did not have.
        total_bytes: Bytes of all pieces.
    """

    entries: tuple[TensorEntry, ...]
    pieces: tuple[Piece, ...]
    new_bytes: int
    total_bytes: int


class _Named(NamedTuple):
    """A tensor to be written, under its name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: TensorData


def write_document(store: BlobStore, data: bytes | memoryview) -> Digest:
    """Store the bytes of a document or file and return their digest."""
    return store.put(lambda: [data], expect=digest_of(data))


def write_tensors(
    store: BlobStore,
    tensors: Mapping[str, TensorData],
    *,
    known: frozenset[Digest],
    progress: Progress | None = None,
) -> Written:
    """Store tensors as the pieces of a safetensors file.

    The bytes handed to the operating system are the bytes that are hashed. When a predecessor's
    pieces are given, each piece is hashed first and written only when the store lacks it; after
    a few misses in a row (a model that changed everywhere) pieces are hashed while they are
    written, which saves a pass.

    Args:
        store: Where to.
        tensors: Tensors by name.
        known: Digests of the pieces of the version before; empty when there is none.
        progress: Called with (bytes done, bytes in all).

    Raises:
        Corrupt: A tensor's bytes have another size than its shape says, or changed during the
            save.
        NoSpace: The store is full.
    """
    named = [_Named(name, data.dtype, data.shape, data) for name, data in tensors.items()]
    planned = layout.plan(named)
    if not planned.entries:
        return Written((), (), 0, 0)
    writer = _Writer(store, known, planned.total, progress)
    header = store.has(digest := digest_of(planned.header))
    write_document(store, planned.header)
    done = writer.run(planned.pieces)
    digests = {name: digest for piece in done for name, digest in piece.tensors.items()}
    entries = tuple(
        TensorEntry(
            name=item.name,
            dtype=item.dtype,
            shape=tuple(item.shape),
            digest=digests.get(item.name) or digest_of(b""),
        )
        for item in sorted(named, key=lambda item: item.name)
    )
    pieces = (
        Piece(digest=digest, size=len(planned.header)),
        *(Piece(digest=piece.digest, size=piece.size) for piece in done),
    )
    new = sum(piece.size for piece in done if piece.new) + (0 if header else len(planned.header))
    return Written(entries, pieces, new, planned.total)


class _Done(NamedTuple):
    digest: Digest
    size: int
    new: bool
    tensors: dict[str, Digest]


class _Writer:
    """Writes pieces on threads; hashing and writing both release the interpreter lock."""

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

    def run(self, pieces: Sequence[Sequence[layout.TensorLike]]) -> list[_Done]:
        # Twice the cores: half of the threads wait for fsync while the others hash.
        pool = ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1)))
        try:
            futures: list[Future[_Done]] = [pool.submit(self._piece, piece) for piece in pieces]
            wait(futures, return_when=FIRST_EXCEPTION)
            return [future.result() for future in futures]
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _piece(self, piece: Sequence[layout.TensorLike]) -> _Done:
        hashes: dict[str, Digest] = {}
        expect: Digest | None = None
        if self._hash_first:
            hasher = hashlib.sha256()
            for chunk in self._chunks(piece, hashes):
                hasher.update(chunk)
            expect = Digest(f"sha256:{hasher.hexdigest()}")
            if self._store.freshen(expect):
                self._misses = 0
                return self._finish(piece, expect, hashes, new=False)
            self._misses += 1
            if self._misses >= _MISSES:
                self._hash_first = False
        written: dict[str, Digest] = {}

        def chunks() -> Iterator[memoryview]:
            written.clear()
            return self._chunks(piece, written)

        digest = self._store.put(chunks, expect=expect)
        return self._finish(piece, digest, written or hashes, new=True)

    def _finish(
        self,
        piece: Sequence[layout.TensorLike],
        digest: Digest,
        hashes: dict[str, Digest],
        *,
        new: bool,
    ) -> _Done:
        size = sum(map(layout.nbytes, piece))
        if len(piece) == 1:  # the piece is the tensor: one hash serves both
            hashes = {piece[0].name: digest}
        with self._lock:
            self._bytes += size
            if self._progress is not None:
                self._progress(self._bytes, self._total)
        return _Done(digest, size, new, hashes)

    def _chunks(
        self, piece: Sequence[layout.TensorLike], hashes: dict[str, Digest]
    ) -> Iterator[memoryview]:
        """Yield a piece's bytes in bounded chunks; small tensors are hashed on the way."""
        for item in piece:
            assert isinstance(item, _Named)  # noqa: S101 - run() is given what we planned
            data = item.data.load()
            if data.nbytes != layout.nbytes(item):
                raise Corrupt(
                    f"tensor {item.name!r} gave {data.nbytes} bytes for the shape "
                    f"{tuple(item.shape)} of {item.dtype}; did it change while being saved?"
                )
            if len(piece) > 1:
                hashes[item.name] = digest_of(data)
            for start in range(0, data.nbytes, _CHUNK):
                if self._stop.is_set():
                    raise InterruptedError
                yield data[start : start + _CHUNK]
