"""What is put beside a version: found, verified, kept by prune, told; and damage is told."""

import json

import numpy as np
import pytest

import holdfast
from holdfast.api import housekeeping, worker
from holdfast.api.attachments import attach
from holdfast.api.history import forget
from holdfast.catalogue.catalogue import ROLES
from holdfast.cli.main import main
from holdfast.environment import lock as locks
from holdfast.errors import Corrupt, EnvironmentMismatch, UsageError
from holdfast.record import digest_of

LOCK = b'lock-version = "1.0"\n'


@pytest.fixture(name="store")
def make_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(name="version")
def make_version(store):
    return holdfast.save({"w": np.arange(3.0)}, "m", store=store)


def place(version, role="pylock"):
    blob = version.info.attachments[role].blob.removeprefix("sha256:")
    return version.store.path / "blobs" / "sha256" / blob


def test_it_is_found_by_whoever_looks(version, store):
    before = (version.record_id, version.content_id)
    assert version.attached("pylock") is None
    assert attach(version, "pylock", LOCK)
    again = holdfast.get("m", store=holdfast.Store(store.path))
    for each in (version, again):
        assert each.attached("pylock") == LOCK
        assert (each.record_id, each.content_id) == before
        assert each.info.attachments["pylock"].size == len(LOCK)


def test_the_newest_counts_and_the_same_again_is_not_written(version, store):
    attach(version, "pylock", LOCK)
    entries = len(holdfast.log("m", store=store))
    assert not attach(version, "pylock", LOCK)
    assert len(holdfast.log("m", store=store)) == entries
    assert attach(version, "pylock", LOCK + b"# newer\n")
    assert holdfast.get("m", store=store).attached("pylock") == LOCK + b"# newer\n"
    assert len(holdfast.log("m", store=store)) == entries + 1


def test_roles_are_a_closed_list(version, store):
    assert ROLES == ("pylock",)
    with pytest.raises(UsageError, match="no role of an attachment"):
        attach(version, "signature", b"x")
    assert version.info.attachments == {}


def test_prune_keeps_what_counts_and_frees_what_was_replaced(version, store):
    attach(version, "pylock", LOCK)
    old = place(version)
    attach(version, "pylock", LOCK + b"#")
    done = housekeeping.prune(grace=-1, store=store)
    assert done.blobs == 1
    assert not old.exists()
    assert version.attached("pylock") == LOCK + b"#"
    assert housekeeping.stats(store=store).unreferenced == 0
    other = holdfast.save({"w": np.arange(3.0)}, "m", store=store)
    assert other.info.attachments == {}
    forget([version.ref], store=store)
    assert housekeeping.prune(grace=-1, store=store).blobs > 0
    assert not place(version).exists()


def test_verify_hashes_it(version, store):
    alone = holdfast.verify("m", store=store)
    attach(version, "pylock", LOCK)
    checked = holdfast.verify("m", store=store)
    assert checked.blobs == alone.blobs + 1
    assert checked.size == alone.size + len(LOCK)


DAMAGE = {
    "flipped": lambda file: file.write_bytes(b"X" + LOCK[1:]),
    "shorter": lambda file: file.write_bytes(LOCK[1:]),
    "longer": lambda file: file.write_bytes(LOCK * 2),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_and_a_new_one_heals_it(version, store, damage):
    attach(version, "pylock", LOCK)
    file = place(version)
    file.chmod(0o644)
    DAMAGE[damage](file)
    with pytest.raises(Corrupt):
        version.attached("pylock")
    with pytest.raises(Corrupt):
        holdfast.verify("m", store=store)
    assert holdfast.load("m", store=store, environment="here")["w"][2] == 2
    attach(version, "pylock", LOCK)
    assert version.attached("pylock") == LOCK
    assert holdfast.verify("m", store=store).proof == "state only"


def test_a_blob_that_vanishes_before_the_entry_leaves_no_entry(version, store, monkeypatch):
    true = version.store.blobs.flush

    def flush():
        true()
        for file in (store.path / "blobs" / "sha256").glob(digest_of(LOCK)[7:]):
            file.unlink()

    monkeypatch.setattr(version.store.blobs, "flush", flush)
    with pytest.raises(Corrupt, match="vanished while it was written"):
        attach(version, "pylock", LOCK)
    assert holdfast.get("m", store=store).info.attachments == {}


def test_a_size_that_lies_is_refused(version, store):
    digest = digest_of(LOCK)
    store.blobs.put(lambda: [LOCK], expect=digest)
    store.catalogue.attach("m", 1, "pylock", blob=digest, size=1, by="eve")
    lying = holdfast.get("m", store=store)
    for ask in (lambda: lying.attached("pylock"), lambda: holdfast.verify("m", store=store)):
        with pytest.raises(Corrupt, match="its log says 1"):
            ask()


def test_what_is_too_long_is_not_read(version):
    attach(version, "pylock", LOCK)
    with pytest.raises(Corrupt, match="at most 3 are read"):
        version.attached("pylock", most=3)


@pytest.mark.parametrize("data", [b"\xff", b"[" * 100_000, LOCK, b"#" * (locks.MOST + 1)])
def test_a_lock_that_is_none_is_told_before_anything_is_built(version, store, data, tmp_path):
    attach(version, "pylock", data)
    refusals = (EnvironmentMismatch, Corrupt)
    with pytest.raises(refusals, match=r"lock cannot be used|are read") as told:
        holdfast.load("m", store=store, environment="recorded")
    assert told.value.ref == "m@v1"
    if isinstance(told.value, EnvironmentMismatch):
        assert told.value.hint == "hold env lock m@v1  # makes a new one"
    assert not (tmp_path / "cache" / "environments").exists()
    assert worker.plan_for(version).pins == ()


def said(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([*words])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_the_commands_tell_it(version, store, capsys):
    attach(version, "pylock", LOCK)
    where = ("--store", str(store.path))
    assert "attached pylock to v1" in said(capsys, "log", "m", *where)
    assert "attached    pylock" in said(capsys, "show", "m", *where)
    shown = json.loads(said(capsys, "show", "m", "--json", *where))
    assert shown["attachments"]["pylock"]["size"] == len(LOCK)
    entry = json.loads(said(capsys, "log", "m", "--json", *where))["entries"][-1]
    assert entry["role"] == "pylock"
    assert entry["blob"] == shown["attachments"]["pylock"]["blob"]
