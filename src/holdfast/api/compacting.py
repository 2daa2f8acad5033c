"""Keeping old versions in fewer bytes: ``compact``, and its undoing."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from holdfast.api.progress import bytes_progress
from holdfast.api.store import Store, the_store
from holdfast.archive import layout, read
from holdfast.catalogue.history import VersionInfo
from holdfast.codec.tensors import ITEMSIZE
from holdfast.errors import Corrupt, NotFound, Unsupported
from holdfast.record import Content, Digest, FileEntry, Manifest, Piece, Record
from holdfast.store.base import Distant
from holdfast.store.local import LocalStore

if TYPE_CHECKING:
    from holdfast.store.coder import Coder

__all__ = ["Compacted", "compact"]

_SMALL: Final = 4096  # blobs below gain less than a block of the file system
_REACH: Final = 8  # versions back that a base is looked for
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})

_Entries: TypeAlias = tuple[tuple[str, str, tuple[int, ...]], ...]  # names, dtypes and shapes
_Run: TypeAlias = tuple[int, int, bool]


class Compacted(NamedTuple):
    """What ``compact`` did, or would look at.

    Attributes:
        blobs: Blobs coded or written plain.
        saved: Bytes saved; negative where more were written plain than coded.
        plain: Versions that stay plain: the newest, those with an alias or a pin.
    """

    blobs: int
    saved: int
    plain: tuple[str, ...]


class _Job(NamedTuple):
    """A blob to be coded, or written plain.

    Attributes:
        digest: Which.
        size: Its bytes.
        runs: What they are: bytes, width of each number, and whether they are floats.
        bases: Blobs of the same layout in versions that it may resemble, nearest first.
        undo: It is to be written plain instead.
    """

    digest: Digest
    size: int
    runs: tuple[_Run, ...]
    bases: tuple[Digest, ...]
    undo: bool = False


def compact(
    names: Sequence[str] = (),
    *,
    keep: int = 1,
    undo: bool = False,
    dry_run: bool = False,
    store: Store | str | os.PathLike[str] | None = None,
) -> Compacted:
    """Keep the bytes of older versions compressed; loads decode them, and nothing else changes.

    Weights are coded as differences to those of the version's parents, or of an earlier version of
    the same name, where that is smaller. What a newer version took over from a compressed one is
    written plain again. What was done stays done when it is interrupted.

    Args:
        names: Models; default: all.
        keep: How many of the newest versions of each stay plain. Those with an alias or a pin do
            too.
        undo: Write everything plain again instead.
        dry_run: Only count what would be looked at; how much it saves, coding tells.
        store: Store or path; default: the store in force.

    Raises:
        NotFound: There is no such model.
        Unsupported: The store is in a bucket or a bundle.
        Conflict: A prune or another compact is at work.
        Corrupt: A blob is damaged; it stays as it is, and so does what comes after it.
        NoSpace: There is no room for one more coded blob.
    """
    opened = the_store(store)
    if not isinstance(opened.blobs, LocalStore):
        raise _no_folder(opened)
    live = list(opened.catalogue.live())
    _require_known(names, live)
    chosen = [info for info in live if not names or info.name in names]
    shown: tuple[str, ...] = ()
    if undo:
        jobs = _undoing(opened, chosen)
    else:
        cold, hot = _divided(chosen, keep)
        coded = {info.manifest for info in cold} - {info.manifest for info in hot}
        others = [info.manifest for info in live if info.manifest not in coded]
        plain = {blob for it in others for blob in read.blobs_of(opened.blobs, Digest(it))}
        jobs = [*_undoing(opened, hot), *_jobs(opened, live, cold, plain)]
        shown = tuple(f"{info.name}@v{info.number}" for info in hot)
    if dry_run:
        return Compacted(len(jobs), 0, shown)
    return Compacted(*_run(opened.blobs, jobs), shown)


def _no_folder(store: Store) -> Unsupported:
    what = f"The store {store.url} is not a folder, and only stores in folders are compacted."
    hint = f"hold pull NAME {store.url} --store ./models"
    if isinstance(store.blobs, Distant):
        what += " What is pushed from one is sent, and kept there, as it is coded in it."
        hint = f"hold compact --store ./models && hold push NAME {store.url} --store ./models"
    return Unsupported(what, hint=hint, ref=store.url)


def _require_known(names: Sequence[str], live: Sequence[VersionInfo]) -> None:
    known = {info.name for info in live}
    for name in names:
        if name not in known:
            raise NotFound(f"There is no model {name!r:.100} with versions.", hint="hold ls")


def _divided(
    chosen: Sequence[VersionInfo], keep: int
) -> tuple[list[VersionInfo], list[VersionInfo]]:
    """Return the versions whose bytes may be coded, oldest first, and those that stay plain."""
    newest: dict[str, list[int]] = {}
    for info in chosen:
        newest.setdefault(info.name, []).append(info.number)
    kept = {(name, n) for name, all_ in newest.items() for n in sorted(all_, reverse=True)[:keep]}
    hot = [i for i in chosen if (i.name, i.number) in kept or i.aliases or i.pinned is not None]
    cold = [info for info in chosen if info not in hot]
    return sorted(cold, key=lambda info: (info.name, info.number)), hot


def _jobs(
    store: Store, live: Sequence[VersionInfo], cold: Sequence[VersionInfo], plain: set[Digest]
) -> list[_Job]:
    """Return what to code, bases before what may be coded against them."""
    by_record = {str(info.record): info for info in live}
    by_number = {(info.name, info.number): info for info in live}
    laid_out = functools.lru_cache(maxsize=2 * _REACH)(functools.partial(_laid_out, store))
    jobs: dict[Digest, _Job] = {}
    for info in cold:
        parents = Record.decode(store.blobs.read(Digest(info.record))).parents
        numbers = range(info.number - 1, info.number - 1 - _REACH, -1)
        related = [by_record.get(parent) for parent in parents]
        related += [by_number.get((info.name, number)) for number in numbers]
        alike = [laid_out(other.manifest).pieces for other in related if other is not None]
        for job in _of(laid_out(info.manifest), alike):
            if job.digest not in plain and job.size >= _SMALL:
                jobs.setdefault(job.digest, job)
    return list(jobs.values())


class _Blobs(NamedTuple):
    """The blobs of a version that may be coded: pieces by what lies in them, and files."""

    pieces: dict[_Entries, Piece]
    files: tuple[FileEntry, ...]


def _laid_out(store: Store, manifest: str) -> _Blobs:
    found = Manifest.decode(store.blobs.read(Digest(manifest)))
    content = Content.decode(store.blobs.read(Digest(found.content)))
    cut = layout.plan(content.tensors).pieces
    if len(cut) != len(found.pieces[1:]):
        raise Corrupt("the manifest's pieces are not those of the content's tensors")
    keys = (tuple((each.name, each.dtype, tuple(each.shape)) for each in piece) for piece in cut)
    return _Blobs(dict(zip(keys, found.pieces[1:], strict=True)), content.files)


def _of(blobs: _Blobs, alike: Sequence[dict[_Entries, Piece]]) -> Iterator[_Job]:
    for entries, piece in blobs.pieces.items():
        bases = dict.fromkeys(other[entries].digest for other in alike if entries in other)
        bases.pop(piece.digest, None)
        yield _Job(Digest(piece.digest), piece.size, _runs(entries), tuple(map(Digest, bases)))
    for file in blobs.files:
        yield _Job(Digest(file.digest), file.size, ((file.size, 1, False),), ())


def _runs(entries: _Entries) -> tuple[_Run, ...]:
    """Say what a piece's bytes are; neighbours of one kind are one run."""
    kinds = [
        (math.prod(shape) * ITEMSIZE[dtype], ITEMSIZE[dtype], dtype in _FLOATS)
        for _, dtype, shape in entries
    ]
    grouped = itertools.groupby(kinds, key=lambda kind: kind[1:])
    return tuple((sum(kind[0] for kind in group), *alike) for alike, group in grouped)


def _undoing(store: Store, chosen: Sequence[VersionInfo]) -> list[_Job]:
    coded = [info for info in store.blobs.list() if info.stored != info.size]
    if not coded:
        return []
    wanted = {b for i in chosen for b in read.blobs_of(store.blobs, Digest(i.manifest))}
    return [_Job(i.digest, i.size, (), (), undo=True) for i in coded if i.digest in wanted]


def _run(store: LocalStore, jobs: Sequence[_Job]) -> tuple[int, int]:
    from holdfast.store.coder import Coder

    blobs = saved = done = 0
    total = sum(job.size for job in jobs)
    with Coder(store) as coder, bytes_progress("compacting", total) as progress:
        for job in jobs:
            gained = -coder.decode(job.digest) if job.undo else _coded(coder, job)
            blobs += gained != 0
            saved += gained
            done += job.size
            if progress is not None:
                progress(done, total)
    return blobs, saved


def _coded(coder: Coder, job: _Job) -> int:
    from holdfast.store.coding import Kind

    try:
        return coder.code(job.digest, [Kind(*run) for run in job.runs], job.bases)
    except NotFound as error:
        raise Corrupt(error.message, hint=error.hint, ref=error.ref) from error
