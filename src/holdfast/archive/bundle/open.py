"""Opening a bundle: every claim of the tar, the index and the manifests judged, nothing unpacked.

What is judged here is that the parts fit together. That a blob's bytes are those of its name is
seen when it is read, as in every store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from holdfast.archive import oci
from holdfast.archive.bundle.blobs import BundleBlobs, NoChecks, Span
from holdfast.archive.bundle.write import ALIASES, OWN_DIGEST, REF_NAME
from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.fixed import HeldLog, Listed
from holdfast.catalogue.history import Attachment, VersionInfo
from holdfast.catalogue.names import check_alias, is_name
from holdfast.errors import Corrupt, HoldfastError, NoStore, NotFound, UsageError
from holdfast.record import Digest, Manifest, Record, canonical, digest_hex, digest_of, parse_digest
from holdfast.trust.source import FileSource
from holdfast.trust.tars import TarEntry, is_tar, read_tar

__all__ = ["Bundle", "open_bundle"]

_INDEX: Final = "application/vnd.oci.image.index.v1+json"

_LONGEST_INDEX: Final = 16 << 20
_LONGEST_LOGS: Final = 64 << 20
_LONGEST_RECORD: Final = 64 << 20

_BLOB: Final = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_ENTRY: Final = re.compile(r"log/([a-z0-9._-]{1,128})/([0-9]{8,12})\.json")
_FOLDER: Final = re.compile(r"\.?|blobs|blobs/sha256|log|log/[a-z0-9._-]{1,128}")
_REF: Final = re.compile(r"(.{1,128})@v([1-9][0-9]{0,9})")


class Bundle(NamedTuple):
    """An open bundle.

    Attributes:
        blobs: Its blobs.
        catalogue: Its versions.
        checks: None are kept.
        id: From its index.
    """

    blobs: BundleBlobs
    catalogue: Catalogue
    checks: NoChecks
    id: str


class _Listed(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    manifests: list[_Listed]
    media_type: str = _INDEX
    annotations: dict[str, str] | None = None


class _Version(NamedTuple):
    """A version that the index lists."""

    name: str
    number: int | None
    image: oci.Image
    aliases: tuple[str, ...]


def open_bundle(path: Path) -> Bundle:
    """Open a bundle.

    Raises:
        NoStore: There is no such file.
        UsageError: It cannot be read, or it is an image layout of something else.
        Corrupt: It is damaged, or its parts contradict each other.
    """
    if not path.exists() and not path.is_symlink():
        raise NoStore(f"There is no bundle {path}.", hint=f"hold bundle NAME {path}", ref=str(path))
    try:
        with FileSource(path) as source:
            return _Opening(path, source).bundle()
    except Corrupt as error:
        hint = f"hold scan {path}" if error.hint == error.usual_hint else error.hint
        raise Corrupt(f"{path} is no sound bundle: {error.message}", hint=hint) from error


class _Opening:
    """One file while it is judged."""

    def __init__(self, path: Path, source: FileSource) -> None:
        self._url = str(path)
        self._source = source
        self._spans: dict[Digest, Span] = {}
        self._entries: dict[str, dict[int, Span]] = {}
        self._documents: dict[str, Span] = {}

    def bundle(self) -> Bundle:
        names: set[str] = set()
        if not is_tar(self._source.read(0, 512)):
            raise Corrupt("it is no tar archive" if self._source.size else "it is empty")
        for entry in read_tar(self._source):
            self._place(entry, names)
        index, identity = self._index()
        listed = _each_once(index.manifests)
        versions = [found for each in listed if (found := self._version(each))]
        if not versions:
            raise UsageError(f"{self._url} holds no version that Holdfast packed.", ref=self._url)
        for version in versions:
            self._check_layers(version.image)
        blobs = BundleBlobs(self._url, os.dup(self._source.fileno()), self._spans)
        catalogue = self._catalogue(versions, blobs)
        return Bundle(blobs, catalogue, NoChecks(self._url), digest_hex(identity)[:32])

    def _place(self, entry: TarEntry, names: set[str]) -> None:
        """Note where a member lies; one that no bundle has is refused."""
        name = entry.name.removeprefix("./").rstrip("/")
        if entry.kind == "folder" and _FOLDER.fullmatch(name):
            return
        if entry.kind != "file":
            raise Corrupt(f"its member {entry.name!r:.100} is a {entry.kind}")
        if name in names:
            raise Corrupt(f"it has two members {name!r:.100}")
        names.add(name)
        if entry.start + entry.size > self._source.size:
            raise Corrupt(f"it is cut short: its member {name!r:.100} goes on after its end")
        span = Span(entry.start, entry.size)
        if blob := _BLOB.fullmatch(name):
            self._spans[Digest(f"sha256:{blob[1]}")] = span
        elif name in ("oci-layout", "index.json"):
            self._documents[name] = span
        elif (found := _ENTRY.fullmatch(name)) and is_name(found[1]):
            self._entries.setdefault(found[1], {})[int(found[2])] = span
        else:
            raise Corrupt(f"it has a member {entry.name!r:.100}, as no bundle does")

    def _read(self, span: Span, most: int, what: str) -> bytes:
        if span.size > most:
            raise Corrupt(f"{what} has {span.size} bytes, more than {most}")
        return self._source.exactly(span.start, span.size, what)

    def _index(self) -> tuple[_Index, Digest]:
        for name in ("oci-layout", "index.json"):
            if name not in self._documents:
                raise Corrupt(f"it has no {name}")
        layout = self._read(self._documents["oci-layout"], 1 << 10, "oci-layout")
        data = self._read(self._documents["index.json"], _LONGEST_INDEX, "index.json")
        try:
            version = msgspec.json.decode(layout, type=dict[str, str]).get("imageLayoutVersion")
            index = msgspec.json.decode(data, type=_Index)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(f"it is no OCI image layout: {error!s:.200}") from error
        if version != "1.0.0" or (index.schema_version, index.media_type) != (2, _INDEX):
            raise Corrupt(f"it is an image layout of version {version!r:.40}, not '1.0.0'")
        stated = (index.annotations or {}).get(OWN_DIGEST)
        if stated is not None and stated != _own_digest(data):
            raise Corrupt("its index.json does not match its own digest")
        return index, digest_of(data)

    def _version(self, listed: _Listed) -> _Version | None:
        """Read a listed manifest; None when it is of something else."""
        digest, notes = parse_digest(listed.digest), listed.annotations or {}
        if listed.media_type != oci.MANIFEST_TYPE:
            return None
        span = self._spans.get(digest)
        if span is None or span.size != listed.size:
            raise Corrupt(f"its index names a manifest {digest} that is not in it")
        data = self._read(span, oci.LONGEST_MANIFEST, f"the manifest {digest}")
        if digest_of(data) != digest:
            raise Corrupt(f"the manifest {digest} is damaged")
        try:
            image = oci.parse(data)
        except UsageError:
            return None
        if not is_name(image.name):
            raise Corrupt(f"{image.name!r:.100} is not a model's name")
        ref = _REF.fullmatch(notes.get(REF_NAME, ""))
        number = int(ref[2]) if ref and ref[1] == image.name else None
        return _Version(image.name, number, image, tuple(notes.get(ALIASES, "").split()))

    def _check_layers(self, image: oci.Image) -> None:
        """See that every layer is there, and note where the pieces in shared layers are."""
        layers = [(layer.digest, layer.size) for layer in image.layers.values()]
        for digest, size in [image.config, *layers]:
            if digest not in self._spans or self._spans[digest].size != size:
                raise Corrupt(f"it lacks the blob {digest} of {size} bytes")
        if all(layer.pieces is None or _alone(layer.pieces) for layer in image.layers.values()):
            return
        manifest = Manifest.decode(self._document(image.manifest))
        for digest, held in oci.places(image, manifest).items():
            start = self._spans[held.layer].start + held.offset
            self._spans.setdefault(digest, Span(start, held.size))

    def _document(self, digest: Digest) -> bytes:
        data = self._read(self._spans[digest], _LONGEST_RECORD, f"the document {digest}")
        if digest_of(data) != digest:
            raise Corrupt(f"the document {digest} is damaged")
        return data

    def _catalogue(self, versions: Sequence[_Version], blobs: BundleBlobs) -> Catalogue:
        if not self._entries:
            infos = list(_numbered(versions, self._info))
            return Listed(blobs.url, infos)
        catalogue = Catalogue(HeldLog(blobs.url, self._logs()), None)
        for version in versions:
            self._match(version, catalogue)
        return catalogue

    def _logs(self) -> Mapping[str, Sequence[bytes]]:
        room, logs = _LONGEST_LOGS, {}
        for name, spans in self._entries.items():
            if sorted(spans) != list(range(1, len(spans) + 1)):
                raise Corrupt(f"entries of the log of {name} are missing")
            logs[name] = [self._read(spans[seq], room, "a log entry") for seq in sorted(spans)]
            room -= sum(span.size for span in spans.values())
            if room < 0:
                raise Corrupt(f"its logs have more than {_LONGEST_LOGS} bytes")
        return logs

    def _match(self, version: _Version, catalogue: Catalogue) -> None:
        """Compare a listed version with what the log says of it."""
        if version.number is None:
            raise Corrupt(f"its index does not say which version of {version.name} it lists")
        ref = f"{version.name}@v{version.number}"
        try:
            info = catalogue.resolve(version.name, version.number)
        except NotFound as error:
            raise Corrupt(f"its index lists {ref}, which its log does not") from error
        image = version.image
        if (info.manifest, info.content, info.record) != image[1:4]:
            raise Corrupt(f"its index and its log say different things of {ref}")

    def _info(self, version: _Version, number: int) -> VersionInfo:
        image = version.image
        record = Record.decode(self._document(image.record))
        if record.content != image.content:
            raise Corrupt(f"{version.name}@v{number} has a record of another content")
        for alias in version.aliases:
            _check_alias(alias)
        beside = {
            role: Attachment(digest, size, record.author, record.created)
            for role, (digest, size) in sorted(image.attached.items())
        }
        return VersionInfo(
            name=version.name,
            number=number,
            record=image.record,
            content=image.content,
            manifest=image.manifest,
            at=record.created,
            by=record.author,
            aliases=tuple(sorted(version.aliases)),
            attachments=beside,
        )


def _own_digest(index: bytes) -> Digest:
    """Return the digest of an index, known to be an object, without its annotations."""
    try:
        document = msgspec.json.decode(index)  # all of it: what no field of ours is for was skipped
        del document["annotations"]
        return digest_of(canonical(document))
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"its index.json has no canonical form: {error}") from error


def _each_once(listed: Sequence[_Listed]) -> list[_Listed]:
    """Leave out what is listed again under a tag, as other programs do; a version must not be."""
    found: dict[str, _Listed] = {}
    for each in listed:
        ref = (each.annotations or {}).get(REF_NAME, "")
        if each.digest in found and _REF.fullmatch(ref):
            raise Corrupt(f"its index lists one manifest twice, once as {ref!r:.140}")
        found.setdefault(each.digest, each)
    return list(found.values())


def _alone(pieces: tuple[int, int]) -> bool:
    return pieces[0] == pieces[1]


def _check_alias(alias: str) -> None:
    try:
        check_alias(alias)
    except HoldfastError as error:
        raise Corrupt(error.message) from error


def _numbered(
    versions: Sequence[_Version], info: Callable[[_Version, int], VersionInfo]
) -> Iterator[VersionInfo]:
    """Give each version its number; one without, as other programs write them, gets the next."""
    taken: dict[str, dict[int, Digest]] = {}
    aliases: set[tuple[str, str]] = set()
    for version in sorted(versions, key=lambda each: each.number is None):
        numbers = taken.setdefault(version.name, {})
        number = version.number or max(numbers, default=0) + 1
        if number in numbers:
            raise Corrupt(f"its index lists {version.name}@v{number} twice")
        if version.image.record in numbers.values():
            raise Corrupt(f"two versions of {version.name} have the record {version.image.record}")
        named = {(version.name, alias) for alias in version.aliases}
        if named & aliases or len(named) < len(version.aliases):
            raise Corrupt(f"an alias names two versions of {version.name}")
        aliases |= named
        numbers[number] = version.image.record
        yield info(version, number)
