"""A forest of 500 trees beside pickle, joblib and skops: CPU seconds of codec, replay, comparison.

Run: python benchmarks/forest.py

Three comparisons with pickle: in memory (ours encodes, hashes, then opens, hashes, audits and
builds; pickle dumps and loads), with a file on /dev/shm on both sides, where fsync costs nothing,
and with a file on disk and fsync on both sides. Pickle hashes only where the row says so.
Cache state: everything warm. Threads: the forest predicts on one; Holdfast hashes on as many as
there are cores, which CPU seconds count in full.
"""

import hashlib
import io
import os
import pickle
import tempfile
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import skops.io
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import holdfast
from holdfast import frameworks
from holdfast.api.compacting import compact
from holdfast.api.load import behaviour_of, open_for
from holdfast.archive import write
from holdfast.frameworks import LoadOptions
from holdfast.record import Digest
from timing import Row, alternate, at_most, compared, show, timed, whole

ROUNDS = 9


class Hashing:
    """A store that hashes what it is given and keeps nothing: what writing costs is left out."""

    def put(self, chunks, *, expect=None):  # noqa: ARG002 - a store's own arguments
        hasher = hashlib.sha256()
        for chunk in chunks():
            hasher.update(chunk)
        return Digest(f"sha256:{hasher.hexdigest()}")

    def has(self, digest):  # noqa: ARG002 - same
        return False


class Forest:
    """The steps of a save and a load of one forest, as ``holdfast.save`` and ``load`` do them."""

    def __init__(self, model, inputs, folder):
        self.model = model
        self.registry = frameworks.registry()
        self.adapter = frameworks.adapter_for(model)
        self.store = holdfast.Store.create(folder / "store")
        self.version = holdfast.save(model, "forest", inputs=inputs, store=self.store)
        self.scratch = holdfast.Store.create(folder / "scratch").blobs
        self.inputs = inputs

    def encode(self):
        return self.adapter.pack(self.model, self.registry)

    def hash(self, payload):
        write.write_tensors(Hashing(), payload.tensors, known=frozenset())

    def write(self, payload):
        write.write_tensors(self.scratch, payload.tensors, known=frozenset())
        self.scratch.flush()

    def forget_written(self):
        for blob in (self.scratch.path / "blobs" / "sha256").iterdir():
            blob.unlink()

    def open(self):
        """Hash every byte and audit the structure."""
        return open_for(self.store, self.version.manifest_id, self.registry, verify="always")

    def build(self, opened):
        """Decode and judge every node of every tree."""
        return self.adapter.unpack(opened.parts, self.registry, LoadOptions(device="cpu"))

    def round_trip(self, keep):
        self.forget_written()

        def run():
            keep(self.encode())
            return self.build(self.open())

        return timed(run)[1]

    def step(self, name):
        """Measure one step with what it needs prepared."""
        if name == "encode":
            return timed(self.encode)[1]
        if name.startswith("hash"):
            self.forget_written()
            keep = self.hash if name == "hash" else self.write
            return timed(partial(keep, self.encode()))[1]
        if name == "open, hash, audit":
            return timed(self.open)[1]
        opened = self.open()
        return timed(partial(self.build, opened))[1]

    def replay(self, opened, model):
        return timed(partial(opened.replay, behaviour_of(self.adapter, model), self.registry))[1]

    def recorded_calls(self, model):
        """Run the calls that were recorded, as anybody would: eight rows, then all."""

        def run():
            model.predict_proba(self.inputs[:8])
            model.predict_proba(self.inputs)

        return timed(run)[1]


def by_pickle(model, path, *, hashing):
    data = pickle.dumps(model, protocol=5)
    if hashing:
        hashlib.sha256(data).digest()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    data = path.read_bytes()
    if hashing:
        hashlib.sha256(data).digest()
    return pickle.loads(data)


def by_skops(model):
    data = skops.io.dumps(model)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


def by_joblib(model, compress):
    file = io.BytesIO()
    joblib.dump(model, file, compress=compress)
    file.seek(0)
    return joblib.load(file)


def codec_rows(forest, disk, folders):
    """Compare whole round trips, and list the steps of ours."""
    model = forest.model
    data = pickle.dumps(model, protocol=5)
    memory, durable = (folder / "pickle" for folder in folders)
    steps = {
        "encode": "dumps",
        "hash": "memory",
        "hash and write": "memory",
        "open, hash, audit": "memory",
        "decode and validate": "loads",
    }
    peers = {
        "memory": lambda: pickle.loads(pickle.dumps(model, protocol=5)),
        "dumps": lambda: pickle.dumps(model, protocol=5),
        "loads": lambda: pickle.loads(data),
        "file": lambda: by_pickle(model, memory, hashing=False),
        "disk": lambda: by_pickle(model, durable, hashing=False),
        "disk hashed": lambda: by_pickle(model, durable, hashing=True),
    }
    alone = {"ours": partial(forest.round_trip, forest.hash), "pickle": whole(peers["memory"])}
    took = alternate(alone, 3 * ROUNDS)  # nothing else between them
    yield compared("codec + hash + validation vs pickle", took["ours"], took["pickle"], most=1.5)
    actions = {
        "our file": partial(forest.round_trip, forest.write),
        "our disk": partial(disk.round_trip, disk.write),
        **{name: whole(action) for name, action in peers.items()},
        **{name: partial(forest.step, name) for name in steps},
    }
    took = alternate(actions, ROUNDS)
    yield compared("  and a file on /dev/shm, both", took["our file"], took["file"], most=1.5)
    for name, peer in steps.items():
        title = "pickle" if peer == "memory" else peer
        yield compared(f"  {name} vs {title}", took[name], took[peer])
    for clock in ("cpu", "wall"):
        yield compared("on disk, fsync both", took["our disk"], took["disk"], clock=clock)
    hashed = took["disk hashed"]
    yield compared("on disk, fsync and SHA-256 both", took["our disk"], hashed, clock="wall")


def skops_rows(forest):
    model = forest.model
    took = alternate(
        {
            "skops": whole(lambda: by_skops(model)),
            "joblib": whole(lambda: by_joblib(model, 0)),
            "joblib 3": whole(lambda: by_joblib(model, 3)),
            "pickle": whole(lambda: pickle.loads(pickle.dumps(model, protocol=5))),
            "ours": partial(forest.round_trip, forest.hash),
        },
        3,
    )
    yield compared("codec + hash + validation vs skops", took["ours"], took["skops"])
    yield compared("codec + hash + validation vs joblib", took["ours"], took["joblib"])
    yield compared("  vs joblib compress=3", took["ours"], took["joblib 3"])
    yield compared("skops in our column vs pickle", took["skops"], took["pickle"])


def replay_rows(forest):
    opened = forest.open()
    model = forest.build(opened)
    compare = partial(forest.adapter.difference, forest.model, model, forest.registry)
    took = alternate(
        {
            "calls": lambda: forest.recorded_calls(model),
            "replay": lambda: forest.replay(opened, model),
            "difference": whole(compare),
            "pickle": whole(lambda: pickle.loads(pickle.dumps(model, protocol=5))),
        },
        ROUNDS,
    )
    yield compared("comparing with the live model vs pickle", took["difference"], took["pickle"])
    for clock in ("cpu", "wall"):
        yield compared(
            "replay vs the recorded calls", took["replay"], took["calls"], most=1.2, clock=clock
        )


def size_rows(forest):
    ours = forest.version.size / 1e6
    pickled = len(pickle.dumps(forest.model, protocol=5)) / 1e6
    packed = len(skops.io.dumps(forest.model)) / 1e6
    sizes = f"{pickled:.2f} / {packed:.2f} MB"
    yield Row("size at rest vs pickle / skops", f"{ours:.2f} MB", sizes, f"{ours / pickled:.2f}")
    file = io.BytesIO()
    joblib.dump(forest.model, file, compress=3)
    compact(keep=0, store=forest.store)  # with record, inputs and answers, which joblib lacks
    coded = sum(blob.stored for blob in forest.store.blobs.list()) / 1e6
    peer = len(file.getvalue()) / 1e6
    yield at_most("  compacted vs joblib compress=3", coded, round(peer, 2), "MB", peer)


def main():
    features, classes = load_digits(return_X_y=True)
    model = RandomForestClassifier(500, random_state=0, n_jobs=os.cpu_count())
    model.fit(features, classes)
    model.set_params(n_jobs=None)
    inputs = np.ascontiguousarray(features[:64])
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as shm, tempfile.TemporaryDirectory() as disk:
        os.environ["HOLDFAST_CACHE"] = str(Path(shm) / "cache")
        forest = Forest(model, inputs, Path(shm))
        rows = [
            *codec_rows(forest, Forest(model, inputs, Path(disk)), (Path(shm), Path(disk))),
            *skops_rows(forest),
            *replay_rows(forest),
            *size_rows(forest),
        ]
    show("500-tree RandomForestClassifier on digits (202,820 nodes)", rows)


if __name__ == "__main__":
    main()
