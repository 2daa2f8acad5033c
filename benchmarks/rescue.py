"""Scanning and converting a 1 GB PyTorch checkpoint: bytes read, seconds, extra memory.

Run: python benchmarks/rescue.py
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

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


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.pt"
        torch.save({f"layer{i}.weight": torch.randn(1024, 4096) for i in range(64)}, path)
        size = path.stat().st_size
        read, seconds, takes = answer(SCAN, str(path))
        extra, converting = answer(CONVERT, str(path), str(Path(folder) / "store"))
    read, seconds, extra = int(read), float(seconds), int(extra)
    table = [
        Row("size of the checkpoint", f"{size / 1e9:.2f} GB"),
        Row("scan: bytes read", f"{read / 1e6:.2f} MB", "", "", "< 5 MB", read < 5e6),
        Row("scan: seconds", f"{seconds:.3f} s, {takes}", "", "", "< 1 s", seconds < 1),
        Row("convert: extra memory", f"{extra / 1e6:.0f} MB", "", "", "<= 100 MB", extra <= 1e8),
        Row("convert: seconds", f"{float(converting):.1f} s"),
    ]
    show("a PyTorch checkpoint of others", table)


if __name__ == "__main__":
    main()
