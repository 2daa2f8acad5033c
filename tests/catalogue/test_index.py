"""The index is disposable: deleted, damaged or stale, the answers stay the same."""

import errno
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdfast.catalogue.catalogue import Catalogue
from holdfast.catalogue.disk import DiskLog
from holdfast.catalogue.history import VersionInfo
from holdfast.record import digest_of

Add = Callable[..., VersionInfo]


class Counting(DiskLog):
    """A log that counts the entries read."""

    reads = 0

    def read(self, name: str, seq: int) -> bytes | None:
        data = super().read(name, seq)
        self.reads += data is not None
        return data


@pytest.fixture(name="busy")
def busy_catalogue(catalogue: Catalogue, add: Add) -> Catalogue:
    for number in range(60):
        add(content=f"{number}")
    add("net")
    catalogue.set_alias("churn", "prod", 3, by="ada", reason="why")
    catalogue.set_alias("churn", "prod", 5, by="bob")
    catalogue.set_alias("churn", "stage", 5, by="bob")
    catalogue.tag("churn", 2, set_={"a": "ä"}, unset=[], by="ada")
    catalogue.pin("churn", 7, by="ada", until="2999-01-01", reason="audit")
    catalogue.forget("churn", [1, 9], by="ada")
    return catalogue


def answers(catalogue: Catalogue) -> list[Any]:
    return [
        catalogue.names(),
        catalogue.versions("churn"),
        catalogue.resolve("churn", None),
        catalogue.resolve("churn", "prod"),
        catalogue.resolve("churn", digest_of(b"7")),
        catalogue.by_content("churn", digest_of(b"4")),
        sorted(catalogue.live(), key=lambda info: (info.name, info.number)),
    ]


def test_the_index_answers_as_the_log_does(busy: Catalogue) -> None:
    history = busy.history("churn")
    kept = [info for info in history.versions.values() if not info.forgotten]
    assert busy.versions("churn") == kept
    assert len(kept) == 58
    assert busy.resolve("churn", "stage").number == history.aliases["stage"].version


def test_a_deleted_index_loses_nothing(
    busy: Catalogue, opened: Callable[[], Catalogue], root: Path
) -> None:
    before = answers(busy)
    for file in root.glob("index.sqlite*"):
        file.unlink()
    assert answers(opened()) == before
    assert (root / "index.sqlite").exists()
    assert answers(busy) == before  # the process that had it open


def test_a_process_without_any_index_answers_the_same(busy: Catalogue, root: Path) -> None:
    log = DiskLog(root / "log", root / "tmp")
    before = answers(busy)
    assert answers(Catalogue(log, None)) == before
    (root / "folder").mkdir()
    assert answers(Catalogue(log, root / "folder")) == before
    (root / "file").touch()
    assert answers(Catalogue(log, root / "file" / "index.sqlite")) == before


@pytest.mark.parametrize("page", range(12))
def test_a_damaged_index_is_replaced(
    busy: Catalogue, opened: Callable[[], Catalogue], root: Path, page: int
) -> None:
    before = answers(busy)
    path = root / "index.sqlite"
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    base.close()
    data = path.read_bytes()
    assert len(data) > 12 * 4096
    path.unlink()
    path.write_bytes(data[: page * 4096] + b"\xa5" * 4096 + data[(page + 1) * 4096 :])
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert answers(opened()) == before
    assert answers(opened()) == before


@pytest.mark.parametrize("data", [b"", b"not a database, and long enough to be looked at" * 200])
def test_a_file_that_is_no_index_is_replaced(
    busy: Catalogue, opened: Callable[[], Catalogue], root: Path, data: bytes
) -> None:
    before = answers(busy)
    for file in root.glob("index.sqlite*"):
        file.unlink()
    (root / "index.sqlite").write_bytes(data)
    assert answers(opened()) == before


def test_an_index_of_another_release_is_rebuilt(
    busy: Catalogue, opened: Callable[[], Catalogue], root: Path
) -> None:
    before = answers(busy)
    with sqlite3.connect(root / "index.sqlite") as base:
        base.execute("DROP TABLE versions")
        base.execute("CREATE TABLE versions (other TEXT)")
        base.execute("PRAGMA user_version=99")
    base.close()
    assert answers(opened()) == before


def test_an_index_that_lies_about_the_past_is_not_believed_for_ever(
    busy: Catalogue, opened: Callable[[], Catalogue], root: Path, add: Add
) -> None:
    with sqlite3.connect(root / "index.sqlite") as base:
        base.execute("UPDATE names SET last='sha256:00' WHERE name='churn'")
        base.execute("DELETE FROM versions WHERE name='churn' AND number > 5")
    base.close()
    entry = Catalogue(DiskLog(root / "log", root / "tmp"), None)
    entry.tag("churn", 2, set_={"b": "c"}, unset=[], by="ada")
    assert answers(opened()) == answers(entry)


def test_a_full_disk_under_the_index_does_not_stop_reading(
    busy: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answers(busy)
    real = sqlite3.connect

    def full(path: Any, **options: Any) -> sqlite3.Connection:
        base: sqlite3.Connection = real(path, **options)
        if path != ":memory:":
            base.execute("PRAGMA max_page_count=1")
        return base

    for file in root.glob("index.sqlite*"):
        file.unlink()
    monkeypatch.setattr(sqlite3, "connect", full)
    log = DiskLog(root / "log", root / "tmp")
    assert answers(Catalogue(log, root / "index.sqlite")) == before


def test_new_entries_are_folded_in_and_old_ones_not_read_again(busy: Catalogue, root: Path) -> None:
    busy.names()  # its last acts are folded in
    log = Counting(root / "log", root / "tmp")
    reader = Catalogue(log, root / "index.sqlite")
    assert reader.resolve("churn", None).number == 60
    assert log.reads == 0
    elsewhere = Catalogue(log, None)  # a writer with another index
    elsewhere.set_alias("churn", "prod", 8, by="ada")
    elsewhere.tag("churn", 8, set_={"x": "y"}, unset=[], by="ada")
    found = elsewhere.resolve("churn", 8)
    log.reads = 0
    assert reader.resolve("churn", "prod") == found
    assert log.reads == 3  # and the last one again, with its stamp
    log.reads = 0
    assert reader.resolve("churn", 8) == found
    assert len(reader.versions("churn")) == 58
    assert log.reads == 0


def test_a_writer_reads_no_old_entries(busy: Catalogue, root: Path) -> None:
    busy.names()  # its last acts are folded in
    log = Counting(root / "log", root / "tmp")
    writer = Catalogue(log, root / "index.sqlite")
    one = digest_of(b"one")
    assert writer.add_version("churn", record=one, content=one, manifest=one, by="x").number == 61
    assert log.reads == 2  # its own, and again with its stamp
    assert busy.resolve("churn", None).number == 61


def test_a_log_put_back_from_a_copy_is_followed(
    busy: Catalogue, opened: Callable[[], Catalogue], root: Path
) -> None:
    last = busy.history("churn").seq
    for seq in (last, last - 1):
        (root / "log" / "churn" / f"{seq:08d}.json").unlink()
    assert busy.history("churn").seq == last - 2
    assert busy.resolve("churn", 9).number == 9
    assert busy.resolve("churn", 7).pinned is None
    assert answers(opened()) == answers(busy)


def test_threads_share_a_catalogue(opened: Callable[[], Catalogue], root: Path) -> None:
    catalogue = opened()
    assert catalogue.by_content("net", "") == []
    inode = (root / "index.sqlite").stat().st_ino

    def work(thread: int) -> list[int]:
        numbers = []
        for turn in range(5):
            one = digest_of(f"{thread} {turn}".encode())
            info = catalogue.add_version("net", record=one, content=one, manifest=one, by="x")
            assert catalogue.resolve("net", info.number).record == one
            numbers.append(info.number)
        return numbers

    with ThreadPoolExecutor(8) as pool:
        told = [number for numbers in pool.map(work, range(8)) for number in numbers]
    assert sorted(told) == list(range(1, 41))
    catalogue.check_chain("net")
    assert (root / "index.sqlite").stat().st_ino == inode  # no thread took it for damaged


def test_an_error_of_the_log_is_not_taken_for_one_of_the_index(
    busy: Catalogue, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = (root / "index.sqlite").stat().st_ino

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(DiskLog, "stamp", broken)
    with pytest.raises(OSError, match="Input/output error"):
        busy.resolve("churn", None)
    assert (root / "index.sqlite").stat().st_ino == inode
