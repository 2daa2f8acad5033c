"""Proving a whole store: which versions, in which order, going on after an interruption."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from holdfast.api.replaying import Replayer
from holdfast.api.settings import cache_folder
from holdfast.api.spreading import as_done
from holdfast.api.store import Store, resolve
from holdfast.api.verifying import NOT_REPLAYED, Verified, failure, hashed, keep
from holdfast.api.version import Version
from holdfast.archive import checks, read
from holdfast.archive.checks import Check
from holdfast.catalogue.history import VersionInfo
from holdfast.environment import capture
from holdfast.errors import Corrupt, HoldfastError, NotFound, UsageError

__all__ = ["Fixity", "verify_all"]

_GOES_ON: Final = dt.timedelta(days=1)
# Versions that an executor gets at once: neighbours share blobs, which a task hashes once.
_TASK: Final = 32

Told = Callable[[Verified, int, int], None]


class Fixity(NamedTuple):
    """What a run over a store found.

    Attributes:
        verified: Its results, in the order in which they were found.
        earlier: Versions that were left out, for the run that this one goes on with had them.
        versions: Versions of the store.
        unrecorded: Why results are not kept in the store; empty where all are.
    """

    verified: tuple[Verified, ...]
    earlier: int
    versions: int
    unrecorded: str


@dataclass(frozen=True, slots=True)
class _Todo:
    """A version to be checked.

    Attributes:
        version: Which.
        libraries: Names of the packages that its record names.
        here: Its check in this environment, or None.
        last: When it was checked last, here and anywhere; empty for never.
    """

    version: Version
    libraries: frozenset[str]
    here: Check | None
    last: tuple[str, str]


def verify_all(
    store: Store,
    *,
    sample: str | int | None = None,
    replay: bool = True,
    executor: Executor | None = None,
    told: Told | None = None,
) -> Fixity:
    """Check all versions of a store, those first that were not checked for longest.

    Each blob is hashed once, however many versions share it. Models are built one at a time in a
    process of their own; one that crashes or hangs is a result. A run that was interrupted is gone
    on with when the next one starts within a day.

    Args:
        store: The store.
        sample: Only so many versions, ``20``, or such a part, ``"10%"``: those that were not
            checked for longest.
        replay: False only hashes.
        executor: Where versions are checked, up to 32 in a task; by default here, one by one.
        told: Called with each result, how many there are by now, and how many there will be.

    Raises:
        UsageError: ``sample`` is neither.
    """
    found = [*_damaged_logs(store)]
    todo = sorted(_todos(store, bad := {each.ref for each in found}), key=lambda each: each.last)
    total, started = len(todo), _Started(store)
    if sample is not None:
        todo = todo[: _count(sample, total)]
    else:
        since = started.begin()
        todo = [each for each in todo if not _is_done(each, since, replay=replay)]
    for number, result in enumerate([*found], 1):
        if told is not None:
            told(result, number, len(bad) + len(todo))
    earlier = 0 if sample is not None else total - len(todo)
    groups = _groups(todo)
    results = (
        _checked(store, groups, read.Seen(), replay=replay)
        if executor is None
        else _spread(store, groups, executor, replay=replay)
    )
    for result in results:
        found.append(result)
        if told is not None:
            told(result, len(found), len(bad) + len(todo))
    if sample is None:
        started.end()
    unrecorded = next((each.unrecorded for each in found if each.unrecorded), "")
    return Fixity(tuple(found), earlier, total, unrecorded)


def _damaged_logs(store: Store) -> Iterator[Verified]:
    for model in store.catalogue.names():
        try:
            store.catalogue.check_chain(model.name)
        except Corrupt as error:
            yield failure(model.name, read.Checked(0, 0), error)


def _todos(store: Store, damaged: set[str]) -> Iterator[_Todo]:
    for model in store.catalogue.names():
        if model.name in damaged:
            continue
        with suppress(NotFound):  # all its versions were forgotten
            for info in store.catalogue.versions(model.name):
                yield _todo(store, info)


def _todo(store: Store, info: VersionInfo) -> _Todo:
    version = Version(store, info)
    try:
        recorded: Mapping[str, Any] = version.record.environment
    except HoldfastError:
        recorded = {}
    known = store.checks.of(info.record).checks
    here = known.get(capture.environment_key(checks.here(recorded)))
    named = recorded.get("packages")
    libraries = frozenset(named) if isinstance(named, dict) else frozenset()
    newest = next(iter(known.values()), None)
    last = ("" if here is None else here.hashed, "" if newest is None else newest.hashed)
    return _Todo(Version(store, info), libraries, here, last)


def _count(sample: str | int, total: int) -> int:
    text = str(sample).strip()
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = math.nan
    if not 0 < value <= (100 if percent else 2**53):
        raise UsageError(
            f"A sample is a number of versions or a part of them, not {sample!r:.40}.",
            hint="hold verify --sample 10%",
        )
    return math.ceil(total * value / 100) if percent else int(value)


def _is_done(todo: _Todo, since: str | None, *, replay: bool) -> bool:
    check = todo.here
    if since is None or check is None or check.manifest != todo.version.info.manifest:
        return False
    if not replay:
        return check.hashed >= since
    return check.at >= since and (check.outcome, check.detail) != NOT_REPLAYED


def _groups(todo: Sequence[_Todo]) -> list[list[Version]]:
    """Put versions that need the same libraries together."""
    groups: dict[frozenset[str], list[Version]] = {}
    for each in todo:
        groups.setdefault(each.libraries, []).append(each.version)
    return [*groups.values()]


def _spread(
    store: Store, groups: Sequence[Sequence[Version]], executor: Executor, *, replay: bool
) -> Iterator[Verified]:
    """Let an executor check versions; results come as its tasks end."""
    calls = (
        (store, [v.ref for v in group[at : at + _TASK]], replay)
        for group in groups
        for at in range(0, len(group), _TASK)
    )
    for results in as_done(executor, _task, calls):
        yield from results


def _task(store: Store, refs: Sequence[str], replay: bool) -> list[Verified]:  # noqa: FBT001 - what an executor passes on
    """Check versions in whatever process this is; those forgotten meanwhile are left out."""
    group = []
    for ref in refs:
        with suppress(NotFound):
            group.append(Version(store, resolve(ref, store)))
    return [*_checked(store, [group], read.Seen(), replay=replay)]


def _checked(
    store: Store, groups: Sequence[Sequence[Version]], seen: read.Seen, *, replay: bool
) -> Iterator[Verified]:
    """Check versions, each group in one process, one after the other."""
    for versions in groups:
        with Replayer(store.url) as replayer:
            for version in versions:
                result = _one(version, seen, replayer if replay else None)
                if result is not None:
                    yield result._replace(unrecorded=keep(version, result))


def _one(version: Version, seen: read.Seen, replayer: Replayer | None) -> Verified | None:
    """Check one version; None when it was forgotten meanwhile."""
    sizes = read.Checked(0, 0)
    try:
        sizes = hashed(version, seen)
        if replayer is None:
            return Verified(version.ref, *sizes, *NOT_REPLAYED)
        if version.record.golden is None:
            words = "bytes verified, behaviour not recorded"
            return Verified(version.ref, *sizes, "state only", words)
        return replayer.replay(version.ref, sizes)
    except HoldfastError as error:
        if _is_forgotten(version):
            return None
        return failure(version.ref, sizes, error)


def _is_forgotten(version: Version) -> bool:
    try:
        version.store.catalogue.resolve(version.name, version.number)
    except NotFound:
        return True
    except HoldfastError:
        return False
    return False


class _Started:
    """Remembers in the user's cache that a run over a store began and did not end."""

    def __init__(self, store: Store) -> None:
        self._file: Path = cache_folder() / "verifying" / store.key

    def begin(self) -> str | None:
        """Return when the run began that this one goes on with, None for a run of its own."""
        now = dt.datetime.now(tz=dt.UTC)
        with suppress(OSError, ValueError):
            since = self._file.read_text("utf-8")
            if now - _GOES_ON < dt.datetime.fromisoformat(since) <= now:
                return since
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(capture.now(), "utf-8")
        return None

    def end(self) -> None:
        """Forget it."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)
