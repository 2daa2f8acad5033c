"""A server in this process that keeps objects: with a clock, counts, and faults on demand."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.api import remotes
from holdfast.errors import RemoteError
from holdfast.remote.base import Found
from holdfast.remote.bucket import Bucket
from holdfast.store.cache import BlobCache
from holdfast.store.objects import ObjectStore

URL = "s3://bucket/team"
SETTLES = 2.0


class Server:
    """Objects by key, as one prefix of a bucket.

    ``creates`` says how create-only puts are kept: ``"atomic"``, ``"one by one"`` (it looks when a
    request begins and writes when it ends, as OpenStack Swift does) or ``"ignored"``.
    ``before`` is called with (verb, key) ahead of each request and may raise. What is in
    ``unlisted`` is there but not in its lists, which lag behind as those of some servers do.
    """

    def __init__(self, creates: str = "atomic") -> None:
        self.url = URL
        self.creates = creates
        self.objects: dict[str, tuple[bytes, Found]] = {}
        self.clock = 1_000_000.0
        self.slow = 0.02
        self.unlisted: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda *_: None
        self._lock = threading.Lock()
        self._flying = threading.Condition(self._lock)
        self._let_in: dict[object, float] = {}
        self._writes = 0

    def counts(self) -> dict[str, int]:
        """Return requests by verb since the last call."""
        found = collections.Counter(verb for verb, _ in self.asked)
        self.asked.clear()
        return dict(found)

    def age(self, key: str, seconds: float) -> None:
        data, found = self.objects[key]
        self.objects[key] = (data, found._replace(modified=found.modified - seconds))

    def flip(self, key: str) -> None:
        data, found = self.objects[key]
        wrong = bytearray(data)
        wrong[len(wrong) // 2] ^= 1
        self.objects[key] = (bytes(wrong), found)

    def _ask(self, verb: str, key: str) -> None:
        self.asked.append((verb, key))
        self.before(verb, key)

    def _write(self, key: str, data: bytes) -> Found:
        self._writes += 1
        found = Found(key, len(data), self.clock, f"tag-{self._writes}")
        self.objects[key] = (bytes(data), found)
        return found

    def head(self, key: str) -> Found | None:
        self._ask("head", key)
        with self._lock:
            return self.objects[key][1] if key in self.objects else None

    def get(self, key: str, start: int = 0, end: int | None = None) -> tuple[bytes, Found] | None:
        self._ask("get", key)
        with self._lock:
            if key not in self.objects:
                return None
            data, found = self.objects[key]
        if start and start >= len(data):
            raise RemoteError("the server says 416 InvalidRange")
        return data[start:end], found

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._ask("put", key)
        with self._lock:
            self._write(key, bytes(data))

    def create(self, key: str, data: bytes) -> Found | None:
        self._ask("create", key)
        me = object()
        with self._lock:
            there = key in self.objects
            if self.creates == "atomic" and not there:
                return self._write(key, data)
            if not there or self.creates == "ignored":
                self._let_in[me] = self.clock
        if there and self.creates != "ignored":
            return None
        time.sleep(self.slow)
        with self._flying:
            del self._let_in[me]
            self._flying.notify_all()
            return self._write(key, data)

    def settle(self, seconds: float) -> None:
        """Let time pass; no put that was let in takes longer than ``SETTLES``."""
        with self._flying:
            then = self.clock + seconds
            self._flying.wait_for(
                lambda: all(began > then - SETTLES for began in self._let_in.values())
            )
            self.clock = max(self.clock, then)

    def list(self, folder: str, after: str = "") -> Iterator[Found]:
        self._ask("list", folder)
        with self._lock:
            found = [item for key, (_, item) in self.objects.items() if key not in self.unlisted]
        yield from (
            item for item in sorted(found) if item.key.startswith(f"{folder}/") and item.key > after
        )

    def copy(self, key: str, to: str) -> None:
        self._ask("copy", key)
        with self._lock:
            self._write(to, self.objects[key][0])

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._ask("delete", key)
            with self._lock:
                self.objects.pop(key, None)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def make_server() -> type[Server]:
    return Server


@pytest.fixture
def bucket_of() -> Callable[..., Bucket]:
    """Return a bucket at a server whose waiting makes the server's clock go."""

    def make(server: Server, memory: Path | None = None) -> Bucket:
        return Bucket(server, memory, settles=SETTLES, sleep=server.settle)

    return make


@pytest.fixture
def blobs_at(tmp_path: Path, bucket_of: Callable[..., Bucket]) -> Callable[..., ObjectStore]:
    """Open the store at a server, as the machine of the given name."""

    def open_(server: Server, machine: str = "here", limit: int = 1 << 30) -> ObjectStore:
        cache = BlobCache(tmp_path / "caches" / machine, limit)
        return ObjectStore.create(bucket_of(server), cache)

    return open_


@pytest.fixture
def store_at(
    monkeypatch: pytest.MonkeyPatch, bucket_of: Callable[..., Bucket], tmp_path: Path
) -> Callable[..., Any]:
    """Open a whole ``holdfast.Store`` at a server, as the machine of the given name."""

    def open_(server: Server, machine: str = "here") -> Any:
        monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "machines" / machine))
        monkeypatch.setattr(remotes, "_bucket", lambda _: bucket_of(server))
        return holdfast.Store.create(URL)

    return open_
