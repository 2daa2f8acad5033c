"""A version in one file: written beside tar, loaded beside its store and safetensors.

Run: python benchmarks/bundle.py [folder on a real disk]

The version is a state of PyTorch of 403 MB, in the page cache. GNU tar puts the same blobs into one
file, which is then flushed; it hashes nothing, while a bundle is written with every blob hashed.
Loads are of bytes hashed before; "read" adds one number of every page.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import holdfast
from storage import LAYERS, WIDTH, big_state, nbytes
from timing import AnonymousPeak, Sample, alternate, at_most, compared, show, timed, whole

ROUNDS = 7
SETTLED = 2.1  # a file younger than two seconds is not stamped


def by_tar(folder, blobs):
    target = folder / "peer.tar"

    def run():
        subprocess.run(["tar", "-cf", target, "-C", blobs.parent, blobs.name], check=True)
        with target.open("rb") as file:
            os.fsync(file.fileno())

    before = sum(os.times()[:4])
    wall = timed(run)[1].wall
    target.unlink()
    return Sample(wall, sum(os.times()[:4]) - before)


def by_bundle(store, folder):
    target = folder / "ours.hold"
    sample = timed(lambda: store.bundle("big", target))[1]
    target.unlink()
    return sample


def hashed(state):
    for tensor in state.values():
        hashlib.sha256(tensor.numpy().reshape(-1).view("u1").data).digest()


def read(load):
    """Load and touch every page."""
    return sum(float(tensor.reshape(-1)[::1024].sum()) for tensor in load().values())


def rows(state, folder):
    store = holdfast.Store.create(folder / "store")
    holdfast.save(state, "big", store=store)
    file, peer = folder / "big.hold", folder / "peer.safetensors"
    with AnonymousPeak() as memory:
        store.bundle("big", file)
    yield at_most("peak anonymous memory of a bundle", memory.extra / 1e6, 40, "MB")
    blobs = store.path / "blobs"
    writes = {
        "ours": partial(by_bundle, store, folder),
        "peer": partial(by_tar, folder, blobs),
        "hash": whole(partial(hashed, state)),
    }
    took = alternate(writes, ROUNDS)
    for clock in ("wall", "cpu"):
        yield compared("write vs tar and fsync", took["ours"], took["peer"], clock=clock)
        yield compared("  vs SHA-256 of the same, alone", took["ours"], took["hash"], clock=clock)
    save_file(state, peer)
    time.sleep(SETTLED)
    loads = {
        "bundle": partial(holdfast.load, f"{file}:big"),
        "store": partial(holdfast.load, "big", store=str(store.path)),
        "peer": partial(load_file, peer),
    }
    first = alternate({"ours": whole(partial(loads["bundle"], verify="always"))}, 3)
    for load in loads.values():
        load()
    took = alternate({name: whole(load) for name, load in loads.items()}, 3 * ROUNDS)
    touched = alternate({n: whole(partial(read, load)) for n, load in loads.items()}, ROUNDS)
    for clock in ("wall", "cpu"):
        yield compared(
            "warm load vs the same from the store", took["bundle"], took["store"], clock=clock
        )
        yield compared("  vs safetensors", took["bundle"], took["peer"], clock=clock)
        yield compared("  read, vs the store", touched["bundle"], touched["store"], clock=clock)
        yield compared("  read, vs safetensors", touched["bundle"], touched["peer"], clock=clock)
    yield compared("first load, hashed, vs safetensors", first["ours"], took["peer"], clock="wall")


def main():
    torch.set_num_threads(1)
    state = big_state()
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        os.environ["HOLDFAST_CACHE"] = str(folder / "cache")
        found = list(rows(state, folder))
    show(f"{LAYERS} x Linear({WIDTH}) and a head, float32, {nbytes(state) / 1e6:.0f} MB", found)


if __name__ == "__main__":
    main()
