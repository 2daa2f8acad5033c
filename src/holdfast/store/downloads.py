"""Blobs of a bucket on their way to this machine: plain or decoded, hashed when they arrive.

What arrives lies plain in the cache, whichever form it has in the bucket: loads map it, and a base
serves all that is coded against it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest, digest_of
from holdfast.remote.bucket import Bucket
from holdfast.store.bucket_coded import BucketCoded, coded_key
from holdfast.store.cache import BlobCache
from holdfast.store.disposal import blob_key
from holdfast.store.reading import CodedReading, LocalReading

__all__ = ["Downloads"]

_EMPTY: Final = digest_of(b"")
_CHANGES: Final = 2
_TOO_FAR: Final = "its base is itself coded as differences to another blob"


class Downloads:
    """What is fetched from a bucket.

    Args:
        bucket: Where.
        cache: Where to.
        coded: The coded blobs there.

    Attributes:
        based: Bases of blobs that were found to be differences.
    """

    def __init__(self, bucket: Bucket, cache: BlobCache, coded: BucketCoded) -> None:
        self.based: dict[Digest, Digest] = {}
        self._bucket = bucket
        self._cache = cache
        self._coded = coded
        self._sizes: dict[Digest, int] = {}
        self._renewed: set[Digest] = set()
        self._fetched: set[Digest] = set()
        self._decoded: set[Digest] = set()

    def expect(self, sizes: Mapping[Digest, int]) -> None:
        """Note how long blobs must be, so that a longer one is refused before it is decoded."""
        self._sizes.update(sizes)

    def open(self, digest: Digest, *, alone: bool = False) -> LocalReading:
        """Open a blob, fetched into the cache first.

        Args:
            digest: Which.
            alone: It must be one that takes no other blob to decode it.

        Raises:
            NotFound: It is not there.
            Corrupt: What arrived is something else.
        """
        return self._cache.open(digest) or self._arrived(digest, alone=alone)

    def _arrived(self, digest: Digest, *, alone: bool) -> LocalReading:
        for last in (False, True):
            try:
                held = self._cache.add(self.stream(digest, alone=alone))
            except Corrupt:
                if last or not self._doubted(digest):
                    raise
                continue
            if held.digest == digest:
                self._fetched.add(digest)
                return held.reading
            held.reading.close()
            self._cache.drop(held.digest)
            if not self._doubted(digest):
                break
        raise self.damaged(digest)

    def _doubted(self, digest: Digest) -> bool:
        """Say whether a copy on this machine of the blob's base may be what went bad."""
        base = self.based.get(digest)
        if base is None or base in self._fetched:
            return False
        self._renewed.add(digest)
        return True

    def renew(self, digest: Digest) -> bool:
        """Forget the copy here of a blob, and of its base unless this process has fetched that.

        Returns:
            False where there is none of the blob.
        """
        self._renewed.add(digest)
        return self._cache.drop(digest)

    def stream(self, digest: Digest, *, alone: bool = False) -> Iterator[bytes | memoryview]:
        """Yield a blob's bytes in order, not hashed; arguments and errors as of ``open``."""
        if digest == _EMPTY and self._bucket.head(blob_key(digest)) is not None:
            return
        for _ in range(_CHANGES):  # a coded one goes when it has been put plain
            chunks = self._bucket.stream(blob_key(digest))
            if chunks is not None:
                with self._told(digest):
                    yield from chunks
                return
            with self._told(digest):
                coded = self.open_coded(digest)
                if coded is not None:
                    self._decoded.add(digest)
                    with contextlib.closing(coded):
                        self._require_fit(digest, coded, alone=alone)
                        yield from coded.pieces()
                    return
        raise self.absent(digest)

    def _require_fit(self, digest: Digest, coded: CodedReading, *, alone: bool) -> None:
        if alone and coded.base is not None:
            raise Corrupt(_TOO_FAR, ref=digest)
        if coded.size != self._sizes.get(digest, coded.size):
            raise Corrupt(f"it says that it has {coded.size} bytes")

    @contextlib.contextmanager
    def _told(self, digest: Digest) -> Iterator[None]:
        """Say of a damaged object which blob it is."""
        try:
            yield
        except Corrupt as error:
            if error.ref == digest:
                raise
            raise self.damaged(digest, f" ({error.message})") from error

    def open_coded(self, digest: Digest) -> CodedReading | None:
        """Fetch the coded form of a blob, None where there is none; raises ``Corrupt``."""
        return self._coded.open(digest, self._base_of(digest))

    def _base_of(self, coded: Digest) -> Callable[[Digest], memoryview]:
        """Return what gives the bytes of a coded blob's base, for its reading."""

        def bytes_of(base: Digest) -> memoryview:
            self.based[coded] = base
            if coded in self._renewed and base not in self._fetched:
                self._cache.drop(base)
            try:
                with contextlib.closing(self.open(base, alone=True)) as reading:
                    return reading.view()
            except (Corrupt, NotFound) as error:
                raise Corrupt(
                    f"The blob {coded} cannot be decoded: {error.message}",
                    hint=f"hold verify --no-replay --store {self._bucket.url}",
                    ref=coded,
                ) from error

        return bytes_of

    def absent(self, digest: Digest) -> NotFound:
        """Word the error for a blob that is not there."""
        return NotFound(
            f"The blob {digest} is not in the store {self._bucket.url}.",
            hint=f"hold verify --no-replay --store {self._bucket.url}",
            ref=digest,
        )

    def damaged(self, digest: Digest, what: str = "") -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""
        key = (coded_key if digest in self._decoded else blob_key)(digest)
        return Corrupt(
            f"The bytes of {self._bucket.url}/{key} are not what was saved{what}: "
            "their SHA-256 is not the object's name.",
            hint=f"hold verify --no-replay --store {self._bucket.url}",
            ref=digest,
        )
