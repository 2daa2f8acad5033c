"""Checking a store of 1,000 versions, and reporting on it, beside sha256sum and the log alone.

Run: python benchmarks/fixity.py

100 models of ten versions each: a scikit-learn pipeline's record with one changed tensor a version,
so that versions share blobs. ``hold ageing`` is timed beside what it stands on, folding the log and
listing its versions; hashing beside ``sha256sum`` of all blobs. Fsync of the recorded checks is in.
"""

import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast
from holdfast.api.fixity import verify_all
from timing import Row, alternate, least, ms, show, timed, whole

MODELS, EACH = 100, 10
ROUNDS = 7


def build(store):
    """Save the versions; returns their number."""
    rows, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, y)
    rng = np.random.default_rng(0)
    for name in range(MODELS):
        for _ in range(EACH):
            model[-1].intercept_ = model[-1].intercept_ + rng.normal(size=3) * 1e-3
            holdfast.save(model, f"model-{name:03d}", inputs=rows, store=store)
    return MODELS * EACH


def read_log(store):
    for model in store.catalogue.names():
        store.catalogue.versions(model.name)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HOLDFAST_CACHE"] = str(folder / "cache")
        store = holdfast.Store.create(folder / "store")
        count, _ = timed(partial(build, store))
        _, hashed = timed(partial(verify_all, store, replay=False))
        _, replayed = timed(partial(verify_all, store))
        blobs = store.path / "blobs" / "sha256"
        peer = ["sh", "-c", f"cd {blobs} && ls | xargs sha256sum"]
        took = alternate(
            {
                "log": whole(partial(read_log, store)),
                "newest": whole(store.ageing),
                "all": whole(partial(store.ageing, everything=True)),
                "sha256sum": whole(partial(subprocess.run, peer, check=True, capture_output=True)),
            },
            ROUNDS,
        )
        over = least(took["all"]) - least(took["log"])
        show(
            f"{count:,} versions of {MODELS} models",
            [
                Row("names and versions from the log, CPU", ms(took["log"])),
                Row("ageing, the newest of each name, CPU", ms(took["newest"])),
                Row("ageing, every version, CPU", ms(took["all"])),
                Row("  beyond reading the log", f"{over * 1000:.0f} ms (limit 1000)"),
                Row("hash everything and record it, CPU", f"{hashed.cpu:.1f} s"),
                Row("hash, replay and record everything, wall", f"{replayed.wall:.1f} s"),
                Row("sha256sum of the same blobs, wall", ms(took["sha256sum"], "wall")),
            ],
        )


if __name__ == "__main__":
    main()
