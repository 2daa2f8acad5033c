"""Compacted versions load as before, whatever happens to their neighbours or in the middle."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import holdfast
from holdfast.api import compacting, housekeeping
from holdfast.api.compacting import compact
from holdfast.api.history import forget, pin
from holdfast.cli.main import main
from holdfast.errors import Conflict, Corrupt, NotFound
from holdfast.record import Digest, digest_hex
from holdfast.store.coder import Coder


def weights(step, rows=400):
    rng = np.random.default_rng(0)
    base = {f"layer.{n}": (rng.standard_normal((rows, 800)) * 0.02) for n in range(3)}
    moved = np.random.default_rng(step + 1)
    return {
        name: (value + moved.standard_normal(value.shape) * 2e-7 * step).astype("f4")
        for name, value in base.items()
    }


@pytest.fixture(scope="module", name="series")
def store_with_four_versions(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("series") / "store")
    for step in range(4):
        holdfast.save(weights(step), "net", store=store)
    return store.path


@pytest.fixture(name="store")
def own_copy(series, tmp_path):
    return holdfast.Store(shutil.copytree(series, tmp_path / "store"))


def check(store, name="net"):
    for version in holdfast.versions(name, store=store):
        found = version.load(verify="always")
        want = weights(version.number - 1)
        assert all(np.array_equal(found[key], want[key]) for key in want)
        holdfast.verify(version.ref, store=store)


def coded(store):
    folder = store.path / "coded" / "sha256"
    return sorted(file.name for file in folder.glob("*"))


def occupied(store):
    return sum(f.stat().st_size for f in store.path.rglob("*") if f.is_file())


def test_older_versions_become_small_and_load_as_before(store):
    before = occupied(store)
    done = compact(store=store)
    assert done.plain == ("net@v4",)
    assert done.blobs == 9
    assert occupied(store) == pytest.approx(before - done.saved, abs=3 * 4096)
    assert done.saved > 0.3 * before
    check(store)
    found = housekeeping.stats(store=store)
    assert (found.coded, found.saved, found.unreferenced) == (9, done.saved, 0)
    assert found.stored == pytest.approx(found.logical - done.saved, rel=0.01)


def test_the_newest_stays_what_sha256sum_can_check(store):
    compact(store=store)
    blobs = store.path / "blobs" / "sha256"
    for piece in holdfast.get("net", store=store).manifest.pieces:
        assert (blobs / digest_hex(Digest(piece.digest))).exists()


def test_it_is_done_once_and_undone_whole(store):
    compact(store=store)
    assert compact(store=store)[:2] == (0, 0)
    done = compact(undo=True, store=store)
    assert done.blobs == 9
    assert done.saved < 0
    assert coded(store) == []
    check(store)


def test_aliases_pins_and_other_names_stay_as_they_are(store):
    holdfast.promote("net@v1", to="prod", store=store)
    pin("net@v2", store=store)
    holdfast.save(weights(1), "other", store=store)
    done = compact(["net"], keep=0, store=store)
    assert done.plain == ("net@v1", "net@v2")
    assert done.blobs == 6
    check(store)


def test_what_a_plain_version_shares_stays_plain(store):
    holdfast.save(weights(0), "net", store=store)  # v5 has what v1 has
    compact(store=store)
    blobs = store.path / "blobs" / "sha256"
    for piece in holdfast.get("net@v1", store=store).manifest.pieces:
        assert (blobs / digest_hex(Digest(piece.digest))).exists()


def test_saving_what_is_coded_writes_nothing_and_the_next_compact_makes_it_plain(store):
    holdfast.save(weights(1) | {"layer.2": weights(0)["layer.2"]}, "net", store=store)
    compact(keep=0, store=store)
    version = holdfast.save(weights(1), "net", store=store)
    assert version.saved.new_bytes == 0
    assert len(coded(store)) == 12
    done = compact(store=store)
    assert done.saved < 0
    assert len(coded(store)) == 9
    assert holdfast.verify("net", store=store).proof


def test_what_is_written_again_beside_its_coded_form_is_kept_once(store):
    compact(store=store)
    holdfast.save(weights(1), "again", store=store)
    assert len(coded(store)) == 9
    compact(store=store)
    assert len(coded(store)) == 6
    check(store)


def test_a_fine_tune_is_coded_against_its_parent_of_another_name(store):
    holdfast.save(weights(9), "tuned", parents=["net@v4"], store=store)
    holdfast.save({"a": np.zeros(3)}, "tuned", store=store)
    assert compact(["tuned"], store=store).blobs == 3
    parent = {piece.digest for piece in holdfast.get("net@v4", store=store).manifest.pieces}
    bases = {blob.base for blob in store.blobs.list() if blob.stored < blob.size}
    assert len(bases) == 3
    assert bases < parent
    found = holdfast.load("tuned@v1", store=store)
    assert all(np.array_equal(found[key], value) for key, value in weights(9).items())


def age_all(store):
    for file in [*store.path.glob("blobs/sha256/*"), *store.path.glob("coded/sha256/*")]:
        os.utime(file, (1e9, 1e9))


def test_prune_keeps_what_others_are_coded_against(store):
    compact(store=store)
    bases = {blob.base for blob in store.blobs.list()} - {None}
    assert bases
    forget(["net@v1"], store=store)
    age_all(store)
    housekeeping.prune(store=store)
    check(store)
    assert all(store.blobs.has(base) for base in bases)
    forget(["net@v2", "net@v3"], store=store)
    housekeeping.prune(store=store)
    housekeeping.prune(store=store)  # bases go once nothing is coded against them
    assert coded(store) == []
    check(store)


def test_a_damaged_base_is_told_and_nothing_is_decoded_from_it(store):
    compact(keep=0, store=store)
    base = next(iter({blob.base for blob in store.blobs.list()} - {None}))
    path = store.path / "coded" / "sha256" / digest_hex(base)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    for version in holdfast.versions("net", store=store):
        with pytest.raises(Corrupt):
            version.load(verify="always")


def test_a_base_that_is_gone_or_is_coded_against_another_is_refused(store, tmp_path):
    compact(keep=0, store=store)
    child = next(blob for blob in store.blobs.list() if blob.base is not None)
    folder = store.path / "coded" / "sha256"
    (folder / digest_hex(child.base)).rename(tmp_path / "base")
    with pytest.raises(Corrupt, match="cannot be decoded"):
        store.blobs.read(child.digest)
    (folder / digest_hex(child.base)).write_bytes((folder / digest_hex(child.digest)).read_bytes())
    with pytest.raises(Corrupt, match="itself coded as differences"):
        store.blobs.read(child.digest)


def test_a_lying_size_takes_no_memory(store):
    from holdfast.store.coded import Index, Part, ending

    compact(store=store)
    victim = coded(store)[0]
    path = store.path / "coded" / "sha256" / victim
    size = 2**42
    part = Part(size=size, width=1, kind="bytes", chunk=2**24, planes=(-2,) * (size // 2**24))
    path.chmod(0o644)
    path.write_bytes(ending(Index(size=size, parts=(part,))))
    with pytest.raises(holdfast.HoldfastError, match="of memory"):
        store.blobs.read(Digest(f"sha256:{victim}"))


def test_beside_a_prune_it_waits_for_nobody_and_says_so(store):
    with Coder(store.blobs), pytest.raises(Conflict):
        compact(store=store)


def test_a_name_that_is_not_there(store):
    with pytest.raises(NotFound, match="nett"):
        compact(["nett"], store=store)


def test_a_dry_run_changes_nothing(store):
    before = occupied(store)
    assert compact(dry_run=True, store=store).blobs == 9
    assert occupied(store) == before


def test_what_hardly_compresses_stays_plain(tmp_path):
    store = holdfast.Store.create(tmp_path / "store")
    noise = np.random.default_rng(0).integers(0, 256, 2_000_000, dtype="u1")
    holdfast.save({"noise": noise}, "net", store=store)
    assert compact(keep=0, store=store)[:2] == (0, 0)


@pytest.mark.parametrize(
    "verb", ["replace", *(pytest.param(v, marks=pytest.mark.slow) for v in ("mkdir", "unlink"))]
)
def test_a_kill_before_any_change_of_a_name_leaves_every_blob(store, verb):
    code = f"""
import os, pathlib, sys
from holdfast.api.compacting import compact
seen = 0
whole = pathlib.Path.{verb}
def stop(self, *given, **named):
    global seen
    if "sha256" in str(self) or "tmp" in str(self):
        seen += 1
        if seen == int(sys.argv[2]):
            os._exit(9)
    return whole(self, *given, **named)
pathlib.Path.{verb} = stop
compact(keep=0, store=sys.argv[1])
"""
    ends = []
    for step in (1, 3):
        done = subprocess.run([sys.executable, "-c", code, str(store.path), str(step)], check=False)
        ends.append(done.returncode)
        check(store)
    assert ends[0] == 9
    assert set(ends) <= {0, 9}
    compact(keep=0, store=store)
    check(store)


def test_the_command_says_what_it_did(store, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compact", "--store", str(store.path)])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert re.search(r"Coded 9 blobs; saved \d+\.\d MB\.\nLeft plain: net@v4", said)
    with pytest.raises(SystemExit):
        main(["stats", "--store", str(store.path)])
    assert "saved by 9 coded blobs" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compact", "--undo", "--json", "--store", str(store.path)])
    assert json.loads(capsys.readouterr().out)["blobs"] == 9


def test_a_keyframe_comes_again_after_a_few_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(compacting, "_REACH", 2)
    store = holdfast.Store.create(tmp_path / "store")
    for step in range(6):
        holdfast.save(weights(step, rows=400), "net", store=store)
    compact(keep=0, store=store)
    based = [
        any(
            blob.base is not None
            for blob in store.blobs.list()
            if blob.digest in {piece.digest for piece in version.manifest.pieces}
        )
        for version in holdfast.versions("net", store=store)
    ]
    assert based == [False, True, True, False, True, True]
    check(store)
