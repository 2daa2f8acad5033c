"""Opening a version: every byte verified before it is handed out; nothing is built here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol

from holdfast.archive import layout
from holdfast.archive.paths import is_file_name
from holdfast.archive.stamps import Identity, Stamps
from holdfast.codec.tensors import TensorView
from holdfast.errors import Corrupt, NotFound
from holdfast.record import (
    Content,
    Digest,
    Manifest,
    Record,
    TensorEntry,
    digest_of,
    parse_digest,
)
from holdfast.remote.base import in_parallel
from holdfast.store.base import BlobStore, Distant

__all__ = [
    "Checked",
    "OpenedVersion",
    "Readable",
    "Seen",
    "Tensors",
    "blobs_of",
    "documents",
    "open_version",
    "sizes_of",
    "verify_version",
]


_FETCHED_AT_ONCE: Final = 4


class Readable(Protocol):
    """Whatever gives blobs by digest, hashed."""

    def read(self, digest: Digest) -> bytes:
        """Return a whole blob; raises ``NotFound`` and ``Corrupt``."""


class Checked(NamedTuple):
    """What ``verify_version`` hashed.

    Attributes:
        blobs: Number of blobs.
        size: Their bytes.
    """

    blobs: int
    size: int


class OpenedVersion(NamedTuple):
    """A version's documents and bytes.

    Attributes:
        manifest: Which blobs hold it.
        content: What the model is.
        record: What is said of it.
        tensors: Tensors by name, opened and verified when they are looked up.
        files: Files by name, verified.
        checked: ``hashed``, ``stamped`` or ``unchecked``: how far the bytes handed out so far
            were verified.
    """

    manifest: Manifest
    content: Content
    record: Record
    tensors: Tensors
    files: dict[str, memoryview]

    @property
    def checked(self) -> str:
        """How the tensors looked up so far were verified."""
        return self.tensors.checked


class Seen:
    """What one run has hashed already, so that versions which share it do not hash it again.

    Attributes:
        blobs: Blobs whose bytes were sound.
        held: Pieces, each with the tensors that it was found to hold.
    """

    def __init__(self) -> None:
        self.blobs: set[Digest] = set()
        self.held: set[tuple[str, Digest]] = set()


class _Bytes:
    """Blobs viewed and verified: hashed, or stamped by an earlier hash of the same inode."""

    def __init__(
        self, store: BlobStore, verify: str, stamps: Stamps | None, seen: Seen | None = None
    ) -> None:
        self._store = store
        self._verify = verify
        self._seen = Seen() if seen is None else seen
        self._stamps = None if verify == "never" else stamps
        self._believed = stamps if verify == "auto" else None
        self.checked = "unchecked" if verify == "never" else "stamped"

    def views(self, wanted: Sequence[tuple[Digest, int, str]]) -> list[memoryview]:
        """Return the bytes of blobs given as (digest, size, what it holds)."""
        threads = _FETCHED_AT_ONCE if isinstance(self._store, Distant) else 1
        opened = in_parallel(lambda item: self._viewed(*item), wanted, threads)
        views = [view for view, _ in opened]
        identities = [identity for _, identity in opened]
        if self._verify == "never":
            return views
        stamped = self._stamped(identities)
        doubtful = [
            i
            for i, identity in enumerate(identities)
            if wanted[i][0] not in self._seen.blobs
            and (identity is None or stamped.get(identity) != wanted[i][0])
        ]
        for i in self._differing([(wanted[i][0], views[i]) for i in doubtful], doubtful):
            views[i], identities[i] = self._renewed(*wanted[i])
        self._remember({identities[i]: wanted[i][0] for i in doubtful})
        return views

    def _renewed(self, digest: Digest, size: int, what: str) -> tuple[memoryview, Identity | None]:
        """Fetch a blob again whose copy on this machine went bad, where that can be."""
        if isinstance(self._store, Distant) and self._store.renew(digest):
            view, identity = self._viewed(digest, size, what)
            if digest_of(view) == digest:
                return view, identity
        raise self._store.damaged(digest, f" (it holds {what})")

    def part(self, blob: Digest, offset: int, entry: TensorEntry) -> memoryview | None:
        """Return one tensor of a group by a ranged read, hashed; None where that saves nothing."""
        size = layout.nbytes(entry)
        if not isinstance(self._store, Distant) or self._store.near(blob) or not size:
            return None
        data = memoryview(bytearray(self._store.read_range(blob, offset, size)))
        if self._verify != "never":
            self.checked = "hashed"
            if digest_of(data) != entry.digest:
                raise self._store.damaged(blob, f" (it holds tensor {entry.name!r:.100})")
        return data

    def _viewed(self, digest: Digest, size: int, what: str) -> tuple[memoryview, Identity | None]:
        """Map a blob and say which bytes they are; the blob is closed again, the mapping stays."""
        try:
            reading = self._store.open_blob(digest)
        except NotFound as error:
            raise Corrupt(f"{error.message} It holds {what}.", hint=error.hint) from error
        with contextlib.closing(reading):
            if reading.size != size:
                raise self._store.damaged(
                    digest, f" ({reading.size} bytes instead of {size}; it holds {what})"
                )
            view = reading.view()
            return view, None if self._verify == "never" else reading.identity()

    def holds(self, piece: str, tensors: Sequence[TensorEntry]) -> bool:
        """Say whether a piece was found to hold just these tensors before, or is not judged."""
        if self._verify == "never" or (piece, _cut(tensors)) in self._seen.held:
            return True
        stamps = self._believed
        return stamps is not None and stamps.proof(piece, _cut(tensors), "tensors") is not None

    def remember_held(self, piece: str, tensors: Sequence[TensorEntry]) -> None:
        """Stamp that a piece holds these tensors, which is true wherever its bytes are."""
        self._seen.held.add((piece, _cut(tensors)))
        if self._stamps is not None:
            self._stamps.add_proof(piece, _cut(tensors), "tensors", "held")

    def _stamped(self, identities: Sequence[Identity | None]) -> dict[Identity, Digest]:
        if self._believed is None:
            return {}
        return self._believed.blobs(identity for identity in identities if identity is not None)

    def _differing(
        self, doubtful: Sequence[tuple[Digest, memoryview]], numbers: Sequence[int]
    ) -> list[int]:
        """Hash blobs; return the numbers of those whose bytes are not what their names say."""
        if not doubtful:
            return []
        self.checked = "hashed"
        found = _digests([view for _, view in doubtful])
        pairs = list(zip(numbers, doubtful, found, strict=True))
        self._seen.blobs.update(digest for _, (digest, _), is_ in pairs if is_ == digest)
        return [number for number, (digest, _), is_ in pairs if is_ != digest]

    def _remember(self, hashed: Mapping[Identity | None, Digest]) -> None:
        """Stamp what was hashed, unless the file changed while it was."""
        if self._stamps is None:
            return
        fresh: dict[Identity, Digest] = {}
        for identity, digest in hashed.items():
            if identity is None:
                continue
            with (
                contextlib.suppress(NotFound),
                contextlib.closing(self._store.open_blob(digest)) as reading,
            ):
                if reading.identity() == identity:
                    fresh[identity] = digest
        self._stamps.add_blobs(fresh)


def _cut(tensors: Sequence[TensorEntry]) -> Digest:
    """Name what a piece must hold: sizes and digests of its tensors, in order."""
    return digest_of("".join(f"{layout.nbytes(e)} {e.digest}\n" for e in tensors).encode())


def _digests(views: Sequence[memoryview]) -> list[Digest]:
    """Hash on threads; hashing releases the interpreter lock."""

    def hashed(view: memoryview) -> Digest:
        return Digest(f"sha256:{hashlib.sha256(view).hexdigest()}")

    if sum(view.nbytes for view in views) < 1 << 20 or len(views) < 2:
        return [hashed(view) for view in views]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(hashed, views))


class Tensors(Mapping[str, TensorView]):
    """Tensors of a version by name; looking one up opens and verifies only its piece."""

    def __init__(self, content: Content, manifest: Manifest, source: _Bytes) -> None:
        self._plan = layout.plan(content.tensors)
        self._source = source
        self._pieces = manifest.pieces
        self._places: dict[str, tuple[int, int]] = {}
        for number, piece in enumerate(self._plan.pieces):
            offset = 0
            for entry in piece:
                self._places[entry.name] = (number, offset)
                offset += layout.nbytes(entry)
        self._entries = {entry.name: entry for entry in self._plan.entries}
        self._views: dict[int, memoryview] = {}
        self._touched: set[int] = set()
        self._match_manifest()

    @property
    def checked(self) -> str:
        """How what was handed out so far was verified."""
        return self._source.checked

    def _match_manifest(self) -> None:
        """Compare the manifest and the header blob with what the content implies."""
        expected = [len(self._plan.header), *self._plan.sizes] if self._plan.entries else []
        if [piece.size for piece in self._pieces] != expected:
            raise Corrupt("the manifest's pieces are not those of the content's tensors")
        if not expected:
            return
        head = self._pieces[0]
        (view,) = self._source.views([(parse_digest(head.digest), head.size, "the header")])
        if view != self._plan.header:
            raise Corrupt("the safetensors header is not the one the content describes")

    def open_all(self) -> None:
        """Open and verify every piece at once, on threads."""
        self._need([n for n in range(len(self._plan.pieces)) if n not in self._views])

    def _need(self, numbers: Sequence[int]) -> None:
        wanted = []
        for number in numbers:
            piece, entries = self._pieces[number + 1], self._plan.pieces[number]
            more = f" and {len(entries) - 1} more tensors" if len(entries) > 1 else ""
            what = f"tensor {entries[0].name!r:.100}{more}"
            wanted.append((parse_digest(piece.digest), piece.size, what))
        for number, view in zip(numbers, self._source.views(wanted), strict=True):
            self._match_content(number, view)
            self._views[number] = view

    def _match_content(self, number: int, data: memoryview) -> None:
        """Compare tensors with the digests that the content, and so its id, names.

        That the piece's own bytes are sound does not say that they are this content's.
        """
        piece = self._pieces[number + 1].digest
        entries = [e for e in self._plan.pieces[number] if isinstance(e, TensorEntry)]
        alone = len(entries) == 1
        if not alone and self._source.holds(piece, entries):
            return
        offset = 0
        for entry in entries:
            end = offset + layout.nbytes(entry)
            if (piece if alone else digest_of(data[offset:end])) != entry.digest:
                raise Corrupt(f"tensor {entry.name!r:.100} is not the one the content names")
            offset = end
        if not alone:
            self._source.remember_held(piece, entries)

    def __getitem__(self, name: str) -> TensorView:
        entry = self._entries[name]
        if name not in self._places:  # every tensor is empty, so there are no pieces
            return TensorView(entry.dtype, tuple(entry.shape), memoryview(bytearray()))
        number, offset = self._places[name]
        if number not in self._views:
            part = self._part(number, offset, entry)
            if part is not None:
                return TensorView(entry.dtype, tuple(entry.shape), part)
            self._need([number])
        data = self._views[number][offset : offset + layout.nbytes(entry)]
        return TensorView(entry.dtype, tuple(entry.shape), data)

    def _part(self, number: int, offset: int, entry: layout.TensorLike) -> memoryview | None:
        """Return the first tensor asked of a group without the rest; the second fetches it all."""
        if number in self._touched or len(self._plan.pieces[number]) == 1:
            return None
        self._touched.add(number)
        assert isinstance(entry, TensorEntry)  # noqa: S101 - the plan is of the content's tensors
        return self._source.part(parse_digest(self._pieces[number + 1].digest), offset, entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def open_version(
    store: BlobStore, manifest: Digest, *, verify: str, stamps: Stamps | None
) -> OpenedVersion:
    """Read a version's documents, and its bytes as they are asked for.

    Args:
        store: Where it is.
        manifest: Its manifest's digest.
        verify: ``"auto"`` hashes unless stamped, ``"always"`` hashes, ``"never"`` trusts.
        stamps: The cache, or None.

    Raises:
        Corrupt: A document or blob is missing, damaged or contradicts another.
    """
    return _opened(store, manifest, _Bytes(store, verify, stamps))


def _opened(store: BlobStore, manifest: Digest, source: _Bytes) -> OpenedVersion:
    found, content, record = documents(store, manifest)
    files = [(parse_digest(f.digest), f.size, f"the file {f.name!r:.100}") for f in content.files]
    views = source.views(files)
    return OpenedVersion(
        found,
        content,
        record,
        Tensors(content, found, source),
        {entry.name: view for entry, view in zip(content.files, views, strict=True)},
    )


def documents(store: Readable, manifest: Digest) -> tuple[Manifest, Content, Record]:
    """Return a version's documents, verified and checked against each other.

    Raises:
        Corrupt: One is missing, damaged or contradicts another.
    """
    try:
        found = Manifest.decode(store.read(manifest))
        content = Content.decode(store.read(parse_digest(found.content)))
        record = Record.decode(store.read(parse_digest(found.record)))
    except NotFound as error:
        raise Corrupt(f"{error.message} It holds a document.", hint=error.hint) from error
    if record.content != found.content:
        raise Corrupt("the record speaks of another content than the manifest")
    _check_content(content)
    return found, content, record


def _check_content(content: Content) -> None:
    if len(content.tensors) > layout.MAX_TENSORS:
        raise Corrupt(f"{len(content.tensors)} tensors are more than {layout.MAX_TENSORS}")
    names = [entry.name for entry in content.tensors]
    if names != sorted(set(names)):
        raise Corrupt("the content's tensors are not sorted by name, each once")
    for entry in content.tensors:
        parse_digest(entry.digest)
    files = [file.name for file in content.files]
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in files}
    if files != sorted(files) or len(folded) != len(files):
        raise Corrupt("the content's files are not sorted by name, each once")
    for file in content.files:
        parse_digest(file.digest)
        if not is_file_name(file.name):
            raise Corrupt(f"{file.name!r:.100} is not a relative file name")
        if file.size < 0:
            raise Corrupt(f"the file {file.name!r:.100} has a negative size")


def blobs_of(store: BlobStore, manifest: Digest) -> tuple[Digest, ...]:
    """Return every blob a version needs; reads its three documents.

    Raises:
        Corrupt: A document is missing or damaged.
    """
    return tuple(_named(manifest, *documents(store, manifest)))


def sizes_of(store: BlobStore, manifest: Digest) -> dict[Digest, int]:
    """Return every blob a version needs with the size that it must have.

    Raises:
        Corrupt: A document is missing or damaged, or one blob has two sizes.
    """
    found, content, record = documents(store, manifest)
    sizes = {manifest: len(found.encode()), parse_digest(found.content): len(content.encode())}
    sizes[parse_digest(found.record)] = len(record.encode())
    parts = [(p.digest, p.size) for p in found.pieces] + [(f.digest, f.size) for f in content.files]
    for text, size in parts:
        digest = parse_digest(text)
        if sizes.setdefault(digest, size) != size:
            raise Corrupt(f"the blob {digest} is said to have two sizes")
    for digest in _named(manifest, found, content, record):
        if digest not in sizes:
            sizes[digest] = store.size(digest)
    return sizes


def _named(
    manifest: Digest, found: Manifest, content: Content, record: Record
) -> dict[Digest, None]:
    named = [
        found.content,
        found.record,
        *(piece.digest for piece in found.pieces),
        *(entry.digest for entry in content.files),
        *_beside(record),
    ]
    return dict.fromkeys([manifest, *map(parse_digest, named)])


def _beside(record: Record) -> list[Any]:
    """Return the digests that a record itself names: of its golden set and its portable form."""
    named = [(part or {}).get("blob") for part in (record.golden, record.portable)]
    return [digest for digest in named if digest is not None]


def verify_version(
    store: BlobStore, manifest: Digest, *, stamps: Stamps | None = None, seen: Seen | None = None
) -> Checked:
    """Hash every blob of a version, stamps or not, and every tensor inside grouped pieces.

    Of a store far away the bytes there are hashed, not the copies on this machine.

    Args:
        store: Where it is.
        manifest: Its manifest's digest.
        stamps: The cache that learns what was hashed; it is not believed.
        seen: What this run has hashed already and need not hash again; what is hashed joins it.

    Raises:
        Corrupt: A blob is missing or damaged, or documents contradict each other.
    """
    seen = Seen() if seen is None else seen
    if isinstance(store, Distant):
        for blob in {manifest, *blobs_of(store, manifest)} - seen.blobs:
            store.renew(blob)
    blobs = blobs_of(store, manifest)
    opened = _opened(store, manifest, _Bytes(store, "always", stamps, seen))
    opened.tensors.open_all()
    for digest in map(parse_digest, _beside(opened.record)):
        if digest not in seen.blobs:
            store.read(digest)
            seen.blobs.add(digest)
    return Checked(len(blobs), sum(store.size(blob) for blob in blobs))
