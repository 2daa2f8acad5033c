"""What a blob store must offer. ``holdfast.testing`` ships the suite that proves it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from holdfast.errors import Corrupt
from holdfast.record import Digest

__all__ = [
    "BlobInfo",
    "BlobStore",
    "Buffer",
    "CheckFiles",
    "Coded",
    "Coding",
    "Disposal",
    "Distant",
    "Reading",
    "Unneeded",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
# Of some blobs, those that nobody needs by the logs as they are when it is called.
Unneeded: TypeAlias = Callable[[Sequence[Digest]], list[Digest]]


class BlobInfo(NamedTuple):
    """A stored blob.

    Attributes:
        digest: Its name, the SHA-256 of its plain bytes.
        size: Plain bytes.
        modified: Seconds since the epoch of its last write or ``freshen``, on the store's clock.
        stored: Bytes that it occupies, fewer where it is coded.
        base: The blob that it is coded against, which is kept as long as it is; or None.
    """

    digest: Digest
    size: int
    modified: float
    stored: int
    base: Digest | None = None


class Disposal(NamedTuple):
    """What a deletion did in a store where it must be announced first.

    Attributes:
        deleted: Blobs deleted.
        freed: Their bytes.
        waiting: Blobs announced; a later deletion takes them.
        until: When the first of them can be deleted, on the store's clock; None without any.
    """

    deleted: int
    freed: int
    waiting: int
    until: float | None


class Reading(Protocol):
    """An open blob: bytes that can be viewed without copying them first where possible."""

    size: int

    def view(self) -> memoryview:
        """All bytes; mapped privately (copy-on-write, so writable) where the store can map."""

    def identity(self) -> tuple[int, ...] | None:
        """Numbers that change when the open bytes may have changed; None when there are none."""

    def close(self) -> None:
        """Give up the descriptor; views stay valid until they are dropped."""


class Coded(Protocol):
    """An open coded blob: its plain bytes are made when they are asked for.

    Attributes:
        size: Plain bytes.
        stored: Bytes of the coded form.
        base: The blob that its differences are to, or None.
    """

    size: int
    stored: int
    base: Digest | None

    @property
    def file(self) -> memoryview:
        """The coded form, which is mapped."""

    def pieces(self) -> Iterator[memoryview]:
        """Yield the plain bytes in order, few of them in memory at a time; raises ``Corrupt``."""

    def close(self) -> None:
        """Give up the descriptor; views stay valid."""


class BlobStore(Protocol):
    """Immutable bytes by digest, written once.

    All methods raise subclasses of ``HoldfastError``. A blob is visible only when it is complete
    and durable, and its bytes never change afterwards.
    """

    url: str

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there."""

    def size(self, digest: Digest) -> int:
        """Return its plain size in bytes; raises ``NotFound``."""

    def put(
        self, chunks: Callable[[], Iterable[Buffer]], *, expect: Digest | None = None
    ) -> Digest:
        """Store bytes durably and return their digest.

        Args:
            chunks: Called once or more; yields the bytes in order.
            expect: Digest the caller has computed. A blob already there is freshened, not written.

        Raises:
            Corrupt: The bytes written are not those of ``expect``; nothing became visible.
            NoSpace: The store is full; nothing became visible.
        """

    def freshen(self, digest: Digest) -> bool:
        """Mark a blob as in use now, so that no prune takes it; False when it is not there."""

    def read(self, digest: Digest) -> bytes:
        """Return a whole blob, hashed and compared; raises ``NotFound`` and ``Corrupt``."""

    def open_blob(self, digest: Digest) -> Reading:
        """Open a blob for viewing, *not* hashed; raises ``NotFound``."""

    def read_range(self, digest: Digest, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, not hashed; raises ``NotFound``."""

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no particular order."""

    def flush(self) -> None:
        """Make the names of all blobs put so far durable; called before a log entry."""

    def drop_damaged(self, digest: Digest) -> bool:
        """Set a blob aside when it is missing or its bytes are wrong, so that it is put again."""

    def damaged(self, digest: Digest, what: str = "") -> Corrupt:
        """Word the error for a blob whose bytes are not those of its name."""

    def delete(
        self,
        digests: Iterable[Digest],
        *,
        still_needed: Callable[[Digest], bool],
        grace: float = 3600.0,
    ) -> int:
        """Delete blobs and return the bytes freed.

        Blobs used within ``grace`` seconds stay. Each blob is first set aside, then
        ``still_needed`` is asked again; when it says yes, or when the blob was freshened
        meanwhile, it is put back. An interrupted delete loses nothing.

        Raises:
            Conflict: Another deletion is at work, and this store cannot have two.
        """


@runtime_checkable
class Coding(Protocol):
    """What a blob store offers besides when it may keep blobs coded.

    A base of one is there in a form that is no difference itself, and is kept as long as it is.
    """

    def find(self, digest: Digest) -> BlobInfo | None:
        """Say how a blob is kept; None where it is not there, or cannot be decoded."""

    def forms(self, digests: Collection[Digest]) -> dict[Digest, BlobInfo]:
        """Return which of some blobs are kept coded; one that came just now may be left out."""

    def codes(self) -> bool:
        """Say whether any blob is kept coded."""

    def bases(self) -> set[Digest]:
        """Return what coded blobs are differences to."""

    def open_coded(self, digest: Digest) -> Coded | None:
        """Open the coded form of a blob; None where there is none."""

    def put_coded(self, digest: Digest, coded: Coded) -> bool:
        """Keep a blob in the coded form that it has elsewhere, durably.

        Returns:
            False where that cannot be, because its base is not there in a form that serves, or
            something is there under its plain name: it is to be put plain.

        Raises:
            Corrupt: It does not decode to the bytes of its name; nothing became visible.
            NoSpace: The store is full; nothing became visible.
        """


class CheckFiles(Protocol):
    """Small documents by record and environment, replaced whole, the newest of each kept.

    They are evidence for reports: nothing else may rest on them.
    """

    def put(self, record: Digest, environment: str, data: bytes) -> None:
        """Keep a document in place of the one before it; a reader sees the old or the new.

        Raises:
            NoSpace: The store is full; the one before is still there.
            HoldfastError: It cannot be written, for example because the store is read-only.
        """

    def records(self) -> Iterator[Digest]:
        """Yield the records of which something may be kept."""

    def read(self, record: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield what is kept of a record, by environment; what cannot be read is empty."""

    def remove(self, record: Digest) -> None:
        """Delete what is kept of a record; raises ``HoldfastError`` where that is refused."""


@runtime_checkable
class Distant(Protocol):
    """What a blob store offers besides when each of its answers takes a while."""

    def expect(self, sizes: Mapping[Digest, int]) -> None:
        """Note how long blobs must be, so that a longer one is refused before it is decoded."""

    def prefetch(self, digests: Iterable[Digest]) -> None:
        """Bring blobs near, several at once; what fails is told when it is opened."""

    def near(self, digest: Digest) -> bool:
        """Say whether a blob can be opened without fetching it."""

    def renew(self, digest: Digest) -> bool:
        """Forget the near copy of a blob, which may have gone bad; False when there is none."""

    def stream(self, digest: Digest) -> Iterator[bytes | memoryview]:
        """Yield a blob's bytes in order without keeping them near, not hashed; ``NotFound``."""

    def send(self, digest: Digest, view: memoryview) -> None:
        """Store bytes that are at hand, without keeping them near; raises ``Corrupt``."""

    def missing(self, digests: Collection[Digest]) -> list[Digest]:
        """Return which blobs are not there, and rely on the others."""

    def now(self) -> float:
        """Return the time on the store's clock."""

    def dispose(
        self,
        digests: Iterable[Digest],
        *,
        unneeded: Unneeded,
        grace: float = 3600.0,
    ) -> Disposal:
        """Delete what was announced a grace period ago, and announce the rest.

        Args:
            digests: Blobs that no visible version needs.
            unneeded: Reads the logs, once for each deletion that was announced.
            grace: Seconds between announcement and deletion, and since a blob's last write.
        """
