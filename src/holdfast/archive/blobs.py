"""The blobs of a version in memory, each verified before anything else sees it."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

from holdfast.archive import layout
from holdfast.archive.stamps import Identity, Stamps
from holdfast.errors import Corrupt, HoldfastError, NotFound
from holdfast.record import Digest, Piece, TensorEntry, digest_of, parse_digest
from holdfast.remote.base import in_parallel
from holdfast.store.base import BlobStore, Distant
from holdfast.store.hashing import digests_of, groups_of
from holdfast.store.local import LocalStore
from holdfast.store.reading import LocalReading

__all__ = ["Blobs", "Seen"]

_FETCHED_AT_ONCE: Final = 4
# Bytes that the disk is asked for before they are needed.
_AHEAD: Final = 512 << 20
_STRIPE: Final = 1 << 20
_WORTH_THREADS: Final = 1 << 20


class Seen:
    """What one run has hashed already, so that versions which share it do not hash it again.

    Attributes:
        blobs: Blobs whose bytes were sound.
        held: Pieces, each with the tensors that it was found to hold.
    """

    def __init__(self) -> None:
        self.blobs: set[Digest] = set()
        self.held: set[tuple[str, Digest]] = set()


class _Viewed(NamedTuple):
    """A blob's bytes, which file they are of, and whether some are on disk only."""

    view: memoryview
    identity: Identity | None
    absent: bool


class Blobs:
    """Blobs viewed and verified: hashed, or stamped by an earlier hash of the same inode.

    Args:
        store: Where they are.
        verify: ``"auto"``, ``"always"`` or ``"never"``.
        stamps: The cache, or None.
        seen: What is hashed joins it.

    Attributes:
        checked: ``hashed``, ``stamped`` or ``unchecked``: how far they were verified until now.
        live: Says of a blob's bytes, in place of a hash, that they are those which this process
            hashed under that digest a moment ago. Where the answer is no they are hashed.
        read_whole: Whether files are read in large parts and not mapped.
    """

    def __init__(
        self, store: BlobStore, verify: str, stamps: Stamps | None, seen: Seen | None = None
    ) -> None:
        self._store = store
        self._verify = verify
        self._seen = Seen() if seen is None else seen
        self._stamps = None if verify == "never" else stamps
        self._believed = stamps if verify == "auto" else None
        self.checked = "unchecked" if verify == "never" else "stamped"
        self.live: dict[Digest, Callable[[memoryview], bool]] = {}
        self.read_whole = False

    def views(self, wanted: Sequence[tuple[Digest, int, str]]) -> list[memoryview]:
        """Return the bytes of blobs given as (digest, size, what it holds)."""
        if isinstance(self._store, Distant):
            self._store.expect({digest: size for digest, size, _ in wanted})
        opened = in_parallel(lambda item: self._viewed(*item), wanted, self._at_once())
        views = [each.view for each in opened]
        doubtful = self._doubtful([digest for digest, _, _ in wanted], opened)
        self._read_ahead(wanted, opened, {*doubtful})
        if doubtful:
            identities = [each.identity for each in opened]
            for i in self._differing(wanted, opened, doubtful):
                views[i], identities[i] = self._renewed(*wanted[i])
            self._remember({identities[i]: wanted[i][0] for i in doubtful})
        return views

    def _at_once(self) -> int:
        """Return how many blobs are worth opening at the same time."""
        store = self._store
        far = isinstance(store, Distant) or (isinstance(store, LocalStore) and store.far())
        return _FETCHED_AT_ONCE if far else 1

    def _doubtful(self, digests: Sequence[Digest], opened: Sequence[_Viewed]) -> list[int]:
        """Return the numbers of the blobs that nothing vouches for."""
        if self._verify == "never":
            return []
        stamped = self._stamped([each.identity for each in opened])
        return [
            i
            for i, (digest, each) in enumerate(zip(digests, opened, strict=True))
            if digest not in self._seen.blobs
            and (each.identity is None or stamped.get(each.identity) != digest)
        ]

    def _read_ahead(
        self,
        wanted: Sequence[tuple[Digest, int, str]],
        opened: Sequence[_Viewed],
        doubtful: set[int],
    ) -> None:
        """Ask the disk for what will be used but not be hashed first, as far as is sensible."""
        room = _AHEAD
        for i, each in enumerate(opened):
            if each.absent and i not in doubtful:
                room -= each.view.nbytes
                if room < 0:
                    return
                self._ahead([wanted[i][0]])

    def _ahead(self, digests: Sequence[Digest]) -> None:
        """Ask for blobs that are used at the same time: a part of each, then the next of each."""
        with (
            contextlib.suppress(HoldfastError),  # it was only to be faster
            contextlib.ExitStack() as opened,
        ):
            readings = [
                opened.enter_context(contextlib.closing(self._store.open_blob(digest)))
                for digest in digests
            ]
            for start in range(0, max((each.size for each in readings), default=0), _STRIPE):
                for reading in readings:
                    if isinstance(reading, LocalReading) and start < reading.size:
                        reading.ahead(start, start + _STRIPE)

    def _renewed(self, digest: Digest, size: int, what: str) -> tuple[memoryview, Identity | None]:
        """Fetch a blob again whose copy on this machine went bad, where that can be."""
        if isinstance(self._store, Distant) and self._store.renew(digest):
            view, identity, _ = self._viewed(digest, size, what)
            if digest_of(view) == digest:
                return view, identity
        raise self._store.damaged(digest, f" (it holds {what})")

    def part(self, piece: Piece, offset: int, entry: TensorEntry) -> memoryview | None:
        """Return one tensor of a group by a ranged read, hashed; None where that saves nothing."""
        size, blob = layout.nbytes(entry), parse_digest(piece.digest)
        if not isinstance(self._store, Distant) or self._store.near(blob) or not size:
            return None
        self._store.expect({blob: piece.size})
        data = memoryview(bytearray(self._store.read_range(blob, offset, size)))
        if self._verify != "never":
            self.checked = "hashed"
            if digest_of(data) != entry.digest:
                raise self._store.damaged(blob, f" (it holds tensor {entry.name!r:.100})")
        return data

    def _viewed(self, digest: Digest, size: int, what: str) -> _Viewed:
        """Map a blob and say which bytes they are; the blob is closed again, the mapping stays."""
        try:
            reading = self._store.open_blob(digest)
        except NotFound as error:
            raise Corrupt(f"{error.message} It holds {what}.", hint=error.hint) from error
        with contextlib.closing(reading):
            if reading.size != size:
                raise self._store.damaged(
                    digest, f" ({reading.size} bytes instead of {size}; it holds {what})"
                )
            plain = reading if isinstance(reading, LocalReading) else None
            whole = plain is not None and self.read_whole
            view = plain.read() if plain is not None and whole else reading.view()
            absent = plain is not None and not whole and plain.absent()
            return _Viewed(view, None if self._verify == "never" else reading.identity(), absent)

    def holds(self, piece: str, tensors: Sequence[TensorEntry]) -> bool:
        """Say whether a piece was found to hold just these tensors before, or is not judged."""
        if self._verify == "never" or (piece, _cut(tensors)) in self._seen.held:
            return True
        stamps = self._believed
        return stamps is not None and stamps.proof(piece, _cut(tensors), "tensors") is not None

    def remember_held(self, piece: str, tensors: Sequence[TensorEntry]) -> None:
        """Stamp that a piece holds these tensors, which is true wherever its bytes are."""
        self._seen.held.add((piece, _cut(tensors)))
        if self._stamps is not None:
            self._stamps.add_proof(piece, _cut(tensors), "tensors", "held")

    def _stamped(self, identities: Sequence[Identity | None]) -> dict[Identity, Digest]:
        if self._believed is None:
            return {}
        return self._believed.blobs(identity for identity in identities if identity is not None)

    def _differing(
        self,
        wanted: Sequence[tuple[Digest, int, str]],
        opened: Sequence[_Viewed],
        doubtful: Sequence[int],
    ) -> list[int]:
        """Verify blobs on threads; return the numbers of those that are not what they should be."""
        self.checked = "hashed"

        def alike(i: int) -> bool:
            same = self.live.get(wanted[i][0])
            return same is not None and same(opened[i].view)

        def differing(numbers: Sequence[int]) -> list[int]:
            rest = [i for i in numbers if not alike(i)]
            digests = digests_of([opened[i].view for i in rest])
            return [i for i, digest in zip(rest, digests, strict=True) if digest != wanted[i][0]]

        if self.live:  # few if any will be hashed
            groups = [[i] for i in doubtful]
        else:
            groups = [[*doubtful[part]] for part in groups_of([wanted[i][1] for i in doubtful])]
        bad = {i for each in self._ahead_of(differing, wanted, opened, groups) for i in each}
        self._seen.blobs.update(wanted[i][0] for i in doubtful if i not in bad)
        return sorted(bad)

    def _ahead_of(
        self,
        work: Callable[[Sequence[int]], list[int]],
        wanted: Sequence[tuple[Digest, int, str]],
        opened: Sequence[_Viewed],
        groups: Sequence[Sequence[int]],
    ) -> list[list[int]]:
        """Do work on groups on threads, the disk being asked for those to come meanwhile."""
        sizes = [sum(wanted[i][1] for i in group) for group in groups]
        if sum(sizes) < _WORTH_THREADS:
            return [work(group) for group in groups]
        waiting: deque[tuple[int, Future[list[int]]]] = deque()
        done: list[list[int]] = []
        asked = 0
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for group, size in zip(groups, sizes, strict=True):
                while waiting and asked > _AHEAD:
                    before, future = waiting.popleft()
                    done.append(future.result())
                    asked -= before
                waiting.append((size, pool.submit(work, group)))
                self._ahead([wanted[i][0] for i in group if opened[i].absent])
                asked += size
            return done + [future.result() for _, future in waiting]

    def _remember(self, hashed: Mapping[Identity | None, Digest]) -> None:
        """Stamp what was hashed, unless the file changed while it was."""
        if self._stamps is None:
            return
        fresh: dict[Identity, Digest] = {}
        for identity, digest in hashed.items():
            if identity is None:
                continue
            with (
                contextlib.suppress(NotFound),
                contextlib.closing(self._store.open_blob(digest)) as reading,
            ):
                if reading.identity() == identity:
                    fresh[identity] = digest
        self._stamps.add_blobs(fresh)


def _cut(tensors: Sequence[TensorEntry]) -> Digest:
    """Name what a piece must hold: sizes and digests of its tensors, in order."""
    return digest_of("".join(f"{layout.nbytes(e)} {e.digest}\n" for e in tensors).encode())
