"""Coded blobs in a bucket: ``coded/sha256/<hex>``, and what a list must tell of them.

A list gives names, sizes and times, and a prune must know which bases are needed without asking
for each blob. So before a coded blob is put, an empty object says in its name what is in it:
``coded/about/<hex>/<plain bytes>-<hex of the base, or nothing>``. Whoever deletes reads the list
after deciding, so a base that was named before is kept. Where such an object is missing, as in a
copy of a folder, the index at the end of the blob is read.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from holdfast.errors import Corrupt
from holdfast.record import Digest, digest_hex, parse_digest
from holdfast.remote.base import Found, in_parallel
from holdfast.remote.bucket import Bucket
from holdfast.store.base import BlobInfo, Coded
from holdfast.store.cache import BlobCache
from holdfast.store.coded import Index, index_bytes, judged
from holdfast.store.reading import CodedReading

__all__ = ["BucketCoded", "Listed", "coded_key"]

_FOLDER: Final = "coded"
_BLOB: Final = re.compile(r"coded/sha256/([0-9a-f]{64})")
_ABOUT: Final = re.compile(r"coded/about/([0-9a-f]{64})/([0-9]{1,18})-([0-9a-f]{64})?")
_END: Final = 1 << 16  # bytes of a coded blob that are read for its index at first
_BELIEVED: Final = 1.0  # seconds for which a bucket without coded blobs is taken for one
_CHANGES: Final = 3
_UNFINISHED: Final = 86_400.0  # seconds that a blob may take to come after what is told of it


def coded_key(digest: Digest) -> str:
    """Return where the coded form of a blob is; raises ``Corrupt`` for what is no digest."""
    return f"{_FOLDER}/sha256/{digest_hex(parse_digest(digest))}"


class Listed(NamedTuple):
    """A coded blob as a list tells it.

    Attributes:
        info: What it is.
        keys: Its object first, then what tells of it.
    """

    info: BlobInfo
    keys: tuple[str, ...]


class _About(NamedTuple):
    """What an object's name tells of a blob."""

    key: str
    size: int
    base: Digest | None
    modified: float


class BucketCoded:
    """The coded blobs of a bucket.

    Args:
        bucket: Where.
        cache: Whose folder holds what is being decoded.
    """

    def __init__(self, bucket: Bucket, cache: BlobCache) -> None:
        self._bucket = bucket
        self._cache = cache
        self._lock = threading.Lock()
        self._some = False
        self._none_until = 0.0
        self._known: dict[tuple[Digest, str, int], BlobInfo] = {}  # by tag: what indices say

    def some(self) -> bool:
        """Say whether there is any; that there is none is believed for a second."""
        with self._lock:
            if not self._some and time.monotonic() >= self._none_until:
                self._some = next(iter(self._bucket.list(_FOLDER)), None) is not None
                self._none_until = time.monotonic() + _BELIEVED
            return self._some

    def find(self, digest: Digest) -> BlobInfo | None:
        """Describe a blob by two requests; None where there is none, ``Corrupt`` without index."""
        found = self._bucket.head(coded_key(digest)) if self.some() else None
        return None if found is None else self._described(digest, found)

    def _described(self, digest: Digest, found: Found) -> BlobInfo | None:
        known = self._known.get((digest, found.tag, found.size))
        if known is not None:
            return known._replace(modified=found.modified)
        for _ in range(_CHANGES):  # one may be put over it, coded otherwise
            got = self._ending(digest, found, _END)
            if got is not None and got[1].size == found.size:
                more = index_bytes(got[0], found.size)
                if more > len(got[0]):
                    got = self._ending(digest, found, more)
            if got is None:
                return None
            if got[1].size == found.size:
                info = _info(digest, found, judged(got[0], found.size))
                if got[1].tag:
                    self._known[digest, got[1].tag, found.size] = info
                return info
            found = got[1]
        raise Corrupt(f"the coded form of {digest} changes all the time", ref=digest)

    def _ending(self, digest: Digest, found: Found, length: int) -> tuple[bytes, Found] | None:
        if found.size == 0:
            return b"", found
        return self._bucket.get(coded_key(digest), max(0, found.size - length), found.size)

    def open(self, digest: Digest, base: Callable[[Digest], memoryview]) -> CodedReading | None:
        """Fetch a coded blob into a file without a name; None where there is none.

        Args:
            digest: Which.
            base: Gives the bytes of its base.

        Raises:
            Corrupt: It has no index, or one that contradicts itself.
        """
        chunks = self._bucket.stream(coded_key(digest))
        return None if chunks is None else CodedReading(self._cache.scratch(chunks), base)

    def announce(self, digest: Digest, coded: Coded) -> None:
        """Say what is about to be put."""
        base = "" if coded.base is None else digest_hex(coded.base)
        self._bucket.put(f"{_FOLDER}/about/{digest_hex(digest)}/{coded.size}-{base}", b"")
        with self._lock:
            self._some = True

    def put(self, digest: Digest, coded: Coded) -> None:
        """Put a blob that was announced."""
        self._bucket.put(coded_key(digest), coded.file)

    def keys(self, digest: Digest) -> list[str]:
        """Return the key of a blob and of what tells of it: one request."""
        about = self._bucket.list(f"{_FOLDER}/about/{digest_hex(digest)}")
        return [coded_key(digest), *(found.key for found in about)]

    def listed(self) -> list[Listed]:
        """Return every blob, a thousand keys to a request.

        Of several bases that were named for one, any is told.
        """
        blobs, about = self._objects()
        infos = self._untold(blobs, about)
        for digest, items in about.items():
            if digest in blobs:
                found, told = blobs[digest], items[0]
                infos[digest] = BlobInfo(digest, told.size, found.modified, found.size, told.base)
        return [
            Listed(info, (blobs[digest].key, *(each.key for each in about.get(digest, ()))))
            for digest, info in infos.items()
        ]

    def bases(self) -> dict[Digest, set[Digest]]:
        """Return what blobs may be differences to, those that are yet to come among them."""
        blobs, about = self._objects()
        named = {d: {each.base for each in items if each.base} for d, items in about.items()}
        for digest, info in self._untold(blobs, about).items():
            named[digest] = set() if info.base is None else {info.base}
        return named

    def sweep(self, now: float) -> None:
        """Delete what tells of blobs that never came."""
        blobs, about = self._objects()
        told = [each for digest, items in about.items() if digest not in blobs for each in items]
        keys = [each.key for each in told if now - each.modified > _UNFINISHED]
        if keys:
            self._bucket.delete(keys)

    def _objects(self) -> tuple[dict[Digest, Found], dict[Digest, list[_About]]]:
        blobs, about = dict[Digest, Found](), dict[Digest, list[_About]]()
        for found in self._bucket.list(_FOLDER):
            if (blob := _BLOB.fullmatch(found.key)) is not None:
                blobs[Digest(f"sha256:{blob[1]}")] = found
            elif (told := _ABOUT.fullmatch(found.key)) is not None:
                base = None if told[3] is None else Digest(f"sha256:{told[3]}")
                item = _About(found.key, int(told[2]), base, found.modified)
                about.setdefault(Digest(f"sha256:{told[1]}"), []).append(item)
        return blobs, about

    def _untold(
        self, blobs: Mapping[Digest, Found], about: Collection[Digest]
    ) -> dict[Digest, BlobInfo]:
        """Describe by their indices the blobs that nothing tells of."""

        def asked(digest: Digest) -> BlobInfo:
            found = blobs[digest]
            with contextlib.suppress(Corrupt):  # one without an index is ``verify``'s to tell
                info = self._described(digest, found)
                if info is not None:
                    return info
            return BlobInfo(digest, found.size, found.modified, found.size)

        todo = [digest for digest in blobs if digest not in about]
        return dict(zip(todo, in_parallel(asked, todo), strict=True))


def _info(digest: Digest, found: Found, index: Index) -> BlobInfo:
    base = None if index.base is None else Digest(index.base)
    return BlobInfo(digest, index.size, found.modified, found.size, base)
