"""A bucket in which several machines write: create-only puts that have been tried out.

The log of a team rests on one promise of the server: of several writers that create one object,
one is told that it did. Servers keep it (S3, GCS, Azure, MinIO, Ceph), ignore it, or keep it only
for writers that come one after the other: OpenStack Swift looks whether the object exists when a
request begins and writes it when the request ends. ``Bucket`` tries it out before it first writes
and remembers the answer for a week.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from holdfast.errors import Corrupt, RemoteError
from holdfast.remote.base import Found, Requests, in_parallel

__all__ = ["Bucket"]

_REMEMBERED: Final = 7 * 86_400.0
_RACERS: Final = 8
# Parts of a download, and how many of one object are under way: what is held in memory at once is
# their product for each object that is fetched.
_PART: Final = 8 << 20
_AT_ONCE: Final = 2
_ROUNDS: Final = 4
_BODY: Final = 64 << 10  # a long request leaves a server that is not careful more time to err
_IGNORED, _ONE_BY_ONE, _ATOMIC = "ignored", "one by one", "atomic"
# How long a put that a careless server let in may take until it is written.
_SETTLES: Final = 2.0


class Bucket:
    """Requests to a bucket, and the create-only put that the log is built on.

    Args:
        requests: How the server is asked.
        memory: File that remembers what the server was found to do; None remembers nothing.
        settles: Seconds after which a put that a careless server let in has been written.
        sleep: Waits.

    Attributes:
        url: The store's URL.
    """

    def __init__(
        self,
        requests: Requests,
        memory: Path | None = None,
        *,
        settles: float = _SETTLES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = requests.url
        self.settles = settles
        self.sleep = sleep
        self._requests = requests
        self._memory = memory
        self._kind: str | None = None
        self._probing = threading.Lock()
        self.head = requests.head
        self.get = requests.get
        self.copy = requests.copy
        self.delete = requests.delete

    def list(self, folder: str, after: str = "") -> Iterator[Found]:
        """Yield the objects below a folder whose keys sort behind ``after``."""
        yield from self._requests.list(folder, after)

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Return the bytes of an object in order, several parts under way; None without one.

        One that changes meanwhile gives something else, or ``Corrupt``.
        """
        got = self.get(key, 0, _PART)
        return None if got is None else self._parts(key, got[0], got[1].size)

    def _parts(self, key: str, first: bytes, size: int) -> Iterator[bytes]:
        def part(start: int) -> bytes:
            end = min(start + _PART, size)
            got = self.get(key, start, end)
            return _whole(b"" if got is None else got[0], end - start, key)

        yield _whole(first, min(_PART, size), key)
        starts = range(_PART, size, _PART)
        for at in range(0, len(starts), _AT_ONCE):
            yield from in_parallel(part, starts[at : at + _AT_ONCE])

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object; raises ``RemoteError`` where the server cannot hold a shared log."""
        self.require_create_only()
        self._requests.put(key, data)

    def create(self, key: str, data: bytes) -> Found | None:
        """Create an object; None when somebody else has.

        The bytes must differ from everybody else's. On a server that lets several writers create
        one object, it is the last one's in the end: so the object is read again once all that were
        let in have been written. Where the answer is lost, reading tells whether it is ours.
        """
        careless = self.careless
        try:
            made = self._requests.create(key, data)
        except RemoteError:
            stored = self._requests.get(key)
            if stored is None or stored[0] != data:
                raise
            made = stored[1]
        if made is None or not careless:
            return made
        self.sleep(self.settles)
        stored = self._requests.get(key)
        return stored[1] if stored is not None and stored[0] == data else None

    @property
    def careless(self) -> bool:
        """Whether several writers at once may be told that each created one and the same object."""
        return self.require_create_only() == _ONE_BY_ONE

    def now(self) -> float:
        """Return the time on the server's clock."""
        key = "tmp/clock"
        self._requests.put(key, b"")
        found = self._requests.head(key)
        if found is None:
            raise RemoteError(f"{self.url} does not hold what was just written to it.")
        return found.modified

    def require_create_only(self) -> str:
        """Return how far create-only puts are kept; raises ``RemoteError`` when they are ignored.

        The server is asked once a week, by the first write.
        """
        with self._probing:
            if self._kind is None:
                self._kind = self._recalled() or self._probed()
        return self._kind

    def _probed(self) -> str:
        """Try it out: one after the other, then several at once."""
        places = []
        kind = _ATOMIC
        try:
            for _ in range(_ROUNDS):
                places.append(f"tmp/probe-{secrets.token_hex(8)}")
                won = self._race(places[-1])
                if won and self._requests.create(places[-1], b"again") is not None:
                    raise self._ignores()
                if won > 1:  # none is possible: a careful server may turn all of them away
                    kind = _ONE_BY_ONE
                    break
        finally:
            with contextlib.suppress(RemoteError):
                self._requests.delete(places)
        self._remember(kind)
        return kind

    def _race(self, key: str) -> int:
        start = threading.Barrier(_RACERS)
        won: list[Found | None] = []
        failed: list[Exception] = []

        def run(racer: int) -> None:
            body = bytes([racer]) * _BODY
            start.wait()
            try:
                won.append(self._requests.create(key, body))
            except Exception as error:  # noqa: BLE001 - raised again by the one who asked
                failed.append(error)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(_RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return sum(one is not None for one in won)

    def _ignores(self) -> RemoteError:
        return RemoteError(
            f"The server of {self.url} ignores create-only puts (If-None-Match: *), so two people "
            "saving at once could overwrite each other's versions. Nothing was written; reading "
            "works.",
            hint="hold pull NAME URL  # or keep the store in a folder",
            ref=self.url,
        )

    def _recalled(self) -> str | None:
        if self._memory is None:
            return None
        try:
            place, kind = self._memory.read_text("utf-8").split("\n")
            age = time.time() - self._memory.stat().st_mtime
        except (OSError, ValueError):
            return None
        known = kind in (_ATOMIC, _ONE_BY_ONE) and 0 <= age < _REMEMBERED
        return kind if known and place == self._place() else None

    def _remember(self, kind: str) -> None:
        if self._memory is not None:
            with contextlib.suppress(OSError):
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                self._memory.write_text(f"{self._place()}\n{kind}", "utf-8")

    def _place(self) -> str:
        return hashlib.sha256(self.url.encode()).hexdigest()


def _whole(part: bytes, size: int, key: str) -> bytes:
    if len(part) != size:
        raise Corrupt(f"{key} became shorter while it was being read")
    return part
