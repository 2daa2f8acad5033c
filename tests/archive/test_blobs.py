"""How bytes reach memory: mapped and shared, read whole from afar, passed on, read ahead of use."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

import holdfast
from holdfast.archive import blobs, read
from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest
from holdfast.store import local, reading as readings
from holdfast.store.local import LocalStore
from holdfast.store.reading import LocalReading

BIG = 1 << 20


def arrays(count=6, mib=1):
    rng = np.random.default_rng(0)
    return {f"t{n}": rng.integers(0, 9, mib * BIG, dtype=np.uint8) for n in range(count)}


@pytest.fixture(name="saved")
def saved_version(tmp_path):
    return holdfast.save(arrays(), "m", store=tmp_path / "store")


def pieces(version):
    """Return the files of the pieces after the header."""
    names = [piece.digest.removeprefix("sha256:") for piece in version.manifest.pieces[1:]]
    return [version.store.path / "blobs" / "sha256" / name for name in names]


def spoil(path):
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"\xff")


@pytest.fixture(name="far")
def on_a_network(monkeypatch):
    """Let every file be on a network file system."""
    monkeypatch.setattr(readings, "network", lambda _: True)
    monkeypatch.setattr(local, "network", lambda _: True)


@pytest.fixture(name="live")
def count_readings(monkeypatch):
    """Count the readings whose bytes are alive; the last is the most there were at a time."""
    counts = {"now": 0, "most": 0, "all": 0}
    for name in ("read", "view"):
        original = getattr(LocalReading, name)

        def counted(self, original=original):
            view = original(self)
            if view.nbytes >= BIG:
                counts["now"] += 1
                counts["all"] += 1
                counts["most"] = max(counts["most"], counts["now"])
                weakref.finalize(view.obj, lambda: counts.update(now=counts["now"] - 1))
            return view

        monkeypatch.setattr(LocalReading, name, counted)
    return counts


# Prints of which file and place each array's memory is, and how much of that is a copy of its own.
MEMORY = """
import sys
import holdfast
model = holdfast.load(sys.argv[1], store=sys.argv[2])
total = sum(int(array[::1024].sum()) for array in model.values())
spans = {array.ctypes.data: array.nbytes for array in model.values()}
for line in open("/proc/self/smaps"):
    first, *words = line.split()
    if "-" in first:
        start, end = (int(part, 16) for part in first.split("-"))
        held = {at - start: size for at, size in spans.items() if start <= at < at + size <= end}
        name = [words[1:], held]
    elif held and first == "Anonymous:":
        print(int(words[0]), *name, sep="|")
"""


def test_processes_that_load_a_version_share_its_pages(tmp_path):
    """All that they use lies in maps of the same places of the same files, and is no copy."""
    model = arrays(4, mib=8)
    version = holdfast.save(model, "m", store=tmp_path / "store")
    words = [sys.executable, "-c", MEMORY, version.ref, str(tmp_path / "store")]
    said = [subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(2)]
    one, two = (sorted(each.stdout.splitlines()) for each in said)
    assert one == two
    assert len(one) == len(model)
    assert all(line.startswith("0|") and "/blobs/sha256/" in line for line in one)


def test_a_file_far_away_is_read_in_large_parts_and_held(saved, far, monkeypatch):
    sizes = []
    preadv = os.preadv
    monkeypatch.setattr(readings, "_REQUEST", BIG // 2)

    def asked(fd, buffers, *more):
        sizes.append(sum(map(len, buffers)))
        return preadv(fd, buffers, *more)

    monkeypatch.setattr(os, "preadv", asked)
    model = holdfast.load("m", store=saved.store)
    assert sizes.count(BIG // 2) == 2 * len(model)
    for path in pieces(saved):
        os.truncate(path, 0)  # of a map this would end the process
    for name, array in arrays().items():
        assert np.array_equal(model[name], array)


def test_a_file_far_away_that_is_cut_while_it_is_read_is_damaged(saved, far):
    store = saved.store.blobs
    reading = store.open_blob(Digest(saved.manifest.pieces[1].digest))
    os.truncate(pieces(saved)[0], 5)
    with pytest.raises(Corrupt, match="shorter"):
        reading.view()
    reading.close()


def test_a_range_of_a_file_far_away_reads_no_more(saved, far, monkeypatch):
    taken = []
    preadv = os.preadv
    digest = Digest(saved.manifest.pieces[1].digest)
    monkeypatch.setattr(os, "preadv", lambda *a: taken.append(preadv(*a)) or taken[-1])
    data = saved.store.blobs.read_range(digest, 7, 100)
    assert data == pieces(saved)[0].read_bytes()[7:107]
    assert taken == [100]


def test_systems_without_preadv_read_the_same(saved, far, monkeypatch):
    monkeypatch.delattr(os, "preadv")
    model = holdfast.load("m", store=saved.store)
    assert all(np.array_equal(model[name], array) for name, array in arrays().items())


def test_verifying_holds_few_pieces_at_a_time(saved, live, monkeypatch):
    monkeypatch.setattr(read, "_PASSING", 2 * BIG)
    holdfast.verify("m", replay=False, store=saved.store)
    assert live["all"] == 6
    assert live["most"] <= 4  # a batch, and the one before it until the next is there


def test_the_disk_is_asked_for_what_is_not_in_memory_before_its_use(saved, monkeypatch):
    asked = []
    monkeypatch.setattr(LocalReading, "absent", lambda _: True)
    monkeypatch.setattr(LocalReading, "ahead", lambda self: asked.append(self._stat.st_ino))
    in_order = [path.stat().st_ino for path in pieces(saved)]
    holdfast.load("m", store=saved.store, verify="always")
    assert asked[-6:] == in_order
    asked.clear()
    monkeypatch.setattr(blobs, "_AHEAD", 3 * BIG)  # beyond it the kernel's own reading ahead does
    holdfast.load("m", store=saved.store, verify="never")
    assert asked[-3:] == in_order[:3]


def test_reading_ahead_covers_the_file_in_steps_that_the_kernel_takes(saved, monkeypatch):
    steps = []
    advise = os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *a: steps.append(a[1:]) or advise(*a))
    reading = saved.store.blobs.open_blob(Digest(saved.manifest.pieces[1].digest))
    reading.ahead()
    assert [step[0] for step in steps] == list(range(0, BIG, 128 << 10))
    assert {step[1:] for step in steps} == {(128 << 10, os.POSIX_FADV_WILLNEED)}
    reading.read()
    assert reading.absent() is False

    def elsewhere(*_):
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", elsewhere)
    assert reading.absent() is True
    reading.close()


def test_a_save_compares_what_it_reads_back_in_place_of_a_second_hash(tmp_path, monkeypatch):
    hashed = []
    digest_of = blobs.digest_of
    monkeypatch.setattr(
        blobs, "digest_of", lambda view: hashed.append(len(view)) or digest_of(view)
    )
    version = holdfast.save(arrays(), "m", store=tmp_path / "store")
    assert BIG not in hashed
    holdfast.load(version.ref, store=tmp_path / "store")
    assert hashed.count(BIG) == 6


def test_what_is_damaged_between_write_and_proof_is_refused(tmp_path, monkeypatch):
    put = LocalStore.put

    def careless(self, chunks, *, expect=None):
        digest = put(self, chunks, expect=expect)
        if self.plain.place(digest).stat().st_size == BIG:
            spoil(self.plain.place(digest))
        return digest

    monkeypatch.setattr(LocalStore, "put", careless)
    with pytest.raises(Corrupt, match="not what was saved"):
        holdfast.save(arrays(), "m", store=tmp_path / "store")
    with pytest.raises(NotFound):
        holdfast.get("m", store=tmp_path / "store")


def test_bulk_work_runs_in_any_executor(saved, tmp_path):
    """The public functions and what they return or raise travel to another process and back."""
    where = tmp_path / "store"
    for number in range(2):
        holdfast.save({"a": np.arange(number + 1)}, f"n{number}", store=where)
    spoil(pieces(saved)[3])
    send = partial(holdfast.Store(where).push, to=tmp_path / "far")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sent = [pool.submit(send, [name]) for name in ("n0", "n1")]
        checked = [pool.submit(holdfast.verify, ref, store=where) for ref in ("n0", "n1", "m")]
        assert [done.result().proof for done in checked[:2]] == ["state only"] * 2
        assert isinstance(checked[2].exception(), Corrupt)
        assert [done.result().failed for done in sent] == [{}, {}]
    found = holdfast.Store(tmp_path / "far").verify()
    assert {each.ref for each in found.verified} == {"n0@v1", "n1@v1"}
