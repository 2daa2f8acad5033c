"""What is put beside a manifest in a registry: a blob in a manifest of its own that refers to it.

Source: OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema". A
registry that keeps no list (distribution 2.8) gets the list as an index under a tag that is spelled
like the digest. Registries cannot replace a tag on condition, so whoever adds to that index reads
it again afterwards, and adds anew where somebody else has written over the addition. What is
written over after that is missing until the same is put again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.errors import Corrupt, RemoteError
from holdfast.record import Digest, canonical, digest_of, parse_digest
from holdfast.remote.oci.registry import INDEX_TYPE, MANIFEST_TYPE, Part, Repository, Stored

__all__ = ["Beside", "Listed", "put_beside", "read_beside", "those_beside"]

_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY: Final = b"{}"
_MOST: Final = 1_000  # entries of an index that are considered
_TURNS: Final = 5  # times that the index under a tag is written


class Beside(NamedTuple):
    """A blob beside a manifest.

    Attributes:
        kind: What it is: the manifest's ``artifactType`` and the blob's media type.
        notes: Annotations of its manifest.
        data: Its bytes.
    """

    kind: str
    notes: Mapping[str, str]
    data: bytes


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of such a list, as it came; nothing of it is checked.

    Attributes:
        media_type: Of the manifest.
        digest: Of the manifest.
        size: Of the manifest.
        artifact_type: What it is about.
        annotations: Of the manifest.
    """

    media_type: str
    digest: str
    size: int
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    manifests: list[Listed]


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    layers: list[Listed]
    subject: Listed | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


def put_beside(repository: Repository, subject: Stored, beside: Beside) -> bool:
    """Put a blob beside a manifest; the same one twice is there once.

    Returns:
        False when it was there.

    Raises:
        RemoteError: The registry refuses.
    """
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": beside.kind,
            "config": _descriptor(_EMPTY_TYPE, _EMPTY),
            "layers": [_descriptor(beside.kind, beside.data)],
            "subject": _descriptor(subject.media_type, subject.data),
            "annotations": dict(beside.notes),
        }
    )
    digest = digest_of(manifest)
    if any(entry.digest == digest for entry in those_beside(repository, subject.digest)):
        return False
    for data in (_EMPTY, beside.data):
        _send(repository, data)
    is_listed = repository.put_manifest(digest, manifest)
    if is_listed is None:
        raise RemoteError(f"{repository.shown} does not find what was just sent to it.")
    if not is_listed:
        entry = {**_descriptor(MANIFEST_TYPE, manifest), "artifactType": beside.kind}
        entry["annotations"] = dict(beside.notes)
        _list(repository, subject.digest, entry)
    return True


def _send(repository: Repository, data: bytes) -> None:
    digest = digest_of(data)
    if repository.size(digest) != len(data):
        repository.send(digest, lambda: [data])


def those_beside(repository: Repository, subject: Digest) -> list[Listed]:
    """Return what the registry says is beside a manifest; nothing of it is checked.

    Raises:
        RemoteError: The registry refuses.
        Corrupt: What it sends is no index.
    """
    data = repository.referrers(subject)
    if data is None:
        tagged = repository.manifest(_tag(subject))
        data = None if tagged is None else tagged.data
    if data is None:
        return []
    index: _Index = _decoded(data, _Index)
    return index.manifests[:_MOST]


def read_beside(repository: Repository, subject: Digest, listed: Listed, *, most: int) -> Beside:
    """Read what is listed beside a manifest, and see that it refers to it.

    Args:
        repository: Where.
        subject: The manifest's digest.
        listed: One of what ``those_beside`` returned.
        most: Bytes that it may have.

    Raises:
        Corrupt: It refers to something else, is damaged, or longer.
        RemoteError: The registry refuses.
    """
    stored = repository.manifest(parse_digest(listed.digest))
    if stored is None:
        raise Corrupt(f"{repository.shown} lists {listed.digest} and does not have it.")
    found = _decoded(stored.data, _Manifest)
    if found.subject is None or found.subject.digest != subject or len(found.layers) != 1:
        raise Corrupt(
            f"{repository.shown} lists {listed.digest} as being about {subject}, which it is not.",
            ref=stored.digest,
        )
    layer = found.layers[0]
    if found.artifact_type is None or not 0 <= layer.size <= most:
        raise Corrupt(f"{listed.digest} in {repository.shown} is of no kind, or too long.")
    data = repository.read(parse_digest(layer.digest), Part(0, layer.size, layer.size))
    return Beside(found.artifact_type, found.annotations or {}, data)


def _list(repository: Repository, subject: Digest, entry: Mapping[str, Any]) -> None:
    """Add to the index under the subject's tag, beside whatever others have put there.

    What was in any index that was seen meanwhile goes into the next one, too: whoever wrote over
    this entry may have lost others' in the same way.
    """
    tag, known = _tag(subject), {str(entry["digest"]): entry}
    index = _tagged(repository, tag)
    for _ in range(_TURNS):
        known = {**{str(each.get("digest")): each for each in index["manifests"]}, **known}
        index["manifests"] = [*known.values()]
        repository.put_manifest(tag, msgspec.json.encode(index), INDEX_TYPE)
        index = _tagged(repository, tag)
        if any(each.get("digest") == entry["digest"] for each in index["manifests"]):
            return
    raise RemoteError(
        f"Others write the list of what is beside a manifest in {repository.shown} at the same "
        f"time: after {_TURNS} tries what was sent is not in it.",
        hint=f"hold push NAME {repository.shown}:TAG  # what was sent is not sent again",
        ref=repository.shown,
    )


def _tagged(repository: Repository, tag: str) -> dict[str, Any]:
    """Return the index under a tag as it is, an empty one where there is none."""
    stored = repository.manifest(tag)
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX_TYPE}
    if stored is not None:
        index = _decoded(stored.data, dict[str, Any])
    listed = index.get("manifests")
    index["manifests"] = (
        [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    )
    return index


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"the list of what refers to a manifest is none: {error!s:.200}") from error


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _tag(digest: Digest) -> str:
    return digest.replace(":", "-")
