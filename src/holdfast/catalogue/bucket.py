"""The log in a bucket: ``log/<name>/<seq>.json``, each object created once.

Requests are what costs here. What was just seen is believed for a second, and entries, which never
change, are kept for as long as the log is open. Nothing rests on that: an entry goes in by a
create-only put or not at all, and a writer who saw too little loses a race and looks again. On a
server where a late writer can replace an entry, one that was seen may not be the one that stays:
the next is written only after it was read again, and tells readers which they should have seen.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from holdfast.catalogue.names import check_name, is_name
from holdfast.record import digest_of
from holdfast.remote.base import in_parallel
from holdfast.remote.bucket import Bucket

__all__ = ["BucketLog"]

_KEY: Final = re.compile(r"log/([^/]+)/([0-9]{8,})\.json")
_BELIEVED: Final = 1.0
_FOLDED: Final = 30.0
_KEPT_BYTES: Final = 64 << 20
_WINDOW: Final = 64  # entries fetched at once

_Place = tuple[str, int]


class BucketLog:
    """Entries as objects below ``log/``.

    Args:
        bucket: Where.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.url = f"{bucket.url}/log"
        self._bucket = bucket
        self._lock = threading.Lock()
        # Until when something is believed, and what: an entry's tag (None: there is none), the
        # number of a name's last entry. Of entries, the tag they had when they were read.
        self._tags: dict[_Place, tuple[float, str | None]] = {}
        self._ends: dict[str, tuple[float, int]] = {}
        self._entries: dict[_Place, tuple[str, bytes]] = {}
        self._bytes = 0

    def names(self) -> list[str]:
        """Return all names that have an entry, sorted: a request per thousand entries."""
        return sorted(self._listed("log"))

    def newest(self, name: str) -> int:
        """Return the highest number of an entry of this name, 0 when there is none."""
        if not is_name(name):
            return 0
        with self._lock:
            until, end = self._ends.get(name, (0.0, 0))
        if time.monotonic() < until:
            return end
        return self._listed(f"log/{name}").get(name, 0)

    def _listed(self, folder: str) -> dict[str, int]:
        """List entries, and remember what is there and where each name ends."""
        until, ends = time.monotonic() + _BELIEVED, dict[str, int]()
        tags: dict[_Place, tuple[float, str | None]] = {}
        for found in self._bucket.list(folder):
            key = _KEY.fullmatch(found.key)
            if key is None or not is_name(key[1]):
                continue
            name, seq = key[1], int(key[2])
            tags[name, seq] = (until, found.tag)
            ends[name] = max(ends.get(name, 0), seq)
        for name, end in ends.items():
            tags.setdefault((name, end + 1), (until, None))
        with self._lock:
            self._tags.update(tags)
            self._ends.update({name: (until, end) for name, end in ends.items()})
        return ends

    def gather(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Fetch the entries of several names from a place on, all at once, after ``names``.

        Where a name ends is asked for, since the lists of some servers lag behind. What was found
        is believed a while longer, so that all of it can be folded.
        """
        with self._lock:
            ends = {name: max(self._ends.get(name, (0.0, 0))[1], seq - 1) for name, seq in wanted}
            for place in ends.items():
                self._tags.pop((place[0], place[1] + 1), None)
        places = [(name, n) for name, seq in wanted for n in range(seq, ends[name] + 1)]
        in_parallel(lambda place: self.read(*place), places)
        open_ends = list(ends)
        while open_ends:
            data = in_parallel(lambda name: self.read(name, ends[name] + 1), open_ends)
            open_ends = [name for name, more in zip(open_ends, data, strict=True) if more]
            ends.update({name: ends[name] + 1 for name in open_ends})
        until = time.monotonic() + _FOLDED
        with self._lock:
            for name, end in ends.items():
                self._ends[name] = (until, end)
                for place in ((name, end), (name, end + 1)):
                    if place in self._tags:
                        self._tags[place] = (until, self._tags[place][1])

    def read(self, name: str, seq: int) -> bytes | None:
        """Return an entry's bytes, or None when it does not exist."""
        if not is_name(name):
            return None
        place, now = (name, seq), time.monotonic()
        with self._lock:
            until, tag = self._tags.get(place, (0.0, None))
            kept = self._entries.get(place)
        if now < until:
            if tag is None:
                return None
            if kept is not None and kept[0] == tag:
                return kept[1]
        return self._fetched(name, seq)

    def _fetched(self, name: str, seq: int) -> bytes | None:
        got = self._bucket.get(_key(name, seq))
        if got is None:
            self._note((name, seq), None)
            return None
        self._note((name, seq), got[1].tag, got[0])
        return got[0]

    def _note(self, place: _Place, tag: str | None, data: bytes = b"") -> None:
        """Remember what was just seen."""
        with self._lock:
            self._tags[place] = (time.monotonic() + _BELIEVED, tag)
            self._bytes -= len(self._entries.pop(place, ("", b""))[1])
            if tag is not None and self._bytes + len(data) <= _KEPT_BYTES:
                self._entries[place] = (tag, data)
                self._bytes += len(data)

    def read_from(self, name: str, seq: int) -> Iterator[bytes]:
        """Yield the entries from ``seq`` on until one does not exist.

        Where many follow they are fetched together; the end is asked for, never read off a list,
        since the lists of some servers lag behind. An entry that the next one does not name is read
        again: a late writer may have replaced it in between.
        """
        ahead, before = 0, None
        while True:
            if ahead <= 0 and seq % _WINDOW == 2:
                ahead = self._ahead(name, seq)
            data = self.read(name, seq)
            if before is not None:
                if data is not None and digest_of(before).encode() not in data:
                    before = self._fetched(name, seq - 1) or before
                yield before
            if data is None:
                return
            before, seq, ahead = data, seq + 1, ahead - 1

    def _ahead(self, name: str, seq: int) -> int:
        """Fetch the next entries together when there are many; return how many."""
        end = min(self.newest(name), seq + _WINDOW - 1)
        if end - seq < 2:
            return 0
        in_parallel(lambda n: self.read(name, n), range(seq, end + 1))
        return end - seq + 1

    def append(self, name: str, seq: int, data: bytes, after: str | None = None) -> bool:
        """Create the entry; False when somebody else has, or the one before is not ``after``."""
        key = _key(check_name(name), seq)
        made = None
        if seq == 1 or not self._bucket.careless or self._settled(_key(name, seq - 1), after):
            made = self._bucket.create(key, data)
        self._forget(name)
        if made is not None:
            self._note((name, seq), made.tag, data)
        return made is not None

    def _settled(self, before: str, after: str | None) -> bool:
        """Say whether the entry before, once it is there to stay, is the one to continue.

        On a server where a late writer can still replace it, nothing may be built on it before.
        """
        found = self._bucket.head(before)
        if found is None:
            return after is None
        # A second more, since servers round their times to it.
        young = self._bucket.settles + 1.0 - (self._bucket.now() - found.modified)
        if young > 0:
            self._bucket.sleep(young)
        got = self._bucket.get(before)
        return after is None or (got is not None and digest_of(got[0]) == after)

    def _forget(self, name: str) -> None:
        """Believe nothing of a name that was seen before a write; its entries stay."""
        with self._lock:
            self._ends.pop(name, None)
            for place in [place for place in self._tags if place[0] == name]:
                del self._tags[place]

    def stamp(self, name: str, seq: int) -> tuple[int, ...] | None:
        """Return a number made of the entry's tag, None when it does not exist."""
        if not is_name(name):
            return None
        with self._lock:
            until, tag = self._tags.get((name, seq), (0.0, None))
        if time.monotonic() >= until:
            found = self._bucket.head(_key(name, seq))
            tag = None if found is None else found.tag
            with self._lock:
                self._tags[name, seq] = (time.monotonic() + _BELIEVED, tag)
        if tag is None:
            return None
        return (int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big"),)


def _key(name: str, seq: int) -> str:
    return f"log/{name}/{seq:08d}.json"
