"""What object storage is asked for. ``obstore`` answers; tests answer in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

__all__ = ["Found", "Requests", "in_parallel"]

T = TypeVar("T")
R = TypeVar("R")

# Requests at once: enough to hide the way to the server, few enough not to be turned away.
_THREADS: Final = 16


class Found(NamedTuple):
    """An object as the server tells it.

    Attributes:
        key: Its name, below the store's prefix.
        size: Bytes.
        modified: Seconds since the epoch of its last write, on the server's clock.
        tag: The server's mark of these bytes, another one after another write.
    """

    key: str
    size: int
    modified: float
    tag: str


class Requests(Protocol):
    """Requests to one bucket below one prefix; each raises ``RemoteError`` when it is not answered.

    Keys are relative to the prefix, with ``/``.
    """

    url: str

    def head(self, key: str) -> Found | None:
        """Describe an object, None when it does not exist."""

    def get(self, key: str, start: int = 0, end: int | None = None) -> tuple[bytes, Found] | None:
        """Return bytes of an object and what it is, None when it does not exist.

        An ``end`` behind the last byte gives fewer bytes.
        """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object, over one of that name."""

    def create(self, key: str, data: bytes) -> Found | None:
        """Write an object that does not exist (``If-None-Match: *``); None when it does.

        Of what is found only the tag is known for sure.
        """

    def list(self, folder: str, after: str = "") -> Iterable[Found]:
        """Yield the objects below a folder, those whose keys sort behind ``after``."""

    def copy(self, key: str, to: str) -> None:
        """Copy an object inside the bucket."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that does not exist is no error."""


def in_parallel(function: Callable[[T], R], items: Iterable[T], threads: int = _THREADS) -> list[R]:
    """Return what a function says of each item, in order; the first failure ends it.

    Work that has begun is finished, what has not begun is dropped.
    """
    todo = list(items)
    if len(todo) < 2 or threads == 1:
        return [function(item) for item in todo]
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    pool = ThreadPoolExecutor(max_workers=min(threads, len(todo)))
    try:
        futures = [pool.submit(function, item) for item in todo]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((f for f in futures if f.done() and f.exception() is not None), None)
        if failed is not None:
            failed.result()
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
