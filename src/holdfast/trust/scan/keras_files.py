"""Reports on HDF5 files, and on what Keras keeps in them."""

from __future__ import annotations

from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.hdf5 import Hdf5File, read_hdf5
from holdfast.trust.keras_config import judge
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.identify import identify
from holdfast.trust.scan.json_files import add_config, read_json
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import Data, Source

__all__ = ["look_at_hdf5"]

_SHOWN: Final = 20
# Attributes by which Keras marks its files, of either generation.
_KERAS_MARKS: Final = frozenset({"keras_version", "model_config", "layer_names", "weight_names"})
_KERAS_GROUPS: Final = frozenset({"/layers", "/model_weights", "/_layer_checkpoint_dependencies"})


def look_at_hdf5(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on an HDF5 file: datasets, links that lead out, and Keras' configuration."""
    file = read_hdf5(source)
    draft.faults(file.faults)
    for dataset in file.datasets:
        draft.tensor(dataset.path, dataset.dtype, dataset.shape)
        if dataset.external:
            draft.unsafe(f"{dataset.path:.100} is kept in the file {dataset.external[0]!r:.100}")
        if dataset.layout == "virtual":
            draft.unsafe(f"{dataset.path:.100} is put together from other files (virtual)")
        for name in dataset.filters:
            if name.startswith("filter"):
                draft.note(f"{dataset.path:.100} needs a plug-in of HDF5 ({name})")
    _links(draft, file)
    draft.framework = "HDF5"
    draft.facts |= {"groups": len(file.groups), "attributes": file.attribute_count}
    if file.start:
        _user_block(scanner, source.window(0, file.start), draft, depth)
    _keras(draft, file)
    draft.take_as_data()
    if file.links:
        draft.takes = None


def _links(draft: Draft, file: Hdf5File) -> None:
    for link in file.links:
        said = f"{link.path:.100} is a {link.kind} link to {link.target!r:.100}"
        if link.kind == "soft":
            draft.note(said)
        else:
            draft.unsafe(said)
    for path in file.shared[:_SHOWN]:
        draft.note(f"{path:.100} is an object that has another path already")


def _user_block(scanner: Scanner, block: Source, draft: Draft, depth: int) -> None:
    draft.note(f"{block.size} bytes stand before the HDF5 file", 0)
    if identify(block) != "unknown" and scanner.may_look(depth):
        draft.members.append(scanner.look(block, "(before the HDF5 file)", depth + 1))


def _keras(draft: Draft, file: Hdf5File) -> None:
    """Tell Keras' files by their attributes and groups, and judge their configurations."""
    root = file.attributes.get("/", {})
    weights = file.attributes.get("/model_weights", {})
    layers = {path for path in file.groups if path in _KERAS_GROUPS}
    vars_ = any("/vars/" in dataset.path for dataset in file.datasets)
    if not (_KERAS_MARKS & (root.keys() | weights.keys()) or (layers and vars_)):
        return
    draft.kind, draft.framework = "keras-h5", "Keras"
    version = root.get("keras_version", weights.get("keras_version"))
    draft.written_by = version[:40] if isinstance(version, str) else None
    backend = root.get("backend", weights.get("backend"))
    if isinstance(backend, str):
        draft.facts["backend"] = backend[:40]
    for name in ("model_config", "training_config"):
        text = root.get(name)
        if isinstance(text, str):
            _config(draft, name, text)


def _config(draft: Draft, name: str, text: str) -> None:
    try:
        config = read_json(Data(text.encode("utf-8", "surrogatepass")))
    except Corrupt as error:
        draft.broken(f"{name}: {error.message}")
        return
    add_config(draft, judge(config))
