"""A version as an OCI artifact: the manifest of a registry or an image layout, and the way back.

Pure functions over documents; where the bytes lie is the caller's business. The artifact is of the
kind that ModelPack describes (its specification's ``docs/spec.md`` and ``docs/config.md``): a layer
per blob, raw, in the order of ``cat``, each with the path it would have as a file. What a layer
is for is told by that path and nothing else. The same version under the same name is always the
same bytes, whatever its number.

A registry takes some 10,000 layers and 4 MiB of manifest. A version of more than 5,000 pieces puts
neighbouring pieces whose tensors' names begin alike into one layer, by the longest beginning that
leaves no more than 5,000 of them.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from holdfast.archive.oci_reading import (
    ARTIFACT_TYPE,
    CONFIG,
    CONFIG_TYPE,
    DATASET,
    DOC,
    DOCUMENTS,
    FORMAT_NOTE,
    LONGEST_MANIFEST,
    MANIFEST_TYPE,
    MOST_LAYERS,
    NAME_NOTE,
    PATH,
    PIECES,
    WEIGHT,
    Described,
    Documents,
    Held,
    Image,
    held_by,
    parse,
    places,
)
from holdfast.errors import Corrupt, Unsupported
from holdfast.record import FORMAT, Content, Digest, Manifest, canonical, digest_of, parse_digest

__all__ = [
    "ARTIFACT_TYPE",
    "CONFIG_TYPE",
    "DOCUMENTS",
    "LONGEST_MANIFEST",
    "MANIFEST_TYPE",
    "MOST_LAYERS",
    "Described",
    "Documents",
    "Held",
    "Image",
    "Layer",
    "Packed",
    "encode",
    "held_by",
    "layers_of",
    "parse",
    "places",
]

_MOST_PIECES: Final = 5_000

# oras names the files that it pulls by this one and leaves out layers without it.
_TITLE: Final = "org.opencontainers.image.title"
_FORM: Final = re.compile(r"[a-z0-9]{1,16}")


class Layer(NamedTuple):
    """A layer to be: blobs, nearly always one, whose concatenation it is.

    Attributes:
        path: What the layer would be called as a file.
        media_type: Its type.
        blobs: What it holds, in order, each with its size.
        first: Number of its first piece; None when it holds no piece.
    """

    path: str
    media_type: str
    blobs: tuple[tuple[Digest, int], ...]
    first: int | None = None

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(size for _, size in self.blobs)

    @property
    def digest(self) -> Digest | None:
        """Its digest, None where it must be found by hashing its blobs in order."""
        return self.blobs[0][0] if len(self.blobs) == 1 else None


class Packed(NamedTuple):
    """An artifact's own two documents.

    Attributes:
        manifest: Bytes of the OCI manifest.
        config: Bytes of the ModelPack config, which the manifest names.
    """

    manifest: bytes
    config: bytes


def layers_of(
    documents: Documents,
    sizes: Mapping[Digest, int],
    attached: Mapping[str, tuple[Digest, int]] | None = None,
) -> list[Layer]:
    """Lay a version out in layers: documents first, then what the tensors, files and tests are in.

    Args:
        documents: The version's documents.
        sizes: Every blob it needs with its size, as ``read.sizes_of`` returns them.
        attached: Digest and size of its attachments by role.

    Raises:
        Unsupported: It has more files than a registry takes layers.
    """
    _, found, content, record = documents

    def one(path: str, media_type: str, digest: Digest) -> Layer:
        return Layer(path, media_type, ((digest, sizes[digest]),))

    layers = [
        one("manifest.json", CONFIG, documents.manifest_id),
        one("content.json", CONFIG, parse_digest(found.content)),
        one("record.json", DOC, parse_digest(found.record)),
        *_weights(found, content),
    ]
    layers += [one(f"files/{f.name}", WEIGHT, parse_digest(f.digest)) for f in content.files]
    if (blob := (record.golden or {}).get("blob")) is not None:
        layers.append(one("golden.safetensors", DATASET, parse_digest(blob)))
    if (blob := (record.portable or {}).get("blob")) is not None:
        layers.append(one(f"portable.{_form(record.portable)}", WEIGHT, parse_digest(blob)))
    for role, blob in sorted((attached or {}).items()):
        layers.append(Layer(f"attached/{role}", DOC, (blob,)))
    if len(layers) > MOST_LAYERS:
        raise _too_much(f"{len(layers)} layers")
    return layers


def _form(portable: Mapping[str, Any] | None) -> str:
    form = (portable or {}).get("format")
    return form if isinstance(form, str) and _FORM.fullmatch(form) else "bin"


def _too_much(what: str) -> Unsupported:
    return Unsupported(
        f"The version would be an artifact of {what}, which registries do not take.",
        hint="hold push NAME ./another-store",
    )


def _weights(found: Manifest, content: Content) -> Iterator[Layer]:
    """Yield the layers of the pieces, in order."""
    pieces = [(parse_digest(piece.digest), piece.size) for piece in found.pieces]
    start = 0
    for count in _runs(len(pieces), content):
        yield Layer(f"weights/{start:06}", WEIGHT, tuple(pieces[start : start + count]), start)
        start += count


def _runs(count: int, content: Content) -> list[int]:
    """Return how many pieces each layer holds, in order."""
    if count <= _MOST_PIECES:
        return [1] * count
    from holdfast.archive import layout  # numpy comes with it, and few versions need it

    names = [piece[0].name for piece in layout.plan(content.tensors).pieces]
    if len(names) + 1 != count:
        raise Corrupt("the manifest's pieces are not those of the content's tensors")

    def runs(length: int) -> list[int]:
        groups = itertools.groupby(names, key=lambda name: name[:length])
        return [sum(1 for _ in group) for _, group in groups]

    longest = max(map(len, names))
    most = bisect.bisect_right(range(longest), _MOST_PIECES, key=lambda n: len(runs(n)))
    return [1, *runs(most - 1)]  # the header stays by itself


def encode(
    name: str, documents: Documents, layers: Sequence[Layer], digests: Sequence[Digest]
) -> Packed:
    """Write the manifest and the config.

    Args:
        name: What the model is called.
        documents: The version's documents.
        layers: As ``layers_of`` returned them.
        digests: The digest of each.

    Raises:
        Unsupported: The manifest is longer than registries take.
    """
    config = canonical(_config(name, documents, digests))
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _descriptor(CONFIG_TYPE, digest_of(config), len(config)),
            "layers": [_layer(*pair) for pair in zip(layers, digests, strict=True)],
            "annotations": {FORMAT_NOTE: FORMAT, NAME_NOTE: name},
        }
    )
    if len(manifest) > LONGEST_MANIFEST:
        raise _too_much(f"{len(manifest) / 2**20:.1f} MiB of manifest")
    return Packed(manifest, config)


def _config(name: str, documents: Documents, digests: Sequence[Digest]) -> dict[str, Any]:
    """Return the three objects of ModelPack's config, which allows no others."""
    record = documents.record
    descriptor: dict[str, Any] = {"name": name, "createdAt": record.created}
    descriptor["authors"] = [record.author]
    if record.license:
        descriptor["licenses"] = [record.license]
    if record.note:
        descriptor["description"] = record.note
    format_ = "safetensors" if documents.manifest.pieces else documents.content.framework
    return {
        "descriptor": descriptor,
        "config": {"format": format_},
        "modelfs": {"type": "layers", "diffIds": list(digests)},
    }


def _layer(layer: Layer, digest: Digest) -> dict[str, Any]:
    notes = {PATH: layer.path, _TITLE: layer.path}
    if layer.first is not None and len(layer.blobs) > 1:
        notes[PIECES] = f"{layer.first}-{layer.first + len(layer.blobs) - 1}"
    return {**_descriptor(layer.media_type, digest, layer.size), "annotations": notes}


def _descriptor(media_type: str, digest: Digest, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}
