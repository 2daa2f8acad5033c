"""Check documents are a stranger's word: kept whole, judged, and passed over when they are odd."""

import datetime as dt
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec.structs import replace

from holdfast.archive.checks import Check, Checks, here
from holdfast.errors import HoldfastError, NoSpace
from holdfast.record import canonical, parse_json
from holdfast.store.checks import LocalChecks

RECORD = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


def made(**given):
    fields = {
        "record": RECORD,
        "manifest": "sha256:" + "01" * 32,
        "at": "2026-03-01T00:00:00.000000Z",
        "hashed": "2026-03-01T00:00:00.000000Z",
        "by": "ana",
        "environment": here({"packages": {"numpy": "1.0", "not-installed-anywhere": "2"}}),
        "blobs": 4,
        "size": 1000,
        "outcome": "replayed",
        "detail": "golden rows 64/64",
        "rung": "native",
    }
    return Check(**{**fields, **given})


@pytest.fixture(name="folder")
def store_folder(tmp_path):
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.fixture(name="checks")
def kept_checks(folder):
    return Checks(LocalChecks(folder / "checks", folder / "tmp"))


def file_of(folder, check):
    return folder / "checks" / check.record[7:] / f"{check.key}.json"


def test_a_store_without_checks_has_none(checks):
    assert checks.of(RECORD) == ({}, 0, {})
    assert checks.keep_only(set()) == 0


def test_absent_packages_are_told(checks):
    packages = made().environment["packages"]
    assert packages["not-installed-anywhere"] is None
    assert packages["numpy"] is not None


def test_the_newest_of_each_environment_is_kept_newest_first(folder, checks):
    first = made()
    elsewhere = made(
        environment={**first.environment, "python": "3.9.1"},
        at="2026-02-01T00:00:00.000000Z",
        hashed="2026-04-01T00:00:00.000000Z",
    )
    later = replace(first, outcome="refused", detail="otherwise", rung=None)
    for check in (first, elsewhere, later):
        checks.add(check)
    found = checks.of(RECORD)
    assert [*found.checks.items()] == [(elsewhere.key, elsewhere), (later.key, later)]
    assert found.ignored == 0
    assert not list((folder / "tmp").iterdir())


def test_checks_of_other_records_are_deleted(checks):
    checks.add(made())
    checks.add(made(record=OTHER))
    assert checks.keep_only({OTHER}, dry_run=True) == 1
    assert len(checks.of(RECORD).checks) == 1
    assert checks.keep_only({OTHER}) == 1
    assert checks.of(RECORD) == ({}, 0, {})
    assert len(checks.of(OTHER).checks) == 1


SOON = (dt.datetime.now(tz=dt.UTC) + dt.timedelta(days=3)).isoformat(timespec="microseconds")
FORGED = {
    "of another record": {"record": OTHER},
    "no manifest": {"manifest": "blobs/../x"},
    "no moment": {"at": "yesterday"},
    "a moment of another form": {"at": "2026-03-01T00:00:00+00:00"},
    "hashed before it was found": {"hashed": "2026-02-01T00:00:00.000000Z"},
    "from the future": {"hashed": SOON.replace("+00:00", "Z")},
    "an outcome that is none": {"outcome": "perfect"},
    "fewer than no blobs": {"blobs": -1},
    "long words": {"detail": "x" * 3000},
    "many words": {"by": "x" * 60_000},
    "another format": {"format": "holdfast/9"},
    "numbers for words": {"detail": 7},
    "no environment": {"environment": {}},
    "environment of the wrong kind": {"environment": {"packages": ["numpy"]}},
    "odd packages": {"environment": {"packages": {"numpy": {"deep": 1}}}},
}


@pytest.mark.parametrize("name", FORGED)
def test_what_cannot_be_is_passed_over(folder, checks, name):
    checks.add(made())
    place = file_of(folder, made())
    fields = {**parse_json(place.read_bytes(), "check"), **FORGED[name]}
    place.write_bytes(canonical(fields))
    if "environment" in FORGED[name]:  # under the name that is right for it
        from holdfast.environment.capture import environment_key

        place.rename(place.with_name(f"{environment_key(FORGED[name]['environment'])}.json"))
    assert checks.of(RECORD) == ({}, 1, {})


def test_a_check_under_the_name_of_another_environment_is_passed_over(folder, checks):
    checks.add(made())
    place = file_of(folder, made())
    place.rename(place.with_name(f"{'0' * 32}.json"))
    assert checks.of(RECORD) == ({}, 1, {})


def test_a_link_a_pipe_and_a_folder_are_passed_over(folder, checks):
    checks.add(made())
    place = file_of(folder, made())
    kept = place.rename(folder / "kept.json")
    place.symlink_to(kept)
    os.mkfifo(place.with_name(f"{'1' * 32}.json"))
    place.with_name(f"{'2' * 32}.json").mkdir()
    place.with_name("notes.txt").write_text("not looked at")
    (folder / "checks" / "README").write_text("not looked at")
    assert checks.of(RECORD) == ({}, 3, {})


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_is_more_than_a_check_passed_over(folder, checks, data):
    shutil.rmtree(folder / "checks", ignore_errors=True)  # what the example before has left
    checks.add(made())
    place = file_of(folder, made())
    whole = place.read_bytes()
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        broken = bytearray(whole)
        broken[at] ^= 1 << data.draw(st.integers(0, 7))
    place.write_bytes(broken)
    found = checks.of(RECORD)
    for key, check in found.checks.items():  # a bit of a word or a number may be another one
        assert check.record == RECORD
        assert check.key == key == made().key
    assert len(found.checks) + found.ignored == 1


def test_a_full_disk_leaves_the_check_before(folder, checks, monkeypatch):
    checks.add(made())

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="recording a check"):
        checks.add(replace(made(), outcome="refused"))
    assert checks.of(RECORD) == ({made().key: made()}, 0, {})
    assert not list((folder / "tmp").iterdir())


def test_what_may_not_be_deleted_is_told(folder, checks, monkeypatch):
    checks.add(made())

    def denied(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", denied)
    with pytest.raises(HoldfastError, match="cannot be deleted"):
        checks.keep_only(set())
