"""XGBoost and LightGBM beside their own native files.

Run: python benchmarks/boosters.py

CPU seconds, everything warm, the sides in turn. Ours encodes and hashes the native file and the
wrapper's parameters, and reads, audits, judges every index and builds; the peer writes and reads
the native form in memory, unhashed and unjudged, and loses the wrapper's parameters.
"""

import hashlib
from functools import partial

import lightgbm
import numpy as np
import xgboost

from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from timing import alternate, compared, show, whole

ROUNDS = 9
TREES = 500


def data():
    random = np.random.default_rng(0)
    rows = random.normal(size=(20_000, 20))
    return rows, rows[:, 0] + rows[:, 1] * rows[:, 2] + random.normal(size=len(rows)) > 0


def keep(model):
    encoded = codec.encode(model, frameworks.registry())
    for content in encoded.files.values():
        hashlib.sha256(content).hexdigest()
    return encoded


def back(encoded):
    registry = frameworks.registry()
    files = {name: memoryview(content) for name, content in encoded.files.items()}
    for content in files.values():
        hashlib.sha256(content).hexdigest()
    views = {
        name: TensorView(tensor.dtype, tensor.shape, memoryview(bytearray(tensor.load())))
        for name, tensor in encoded.tensors.items()
    }
    audit = codec.audit(encoded.structure, views, registry, files)
    return codec.decode(encoded.structure, views, registry, audit, files)


def main():
    rows, target = data()
    one = xgboost.XGBClassifier(n_estimators=TREES, max_depth=6, n_jobs=2).fit(rows, target)
    two = lightgbm.LGBMClassifier(n_estimators=TREES, num_leaves=63, verbose=-1).fit(rows, target)
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
                "back": whole(partial(back, encoded)),
                "read": whole(partial(read, content)),
            },
            ROUNDS,
        )
        table.append(
            compared(f"{name}, {TREES} trees: save", samples["keep"], samples["write"], most=1.5)
        )
        table.append(
            compared(f"{name}, {TREES} trees: load", samples["back"], samples["read"], most=1.5)
        )
    show("boosters beside their native forms", table)


if __name__ == "__main__":
    main()
