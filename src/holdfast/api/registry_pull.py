"""``pull oci://…``: a version from a registry of containers, which is not trusted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, NamedTuple

from holdfast.api.progress import counted
from holdfast.api.registry_beside import take_all
from holdfast.api.store import Store
from holdfast.api.transferring import Sent, Transfer, far_end
from holdfast.api.version import Version
from holdfast.archive import oci, oci_files, oci_reading, read
from holdfast.catalogue.history import VersionInfo
from holdfast.catalogue.names import check_name, is_name
from holdfast.environment import capture
from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest
from holdfast.remote.base import in_parallel
from holdfast.remote.oci.place import Place, parse_place
from holdfast.remote.oci.registry import Part, Repository, Stored
from holdfast.remote.oci.session import Session
from holdfast.store.transfer import lacking, missing_blobs

__all__ = ["from_registry"]

_AT_ONCE: Final = 4
_TURNS: Final = 4  # times that blobs are fetched again which a deletion here has taken
# A document larger than this is none: 200,000 tensors take some 40 MB.
_LONGEST_DOCUMENT: Final = 256 << 20


class _Found(NamedTuple):
    """A version in a registry: its documents have been read, its bytes have not.

    Attributes:
        subject: Digest of the registry's manifest.
        name: What the model was called where it was packed; not checked.
        documents: The version's documents.
        held: Where each of its blobs is.
        whole: Bytes of each layer.
        attached: Attachments that are layers, by role.
        near: The bytes of the documents.
    """

    subject: Digest
    name: str
    documents: oci.Documents
    held: Mapping[Digest, oci_reading.Held]
    whole: Mapping[Digest, int]
    attached: Mapping[str, tuple[Digest, int]]
    near: Mapping[Digest, bytes]


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
        to: Where it goes; a store is made where there is none.
        name: The model's name here; default: the one it was pushed under.
        dry_run: Only say what would be fetched.

    Returns:
        What was fetched; ``failed`` says what beside the version was not, and ``notes`` which
        reports of checks were passed over.

    Raises:
        NotFound: There is no such tag.
        Corrupt: What is there is damaged or forged; nothing became visible.
        RemoteError: The registry refuses, stays away, or sends what was not asked for.
        UsageError: ``source`` is no place, or what is there is no version.
    """
    place = parse_place(source)
    if name is not None:
        check_name(name)
    with Session(place) as session:
        repository = Repository(session, place)
        found = _found(repository, place)
        far = far_end(to, dry_run=dry_run)
        named = name or _checked_name(found.name, place)
        if far is None:
            return _told(str(to), place, found, list(found.held))
        pulling = _Pulling(repository, far, place, found)
        return pulling.dry(named) if dry_run else pulling.run(named)


def _found(repository: Repository, place: Place) -> _Found:
    """Read a manifest and the documents of its version, and see that they belong together.

    Raises:
        NotFound: There is none.
        Corrupt: They do not.
        UsageError: It is a manifest of something else.
    """
    stored = repository.manifest(place.reference)
    if stored is None:
        raise NotFound(
            f"There is no {place}.",
            hint=f"skopeo list-tags docker://{place.host}/{place.repository}",
            ref=str(place),
        )
    image = oci_files.parse(stored.data)
    return _in_blobs(repository, stored) if image is None else _in_files(repository, stored, image)


def _in_blobs(repository: Repository, stored: Stored) -> _Found:
    image = oci_reading.parse(stored.data)
    whole = {layer.digest: layer.size for layer in image.layers.values()}
    near = _Documents(
        repository, {d: oci_reading.Held(d, 0, size) for d, size in whole.items()}, whole
    )
    documents = oci.Documents(image.manifest, *read.documents(near, image.manifest))
    held = oci_reading.held_by(image, documents)
    return _Found(stored.digest, image.name, documents, held, whole, image.attached, near.data)


def _in_files(repository: Repository, stored: Stored, image: oci_files.FilesImage) -> _Found:
    whole = dict([image.layer])
    near = _Documents(repository, oci_files.documents_in(image), whole)
    manifest = image.documents[0][0]
    documents = oci.Documents(manifest, *read.documents(near, manifest))
    held = oci_files.held_by(image, documents)
    return _Found(stored.digest, image.name, documents, held, whole, {}, near.data)


class _Documents:
    """A version's documents, read from their places in layers."""

    def __init__(
        self,
        repository: Repository,
        held: Mapping[Digest, oci_reading.Held],
        whole: Mapping[Digest, int],
    ) -> None:
        self._repository = repository
        self._held = held
        self._whole = whole
        self.data: dict[Digest, bytes] = {}

    def read(self, digest: Digest) -> bytes:
        held = self._held.get(digest)
        if held is None:
            raise NotFound(f"{self._repository.shown} has no layer {digest}.", ref=digest)
        if held.size > _LONGEST_DOCUMENT:
            raise Corrupt(
                f"A document in {self._repository.shown} is said to have {held.size} bytes.",
                ref=digest,
            )
        data = self._repository.read(digest, _part(held, self._whole), of=held.layer)
        self.data[digest] = data
        return data


def _part(held: oci_reading.Held, whole: Mapping[Digest, int]) -> Part:
    return Part(held.offset, held.size, whole[held.layer])


def _checked_name(name: str, place: Place) -> str:
    if is_name(name):
        return name
    raise Corrupt(
        f"{place} says that its model is called {name!r:.140}, which is no name.",
        hint=f"hold pull {place} my-model",
        ref=str(place),
    )


def _told(to: str, place: Place, found: _Found, todo: Collection[Digest]) -> Transfer:
    """Return what became of a version before it is known which one it is here."""
    size = sum(found.held[digest].size for digest in todo)
    shared = sum(held.size for held in found.held.values()) - size
    return Transfer(to, [Sent(str(place), None, new=True)], len(todo), size, shared, [], {})


class _Pulling:
    """One version on its way from a registry into a store."""

    def __init__(self, repository: Repository, to: Store, place: Place, found: _Found) -> None:
        self._repository = repository
        self._to = to
        self._place = place
        self._found = found
        self._sizes = {digest: held.size for digest, held in found.held.items()}

    def dry(self, name: str) -> Transfer:
        """Say what would be fetched."""
        told = _told(self._to.url, self._place, self._found, lacking(self._to.blobs, self._sizes))
        before = self._before(name)
        return told if before is None else told._replace(versions=[self._sent(before, new=False)])

    def run(self, name: str) -> Transfer:
        """Fetch what is missing, blobs first, and make the version visible."""
        before = self._before(name)
        todo = lacking(self._to.blobs, self._sizes)
        with counted("fetching", sum(self._sizes[digest] for digest in todo)) as progress:
            self._fetch(todo, progress)
        self._keep()
        info = before or self._committed(name)
        self._keep()
        told = _told(self._to.url, self._place, self._found, todo)
        sent = self._sent(info, new=before is None)
        version, found = Version(self._to, info), self._found
        taken = take_all(self._repository, found.subject, version, found.attached)
        return told._replace(versions=[sent], **taken._asdict())

    def _before(self, name: str) -> VersionInfo | None:
        record = self._found.documents.manifest.record
        there = self._to.catalogue.by_record(name, record)
        return there[-1] if there else None

    def _sent(self, info: VersionInfo, *, new: bool) -> Sent:
        return Sent(str(self._place), f"{info.name}@v{info.number}", new)

    def _committed(self, name: str) -> VersionInfo:
        documents = self._found.documents
        return self._to.catalogue.add_version(
            name,
            record=Digest(documents.manifest.record),
            content=Digest(documents.manifest.content),
            manifest=documents.manifest_id,
            by=capture.author(),
            once=True,
        )

    def _keep(self) -> None:
        """Rely on every blob, and fetch again what a deletion has taken meanwhile."""
        for _ in range(_TURNS):
            gone = missing_blobs(self._to.blobs, list(self._sizes))
            self._to.blobs.flush()
            if not gone:
                return
            self._fetch(gone, None)
        raise Corrupt(
            f"Blobs of {self._place} vanish from {self._to.url} as fast as they are fetched.",
            hint=f"hold pull {self._place}",
            ref=str(self._place),
        )

    def _fetch(self, todo: Collection[Digest], progress: Callable[[int], None] | None) -> None:
        telling = threading.Lock()

        def fetch(digest: Digest) -> None:
            held = self._found.held[digest]

            def chunks() -> Iterator[bytes]:
                if digest in self._found.near:
                    return iter([self._found.near[digest]])
                return self._repository.stream(held.layer, _part(held, self._found.whole))

            self._to.blobs.drop_damaged(digest)
            try:
                self._to.blobs.put(chunks, expect=digest)
            except Corrupt as error:
                raise self._repository.damaged(digest) from error
            if progress is not None:
                with telling:
                    progress(held.size)

        in_parallel(fetch, todo, threads=_AT_ONCE)
