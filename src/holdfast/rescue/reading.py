"""One way in for foreign files: what a file is decides what reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from holdfast import frameworks
from holdfast.codec.registry import Registry
from holdfast.errors import MissingExtra, UnsafeContent, Unsupported
from holdfast.rescue.gguf import read_gguf_file
from holdfast.rescue.hdf5 import read_hdf5_file, read_keras_archive
from holdfast.rescue.npz import read_npy, read_npz
from holdfast.rescue.pickle_files import read_pickle
from holdfast.rescue.safetensors import read_safetensors
from holdfast.rescue.skops_files import read_skops
from holdfast.rescue.taken import Taken, naming
from holdfast.rescue.torch_files import read_torch
from holdfast.rescue.torch_legacy import read_legacy
from holdfast.trust.report import KINDS

__all__ = ["read"]

Reader = Callable[[Path, Registry], Any]


def read(path: Path, kind: str) -> Taken:
    """Take over a file or folder as data: nothing in it is run, imported or looked up by name.

    An adapter that makes models of the kind is asked first; what none can make is read as arrays
    and plain values where that is possible.

    Args:
        path: The file or folder.
        kind: What it is, one of ``trust.report.KINDS``.

    Raises:
        Unsupported: It, or something in it, is not read as data; the message says what.
        UnsafeContent: It would run something or reach out of itself.
        Corrupt: It is damaged or lies.
        MissingExtra: The package that its objects are of is not installed.
        EnvironmentMismatch: Its objects are of another release than the installed one.
    """
    registry = frameworks.registry()
    why = ""
    with naming(path, KINDS[kind]):
        for adapter in frameworks.adapters():
            if kind not in adapter.READS:
                continue
            try:
                return Taken(model=adapter.READS[kind](path))
            except (MissingExtra, UnsafeContent, Unsupported) as error:
                if kind not in _READERS:
                    raise
                why = f"Only its arrays are kept, without the model around them: {error.message}"
        if kind not in _READERS:
            raise Unsupported("this release does not take it over.")
        found = _READERS[kind](path, registry)
        taken = found if isinstance(found, Taken) else Taken(model=found)
        return replace(taken, notes=(why, *taken.notes)) if why else taken


_READERS: Final[dict[str, Reader]] = {
    "gguf": lambda path, _: read_gguf_file(path),
    "hdf5": lambda path, _: read_hdf5_file(path),
    "joblib": read_pickle,
    "keras": lambda path, _: read_keras_archive(path),
    "keras-h5": lambda path, _: read_hdf5_file(path),
    "npy": read_npy,
    "npz": read_npz,
    "pickle": read_pickle,
    "safetensors": lambda path, _: read_safetensors(path),
    "skops": read_skops,
    "torch": read_torch,
    "torch-legacy": read_legacy,
}
