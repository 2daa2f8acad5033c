"""Loads and saves of a 403 MB PyTorch state beside safetensors, cold and warm, and a 10 GB model.

Run: python benchmarks/loading.py [folder on a real disk] [--large]

Every sample is a process of its own. What is imported, and what a first load of a tiny version
makes ready, happens before its clock starts, for both sides. Cold: fsync and POSIX_FADV_DONTNEED on
the files of both sides; the host of a virtual disk may hold them still. "every page" touches one
byte of each 4 KiB, "every byte" sums all of them, which is what a first use of the model does.
safetensors verifies nothing. Holdfast's first load hashes every byte with SHA-256; later ones
believe the stamp that it left, or with verify="always" hash again.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from timing import AnonymousPeak, Row, Sample, alternate, at_most, compared, show, timed

ROUNDS = 7
WIDTH, LAYERS, CLASSES = 2048, 24, 10
SETTLED = 2.1  # a file younger than two seconds is not stamped
LARGE_TENSORS, LARGE_BYTES = 40, 256 << 20


def state():
    import torch

    torch.manual_seed(0)
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES))
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def tiny():
    import torch

    return {"a": torch.ones(4), "b": torch.ones(4)}


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def drop(folder):
    """Take the pages of every file of a folder out of the cache."""
    for path in files_of(folder):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def loader(side, folder):
    """Return what loads a version by its name, warmed with a tiny one."""
    if side == "peer":
        from safetensors.torch import load_file

        load = lambda name: load_file(folder / "peer" / f"{name}.safetensors")  # noqa: E731 - a twin
    else:
        import holdfast

        store = holdfast.Store(folder / "store")
        verify = "always" if side == "verified" else "auto"
        load = partial(holdfast.load, store=store, verify=verify)
    load("tiny")
    return load


def used(model, use):
    import torch

    if use == "every page":
        for tensor in model.values():
            int(tensor.reshape(-1).view(torch.uint8)[::4096].sum())
    elif use == "every byte":
        for tensor in model.values():
            float(tensor.sum())


def step_load(side, folder, use, cold):
    load = loader(side, folder)
    if cold == "cold":
        drop(folder / "peer")
        drop(folder / "store")

    def run():
        used(load("big"), use)

    if cold == "warm" and side != "verified":
        run()
        return min((timed(run)[1] for _ in range(5)), key=lambda sample: sample.cpu)
    return timed(run)[1]


def step_save(side, folder):
    model = state()
    if side == "peer":
        from safetensors.torch import save_file

        path = folder / "saved.safetensors"
        save_file(tiny(), path)

        def run():
            save_file(model, path)
            with path.open("rb") as file:
                os.fsync(file.fileno())

        took = timed(run)[1]
        path.unlink()
        return took
    import holdfast

    with tempfile.TemporaryDirectory(dir=folder) as name:
        store = holdfast.Store.create(Path(name) / "store")
        holdfast.save(tiny(), "tiny", store=store)
        version, whole = timed(lambda: holdfast.save(model, "big", store=store))
    return Sample(version.steps["hash and write"], whole.cpu) if side == "write" else whole


def mapped(folder):
    """Return the arrays of the large model, maps of one file, whose pages are no memory of ours."""
    import numpy as np

    path = folder / "large.bin"
    if not path.exists():
        block = np.random.default_rng(0).integers(0, 2**32, LARGE_BYTES // 4, dtype=np.uint32)
        with path.open("wb") as file:
            for number in range(LARGE_TENSORS):
                file.write(memoryview(block + np.uint32(number)))
    whole = np.memmap(path, np.float32, "c", shape=(LARGE_TENSORS, LARGE_BYTES // 4096, 1024))
    return {f"t{number:02}": whole[number] for number in range(LARGE_TENSORS)}


def step_large(side, folder):
    import torch

    import holdfast

    store = holdfast.Store(folder / "large")
    if side == "save":
        model = {name: torch.from_numpy(array) for name, array in mapped(folder).items()}
        with AnonymousPeak() as memory:
            took = timed(lambda: holdfast.save(model, "large", store=store))[1]
    else:
        with AnonymousPeak() as memory:
            model, took = timed(lambda: holdfast.load("large", store=store, verify=side))
            used(model, "every page")
    return {"took": took, "extra": memory.extra}


def step_prepare(folder):
    from safetensors.torch import save_file

    import holdfast

    store = holdfast.Store.create(folder / "store")
    (folder / "peer").mkdir()
    for name, model in (("tiny", tiny()), ("big", state())):
        holdfast.save(model, name, store=store)
        save_file(model, folder / "peer" / f"{name}.safetensors")
    holdfast.Store.create(folder / "large")
    time.sleep(SETTLED)
    for name in ("tiny", "big"):
        holdfast.load(name, store=store, verify="always")


STEPS = {"load": step_load, "save": step_save, "large": step_large, "prepare": step_prepare}


def apart(step, *words):
    """Run a step in a process of its own and return what it printed."""
    command = [sys.executable, __file__, "--step", step, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def sample(step, *words):
    return Sample(*apart(step, *words))


def load_rows(folder):
    for cold, use in (
        ("warm", ""),
        ("warm", "every page"),
        ("warm", "every byte"),
        ("cold", "every page"),
    ):
        took = alternate(
            {
                side: partial(sample, "load", side, folder, use, cold)
                for side in ("stamped", "verified", "peer")
            },
            ROUNDS,
        )
        what = f"{cold} load" + (f", {use}" if use else ", nothing touched")
        most = {"warm": 1.1, "cold": 1.0}[cold] if use else None
        clock = "wall" if cold == "cold" else "cpu"
        yield compared(
            f"{what}: with a stamp vs load_file",
            took["stamped"],
            took["peer"],
            most=most,
            clock=clock,
        )
        yield compared("  every byte hashed", took["verified"], took["peer"], clock=clock)
        if cold == "cold":
            yield compared("  with a stamp", took["stamped"], took["peer"])
            yield compared("  every byte hashed", took["verified"], took["peer"])


def save_rows(folder):
    sides = ("write", "whole", "peer")
    took = alternate({side: partial(sample, "save", side, folder) for side in sides}, ROUNDS)
    peer = took["peer"]
    yield compared(
        "save: hash and write vs save_file, fsync", took["write"], peer, most=1.5, clock="wall"
    )
    yield compared("  the whole save, proof and log", took["whole"], peer, clock="wall")
    yield compared("  the whole save", took["whole"], peer)


def hash_rows(folder):
    """Return what hashlib takes for SHA-256 alone, of one message after the other."""
    import hashlib

    data = (folder / "peer" / "big.safetensors").read_bytes()
    took = timed(lambda: hashlib.sha256(data).digest())[1]
    yield Row(f"SHA-256 by hashlib, {len(data) / 1e6:.0f} MB, cpu", f"{took.cpu * 1e3:.0f} ms")


def large_rows(folder):
    size = LARGE_TENSORS * LARGE_BYTES / 1e9
    mapped(folder)
    for side in ("save", "always", "auto"):
        if side == "auto":
            time.sleep(SETTLED)
        said = apart("large", side, folder)
        what = {"save": "save", "always": "load, hashed", "auto": "load, stamped"}[side]
        yield at_most(
            f"{size:.1f} GB: anonymous memory of a {what}", said["extra"] / 1e6, 300, "MB"
        )
        yield Row("  wall, cpu", f"{said['took'][0]:.1f} s, {said['took'][1]:.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--large", action="store_true", help="also 10 GB: needs 22 GB of disk")
    parser.add_argument("--only-large", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        os.environ["HOLDFAST_CACHE"] = str(folder / "cache")
        os.environ["OMP_NUM_THREADS"] = "1"
        apart("prepare", folder)
        parts = [] if given.only_large else [hash_rows, load_rows, save_rows]
        parts += [large_rows] if given.large or given.only_large else []
        rows = []
        for row in itertools.chain.from_iterable(part(folder) for part in parts):
            print(*row, sep="  ", file=sys.stderr, flush=True)
            rows.append(row)
    show(f"{LAYERS} x Linear({WIDTH}) and a head, float32, 403 MB", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        words = [Path(word) if os.sep in word else word for word in sys.argv[3:]]
        print(json.dumps(STEPS[sys.argv[2]](*words)))
    else:
        main()
