"""Write one archive of the museum; run by ``tools/museum.py`` in an environment of its time.

An archive is a compressed tar of a store. For each model it holds a version ``NAME`` with a golden
set, a version ``NAME.held-out`` with rows that are in no golden set and what the model said of
them, and beside the store ``pickles/NAME.joblib``, as joblib of that time wrote it.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import joblib
import models  # beside this file

import holdfast


def main() -> None:
    """Fit, save, ask, and pack; the only argument is the archive's path."""
    archive = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        store = holdfast.Store.create(Path(folder) / "store")
        pickles = Path(folder) / "pickles"
        pickles.mkdir()
        for piece in models.pieces():
            version = holdfast.save(piece.model, piece.name, inputs=piece.golden, store=store)
            assert version.proof == "replayed", (piece.name, version.proof)
            held_out = {
                "rows": piece.held_out,
                "answers": models.answers(piece.model, piece.held_out),
            }
            holdfast.save(held_out, f"{piece.name}.held-out", store=store)
            joblib.dump(piece.model, pickles / f"{piece.name}.joblib")
        with tarfile.open(archive, "w:xz", preset=9) as packed:
            packed.add(folder, arcname=".")


if __name__ == "__main__":
    main()
