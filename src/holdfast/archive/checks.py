"""What checks found: one document per version and environment, read as a stranger's word."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from holdfast.environment import capture
from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import FORMAT, Digest, Document, parse_digest
from holdfast.store.base import CheckFiles

__all__ = ["OUTCOMES", "PROVEN", "Check", "Checks", "Kept", "here"]

# Outcomes that stand for the bytes and, as far as it was recorded, for the behaviour.
PROVEN: Final = ("replayed", "replayed on synthetic inputs", "state only")
OUTCOMES: Final = (*PROVEN, "unproved", "refused", "damaged", "failed")

_MOST_TEXT: Final = 2000
_MOST_FACTS: Final = 1000
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
    """

    checks: dict[str, Check]
    ignored: int


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
        latest = (dt.datetime.now(tz=dt.UTC) + _SKEW).isoformat()
        read = [(key, _judged(record, key, data, latest)) for key, data in self._files.read(record)]
        sound = [(key, check) for key, check in read if check is not None]
        sound.sort(key=lambda item: item[1].hashed, reverse=True)
        return Kept(dict(sound), len(read) - len(sound))

    def keep_only(self, records: Collection[Digest], *, dry_run: bool = False) -> int:
        """Delete the checks of all other records and return how many records that were."""
        gone = [record for record in self._files.records() if record not in records]
        for record in () if dry_run else gone:
            self._files.remove(record)
        return len(gone)


def _judged(record: Digest, key: str, data: bytes, latest: str) -> Check | None:
    """Return a check that can be what it says, and None for any other."""
    try:
        check = Check.decode(data)
        sound = (
            check.record == record
            and all(map(_is_moment, (check.at, check.hashed)))
            and check.at <= check.hashed < latest
            and check.kind in OUTCOMES
            and min(check.blobs, check.size) >= 0
            and all(map(_is_short, (check.by, check.outcome, check.detail, check.rung)))
            and _key(msgspec.json.encode(check.environment)) == key
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
