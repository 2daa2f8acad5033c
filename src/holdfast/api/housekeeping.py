"""Freeing space, and saying what is kept and why."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.api.store import Store, the_store
from holdfast.archive import read
from holdfast.catalogue.history import VersionInfo
from holdfast.errors import Corrupt
from holdfast.record import Digest

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
    """

    blobs: int
    freed: int
    young: int
    kept: int
    reasons: dict[str, str]
    checks: int


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
    for info in _live(store):
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

    Args:
        dry_run: Only say what would be freed.
        grace: Seconds that an unreferenced blob is kept after its last use.
        store: Store or path; default: the store in force.

    Raises:
        Corrupt: A visible version is damaged: nothing is freed until ``verify`` is clean.
    """
    opened = the_store(store)
    needed = _needed_or_refuse(opened)
    listed = list(opened.blobs.list())
    needed |= {blob.base for blob in listed if blob.base is not None and blob.digest in needed}
    cutoff = time.time() - grace
    young = kept = freed = 0
    doomed: list[Digest] = []
    for blob in listed:
        if blob.digest in needed:
            kept += 1
        elif blob.modified > cutoff:
            young += 1
        else:
            doomed.append(blob.digest)
            freed += blob.stored
    if not dry_run:
        freed = opened.blobs.delete(doomed, still_needed=_fresh_needed(opened), grace=grace)
    records = {Digest(info.record) for info in _live(opened)}
    checks = opened.checks.keep_only(records, dry_run=dry_run)
    return Pruned(len(doomed), freed, young, kept, _reasons(opened), checks)


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
