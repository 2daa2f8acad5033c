"""Workers: building an environment, starting in it, and calls, beside calls in this process.

Run: python benchmarks/worker.py

The environment is that of the newest model of the museum's scikit-learn 1.2.2; its libraries come
from the package index (or uv's cache, which makes the build quick).
"""

import os
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

import holdfast

ARCHIVE = Path(__file__).resolve().parents[1] / "tests" / "museum" / "sklearn-1.2.2.tar.xz"
ROUNDS = 5
CALLS = 31


def timed(act):
    started = time.perf_counter()
    found = act()
    return time.perf_counter() - started, found


def median(values):
    return sorted(values)[len(values) // 2]


def main():
    with tempfile.TemporaryDirectory() as name:
        os.environ["HOLDFAST_CACHE"] = f"{name}/cache"
        with tarfile.open(ARCHIVE) as packed:
            packed.extractall(name, filter="data")
        store = holdfast.Store(Path(name) / "store")
        rows = np.resize(holdfast.load("forest.held-out", store=store)["rows"], (30_000, 5))
        here = holdfast.load("forest", store=store)
        first, model = timed(lambda: holdfast.load("forest", store=store, environment="recorded"))
        print(f"first load, the environment built: {first:.1f} s")
        starts = []
        for _ in range(ROUNDS):
            model.close()
            seconds, model = timed(
                lambda: holdfast.load("forest", store=store, environment="recorded")
            )
            starts.append(seconds)
        print(f"load again: {min(starts):.2f} s least, {median(starts):.2f} s median (<= 3)")
        print(f"{'rows':>7} {'worker ms':>10} {'here ms':>10}")
        for count in (1, 300, 30_000):
            part = rows[:count]
            asked = median([timed(lambda p=part: model.predict_proba(p))[0] for _ in range(CALLS)])
            own = median([timed(lambda p=part: here.predict_proba(p))[0] for _ in range(CALLS)])
            print(f"{count:>7} {asked * 1e3:>10.2f} {own * 1e3:>10.2f}")
        model.close()


if __name__ == "__main__":
    main()
