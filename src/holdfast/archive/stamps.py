"""What was verified on this machine: a cache that may be deleted at any time.

A blob's stamp says that the very inode, with this size and these times, had these bytes, or had
them from a place on; a proof's stamp says that a version's golden set passed with these library
versions on this processor, or that a piece holds the tensors a content names. Both save work.
Neither is security: who can write the cache can forge them.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from holdfast.record import Digest

__all__ = ["Stamps"]

_VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blobs (
  dev INTEGER, ino INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, start INTEGER,
  digest TEXT NOT NULL, PRIMARY KEY (dev, ino, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS proofs (
  content TEXT, golden TEXT, environment TEXT, level TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (content, golden, environment)) WITHOUT ROWID;
"""

# Device, inode, size and two times of a file; a sixth number where it is of the bytes from there.
Identity = tuple[int, ...]


class Stamps:
    """The cache in one SQLite file; without a usable file it remembers nothing, silently."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._base: sqlite3.Connection | None = None
        self._failed = False

    def _open(self) -> sqlite3.Connection | None:
        if self._base is None and not self._failed:
            try:
                self._base = self._connect()
            except (sqlite3.OperationalError, OSError):
                pass  # another process holds it, or there is no place for it
            except sqlite3.DatabaseError:
                # All three: a database must never meet the write-ahead log of another.
                for suffix in ("-shm", "-wal", ""):
                    with contextlib.suppress(OSError):
                        self._path.with_name(self._path.name + suffix).unlink()
                with contextlib.suppress(sqlite3.Error, OSError):
                    self._base = self._connect()
            self._failed = self._base is None
        return self._base

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(
            self._path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            if base.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                base.execute("PRAGMA journal_mode=WAL")
                base.executescript(
                    f"DROP TABLE IF EXISTS blobs; DROP TABLE IF EXISTS proofs; {_SCHEMA}"
                    f"PRAGMA user_version={_VERSION};"
                )
            base.execute("PRAGMA synchronous=OFF")
        except BaseException:
            base.close()
            raise
        return base

    def blobs(self, identities: Iterable[Identity]) -> dict[Identity, Digest]:
        """Return the digests stamped for files that are still exactly these."""
        wanted = list(identities)
        found: dict[Identity, Digest] = {}
        with self._lock, contextlib.suppress(sqlite3.Error):
            base = self._open()
            for identity in wanted if base is not None else ():
                row = base.execute(  # type: ignore[union-attr]
                    "SELECT size, mtime, ctime, digest FROM blobs "
                    "WHERE dev=? AND ino=? AND start=?",
                    (_signed(identity[0]), _signed(identity[1]), _start(identity)),
                ).fetchone()
                if row is not None and tuple(row[:3]) == identity[2:5]:
                    found[identity] = Digest(row[3])
        return found

    def add_blobs(self, stamps: Mapping[Identity, Digest]) -> None:
        """Remember that these files were hashed to these digests."""
        rows = [
            (_signed(i[0]), _signed(i[1]), *i[2:5], _start(i), digest)
            for i, digest in stamps.items()
        ]
        self._write("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def proof(self, content: str, golden: str, environment: str) -> str | None:
        """Return the level proven for a content and golden set in an environment, or None."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            base = self._open()
            row = (
                base
                and base.execute(
                    "SELECT level FROM proofs WHERE content=? AND golden=? AND environment=?",
                    (content, golden, environment),
                ).fetchone()
            )
            return str(row[0]) if row else None
        return None

    def add_proof(self, content: str, golden: str, environment: str, level: str) -> None:
        """Remember that a golden set passed in an environment."""
        row = (content, golden, environment, level, time.time())
        self._write("INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?, ?)", [row])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            base = self._open()
            if base is None or not rows:
                return
            base.execute("BEGIN IMMEDIATE")
            try:
                base.executemany(statement, rows)
            except sqlite3.Error:
                base.execute("ROLLBACK")
                raise
            base.execute("COMMIT")


def _start(identity: Identity) -> int:
    return identity[5] if len(identity) > 5 else 0


def _signed(number: int) -> int:
    """Fit an unsigned 64-bit inode number into SQLite's signed integers."""
    return number - 2**64 if number >= 2**63 else number
