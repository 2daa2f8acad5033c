"""Deletions in a bucket, announced before they happen, so that writers elsewhere can object.

A bucket has no rename and no clock that a writer could set, so a deletion cannot set a blob aside
and look again as it does in a folder. Instead it says what it will delete (``prune/<id>.json``),
lets the grace period pass on the server's clock, and then one create-only object settles what
becomes of it (``prune/<id>.decided.json``): either the deletion writes it, or a writer that needs
one of the blobs did so before, and nothing is deleted. A writer that comes too late waits for
``prune/<id>.done``, or until the one that deletes must have stopped, and puts again what is gone.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from holdfast.errors import Corrupt, RemoteError
from holdfast.record import FORMAT, Digest, canonical, parse_digest, parse_json
from holdfast.remote.base import Found
from holdfast.remote.bucket import Bucket

__all__ = ["LEASE", "Intent", "Intents"]

FOLDER: Final = "prune"
# Who has decided to delete stops after half of this; writers wait for all of it.
LEASE: Final = 900.0
_POLL: Final = 1.0
_KEPT_SECONDS: Final = 86_400.0
_DECIDED, _DONE = ".decided.json", ".done"


class Intent(NamedTuple):
    """An announced deletion.

    Attributes:
        id: Random.
        announced: When, on the server's clock.
        decided: When it was decided, or None.
        done: Whether it has been carried out.
    """

    id: str
    announced: float
    decided: float | None
    done: bool

    @property
    def key(self) -> str:
        """Where it is."""
        return f"{FOLDER}/{self.id}.json"


class Intents:
    """The announced deletions of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._named: dict[str, frozenset[Digest]] = {}

    def all(self) -> list[Intent]:
        """Return every deletion that was announced and not swept, oldest first: one request."""
        found = {item.key.removeprefix(f"{FOLDER}/"): item for item in self._bucket.list(FOLDER)}
        intents = [
            _intent(name.removesuffix(".json"), item, found)
            for name, item in found.items()
            if name.endswith(".json") and not name.endswith(_DECIDED)
        ]
        return sorted(intents, key=lambda intent: (intent.announced, intent.id))

    def blobs(self, intent: Intent) -> frozenset[Digest]:
        """Return what an intent names; nothing when it is gone.

        Raises:
            Corrupt: It is damaged: nobody may delete by it, and no writer trust it.
        """
        if intent.id not in self._named:
            got = self._bucket.get(intent.key)
            self._named[intent.id] = frozenset() if got is None else _parsed(got[0], intent.key)
        return self._named[intent.id]

    def announce(self, digests: Iterable[Digest]) -> Intent:
        """Say that blobs will be deleted."""
        named = frozenset(digests)
        identifier = secrets.token_hex(16)
        intent = Intent(identifier, 0.0, None, done=False)
        data = canonical({"format": FORMAT, "blobs": sorted(named)})
        found = self._bucket.create(intent.key, data) and self._bucket.head(intent.key)
        if found is None:
            raise RemoteError(f"{self._bucket.url} did not keep what prune announced.")
        self._named[identifier] = named
        return intent._replace(announced=found.modified)

    def decide(self, intent: Intent, *, delete: bool) -> bool:
        """Settle what becomes of an intent; False when somebody else has settled it otherwise."""
        key = f"{FOLDER}/{intent.id}{_DECIDED}"
        data = canonical({"format": FORMAT, "delete": delete, "attempt": secrets.token_hex(16)})
        if self._bucket.create(key, data) is None:
            got = self._bucket.get(key)
            return got is not None and (got[0] == data or (not delete and not _deletes(got[0])))
        # Swept meanwhile, decision and all? Then this one decides nothing any more.
        if self._bucket.head(intent.key) is None:
            self._bucket.delete([key])
            return False
        return True

    def finish(self, intent: Intent) -> None:
        """Say that an intent has been carried out."""
        self._bucket.put(f"{FOLDER}/{intent.id}{_DONE}", b"")

    def withdraw(self, intent: Intent) -> None:
        """Remove an intent, its decision last: see ``decide``."""
        self._bucket.delete([intent.key])
        names = (_DECIDED, _DONE)
        self._bucket.delete([f"{FOLDER}/{intent.id}{name}" for name in names])

    def sweep(self, now: float) -> None:
        """Remove intents that were settled more than a day ago."""
        for intent in self.all():
            if intent.decided is not None and now - intent.decided > _KEPT_SECONDS:
                self.withdraw(intent)

    def keep(self, digests: Collection[Digest]) -> frozenset[Digest]:
        """Object to the deletion of blobs that are needed.

        Returns:
            Blobs that a deletion may have taken before this: look, and put again what is gone.
        """
        wanted, lost = frozenset(digests), set[Digest]()
        for intent in self.all() if wanted else ():
            named = self._wanted(intent, wanted)
            if not named:
                continue
            if intent.decided is None and self.decide(intent, delete=False):
                continue
            got = self._bucket.get(f"{FOLDER}/{intent.id}{_DECIDED}")
            if got is None or not _deletes(got[0]):
                continue
            self._wait(intent)
            lost |= named
        return frozenset(lost)

    def _wanted(self, intent: Intent, wanted: frozenset[Digest]) -> frozenset[Digest]:
        try:
            return self.blobs(intent) & wanted
        except Corrupt:  # nobody can say what it names
            return wanted

    def _wait(self, intent: Intent) -> None:
        """Wait until a decided deletion is over, or its time is."""
        done = f"{FOLDER}/{intent.id}{_DONE}"
        started = time.monotonic()
        while self._bucket.head(done) is None:
            decided = self._bucket.head(f"{FOLDER}/{intent.id}{_DECIDED}")
            if decided is None or self._bucket.now() - decided.modified > LEASE:
                return
            if time.monotonic() - started > 2 * LEASE:
                raise RemoteError(f"{self._bucket.url}: a prune does not end.", hint="hold prune")
            self._bucket.sleep(_POLL)


def _intent(identifier: str, item: Found, found: dict[str, Found]) -> Intent:
    decided = found.get(identifier + _DECIDED)
    when = None if decided is None else decided.modified
    return Intent(identifier, item.modified, when, done=identifier + _DONE in found)


def _parsed(data: bytes, key: str) -> frozenset[Digest]:
    document = parse_json(data, key)
    with contextlib.suppress(KeyError, TypeError):
        if document["format"] == FORMAT:
            return frozenset(parse_digest(text) for text in document["blobs"])
    raise Corrupt(f"{key} is not what a prune announces.", hint="hold prune")


def _deletes(data: bytes) -> bool:
    """Read a decision; one that cannot be read might be to delete."""
    try:
        document: Any = parse_json(data, "a decision of prune")
        return document["delete"] is not False
    except (Corrupt, KeyError, TypeError):
        return True
