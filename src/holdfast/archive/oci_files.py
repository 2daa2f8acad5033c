"""A version as an image with ordinary files, for programs that mount it: one layer, a plain tar.

Below ``models/`` lie ``model.safetensors``, which is the pieces one after the other, and what else
the version is made of, under the paths that ``oci`` gives to layers. Everything about the tar but
the blobs follows from the version's documents, so that each blob has a known place in it and can be
read without unpacking. Sources: OCI image specification 1.1 ("Image Layer Filesystem Changeset",
"Image Configuration"); the tar headers are GNU's, as Python writes them.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from holdfast.archive import oci
from holdfast.archive.oci_reading import Held
from holdfast.errors import Corrupt
from holdfast.record import FORMAT, Digest, canonical, digest_of, parse_digest

__all__ = ["Blob", "FilesImage", "Tar", "documents_in", "encode", "files_of", "held_by", "parse"]

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_FOLDER: Final = "models"
_WEIGHTS: Final = "model.safetensors"
_BLOCK: Final = tarfile.BLOCKSIZE
_FORMAT: Final = "vnd.holdfast.format"
_NAME: Final = "vnd.holdfast.name"
# The version's own documents, and the blobs whose sizes none of them tells: digest=size.
_SIZES: Final = "vnd.holdfast.sizes"
_SIZE: Final = re.compile(r"(sha256:[0-9a-f]{64})=(0|[1-9][0-9]{0,17})")
_DOCUMENTS: Final = ("manifest.json", "content.json", "record.json")
_BEGINNING: Final = "1970-01-01T00:00:00Z"

Blob: TypeAlias = tuple[Digest, int]


class Tar(NamedTuple):
    """A tar to be.

    Attributes:
        segments: Its parts in order: bytes, or a blob with its size.
        places: Where each blob begins.
        size: Bytes of the whole.
    """

    segments: list[bytes | Blob]
    places: dict[Digest, int]
    size: int


class FilesImage(NamedTuple):
    """A manifest of such an image that was read; nothing but its own shape is known to be true.

    Attributes:
        name: What the model was called where it was packed.
        layer: Digest and size of the only layer.
        documents: The manifest, the content and the record.
        sizes: Blobs whose sizes no document tells.
    """

    name: str
    layer: Blob
    documents: tuple[Blob, Blob, Blob]
    sizes: Mapping[Digest, int]


def files_of(layers: Sequence[oci.Layer]) -> Tar:
    """Lay out in files what ``oci.layers_of`` returned."""
    return _tar(list(_members(layers)))


def _members(layers: Sequence[oci.Layer]) -> Iterator[tuple[str, tuple[Blob, ...]]]:
    """Yield files with their blobs; the pieces are one file, in the place of the first."""
    weights = tuple(blob for layer in layers if layer.first is not None for blob in layer.blobs)
    for layer in layers:
        if layer.first is None:
            yield layer.path, layer.blobs
        elif layer.first == 0:
            yield _WEIGHTS, weights


def _tar(members: Sequence[tuple[str, tuple[Blob, ...]]], *, ended: bool = True) -> Tar:
    segments: list[bytes | Blob] = []
    places: dict[Digest, int] = {}
    folders: set[str] = set()
    at = 0
    for path, blobs in members:
        size = sum(size for _, size in blobs)
        head = _header(f"{_FOLDER}/{path}", size, folders)
        segments.append(head)
        at += len(head)
        for digest, length in blobs:
            places.setdefault(digest, at)
            at += length
        segments += blobs
        padding = bytes(-size % _BLOCK)
        segments.append(padding)
        at += len(padding)
    if ended:
        segments.append(bytes(2 * _BLOCK))
        at += 2 * _BLOCK
    return Tar([part for part in segments if part], places, at)


def _header(path: str, size: int, folders: set[str]) -> bytes:
    """Return the header of a file, after those of the folders that it is the first in."""
    data = b""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if folder not in folders:
            folders.add(folder)
            data += _entry(folder, tarfile.DIRTYPE, 0, 0o755)
    return data + _entry(path, tarfile.REGTYPE, size, 0o644)


def _entry(path: str, kind: bytes, size: int, mode: int) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.type, entry.size, entry.mode = kind, size, mode
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def encode(
    name: str, documents: oci.Documents, sizes: Mapping[Digest, int], layer: Blob
) -> oci.Packed:
    """Write the manifest and the image's configuration.

    Args:
        name: What the model is called.
        documents: The version's documents.
        sizes: Every blob the version needs with its size.
        layer: Digest and size of the tar.
    """
    config = canonical(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": _BEGINNING,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer[0]]},
        }
    )
    told = {f"{digest}={sizes[digest]}": None for digest in _untold(documents)}
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST_TYPE,
            "config": _descriptor(_CONFIG, (digest_of(config), len(config))),
            "layers": [_descriptor(_LAYER, layer)],
            "annotations": {_FORMAT: FORMAT, _NAME: name, _SIZES: " ".join(told)},
        }
    )
    return oci.Packed(manifest, config)


def _untold(documents: oci.Documents) -> list[Digest]:
    """Return the documents, and the blobs of which only the digest is named."""
    parts = [part or {} for part in (documents.record.golden, documents.record.portable)]
    named = [documents.manifest.content, documents.manifest.record]
    named += [part["blob"] for part in parts if part.get("blob") is not None]
    return [documents.manifest_id, *map(parse_digest, named)]


def _descriptor(media_type: str, blob: Blob) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": blob[0], "size": blob[1]}


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    config: _Descriptor
    layers: list[_Descriptor]
    annotations: dict[str, str] | None = None


def parse(data: bytes) -> FilesImage | None:
    """Read the manifest of an image with files; None when it is a manifest of something else.

    Raises:
        Corrupt: It is one, and contradicts itself.
    """
    try:
        found = msgspec.json.decode(data, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    notes = found.annotations or {}
    if found.config.media_type != _CONFIG or notes.get(_FORMAT) != FORMAT or _SIZES not in notes:
        return None
    stated = [_SIZE.fullmatch(word) for word in notes[_SIZES][:1000].split(" ")]
    told = {parse_digest(item[1]): int(item[2]) for item in stated if item is not None}
    kinds = [layer.media_type for layer in found.layers]
    if kinds != [_LAYER] or len(told) != len(stated) or not 3 <= len(told) <= 5:
        raise Corrupt("the image's manifest does not say what its files are")
    layer = found.layers[0]
    manifest, content, record, *_ = told.items()
    documents = (manifest, content, record)
    return FilesImage(
        notes.get(_NAME, ""), (parse_digest(layer.digest), layer.size), documents, told
    )


def documents_in(image: FilesImage) -> dict[Digest, Held]:
    """Return where the three documents are: at the beginning, whatever follows."""
    pairs = zip(_DOCUMENTS, image.documents, strict=True)
    tar = _tar([(path, (blob,)) for path, blob in pairs], ended=False)
    return _held(tar, image, dict(image.documents))


def held_by(image: FilesImage, documents: oci.Documents) -> dict[Digest, Held]:
    """Return where each blob is that the version needs.

    Raises:
        Corrupt: The image is not that of this version.
    """
    _, found, content, record = documents
    sizes = dict(image.sizes)
    sizes |= {parse_digest(piece.digest): piece.size for piece in found.pieces}
    sizes |= {parse_digest(file.digest): file.size for file in content.files}
    lacking = [digest for digest in _untold(documents) if digest not in sizes]
    if [documents.manifest_id, found.content, found.record] != [d for d, _ in image.documents]:
        raise Corrupt("the image's documents are not those that its manifest names")
    if lacking or record.content != found.content:
        raise Corrupt("the image's manifest does not say what its files are")
    tar = files_of(oci.layers_of(documents, sizes))
    if tar.size != image.layer[1]:
        raise Corrupt(f"the image's layer has {image.layer[1]} bytes, and should have {tar.size}")
    return _held(tar, image, sizes)


def _held(tar: Tar, image: FilesImage, sizes: Mapping[Digest, int]) -> dict[Digest, Held]:
    return {digest: Held(image.layer[0], at, sizes[digest]) for digest, at in tar.places.items()}
