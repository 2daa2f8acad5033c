"""The blobs of a bundle: parts of the one file, which stays open."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, NoReturn

from holdfast.errors import Corrupt, NotFound, UsageError
from holdfast.record import Digest, digest_of
from holdfast.store.base import BlobInfo, Buffer
from holdfast.store.reading import LocalReading

__all__ = ["BundleBlobs", "NoChecks", "Span"]


class Span(NamedTuple):
    """Bytes of a file.

    Attributes:
        start: The first.
        size: How many.
    """

    start: int
    size: int


class BundleBlobs:
    """A blob store in one file that is only read.

    Args:
        url: The file's path.
        descriptor: The open file, which becomes this object's own.
        spans: Where each blob lies.

    Attributes:
        url: The file's path.
    """

    def __init__(self, url: str, descriptor: int, spans: Mapping[Digest, Span]) -> None:
        self.url = url
        self._descriptor = descriptor
        self._spans = spans
        weakref.finalize(self, os.close, descriptor)

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there."""
        return digest in self._spans

    def size(self, digest: Digest) -> int:
        """Return its size in bytes; raises ``NotFound``."""
        return self.span(digest).size

    def freshen(self, digest: Digest) -> bool:
        """Say whether the blob is there; nothing is ever deleted here."""
        return self.has(digest)

    def read(self, digest: Digest) -> bytes:
        """Return a whole blob, hashed and compared; raises ``NotFound`` and ``Corrupt``."""
        data = self.read_range(digest, 0, self.size(digest))
        if digest_of(data) != digest:
            raise self.damaged(digest)
        return data

    def open_blob(self, digest: Digest) -> LocalReading:
        """Open a blob for viewing, not hashed; raises ``NotFound``."""
        return LocalReading(os.dup(self._descriptor), self.span(digest))

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, not hashed; raises ``NotFound``."""
        if offset < 0 or length < 0 or offset + length > self.size(digest):
            raise Corrupt(f"the blob {digest} has no bytes {offset} to {offset + length}")
        with contextlib.closing(self.open_blob(digest)) as reading:
            return reading.read_range(offset, length)

    def span(self, digest: Digest) -> Span:
        """Return where the blob lies; raises ``NotFound``."""
        span = self._spans.get(digest)
        if span is None:
            raise NotFound(
                f"The blob {digest} is not in the bundle {self.url}.",
                hint=f"hold ls {self.url}",
                ref=digest,
            )
        return span

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob."""
        for digest, span in self._spans.items():
            yield BlobInfo(digest, span.size, 0.0, span.size)

    def damaged(self, digest: Digest, what: str = "") -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""
        return Corrupt(
            f"The bytes of {digest} in {self.url} are not what was saved{what}: "
            "their SHA-256 is another.",
            hint=f"hold verify --all --no-replay --store {self.url}",
            ref=digest,
        )

    def put(
        self, chunks: Callable[[], Iterable[Buffer]], *, expect: Digest | None = None
    ) -> Digest:
        """Refuse; raises ``UsageError``."""
        del chunks, expect
        self._refuse()

    def flush(self) -> None:
        """Do nothing: nothing is ever put."""

    def drop_damaged(self, digest: Digest) -> bool:
        """Refuse; raises ``UsageError``."""
        del digest
        self._refuse()

    def delete(
        self,
        digests: Iterable[Digest],
        *,
        still_needed: Callable[[Digest], bool],
        grace: float = 3600.0,
    ) -> int:
        """Refuse; raises ``UsageError``."""
        del digests, still_needed, grace
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(
            f"{self.url} is a bundle, which is only read.", hint=f"hold unbundle {self.url}"
        )


class NoChecks:
    """The checks of a bundle, which keeps none.

    Args:
        url: The file's path.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def put(self, record: Digest, environment: str, data: bytes) -> None:
        """Refuse; raises ``UsageError``."""
        del record, environment, data
        raise UsageError(
            f"{self._url} is a bundle, which is only read.", hint=f"hold unbundle {self._url}"
        )

    def records(self) -> Iterator[Digest]:
        """Yield nothing."""
        return iter(())

    def read(self, record: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield nothing."""
        del record
        return iter(())

    def remove(self, record: Digest) -> None:
        """Do nothing: nothing is kept."""
