"""Writing a bundle: what is small first, then the blobs, each hashed while it is written."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from holdfast.archive import oci
from holdfast.archive.bundle import tar
from holdfast.durable import fsync_dir, mapped_os_errors, written_beside
from holdfast.errors import UsageError
from holdfast.record import Digest, canonical, digest_hex, digest_of
from holdfast.store.base import BlobStore, Distant

__all__ = ["ALIASES", "OWN_DIGEST", "REF_NAME", "Item", "Size", "write"]

# What an index says of a version: its reference, and the aliases that go with it.
REF_NAME: Final = "org.opencontainers.image.ref.name"
ALIASES: Final = "vnd.holdfast.aliases"
# Of the whole index: the digest of its canonical bytes without its annotations. It tells damage,
# which nothing else would, since nothing names the index.
OWN_DIGEST: Final = "vnd.holdfast.digest"

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_SEGMENT: Final = 32 << 20

Progress = Callable[[int], None]


class Item(NamedTuple):
    """A version to be written.

    Attributes:
        name: The model's name.
        number: Its number.
        documents: Its documents.
        sizes: Every blob it needs with its size.
        attached: Digest and size of its attachments by role.
        aliases: Aliases that go with it.
    """

    name: str
    number: int
    documents: oci.Documents
    sizes: Mapping[Digest, int]
    attached: Mapping[str, tuple[Digest, int]]
    aliases: Sequence[str]


class Size(NamedTuple):
    """How much was written.

    Attributes:
        blobs: Blobs, each once.
        size: Bytes of the file.
    """

    blobs: int
    size: int


class _Source(NamedTuple):
    """A member whose content is in a store: blobs whose concatenation it is."""

    blobs: tuple[tuple[Digest, int], ...]

    @property
    def size(self) -> int:
        return sum(size for _, size in self.blobs)


def write(
    path: Path,
    store: BlobStore,
    items: Sequence[Item],
    logs: Mapping[str, Sequence[bytes]],
    progress: Progress | None = None,
) -> Size:
    """Write a bundle, which is there whole or not at all.

    Args:
        path: The file; it must not exist.
        store: Where the blobs are.
        items: The versions.
        logs: Entries of the logs that go with them, by name.
        progress: Called with the bytes written since the last call.

    Raises:
        UsageError: The file exists.
        Corrupt: A blob is damaged at its source.
        NoSpace: There is no room for it.
    """
    if path.exists() or path.is_symlink():
        raise _exists(path)
    members = _members(store, items, logs)
    with mapped_os_errors(path, "writing a bundle"), ThreadPoolExecutor(1) as pool:
        chunks = _Written(store, pool, progress).chunks(members)
        with written_beside(path, chunks) as (tmp, size):
            _name(tmp, path)
    return Size(sum(name.startswith("blobs/") for name in members), size)


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists; a bundle is never written over.", hint=f"ls -l {path}", ref=str(path)
    )


def _name(tmp: Path, path: Path) -> None:
    """Give the finished file its name, durably; a file made meanwhile stays."""
    try:
        os.link(tmp, path)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # a file system without links, as on a memory stick
        if path.exists():
            raise _exists(path) from None
        tmp.replace(path)
    fsync_dir(path.parent)


def _members(
    store: BlobStore, items: Sequence[Item], logs: Mapping[str, Sequence[bytes]]
) -> dict[str, bytes | _Source]:
    """Return the members in order, with their content or where it is."""
    index, small = [], {}
    large: dict[str, bytes | _Source] = {}
    for item in items:
        layers = oci.layers_of(item.documents, item.sizes, item.attached)
        digests = [layer.digest or _hashed(store, layer) for layer in layers]
        packed = oci.encode(item.name, item.documents, layers, digests)
        for data in packed:
            small[_place(digest_of(data))] = data
        for layer, digest in zip(layers, digests, strict=True):
            large.setdefault(_place(digest), _Source(layer.blobs))
        index.append(_descriptor(item, packed.manifest))
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": index,
    }
    document["annotations"] = {OWN_DIGEST: digest_of(canonical(document))}
    entries = {
        f"log/{name}/{seq:08}.json": data
        for name, listed in sorted(logs.items())
        for seq, data in enumerate(listed, 1)
    }
    first = {"oci-layout": _LAYOUT, "index.json": canonical(document)}
    return {**first, **entries, **small, **large}


def _descriptor(item: Item, manifest: bytes) -> dict[str, Any]:
    notes = {REF_NAME: f"{item.name}@v{item.number}"}
    if item.aliases:
        notes[ALIASES] = " ".join(item.aliases)
    return {
        "mediaType": oci.MANIFEST_TYPE,
        "artifactType": oci.ARTIFACT_TYPE,
        "digest": digest_of(manifest),
        "size": len(manifest),
        "annotations": notes,
    }


def _place(digest: Digest) -> str:
    return f"blobs/sha256/{digest_hex(digest)}"


def _hashed(store: BlobStore, layer: oci.Layer) -> Digest:
    """Find the digest of a layer of several blobs, which are read once more for it."""
    whole = hashlib.sha256()
    for digest, _ in layer.blobs:
        whole.update(store.read(digest))
    return Digest(f"sha256:{whole.hexdigest()}")


class _Segment(NamedTuple):
    """Some bytes of a blob on their way.

    Attributes:
        digest: The blob.
        data: The bytes; none at its end.
        hasher: What hashes the blob.
        last: Whether this is its end.
    """

    digest: Digest
    data: bytes | memoryview
    hasher: Any
    last: bool


class _Written:
    """The archive's bytes.

    Of blobs on this machine one segment is hashed on a thread while the one before it is written.
    That reads it from the disk, too, so that the write never has to wait for a page of its source.
    """

    def __init__(
        self, store: BlobStore, pool: ThreadPoolExecutor, progress: Progress | None
    ) -> None:
        self._store = store
        self._pool = pool
        self._progress = progress
        self._at = 0

    def chunks(self, members: Mapping[str, bytes | _Source]) -> Iterator[bytes | memoryview]:
        """Yield the archive."""
        sources = [content for content in members.values() if isinstance(content, _Source)]
        ready = self._hashed(blob for source in sources for blob in source.blobs)
        for name, content in members.items():
            size = len(content) if isinstance(content, bytes) else content.size
            yield self._counted(tar.member(name, size, self._at))
            if isinstance(content, bytes):
                yield self._counted(content)
            else:
                for _ in content.blobs:
                    for segment in ready:
                        if segment.last:
                            break
                        yield self._counted(segment.data)
            yield self._counted(tar.padding(size))
        yield tar.END

    def _counted(self, data: bytes | memoryview) -> bytes | memoryview:
        self._at += len(data)
        if self._progress is not None:
            self._progress(len(data))
        return data

    def _hashed(self, blobs: Iterable[tuple[Digest, int]]) -> Iterator[_Segment]:
        """Yield the segments of blobs once they are hashed, and hash one ahead."""
        waiting: tuple[_Segment, Future[None]] | None = None
        for segment in itertools.chain.from_iterable(map(self._segments, blobs)):
            hashing = self._pool.submit(segment.hasher.update, segment.data)
            if waiting is not None:
                yield self._checked(*waiting)
            waiting = segment, hashing
        if waiting is not None:
            yield self._checked(*waiting)

    def _checked(self, segment: _Segment, hashing: Future[None]) -> _Segment:
        hashing.result()
        if segment.last and segment.hasher.hexdigest() != digest_hex(segment.digest):
            raise self._store.damaged(segment.digest)
        return segment

    def _segments(self, blob: tuple[Digest, int]) -> Iterator[_Segment]:
        digest, size = blob
        hasher, done = hashlib.sha256(), 0
        for data in self._parts(digest):
            done += len(data)
            if done > size:
                break
            yield _Segment(digest, data, hasher, last=False)
        if done != size:
            raise self._store.damaged(digest)
        yield _Segment(digest, b"", hasher, last=True)

    def _parts(self, digest: Digest) -> Iterator[bytes | memoryview]:
        if isinstance(self._store, Distant):
            yield from self._store.stream(digest)
            return
        with contextlib.closing(self._store.open_blob(digest)) as reading:
            view = reading.view()
            for start in range(0, view.nbytes, _SEGMENT):
                yield view[start : start + _SEGMENT]
