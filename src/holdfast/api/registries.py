"""Versions to and from registries of containers: ``push oci://…`` and ``pull oci://…``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from holdfast.api.progress import counted
from holdfast.api.store import Store, resolve
from holdfast.api.transferring import Sent, Transfer, far_end
from holdfast.api.version import Version
from holdfast.archive import oci, read
from holdfast.catalogue.history import VersionInfo
from holdfast.catalogue.names import check_name, is_name
from holdfast.environment import capture
from holdfast.errors import Corrupt, NotFound, RemoteError, UsageError
from holdfast.record import Digest, digest_of
from holdfast.remote.base import in_parallel
from holdfast.remote.oci.place import Place, parse_place
from holdfast.remote.oci.registry import Part, Repository
from holdfast.remote.oci.session import Session
from holdfast.store.base import BlobStore
from holdfast.store.transfer import lacking

__all__ = ["from_registry", "to_registry"]

_AT_ONCE: Final = 4
# A document larger than this is none: 200,000 tensors take some 40 MB.
_LONGEST_DOCUMENT: Final = 256 << 20


class _Blob(NamedTuple):
    """A blob of an artifact: what it is made of, here."""

    digest: Digest
    size: int
    parts: tuple[tuple[Digest, int], ...]


def to_registry(
    ref: str, source: Store, to: str, *, layout: str = "blobs", dry_run: bool = False
) -> Transfer:
    """Push a version to a registry; blobs that are there are not sent.

    Args:
        ref: The version.
        source: Where it is.
        to: ``oci://HOST[:PORT]/REPOSITORY:TAG``. A tag that names something else is moved.
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
    documents = oci.Documents(
        version.manifest_id, *read.documents(source.blobs, version.manifest_id)
    )
    layers = oci.layers_of(documents, read.sizes_of(source.blobs, version.manifest_id))
    digests = [layer.digest or _joint(source.blobs, layer.blobs) for layer in layers]
    packed = oci.encode(version.name, documents, layers, digests)
    wanted = {
        digest: _Blob(digest, layer.size, layer.blobs)
        for digest, layer in zip(digests, layers, strict=True)
    }
    with Session(place) as session:
        pushing = _Pushing(Repository(session, place), source.blobs, place)
        return pushing.run(version, wanted, packed, dry_run=dry_run)


class _Pushing:
    """One version on its way to a registry."""

    def __init__(self, repository: Repository, blobs: BlobStore, place: Place) -> None:
        self._repository = repository
        self._blobs = blobs
        self._place = place

    def run(
        self, version: Version, wanted: Mapping[Digest, _Blob], packed: oci.Packed, *, dry_run: bool
    ) -> Transfer:
        tagged = self._repository.manifest(self._place.reference)
        manifest = digest_of(packed.manifest)
        there = tagged is not None and tagged.digest == manifest
        own = {digest_of(packed.config): packed.config}
        sizes = {digest: blob.size for digest, blob in wanted.items()}
        sizes |= {digest: len(data) for digest, data in own.items()}
        missing = self._missing(sizes)
        sent = {digest: sizes[digest] for digest in missing}
        if not dry_run:
            with counted("sending", sum(sent.values())) as progress:
                self._send([wanted[d] for d in missing if d in wanted], progress)
            for digest in own.keys() & set(missing):
                self._repository.send(digest, [own[digest]])
            if not there:
                self._repository.put_manifest(self._place.reference, packed.manifest)
            self._check(manifest, sizes)
        at = None if dry_run and not there else f"{self._place}@{manifest}"
        return Transfer(
            str(self._place),
            [Sent(version.ref, at, not there)],
            len(sent),
            sum(sent.values()),
            sum(sizes.values()) - sum(sent.values()),
            [],
            {},
        )

    def _missing(self, sizes: Mapping[Digest, int]) -> list[Digest]:
        found = in_parallel(self._repository.size, sizes)
        return [digest for digest, size in zip(sizes, found, strict=True) if size != sizes[digest]]

    def _send(self, blobs: Sequence[_Blob], progress: Callable[[int], None] | None) -> None:
        lock = threading.Lock()

        def send(blob: _Blob) -> None:
            with contextlib.ExitStack() as opened:
                views = []
                for digest, _ in blob.parts:
                    reading = opened.enter_context(
                        contextlib.closing(self._blobs.open_blob(digest))
                    )
                    views.append(reading.view())
                    if digest_of(views[-1]) != digest:
                        raise self._blobs.damaged(digest)
                self._repository.send(blob.digest, views)
            if progress is not None:
                with lock:
                    progress(blob.size)

        in_parallel(send, blobs, threads=_AT_ONCE)

    def _check(self, manifest: Digest, sizes: Mapping[Digest, int]) -> None:
        """Ask for everything again, and read the manifest back."""
        gone = self._missing(sizes)
        if gone or self._repository.manifest(manifest) is None:
            raise RemoteError(
                f"{self._place} does not hold what was sent to it: "
                f"{gone[0] if gone else manifest} is missing or has another size.",
                hint=f"hold push {self._place}",
                ref=str(self._place),
            )


def _joint(blobs: BlobStore, parts: Sequence[tuple[Digest, int]]) -> Digest:
    """Return the digest of blobs one after the other."""
    hasher = hashlib.sha256()
    for digest, _ in parts:
        with contextlib.closing(blobs.open_blob(digest)) as reading:
            hasher.update(reading.view())
    return Digest(f"sha256:{hasher.hexdigest()}")


def from_registry(
    source: str,
    to: Store | str | os.PathLike[str],
    name: str | None = None,
    *,
    dry_run: bool = False,
) -> Transfer:
    """Pull a version from a registry; blobs that are here are not fetched.

    Args:
        source: ``oci://HOST[:PORT]/REPOSITORY:TAG`` or ``…@sha256:DIGEST``.
        to: Where it goes.
        name: The model's name here; default: the one it was pushed under.
        dry_run: Only say what would be fetched.

    Raises:
        NotFound: There is no such tag.
        Corrupt: What is there is damaged or forged; nothing became visible.
        RemoteError: The registry refuses, stays away, or sends what was not asked for.
        UsageError: ``source`` is no place, or what is there is no version.
    """
    place = parse_place(source)
    with Session(place) as session:
        far = far_end(to, dry_run=dry_run)
        pulling = _Pulling(Repository(session, place), far, place)
        done = pulling.run(name, dry_run=dry_run)
    return done._replace(to=str(to) if far is None else far.url)


class _Pulling:
    """One version on its way from a registry; to no store in a dry run without one."""

    def __init__(self, repository: Repository, to: Store | None, place: Place) -> None:
        self._repository = repository
        self._to = to
        self._place = place

    def run(self, name: str | None, *, dry_run: bool) -> Transfer:
        stored = self._repository.manifest(self._place.reference)
        if stored is None:
            raise NotFound(
                f"There is no {self._place}.",
                hint=f"skopeo list-tags docker://{self._place.host}/{self._place.repository}",
                ref=str(self._place),
            )
        image = oci.parse(stored.data)
        named = self._name(image, name)
        near = _Documents(self._repository, image)
        documents = oci.Documents(image.manifest, *read.documents(near, image.manifest))
        held = oci.held_by(image, documents)
        sizes = {digest: where.size for digest, where in held.items()}
        missing = list(sizes) if self._to is None else lacking(self._to.blobs, sizes)
        todo = {digest: held[digest] for digest in missing}
        before = [] if self._to is None else self._to.catalogue.by_record(named, image.record)
        info = before[-1] if before else None
        size = sum(where.size for where in todo.values())
        if self._to is not None and not dry_run:
            with counted("fetching", size) as progress:
                _Fetching(self._repository, image, near.read_already, progress).run(todo, self._to)
            info = info or self._committed(self._to, named, image)
        there = None if info is None else f"{info.name}@v{info.number}"
        sent = Sent(str(self._place), there, not before)
        return Transfer("", [sent], len(todo), size, sum(sizes.values()) - size, [], {})

    def _name(self, image: oci.Image, name: str | None) -> str:
        if name is not None:
            return check_name(name)
        if not is_name(image.name):
            raise Corrupt(
                f"{self._place} says that its model is called {image.name!r:.140}, which is no "
                "name.",
                hint=f"hold pull {self._place} my-model",
                ref=str(self._place),
            )
        return image.name

    def _committed(self, to: Store, name: str, image: oci.Image) -> VersionInfo:
        return to.catalogue.add_version(
            name,
            record=image.record,
            content=image.content,
            manifest=image.manifest,
            by=capture.author(),
            once=True,
        )


class _Documents:
    """A version's documents, read from its layers."""

    def __init__(self, repository: Repository, image: oci.Image) -> None:
        self._repository = repository
        self._sizes = {layer.digest: layer.size for layer in image.layers.values()}
        self.read_already: dict[Digest, bytes] = {}

    def read(self, digest: Digest) -> bytes:
        size = self._sizes.get(digest)
        if size is None:
            raise NotFound(f"{self._repository.shown} has no layer {digest}.", ref=digest)
        if size > _LONGEST_DOCUMENT:
            raise Corrupt(f"A document in {self._repository.shown} has {size} bytes.", ref=digest)
        self.read_already[digest] = data = self._repository.read(digest, size)
        return data


class _Fetching:
    """Blobs on their way into a store, each visible when it is whole and hashed."""

    def __init__(
        self,
        repository: Repository,
        image: oci.Image,
        near: Mapping[Digest, bytes],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._repository = repository
        self._near = near
        self._progress = progress
        self._whole = {layer.digest: layer.size for layer in image.layers.values()}
        self._telling = threading.Lock()

    def run(self, todo: Mapping[Digest, oci.Held], to: Store) -> None:
        def fetch(item: tuple[Digest, oci.Held]) -> None:
            digest, held = item
            to.blobs.drop_damaged(digest)
            try:
                to.blobs.put(lambda: self._chunks(digest, held), expect=digest)
            except Corrupt as error:
                raise self._repository.damaged(digest) from error
            if self._progress is not None:
                with self._telling:
                    self._progress(held.size)

        in_parallel(fetch, todo.items(), threads=_AT_ONCE)
        to.blobs.flush()

    def _chunks(self, digest: Digest, held: oci.Held) -> Iterator[bytes]:
        if digest in self._near:
            yield self._near[digest]
            return
        part = Part(held.offset, held.size, self._whole[held.layer])
        yield from self._repository.stream(held.layer, part)
