"""Versions from one store into another: blobs first, the log entry last, checked at the far end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, NamedTuple

from holdfast.api.progress import counted, counting
from holdfast.api.refs import parse_ref
from holdfast.api.spreading import as_done, require_executor
from holdfast.api.store import Store, resolve, the_store
from holdfast.api.version import Version
from holdfast.archive import read
from holdfast.catalogue.history import VersionInfo
from holdfast.catalogue.mirror import append_all, beyond
from holdfast.environment import capture
from holdfast.errors import Corrupt, HoldfastError, NoStore, PartlyDone, UsageError
from holdfast.record import Digest
from holdfast.store.base import BlobInfo, Distant
from holdfast.store.transfer import (
    Planner,
    copy_blobs,
    lacking,
    missing_blobs,
    send_blobs,
)

__all__ = ["Sent", "Transfer", "far_end", "partly_done", "transfer"]

# Versions that an executor gets at once: neighbours share blobs.
_TASK: Final = 8
_TURNS: Final = 4  # times that blobs are put again which a deletion at the far end has taken


class Sent(NamedTuple):
    """What became of a version.

    Attributes:
        ref: Its reference where it came from.
        there: Its reference at the far end; None in a dry run when it is not there yet.
        new: Whether it was not there before.
    """

    ref: str
    there: str | None
    new: bool


class Transfer(NamedTuple):
    """What was copied, or would be.

    Attributes:
        to: The far end.
        versions: The versions, in order.
        blobs: Blobs sent.
        size: Bytes that went over, fewer where blobs are coded.
        shared: Plain bytes that were at the far end already.
        aliases: Aliases set at the far end, ``alias = name@vN``.
        failed: Why versions or names were not sent, by reference.
        checks: Results of checks that went along with it, to or from a registry.
        notes: What was passed over without harm, in words.
    """

    to: str
    versions: list[Sent]
    blobs: int
    size: int
    shared: int
    aliases: list[str]
    failed: dict[str, str]
    checks: int = 0
    notes: tuple[str, ...] = ()


class _Wanted(NamedTuple):
    """A version to be sent, with every blob it needs and its size."""

    info: VersionInfo
    sizes: dict[Digest, int]

    @property
    def ref(self) -> str:
        return f"{self.info.name}@v{self.info.number}"


def transfer(  # noqa: PLR0913 - what ``Store.push`` takes
    refs: str | Sequence[str],
    source: Store,
    to: Store | str | os.PathLike[str],
    *,
    history: bool = False,
    aliases: bool = False,
    dry_run: bool = False,
    executor: Executor | None = None,
) -> Transfer:
    """Copy versions into another store.

    What is there already is not sent again, so that a copy that was cut goes on where it was. A
    version keeps its name; its number is the next free one there, or the one it has when that very
    record is there.

    Args:
        refs: References; a bare name means its newest version, with ``history`` all of them.
        source: Where they are.
        to: Where they go; a store is made where there is none.
        history: Copy the whole logs of the names instead, byte for byte: numbers, aliases, tags,
            authors and times. The far end must have no other history of the name.
        aliases: Point the aliases of these versions at them at the far end, too.
        dry_run: Only say what would be sent.
        executor: Where blobs are copied, of up to 8 versions in a task; by default here. Versions
            become visible here, in their order, once all blobs have been copied.

    Returns:
        What was copied; ``failed`` says what was not.

    Raises:
        HoldfastError: Nothing could be copied: the first reason.
        UsageError: What is no reference.
    """
    names = [refs] if isinstance(refs, str) else list(refs)
    _require_any(names, source, history=history)
    if executor is not None:
        require_executor(executor)
    far = far_end(to, dry_run=dry_run)
    sending = _Sending(source, far, str(to if far is None else far.url), dry_run=dry_run)
    if executor is not None and far is not None and not dry_run:
        sending.send_ahead(names, executor, history=history)
    errors: list[HoldfastError] = []
    if not history and len(names) > 1:
        sending.expect(names)
    for ref in dict.fromkeys(names):
        try:
            if history:
                sending.mirror(ref)
            else:
                sending.send(ref, aliases=aliases)
        except HoldfastError as error:
            if isinstance(error, UsageError):
                raise
            errors.append(error)
            sending.failed[ref] = error.message
    done = sending.result()
    if errors and not done.versions:
        raise errors[0]
    return done


def _require_any(refs: Sequence[str], source: Store, *, history: bool) -> None:
    """Raise the first error where nothing can be sent, before a store is made for it."""
    errors = []
    for ref in refs:
        try:
            if history:
                source.catalogue.history(parse_ref(ref).name)
            else:
                resolve(ref, source)
        except HoldfastError as error:
            errors.append(error)
        else:
            return
    if errors:
        raise errors[0]


def partly_done(done: Transfer, again: str) -> PartlyDone:
    """Word the error for a transfer of which a part failed.

    Args:
        done: What became of it.
        again: The command that tries again, with ``REFS`` for what failed.
    """
    ref, why = next(iter(done.failed.items()))
    sent = len(done.versions)
    return PartlyDone(
        f"{sent} of {sent + len(done.failed)} are at {done.to}; {ref} is not: {why}",
        hint=again.replace("REFS", " ".join(done.failed)),
        ref=ref,
    )


def far_end(to: Store | str | os.PathLike[str], *, dry_run: bool) -> Store | None:
    """Open the store that something goes to, or make it.

    Returns:
        None in a dry run when there is none.
    """
    if not dry_run:
        return the_store(to, create=True)
    try:
        return the_store(to)
    except NoStore:
        return None


class _Sending:
    """One copy: counts what goes over."""

    def __init__(self, source: Store, far: Store | None, place: str, *, dry_run: bool) -> None:
        self._source = source
        self._far = far
        self._place = place
        self._dry_run = dry_run
        self._sizes: dict[Digest, int] = {}
        self._sent: dict[Digest, int] = {}
        self._planner = Planner(source.blobs, None if far is None else far.blobs)
        self._planned: dict[Digest, BlobInfo] = {}  # that a dry run would have sent by now
        self._versions: dict[str, Sent] = {}
        self._aliases: list[str] = []
        self.failed: dict[str, str] = {}

    def result(self) -> Transfer:
        sent = sum(self._sent.values())
        shared = sum(size for digest, size in self._sizes.items() if digest not in self._sent)
        versions = list(self._versions.values())
        blobs = len(self._sent)
        return Transfer(self._place, versions, blobs, sent, shared, self._aliases, self.failed)

    def send_ahead(self, refs: Iterable[str], executor: Executor, *, history: bool) -> None:
        """Let an executor copy blobs of versions that are not there.

        What it fails at is met again, and told, when the version is sent.
        """
        todo = [*dict.fromkeys(self._not_there(refs, history=history))]
        parts = [todo[at : at + _TASK] for at in range(0, len(todo), _TASK)]
        calls = [(self._source, self._far, part) for part in parts]
        with counting("sending", shown=True) as move:
            for number, sent in enumerate(as_done(executor, _copied, calls), 1):
                self._sent.update(sent)
                move(f"{min(number * _TASK, len(todo))} versions", number, len(calls))

    def _not_there(self, refs: Iterable[str], *, history: bool) -> Iterator[str]:
        for ref in refs:
            with suppress(HoldfastError):
                infos = [resolve(ref, self._source)]
                if history:
                    infos = self._source.catalogue.versions(infos[0].name)
                for info in infos:
                    if self._there(info) is None:
                        yield f"{info.name}@v{info.number}"

    def expect(self, refs: Iterable[str]) -> None:
        """Look at all versions first, since a base may serve several; what fails is told later."""
        coming: set[Digest] = set()
        for ref in refs:
            with suppress(HoldfastError):
                info = resolve(ref, self._source)
                if self._there(info) is None:
                    coming.update(_wanted(self._source, info).sizes)
        self._planner.expect(coming)

    def send(self, ref: str, *, aliases: bool) -> None:
        """Send one version under the next free number."""
        info = resolve(ref, self._source)
        wanted = _wanted(self._source, info)
        there = self._there(info)
        if there is None:
            self._copy([wanted])
            if self._far is not None and not self._dry_run:
                there = self._committed(self._far, wanted)
            self._tell(wanted.ref, there, new=True)
        else:
            self._tell(wanted.ref, there, new=False)
            self._sizes.update(wanted.sizes)
        if there is not None:
            self._attach(info, there)
        if aliases and there is not None:
            self._set_aliases(info, there)

    def mirror(self, ref: str) -> None:
        """Send all versions of a name and its log."""
        name = parse_ref(ref).name
        history = self._source.catalogue.history(name)
        near = self._source.catalogue.log
        entries, far = [b""] * history.seq, self._far
        if far is not None:
            entries = beyond(name, near, far.catalogue.log)
        live = [info for info in history.versions.values() if not info.forgotten]
        self._source.fetch_documents(live)
        wanted = [_wanted(self._source, info) for info in live]
        first = history.seq - len(entries) + 1
        before = {e.body["version"] for e in history.entries[: first - 1] if e.kind == "save"}
        self._copy(wanted)
        if far is not None and not self._dry_run:
            for item in wanted:
                self._check(far, item)
            far.blobs.flush()
            append_all(name, entries, first, far.catalogue.log)
            for item in wanted:
                self._recheck(far, item)
        for item in wanted:
            self._tell(item.ref, item.info, new=item.info.number not in before)

    def _tell(self, ref: str, there: VersionInfo | None, *, new: bool) -> None:
        place = None if there is None else f"{there.name}@v{there.number}"
        self._versions[ref] = Sent(ref, None if self._dry_run and new else place, new)

    def _there(self, info: VersionInfo) -> VersionInfo | None:
        """Return the version at the far end that is this very one."""
        if self._far is None:
            return None
        found = self._far.catalogue.by_record(info.name, info.record)
        return found[-1] if found else None

    def _copy(self, wanted: Iterable[_Wanted]) -> None:
        sizes = {digest: size for item in wanted for digest, size in item.sizes.items()}
        far = None if self._far is None else self._far.blobs
        missing = list(sizes) if far is None else lacking(far, sizes)
        todo = {digest: sizes[digest] for digest in missing if digest not in self._planned}
        plan = self._planner.plan(todo, self._planned)
        sent = {info.digest: info.stored for info in plan.values()}
        if far is not None and not self._dry_run:
            with counted("sending", sum(sent.values())) as progress:
                sent = send_blobs(self._source.blobs, far, plan, progress)
        else:
            self._planned.update(plan)
        self._sizes.update(sizes)
        self._sent.update(sent)

    def _committed(self, far: Store, wanted: _Wanted) -> VersionInfo:
        """Make a version visible at the far end, and see that its blobs are still there."""
        self._check(far, wanted)
        far.blobs.flush()
        info = wanted.info
        added = far.catalogue.add_version(
            info.name,
            record=info.record,
            content=info.content,
            manifest=info.manifest,
            by=capture.author(),
            once=True,
        )
        self._recheck(far, wanted)
        return added

    def _check(self, far: Store, wanted: _Wanted) -> None:
        """Ask for every blob, and read the documents back."""
        self._recheck(far, wanted)
        if isinstance(far.blobs, Distant):
            for document in (wanted.info.manifest, wanted.info.content, wanted.info.record):
                far.blobs.renew(document)
        found = read.sizes_of(far.blobs, wanted.info.manifest)
        if found | _attached(wanted.info) != wanted.sizes:
            raise Corrupt(f"{wanted.ref} did not arrive whole at {far.url}.", ref=wanted.ref)

    def _recheck(self, far: Store, wanted: _Wanted) -> None:
        """Put again what is not there, as after a deletion that ran meanwhile."""
        for _ in range(_TURNS):
            gone = missing_blobs(far.blobs, list(wanted.sizes))
            if not gone:
                return
            again = {digest: wanted.sizes[digest] for digest in gone}
            copy_blobs(self._source.blobs, far.blobs, again)
        raise Corrupt(
            f"Blobs of {wanted.ref} vanish from {far.url} as fast as they are sent.",
            hint=f"hold push {wanted.ref} {far.url}",
            ref=wanted.ref,
        )

    def _attach(self, info: VersionInfo, there: VersionInfo) -> None:
        """Attach there what is attached here; what is there in the same role stays."""
        assert self._far is not None  # noqa: S101 - there is something there
        absent = {r: s for r, s in info.attachments.items() if r not in there.attachments}
        if not absent or self._dry_run:
            return
        far = self._far
        copy_blobs(self._source.blobs, far.blobs, {s.blob: s.size for s in absent.values()})
        far.blobs.flush()
        for role, state in absent.items():
            far.catalogue.attach(
                there.name,
                there.number,
                role,
                blob=state.blob,
                size=state.size,
                by=capture.author(),
            )

    def _set_aliases(self, info: VersionInfo, there: VersionInfo) -> None:
        assert self._far is not None  # noqa: S101 - there is something there
        present = set(there.aliases)
        for alias in info.aliases:
            self._aliases.append(f"{alias} = {there.name}@v{there.number}")
            if alias in present or self._dry_run:
                continue
            reason = f"as in {self._source.url}"
            self._far.catalogue.set_alias(
                there.name, alias, there.number, by=capture.author(), reason=reason
            )


def _attached(info: VersionInfo) -> dict[Digest, int]:
    return {state.blob: state.size for state in info.attachments.values()}


def _wanted(source: Store, info: VersionInfo) -> _Wanted:
    sizes = read.sizes_of(source.blobs, Version(source, info).manifest_id)
    return _Wanted(info, sizes | _attached(info))


def _copied(source: Store, far: Store, refs: Sequence[str]) -> dict[Digest, int]:
    """Copy the blobs of versions, up to the first that fails, in whatever process this is.

    Returns:
        The bytes that went over of those that were not there.
    """
    sent: dict[Digest, int] = {}
    with suppress(HoldfastError):
        wanted = [_wanted(source, resolve(ref, source)).sizes for ref in refs]
        planner = Planner(source.blobs, far.blobs)
        planner.expect({digest for sizes in wanted for digest in sizes})
        for sizes in wanted:
            todo = {digest: sizes[digest] for digest in lacking(far.blobs, sizes)}
            sent |= send_blobs(source.blobs, far.blobs, planner.plan(todo, {}))
    return sent
