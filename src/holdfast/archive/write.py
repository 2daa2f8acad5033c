"""Tensors into blobs: laid out as a safetensors file, named, and told of as entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from holdfast.archive import layout
from holdfast.archive.pieces import Named, Progress, writer_for
from holdfast.codec.tensors import TensorData
from holdfast.record import Digest, Piece, TensorEntry, digest_of
from holdfast.store.base import BlobStore

__all__ = ["Written", "write_document", "write_tensors"]


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

    The bytes that are written are the bytes that are hashed. When a predecessor's pieces are given,
    pieces are hashed first and written only when the store lacks them; after a few misses in a row
    (a model that changed everywhere) they are not, which saves a pass.

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
    named = [Named(name, data.dtype, data.shape, data) for name, data in tensors.items()]
    planned = layout.plan(named)
    if not planned.entries:
        return Written((), (), 0, 0)
    writer = writer_for(store, known, planned.total, progress)
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
