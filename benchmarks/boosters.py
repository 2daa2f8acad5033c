"""XGBoost and LightGBM beside their own native files.

Run: python benchmarks/boosters.py

CPU seconds in one thread, everything warm, the sides in turn. Ours encodes and hashes the native
file and the wrapper's parameters, and reads, audits, judges every index and builds; a load again
takes bytes that were hashed before at their word, and judges all the same. The peer writes and
reads the native form in memory, unhashed and unjudged, and loses the wrapper's parameters.
"""

import hashlib
import os
from functools import partial

os.environ["OMP_NUM_THREADS"] = "1"

import lightgbm
import numpy as np
import xgboost

from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from timing import alternate, compared, show, whole

ROUNDS = 9
TREES = (500, 5000)


def data():
    random = np.random.default_rng(0)
    rows = random.normal(size=(20_000, 20))
    return rows, rows[:, 0] + rows[:, 1] * rows[:, 2] + random.normal(size=len(rows)) > 0


def keep(model):
    encoded = codec.encode(model, frameworks.registry())
    for content in encoded.files.values():
        hashlib.sha256(content).hexdigest()
    return encoded


def back(encoded, *, hashed):
    registry = frameworks.registry()
    files = {name: memoryview(content) for name, content in encoded.files.items()}
    for content in files.values() if hashed else ():
        hashlib.sha256(content).hexdigest()
    views = {
        name: TensorView(tensor.dtype, tensor.shape, memoryview(bytearray(tensor.load())))
        for name, tensor in encoded.tensors.items()
    }
    audit = codec.audit(encoded.structure, views, registry, files)
    return codec.decode(encoded.structure, views, registry, audit, files)


def measured(trees):
    rows, target = (part[: 10_000_000 // trees] for part in data())
    one = xgboost.XGBClassifier(n_estimators=trees, max_depth=6, n_jobs=1).fit(rows, target)
    two = lightgbm.LGBMClassifier(n_estimators=trees, num_leaves=63, verbose=-1, n_jobs=1)
    two.fit(rows, target)
    table = []
    sides = {
        "XGBoost": (
            one,
            lambda: one.get_booster().save_raw("ubj"),
            lambda content: xgboost.Booster().load_model(content),
        ),
        "LightGBM": (
            two,
            lambda: two.booster_.model_to_string(num_iteration=-1),
            lambda content: lightgbm.Booster(model_str=content),
        ),
    }
    for name, (model, write, read) in sides.items():
        encoded, content = keep(model), write()
        samples = alternate(
            {
                "keep": whole(partial(keep, model)),
                "write": whole(write),
                "back": whole(partial(back, encoded, hashed=True)),
                "again": whole(partial(back, encoded, hashed=False)),
                "read": whole(partial(read, content)),
            },
            ROUNDS,
        )
        for what, ours, peer in (
            ("save", "keep", "write"),
            ("load", "back", "read"),
            ("load again", "again", "read"),
        ):
            label = f"{name}, {trees} trees: {what}"
            table.append(compared(label, samples[ours], samples[peer], most=1.5))
    return table


def main():
    show("boosters beside their native forms", [row for trees in TREES for row in measured(trees)])


if __name__ == "__main__":
    main()
