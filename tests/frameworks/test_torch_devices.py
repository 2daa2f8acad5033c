"""Placing loaded tensors. There is no GPU here: torch's meta device stands in for one."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

import holdfast
from holdfast.archive import read
from holdfast.errors import Corrupt, UsageError
from holdfast.store.reading import LocalReading

torch = pytest.importorskip("torch")

BIG = 1 << 20


@pytest.fixture(name="version")
def saved_version(tmp_path):
    state = {f"t{n}": torch.full((BIG // 4,), float(n)) for n in range(6)}
    state |= {"small": torch.arange(5), "tied": state["t1"]}
    return holdfast.save(state, "net", store=tmp_path / "store")


@pytest.fixture(name="held")
def count_held(monkeypatch):
    """Count pieces in memory of this process; ``most`` at a time, ``all`` together."""
    counts = {"now": 0, "most": 0, "all": 0}
    original = LocalReading.read

    def counted(self):
        view = original(self)
        counts["now"] += 1
        counts["all"] += 1
        counts["most"] = max(counts["most"], counts["now"])
        weakref.finalize(view.obj, lambda: counts.update(now=counts["now"] - 1))
        return view

    monkeypatch.setattr(LocalReading, "read", counted)
    return counts


def spoil(version, number):
    digest = version.manifest.pieces[number].digest.removeprefix("sha256:")
    path = version.store.path / "blobs" / "sha256" / digest
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"\xff")


def test_tensors_go_to_a_device_one_by_one(version, held, monkeypatch):
    monkeypatch.setattr(read, "_PASSING", 2 * BIG)
    state = holdfast.load("net", store=version.store, device="meta")
    assert {tensor.device.type for tensor in state.values()} == {"meta"}
    assert [*state["t0"].shape] == [BIG // 4]
    assert state["tied"] is state["t1"]
    assert held["all"] == 7  # six pieces and the group of small tensors
    assert held["most"] <= 4
    assert held["now"] == 0


def test_a_tensor_larger_than_what_is_held_goes_alone(version, held, monkeypatch):
    monkeypatch.setattr(read, "_PASSING", 0)
    holdfast.load("net", store=version.store, device="meta")
    assert held["most"] <= 3  # the one that goes, the next one, and the group


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("verify", ["auto", "always"])
def test_each_is_verified_on_its_way(version, number, verify):
    spoil(version, number)
    with pytest.raises(Corrupt, match="not what was saved"):
        holdfast.load("net", store=version.store, device="meta", verify=verify)


def test_what_is_not_looked_up_is_verified_too(version, monkeypatch):
    from holdfast.frameworks import torch as adapter

    spoil(version, 3)
    monkeypatch.setattr(adapter, "unpack", lambda *_: {})
    with pytest.raises(Corrupt, match="not what was saved"):
        holdfast.load("net", store=version.store, device="meta", replay="never")


def test_on_the_cpu_tensors_stay_maps_of_the_store(version, held):
    state = holdfast.load("net", store=version.store, device="cpu")
    assert held["all"] == 0
    address = state["t3"].data_ptr()
    lines = Path("/proc/self/maps").read_text().splitlines()
    maps = [line.split()[0].split("-") for line in lines if "/blobs/sha256/" in line]
    spans = [[int(end, 16) for end in ends] for ends in maps]
    assert any(start <= address < end for start, end in spans)


def test_a_device_that_is_not_here_is_told_before_anything_is_read(version, held):
    with pytest.raises(UsageError, match="There is no device 'cuda'") as caught:
        holdfast.load("net", store=version.store, device="cuda")
    assert held["all"] == 0
    assert caught.value.hint == 'holdfast.load("net@v1", device="cpu")'
