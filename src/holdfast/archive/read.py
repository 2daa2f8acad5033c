"""Opening a version: every byte verified before it is handed out; nothing is built here."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from holdfast.archive import layout
from holdfast.archive.blobs import Blobs, Seen
from holdfast.archive.paths import is_file_name
from holdfast.archive.stamps import Stamps
from holdfast.codec.tensors import TensorData, TensorView
from holdfast.errors import Corrupt, NotFound
from holdfast.record import (
    Content,
    Digest,
    Manifest,
    Record,
    TensorEntry,
    parse_digest,
)
from holdfast.store.base import BlobStore, Distant
from holdfast.store.hashing import digests_of

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


# Bytes that are verified before they are handed out one by one.
_PASSING: Final = 128 << 20


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


class _Passing(TensorView):
    """A tensor whose bytes are fetched when they are asked for, and held by whoever asked."""

    __slots__ = ("_fetch",)
    _fetch: Callable[[], memoryview]

    def __init__(self, entry: layout.TensorLike, fetch: Callable[[], memoryview]) -> None:
        for name, value in (("dtype", entry.dtype), ("shape", tuple(entry.shape))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_fetch", fetch)

    @property
    def data(self) -> memoryview:
        """Its bytes, verified."""
        return self._fetch()


class Tensors(Mapping[str, TensorView]):
    """Tensors of a version by name; looking one up opens and verifies only its piece."""

    def __init__(self, content: Content, manifest: Manifest, source: Blobs) -> None:
        self._plan = layout.plan(content.tensors)
        self._source = source
        self._passing = False
        self._waiting: dict[int, memoryview] = {}
        self._passed: set[int] = set()
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

    def pass_on(self) -> None:
        """Hold no tensor that is a piece of its own once it was handed out: it goes elsewhere.

        Such a tensor is read whole, since copying to a device is slow from pages that are fetched
        one after the other, and those that follow it in the file are verified with it.
        """
        self._passing = True
        self._source.read_whole = True

    def open_all(self) -> None:
        """Open and verify every piece at once, on threads."""
        rest = self._rest()
        self._views.update(zip(rest, self._sound(rest), strict=True))

    def verify_rest(self) -> None:
        """Verify every piece that was not opened yet, and hold none of them."""
        rest = self._rest()
        while rest:
            batch = self._batch(rest, _PASSING)
            self._sound(batch)
            rest = rest[len(batch) :]

    def _rest(self) -> list[int]:
        done = self._views.keys() | self._waiting.keys() | self._passed
        return [n for n in range(len(self._plan.pieces)) if n not in done]

    def _batch(self, numbers: Sequence[int], room: int) -> list[int]:
        """Return the first of the pieces, and as many that follow it as there is room for."""
        batch = [numbers[0]]
        room -= self._plan.sizes[numbers[0]]
        for number in numbers[1:]:
            room -= self._plan.sizes[number]
            if room < 0:
                break
            batch.append(number)
        return batch

    def _sound(self, numbers: Sequence[int]) -> list[memoryview]:
        """Return the bytes of pieces, each verified to hold its tensors."""
        wanted = []
        for number in numbers:
            piece, entries = self._pieces[number + 1], self._plan.pieces[number]
            more = f" and {len(entries) - 1} more tensors" if len(entries) > 1 else ""
            what = f"tensor {entries[0].name!r:.100}{more}"
            wanted.append((parse_digest(piece.digest), piece.size, what))
        views = self._source.views(wanted)
        self._match_content(numbers, views)
        return views

    def _pass(self, number: int) -> memoryview:
        """Return a piece that is held no longer than by whoever gets it."""
        if number not in self._waiting:
            alone = [n for n in self._rest() if n > number and len(self._plan.pieces[n]) == 1]
            held = sum(view.nbytes for view in self._waiting.values())
            batch = self._batch([number, *alone], _PASSING - held)
            self._waiting.update(zip(batch, self._sound(batch), strict=True))
        self._passed.add(number)
        return self._waiting.pop(number)

    def compare_with(self, live: Mapping[str, TensorData]) -> None:
        """Let bytes that are the same as these stand for bytes whose hash is the right one."""
        for piece, entries in zip(self._pieces[1:], self._plan.pieces, strict=True):
            self._source.live[parse_digest(piece.digest)] = partial(_same, entries, live)

    def _match_content(self, numbers: Sequence[int], views: Sequence[memoryview]) -> None:
        """Compare tensors with the digests that the content, and so its id, names.

        That the pieces' own bytes are sound does not say that they are this content's.
        """
        within: list[tuple[TensorEntry, memoryview]] = []
        judged: list[tuple[str, list[TensorEntry]]] = []
        for number, data in zip(numbers, views, strict=True):
            piece = self._pieces[number + 1].digest
            entries = [e for e in self._plan.pieces[number] if isinstance(e, TensorEntry)]
            if len(entries) == 1:
                _match(entries[0], piece)
            elif not self._source.holds(piece, entries):
                judged.append((piece, entries))
                offset = 0
                for entry in entries:
                    end = offset + layout.nbytes(entry)
                    within.append((entry, data[offset:end]))
                    offset = end
        for (entry, _), digest in zip(within, digests_of([d for _, d in within]), strict=True):
            _match(entry, digest)
        for piece, entries in judged:
            self._source.remember_held(piece, entries)

    def __getitem__(self, name: str) -> TensorView:
        entry = self._entries[name]
        if name not in self._places:  # every tensor is empty, so there are no pieces
            return TensorView(entry.dtype, tuple(entry.shape), memoryview(bytearray()))
        number, offset = self._places[name]
        if self._passing and len(self._plan.pieces[number]) == 1:
            return _Passing(entry, partial(self._pass, number))
        if number not in self._views:
            part = self._part(number, offset, entry)
            if part is not None:
                return TensorView(entry.dtype, tuple(entry.shape), part)
            (self._views[number],) = self._sound([number])
        data = self._views[number][offset : offset + layout.nbytes(entry)]
        return TensorView(entry.dtype, tuple(entry.shape), data)

    def _part(self, number: int, offset: int, entry: layout.TensorLike) -> memoryview | None:
        """Return the first tensor asked of a group without the rest; the second fetches it all."""
        if number in self._touched or len(self._plan.pieces[number]) == 1:
            return None
        self._touched.add(number)
        assert isinstance(entry, TensorEntry)  # noqa: S101 - the plan is of the content's tensors
        return self._source.part(self._pieces[number + 1], offset, entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _match(entry: TensorEntry, digest: str) -> None:
    if digest != entry.digest:
        raise Corrupt(f"tensor {entry.name!r:.100} is not the one the content names")


def _same(
    entries: Sequence[layout.TensorLike], live: Mapping[str, TensorData], view: memoryview
) -> bool:
    """Say whether a piece is, bit for bit, what tensors in memory are."""
    from holdfast.codec.same import same_bytes

    offset = 0
    for entry in entries:
        end = offset + layout.nbytes(entry)
        if entry.name not in live or not same_bytes(view[offset:end], live[entry.name].load()):
            return False
        offset = end
    return True


def open_version(
    store: BlobStore,
    manifest: Digest,
    *,
    verify: str,
    stamps: Stamps | None,
    live: Mapping[str, TensorData] | None = None,
) -> OpenedVersion:
    """Read a version's documents, and its bytes as they are asked for.

    Args:
        store: Where it is.
        manifest: Its manifest's digest.
        verify: ``"auto"`` hashes unless stamped, ``"always"`` hashes, ``"never"`` trusts.
        stamps: The cache, or None.
        live: What this process just hashed and wrote as this version. A piece that is bit for bit
            the same needs no second hash.

    Raises:
        Corrupt: A document or blob is missing, damaged or contradicts another.
    """
    opened = _opened(store, manifest, Blobs(store, verify, stamps))
    if live is not None:
        opened.tensors.compare_with(live)
    return opened


def _opened(store: BlobStore, manifest: Digest, source: Blobs) -> OpenedVersion:
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
    opened = _opened(store, manifest, Blobs(store, "always", stamps, seen))
    opened.tensors.verify_rest()
    for digest in map(parse_digest, _beside(opened.record)):
        if digest not in seen.blobs:
            store.read(digest)
            seen.blobs.add(digest)
    return Checked(len(blobs), sum(store.size(blob) for blob in blobs))
