"""Requests through ``obstore``, and its errors in our words.

Credentials and the address of the server come from the environment, as obstore reads it
(``AWS_…``, ``GOOGLE_…``, ``AZURE_…``). They are neither stored nor shown: of what a server answers
only its status and its error code are repeated, since the text of a refusal holds parts of the
signature.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeVar

from holdfast.errors import HoldfastError, NoSpace, RemoteError, UsageError
from holdfast.plugins import import_extra
from holdfast.remote.base import Found

__all__ = ["KINDS", "ObstoreRequests", "check_url", "refusal"]

T = TypeVar("T")

# Kinds of URLs to the word for what stands behind them, and a command that names the variables
# which are set, without their values.
KINDS: Final = {
    "s3": ("bucket", "env | grep -o '^AWS_[A-Z_]*'"),
    "gs": ("bucket", "env | grep -o '^GOOGLE_[A-Z_]*'"),
    "az": ("container", "env | grep -o '^AZURE_[A-Z_]*'"),
}
_URL: Final = re.compile(
    r"(?P<kind>[a-z0-9]+)://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<rest>/.*)?"
)
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_STATUS: Final = re.compile(r"status code: ([0-9]{3}) ?([A-Za-z ]*)")
_SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "EntityTooLarge"})
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound"})
_PART: Final = 8 << 20  # of an upload in parts; four at once are on the way
_MOST_PARTS: Final = 9_000  # S3 takes 10,000
_RETRIES: Final = 4
_RETRY_SECONDS: Final = 60.0


def check_url(url: str) -> str:
    """Return the URL of a remote store without a slash at its end.

    Raises:
        UsageError: It is none. It is not repeated when it could hold a password.
    """
    found = _URL.fullmatch(url)
    if found is None or found["kind"] not in KINDS or {"?", "#", "@"} & {*url}:
        shown = "this URL" if "@" in url else f"{url!r:.120}"
        raise UsageError(
            f"{shown} is not the URL of a remote store: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or "
            "az://CONTAINER/FOLDER. Credentials come from the environment, never from the URL.",
            hint="hold init s3://my-bucket/models",
        )
    parts = (found["rest"] or "")[1:].rstrip("/").split("/")
    if parts != [""] and any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        raise UsageError(f"{url!r:.120} has an empty or relative folder in it.")
    return url.rstrip("/")


class ObstoreRequests:
    """Requests to a bucket or container.

    Args:
        url: Its URL and the prefix, as ``check_url`` returns it.

    Attributes:
        url: The same.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._obstore: Any = import_extra("obstore", needed_for=f"the store {url}")
        stores = import_extra("obstore.store", needed_for=f"the store {url}")
        retry = {
            "max_retries": _RETRIES,
            "retry_timeout": dt.timedelta(seconds=_RETRY_SECONDS),
        }
        try:
            self._store = _opened(stores, url, retry)
        except Exception:  # noqa: BLE001 - what it says may repeat a credential
            _, who = KINDS[url.partition(":")[0]]
            raise RemoteError(
                f"{url} cannot be opened with the settings in the environment.", hint=who, ref=url
            ) from None

    def head(self, key: str) -> Found | None:
        """Describe an object, None when it does not exist."""
        meta = self._asked(lambda: self._obstore.head(self._store, key))
        return None if meta is None else _found(meta)

    def get(self, key: str, start: int = 0, end: int | None = None) -> tuple[bytes, Found] | None:
        """Return bytes of an object and what it is, None when it does not exist."""
        whole = end is None

        def ask() -> tuple[bytes, Found]:
            options = {} if whole else {"range": (start, end)}
            got = self._obstore.get(self._store, key, options=options)
            return bytes(got.bytes()), _found(got.meta)

        try:
            return self._asked(ask)
        except RemoteError as error:
            if start or whole or "says 416" not in error.message:
                raise
        whole = True  # no range lies in an empty object
        return self._asked(ask)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object, in parts when it is large."""
        part = max(_PART, memoryview(data).nbytes // _MOST_PARTS)
        self._done(
            lambda: self._obstore.put(
                self._store, key, data, chunk_size=part, max_concurrency=4, mode="overwrite"
            ),
            key,
        )

    def create(self, key: str, data: bytes) -> Found | None:
        """Write an object that does not exist; None when it does."""
        conflicts = (
            self._obstore.exceptions.AlreadyExistsError,
            self._obstore.exceptions.PreconditionError,
        )

        def ask() -> Any:
            try:
                return self._obstore.put(self._store, key, data, mode="create")
            except conflicts:
                return {}

        made = self._done(ask, key)
        return Found(key, len(data), 0.0, _tag(made)) if made else None

    def list(self, folder: str, after: str = "") -> Iterator[Found]:
        """Yield the objects below a folder, a page of a thousand at a time."""
        pages = self._asked(
            lambda: self._obstore.list(self._store, folder, offset=after or None, chunk_size=1000)
        )
        while pages is not None:
            page = self._asked(lambda: next(pages, None))
            if page is None:
                return
            for meta in page:
                yield _found(meta)

    def copy(self, key: str, to: str) -> None:
        """Copy an object inside the bucket."""
        self._asked(lambda: self._obstore.copy(self._store, key, to))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that does not exist is no error."""
        if keys:
            self._asked(lambda: self._obstore.delete(self._store, list(keys)))

    def _done(self, act: Callable[[], T], key: str) -> T:
        """Write; what is "not found" then is the bucket."""
        done = self._asked(act)
        if done is None:
            raise RemoteError(f"{self.url} does not take {key}: it says 404 Not Found.")
        return done

    def _asked(self, act: Callable[[], T]) -> T | None:
        """Run a request; None when there is no such object."""
        try:
            return act()
        except FileNotFoundError as error:
            if _code(str(error)) in _NO_BUCKET:
                self._refused(error)
            return None
        except HoldfastError:
            raise
        except (self._obstore.exceptions.BaseError, ValueError, OSError, TypeError) as error:
            self._refused(error)

    def _refused(self, error: Exception) -> NoReturn:
        raise refusal(self.url, type(error).__name__, str(error)) from None


def _opened(stores: Any, url: str, retry: dict[str, Any]) -> Any:
    if url.startswith("az://"):  # in obstore's own URLs the account comes first
        container, _, prefix = url[5:].partition("/")
        return stores.AzureStore(container, prefix=prefix or None, retry_config=retry)
    return stores.from_url(url, retry_config=retry)


def _found(meta: Any) -> Found:
    return Found(meta["path"], meta["size"], meta["last_modified"].timestamp(), _tag(meta))


def _tag(meta: Any) -> str:
    """Return the entity tag; servers write it with and without quotes."""
    return str(meta.get("e_tag") or meta.get("version") or "").strip('"')


def _code(text: str) -> str:
    found = _CODE.search(text)
    return found.group(1) if found else ""


def refusal(url: str, kind: str, text: str) -> HoldfastError:
    """Word what a server answered, or that it did not, with one next step.

    Args:
        url: The store's.
        kind: Name of obstore's error class.
        text: Its message, of which nothing but code and status is shown.
    """
    code, status = _code(text), _STATUS.search(text)
    said = " ".join(part for part in (status and status.group(1), code) if part)
    said = said or (f"{status.group(1)} {status.group(2)}".strip() if status else kind)
    scheme = url.partition(":")[0]
    what, who = KINDS.get(scheme, KINDS["s3"])
    refused = kind in ("PermissionDeniedError", "UnauthenticatedError") or (
        status is not None and status.group(1) in ("401", "403")
    )
    if code in _NO_BUCKET:
        name = url.partition("://")[2].partition("/")[0]
        return RemoteError(
            f"There is no {what} {name} at the server of {url}, or it is not yours to see.",
            hint=f"hold init {scheme}://ANOTHER-{what.upper()}/models",
            ref=url,
        )
    if code in _FULL or (status is not None and status.group(1) == "507"):
        return NoSpace(
            f"{url} takes no more bytes: the server says {said}. Nothing visible was changed.",
            hint=f"hold prune --dry-run --store {url}",
            ref=url,
        )
    if code in _SKEWED:
        return RemoteError(
            f"{url} refuses requests because this machine's clock is off: the server says {said}.",
            hint="date -u  # compare with the server's, then set the clock",
            ref=url,
        )
    if code in _EXPIRED:
        return RemoteError(
            f"The credentials for {url} have expired: the server says {said}.", hint=who, ref=url
        )
    if refused:
        return RemoteError(
            f"{url} refuses these credentials or what they may do: the server says {said}.",
            hint=who,
            ref=url,
        )
    return _unanswered(url, said, text)


def _unanswered(url: str, said: str, text: str) -> RemoteError:
    if "BadScheme" in text or "URL scheme is not allowed" in text:
        return RemoteError(
            f"The server of {url} is named by an http:// address, which sends everything in clear.",
            hint="export AWS_ALLOW_HTTP=true  # on a network that you trust",
            ref=url,
        )
    if "169.254.169.254" in text or "metadata" in text.lower():
        return RemoteError(
            f"There are no credentials for {url} in the environment.",
            hint="export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
            ref=url,
        )
    if "status code" in text:
        return RemoteError(
            f"{url} did not do what was asked: the server says {said}; "
            "what was sent before is kept, so that trying again goes on from there.",
            hint=f"hold ls --store {url}",
            ref=url,
        )
    slow = "timed out" in text.lower() or "TimedOut" in text
    why = "it does not answer in time" if slow else "it cannot be reached"
    return RemoteError(
        f"The server of {url} did not answer: {why}. "
        "What was sent before is kept, so that trying again goes on from there.",
        hint=f"hold ls --store {url}",
        ref=url,
    )
