"""Bundles: written whole or not at all, loaded where they lie, taken in with nothing lost."""

from __future__ import annotations

import errno
import fcntl
import gc
import hashlib
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

import holdfast
from holdfast.api.history import forget
from holdfast.archive import read
from holdfast.errors import Corrupt, HoldfastError, NotFound, PartlyDone, UsageError
from holdfast.store import reading

BIG = np.random.default_rng(0).normal(size=(1 << 20) // 8)


def arrays(k):
    return {"big": BIG, "small": np.full(5, float(k))}


@pytest.fixture(name="store", scope="module")
def filled_store(tmp_path_factory):
    """Three versions of churn, one with an alias and a lock beside it, and another model."""
    from sklearn.linear_model import LinearRegression

    store = holdfast.Store.create(tmp_path_factory.mktemp("s") / "store")
    for k in (1, 2, 3):
        holdfast.save(arrays(k), "churn", store=store)
    X = np.arange(40.0).reshape(20, 2)
    model = LinearRegression().fit(X, X[:, 0])
    holdfast.save(model, "line", inputs=X, portable=None, store=store)
    holdfast.promote("churn@v2", to="prod", reason="best", store=store)
    lock = b"lock-version = '1.0'\n"
    blob = store.blobs.put(lambda: [lock])
    store.blobs.flush()
    store.catalogue.attach("churn", 2, "pylock", blob=blob, size=len(lock), by="a")
    return store


@pytest.fixture(name="file", scope="module")
def one_bundle(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("b") / "m.hold"
    store.bundle(["line", "churn@prod", "churn@v3", "churn"], path, aliases=True)
    return path


@pytest.fixture(name="whole", scope="module")
def bundle_with_history(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("b") / "h.hold"
    store.bundle("churn", path, history=True)
    return path


def facts(version):
    return version.content_id, version.record_id, version.aliases


def test_a_reference_into_a_bundle_says_itself_where_it_is(store, file, monkeypatch):
    monkeypatch.setenv("HOLDFAST_STORE", "/nowhere")
    assert holdfast.load(f"{file}:churn@v3")["small"][0] == 3
    assert holdfast.load(f"{file}:churn@prod")["small"][0] == 2
    prod = holdfast.get(f"{file}:churn@prod")
    assert facts(prod) == facts(holdfast.get("churn@prod", store=store))
    assert holdfast.load(f"{file}:churn@{prod.content_id[:20]}")["small"][0] == 2
    assert [v.ref for v in holdfast.versions(f"{file}:churn")] == ["churn@v2", "churn@v3"]
    assert prod.attached("pylock") == b"lock-version = '1.0'\n"
    assert holdfast.inspect(f"{file}:line")["ref"] == "line@v1"
    before = holdfast.preflight(f"{file}:line")
    assert before.verdict == "loads here"
    assert before.tested.endswith(f"hold verify {file}:line@v1")
    assert holdfast.predict(f"{file}:line", [[5.0, 6.0]])[0] == pytest.approx(5.0)
    assert holdfast.verify(f"{file}:line").proof == "replayed"


def test_a_bundle_of_one_model_needs_no_name(whole):
    assert holdfast.load(str(whole))["small"][0] == 3
    assert holdfast.inspect(whole)["ref"] == "churn@v3"


def test_what_is_loaded_is_the_file_itself(file):
    found = holdfast.load(f"{file}:churn@v3")["big"]
    assert found.ctypes.data % 4096 == 0
    found[0] = 1e9  # a private copy of the page
    again = holdfast.load(f"{file}:churn@v3", verify="always")["big"]
    assert (again == BIG).all()


def how_checked(path):
    version = holdfast.get(str(path))
    blobs, stamps = version.store.blobs, version.store.stamps
    found = read.open_version(blobs, version.manifest_id, verify="auto", stamps=stamps)
    found.tensors.open_all()
    return found.checked


def test_blobs_are_hashed_once_for_an_unchanged_file(store, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_SETTLED_NS", 0)
    monkeypatch.setattr(reading, "trustworthy", lambda _: True)
    path = tmp_path / "m.hold"
    store.bundle("churn@v3", path)
    assert [how_checked(path), how_checked(path)] == ["hashed", "stamped"]
    path.chmod(0o644)
    assert how_checked(path) == "hashed"


def test_the_same_versions_are_the_same_file(store, file, tmp_path):
    again = tmp_path / "again.hold"
    done = store.bundle(["churn@v2", "churn@v3", "line@v1"], again, aliases=True)
    assert again.read_bytes() == file.read_bytes()
    assert done.size == file.stat().st_size
    assert done.versions == ["churn@v2", "churn@v3", "line@v1"]


def test_tar_and_sha256_read_it(file, whole, tmp_path):
    for path in (file, whole):
        with tarfile.open(path) as archive:
            for item in archive:
                data = archive.extractfile(item).read()
                if item.name.startswith("blobs/"):
                    assert item.name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
                    assert item.size < 4096 or item.offset_data % 4096 == 0
    with tarfile.open(file) as archive:
        shared = [item for item in archive if item.size == BIG.nbytes]
    assert len(shared) == 1


def test_taking_in_gives_the_next_numbers_and_loses_nothing(store, file, tmp_path):
    to = holdfast.Store.create(tmp_path / "to")
    holdfast.save(arrays(9), "churn", store=to)
    planned = to.unbundle(file, dry_run=True)
    assert planned.size
    assert [item.there for item in planned.versions] == [None, None, None]
    done = to.unbundle(file, aliases=True)
    assert [(s.ref, s.there) for s in done.versions] == [
        ("churn@v2", "churn@v2"),
        ("churn@v3", "churn@v3"),
        ("line@v1", "line@v1"),
    ]
    for ref in ("churn@prod", "churn@v3", "line"):
        assert facts(holdfast.get(ref, store=to)) == facts(holdfast.get(ref, store=store))
        holdfast.verify(ref, store=to)
    assert holdfast.get("churn@prod", store=to).attached("pylock")
    again = to.unbundle(file, aliases=True)
    assert (again.blobs, [item.new for item in again.versions]) == (0, [False] * 3)


def test_a_history_comes_back_byte_for_byte(store, whole, tmp_path):
    to = holdfast.Store.create(tmp_path / "to")
    to.unbundle(whole, history=True)
    assert holdfast.log("churn", store=to) == holdfast.log("churn", store=store)
    assert holdfast.log(f"{whole}:churn") == holdfast.log("churn", store=store)
    assert holdfast.load("churn@prod", store=to)["small"][0] == 2
    with pytest.raises(UsageError, match="only read"):
        holdfast.Store(whole).catalogue.tag("churn", 1, set_={"a": "b"}, unset=[], by="a")


def test_forgotten_versions_stay_out_of_a_history(store, tmp_path):
    near, to = (holdfast.Store.create(tmp_path / name) for name in ("near", "to"))
    for k in (1, 2, 3):
        holdfast.save(arrays(k), "churn", store=near)
    forget(["churn@v2"], store=near)
    near.bundle("churn", tmp_path / "h.hold", history=True)
    to.unbundle(tmp_path / "h.hold", history=True)
    assert [v.ref for v in holdfast.versions("churn", store=to)] == ["churn@v1", "churn@v3"]
    assert holdfast.save(arrays(4), "churn", store=to).ref == "churn@v4"


def test_the_manifest_of_a_version_is_the_same_under_every_number(store, tmp_path):
    other = holdfast.Store.create(tmp_path / "other")
    other.pull("churn@v3", store)
    digests = set()
    for source, ref in ((store, "churn@v3"), (other, "churn@v1")):
        file = tmp_path / f"{ref}.hold"
        source.bundle(ref, file)
        with tarfile.open(file) as archive:
            (listed,) = json.load(archive.extractfile("index.json"))["manifests"]
        assert listed["annotations"] == {"org.opencontainers.image.ref.name": ref}
        digests.add(listed["digest"])
    assert len(digests) == 1


def test_a_bundle_is_a_source_like_any_store(file, tmp_path):
    source = holdfast.Store(file)
    there = holdfast.Store.create(tmp_path / "to")
    assert there.pull("churn@prod", source).versions[0].there == "churn@v1"
    assert source.push("line", there).versions[0].new
    source.bundle("churn", tmp_path / "less.hold")
    assert holdfast.get(str(tmp_path / "less.hold")).ref == "churn@v3"
    assert len(source.verify(replay=False).verified) == 3


def test_names_ending_like_bundles_are_bundles():
    from holdfast.api.refs import in_bundle

    assert in_bundle("a/b.hold") == ("a/b.hold", "")
    assert in_bundle("a.hold:b.hold@v1") == ("a.hold", "b.hold@v1")
    assert in_bundle("x.hold/m.hold:m") == ("x.hold/m.hold", "m")
    assert in_bundle("m.hold@v1") is None
    assert in_bundle("m@holder") is None


REFUSED = {
    "history": (lambda f, s: holdfast.log(f"{f}:churn"), UsageError, "without their history"),
    "alias": (
        lambda f, s: holdfast.promote(f"{f}:churn", to="x", store=s),
        UsageError,
        "in a store",
    ),
    "save": (lambda f, s: holdfast.save([1], "m", store=f), UsageError, "only read"),
    "push": (lambda f, s: s.push("churn@v1", f), UsageError, "only read"),
    "absent": (lambda f, s: holdfast.load("no.hold:churn"), NotFound, "no file no.hold"),
    "name": (lambda f, s: holdfast.load(str(f)), UsageError, "holds 2 models"),
    "version": (lambda f, s: holdfast.load(f"{f}:churn@v1"), NotFound, "no version"),
    "new": (lambda f, s: holdfast.Store.create("new.hold"), UsageError, "written whole"),
    "over": (lambda f, s: s.bundle("churn", f), UsageError, "never written over"),
    "ending": (lambda f, s: s.bundle("churn", "m.tar"), UsageError, r"\.hold"),
    "folder": (lambda f, s: s.bundle("churn", "no/m.hold"), UsageError, "no folder"),
    "none": (lambda f, s: s.bundle([], "m.hold"), UsageError, "no version"),
    "whole log": (lambda f, s: s.unbundle(f, history=True), UsageError, "without their history"),
    "no bundle": (lambda f, s: s.unbundle("m.tar"), UsageError, r"\.hold"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said(store, file, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    act, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        act(file, store)
    assert not list(tmp_path.iterdir())


def test_a_damaged_source_leaves_no_file(store, tmp_path):
    to = holdfast.Store.create(tmp_path / "to")
    store.push("churn@v3", to)
    piece = holdfast.get("churn", store=to).manifest.pieces[1].digest[7:]
    blob = to.path / "blobs" / "sha256" / piece
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[5] ^= 1
    blob.write_bytes(data)
    with pytest.raises(Corrupt, match="not what was saved"):
        to.bundle("churn", tmp_path / "m.hold")
    assert os.listdir(tmp_path) == ["to"]  # noqa: PTH208 - names, not paths


def test_a_full_disk_leaves_no_file(store, tmp_path, monkeypatch):
    from holdfast import durable

    def full(fd, data):
        if len(data) >= BIG.nbytes:
            raise OSError(errno.ENOSPC, "no space")
        return written(fd, data)

    written = durable.write_all
    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(HoldfastError, match="No space"):
        store.bundle("churn", tmp_path / "m.hold")
    assert not list(tmp_path.iterdir())


def left_behind(folder, name=".old.hold.0123456789abcdef"):
    path = folder / name
    path.write_bytes(b"half a bundle")
    return path


def test_what_killed_writers_left_is_swept_and_nothing_else(store, tmp_path):
    dead = left_behind(tmp_path)
    alive = left_behind(tmp_path, ".new.hold.0123456789abcdef")
    others = [left_behind(tmp_path, name) for name in (".notes.hold", "a.hold.0123456789abcdef")]
    link = tmp_path / ".link.hold.0123456789abcdef"
    link.symlink_to(others[0])
    with alive.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.bundle("churn", tmp_path / "m.hold")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "m.hold", alive, link, *others])
    assert not dead.exists()


@pytest.mark.slow
def test_a_killed_writer_is_cleaned_up_after(store, tmp_path):
    program = (
        "import os, sys, holdfast\n"
        "from holdfast.archive.bundle import write\n"
        "write._name = lambda *_: os.kill(os.getpid(), 9)\n"
        "holdfast.Store(sys.argv[1]).bundle('churn', sys.argv[2])\n"
    )
    command = [sys.executable, "-c", program, store.url, str(tmp_path / "m.hold")]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.stat().st_size > BIG.nbytes
    store.bundle("churn", tmp_path / "m.hold")
    assert [path.name for path in tmp_path.iterdir()] == ["m.hold"]


def test_a_file_that_was_swept_before_it_was_locked_is_made_anew(store, tmp_path, monkeypatch):
    from holdfast import durable

    locked, swept = durable._is_anothers, []

    def late(fd):
        if len(swept) < 2:
            (path,) = tmp_path.iterdir()
            path.unlink()
            swept.append(path)
        return locked(fd)

    monkeypatch.setattr(durable, "_is_anothers", late)
    store.bundle("churn", tmp_path / "m.hold")
    assert len({*swept}) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["m.hold"]
    assert holdfast.get(str(tmp_path / "m.hold")).ref == "churn@v3"


def test_a_file_system_without_links_gets_the_file_all_the_same(store, tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    store.bundle("churn", tmp_path / "m.hold")
    assert [path.name for path in tmp_path.iterdir()] == ["m.hold"]
    assert holdfast.get(str(tmp_path / "m.hold")).ref == "churn@v3"


def test_a_worker_gets_copies_of_the_blobs(file):
    from holdfast.api.worker import _folder

    version = holdfast.get(f"{file}:line")
    with _folder(version) as folder:
        copy = holdfast.Store(folder)
        assert copy.blobs.has(version.manifest_id)
        assert copy.blobs.read(version.record_id)
    assert not folder.exists()


def test_a_coded_blob_is_written_plain(tmp_path, file):
    from holdfast.api.compacting import compact

    to = holdfast.Store.create(tmp_path / "to")
    weights = np.random.default_rng(0).normal(size=1 << 18).astype("float32")
    holdfast.save({"w": weights}, "w", store=to)
    compact(keep=0, store=to)
    assert list((to.path / "coded" / "sha256").iterdir())
    to.bundle("w", tmp_path / "w.hold")
    assert (holdfast.load(str(tmp_path / "w.hold"))["w"] == weights).all()


def test_many_pieces_share_layers_and_load_one_by_one(tmp_path, monkeypatch):
    from holdfast.archive import oci

    monkeypatch.setattr(oci, "_MOST_PIECES", 3)
    store = holdfast.Store.create(tmp_path / "s")
    model = {f"{name}.{k}": BIG + ord(name) + k * 100 for name in "ab" for k in range(4)}
    version = holdfast.save(model, "many", store=store)
    store.bundle("many", tmp_path / "m.hold")
    found = holdfast.load(str(tmp_path / "m.hold"))
    assert all((found[key] == value).all() for key, value in model.items())
    with tarfile.open(tmp_path / "m.hold") as archive:
        assert sum(item.size > BIG.nbytes for item in archive) == 2
    to = holdfast.Store.create(tmp_path / "to")
    to.unbundle(tmp_path / "m.hold")
    assert facts(holdfast.get("many", store=to)) == facts(version)


def test_a_bundle_that_was_cut_meanwhile_is_refused(store, tmp_path):
    path = tmp_path / "m.hold"
    store.bundle("churn", path)
    opened = holdfast.Store(path)
    path.chmod(0o644)
    os.truncate(path, 60_000)
    with pytest.raises(Corrupt, match="shorter"):
        holdfast.load("churn", store=opened)


def test_many_bundles_can_be_open_and_give_their_descriptors_back(file):
    held = []
    for _ in range(2):
        for _ in range(30):
            holdfast.load(f"{file}:churn")
        gc.collect()
        held.append(len(os.listdir("/dev/fd")))  # noqa: PTH208 - numbers, not paths
    assert held[1] <= held[0] + 5


def test_a_damaged_blob_is_refused_and_the_others_are_taken_in(store, tmp_path):
    path = tmp_path / "m.hold"
    store.bundle(["churn@v3", "line"], path)
    data = bytearray(path.read_bytes())
    at = data.index(np.full(5, 3.0).tobytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="not what was saved"):
        holdfast.load(f"{path}:churn")
    to = holdfast.Store.create(tmp_path / "to")
    with pytest.raises(PartlyDone, match="1 of 2"):
        to.unbundle(path)
    assert [model.name for model in to.catalogue.names()] == ["line"]
