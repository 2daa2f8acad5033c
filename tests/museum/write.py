"""Write one archive of the museum; run by ``tools/museum.py`` in an environment of its time.

An archive is a compressed tar of a store. For each model it holds a version ``NAME`` with a golden
set and a version ``NAME.held-out`` with rows that are in no golden set and what the model said of
them. Beside the store lie ``pickles/NAME.joblib``, as joblib of that time wrote it, and files of
the library's own, ``native/NAME.ENDING``.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
from piece import Piece  # beside this file

import holdfast


def keep(family: Any, piece: Piece, store: holdfast.Store) -> None:
    """Save a model with its golden set, and apart from it what it says of other rows."""
    version = holdfast.save(piece.model, piece.name, inputs=piece.golden, store=store)
    proof = "state only" if piece.golden is None else "replayed"
    assert version.proof == proof, (piece.name, version.proof)
    told = family.answers(piece.model, piece.held_out)
    assert told, piece.name
    held_out = {"rows": piece.held_out, "answers": told}
    holdfast.save(held_out, f"{piece.name}.held-out", store=store)


def main() -> None:
    """Fit, save, ask, and pack; the only argument is the archive's path."""
    archive = Path(sys.argv[1])
    family = import_module(f"{archive.name.partition('-')[0]}_models")
    with tempfile.TemporaryDirectory() as folder:
        store = holdfast.Store.create(Path(folder) / "store")
        pickles, native = Path(folder) / "pickles", Path(folder) / "native"
        pickles.mkdir()
        native.mkdir()
        for piece in family.pieces():
            keep(family, piece, store)
            joblib.dump(piece.model, pickles / f"{piece.name}.joblib")
            for ending, write in piece.native.items():
                (native / f"{piece.name}.{ending}").write_bytes(write())
        with tarfile.open(archive, "w:xz", preset=9) as packed:
            packed.add(folder, arcname=".")


if __name__ == "__main__":
    main()
