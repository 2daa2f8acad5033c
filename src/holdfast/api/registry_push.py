"""``push oci://…``: a version to a registry of containers."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.api.progress import counted
from holdfast.api.registry_beside import Put, put_all
from holdfast.api.settings import cache_folder
from holdfast.api.store import Store, resolve
from holdfast.api.transferring import Sent, Transfer
from holdfast.api.version import Version
from holdfast.archive import oci, oci_files, read
from holdfast.errors import RemoteError, UsageError
from holdfast.record import Digest, digest_hex, digest_of
from holdfast.remote.base import in_parallel
from holdfast.remote.oci.place import Place, parse_place
from holdfast.remote.oci.registry import MANIFEST_TYPE, Repository, Stored
from holdfast.remote.oci.session import Session
from holdfast.store.base import BlobStore

__all__ = ["to_registry"]

_AT_ONCE: Final = 4
_TURNS: Final = 4
_PAUSE: Final = 0.25
_REMEMBERED: Final = 6


class _Blob(NamedTuple):
    """A blob of the registry: what it is made of here."""

    size: int
    segments: Sequence[bytes | oci_files.Blob]


class _Artifact(NamedTuple):
    """What a version becomes in a registry."""

    packed: oci.Packed
    blobs: Mapping[Digest, _Blob]

    @property
    def digest(self) -> Digest:
        return digest_of(self.packed.manifest)


def to_registry(
    ref: str, source: Store, to: str, *, layout: str = "blobs", dry_run: bool = False
) -> Transfer:
    """Push a version to a registry; blobs that are there are not sent.

    Args:
        ref: The version.
        source: Where it is.
        to: ``oci://HOST[:PORT]/REPOSITORY:TAG``. A tag that names something else is moved.
        layout: ``blobs``: a layer for each, so that versions share them. ``files``: an image with
            one layer of ordinary files, which shares nothing.
        dry_run: Only say what would be sent.

    Raises:
        RemoteError: The registry refuses, stays away, or does not hold what was sent to it.
        Corrupt: The version is damaged here.
        UsageError: ``to`` is no place, or names a digest.
    """
    place = parse_place(to)
    if place.digest is not None:
        raise UsageError(
            f"{to} names a digest, and what is pushed gets its own.",
            hint=f"hold push {ref} {place.of_repository}:v1",
        )
    version = Version(source, resolve(ref, source))
    artifact = (_in_files if layout == "files" else _in_blobs)(version)
    with Session(place) as session:
        pushing = _Pushing(Repository(session, place), source.blobs, place)
        return pushing.run(version, artifact, dry_run=dry_run)


def _in_blobs(version: Version) -> _Artifact:
    """Lay a version out with a layer for each blob."""
    blobs = version.store.blobs
    documents = oci.Documents(version.manifest_id, *read.documents(blobs, version.manifest_id))
    layers = oci.layers_of(documents, read.sizes_of(blobs, version.manifest_id))
    digests = [layer.digest or _joint(blobs, layer.blobs) for layer in layers]
    packed = oci.encode(version.name, documents, layers, digests)
    made = {
        digest: _Blob(layer.size, layer.blobs)
        for digest, layer in zip(digests, layers, strict=True)
    }
    return _Artifact(packed, made | _config(packed))


def _in_files(version: Version) -> _Artifact:
    """Lay a version out as files in one layer."""
    blobs = version.store.blobs
    documents = oci.Documents(version.manifest_id, *read.documents(blobs, version.manifest_id))
    sizes = read.sizes_of(blobs, version.manifest_id)
    tar = oci_files.files_of(oci.layers_of(documents, sizes))
    digest = _joint(blobs, tar.segments)
    packed = oci_files.encode(version.name, documents, sizes, (digest, tar.size))
    return _Artifact(packed, {digest: _Blob(tar.size, tar.segments), **_config(packed)})


def _config(packed: oci.Packed) -> dict[Digest, _Blob]:
    return {digest_of(packed.config): _Blob(len(packed.config), [packed.config])}


def _joint(blobs: BlobStore, segments: Sequence[bytes | oci_files.Blob]) -> Digest:
    """Return the digest of bytes and blobs one after the other."""
    hasher = hashlib.sha256()
    for view in _views(blobs, segments):
        hasher.update(view)
    return Digest(f"sha256:{hasher.hexdigest()}")


def _views(
    blobs: BlobStore, segments: Sequence[bytes | oci_files.Blob]
) -> Iterator[bytes | memoryview]:
    for segment in segments:
        if isinstance(segment, bytes):
            yield segment
            continue
        with contextlib.closing(blobs.open_blob(segment[0])) as reading:
            yield reading.view()


class _Pushing:
    """One version on its way to a registry."""

    def __init__(self, repository: Repository, blobs: BlobStore, place: Place) -> None:
        self._repository = repository
        self._blobs = blobs
        self._place = place
        self._known = _Known(place)

    def run(self, version: Version, artifact: _Artifact, *, dry_run: bool) -> Transfer:
        tagged = self._repository.manifest(self._place.reference)
        is_there = tagged is not None and tagged.digest == artifact.digest
        sizes = {digest: blob.size for digest, blob in artifact.blobs.items()}
        sent = {digest: sizes[digest] for digest in self._missing(sizes)}
        shared = sum(sizes.values()) - sum(sent.values())
        beside = Put([], 0)
        if not dry_run:
            with counted("sending", sum(sent.values())) as progress:
                mounted = self._send({digest: artifact.blobs[digest] for digest in sent}, progress)
            shared += sum(sent.pop(digest) for digest in mounted)
            if not is_there:
                self._commit(artifact)
            self._check(artifact.digest, sizes)
            subject = Stored(artifact.digest, MANIFEST_TYPE, artifact.packed.manifest)
            beside = put_all(self._repository, subject, version)
            self._known.add(self._place.repository)
        at = None if dry_run and not is_there else f"{self._place}@{artifact.digest}"
        done = [Sent(version.ref, at, not is_there)]
        count, size = len(sent) + len(beside.sizes), sum(sent.values()) + sum(beside.sizes)
        to = str(self._place)
        return Transfer(to, done, count, size, shared, [], {}, checks=beside.checks)

    def _commit(self, artifact: _Artifact) -> None:
        """Store the manifest; blobs that were there and are gone by now are sent again.

        Where several push the same blobs at once, docker-registry may for a moment not find some.
        """
        sizes = {digest: blob.size for digest, blob in artifact.blobs.items()}
        reference, manifest = self._place.reference, artifact.packed.manifest
        for turn in range(_TURNS):
            if self._repository.put_manifest(reference, manifest) is not None:
                return
            time.sleep(_PAUSE * 2**turn)
            self._send({d: artifact.blobs[d] for d in self._missing(sizes)}, None)
        raise self._lost("blobs of the manifest")

    def _missing(self, sizes: Mapping[Digest, int]) -> list[Digest]:
        found = in_parallel(self._repository.size, sizes)
        return [digest for digest, size in zip(sizes, found, strict=True) if size != sizes[digest]]

    def _send(
        self, blobs: Mapping[Digest, _Blob], progress: Callable[[int], None] | None
    ) -> set[Digest]:
        """Send blobs and return those that the registry took from another of its repositories."""
        near = self._known.with_most(self._repository, self._place.repository, blobs)
        telling = threading.Lock()
        mounted: set[Digest] = set()

        def send(item: tuple[Digest, _Blob]) -> None:
            digest, blob = item
            was_sent = self._repository.send(digest, lambda: self._sound(blob), mount=near)
            with telling:
                if not was_sent:
                    mounted.add(digest)
                if progress is not None:
                    progress(blob.size)

        in_parallel(send, blobs.items(), threads=_AT_ONCE)
        return mounted

    def _sound(self, blob: _Blob) -> Iterator[bytes | memoryview]:
        """Yield what a blob is made of, hashed."""
        for segment, view in zip(blob.segments, _views(self._blobs, blob.segments), strict=True):
            if not isinstance(segment, bytes) and digest_of(view) != segment[0]:
                raise self._blobs.damaged(segment[0])
            yield view

    def _check(self, manifest: Digest, sizes: Mapping[Digest, int]) -> None:
        """Ask for everything again, and read the manifest back."""
        gone = self._missing(sizes)
        if gone or self._repository.manifest(manifest) is None:
            raise self._lost(gone[0] if gone else manifest)

    def _lost(self, what: str) -> RemoteError:
        return RemoteError(
            f"{self._place} does not hold what was sent to it: the registry does not find {what}, "
            "or has another size of it.",
            hint=f"hold push NAME {self._place}",
            ref=str(self._place),
        )


class _Known:
    """The repositories of a registry that were last pushed to from here; a hint and no more."""

    def __init__(self, place: Place) -> None:
        host = digest_hex(digest_of(place.host.encode()))[:32]
        self._file: Path = cache_folder() / "registries" / host

    def _listed(self) -> list[str]:
        try:
            return self._file.read_text("utf-8").split("\n")[:_REMEMBERED]
        except (OSError, UnicodeDecodeError):
            return []

    def add(self, repository: str) -> None:
        listed = [repository, *(other for other in self._listed() if other != repository)]
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text("\n".join(listed[:_REMEMBERED]), "utf-8")

    def with_most(
        self, repository: Repository, own: str, blobs: Mapping[Digest, _Blob]
    ) -> str | None:
        """Return one that holds the largest of some blobs."""
        if not blobs:
            return None
        largest = max(blobs, key=lambda digest: blobs[digest].size)
        others = (other for other in self._listed() if other != own)
        return next((o for o in others if repository.has_beside(o, largest)), None)
