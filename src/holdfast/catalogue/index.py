"""A disposable SQLite index over the log: what makes look-ups fast, and nothing else.

The log is the truth. Before a name is looked up, two file look-ups tell whether the index has
seen its last entry and no newer one; new entries are judged and folded in, and a last entry that
is another than the one seen rebuilds the name. Deleting the file loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from holdfast.catalogue.base import Gathering, Log
from holdfast.catalogue.history import (
    AliasState,
    Attachment,
    History,
    Pin,
    VersionInfo,
    whole,
)
from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import Digest, LogEntry, digest_of

__all__ = ["Index", "NameRow"]

T = TypeVar("T")

_VERSION: Final = 2
_SCHEMA: Final = """
DROP TABLE IF EXISTS names; DROP TABLE IF EXISTS versions; DROP TABLE IF EXISTS aliases;
CREATE TABLE names (
  name TEXT PRIMARY KEY, seq INTEGER, last TEXT, stamp TEXT, changed TEXT, saved INTEGER
) WITHOUT ROWID;
CREATE TABLE versions (
  name TEXT, number INTEGER, record TEXT, content TEXT, manifest TEXT, at TEXT, by TEXT,
  tags TEXT, pin TEXT, forgotten INTEGER, attached TEXT, PRIMARY KEY (name, number)) WITHOUT ROWID;
CREATE INDEX by_content ON versions (name, content);
CREATE INDEX by_record ON versions (name, record);
CREATE TABLE aliases (
  name TEXT, alias TEXT, version INTEGER, since TEXT, by TEXT, reason TEXT, replaced INTEGER,
  PRIMARY KEY (name, alias)) WITHOUT ROWID;
"""
_COLUMNS: Final = "name, number, record, content, manifest, at, by, tags, pin, forgotten, attached"


class NameRow(NamedTuple):
    """What the index holds of a name.

    Attributes:
        seq: Last entry folded.
        last: Its digest.
        stamp: What the log said of its file.
        changed: Its time.
        saved: Versions saved so far.
    """

    seq: int
    last: Digest
    stamp: str
    changed: str
    saved: int


class Index:
    """The index in one SQLite file, or in memory when there is no usable file."""

    def __init__(self, path: Path | None, log: Log) -> None:
        self._path = path
        self._log = log
        self._base: sqlite3.Connection | None = None
        self._lock = threading.RLock()

    def ask(self, name: str, question: Callable[[sqlite3.Connection], T]) -> T:
        """Answer a question with ``name`` up to date.

        A database that fails is replaced by a new one, and that by one in memory, so a damaged
        index or a full disk never stands in the way of reading.

        Raises:
            Corrupt: The log itself is damaged or forged.
        """
        with self._lock:
            for again, open_ in enumerate((self._database, self._replaced, self._in_memory)):
                try:
                    base = open_()
                    self._sync(base, name)
                    with _transaction(base, "DEFERRED"):
                        return question(base)
                except sqlite3.Error as error:
                    if again == 2:
                        raise HoldfastError(f"The index cannot be used: {error}.") from error
            raise AssertionError  # pragma: no cover - the loop returns or raises

    def prepare(self, names: Iterable[str]) -> None:
        """Fetch at once what questions about these names will need, where answers take a while."""
        if not isinstance(self._log, Gathering):
            return
        with self._lock, contextlib.suppress(sqlite3.Error):
            base = self._database()
            rows = {name: self.row(base, name) for name in names}
        stale = [
            (name, 1 if row is None else row.seq + 1)
            for name, row in rows.items()
            if not self._fresh(row, name)
        ]
        self._log.gather(stale)

    def _database(self) -> sqlite3.Connection:
        if self._base is None:
            try:
                self._base = _connect(self._path)
            except (sqlite3.Error, OSError):
                self._base = _connect(None)
        return self._base

    def _replaced(self) -> sqlite3.Connection:
        self._drop()
        if self._path is not None:
            # All three: a database must never meet the write-ahead log of another.
            for suffix in ("-shm", "-wal", ""):
                with contextlib.suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink()
        return self._database()

    def _in_memory(self) -> sqlite3.Connection:
        self._drop()
        self._base = _connect(None)
        return self._base

    def _drop(self) -> None:
        if self._base is not None:
            with contextlib.suppress(sqlite3.Error):
                self._base.close()
            self._base = None

    def _sync(self, base: sqlite3.Connection, name: str) -> None:
        if not self._fresh(self.row(base, name), name):
            with _transaction(base, "IMMEDIATE"):
                self._fold(base, name)

    def fill(self, history: History) -> None:
        """Put in the state of a name whose log does not tell it; for an index in memory only."""
        with self._lock:
            base = self._database()
            with _transaction(base, "IMMEDIATE"):
                self._write(base, history)

    def refusal(self, base: sqlite3.Connection, entry: LogEntry) -> str | None:
        """Return why readers would refuse an entry after those folded, None when they would not."""
        row = self.row(base, entry.name)
        history = History(entry.name) if row is None else self._continued(base, entry.name, row)
        try:
            history.apply(entry)
        except Corrupt as error:
            return error.message
        return None

    def _fresh(self, row: NameRow | None, name: str) -> bool:
        if row is None:
            return False
        same = _stamp(self._log.stamp(name, row.seq)) == row.stamp
        return same and self._log.stamp(name, row.seq + 1) is None

    def _fold(self, base: sqlite3.Connection, name: str) -> None:
        row = self.row(base, name)
        history = History(name)
        if row is not None and _stamp(self._log.stamp(name, row.seq)) == row.stamp:
            history = self._continued(base, name, row)
            try:
                _add(history, self._log.read_from(name, history.seq + 1))
            except HoldfastError:  # the index may be what is wrong: judge the whole log
                history = History(name)
        if history.seq == 0:
            for table in ("names", "versions", "aliases"):
                base.execute(f"DELETE FROM {table} WHERE name=?", (name,))  # noqa: S608 - constants
            _add(history, whole(self._log, name))
        if history.entries:
            self._write(base, history)

    def _continued(self, base: sqlite3.Connection, name: str, row: NameRow) -> History:
        def fetch(number: int) -> VersionInfo | None:
            found = list(self.versions(base, name, "number=?", number))
            return found[0] if found else None

        return History(
            name,
            aliases=self.aliases(base, name),
            seq=row.seq,
            last=row.last,
            last_at=row.changed,
            count=row.saved,
            fetch=fetch,
        )

    def _write(self, base: sqlite3.Connection, history: History) -> None:
        name = history.name
        stamp = _stamp(self._log.stamp(name, history.seq))
        # A late writer may have replaced the entry since it was folded: then this is not fresh.
        if history.last and digest_of(self._log.read(name, history.seq) or b"") != history.last:
            stamp = _stamp(None)
        base.execute(
            "INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?, ?)",
            (name, history.seq, history.last, stamp, history.last_at, history.count),
        )
        base.executemany(
            "INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            map(_version_row, history.versions.values()),
        )
        base.execute("DELETE FROM aliases WHERE name=?", (name,))
        base.executemany(
            "INSERT INTO aliases VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(name, *state) for state in history.aliases.values()],
        )

    def row(self, base: sqlite3.Connection, name: str) -> NameRow | None:
        """Return what the index holds of a name, up to date or not."""
        found = base.execute(
            "SELECT seq, last, stamp, changed, saved FROM names WHERE name=?", (name,)
        ).fetchone()
        return None if found is None else NameRow(*found)

    def aliases(self, base: sqlite3.Connection, name: str) -> dict[str, AliasState]:
        """Return a name's aliases, sorted."""
        rows = base.execute(
            "SELECT alias, version, since, by, reason, replaced FROM aliases WHERE name=? "
            "ORDER BY alias",
            (name,),
        )
        return {row[0]: AliasState(*row) for row in rows}

    def versions(
        self, base: sqlite3.Connection, name: str, where: str = "1", *values: Any
    ) -> Iterator[VersionInfo]:
        """Yield versions of a name by number; ``where`` is a condition of ours, never input."""
        named: dict[int, list[str]] = {}
        for state in self.aliases(base, name).values():
            named.setdefault(state.version, []).append(state.alias)
        rows = base.execute(
            f"SELECT {_COLUMNS} FROM versions WHERE name=? AND {where} ORDER BY number",  # noqa: S608
            (name, *values),
        )
        for row in rows:
            yield VersionInfo(
                name=row[0],
                number=row[1],
                record=Digest(row[2]),
                content=Digest(row[3]),
                manifest=Digest(row[4]),
                at=row[5],
                by=row[6],
                tags=json.loads(row[7]) if row[7] else {},
                pinned=Pin(*json.loads(row[8])) if row[8] else None,
                forgotten=bool(row[9]),
                aliases=tuple(named.get(row[1], ())),
                attachments=_attachments(row[10]),
            )


def _attachments(text: str | None) -> dict[str, Attachment]:
    listed = json.loads(text) if text else {}
    return {role: Attachment(*state) for role, state in listed.items()}


@contextlib.contextmanager
def _transaction(base: sqlite3.Connection, kind: str) -> Iterator[None]:
    base.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # some failures have rolled back already
            base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=60.0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")  # after a power cut old, but never mixed
        if _layout(base) != _VERSION:
            with _transaction(base, "IMMEDIATE"):
                if _layout(base) != _VERSION:  # nobody else has made it meanwhile
                    for statement in _SCHEMA.split(";"):
                        base.execute(statement)
                    base.execute(f"PRAGMA user_version={_VERSION}")
    except BaseException:
        base.close()
        raise
    return base


def _layout(base: sqlite3.Connection) -> int:
    return int(base.execute("PRAGMA user_version").fetchone()[0])


def _add(history: History, raw: Iterable[bytes]) -> None:
    for data in raw:
        history.add(data)


def _version_row(info: VersionInfo) -> tuple[Any, ...]:
    tags = json.dumps(dict(info.tags)) if info.tags else None
    pin = json.dumps(list(info.pinned)) if info.pinned is not None else None
    head = (info.name, info.number, info.record, info.content, info.manifest, info.at, info.by)
    attached = json.dumps(dict(info.attachments)) if info.attachments else None
    return (*head, tags, pin, info.forgotten, attached)


def _stamp(stamp: tuple[int, ...] | None) -> str:
    return json.dumps(stamp)
