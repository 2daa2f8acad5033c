"""A name's history: its log entries, judged and folded.

Versions, aliases, tags, pins and forgets are nothing but folds of the entries. Each entry must
continue the chain (dense sequence, digest of the one before) and be possible at its place, so a
forged or forked log is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from holdfast.catalogue.base import Log
from holdfast.catalogue.names import check_alias
from holdfast.errors import Corrupt, HoldfastError, UsageError
from holdfast.record import Digest, LogEntry, digest_of, parse_digest

__all__ = [
    "AliasState",
    "Attachment",
    "History",
    "Pin",
    "VersionInfo",
    "fold",
    "kept_because",
    "parse_moment",
    "whole",
]


# Roles of later releases are kept and shown, so the fold knows their spelling and no list.
_ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")


class Pin(NamedTuple):
    """A hold on a version.

    Attributes:
        until: Last day, ISO, or None for ever.
        reason: Why, or None.
        by: Who.
        at: When it was set.
    """

    until: str | None
    reason: str | None
    by: str
    at: str


class Attachment(NamedTuple):
    """A blob that was put beside a version after it was saved.

    Attributes:
        blob: Its digest.
        size: Its bytes.
        by: Who.
        at: When.
    """

    blob: Digest
    size: int
    by: str
    at: str


class AliasState(NamedTuple):
    """Where an alias points.

    Attributes:
        alias: Its name.
        version: The version it names.
        since: When it was moved there.
        by: Who moved it.
        reason: Why, or None.
        replaced: The version it named before, or None.
    """

    alias: str
    version: int
    since: str
    by: str
    reason: str | None
    replaced: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """What the log says of a version.

    Attributes:
        name: The model's name.
        number: From 1, dense, never reused.
        record: Digest of its record.
        content: Digest of its content.
        manifest: Digest of its manifest.
        at: When it was saved.
        by: Who saved it.
        tags: Texts by name.
        pinned: The hold on it, or None.
        forgotten: True when it was taken out of sight.
        aliases: Aliases that name it, sorted.
        attachments: The newest of each role, sorted by role.
    """

    name: str
    number: int
    record: Digest
    content: Digest
    manifest: Digest
    at: str
    by: str
    tags: Mapping[str, str] = field(default_factory=dict)
    pinned: Pin | None = None
    forgotten: bool = False
    aliases: tuple[str, ...] = ()
    attachments: Mapping[str, Attachment] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """A name's state after some entries; ``add`` continues it.

    Attributes:
        name: The model's name.
        versions: By number, forgotten ones too.
        aliases: By name, sorted.
        entries: The entries folded here, oldest first.
        seq: Sequence number of the last entry, 0 before the first.
        last: Digest of the last entry's bytes, None before the first.
        last_at: Time of the last entry.
        count: Versions saved so far, forgotten ones too.
        fetch: Finds versions folded earlier when a history is continued from an index, which
            then keeps only the touched ones in ``versions``.
    """

    name: str
    versions: dict[int, VersionInfo] = field(default_factory=dict)
    aliases: dict[str, AliasState] = field(default_factory=dict)
    entries: list[LogEntry] = field(default_factory=list)
    seq: int = 0
    last: Digest | None = None
    last_at: str = ""
    count: int = 0
    fetch: Callable[[int], VersionInfo | None] = lambda _: None

    def add(self, data: bytes) -> LogEntry:
        """Judge and fold one more entry.

        Raises:
            Corrupt: It does not continue this history.
        """
        try:
            entry = LogEntry.decode(data)
            self.apply(entry)
        except Corrupt as error:
            raise _damaged(self.name, f"at entry {self.seq + 1}: {error.message}") from error
        self.entries.append(entry)
        self.seq, self.last, self.last_at = entry.seq, digest_of(data), entry.at
        return entry

    def apply(self, entry: LogEntry) -> None:
        """Judge an entry and fold its act; raises ``Corrupt`` with nothing but the reason."""
        try:
            self._judge(entry)
            _FOLDS[entry.kind](self, entry, entry.body)
        except HoldfastError as error:
            raise Corrupt(error.message) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt("it is malformed") from error

    def _judge(self, entry: LogEntry) -> None:
        if entry.name != self.name:
            raise Corrupt(f"it belongs to {entry.name!r:.80}")
        if entry.seq != self.seq + 1:
            raise Corrupt(f"it has the number {entry.seq}")
        if entry.prev != self.last:
            raise Corrupt("it does not continue the entry before it")
        if entry.kind not in _FOLDS:
            raise Corrupt(f"it is of the kind {entry.kind!r:.40}, which this release does not know")
        if _moment(entry.at) is None or entry.at < self.last_at:
            raise Corrupt("its time is not a moment after the entry before it")

    def version(self, number: Any) -> VersionInfo:
        """Return a version that is there and not forgotten; raises ``Corrupt``."""
        info = self.find(number) if type(number) is int else None
        if info is None or info.forgotten:
            raise Corrupt(f"it speaks of version {number!r:.20}, which is not there")
        return info

    def find(self, number: int) -> VersionInfo | None:
        """Return a version, forgotten or not, or None."""
        return self.versions.get(number) or self.fetch(number)


def kept_because(info: VersionInfo, day: str) -> str | None:
    """Say why a version must not be forgotten on a day (ISO), or None when it may be."""
    if info.aliases:
        return f"the alias {', '.join(info.aliases)} names it"
    if info.pinned is not None and (info.pinned.until is None or info.pinned.until >= day):
        until = f"until {info.pinned.until}" if info.pinned.until else "for ever"
        return f"it is pinned {until}"
    return None


def fold(name: str, raw: Iterable[bytes], *, at: str | dt.datetime | None = None) -> History:
    """Fold a name's entries, all of them or those up to a moment.

    Raises:
        Corrupt: The chain is broken or an entry is impossible.
        UsageError: ``at`` is not a moment.
    """
    limit = None if at is None else parse_moment(at)
    history = History(name)
    for data in raw:
        if limit is not None and _after(data, limit):
            break
        history.add(data)
    return history


def _after(data: bytes, limit: dt.datetime) -> bool:
    moment = _moment(LogEntry.decode(data).at)
    return moment is not None and moment > limit


def whole(log: Log, name: str) -> Iterator[bytes]:
    """Yield all entries of a name.

    Raises:
        Corrupt: One is missing before others that are there.
    """
    newest, seq = log.newest(name), 0
    for data in log.read_from(name, 1):
        yield data
        seq += 1
    if seq < newest:
        raise _damaged(name, f"at entry {seq + 1}: it is missing, and entry {newest} is there")


def _damaged(name: str, what: str) -> Corrupt:
    message = f"The log of {name} is damaged or forged {what.rstrip('.')}."
    return Corrupt(message, hint=f"hold log {name}", ref=name)


def parse_moment(at: str | dt.date | dt.datetime) -> dt.datetime:
    """Read a moment: a day means its end in UTC; a time without a zone is UTC.

    Raises:
        UsageError: It is not a date or time.
    """
    try:
        if isinstance(at, str) and len(at) == 10:
            at = dt.date.fromisoformat(at)
        if isinstance(at, str):
            at = dt.datetime.fromisoformat(at)
    except ValueError as error:
        raise UsageError(
            f"not a date or time: {at!r:.60}", hint="hold log NAME --at 2026-03-03"
        ) from error
    if not isinstance(at, dt.datetime):
        at = dt.datetime.combine(at, dt.time.max)
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at


def _moment(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if text.endswith("Z") and len(text) == 27 else None


def _save(history: History, entry: LogEntry, body: Mapping[str, Any]) -> None:
    number = body["version"]
    if type(number) is not int or number != history.count + 1:
        raise Corrupt(f"it saves version {number!r:.20} after {history.count}")
    history.count = number
    history.versions[number] = VersionInfo(
        name=history.name,
        number=number,
        record=parse_digest(body["record"]),
        content=parse_digest(body["content"]),
        manifest=parse_digest(body["manifest"]),
        at=entry.at,
        by=entry.by,
    )


def _alias(history: History, entry: LogEntry, body: Mapping[str, Any]) -> None:
    alias, target = check_alias(body["alias"]), body["to"]
    before = history.aliases.get(alias)
    if body["from"] != (None if before is None else before.version):
        raise Corrupt(f"it says that {alias} named another version than it did")
    if before is None and target is None:
        raise Corrupt(f"it removes the alias {alias}, which is not there")
    if before is not None:
        old = history.version(before.version)
        left = tuple(name for name in old.aliases if name != alias)
        history.versions[old.number] = replace(old, aliases=left)
        del history.aliases[alias]
    if target is not None:
        info = history.version(target)
        names = tuple(sorted({*info.aliases, alias}))
        history.versions[target] = replace(info, aliases=names)
        history.aliases[alias] = AliasState(
            alias, target, entry.at, entry.by, _optional(body, "reason"), body["from"]
        )
        history.aliases = dict(sorted(history.aliases.items()))


def _tag(history: History, _: LogEntry, body: Mapping[str, Any]) -> None:
    info = history.version(body["version"])
    tags = {key: value for key, value in info.tags.items() if key not in body["unset"]}
    for key, value in body["set"].items():
        if not isinstance(value, str):
            raise Corrupt(f"the tag {key!r:.40} is not a text")
        tags[key] = value
    history.versions[info.number] = replace(info, tags=dict(sorted(tags.items())))


def _pin(history: History, entry: LogEntry, body: Mapping[str, Any]) -> None:
    info = history.version(body["version"])
    until = _optional(body, "until")
    if until is not None:
        dt.date.fromisoformat(until)
    pin = Pin(until, _optional(body, "reason"), entry.by, entry.at) if body["pinned"] else None
    history.versions[info.number] = replace(info, pinned=pin)


def _attach(history: History, entry: LogEntry, body: Mapping[str, Any]) -> None:
    info, role, size = history.version(body["version"]), body["role"], body["size"]
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise Corrupt(f"{role!r:.60} is not a role")
    if type(size) is not int or size < 0:
        raise Corrupt(f"{size!r:.20} is not a size")
    found = Attachment(parse_digest(body["blob"]), size, entry.by, entry.at)
    attachments = dict(sorted({**info.attachments, role: found}.items()))
    history.versions[info.number] = replace(info, attachments=attachments)


def _forget(history: History, entry: LogEntry, body: Mapping[str, Any]) -> None:
    for number in body["versions"]:
        info = history.version(number)
        why = kept_because(info, entry.at[:10])
        if why is not None:
            raise Corrupt(f"it forgets version {number} although {why}")
        history.versions[number] = replace(info, forgotten=True)


def _optional(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise Corrupt(f"{key} is not a text")
    return value


_FOLDS: Final[dict[str, Callable[[History, LogEntry, Mapping[str, Any]], None]]] = {
    "save": _save,
    "alias": _alias,
    "tag": _tag,
    "pin": _pin,
    "forget": _forget,
    "attach": _attach,
}
