"""What checks found: one document per version and environment, read as a stranger's word.

What a registry tells of checks made elsewhere is kept beside them, marked as heard: only words for
people come of it, never an order of work or a judgement here.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from holdfast.environment import capture
from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import FORMAT, Digest, Document, canonical, parse_digest, parse_json
from holdfast.store.base import CheckFiles
from holdfast.store.checks import MOST

__all__ = ["LONGEST_REPORT", "OUTCOMES", "PROVEN", "Check", "Checks", "Kept", "Report", "here"]

# Outcomes that stand for the bytes and, as far as it was recorded, for the behaviour.
PROVEN: Final = ("replayed", "replayed on synthetic inputs", "state only")
OUTCOMES: Final = (*PROVEN, "unproved", "refused", "damaged", "failed")
# Bytes of a report that is sent or read.
LONGEST_REPORT: Final = 1 << 20

_MOST_TEXT: Final = 2000
_MOST_FACTS: Final = 1000
_MOST_HEARD: Final = 64  # checks made elsewhere that are kept of a record
_SKEW: Final = dt.timedelta(days=1)


class Check(Document, frozen=True, kw_only=True):
    """What one check of a version found in one environment.

    Attributes:
        record: Digest of the version's record.
        manifest: Digest of the manifest by which its bytes were found.
        at: When the outcome was found, RFC 3339 in UTC with microseconds.
        hashed: When the bytes were last hashed, ``at`` or later.
        by: Who.
        environment: Facts as in a record; ``packages`` are those that the record names, null where
            one is not installed.
        blobs: Blobs that were hashed.
        size: Their bytes.
        outcome: One of ``OUTCOMES``; a proof level may go on after a comma.
        detail: The outcome in words.
        rung: ``native`` or ``migrated``; None where nothing was built.
        heard: The place that told it; None for a check that was made in this store.
    """

    title: ClassVar[str] = "check"

    format: str = FORMAT
    record: str
    manifest: str
    at: str
    hashed: str
    by: str
    environment: dict[str, Any]
    blobs: int
    size: int
    outcome: str
    detail: str
    rung: str | None = None
    heard: str | None = None

    @property
    def kind(self) -> str:
        """The outcome as one of ``OUTCOMES``."""
        return self.outcome.partition(",")[0]

    @property
    def key(self) -> str:
        """Name of its environment."""
        return capture.environment_key(self.environment)


class Kept(NamedTuple):
    """The checks of a record.

    Attributes:
        checks: By name of their environment, the newest first.
        ignored: How many documents were passed over, for they are damaged or forged.
        heard: Checks made elsewhere, as a registry told them, in environments that are not among
            ``checks``.
    """

    checks: dict[str, Check]
    ignored: int
    heard: dict[str, Check]


class Report(NamedTuple):
    """Checks of a record as one document that travels.

    Attributes:
        data: Its bytes.
        checks: Checks in it.
        at: When the newest of them last hashed the bytes.
    """

    data: bytes
    checks: int
    at: str


def here(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of this environment that matter for a record, absent packages as null.

    Args:
        recorded: The record's environment.
    """
    facts = capture.same_packages(recorded)
    named = recorded.get("packages")
    present = facts["packages"]
    names = sorted(map(str, named))[:_MOST_FACTS] if isinstance(named, dict) else ()
    return {**facts, "packages": {name[:200]: present.get(name) for name in names}}


class Checks:
    """The checks that a store keeps.

    Args:
        files: Where they are.
    """

    def __init__(self, files: CheckFiles) -> None:
        self._files = files

    def add(self, check: Check) -> None:
        """Keep a check in place of the one before it in the same environment.

        Raises:
            HoldfastError: It cannot be written.
        """
        self._files.put(parse_digest(check.record), check.key, check.encode())

    def of(self, record: Digest) -> Kept:
        """Return the checks of a record; unsound ones are passed over."""
        latest = _latest()
        read = [(key, _judged(record, key, data, latest)) for key, data in self._files.read(record)]
        sound = [(key, check) for key, check in read if check is not None]
        sound.sort(key=lambda item: item[1].hashed, reverse=True)
        made = {key: check for key, check in sound if check.heard is None}
        heard = {key: check for key, check in sound if check.heard is not None}
        return Kept(made, len(read) - len(sound), heard)

    def report(self, record: Digest) -> Report | None:
        """Return what is known of a record, the newest first, to be sent; None if nothing is.

        That bytes were damaged in this store is nobody else's business.
        """
        found = self.of(record)
        known = sorted(
            (each for each in (*found.checks.values(), *found.heard.values()) if _travels(each)),
            key=lambda each: each.hashed,
            reverse=True,
        )
        chosen = [*_fitting(known[:_MOST_HEARD])]
        if not chosen:
            return None
        data = canonical({"format": FORMAT, "checks": chosen})
        return Report(data, len(chosen), known[0].hashed)

    def hear(self, record: Digest, data: bytes, where: str) -> tuple[int, int]:
        """Keep what a report tells, as hearsay: a check made in this store is worth more and stays.

        Args:
            record: What it should be about.
            data: The report.
            where: The place that it came from.

        Returns:
            How many checks are kept of what the place told, and how many of the report cannot be
            what they say.

        Raises:
            Corrupt: It is no report.
            HoldfastError: One cannot be written.
        """
        told = parse_json(data, "the report")
        listed = told.get("checks") if isinstance(told, dict) else None
        if not isinstance(listed, list) or told.get("format") != FORMAT:
            raise Corrupt("it is no list of checks that this release reads")
        latest = _latest()
        sound = [_judged(record, None, canonical(each), latest) for each in listed[:_MOST_HEARD]]
        found = self.of(record)
        heard = {**found.heard}
        for check in filter(None, sound):
            if check.key not in found.checks and _is_news(check, heard):
                heard[check.key] = replace(check, heard=where)
        for key, check in heard.items():
            if check is not found.heard.get(key):
                self.add(check)
        return sum(check.heard == where for check in heard.values()), sound.count(None)

    def keep_only(self, records: Collection[Digest], *, dry_run: bool = False) -> int:
        """Delete the checks of all other records and return how many records that were."""
        gone = [record for record in self._files.records() if record not in records]
        for record in () if dry_run else gone:
            self._files.remove(record)
        return len(gone)


def _latest() -> str:
    return (dt.datetime.now(tz=dt.UTC) + _SKEW).isoformat()


def _travels(check: Check) -> bool:
    return check.kind != "damaged"


def _is_news(check: Check, heard: Mapping[str, Check]) -> bool:
    before = heard.get(check.key)
    if before is None:
        return len(heard) < _MOST_HEARD and len(check.encode()) < MOST - _MOST_TEXT
    return before.hashed < check.hashed


def _fitting(known: Collection[Check]) -> Iterator[dict[str, Any]]:
    """Yield checks as JSON-like values, as many as a report may hold."""
    size = len(canonical({"format": FORMAT, "checks": []}))
    for check in known:
        data = replace(check, heard=None).encode()
        size += len(data) + 1
        if size > LONGEST_REPORT:
            return
        yield parse_json(data, "check")


def _judged(record: Digest, key: str | None, data: bytes, latest: str) -> Check | None:
    """Return a check that can be what it says, and None for any other.

    Args:
        record: What it should be about.
        key: Name of the environment that it is kept under; None for one that comes with no name.
        data: The document.
        latest: Moment after which it cannot have been made.
    """
    try:
        check = Check.decode(data)
        sound = (
            check.record == record
            and all(map(_is_moment, (check.at, check.hashed)))
            and check.at <= check.hashed < latest
            and check.kind in OUTCOMES
            and min(check.blobs, check.size) >= 0
            and all(map(_is_short, (check.by, check.outcome, check.detail, check.rung)))
            and _is_short(check.heard)
            and key in (None, _key(msgspec.json.encode(check.environment)))
        )
        parse_digest(check.manifest)
    except (HoldfastError, ValueError, TypeError, RecursionError):
        return None
    return check if sound else None


@functools.lru_cache(maxsize=256)
def _key(data: bytes) -> str:
    """Return the name of an environment given as JSON, which many checks share.

    Raises:
        Corrupt: It cannot be one.
    """
    environment = msgspec.json.decode(data)
    packages = environment.get("packages")
    if not isinstance(packages, dict) or len(packages) + len(environment) > _MOST_FACTS:
        raise Corrupt("its environment is none")
    facts = (value for name, value in environment.items() if name != "packages")
    texts = (str(value) if type(value) is int else value for value in facts)
    if not all(map(_is_short, (*environment, *texts, *packages, *packages.values()))):
        raise Corrupt("its environment has facts that are none")
    return capture.environment_key(environment)


def _is_short(text: object) -> bool:
    return text is None or (isinstance(text, str) and len(text) <= _MOST_TEXT)


def _is_moment(text: str) -> bool:
    return len(text) == 27 and text.endswith("Z") and dt.datetime.fromisoformat(text) is not None
