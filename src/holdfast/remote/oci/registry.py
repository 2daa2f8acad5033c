"""A repository in a registry: its manifests and blobs, and what refers to a manifest.

Source: OCI distribution specification 1.1. Every byte that comes from a registry is compared with
the digest it was asked by; the registry's word counts for nothing that can be computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from holdfast.errors import Corrupt, RemoteError
from holdfast.record import Digest, digest_of
from holdfast.remote.oci.place import Place
from holdfast.remote.oci.session import PROGRESS, Ask, Session
from holdfast.remote.oci.uploads import Parts, upload
from holdfast.remote.oci.words import Answer

__all__ = ["INDEX_TYPE", "MANIFEST_TYPE", "Part", "Repository", "Stored"]

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"

_KINDS: Final = (
    MANIFEST_TYPE,
    INDEX_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_LONGEST: Final = 4 << 20
_UNKNOWN: Final = "MANIFEST_BLOB_UNKNOWN"
_CUTS: Final = 6
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/(?:[0-9]{1,15}|\*)")


class Stored(NamedTuple):
    """A manifest that came from a registry.

    Attributes:
        digest: Of its bytes, computed here.
        media_type: What the registry calls it.
        data: Its bytes.
    """

    digest: Digest
    media_type: str
    data: bytes


class Part(NamedTuple):
    """Bytes of a layer.

    Attributes:
        start: The first of them.
        size: How many.
        whole: Bytes that the whole layer has.
    """

    start: int
    size: int
    whole: int


class Repository:
    """A repository of a registry.

    Args:
        session: Connections to the registry.
        place: A place in the repository.

    Attributes:
        shown: Its URL, for messages.
    """

    def __init__(self, session: Session, place: Place) -> None:
        self.shown = place.of_repository
        self._session = session
        self._url = f"{session.base}/v2/{place.repository}"

    def size(self, digest: Digest) -> int | None:
        """Return how many bytes a blob has there; None when it is not there.

        Raises:
            RemoteError: The registry refuses or does not say.
        """
        ask = Ask("HEAD", f"{self._url}/blobs/{digest}")
        answer = self._session.ask(ask, wanted=(200, 404))
        if answer.status == 404:
            return None
        text = answer.headers.get("content-length", "")
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise RemoteError(f"{self.shown} does not say how long the blob {digest} is.")
        return int(text)

    def has_beside(self, repository: str, digest: Digest) -> bool:
        """Say whether another repository of the registry holds a blob; no where it is refused."""
        url = f"{self._session.base}/v2/{repository}/blobs/{digest}"
        ask = Ask("HEAD", url, f"look {repository}")
        try:
            return self._session.ask(ask, wanted=(200, 404)).status == 200
        except RemoteError:
            return False

    def send(self, digest: Digest, parts: Parts, *, mount: str | None = None) -> bool:
        """Send a blob; False when it was mounted from another repository instead.

        Raises:
            RemoteError: The registry refuses, lies about what it has, or stays away.
        """
        return upload(self._session, self._url, digest, parts, mount=mount)

    def stream(self, layer: Digest, part: Part) -> Iterator[bytes]:
        """Yield bytes of a layer as they come, going on where a connection was cut.

        They are not hashed here. Just as many come as the part has.

        Args:
            layer: The layer's digest.
            part: What of it.

        Raises:
            RemoteError: The registry refuses, stays away, or sends another number of bytes.
        """
        at, end, cuts = part.start, part.start + part.size, 0
        while at < end:
            before = at
            try:
                for chunk in self._between(layer, at, end, part.whole):
                    at += len(chunk)
                    yield chunk
                if at < end:
                    raise self._wrong(layer, part.whole, f"only {at}")
            except RemoteError as error:
                cuts = 0 if at - before >= PROGRESS else cuts + 1
                if cuts == _CUTS or not error.interrupted:
                    raise

    def _between(self, layer: Digest, start: int, end: int, whole: int) -> Iterator[bytes]:
        is_part = (start, end) != (0, whole)
        headers = {"Range": f"bytes={start}-{end - 1}"} if is_part else {}
        ask = Ask("GET", f"{self._url}/blobs/{layer}", headers=headers)
        with self._session.open(ask, wanted=(200, 206) if is_part else (200,)) as response:
            at, last = 0, whole  # a registry without ranges sends it all
            if response.status_code == 206:
                found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if found is None or int(found.group(1)) != start:
                    raise RemoteError(
                        f"{self.shown} sends another part of the blob {layer} than was asked for.",
                        ref=layer,
                    )
                at, last = start, end
            for chunk in self._session.chunks(response):
                wanted = chunk[max(0, start - at) : max(0, end - at)]
                at += len(chunk)
                if at > last:
                    raise self._wrong(layer, whole, "more")
                if wanted:
                    yield wanted
                if at >= end and last > end:
                    return

    def _wrong(self, digest: Digest, size: int, sent: str) -> RemoteError:
        return RemoteError(
            f"{self.shown} sends {sent} bytes of the blob {digest}, which has {size}.",
            hint=f"hold pull {self.shown}:TAG",
            ref=digest,
        )

    def read(self, digest: Digest, part: Part, *, of: Digest | None = None) -> bytes:
        """Return a small blob, hashed.

        Args:
            digest: The blob's.
            part: Where it is in its layer.
            of: The layer; default: the blob itself.

        Raises:
            Corrupt: Its bytes are not those of its name.
            RemoteError: See ``stream``.
        """
        data = b"".join(self.stream(of or digest, part))
        if digest_of(data) != digest:
            raise self.damaged(digest)
        return data

    def damaged(self, digest: Digest) -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""
        return Corrupt(
            f"{self.shown} sends other bytes than those of the blob {digest}.",
            hint=f"hold pull {self.shown}:TAG  # and tell those who run it if it happens again",
            ref=digest,
        )

    def manifest(self, reference: str) -> Stored | None:
        """Return the manifest of a tag or digest; None when there is none.

        Raises:
            Corrupt: Its bytes are not those of the digest.
            RemoteError: The registry refuses, or names another digest than that of its bytes.
        """
        headers = {"Accept": ", ".join(_KINDS)}
        ask = Ask("GET", f"{self._url}/manifests/{reference}", headers=headers)
        answer = self._session.ask(ask, wanted=(200, 404), most=_LONGEST)
        if answer.status == 404:
            return None
        digest = digest_of(answer.data)
        if reference.startswith("sha256:") and digest != reference:
            raise self.damaged(Digest(reference))
        self._compare(answer, digest)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Stored(digest, kind, answer.data)

    def _compare(self, answer: Answer, digest: Digest) -> None:
        said = answer.headers.get("docker-content-digest", digest)
        if said.startswith("sha256:") and said != digest:
            raise RemoteError(
                f"{self.shown} says that a manifest is {said:.71}, but its bytes are {digest}.",
                ref=digest,
            )

    def put_manifest(
        self, reference: str, data: bytes, media_type: str = MANIFEST_TYPE
    ) -> bool | None:
        """Store a manifest under a tag or its digest; its blobs must be there.

        Returns:
            Whether the registry keeps it in its list of what refers to its ``subject``; None when
            it did not take it, since it does not find the blobs.

        Raises:
            RemoteError: The registry refuses it.
        """
        headers = {"Content-Type": media_type}
        url = f"{self._url}/manifests/{reference}"
        ask = Ask("PUT", url, "push", headers, [data])
        answer = self._session.ask(ask, wanted=(200, 201, 400, 404))
        if answer.status in (400, 404):
            if _UNKNOWN in answer.codes():
                return None
            raise self._session.refusal("PUT", answer)
        self._compare(answer, digest_of(data))
        return "oci-subject" in answer.headers

    def referrers(self, digest: Digest) -> bytes | None:
        """Return the index of what refers to a manifest; None where the registry has no such list.

        Raises:
            RemoteError: The registry refuses.
        """
        ask = Ask("GET", f"{self._url}/referrers/{digest}", headers={"Accept": INDEX_TYPE})
        answer = self._session.ask(ask, wanted=(200, 400, 404, 405), most=_LONGEST)
        return answer.data if answer.status == 200 else None
