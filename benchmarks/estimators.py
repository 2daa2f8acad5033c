"""A text pipeline, histogram boosting and a small pipeline beside pickle, joblib and skops.

Run: python benchmarks/estimators.py

CPU seconds of whole round trips in memory, all threads, everything warm, the sides in turn. Ours
encodes, hashes every tensor, writes the content document, reads it, hashes, audits, judges and
builds; pickle and joblib dump and load; skops dumps and loads with its trust list. What a save adds
to that (golden outputs, replay, comparison with the live model, files) is on lines of its own.
The small pipeline's whole save is timed by the clock on /dev/shm, where fsync costs nothing.
"""

import hashlib
import os
import pickle
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast
from forest import by_joblib, by_skops
from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from holdfast.frameworks import LoadOptions, Opened
from holdfast.record import Content
from timing import Row, alternate, at_most, compared, show, timed, under, whole

ROUNDS = 9
WORDS = 30_000


def text_pipeline():
    """TF-IDF over 30,000 words beside a number, 4,000 rows, logistic regression."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number:05d}" for number in range(WORDS)])
    texts = [
        " ".join(words[np.r_[random.integers(0, WORDS, 40), (8 * row + np.arange(8)) % WORDS]])
        for row in range(4000)
    ]
    frame = pd.DataFrame({"text": texts, "number": random.normal(size=len(texts))})
    columns = [("text", TfidfVectorizer(), "text"), ("number", StandardScaler(), ["number"])]
    model = make_pipeline(ColumnTransformer(columns), LogisticRegression())
    return model.fit(frame, random.integers(0, 2, len(texts))), frame[:64]


def boosting():
    """Histogram boosting, 100 iterations of ten classes: 1,000 trees."""
    features, classes = load_digits(return_X_y=True)
    return HistGradientBoostingClassifier(random_state=0).fit(features, classes), features[:64]


class Kept:
    """One model's way into a content document with tensors and back, without a store."""

    def __init__(self, model):
        self.model = model
        self.registry = frameworks.registry()
        self.adapter = frameworks.adapter_for(model)
        self.written = self.write()

    def write(self):
        payload = self.adapter.pack(self.model, self.registry)
        tensors = {name: (data, bytes(data.load())) for name, data in payload.tensors.items()}
        for _, data in tensors.values():
            hashlib.sha256(data).digest()
        content = Content(framework=self.adapter.ID, structure=payload.structure)
        return content.encode(), tensors

    def read(self, written):
        document, tensors = written
        for _, data in tensors.values():
            hashlib.sha256(data).digest()
        views = {
            name: TensorView(data.dtype, data.shape, memoryview(loaded))
            for name, (data, loaded) in tensors.items()
        }
        structure = Content.decode(document).structure
        audit = codec.audit(structure, views, self.registry)
        parts = Opened(structure=structure, audit=audit, tensors=views, files={}, facts={})
        return self.adapter.unpack(parts, self.registry, LoadOptions())

    def size(self):
        document, tensors = self.written
        return len(document) + sum(len(data) for _, data in tensors.values())


def rows_of(name, model, *, most):
    """Compare round trips, each way and at rest."""
    kept = Kept(model)
    pickled = pickle.dumps(model, protocol=5)
    built = kept.read(kept.written)
    took = alternate(
        {
            "ours": whole(lambda: kept.read(kept.write())),
            "write": whole(kept.write),
            "read": whole(partial(kept.read, kept.written)),
            "difference": whole(lambda: kept.adapter.difference(model, built, kept.registry)),
            "pickle": whole(lambda: pickle.loads(pickle.dumps(model, protocol=5))),
            "dumps": whole(lambda: pickle.dumps(model, protocol=5)),
            "loads": whole(lambda: pickle.loads(pickled)),
            "joblib": whole(partial(by_joblib, model, 0)),
            "joblib 3": whole(partial(by_joblib, model, 3)),
        },
        ROUNDS,
    )
    slow = alternate(
        {"skops": whole(partial(by_skops, model)), "ours": whole(lambda: kept.read(kept.write()))},
        2,
    )
    yield compared(f"{name}: round trip vs pickle", took["ours"], took["pickle"], most=most)
    yield compared("  write vs dumps", took["write"], took["dumps"])
    yield compared("  read vs loads", took["read"], took["loads"])
    yield compared("  round trip vs joblib", took["ours"], took["joblib"])
    yield compared("  round trip vs joblib compress=3", took["ours"], took["joblib 3"])
    yield compared("  round trip vs skops", slow["ours"], slow["skops"], most=round(1 / 15, 3))
    yield compared("  comparing with the live model vs pickle", took["difference"], took["pickle"])
    yield size_row(kept, model, pickled)


def size_row(kept, model, pickled):
    packed = len(skops.io.dumps(model)) / 1e6
    ours, plain = kept.size() / 1e6, len(pickled) / 1e6
    row = at_most("  size at rest vs pickle", ours, round(1.2 * plain, 2), "MB", plain)
    return row._replace(peer=f"{row.peer} (skops {packed:.2f})")


def small_rows(folder):
    """Time whole saves and loads of a scaler and logistic regression, and of the latter alone."""
    features, classes = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, classes)
    store = holdfast.Store.create(folder / "store")
    inputs = features[:64]

    def save(kept):
        model[1].intercept_[0] += 1e-3  # another content each time
        return timed(
            lambda: holdfast.save(kept, "small", inputs=inputs, portable=None, store=store)
        )[1]

    version = holdfast.save(model, "small", inputs=inputs, portable=None, store=store)
    version.load()
    took = alternate(
        {
            "save": partial(save, model),
            "save one": partial(save, model[1]),
            "load": whole(version.load),
            "proven": whole(lambda: version.load(verify="always", replay="always")),
            "calls": whole(lambda: [model.predict_proba(inputs[:n]) for n in (8, 64, 8, 8, 64)]),
        },
        5 * ROUNDS,
    )
    yield under("small pipeline: holdfast.save, no fsync", took["save"], 15)
    yield under("small estimator: holdfast.save, no fsync", took["save one"], 15)
    yield Row("  of that, the model's own five calls", f"{1e3 * min(took['calls']).wall:.1f} ms")
    yield Row("  load, hashed and replayed anew", f"{1e3 * min(took['proven']).wall:.1f} ms")
    yield Row("  load, stamped", f"{1e3 * min(took['load']).wall:.1f} ms")


def main():
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        os.environ["HOLDFAST_CACHE"] = str(Path(folder) / "cache")
        text, _ = text_pipeline()
        trees, _ = boosting()
        rows = [
            *rows_of(f"text, {WORDS:,} words", text, most=3),
            *rows_of("boosting, 1,000 trees", trees, most=3),
            *small_rows(Path(folder)),
        ]
    show("scikit-learn beside pickle, joblib and skops", rows)


if __name__ == "__main__":
    main()
