"""A store in a bucket: the keys of a store in a folder, so that a copy of either is the other.

A blob is uploaded under its digest from bytes that were hashed to it, in requests whose own hash
the server checks. What is read is hashed when it arrives and kept in a cache on this machine.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from holdfast.errors import Conflict, Corrupt, NoStore, NotFound
from holdfast.record import (
    FORMAT,
    Digest,
    canonical,
    digest_hex,
    digest_of,
    parse_digest,
    parse_json,
)
from holdfast.remote.base import in_parallel
from holdfast.remote.bucket import Bucket
from holdfast.store.arriving import require_decodes
from holdfast.store.base import BlobInfo, Buffer, Coded, Disposal, Unneeded
from holdfast.store.bucket_coded import BucketCoded, coded_key
from holdfast.store.cache import BlobCache
from holdfast.store.disposal import BLOBS, Deletions, Relied, blob_key
from holdfast.store.downloads import Downloads
from holdfast.store.intents import Intents
from holdfast.store.local import MARKER, README
from holdfast.store.reading import CodedReading, LocalReading

__all__ = ["ObjectStore"]

_FETCHED_AT_ONCE: Final = 8


class ObjectStore:
    """A blob store in a bucket.

    Args:
        bucket: Where.
        cache: What was fetched or sent, on this machine.
        identifier: From the store's marker.

    Attributes:
        url: The store's URL.
        id: Random hexadecimal id given at creation.
    """

    def __init__(self, bucket: Bucket, cache: BlobCache, identifier: str) -> None:
        self.url = bucket.url
        self.id = identifier
        self._bucket = bucket
        self._cache = cache
        self._intents = Intents(bucket)
        self._relied = Relied()
        self._coded = BucketCoded(bucket, cache)
        self._downloads = Downloads(bucket, cache, self._coded)
        self._based = self._downloads.based

    @classmethod
    def create(cls, bucket: Bucket, cache: BlobCache) -> ObjectStore:
        """Make an empty store; one already there is opened.

        Raises:
            RemoteError: The server does not answer, refuses, or cannot hold a shared log.
        """
        bucket.require_create_only()
        marker = canonical({"format": FORMAT, "id": uuid.uuid4().hex})
        for name, data in (("README.txt", README.encode()), (MARKER, marker)):
            if bucket.head(name) is None:
                bucket.create(name, data)
        return cls.open(bucket, cache)

    @classmethod
    def open(cls, bucket: Bucket, cache: BlobCache) -> ObjectStore:
        """Open a store with one request.

        Raises:
            NoStore: There is none.
            Corrupt: The marker is damaged, or of a format this release does not read.
        """
        got = bucket.get(MARKER)
        if got is None:
            raise NoStore(
                f"There is no store at {bucket.url}.",
                hint=f"hold init {bucket.url}",
                ref=bucket.url,
            )
        match parse_json(got[0], f"{bucket.url}/{MARKER}"):
            case {"format": str(format_), "id": str(identifier)} if format_ == FORMAT:
                return cls(bucket, cache, identifier)
        raise Corrupt(
            f"{bucket.url}/{MARKER} is not the marker of a {FORMAT!r} store.",
            hint="python -m pip install --upgrade holdfast-ml",
            ref=bucket.url,
        )

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there, and what it takes to decode it."""
        return self.find(digest) is not None

    def size(self, digest: Digest) -> int:
        """Return its plain size in bytes; raises ``NotFound``."""
        found = self.find(digest)
        if found is None:
            raise self._downloads.absent(digest)
        return found.size

    def find(self, digest: Digest) -> BlobInfo | None:
        """Say how a blob is kept; None where it is not there, or cannot be decoded."""
        found = self._alone(digest)
        if found is not None and found.base is not None:
            if not self._serves(found.base, found.size):
                return None
            self._based[digest] = found.base
        return found

    def _alone(self, digest: Digest) -> BlobInfo | None:
        """Say how a blob is kept, whatever becomes of its base."""
        plain = self._bucket.head(blob_key(digest))
        if plain is not None:
            return BlobInfo(digest, plain.size, plain.modified, plain.size)
        with contextlib.suppress(Corrupt):
            return self._coded.find(digest)
        return None

    def forms(self, digests: Collection[Digest]) -> dict[Digest, BlobInfo]:
        """Return which of some blobs are kept coded, by a list that may lag behind."""
        wanted = frozenset(digests)
        infos = (each.info for each in self._coded.listed())
        return {info.digest: info for info in infos if info.digest in wanted}

    def codes(self) -> bool:
        """Say whether any blob is kept coded."""
        return self._coded.some()

    def bases(self) -> set[Digest]:
        """Return what coded blobs are differences to."""
        return set[Digest]().union(*self._coded.bases().values())

    def put(
        self, chunks: Callable[[], Iterable[Buffer]], *, expect: Digest | None = None
    ) -> Digest:
        """Store bytes; see ``BlobStore.put``. They are kept in the cache too."""
        if expect is not None and not self._relied.missed(expect) and self.freshen(expect):
            return expect
        held = self._cache.add(chunks())
        with contextlib.closing(held.reading):
            if expect is not None and held.digest != expect:
                self._cache.drop(held.digest)
                raise Corrupt(
                    f"The bytes changed while they were being saved: expected {expect}, "
                    f"got {held.digest}. Nothing became visible.",
                    hint="save again while nothing else changes the model",
                )
            if expect is not None or not self.freshen(held.digest):
                self._upload(held.digest, held.reading.view())
        return held.digest

    def send(self, digest: Digest, view: memoryview) -> None:
        """Store a blob that lies in memory or is mapped: hashed, then sent, and not kept here.

        Raises:
            Corrupt: The bytes are not those of the digest; nothing was sent.
        """
        if digest_of(view) != digest:
            raise Corrupt(f"The bytes of {digest} are damaged where they come from.", ref=digest)
        self._upload(digest, view)

    def _upload(self, digest: Digest, view: memoryview) -> None:
        self._bucket.put(blob_key(digest), view)
        self._based.pop(digest, None)
        self._relied.add(digest)

    def open_coded(self, digest: Digest) -> CodedReading | None:
        """Fetch the coded form of a blob, None where there is none; raises ``Corrupt``."""
        return self._downloads.open_coded(digest)

    def put_coded(self, digest: Digest, coded: Coded) -> bool:
        """Store a blob in the coded form that it has elsewhere; see ``Coding.put_coded``.

        Its base is protected from deletions before it comes: what is told of it is there first, and
        what was announced before that is objected to.
        """
        if self._bucket.head(blob_key(digest)) is not None:
            return False
        require_decodes(coded, digest)
        self._coded.announce(digest, coded)
        self._intents.keep([digest] if coded.base is None else [digest, coded.base])
        if coded.base is not None and not self._serves(coded.base, coded.size):
            return False
        self._coded.put(digest, coded)
        arrived = self._bucket.head(coded_key(digest))
        if arrived is None or arrived.size != coded.stored:
            return False
        self._relied.add(digest)
        if coded.base is not None:
            self._based[digest] = coded.base
        return True

    def _serves(self, base: Digest, size: int) -> bool:
        """Say whether a blob is there, no difference, and long enough, as a base must be."""
        found = self._alone(base)
        return found is not None and found.base is None and found.size >= size

    def freshen(self, digest: Digest) -> bool:
        """Note that a blob is relied on, for ``flush`` to protect; False when it is not there."""
        there = self.has(digest)
        (self._relied.add if there else self._relied.miss)(digest)
        return there

    def flush(self) -> None:
        """Object to deletions of the blobs relied on, and put again what one has taken.

        Raises:
            Conflict: A blob was deleted, and this machine does not have it any more.
        """
        lost = self._kept(self._relied.take())
        gone = [digest for digest in lost if not (self.has(digest) or self._restored(digest))]
        if gone:
            raise Conflict(
                f"A prune deleted {len(gone)} blobs in {self.url} that were there a while ago. "
                "Nothing became visible; doing the same again puts them again.",
                hint=f"hold ls --store {self.url}",
                ref=gone[0],
            )

    def missing(self, digests: Collection[Digest]) -> list[Digest]:
        """Return which blobs are not there and cannot be put again from the cache.

        Those that this object has put or found are believed unless a deletion names them.
        """
        doubtful = self._relied.unseen(digests)
        doubtful += self._kept(digests)

        def is_missing(digest: Digest) -> bool:
            return not (self.freshen(digest) or self._restored(digest))

        unique = list(dict.fromkeys(doubtful))
        answers = in_parallel(is_missing, unique)
        return [digest for digest, missing in zip(unique, answers, strict=True) if missing]

    def _kept(self, digests: Collection[Digest]) -> list[Digest]:
        """Object to deletions of blobs and their bases; return those that one may have taken."""
        based = {digest: self._based[digest] for digest in digests if digest in self._based}
        lost = self._intents.keep({*digests, *based.values()})
        return [digest for digest in digests if lost & {digest, based.get(digest)}]

    def _restored(self, digest: Digest) -> bool:
        """Put a blob again from the cache, if it is there and sound."""
        reading = self._cache.open(digest)
        if reading is None:
            return False
        with contextlib.closing(reading):
            view = reading.view()
            if digest_of(view) != digest:
                return False
            self._upload(digest, view)
        return True

    def read(self, digest: Digest) -> bytes:
        """Return a whole blob, hashed and compared; raises ``NotFound`` and ``Corrupt``."""
        for _ in range(2):
            with contextlib.closing(self.open_blob(digest)) as reading:
                data = bytes(reading.view())
            if digest_of(data) == digest:
                return data
            self.renew(digest)
        raise self.damaged(digest)

    def open_blob(self, digest: Digest) -> LocalReading:
        """Open a blob, fetched into the cache first; raises ``NotFound`` and ``Corrupt``.

        What was fetched is hashed on arrival; what lies in the cache is not hashed again. What is
        coded is kept there decoded, so that it is mapped like any other.
        """
        return self._downloads.open(digest)

    def prefetch(self, digests: Iterable[Digest]) -> None:
        """Fetch blobs into the cache, several at once; what fails is told when it is opened."""

        def fetch(digest: Digest) -> None:
            if not self._cache.has(digest):
                with contextlib.suppress(Corrupt, NotFound):
                    self.open_blob(digest).close()

        in_parallel(fetch, dict.fromkeys(digests), threads=_FETCHED_AT_ONCE)

    def near(self, digest: Digest) -> bool:
        """Say whether a blob is in the cache."""
        return self._cache.has(digest)

    def renew(self, digest: Digest) -> bool:
        """Forget the cached copy of a blob, which may have gone bad; False when there is none."""
        return self._downloads.renew(digest)

    def expect(self, sizes: Mapping[Digest, int]) -> None:
        """Note how long blobs must be, so that a longer one is refused before it is decoded."""
        self._downloads.expect(sizes)

    def stream(self, digest: Digest) -> Iterator[bytes | memoryview]:
        """Yield a blob's bytes in order, not hashed, several parts under way; ``NotFound``."""
        return self._downloads.stream(digest)

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` with one request, not hashed.

        Raises:
            NotFound: The blob is not there.
            Corrupt: It has no such bytes.
        """
        if offset < 0 or length < 0:
            raise Corrupt(f"the blob {digest} has no bytes {offset} to {offset + length}")
        if length == 0:
            size = self.size(digest)
            if offset > size:
                raise Corrupt(f"the blob {digest} has no byte {offset}")
            return b""
        got = self._bucket.get(blob_key(digest), offset, offset + length)
        if got is None:
            return self._decoded_range(digest, offset, length)
        if len(got[0]) != length:
            raise Corrupt(f"the blob {digest} has no bytes {offset} to {offset + length}")
        return got[0]

    def _decoded_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Read of a blob that is kept coded; it is fetched whole, and once."""
        with contextlib.closing(self.open_blob(digest)) as reading:
            if offset + length > reading.size:
                raise Corrupt(f"the blob {digest} has no bytes {offset} to {offset + length}")
            return reading.read_range(offset, length)

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, a thousand to a request."""
        plain = set()
        for found in self._bucket.list(BLOBS):
            name = found.key.rpartition("/")[2]
            with contextlib.suppress(Corrupt):
                digest = parse_digest(f"sha256:{name}")
                plain.add(digest)
                yield BlobInfo(digest, found.size, found.modified, found.size)
        yield from (each.info for each in self._coded.listed() if each.info.digest not in plain)

    def now(self) -> float:
        """Return the time on the server's clock."""
        return self._bucket.now()

    def drop_damaged(self, digest: Digest) -> bool:
        """Set a blob aside when it is missing or its bytes are wrong, so that it is put again."""
        self.renew(digest)
        try:
            self.read(digest)
        except NotFound:
            return True
        except Corrupt:
            for key, name in ((blob_key(digest), "damaged"), (coded_key(digest), "damaged-coded")):
                if self._bucket.head(key) is not None:
                    self._bucket.copy(key, f"tmp/{name}-{digest_hex(digest)}")
            self._bucket.delete([blob_key(digest), *self._coded.keys(digest)])
            self._relied.forget([digest])
            self._based.pop(digest, None)
            return True
        return False

    def damaged(self, digest: Digest, what: str = "") -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""
        return self._downloads.damaged(digest, what)

    def delete(
        self,
        digests: Iterable[Digest],
        *,
        still_needed: Callable[[Digest], bool],
        grace: float = 3600.0,
    ) -> int:
        """Delete blobs and return the bytes freed; see ``dispose``."""
        disposal = self.dispose(
            digests, unneeded=lambda some: [d for d in some if not still_needed(d)], grace=grace
        )
        return disposal.freed

    def dispose(
        self,
        digests: Iterable[Digest],
        *,
        unneeded: Unneeded,
        grace: float = 3600.0,
    ) -> Disposal:
        """Delete what was announced a grace period ago, and announce the rest.

        Without a grace period both happen at once.

        Raises:
            RemoteError: The server does not answer; what is deleted was not needed by then.
        """
        deletions = Deletions(self._bucket, self._intents, self._relied, self._coded)
        disposal, gone = deletions.run(digests, unneeded, grace)
        for digest in gone:
            self.renew(digest)
        return disposal
