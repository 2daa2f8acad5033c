"""The manifest of a version as an OCI artifact, read as the untrusted input that it is.

It says which layer holds which blob. That the bytes of a blob are those of its digest is seen when
they are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from holdfast.archive.paths import is_file_name
from holdfast.errors import Corrupt, UsageError
from holdfast.record import FORMAT, Content, Digest, Manifest, Record, parse_digest

__all__ = [
    "ARTIFACT_TYPE",
    "CONFIG",
    "CONFIG_TYPE",
    "DATASET",
    "DOC",
    "DOCUMENTS",
    "FORMAT_NOTE",
    "LONGEST_MANIFEST",
    "MANIFEST_TYPE",
    "MOST_LAYERS",
    "NAME_NOTE",
    "PATH",
    "PIECES",
    "WEIGHT",
    "Described",
    "Documents",
    "Held",
    "Image",
    "held_by",
    "parse",
    "places",
]

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.cncf.model.config.v1+json"

MOST_LAYERS: Final = 10_000
LONGEST_MANIFEST: Final = 4 << 20

# Types of layers: tensors and files in the formats of programs, what configures them, words, rows.
WEIGHT: Final = "application/vnd.cncf.model.weight.v1.raw"
CONFIG: Final = "application/vnd.cncf.model.weight.config.v1.raw"
DOC: Final = "application/vnd.cncf.model.doc.v1.raw"
DATASET: Final = "application/vnd.cncf.model.dataset.v1.raw"

# Annotations: what a layer would be called as a file, and which pieces are in it; of the manifest,
# the format and the model's name.
PATH: Final = "org.cncf.model.filepath"
PIECES: Final = "vnd.holdfast.pieces"
FORMAT_NOTE: Final = "vnd.holdfast.format"
NAME_NOTE: Final = "vnd.holdfast.name"

_LARGEST: Final = 1 << 60
_RAW: Final = frozenset({WEIGHT, CONFIG, DOC, DATASET})
DOCUMENTS: Final = ("manifest.json", "content.json", "record.json")
_RANGE: Final = re.compile(r"(0|[1-9][0-9]{0,6})-(0|[1-9][0-9]{0,6})")
_PIECE: Final = re.compile(r"weights/([0-9]{6})")
_ATTACHED: Final = re.compile(r"attached/([a-z][a-z0-9-]{0,39})")
_PORTABLE: Final = re.compile(r"portable\.[a-z0-9]{1,16}")


class Documents(NamedTuple):
    """A version's documents, with the digest of each.

    Attributes:
        manifest_id: Digest of the manifest; it names the other two.
        manifest: Which blobs hold the version.
        content: What the model is.
        record: What is said of it.
    """

    manifest_id: Digest
    manifest: Manifest
    content: Content
    record: Record


class Described(NamedTuple):
    """A layer of a manifest that was read.

    Attributes:
        digest: Its digest.
        size: Its bytes.
        pieces: The numbers of the pieces it holds, first and last; None when it holds none.
    """

    digest: Digest
    size: int
    pieces: tuple[int, int] | None


class Image(NamedTuple):
    """A manifest that was read; nothing but its own shape is known to be true.

    Attributes:
        name: What the model was called where it was packed.
        manifest: Digest of the version's manifest, its first document to read.
        content: Digest of its content.
        record: Digest of its record.
        config: Digest and size of the config.
        layers: Layers by path; those of unknown paths are left out.
        attached: Attachments by role.
    """

    name: str
    manifest: Digest
    content: Digest
    record: Digest
    config: tuple[Digest, int]
    layers: Mapping[str, Described]
    attached: Mapping[str, tuple[Digest, int]]


class Held(NamedTuple):
    """Where a blob is.

    Attributes:
        layer: Digest of the layer.
        offset: Its first byte there.
        size: Its bytes.
    """

    layer: Digest
    offset: int
    size: int


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    config: _Descriptor
    layers: list[_Descriptor]
    media_type: str = MANIFEST_TYPE
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


def parse(data: bytes | memoryview) -> Image:
    """Read the manifest of an artifact; whose digest it has is for the caller to compare.

    Raises:
        Corrupt: It is damaged, contradicts itself, or lacks what a version needs.
        UsageError: It is a manifest of something else.
    """
    if len(data) > LONGEST_MANIFEST:
        raise Corrupt(f"a manifest of {len(data)} bytes is longer than {LONGEST_MANIFEST}")
    try:
        found = msgspec.json.decode(data, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"it is no OCI manifest: {error!s:.200}") from error
    notes = found.annotations or {}
    _check_kind(found, notes)
    layers = _by_path(found.layers)
    lacking = [path for path in DOCUMENTS if path not in layers]
    if lacking:
        raise Corrupt(f"the artifact has no layer {lacking[0]}")
    _check_pieces(layers)
    config = (parse_digest(found.config.digest), _size(found.config))
    manifest, content, record = (layers[path].digest for path in DOCUMENTS)
    attached = {
        match[1]: (layer.digest, layer.size)
        for path, layer in layers.items()
        if (match := _ATTACHED.fullmatch(path))
    }
    return Image(notes.get(NAME_NOTE, ""), manifest, content, record, config, layers, attached)


def _check_kind(found: _Manifest, notes: Mapping[str, str]) -> None:
    kinds = (found.media_type, found.artifact_type, found.config.media_type)
    if kinds != (MANIFEST_TYPE, ARTIFACT_TYPE, CONFIG_TYPE) or FORMAT_NOTE not in notes:
        raise UsageError(
            "This is the manifest of something else than a version that Holdfast packed: "
            f"{found.artifact_type or found.config.media_type!s:.100}.",
            hint="hold push REF oci://HOST/REPOSITORY:TAG",
        )
    if found.schema_version != 2 or notes[FORMAT_NOTE] != FORMAT:
        raise Corrupt(
            f"The artifact has format {notes[FORMAT_NOTE]!r:.60}; this release reads {FORMAT!r}.",
            hint="python -m pip install --upgrade holdfast-ml",
        )
    if len(found.layers) > MOST_LAYERS:
        raise Corrupt(f"{len(found.layers)} layers are more than {MOST_LAYERS}")


def _by_path(descriptors: Sequence[_Descriptor]) -> dict[str, Described]:
    """Return the layers that a version is made of, by path; others may stand beside them."""
    layers: dict[str, Described] = {}
    sizes: dict[Digest, int] = {}
    for found in descriptors:
        notes = found.annotations or {}
        path = notes.get(PATH, "")
        digest, size = parse_digest(found.digest), _size(found)
        if sizes.setdefault(digest, size) != size:
            raise Corrupt(f"the layer {digest} is said to have two sizes")
        if not _is_ours(path):
            continue
        if path in layers:
            raise Corrupt(f"there are two layers {path!r:.100}")
        if found.media_type not in _RAW:
            raise Corrupt(f"the layer {path!r:.100} is of type {found.media_type!r:.100}, not raw")
        layers[path] = Described(digest, size, _pieces(path, notes.get(PIECES)))
    return layers


def _is_ours(path: str) -> bool:
    if path in DOCUMENTS or path == "golden.safetensors" or _PIECE.fullmatch(path):
        return True
    head, slash, rest = path.partition("/")
    if slash and head == "files":
        return is_file_name(rest)
    return bool(_ATTACHED.fullmatch(path) or _PORTABLE.fullmatch(path))


def _size(found: _Descriptor) -> int:
    if not 0 <= found.size <= _LARGEST:
        raise Corrupt(f"{found.size!s:.30} is not a size")
    return found.size


def _pieces(path: str, stated: str | None) -> tuple[int, int] | None:
    """Return the numbers of the pieces in a layer."""
    match = _PIECE.fullmatch(path)
    if match is None:
        return None
    first = int(match[1])
    if stated is None:
        return first, first
    numbers = _RANGE.fullmatch(stated)
    if numbers is None or int(numbers[1]) != first or int(numbers[2]) < first:
        raise Corrupt(f"the layer {path} says that it holds the pieces {stated!r:.40}")
    return first, int(numbers[2])


def _check_pieces(layers: Mapping[str, Described]) -> None:
    expected = 0
    for first, last in sorted(layer.pieces for layer in layers.values() if layer.pieces):
        if first != expected:
            raise Corrupt(f"the artifact's layers hold piece {expected} twice or not at all")
        expected = last + 1


def places(image: Image, found: Manifest) -> dict[Digest, Held]:
    """Return where each blob is that an artifact's layers hold.

    Args:
        image: The artifact.
        found: The version's manifest, which says what the pieces are.

    Raises:
        Corrupt: The layers are not those of the manifest's pieces.
    """
    held: dict[Digest, Held] = {}
    for path, layer in image.layers.items():
        if layer.pieces is None:
            held.setdefault(layer.digest, Held(layer.digest, 0, layer.size))
        else:
            _add_pieces(held, path, layer, found)
    return held


def held_by(image: Image, documents: Documents) -> dict[Digest, Held]:
    """Return where each blob is that the version needs, or has attached.

    Args:
        image: The artifact.
        documents: The version's documents, which its layers hold.

    Raises:
        Corrupt: The layers are not those of this version.
    """
    _, found, content, record = documents
    if (documents.manifest_id, found.content, found.record) != image[1:4]:
        raise Corrupt("the artifact's documents are not those that its layers name")
    held = places(image, found)
    for path, digest, size in _needed(found, content, record):
        if digest not in held or (size is not None and held[digest].size != size):
            raise Corrupt(f"the artifact has no layer that holds {path!r:.100}")
    return held


def _add_pieces(held: dict[Digest, Held], path: str, layer: Described, found: Manifest) -> None:
    assert layer.pieces is not None  # noqa: S101 - the caller asked
    first, last = layer.pieces
    pieces = found.pieces[first : last + 1]
    if len(pieces) != last + 1 - first or sum(piece.size for piece in pieces) != layer.size:
        raise Corrupt(f"the layer {path} has {layer.size} bytes, which is not what it must hold")
    offset = 0
    for piece in pieces:
        digest = parse_digest(piece.digest)
        if len(pieces) == 1 and digest != layer.digest:
            raise Corrupt(f"the layer {path} is not the piece that the manifest names")
        held.setdefault(digest, Held(layer.digest, offset, piece.size))
        offset += piece.size


def _needed(
    found: Manifest, content: Content, record: Record
) -> Iterator[tuple[str, Digest, int | None]]:
    """Yield what a version needs besides its documents: what it is, its blob, its size if told."""
    for number, piece in enumerate(found.pieces):
        yield f"piece {number}", parse_digest(piece.digest), piece.size
    for file in content.files:
        yield f"the file {file.name}", parse_digest(file.digest), file.size
    for what, part in (("the golden set", record.golden), ("the portable form", record.portable)):
        if part is not None and part.get("blob") is not None:
            yield what, parse_digest(part["blob"]), None
