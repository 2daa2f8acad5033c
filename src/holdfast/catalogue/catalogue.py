"""The catalogue: looking names up, and appending acts to the log."""

from __future__ import annotations

import datetime as dt
import difflib
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from holdfast.catalogue.base import Gathering, Log
from holdfast.catalogue.history import AliasState, History, VersionInfo, fold, kept_because, whole
from holdfast.catalogue.index import Index, NameRow
from holdfast.catalogue.names import check_alias, check_name
from holdfast.errors import Conflict, Corrupt, NotFound, UsageError
from holdfast.record import Digest, LogEntry

__all__ = ["ROLES", "Catalogue", "ModelInfo"]

# What may be put beside a version: ``pylock`` is its environment, in the form of PEP 751.
ROLES: Final = ("pylock",)
_PREFIX: Final = re.compile(r"sha256:[0-9a-f]{4,64}")


class ModelInfo(NamedTuple):
    """A name at a glance.

    Attributes:
        name: The model's name.
        newest: Number of its newest version that is not forgotten, or None.
        count: Versions that are not forgotten.
        aliases: Its aliases, sorted.
        changed: Time of the last act.
        last_seq: Number of the last log entry.
        damage: What is wrong with its log, None when nothing is; the rest is empty then.
    """

    name: str
    newest: int | None
    count: int  # type: ignore[assignment]  # the word fits better than tuple.count does
    aliases: tuple[str, ...]
    changed: str
    last_seq: int
    damage: str | None = None


class _AlreadyThere(Exception):
    """Tells that the version to be added is there."""


class _Unset:
    """Marks an argument that was not given where None means something."""


_UNSET: Final = _Unset()

Body = Mapping[str, Any]


class Catalogue:
    """Names, versions, aliases and their history in one store.

    Args:
        log: Where the entries are.
        index_path: File for the disposable index; None keeps it in memory.
    """

    def __init__(self, log: Log, index_path: Path | None) -> None:
        self._log = log
        self._index = Index(index_path, log)

    @property
    def log(self) -> Log:
        """Where the entries are."""
        return self._log

    def names(self) -> list[ModelInfo]:
        """Return every name, sorted; one whose log is damaged does not hide the others."""
        names = self._log.names()
        self._index.prepare(names)
        return [self._model_or_damage(name) for name in names]

    def _model_or_damage(self, name: str) -> ModelInfo:
        try:
            return self._model(name)
        except Corrupt as error:
            return ModelInfo(name, None, 0, (), "", 0, damage=error.message)

    def _model(self, name: str) -> ModelInfo:
        def look(base: sqlite3.Connection) -> ModelInfo:
            row = self._index.row(base, name)
            count, newest = base.execute(
                "SELECT COUNT(*), MAX(number) FROM versions WHERE name=? AND NOT forgotten", (name,)
            ).fetchone()
            aliases = tuple(self._index.aliases(base, name))
            changed, seq = (row.changed, row.seq) if row is not None else ("", 0)
            return ModelInfo(name, newest, count, aliases, changed, seq)

        return self._index.ask(name, look)

    def versions(self, name: str) -> list[VersionInfo]:
        """Return a name's versions that are not forgotten, oldest first; raises ``NotFound``."""
        self._require(name)
        return self._where(name, "NOT forgotten")

    def _where(self, name: str, condition: str, *values: Any) -> list[VersionInfo]:
        return self._index.ask(
            name, lambda base: list(self._index.versions(base, name, condition, *values))
        )

    def resolve(self, name: str, selector: int | str | None) -> VersionInfo:
        """Return the version a selector means.

        Args:
            name: The model's name.
            selector: None for the newest, a number, an alias, or ``sha256:`` and at least 4
                digits of a record or content id.

        Raises:
            NotFound: Nothing is meant; the message lists what is near.
            UsageError: A digest's digits fit several contents.
        """
        if selector is None:
            newest = "SELECT MAX(number) FROM versions WHERE name=? AND NOT forgotten"
            found = self._where(name, f"number=({newest})", name)
        elif isinstance(selector, int):
            found = self._where(name, "number=?", selector)
        elif selector.startswith("sha256:"):
            found = self._by_digest(name, selector)
        else:
            named = "SELECT version FROM aliases WHERE name=? AND alias=?"
            found = self._where(name, f"number=({named})", name, selector)
        if not found or found[0].forgotten:
            raise self._not_found(name, selector, forgotten=bool(found))
        return found[0]

    def _by_digest(self, name: str, prefix: str) -> list[VersionInfo]:
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(
                f"{prefix!r:.90} is not sha256: and 4 to 64 hexadecimal digits.",
                hint=f"hold ls {name} --json",
            )
        end = prefix + "g"  # sorts after every hexadecimal digit
        found = self._where(
            name,
            "NOT forgotten AND (record BETWEEN ? AND ? OR content BETWEEN ? AND ?)",
            *(prefix, end, prefix, end),
        )
        if len({info.content for info in found}) > 1:
            several = ", ".join(f"v{info.number}" for info in found[:5])
            raise UsageError(
                f"{name}@{prefix} fits several versions: {several}.",
                hint=f"hold show {name}@v{found[0].number}",
            )
        return found[-1:]

    def _require(self, name: str) -> None:
        if self._log.stamp(check_name(name), 1) is None and not self._log.newest(name):
            raise self._not_found(name, None, forgotten=False)

    def _not_found(self, name: str, selector: int | str | None, *, forgotten: bool) -> NotFound:
        names = self._log.names()
        if name not in names:
            near = difflib.get_close_matches(name, names, 3)
            known = f" Near: {', '.join(near)}." if near else ""
            return NotFound(
                f"There is no model {name!r:.140} in the log {self._log.url}.{known}",
                hint=f"hold ls {near[0]}" if near else "hold ls",
                ref=name,
            )
        model = self._model(name)
        what = f"v{selector}" if isinstance(selector, int) else selector
        if forgotten:
            message = f"{name}@{what} was forgotten."
        elif selector is None:
            message = f"All versions of {name} were forgotten."
        else:
            aliases = ", ".join(model.aliases) or "none"
            message = (
                f"{name} has no version or alias {what!r:.80}. "
                f"Its newest version is v{model.newest}; aliases: {aliases}."
            )
        return NotFound(message, hint=f"hold log {name}", ref=f"{name}@{what}")

    def history(self, name: str, at: str | dt.datetime | None = None) -> History:
        """Return a name's whole history, folded from the log itself.

        Raises:
            NotFound: No such name.
            Corrupt: The chain is broken or an entry is impossible.
            UsageError: ``at`` is not a moment.
        """
        self._require(name)
        return fold(name, whole(self._log, name), at=at)

    def check_chain(self, name: str) -> None:
        """Judge every entry of a name; raises ``Corrupt`` or ``NotFound``."""
        self.history(name)

    def by_content(self, name: str, content: str) -> list[VersionInfo]:
        """Return the versions with this content that are not forgotten, oldest first."""
        return self._where(name, "content=? AND NOT forgotten", content)

    def by_record(self, name: str, record: str) -> list[VersionInfo]:
        """Return the versions with this record that are not forgotten, oldest first."""
        return self._where(name, "record=? AND NOT forgotten", record)

    def live(self) -> Iterator[VersionInfo]:
        """Yield every version that is not forgotten, from the log itself, not the index."""
        names = self._log.names()
        if isinstance(self._log, Gathering):
            self._log.gather([(name, 1) for name in names])
        for name in names:
            for info in fold(name, whole(self._log, name)).versions.values():
                if not info.forgotten:
                    yield info

    def add_version(
        self,
        name: str,
        *,
        record: Digest,
        content: Digest,
        manifest: Digest,
        by: str,
        once: bool = False,
    ) -> VersionInfo:
        """Make a version visible under the next free number; never loses a race for good.

        Args:
            name: The model's name.
            record: Digest of its record.
            content: Digest of its content.
            manifest: Digest of its manifest.
            by: Who.
            once: Return the version that has this very record where there is one already.
        """
        found: list[VersionInfo] = []

        def body(saved: int) -> Body:
            if once:
                found[:] = self.by_record(name, record)
                if found:
                    raise _AlreadyThere
            digests = {"record": record, "content": content, "manifest": manifest}
            return {"version": saved + 1, **digests}

        try:
            entry = self._append(check_name(name), "save", by, body)
        except _AlreadyThere:
            return found[-1]
        return self.resolve(name, int(entry.body["version"]))

    def set_alias(
        self,
        name: str,
        alias: str,
        to: int | None,
        *,
        by: str,
        reason: str | None = None,
        replaced: int | _Unset | None = _UNSET,
    ) -> None:
        """Point an alias at a version (None removes it) with one entry.

        Args:
            name: The model's name.
            alias: The alias.
            to: A version's number, or None.
            by: Who.
            reason: Why.
            replaced: What the caller believes the alias names; default: what it names now.

        Raises:
            Conflict: Somebody moved it since; nothing was written.
            NotFound: No such version, or no such alias to remove.
        """
        check_alias(alias)
        before = self._alias(name, alias) if isinstance(replaced, _Unset) else replaced

        def body(_: int) -> Body:
            if to is not None:
                self.resolve(name, to)
            now = self._alias(name, alias)
            if now != before:
                raise self._moved(name, alias, before)
            return {"alias": alias, "to": to, "from": now, "reason": reason}

        self._append(name, "alias", by, body)

    def _alias(self, name: str, alias: str) -> int | None:
        state = self._alias_state(name, alias)
        return None if state is None else state.version

    def _alias_state(self, name: str, alias: str) -> AliasState | None:
        return self._index.ask(name, lambda base: self._index.aliases(base, name).get(alias))

    def _moved(self, name: str, alias: str, before: int | None) -> Conflict:
        state = self._alias_state(name, alias)
        was = "nothing" if before is None else f"v{before}"
        now = (
            "it was removed"
            if state is None
            else f"it names v{state.version} since {state.since[:19]}Z, by {state.by}"
        )
        return Conflict(
            f"{name}@{alias} is not what it was: you saw {was}, now {now}. Nothing was written.",
            hint=f"hold log {name}",
            ref=f"{name}@{alias}",
        )

    def tag(
        self, name: str, number: int, *, set_: Mapping[str, str], unset: Sequence[str], by: str
    ) -> None:
        """Set and remove tags of a version with one entry; raises ``NotFound``."""
        self._mark(name, "tag", number, by, {"set": dict(set_), "unset": list(unset)})

    def _mark(self, name: str, kind: str, number: int, by: str, marks: Body) -> None:
        def body(_: int) -> Body:
            self.resolve(name, number)
            return {"version": number, **marks}

        self._append(name, kind, by, body)

    def pin(
        self,
        name: str,
        number: int,
        *,
        by: str,
        until: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Hold a version, for ever or until a day; raises ``NotFound``."""
        marks = {"pinned": True, "until": until, "reason": reason}
        self._mark(name, "pin", number, by, marks)

    def unpin(self, name: str, number: int, *, by: str, reason: str | None = None) -> None:
        """End the hold on a version; raises ``NotFound``."""
        marks = {"pinned": False, "until": None, "reason": reason}
        self._mark(name, "pin", number, by, marks)

    def attach(
        self, name: str, number: int, role: str, *, blob: Digest, size: int, by: str
    ) -> None:
        """Put a blob, which is in the store, beside a version.

        The newest of a role counts.

        Raises:
            NotFound: No such version.
            UsageError: ``role`` is none that this release knows.
        """
        if role not in ROLES:
            raise UsageError(f"{role!r:.60} is no role of an attachment: {', '.join(ROLES)}.")
        self._mark(name, "attach", number, by, {"role": role, "blob": blob, "size": size})

    def check_forget(self, name: str, numbers: Sequence[int]) -> None:
        """Raise ``UsageError`` when one of the versions has an alias or a hold."""
        for number in numbers:
            info = self.resolve(name, number)
            why = kept_because(info, _now()[:10])
            if why is not None:
                way = (
                    f"hold promote {name} --to {info.aliases[0]} --remove"
                    if info.aliases
                    else f"hold pin {name}@v{number} --release --reason WHY"
                )
                raise UsageError(
                    f"{name}@v{number} is kept, because {why}. Nothing was forgotten.",
                    hint=way,
                    ref=f"{name}@v{number}",
                )

    def forget(
        self, name: str, numbers: Sequence[int], *, by: str, reason: str | None = None
    ) -> None:
        """Take versions out of sight with one entry.

        Raises:
            UsageError: One has an alias or a hold; nothing was forgotten.
            NotFound: One is not there.
        """

        def body(_: int) -> Body:
            self.check_forget(name, numbers)
            return {"versions": sorted(set(numbers)), "reason": reason}

        self._append(name, "forget", by, body)

    def _append(self, name: str, kind: str, by: str, body: Callable[[int], Body]) -> LogEntry:
        """Append an entry after the newest; a lost race looks again and tries again.

        The attempt id is random per act: when the log says the number is taken but holds our
        own id, the act had succeeded and only the answer was lost.
        """
        attempt = secrets.token_hex(16)
        for turn in range(1_000_000):
            row = self._row(name)
            act = body(0 if row is None else row.saved)  # before the time: holds end, never begin
            entry = LogEntry(
                name=name,
                seq=1 if row is None else row.seq + 1,
                prev=None if row is None else row.last,
                attempt=attempt,
                at=_now() if row is None else max(_now(), row.changed),
                by=by,
                kind=kind,
                body=dict(act),
            )
            data = self._judged(entry, row)
            if data is not None:
                if self._log.append(name, entry.seq, data, entry.prev):
                    return entry
                stored = self._log.read(name, entry.seq)
                if stored is not None and LogEntry.decode(stored).attempt == attempt:
                    return entry
            time.sleep(min(0.05, 0.001 * turn) * secrets.randbelow(1000) / 1000)
        raise Conflict(f"{name} changes faster than it can be written", hint=f"hold log {name}")

    def _row(self, name: str) -> NameRow | None:
        return self._index.ask(name, lambda base: self._index.row(base, name))

    def _judged(self, entry: LogEntry, row: NameRow | None) -> bytes | None:
        """Return an entry's bytes when the log would still be whole with it, None when it grew.

        What is appended stays for ever, so an entry that no reader could fold must not get in.
        """

        def judge(base: sqlite3.Connection) -> tuple[bool, str | None]:
            if self._index.row(base, entry.name) != row:
                return True, None
            return False, self._index.refusal(base, written)

        try:
            data = entry.encode()
            written = LogEntry.decode(data)
        except ValueError as error:
            reason = error.message if isinstance(error, Corrupt) else str(error)
            raise _not_written(entry, reason) from error
        grown, refusal = self._index.ask(entry.name, judge)
        if refusal is not None:
            raise _not_written(entry, refusal)
        return None if grown else data


def _not_written(entry: LogEntry, reason: str) -> UsageError:
    return UsageError(
        f"Nothing was written to the log of {entry.name}, because no reader could accept it: "
        f"{reason}.",
        hint=f"hold log {entry.name}",
        ref=entry.name,
    )


def _now() -> str:
    """Return the present as RFC 3339 in UTC with microseconds."""
    now = dt.datetime.now(tz=dt.UTC)
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")
