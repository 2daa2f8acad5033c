"""Requests to one registry: who may see credentials, what is tried again, how much is read.

A registry is not trusted: what it sends is bounded in size and time, a redirection never takes the
credentials to another host, and nothing is asked for without TLS unless the user's own URL says so.
Of what it answers only its status and its error code are repeated.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

from holdfast.errors import HoldfastError, RemoteError
from holdfast.plugins import import_extra
from holdfast.remote.oci.challenge import Challenge, best_challenge
from holdfast.remote.oci.credentials import Credentials, credentials_for
from holdfast.remote.oci.place import SCHEMES, Place, is_loopback
from holdfast.remote.oci.words import (
    LONGEST_WAIT,
    Answer,
    Words,
    is_untrusted,
    seconds_to_wait,
    why,
)

__all__ = ["PROGRESS", "Ask", "Session"]

# A transfer that was cut has got on when so many bytes more have come over.
PROGRESS: Final = 1 << 20

_HUB: Final = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_TRIES: Final = 4
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504})
# With these a registry has not taken anything of what it was sent.
_UNTOUCHED: Final = frozenset({429, 503})
_MOST_REDIRECTIONS: Final = 5
_MOST_SAID: Final = 64 << 10  # of an error page
_MOST_TOKEN: Final = 1 << 20
_SLICE: Final = 1 << 20
_CONNECT_SECONDS: Final = 15.0
_SILENT_SECONDS: Final = 60.0
_COMMIT_SECONDS: Final = 600.0  # a registry may copy a large blob before it answers
# Slower than this a transfer is taken for dead: bytes in each so many seconds.
_WINDOW, _LEAST = 60.0, 64 << 10
_SAFE_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


class Ask(NamedTuple):
    """A request.

    Attributes:
        method: GET, HEAD, POST, PATCH or PUT.
        url: An absolute URL.
        use: What it is allowed by: requests of the same use share a token.
        headers: Beside the usual ones.
        body: Bytes to send, in parts.
        repeatable: Whether sending it twice does no harm, so that it is tried again when the
            connection is cut.
    """

    method: str
    url: str
    use: str = "pull"
    headers: Mapping[str, str] = {}
    body: Sequence[bytes | memoryview] | None = None
    repeatable: bool = True


class Session:
    """Connections to a registry, shared by threads; a context manager.

    Args:
        place: Any place in it.
        sleep: Waits.

    Attributes:
        base: Address of the registry.
        shown: The same, for messages.
    """

    def __init__(self, place: Place, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.shown = f"{SCHEMES[0]}://{place.host}"
        self._httpx: Any = import_extra("httpx", needed_for=f"the registry {self.shown}")
        self._place = place
        self._words = Words(place)
        self._sleep = sleep
        scheme = "http" if place.plain else "https"
        self.base = f"{scheme}://{_HUB.get(place.host, place.host)}"
        self._allowed: dict[str, str] = {}
        self._asking = threading.Lock()
        self._making = threading.Lock()
        self._credentials: Credentials | None = None
        self._looked_up = False
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def _client(self, url: str) -> Any:
        """Return the connections for an address; authorities are only read where TLS is spoken."""
        scheme = urlsplit(url).scheme
        with self._making:
            if scheme not in self._clients:
                self._clients[scheme] = self._httpx.Client(
                    verify=scheme != "http",
                    timeout=self._httpx.Timeout(
                        _SILENT_SECONDS, connect=_CONNECT_SECONDS, pool=None
                    ),
                    follow_redirects=False,
                    trust_env=not is_loopback(self._place.host),
                    headers={"User-Agent": "holdfast", "Accept-Encoding": "identity"},
                )
            return self._clients[scheme]

    def ask(self, ask: Ask, *, wanted: Collection[int], most: int = _MOST_SAID) -> Answer:
        """Send a request and read the whole answer.

        Args:
            ask: The request.
            wanted: Statuses that are no failure.
            most: Bytes that the answer may have.

        Raises:
            RemoteError: No answer, another status, or a longer answer; ``interrupted`` where the
                connection was cut and the request cannot just be repeated.
        """
        with self.open(ask, wanted=wanted) as response:
            data = b"" if ask.method == "HEAD" else self._whole(response, most)
            return Answer(response.status_code, response.headers, data)

    @contextlib.contextmanager
    def open(self, ask: Ask, *, wanted: Collection[int]) -> Iterator[Any]:
        """Send a request and give the answer with its body unread; see ``chunks``."""
        response = self._tried(lambda: self._authorised(ask), repeatable=ask.repeatable)
        try:
            if response.status_code not in wanted:
                raise self._refusal(response)
            yield response
        finally:
            response.close()

    def chunks(self, response: Any) -> Iterator[bytes]:
        """Yield the body of an answer as it comes, not decoded.

        Raises:
            RemoteError: It is cut, or comes too slowly to end (``interrupted``); or the registry
                compresses what must come as it is.
        """
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("", "identity"):
            raise self._words.nonsense("a compressed body, which was not asked for")
        since, got = time.monotonic(), 0
        try:
            for chunk in response.iter_raw():
                yield chunk
                got += len(chunk)
                now = time.monotonic()
                if now - since > _WINDOW:
                    if got < _LEAST:
                        raise self._words.cut("it sends almost nothing any more")
                    since, got = now, 0
        except (self._httpx.TransportError, self._httpx.StreamError) as error:
            raise self._words.cut(why(error)) from None

    def beside(self, location: str) -> str:
        """Return the absolute URL that a ``Location`` header means.

        Raises:
            RemoteError: It leads where no registry has to be asked.
        """
        return self._checked(location, f"{self.base}/")

    def _tried(self, act: Callable[[], Any], *, repeatable: bool) -> Any:
        """Do it, again after a while where the registry is busy or the connection was cut."""
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            pause = 0.5 * 2**attempt
            try:
                response = act()
            except self._httpx.TransportError as error:
                if last or not repeatable or is_untrusted(error):
                    raise self._words.unreachable(error) from None
            except (self._httpx.InvalidURL, UnicodeError) as error:
                raise self._words.astray("an address that is none") from error
            else:
                wait, status = seconds_to_wait(response.headers), response.status_code
                if status not in _LATER or last or wait > LONGEST_WAIT:
                    return response
                response.close()
                pause = max(pause, wait)
                if not repeatable and status not in _UNTOUCHED:
                    self._sleep(pause)
                    raise self._words.cut(f"it says {status}")
            self._sleep(pause)
        raise AssertionError  # the last turn returns or raises

    def _authorised(self, ask: Ask) -> Any:
        """Send a request with what allows it, which is asked for when the registry says so."""
        for turn in range(3):
            allowed = self._allowed.get(ask.use)
            response, is_ours = self._followed(ask, allowed)
            if response.status_code != 401 or turn == 2 or not is_ours:
                return response
            challenge = best_challenge(response.headers.get_list("www-authenticate"))
            response.close()
            if challenge is None:
                return response
            self._allow(ask.use, challenge, allowed)
        raise AssertionError  # the last turn returns

    def _followed(self, ask: Ask, allowed: str | None) -> tuple[Any, bool]:
        """Send a request and follow redirections; say whether the registry itself answered."""
        url = self._checked(ask.url)
        for _ in range(_MOST_REDIRECTIONS + 1):
            is_ours = _origin(url) == _origin(self.base)
            response = self._send(ask, url, allowed if is_ours else None)
            to = response.headers.get("location")
            is_reading = ask.method in ("GET", "HEAD")
            if response.status_code not in (301, 302, 303, 307, 308) or not to or not is_reading:
                return response, is_ours
            response.close()
            url = self._checked(to, url)
        raise self._words.astray("in circles")

    def _send(self, ask: Ask, url: str, allowed: str | None) -> Any:
        headers = dict(ask.headers)
        if allowed:
            headers["Authorization"] = allowed
        content = None
        if ask.body is not None:
            headers["Content-Length"] = str(sum(memoryview(part).nbytes for part in ask.body))
            content = _slices(ask.body)
        client = self._client(url)
        request = client.build_request(ask.method, url, headers=headers, content=content)
        if ask.method == "PUT":
            request.extensions["timeout"]["read"] = _COMMIT_SECONDS
        return client.send(request, stream=True)

    def _allow(self, use: str, challenge: Challenge, before: str | None) -> None:
        """Find what allows requests of a use, once for all threads that were turned away."""
        with self._asking:
            if self._allowed.get(use) not in (None, before):
                return
            if not self._looked_up:
                self._credentials = credentials_for(self._place.host)
                self._looked_up = True
            if challenge.scheme == "bearer":
                self._allowed[use] = self._token(challenge)
            elif self._credentials is not None and not self._credentials.is_token:
                self._allowed[use] = self._credentials.basic

    def _token(self, challenge: Challenge) -> str:
        """Ask the token server that the registry names, which gets this registry's credentials."""
        realm = self._checked(challenge.realm)
        asked = [("service", challenge.service)] if challenge.service else []
        asked += [("scope", scope) for scope in challenge.scope.split()]
        known, client = self._credentials, self._client(realm)
        if known is not None and known.is_token:
            form = {"grant_type": "refresh_token", "refresh_token": known.secret}
            form |= {"service": challenge.service, "scope": challenge.scope}
            form["client_id"] = "holdfast"
            request = client.build_request("POST", realm, data=form)
        else:
            headers = {} if known is None else {"Authorization": known.basic}
            url = self._httpx.URL(realm).copy_merge_params(asked)
            request = client.build_request("GET", url, headers=headers)
        response = self._tried(lambda: client.send(request, stream=True), repeatable=True)
        try:
            if response.status_code != 200:
                raise self._refusal(response)
            said = json.loads(self._whole(response, _MOST_TOKEN))
            token = said.get("token") or said.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        finally:
            response.close()
        if not isinstance(token, str) or not _SAFE_TOKEN.fullmatch(token):
            raise self._words.nonsense("its clients to a token server that gives no token")
        return f"Bearer {token}"

    def _whole(self, response: Any, most: int) -> bytes:
        parts, size = [], 0
        for chunk in self.chunks(response):
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                raise self._words.nonsense(f"a longer answer than the {most} bytes that are read")
        return b"".join(parts)

    def _checked(self, to: str, seen_from: str = "") -> str:
        """Refuse an address that the registry has no business to send a client to."""
        ours = urlsplit(self.base)
        try:
            url = urljoin(seen_from, to)
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port  # a port that is none raises
        except ValueError:
            raise self._words.astray("an address that is none") from None
        if parts.username is not None or parts.password is not None or not host:
            raise self._words.astray("an address that is none")
        is_ours = host == ours.hostname
        if (parts.scheme, ours.scheme) == ("http", "https") and is_ours and parts.port is None:
            # Behind a proxy that ends TLS a registry may not know how it is spoken to.
            return parts._replace(scheme=ours.scheme, netloc=ours.netloc).geturl()
        is_near = is_ours or (is_loopback(host) and is_loopback(ours.hostname or ""))
        if parts.scheme == "https" or (parts.scheme == "http" and self._place.plain and is_near):
            return url
        raise self._words.astray(f"{parts.scheme!r:.20} on the host {host!r:.100}")

    def cut(self, why: str) -> RemoteError:
        """Word a transfer that ended before its time."""
        return self._words.cut(why)

    def refusal(self, method: str, answer: Answer) -> HoldfastError:
        """Word an answer that is not the one wanted."""
        known, tried = self._credentials is not None, answer.status in _LATER
        return self._words.refusal(method, answer, known=known, tried=tried)

    def _refusal(self, response: Any) -> HoldfastError:
        data, method = b"", response.request.method
        with contextlib.suppress(RemoteError):
            if method != "HEAD":
                data = self._whole(response, _MOST_SAID)
        return self.refusal(method, Answer(response.status_code, response.headers, data))


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


def _slices(parts: Sequence[bytes | memoryview]) -> Iterator[bytes]:
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, view.nbytes, _SLICE):
            yield bytes(view[start : start + _SLICE])
