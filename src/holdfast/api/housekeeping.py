"""Freeing space, and saying what is kept and why."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from holdfast.api.store import Store, the_store
from holdfast.archive import read
from holdfast.catalogue.history import VersionInfo
from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store.base import BlobInfo, Disposal, Distant

__all__ = ["Pruned", "Stats", "prune", "stats"]

StoreLike = Store | str | os.PathLike[str] | None

GRACE_SECONDS = 3600.0


class Pruned(NamedTuple):
    """What ``prune`` freed, or would free.

    Attributes:
        blobs: Blobs deleted.
        freed: Their bytes.
        young: Unreferenced blobs kept because they are younger than the grace period.
        kept: Blobs that visible versions need.
        reasons: Version reference to why it is kept: aliases, pins.
        checks: Records that are not needed any more and whose checks were deleted.
        waiting: Blobs announced: in a store that is shared by a bucket, a later prune takes them.
        until: When the first of them can be deleted, RFC 3339 in UTC; None without any.
    """

    blobs: int
    freed: int
    young: int
    kept: int
    reasons: dict[str, str]
    checks: int
    waiting: int = 0
    until: str | None = None


class Stats(NamedTuple):
    """Sizes of a store.

    Attributes:
        names: Models.
        versions: Versions that are not forgotten.
        logical: Bytes if every version were stored whole.
        stored: Bytes that all blobs occupy.
        unreferenced: Bytes that ``prune`` could free.
        coded: Blobs that are kept coded.
        saved: Bytes that this saves.
    """

    names: int
    versions: int
    logical: int
    stored: int
    unreferenced: int
    coded: int
    saved: int


def _live(store: Store) -> Iterator[VersionInfo]:
    return store.catalogue.live()


def _needed(store: Store) -> set[Digest]:
    """Return every blob that a visible version needs, from the log itself."""
    needed: set[Digest] = set()
    manifests: set[str] = set()
    live = list(_live(store))
    store.fetch_documents(live)
    for info in live:
        needed.update(state.blob for state in info.attachments.values())
        if info.manifest not in manifests:
            manifests.add(info.manifest)
            needed.update(read.blobs_of(store.blobs, Digest(info.manifest)))
    return needed


def prune(
    *, dry_run: bool = False, grace: float = GRACE_SECONDS, store: StoreLike = None
) -> Pruned:
    """Free the bytes that no visible version needs.

    Safe beside a writer: blobs younger than the grace period stay, each blob is set aside
    first and the log is read again before it is unlinked. Safe when interrupted.

    In a bucket, where nothing can be set aside, what will be deleted is announced, and deleted by
    a prune after the grace period, if no writer has objected.

    Args:
        dry_run: Only say what would be freed.
        grace: Seconds that an unreferenced blob is kept after its last use.
        store: Store or path; default: the store in force.

    Raises:
        Corrupt: A visible version is damaged: nothing is freed until ``verify`` is clean.
    """
    opened = the_store(store)
    needed = _needed_or_refuse(opened)
    blobs = list(opened.blobs.list())
    needed |= {blob.base for blob in blobs if blob.base is not None and blob.digest in needed}
    unneeded = [blob for blob in blobs if blob.digest not in needed]
    records = {Digest(info.record) for info in _live(opened)}
    checks = opened.checks.keep_only(records, dry_run=dry_run)
    kept = Pruned(0, 0, 0, len(blobs) - len(unneeded), _reasons(opened), checks)
    if isinstance(opened.blobs, Distant) and not dry_run:
        done = _dispose(opened, opened.blobs, unneeded, grace)
        return kept._replace(
            blobs=done.deleted,
            freed=done.freed,
            young=len(unneeded) - done.deleted - done.waiting,
            waiting=done.waiting,
            until=None if done.until is None else _moment(done.until),
        )
    cutoff = time.time() - grace
    doomed = [blob for blob in unneeded if blob.modified <= cutoff]
    freed = sum(blob.stored for blob in doomed)
    if not dry_run:
        freed = opened.blobs.delete(
            [blob.digest for blob in doomed], still_needed=_fresh_needed(opened), grace=grace
        )
    return kept._replace(blobs=len(doomed), freed=freed, young=len(unneeded) - len(doomed))


def _dispose(store: Store, blobs: Distant, unneeded: list[BlobInfo], grace: float) -> Disposal:
    """Delete in a store that may have writers anywhere; it knows the time there."""

    def still_unneeded(some: Sequence[Digest]) -> list[Digest]:
        needed = _needed_or_refuse(store)
        return [digest for digest in some if digest not in needed]

    return blobs.dispose([blob.digest for blob in unneeded], unneeded=still_unneeded, grace=grace)


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).isoformat().replace("+00:00", "Z")


def _needed_or_refuse(store: Store) -> set[Digest]:
    try:
        return _needed(store)
    except Corrupt as error:
        raise Corrupt(
            f"Nothing was freed, because a visible version is damaged: {error.message}",
            hint="hold verify --no-replay",
        ) from error


class _fresh_needed:  # noqa: N801 - used as a function that reads the log once per deletion pass
    """Ask the log again, once per change of its heads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._needed: set[Digest] | None = None
        self._heads: object = None

    def __call__(self, digest: Digest) -> bool:
        heads = tuple((m.name, m.last_seq) for m in self._store.catalogue.names())
        if self._needed is None or heads != self._heads:
            self._needed, self._heads = _needed_or_refuse(self._store), heads
        return digest in self._needed


def _reasons(store: Store) -> dict[str, str]:
    reasons = {}
    for info in _live(store):
        why = [f"alias {alias}" for alias in info.aliases]
        if info.pinned is not None:
            why.append(f"pinned until {info.pinned.until}" if info.pinned.until else "pinned")
        if why:
            reasons[f"{info.name}@v{info.number}"] = ", ".join(why)
    return reasons


def stats(*, store: StoreLike = None) -> Stats:
    """Return what a store holds and what sharing saves."""
    opened = the_store(store)
    listed = {blob.digest: blob for blob in opened.blobs.list()}
    logical, versions, needed = 0, 0, set[Digest]()
    for info in _live(opened):
        blobs = set(read.blobs_of(opened.blobs, Digest(info.manifest)))
        blobs.update(state.blob for state in info.attachments.values())
        needed |= blobs
        logical += sum(listed[blob].size for blob in blobs if blob in listed)
        versions += 1
    needed |= {listed[blob].base or blob for blob in needed if blob in listed}
    stored = sum(blob.stored for blob in listed.values())
    used = sum(listed[blob].stored for blob in needed if blob in listed)
    smaller = [blob.size - blob.stored for blob in listed.values() if blob.stored != blob.size]
    names = len(opened.catalogue.names())
    return Stats(names, versions, logical, stored, stored - used, len(smaller), sum(smaller))
