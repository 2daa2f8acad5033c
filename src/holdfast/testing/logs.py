"""What every log must do, as tests. See ``holdfast.testing`` for how to run them."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from holdfast.catalogue.base import Log
from holdfast.catalogue.catalogue import Catalogue
from holdfast.errors import UsageError
from holdfast.record import LogEntry, digest_of

__all__ = ["LogConformance"]

_WRITERS: Final = 8
_DIGEST: Final = digest_of(b"a document")


class _AnswerLost:
    """A log whose appends succeed while the answer says otherwise, as after a lost connection."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.url = log.url
        self.lost = 0

    def names(self) -> list[str]:
        return self._log.names()

    def newest(self, name: str) -> int:
        return self._log.newest(name)

    def read(self, name: str, seq: int) -> bytes | None:
        return self._log.read(name, seq)

    def read_from(self, name: str, seq: int) -> Iterator[bytes]:
        return self._log.read_from(name, seq)

    def append(self, name: str, seq: int, data: bytes, after: str | None = None) -> bool:
        self._log.append(name, seq, data, after)
        self.lost += 1
        return False

    def stamp(self, name: str, seq: int) -> tuple[int, ...] | None:
        return self._log.stamp(name, seq)


def _add(catalogue: Catalogue, name: str, by: str = "me") -> int:
    info = catalogue.add_version(name, record=_DIGEST, content=_DIGEST, manifest=_DIGEST, by=by)
    return info.number


class LogConformance:
    """Tests of a ``Log``; subclass it and provide the fixture ``log``.

    ``log`` must return an empty log that nobody else writes to. It is used from several threads.
    """

    def test_a_new_log_is_empty(self, log: Log) -> None:
        """Names nobody wrote are unknown everywhere, without an error."""
        assert log.names() == []
        assert log.read("churn", 1) is None
        assert list(log.read_from("churn", 1)) == []
        assert log.stamp("churn", 1) is None
        assert log.newest("churn") == 0

    def test_entries_come_back_in_order(self, log: Log) -> None:
        """Bytes are kept as they are, and told from any place on."""
        entries = [b"{%d}" % seq for seq in range(1, 13)]
        assert all(log.append("churn", seq, data) for seq, data in enumerate(entries, 1))
        assert list(log.read_from("churn", 1)) == entries
        assert list(log.read_from("churn", 10)) == entries[9:]
        assert list(log.read_from("churn", 13)) == []
        assert [log.read("churn", seq) for seq in (1, 12, 13)] == [b"{1}", b"{12}", None]
        assert log.newest("churn") == 12

    def test_names_are_told_sorted_and_apart(self, log: Log) -> None:
        """Each name has a sequence of its own."""
        for name in ("net", "churn", "churn.eu", "a-1_b"):
            assert log.append(name, 1, name.encode())
        assert log.names() == sorted(["net", "churn", "churn.eu", "a-1_b"])
        assert list(log.read_from("churn", 1)) == [b"churn"]

    def test_an_entry_is_created_once(self, log: Log) -> None:
        """A second append of a number is told so, and changes nothing."""
        assert log.append("churn", 1, b"first")
        before = log.stamp("churn", 1)
        assert not log.append("churn", 1, b"second")
        assert not log.append("churn", 1, b"first")
        assert log.read("churn", 1) == b"first"
        assert log.stamp("churn", 1) == before

    def test_a_gap_ends_reading_but_not_newest(self, log: Log) -> None:
        """Entries behind a gap are not told as the log's, yet ``newest`` gives them away."""
        for seq in (1, 2, 4):
            log.append("churn", seq, b"%d" % seq)
        assert list(log.read_from("churn", 1)) == [b"1", b"2"]
        assert log.newest("churn") == 4
        log.append("torso", 2, b"2")
        assert "torso" in log.names()

    def test_stamps_exist_for_entries_only(self, log: Log) -> None:
        """A stamp is there exactly when the entry is, and stays the same."""
        log.append("churn", 1, b"first")
        stamp = log.stamp("churn", 1)
        assert stamp is not None
        assert log.stamp("churn", 2) is None
        log.append("churn", 2, b"second")
        assert log.stamp("churn", 1) == stamp
        assert log.stamp("churn", 2) is not None

    @pytest.mark.parametrize("name", ["../etc", "a/b", "", ".", "Churn", "a b", "a\0b", "x" * 300])
    def test_names_that_cannot_be(self, log: Log, name: str) -> None:
        """No name reaches outside the log: it cannot be written, and reading finds nothing."""
        with pytest.raises(UsageError):
            log.append(name, 1, b"first")
        assert log.read(name, 1) is None
        assert list(log.read_from(name, 1)) == []
        assert log.stamp(name, 1) is None
        assert log.newest(name) == 0
        assert log.names() == []

    def test_one_of_many_racers_wins(self, log: Log) -> None:
        """Of eight appends of the same number exactly one is told that it won, and it did."""
        for seq in range(1, 11):
            start = threading.Barrier(_WRITERS)

            def race(writer: int, seq: int = seq, start: threading.Barrier = start) -> bool:
                start.wait()
                return log.append("churn", seq, b"%d" % writer)

            with ThreadPoolExecutor(_WRITERS) as pool:
                won = list(pool.map(race, range(_WRITERS)))
            assert won.count(True) == 1
            assert log.read("churn", seq) == b"%d" % won.index(True)

    def test_a_writer_recognises_its_own_entry(self, log: Log) -> None:
        """An append whose answer was lost is found in the log, and is not done twice."""
        lossy = _AnswerLost(log)
        catalogue = Catalogue(lossy, None)
        assert [_add(catalogue, "churn"), _add(catalogue, "churn")] == [1, 2]
        assert lossy.lost == 2
        assert log.newest("churn") == 2

    def test_concurrent_writers_lose_nothing(self, log: Log) -> None:
        """Eight catalogues over one log give dense numbers, one entry each, one chain."""

        def write(writer: int) -> list[int]:
            catalogue = Catalogue(log, None)
            return [_add(catalogue, "churn", by=f"writer {writer}") for _ in range(5)]

        with ThreadPoolExecutor(_WRITERS) as pool:
            numbers = [number for some in pool.map(write, range(_WRITERS)) for number in some]
        assert sorted(numbers) == list(range(1, 5 * _WRITERS + 1))
        entries = [LogEntry.decode(data) for data in log.read_from("churn", 1)]
        assert [entry.seq for entry in entries] == list(range(1, 5 * _WRITERS + 1))
        assert len({entry.attempt for entry in entries}) == 5 * _WRITERS
        assert sorted({entry.by for entry in entries}) == [f"writer {i}" for i in range(_WRITERS)]
        Catalogue(log, None).check_chain("churn")

    def test_it_says_where_it_is(self, log: Log) -> None:
        """``url`` is a text for messages."""
        assert log.url
