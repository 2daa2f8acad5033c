"""HDF5 files, and Keras' files: weights as arrays by path, the configuration as plain text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.rescue.hdf5_data import Elements
from holdfast.rescue.mapped import bytes_of_file
from holdfast.rescue.npz import Memory, member
from holdfast.rescue.taken import Taken, plain_facts
from holdfast.trust.hdf5 import Hdf5Dataset, Hdf5File, read_hdf5
from holdfast.trust.keras_config import judge
from holdfast.trust.source import Allowance, FileSource
from holdfast.trust.zips import open_zip

__all__ = ["read_hdf5_file", "read_keras_archive"]

# Attributes of Keras' HDF5 files, and members of its archives, that are configurations.
_CONFIGS: Final = ("model_config", "training_config")
_PARTS: Final[tuple[str, ...]] = ("config.json", "metadata.json")
_MOST_CONFIG: Final = 64 << 20
_WEIGHTS: Final = ".weights.h5"


def read_hdf5_file(path: Path) -> Taken:
    """Read the datasets of an HDF5 file, and the configuration of Keras where there is one.

    Returns:
        Arrays by path, ``"dense/kernel"``; those that lie in one piece are views of the file. A
        Keras configuration that holds no code is kept beside them as a file.

    Raises:
        UnsafeContent: It reaches out of itself: by links, external or virtual datasets.
        Unsupported: It holds something that is not read as data.
        Corrupt: It is damaged, or lies about sizes.
    """
    with FileSource(path) as source:
        file = read_hdf5(source)
        arrays = _arrays(file, bytes_of_file(path))
    root = file.attributes.get("/", {})
    texts = {f"{name}.json": root[name] for name in _CONFIGS if isinstance(root.get(name), str)}
    files, notes = _configs(texts)
    notes += [f"{name} is another name of an object that is kept once." for name in file.shared]
    attributes = {
        place: plain_facts(told) for place, told in itertools.islice(file.attributes.items(), 1_000)
    }
    params = {"hdf5_attributes": attributes} if attributes else {}
    return Taken(model=arrays, notes=tuple(notes), params=params, files=files)


def read_keras_archive(path: Path) -> Taken:
    """Read a ``.keras`` archive: its weights as arrays, and what else it holds as files.

    Raises:
        UnsafeContent, Unsupported, Corrupt: As ``read_hdf5_file``.
    """
    whole = bytes_of_file(path)
    arrays: dict[str, Any] = {}
    others: dict[str, bytes] = {}
    with FileSource(path) as source:
        archive = open_zip(source)
        if archive.faults:
            raise Corrupt(archive.faults[0][0])
        weights = [entry for entry in archive.entries if entry.name.endswith(_WEIGHTS)]
        allowance = Allowance()
        for entry in archive.entries:
            if not entry.is_folder and entry not in weights:
                others[entry.name] = archive.content(entry, _MOST_CONFIG, allowance)
        for entry in weights:
            content = member(archive, entry, whole)
            before = "" if len(weights) == 1 else f"{entry.name.removesuffix(_WEIGHTS)}/"
            with Memory(content) as inside:
                found = _arrays(read_hdf5(inside), content)
            arrays |= {before + name: array for name, array in found.items()}
    if not weights:
        raise Corrupt("it holds no weights")
    texts: dict[str, str] = {
        name: str(others.pop(name), "utf-8", "replace") for name in _PARTS if name in others
    }
    files, notes = _configs(texts)
    params = {"keras": _metadata(texts.get("metadata.json", "{}"))}
    return Taken(model=arrays, notes=tuple(notes), params=params, files=files | others)


def _metadata(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return plain_facts(told) if isinstance(told, dict) else {}


def _configs(texts: Mapping[str, str]) -> tuple[dict[str, bytes], list[str]]:
    """Return the configurations that are kept as files, and why others are not."""
    files: dict[str, bytes] = {}
    notes: list[str] = []
    for name, text in texts.items():
        try:
            found = judge(json.loads(text))
        except (ValueError, RecursionError):
            notes.append(f"{name} is left out: it is no JSON.")
            continue
        if found.code:
            notes.append(f"{name} is left out: it {next(iter(found.code))}.")
        else:
            files[name] = text.encode()
    return files, notes


def _arrays(file: Hdf5File, whole: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the datasets by path, once nothing in the file leads elsewhere or overlaps."""
    _require_own(file)
    if file.faults or file.blocks is None:
        raise Corrupt(file.faults[0][0] if file.faults else "it is damaged")
    _require_apart(file)
    elements = Elements(file.blocks, whole, file.start)
    found: dict[str, Any] = {}
    for dataset in file.datasets:
        name = dataset.path.strip("/")
        try:
            found[name] = elements.array(dataset, file.attributes.get(dataset.path, {}))
        except (Unsupported, Corrupt) as error:
            raise type(error)(f"{name:.100}: {error.message}", hint=error.hint) from error
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise Corrupt(f"{name:.100} contradicts itself: {error!s:.100}") from error
    return found


def _require_own(file: Hdf5File) -> None:
    """Refuse what reaches out of the file: a reader of HDF5 would open what it names."""
    reaching: list[HoldfastError] = [
        UnsafeContent(f"{link.path:.100} is a {link.kind} link to {link.target!r:.100}")
        for link in file.links
    ]
    for dataset in file.datasets:
        if dataset.external:
            said = f"{dataset.path:.100} is kept in the file {dataset.external[0]!r:.100}"
            reaching.append(UnsafeContent(said))
        elif dataset.layout == "virtual":
            said = f"{dataset.path:.100} is put together from other files (virtual)"
            reaching.append(UnsafeContent(said))
    if reaching:
        raise reaching[0]


def _require_apart(file: Hdf5File) -> None:
    """Refuse datasets over the same bytes: many of them make a small file a large model."""
    parts: list[tuple[int, Hdf5Dataset]] = [
        (dataset.start, dataset)
        for dataset in file.datasets
        if dataset.start is not None and dataset.size
    ]
    end = 0
    for start, dataset in sorted(parts, key=lambda part: part[0]):
        if start < end:
            raise Corrupt(f"{dataset.path:.100} lies over another dataset", hint=None)
        end = start + dataset.size
