"""Sending a blob to a registry so that a connection which is cut costs little.

Source of the requests: OCI distribution specification 1.1, "Pushing blobs". A blob goes in one
request, which every registry takes; in chunks once a connection was cut, or where requests that
large are not taken. After a cut the registry is asked how much it has. Some (distribution 2.8)
forget the whole upload when a chunk is cut: then the blob, never more of the version than it,
begins anew. How much a chunk's own answer says has arrived is not believed, since ECR's lags
behind: the digest at the end decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias
from urllib.parse import urlencode

from holdfast.errors import RemoteError
from holdfast.record import Digest
from holdfast.remote.oci.session import PROGRESS, Ask, Session
from holdfast.remote.oci.words import Answer

__all__ = ["Parts", "upload"]

_CHUNK: Final = 64 << 20
_LARGEST_CHUNK: Final = 1 << 30
_CUTS: Final = 6  # that a blob survives without getting on in between
_FORGOTTEN: Final = (404, 416)  # of an upload: the registry has lost it, or its count
_STANDING: Final = (200, 204, 400, 404, 405, 416)
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,15})")

Parts: TypeAlias = Callable[[], Iterable[bytes | memoryview]]


def upload(
    session: Session,
    repository: str,
    digest: Digest,
    parts: Parts,
    *,
    mount: str | None = None,
) -> bool:
    """Send a blob that is not there.

    Args:
        session: The registry.
        repository: URL of the repository, without a slash at its end.
        digest: The blob's.
        parts: Gives its bytes, once it is known that they must be sent.
        mount: Path of another repository there which may hold it.

    Returns:
        False when the registry took it from there, so that nothing was sent.

    Raises:
        RemoteError: The registry refuses, lies about what it has, or stays away.
    """
    sending = _Upload(session, repository, digest, parts)
    return sending.run(mount)


class _Upload:
    """One blob on its way."""

    def __init__(self, session: Session, repository: str, digest: Digest, parts: Parts) -> None:
        self._session = session
        self._repository = repository
        self._digest = digest
        self._source = parts
        self._parts: list[memoryview] = []
        self._size = 0
        self._chunk = _CHUNK
        self._in_chunks = False
        self._location = ""
        self._at = 0
        self._offered = 0  # bytes of which at least a part may have arrived
        self._went_on_at = -1

    def run(self, mount: str | None) -> bool:
        if not self._begun(mount):
            return False
        self._parts = [memoryview(part).cast("B") for part in self._source()]
        self._size = sum(part.nbytes for part in self._parts)
        cuts, furthest = 0, 0
        while True:
            try:
                self._send_rest()
            except RemoteError as error:
                if not error.interrupted:
                    raise
                if self._is_there():  # it was the answer that was lost
                    return True
                self._in_chunks = True
                if not self._standing():
                    self._begun(None)
                cuts = 0 if self._at - furthest >= PROGRESS else cuts + 1
                furthest = max(furthest, self._at)
                if cuts == _CUTS:
                    raise
            else:
                return True

    def _begun(self, mount: str | None) -> bool:
        """Open an upload; False when the registry has the blob now without one."""
        url, use = f"{self._repository}/blobs/uploads/", "push"
        if mount is not None:
            url += "?" + urlencode({"mount": self._digest, "from": mount})
            use = f"mount {mount}"
        ask = Ask("POST", url, use, {"Content-Length": "0"})
        answer = self._session.ask(ask, wanted=(201, 202))
        if answer.status == 201 and mount is not None:
            return False
        self._at = self._offered = 0
        self._location = ""
        self._follow(answer)
        least = answer.headers.get("oci-chunk-min-length", "")
        if re.fullmatch(r"[0-9]{1,12}", least):
            self._chunk = min(max(_CHUNK, int(least)), _LARGEST_CHUNK)
        return True

    def _send_rest(self) -> None:
        while self._in_chunks and self._size - self._at > self._chunk:
            end = self._at + self._chunk
            answer = self._sent("PATCH", self._location, end, taken=202)
            self._follow(answer)
            self._at = end
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}{urlencode({'digest': self._digest})}"
        answer = self._sent("PUT", url, self._size, taken=201)
        said = answer.headers.get("docker-content-digest", self._digest)
        if said != self._digest:
            raise RemoteError(
                f"{self._session.shown} stored other bytes than were sent: it names another digest "
                f"than {self._digest}.",
                ref=self._digest,
            )

    def _sent(self, method: str, url: str, end: int, *, taken: int) -> Answer:
        """Send the bytes from here to an end."""
        headers = {"Content-Type": "application/octet-stream"}
        if (self._at, end) != (0, self._size) and end > self._at:
            headers["Content-Range"] = f"{self._at}-{end - 1}"
        body = list(self._between(self._at, end))
        self._offered = end
        ask = Ask(method, url, "push", headers, body, repeatable=False)
        too_large = () if self._in_chunks else (413,)
        answer = self._session.ask(ask, wanted=(taken, 204, *_FORGOTTEN, *too_large))
        if answer.status in (*_FORGOTTEN, *too_large):
            raise self._session.cut(f"it has given an upload up and says {answer.status}")
        return answer

    def _between(self, start: int, end: int) -> Iterator[memoryview]:
        offset = 0
        for part in self._parts:
            piece = part[max(0, start - offset) : max(0, end - offset)]
            if piece.nbytes:
                yield piece
            offset += part.nbytes

    def _is_there(self) -> bool:
        ask = Ask("HEAD", f"{self._repository}/blobs/{self._digest}")
        return self._session.ask(ask, wanted=(200, 404)).status == 200

    def _standing(self) -> bool:
        """Ask how much has arrived; False when the upload must begin anew.

        That is so when the registry does not know it, claims what it was not sent, or said the same
        before and then did not take what follows.
        """
        answer = self._session.ask(Ask("GET", self._location, "push"), wanted=_STANDING)
        found = _RANGE.fullmatch(answer.headers.get("range", "").strip())
        if answer.status not in (200, 204) or found is None:
            return False
        there = int(found.group(1)) + (found.group(1) != "0")  # "0-0" is how it says none
        if there > self._offered or there == self._went_on_at:
            return False
        self._follow(answer)
        self._at = self._went_on_at = there
        return True

    def _follow(self, answer: Answer) -> None:
        location = answer.headers.get("location")
        if location:
            self._location = self._session.beside(location)
        if not self._location:
            raise RemoteError(f"{self._session.shown} does not say where an upload goes.")
