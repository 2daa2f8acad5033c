"""Pieces written and read: shared, lazily opened, verified once, and again when anything moved."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import tracemalloc

import numpy as np
import pytest

import holdfast
from holdfast.archive import read, write
from holdfast.archive.stamps import Stamps
from holdfast.codec.tensors import TensorData
from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store import reading as readings
from holdfast.store.local import LocalStore

BIG = 1 << 20


def tensor(array):
    return TensorData("F64", array.shape, lambda: memoryview(array).cast("B"))


@pytest.fixture(name="store")
def open_store(tmp_path):
    return LocalStore.create(tmp_path / "store")


@pytest.fixture(name="saved")
def saved_version(tmp_path, monkeypatch):
    """Two big arrays and a small one, old enough that stamps are given."""
    monkeypatch.setattr(readings, "_SETTLED_NS", 0)
    monkeypatch.setattr(readings, "trustworthy", lambda _: True)
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=BIG // 8), "b": rng.normal(size=BIG // 8), "c": np.ones(5)}
    return holdfast.save(arrays, "m", store=tmp_path / "store")


def opened(version, stamps, verify="auto"):
    return read.open_version(
        version.store.blobs, Digest(version.info.manifest), verify=verify, stamps=stamps
    )


def place(version, number):
    digest = version.manifest.pieces[number].digest
    return version.store.path / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_known_pieces_are_not_written_again(store):
    arrays = {name: np.full(BIG // 8, float(i)) for i, name in enumerate("abc")}
    first = write.write_tensors(store, {n: tensor(a) for n, a in arrays.items()}, known=frozenset())
    assert first.new_bytes == first.total_bytes
    arrays["b"] = arrays["b"] + 7
    known = frozenset(Digest(piece.digest) for piece in first.pieces)
    second = write.write_tensors(store, {n: tensor(a) for n, a in arrays.items()}, known=known)
    assert second.new_bytes == BIG
    assert [p.digest for p in first.pieces[:2]] == [p.digest for p in second.pieces[:2]]


def test_a_tensor_of_another_size_than_its_shape_is_refused(store):
    short = TensorData("F64", (4,), lambda: memoryview(bytes(24)))
    with pytest.raises(Corrupt, match="gave 24 bytes"):
        write.write_tensors(store, {"a": short}, known=frozenset())


def test_a_tensor_that_changes_while_it_is_saved_is_refused(store):
    calls = iter(range(100))
    moving = TensorData("F64", (BIG // 8,), lambda: memoryview(bytes([next(calls)]) * BIG))
    known = frozenset([Digest("sha256:" + "0" * 64)])
    with pytest.raises(Corrupt, match="changed while they were being saved"):
        write.write_tensors(store, {"a": moving}, known=known)
    assert [info.size for info in store.list() if info.size == BIG] == []


def test_writing_copies_no_tensor(store):
    arrays = {f"t{i}": np.full(BIG, float(i)) for i in range(8)}
    tensors = {name: tensor(array) for name, array in arrays.items()}
    tracemalloc.start()
    write.write_tensors(store, tensors, known=frozenset())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_look_up_opens_only_its_piece(saved, monkeypatch):
    seen = []
    original = LocalStore.open_blob
    monkeypatch.setattr(
        LocalStore, "open_blob", lambda self, d: seen.append(d) or original(self, d)
    )
    tensors = opened(saved, None).tensors
    seen.clear()
    assert len(tensors["a"].data) == BIG
    assert set(seen) == {saved.manifest.pieces[1].digest}


def test_what_was_hashed_is_not_hashed_again_until_it_moves(saved, tmp_path):
    stamps = Stamps(tmp_path / "stamps.sqlite")
    first = opened(saved, stamps)
    first.tensors.open_all()
    assert first.checked == "hashed"
    second = opened(saved, stamps)
    second.tensors.open_all()
    assert second.checked == "stamped"
    os.utime(place(saved, 1), (time.time(), time.time() - 50))
    third = opened(saved, stamps)
    third.tensors.open_all()
    assert third.checked == "hashed"


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_changed_blob_is_refused_though_it_was_stamped(saved, tmp_path, keep_times):
    stamps = Stamps(tmp_path / "stamps.sqlite")
    opened(saved, stamps).tensors.open_all()
    path = place(saved, 2)
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[77] ^= 4
    path.chmod(0o644)
    path.write_bytes(data)
    if keep_times:  # ctime still tells
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Corrupt):
        opened(saved, stamps).tensors.open_all()
    tensors = opened(saved, stamps).tensors
    assert len(tensors["a"].data) == BIG
    with pytest.raises(Corrupt):
        tensors["b"]


def test_a_cache_that_is_gone_or_garbage_costs_only_time(saved, tmp_path):
    path = tmp_path / "stamps.sqlite"
    path.write_bytes(b"not a database" * 500)
    for stamps in (Stamps(path), Stamps(path / "below-a-file"), Stamps(tmp_path)):
        version = opened(saved, stamps)
        version.tensors.open_all()
        assert version.checked == "hashed"


def test_a_cache_that_another_process_holds_is_left_to_it(saved, tmp_path):
    path = tmp_path / "stamps.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        version = opened(saved, Stamps(path))
        version.tensors.open_all()
        assert version.checked == "hashed"
        other.execute("CREATE TABLE theirs (n)")
        other.execute("COMMIT")
    with contextlib.closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_verify_never_and_always(saved, tmp_path):
    stamps = Stamps(tmp_path / "stamps.sqlite")
    opened(saved, stamps).tensors.open_all()
    for verify, checked in (("never", "unchecked"), ("always", "hashed")):
        version = opened(saved, stamps, verify)
        version.tensors.open_all()
        assert version.checked == checked


def test_a_missing_blob_is_told_with_what_it_holds(saved):
    place(saved, 2).unlink()
    with pytest.raises(Corrupt, match="It holds tensor 'b'"):
        opened(saved, None).tensors.open_all()
    checked = read.open_version(
        saved.store.blobs, Digest(saved.info.manifest), verify="always", stamps=None
    )
    assert len(checked.tensors["c"].data) == 40
