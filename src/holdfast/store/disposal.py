"""Deleting blobs in a bucket: announced first, then decided, then done; see ``intents``."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from holdfast.record import Digest, digest_hex, parse_digest
from holdfast.remote.base import in_parallel
from holdfast.remote.bucket import Bucket
from holdfast.store.base import Disposal, Unneeded
from holdfast.store.bucket_coded import BucketCoded
from holdfast.store.intents import LEASE, Intent, Intents

__all__ = ["BLOBS", "Deletions", "Relied", "blob_key"]

BLOBS: Final = "blobs/sha256"
_DELETED_AT_ONCE: Final = 500


def blob_key(digest: Digest) -> str:
    """Return where a blob is; raises ``Corrupt`` for what is no digest."""
    return f"{BLOBS}/{digest_hex(parse_digest(digest))}"


class Relied:
    """What one open store has put or found, and so relies on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Digest, None] = {}
        self._seen: set[Digest] = set()
        self._missed: set[Digest] = set()
        self._since: set[Digest] = set()

    def add(self, digest: Digest) -> None:
        """Note a blob that is there."""
        with self._lock:
            self._waiting[digest] = None
            self._seen.add(digest)
            self._since.add(digest)
            self._missed.discard(digest)

    def miss(self, digest: Digest) -> None:
        """Note a blob that is not there: the next put need not ask again."""
        with self._lock:
            self._missed.add(digest)

    def missed(self, digest: Digest) -> bool:
        """Say whether a blob was just found not to be there."""
        return digest in self._missed

    def take(self) -> list[Digest]:
        """Return what was noted since the last call."""
        with self._lock:
            taken, self._waiting = list(self._waiting), {}
        return taken

    def unseen(self, digests: Collection[Digest]) -> list[Digest]:
        """Return which blobs were neither put nor found; all of them are relied on from now on."""
        with self._lock:
            self._waiting.update(dict.fromkeys(digests))
            return [digest for digest in digests if digest not in self._seen]

    def forget(self, digests: Iterable[Digest]) -> None:
        """Note that blobs are gone."""
        with self._lock:
            self._seen.difference_update(digests)

    def begin(self) -> None:
        """Note that a deletion begins."""
        with self._lock:
            self._since = set()

    def used(self, digest: Digest) -> bool:
        """Say whether a blob was put or found since the last ``begin``."""
        with self._lock:
            return digest in self._since


class Deletions:
    """One pass: carries out what is ripe and announces the rest.

    Args:
        bucket: Where.
        intents: What is announced there.
        relied: What the store that deletes relies on itself.
        coded: The coded blobs there, whose bases stay.
    """

    def __init__(
        self, bucket: Bucket, intents: Intents, relied: Relied, coded: BucketCoded
    ) -> None:
        self._bucket = bucket
        self._intents = intents
        self._relied = relied
        self._coded = coded
        self._gone: list[_Held] = []

    def run(
        self, digests: Iterable[Digest], unneeded: Unneeded, grace: float
    ) -> tuple[Disposal, list[Digest]]:
        """Return what was done, and the blobs that were deleted; see ``ObjectStore.dispose``."""
        now = self._bucket.now()
        live = [intent for intent in self._intents.all() if intent.decided is None]
        announced = {digest for intent in live for digest in self._intents.blobs(intent)}
        found = self._held([d for d in dict.fromkeys(digests) if d not in announced])
        unused = [item.digest for item in found if grace == 0 or now - item.modified >= grace]
        if unused:
            live.append(self._intents.announce(unused))
        ripe = [intent for intent in live if grace == 0 or now - intent.announced >= grace]
        for intent in ripe:
            self._carry_out(intent, unneeded)
        waiting = [intent for intent in live if intent not in ripe]
        self._intents.sweep(now)
        self._coded.sweep(now)
        until = min((intent.announced + grace for intent in waiting), default=None)
        named = frozenset[Digest]().union(*(self._intents.blobs(intent) for intent in waiting))
        freed = sum(item.size for item in self._gone)
        disposal = Disposal(len(self._gone), freed, len(named), until)
        return disposal, [item.digest for item in self._gone]

    def _held(self, digests: Iterable[Digest]) -> list[_Held]:
        """Describe blobs that are there, in one form or both."""
        wanted = list(digests)
        coded = {each.info.digest: each for each in self._coded.listed()} if wanted else {}

        def held(digest: Digest) -> _Held | None:
            plain = self._bucket.head(blob_key(digest))
            other = coded.get(digest)
            if plain is None:
                return (
                    None
                    if other is None
                    else _Held(digest, other.info.stored, other.info.modified, other.keys)
                )
            if other is None:
                return _Held(digest, plain.size, plain.modified, (blob_key(digest),))
            size, modified = (
                plain.size + other.info.stored,
                max(plain.modified, other.info.modified),
            )
            return _Held(digest, size, modified, (blob_key(digest), *other.keys))

        return [item for item in in_parallel(held, wanted) if item is not None]

    def _carry_out(self, intent: Intent, unneeded: Unneeded) -> None:
        """Decide an intent, read all logs again, and delete what is in no log and as old as it."""
        started = time.monotonic()
        self._relied.begin()
        if not self._intents.decide(intent, delete=True):
            return
        try:
            doomed = unneeded(sorted(self._intents.blobs(intent)))
            found = [item for item in self._held(doomed) if item.modified <= intent.announced]
            found = [item for item in found if not self._relied.used(item.digest)]
            found = self._without_bases(found)
        except BaseException:
            self._intents.withdraw(intent)
            raise
        self._relied.forget(item.digest for item in found)
        for at in range(0, len(found), _DELETED_AT_ONCE):
            if time.monotonic() - started > LEASE / 2:
                break  # writers stop waiting soon; what is left is announced again
            batch = found[at : at + _DELETED_AT_ONCE]
            self._bucket.delete([key for item in batch for key in item.keys])
            self._gone += batch
        self._intents.finish(intent)

    def _without_bases(self, found: list[_Held]) -> list[_Held]:
        """Leave out what a coded blob that stays may be decoded with; bases go last."""
        bases = self._coded.bases() if found else {}
        while True:
            going = {item.digest for item in found}
            needed = {b for digest, named in bases.items() if digest not in going for b in named}
            if not going & needed:
                return sorted(found, key=lambda item: not bases.get(item.digest))
            found = [item for item in found if item.digest not in needed]


class _Held(NamedTuple):
    """A blob that is there.

    Attributes:
        digest: Which.
        size: Bytes that it occupies, in all forms.
        modified: When it was last put.
        keys: Its objects.
    """

    digest: Digest
    size: int
    modified: float
    keys: tuple[str, ...]
