"""Scanning and converting files of 1 GB in six formats: bytes read, seconds, extra memory.

Run: python benchmarks/rescue.py
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
import torch

from timing import Row, show

SCAN = """
import sys, time
from pathlib import Path
import holdfast.api.scanning as scanning
scanning.known_names()
def read():
    told = Path("/proc/self/io").read_text()
    return int(told.split("rchar: ")[1].split()[0])
before, started = read(), time.perf_counter()
report = scanning.scan(sys.argv[1])
print(read() - before, time.perf_counter() - started, report.takes)
"""
CONVERT = """
import re, sys, time, threading
from pathlib import Path
import torch, holdfast, holdfast.api.converting
def private():
    told = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Anonymous: +([0-9]+)", told)[1]) * 1024
before, peak, done = private(), [0], threading.Event()
def watch():
    while not done.wait(0.02):
        peak[0] = max(peak[0], private())
threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
holdfast.convert(sys.argv[1], "big", store=sys.argv[2])
done.set()
print(peak[0] - before, time.perf_counter() - started)
"""


def answer(code, *words):
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return re.split(r"\s+", done.stdout.strip())


def write_torch(path, tensors):
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, path)


def write_legacy(path, tensors):
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_hdf5(path, tensors):
    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            file[name] = array


def write_npz(path, tensors):
    with path.open("wb") as file:
        np.savez(file, **tensors)


def write_keras(path, tensors):
    inner = path.with_suffix(".inner")
    write_hdf5(inner, tensors)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.write(inner, "model.weights.h5")
    inner.unlink()


def write_safetensors(path, tensors):
    safetensors.numpy.save_file(tensors, path)


FORMATS = {
    "PyTorch": write_torch,
    "PyTorch before 1.6": write_legacy,
    "HDF5": write_hdf5,
    "Keras": write_keras,
    "npz": write_npz,
    "safetensors": write_safetensors,
}


def main():
    generator = np.random.default_rng(0)
    tensors = {
        f"layer{i}.weight": generator.random((1024, 4096), dtype=np.float32) for i in range(64)
    }
    for name, write in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "big.model"
            write(path, tensors)
            size = path.stat().st_size
            read, seconds, takes = answer(SCAN, str(path))
            extra, converting = answer(CONVERT, str(path), str(Path(folder) / "store"))
        read, seconds, extra = int(read), float(seconds), int(extra)
        table = [
            Row("size of the file", f"{size / 1e9:.2f} GB"),
            Row("scan: bytes read", f"{read / 1e6:.2f} MB", "", "", "< 5 MB", read < 5e6),
            Row("scan: seconds", f"{seconds:.3f} s, {takes}", "", "", "< 1 s", seconds < 1),
            Row(
                "convert: extra memory", f"{extra / 1e6:.0f} MB", "", "", "<= 100 MB", extra <= 1e8
            ),
            Row("convert: seconds", f"{float(converting):.1f} s"),
        ]
        show(f"a file of others: {name}", table)


if __name__ == "__main__":
    main()
