"""Sending a blob to a registry so that a connection which is cut costs little.

Source of the requests: OCI distribution specification 1.1, "Pushing blobs". A small blob goes in
one request. A large one goes in chunks; after a cut the registry is asked how much it has. Some
(distribution 2.8) forget the whole upload when a chunk is cut: then the blob, never more of the
version than it, begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import urlencode

from holdfast.errors import RemoteError
from holdfast.record import Digest
from holdfast.remote.oci.session import PROGRESS, Answer, Ask, Session
from holdfast.remote.oci.words import Interrupted

__all__ = ["upload"]

_WHOLE: Final = 4 << 20
_CHUNK: Final = 64 << 20
_LARGEST_CHUNK: Final = 1 << 30
_CUTS: Final = 6  # that a blob survives without getting on in between
_FORGOTTEN: Final = (404, 416)  # of an upload: the registry has lost it, or its count
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,15})")

Sent = Callable[[int], None]


def upload(
    session: Session,
    repository: str,
    digest: Digest,
    parts: Sequence[bytes | memoryview],
    *,
    mount: str | None = None,
) -> bool:
    """Send a blob that is not there.

    Args:
        session: The registry.
        repository: URL of the repository, without a slash at its end.
        digest: The blob's.
        parts: Its bytes.
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

    def __init__(
        self, session: Session, repository: str, digest: Digest, parts: Sequence[bytes | memoryview]
    ) -> None:
        self._session = session
        self._repository = repository
        self._digest = digest
        self._parts = [memoryview(part).cast("B") for part in parts]
        self._size = sum(part.nbytes for part in self._parts)
        self._chunk = _CHUNK
        self._location = ""
        self._at = 0

    def run(self, mount: str | None) -> bool:
        if not self._begun(mount):
            return False
        cuts, furthest = 0, 0
        while True:
            try:
                self._send_rest()
            except Interrupted:
                if self._is_there():  # it was the answer that was lost
                    return True
                if not self._standing():
                    self._at = 0
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
        self._follow(answer)
        least = answer.headers.get("oci-chunk-min-length", "")
        if re.fullmatch(r"[0-9]{1,12}", least):
            self._chunk = min(max(_CHUNK, int(least)), _LARGEST_CHUNK)
        return True

    def _send_rest(self) -> None:
        while self._size > _WHOLE and self._at < self._size:
            end = min(self._at + self._chunk, self._size)
            headers = {"Content-Type": "application/octet-stream"}
            if (self._at, end) != (0, self._size):
                headers["Content-Range"] = f"{self._at}-{end - 1}"
            ask = self._ask("PATCH", self._location, headers, end)
            answer = self._session.ask(ask, wanted=(202, *_FORGOTTEN))
            if answer.status in _FORGOTTEN:
                raise Interrupted(f"{self._session.shown} has lost count of an upload.")
            self._follow(answer)
            if self._told(answer, most=end, usual=end) != end:
                raise Interrupted(f"{self._session.shown} takes only a part of what it is sent.")
            self._at = end
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}{urlencode({'digest': self._digest})}"
        headers = {"Content-Type": "application/octet-stream"}
        ask = self._ask("PUT", url, headers, self._size)
        answer = self._session.ask(ask, wanted=(201, 204, *_FORGOTTEN))
        if answer.status in _FORGOTTEN:
            raise Interrupted(f"{self._session.shown} does not know an upload any more.")
        said = answer.headers.get("docker-content-digest", self._digest)
        if said != self._digest:
            raise RemoteError(
                f"{self._session.shown} stored other bytes than were sent: it names another digest "
                f"than {self._digest}.",
                ref=self._digest,
            )
        self._at = self._size

    def _ask(self, method: str, url: str, headers: dict[str, str], end: int) -> Ask:
        body = list(self._between(self._at, end))
        return Ask(method, url, "push", headers, body, repeatable=False)

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
        """Ask how much has arrived; False when the upload is not known any more."""
        if self._size <= _WHOLE:
            return False
        ask = Ask("GET", self._location, "push")
        answer = self._session.ask(ask, wanted=(200, 204, 400, 404, 405, 416))
        if answer.status not in (200, 204) or "range" not in answer.headers:
            return False
        self._follow(answer)
        self._at = self._told(answer, most=self._size, usual=0)
        return True

    def _follow(self, answer: Answer) -> None:
        location = answer.headers.get("location")
        if location:
            self._location = self._session.beside(location)
        if not self._location:
            raise RemoteError(f"{self._session.shown} does not say where an upload goes.")

    def _told(self, answer: Answer, *, most: int, usual: int) -> int:
        """Return how many bytes the registry says it has; ``0-0`` is how it says none."""
        text = answer.headers.get("range")
        if text is None:
            return usual
        found = _RANGE.fullmatch(text.strip())
        there = -1 if found is None else int(found.group(1)) + (found.group(1) != "0")
        if not 0 <= there <= most:
            raise RemoteError(
                f"{self._session.shown} says {text!r:.40} of an upload of which it was sent "
                f"{most} bytes.",
                ref=self._digest,
            )
        return there
