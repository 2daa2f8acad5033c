from pathlib import Path

import pytest

from holdfast.catalogue.disk import DiskLog
from holdfast.testing.logs import LogConformance


@pytest.fixture(name="log")
def empty_log(tmp_path: Path) -> DiskLog:
    for folder in ("log", "tmp"):
        (tmp_path / folder).mkdir()
    return DiskLog(tmp_path / "log", tmp_path / "tmp")


class TestConformance(LogConformance):
    pass


def test_entries_are_read_only_files_in_plain_sight(log: DiskLog, tmp_path: Path) -> None:
    log.append("churn", 7, b"data")
    file = tmp_path / "log" / "churn" / "00000007.json"
    assert file.read_bytes() == b"data"
    assert file.stat().st_mode & 0o777 == 0o444


def test_no_temporary_file_is_left(log: DiskLog, tmp_path: Path) -> None:
    log.append("churn", 1, b"won")
    log.append("churn", 1, b"lost")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_without_entries_is_no_name(log: DiskLog, tmp_path: Path) -> None:
    (tmp_path / "log" / "churn").mkdir()
    (tmp_path / "log" / "churn" / ".DS_Store").touch()
    (tmp_path / "log" / "stray.json").touch()
    (tmp_path / "log" / "Not A Name").mkdir()
    (tmp_path / "log" / "Not A Name" / "00000001.json").touch()
    assert log.names() == []
    assert log.newest("churn") == 0


def test_a_log_folder_that_is_gone_holds_nothing(log: DiskLog, tmp_path: Path) -> None:
    (tmp_path / "log").rmdir()
    assert log.names() == []
    assert log.read("churn", 1) is None


def test_more_than_eight_digits_still_count(log: DiskLog) -> None:
    log.append("churn", 123_456_789, b"far")
    assert log.read("churn", 123_456_789) == b"far"
    assert log.newest("churn") == 123_456_789
