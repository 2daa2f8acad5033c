"""Keras' own files: ``.keras`` archives read as data into a live model, and written by Keras.

The configuration is judged before Keras sees it, the weights are read by our own reader of HDF5;
``keras.models.load_model`` is never called. Source of the format: ``keras/src/saving/
saving_lib.py``: a zip archive of ``config.json``, ``model.weights.h5`` and ``assets/``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.frameworks.keras import build as keras_build
from holdfast.frameworks.keras.imported import the_keras
from holdfast.frameworks.keras.judge import parse
from holdfast.plugins import import_extra
from holdfast.trust.hdf5 import Hdf5Dataset, Hdf5File, read_hdf5
from holdfast.trust.source import Allowance, Data, FileSource
from holdfast.trust.zips import ZipArchive, open_zip

__all__ = ["read_archive", "write_archive", "write_weights"]

_LOG: Final = logging.getLogger("holdfast")
_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_ASSETS: Final = "assets/"
_WORDS: Final = "vocabulary.txt"
_MOST_CONFIG: Final = 64 << 20
_MOST_WEIGHTS: Final = 1 << 36
_DEEPEST: Final = 200
_KERAS: Final = 'keras.models.load_model("model.keras")  # where you trust the file; then save it'

Arrays = Mapping[str, Mapping[str, np.ndarray[Any, Any]]]


class _Place(NamedTuple):
    """A part of a model and where its state is in the file."""

    path: str
    value: Any


def read_archive(path: Path) -> Any:
    """Build the model in a ``.keras`` file, with its weights, vocabularies and optimizer.

    Raises:
        UnsafeContent: Its configuration holds code or reaches out of the file, or its weights do.
        EnvironmentMismatch: It needs a class that the program did not register with Keras.
        Unsupported: Its weights are kept in a way that is not read here.
        Corrupt: It is damaged.
        MissingExtra: Keras is not installed.
    """
    the_keras("reading a .keras file")
    allowance = Allowance()
    allowance.inflated = _MOST_WEIGHTS
    with FileSource(path) as source:
        archive = open_zip(source)
        if archive.faults:
            raise Corrupt(f"{path.name}: {archive.faults[0][0]}")
        members = _members(archive)
        if _CONFIG not in members or _WEIGHTS not in members:
            raise Corrupt(f"{path.name} has no {_CONFIG} or no {_WEIGHTS}")
        config = parse(
            archive.content(members[_CONFIG], _MOST_CONFIG, allowance), f"{path.name}!{_CONFIG}"
        )
        weights = archive.content(members[_WEIGHTS], source.size * 1100, allowance)
        vocabularies = {
            name[len(_ASSETS) : -len(_WORDS)].rstrip("/"): archive.content(
                entry, _MOST_CONFIG, allowance
            )
            for name, entry in members.items()
            if name.startswith(_ASSETS) and name.endswith(f"/{_WORDS}")
        }
    arrays = _arrays(weights)
    items = sum(array.size for group in arrays.values() for array in group.values())
    model = keras_build.build(config, items, fresh=True)
    _give(model, arrays, vocabularies)
    return model


def _members(archive: ZipArchive) -> dict[str, Any]:
    members = {}
    for entry in archive.entries:
        if entry.name in members:
            raise Corrupt(f"the archive has {entry.name!r:.100} twice")
        members[entry.name] = entry
    return members


def _arrays(data: bytes) -> Arrays:
    """Return the arrays of a weights file, by the path of the object whose they are, and name."""
    with Data(data) as source:
        file = read_hdf5(source)
    if file.faults:
        raise Corrupt(f"{_WEIGHTS}: {file.faults[0][0]}")
    if file.links:
        link = file.links[0]
        raise UnsafeContent(
            f"UNSAFE  {_WEIGHTS} has a {link.kind} link at {link.path:.100} to "
            f"{link.target!r:.100}. Nothing was read.",
            hint="hold scan model.keras",
        )
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for dataset in file.datasets:
        group, _, name = dataset.path.rpartition("/")
        if group.endswith("/vars") or group == "/vars":
            found.setdefault(group[: -len("/vars")].strip("/"), {})[name] = _array(
                dataset, file, data
            )
    return found


def _array(dataset: Hdf5Dataset, file: Hdf5File, data: bytes) -> np.ndarray[Any, Any]:
    where = dataset.path[-100:]
    if dataset.external or dataset.layout == "virtual":
        raise UnsafeContent(
            f"UNSAFE  {where} in {_WEIGHTS} is kept in another file. Nothing was read.",
            hint="hold scan model.keras",
        )
    if dataset.size == 0:
        start = 0
    elif dataset.layout == "contiguous" and dataset.start is not None and not dataset.filters:
        start = dataset.start
    else:
        raise Unsupported(
            f"{where} in {_WEIGHTS} is kept {dataset.layout}, which Keras does not write.",
            hint=_KERAS,
        )
    dtype = _dtype(dataset, file)
    if dataset.size != dtype.itemsize * int(np.prod(dataset.shape, dtype=object)):
        raise Corrupt(f"{where} in {_WEIGHTS} has another size than its shape asks for")
    return np.frombuffer(data[start : start + dataset.size], dtype).reshape(dataset.shape)


def _dtype(dataset: Hdf5Dataset, file: Hdf5File) -> np.dtype[Any]:
    said = file.attributes.get(dataset.path, {}).get("dtype")
    if said == "bfloat16":
        kinds: Any = import_extra("ml_dtypes", needed_for="bfloat16 numbers")
        exotic: np.dtype[Any] = np.dtype(kinds.bfloat16)
        return exotic
    try:
        dtype: np.dtype[Any] = np.dtype(dataset.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biufS":
        raise Unsupported(
            f"{dataset.path[-100:]} in {_WEIGHTS} is {dataset.dtype:.40}, which no weight is.",
            hint=_KERAS,
        )
    return dtype


def _give(model: Any, arrays: Arrays, vocabularies: Mapping[str, bytes]) -> None:
    """Have every part of a model read its arrays and words, and say which were left over."""
    left = set(arrays)
    for place in _places(model):
        words = vocabularies.get(place.path)
        if _is_of_another_release(place.value, arrays.get(place.path, {})):
            _LOG.warning("the optimizer's state is of another Keras: training starts anew")
            left.discard(place.path)
            continue
        try:
            if hasattr(place.value, "load_own_variables"):
                place.value.load_own_variables(dict(arrays.get(place.path, {})))
                left.discard(place.path)
            if words is not None and hasattr(place.value, "load_assets"):
                _set_words(place.value, words)
        except HoldfastError:
            raise
        except Exception as error:
            raise Corrupt(
                f"{place.path[-100:] or 'the model'} does not take its weights: {error!s:.300}"
            ) from error
    lost = sorted(path for path in left if arrays[path])
    if lost:
        raise Corrupt(f"{_WEIGHTS} has weights for {lost[0][-100:]!r}, which the model has not")


def _is_of_another_release(part: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> bool:
    """Say whether a part is an optimizer that keeps its numbers in another order than the file.

    The file has them by position; Nadam's product, for one, moved from before the others to last.
    """
    if not isinstance(part, the_keras().optimizers.Optimizer):
        return False
    own = [tuple(each.shape) for each in part.variables]
    stored = [array.shape for _, array in sorted(arrays.items(), key=lambda item: _number(item[0]))]
    return bool(stored) and own != stored


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else -1


def _set_words(layer: Any, data: bytes) -> None:
    """Give a lookup its words, as its ``load_assets`` does with a file."""
    lookup = getattr(layer, "_lookup_layer", layer)
    if lookup.input_vocabulary is not None:
        return
    lines = str(data, "utf-8").splitlines()
    while lines and not lines[-1]:
        lines.pop()
    texts = "string" in str(lookup.vocabulary_dtype)
    words: list[Any] = lines if texts else [int(line) for line in lines]
    if lookup.output_mode == "tf_idf":
        lookup.set_vocabulary(words, idf_weights=lookup.idf_weights_const.numpy())
    else:
        lookup.set_vocabulary(words)


def _places(model: Any) -> Iterator[_Place]:
    """Walk a model as Keras does when it writes or reads a file; each part once."""
    library = import_extra("keras.src.saving.saving_lib", needed_for="a Keras model")
    saveable = import_extra("keras.src.saving.keras_saveable", needed_for="a Keras model")
    todo, seen = [_Place("", model)], set()
    while todo:
        place = todo.pop()
        if id(place.value) in seen or place.path.count("/") > _DEEPEST:
            continue
        seen.add(id(place.value))
        if isinstance(place.value, saveable.KerasSaveable):
            yield place
            children = [
                _Place(f"{place.path}/{name}".lstrip("/"), child)
                for name, child in library._walk_saveable(place.value)  # noqa: SLF001 - no other
            ]
        else:
            children = list(_items(place, saveable.KerasSaveable))
        kinds = (saveable.KerasSaveable, list, dict, tuple, set)
        todo.extend(child for child in reversed(children) if isinstance(child.value, kinds))


def _items(place: _Place, kind: type) -> Iterator[_Place]:
    """Yield what is in a container, named by its class and its place among those of the class."""
    naming = import_extra("keras.src.utils.naming", needed_for="a Keras model")
    items = place.value.values() if isinstance(place.value, dict) else place.value
    used: dict[str, int] = {}
    for item in items:
        if isinstance(item, kind):
            name = naming.to_snake_case(type(item).__name__)
        elif isinstance(item, list | dict | tuple):
            name = "container"
        else:
            continue
        count = used[name] = used.get(name, -1) + 1
        yield _Place(f"{place.path}/{name}" + (f"_{count}" if count else ""), item)


def write_archive(model: Any, path: Path) -> None:
    """Write a ``.keras`` file, by Keras.

    Raises:
        Unsupported: It is a layer alone, or Keras cannot write it.
    """
    keras = the_keras()
    _require_model(model, ".keras")
    _write(path, ".keras", lambda to: keras.saving.save_model(model, to))


def write_weights(model: Any, path: Path) -> None:
    """Write a ``.weights.h5`` file, by Keras.

    Raises:
        Unsupported: It is a layer alone, or Keras cannot write it.
        MissingExtra: The package h5py is not installed.
    """
    import_extra("h5py", needed_for="writing .h5 files")
    _require_model(model, ".weights.h5")
    _write(path, ".weights.h5", model.save_weights)


def _require_model(model: Any, ending: str) -> None:
    if not isinstance(model, the_keras().Model):
        raise Unsupported(
            f"Keras writes models to a {ending} file, and no {type(model).__name__}.",
            hint="hold export REF model.safetensors",
        )


def _write(path: Path, ending: str, write: Callable[[Path], None]) -> None:
    """Have Keras write a file beside the path, for it asks for an ending of its own."""
    beside = path.with_name(f"{path.name}{ending}")
    try:
        write(beside)
        beside.rename(path)
    except Exception as error:
        raise Unsupported(
            f"Keras cannot write the model to a {ending} file: {error!s:.300}",
            hint="hold export REF model.safetensors",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
