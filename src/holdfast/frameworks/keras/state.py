"""The state of a Keras model: every variable by a readable path, and vocabularies.

Paths follow what a model is made of: the names of its layers where its configuration gives them,
else the attributes that hold them; so they are the same in every process, under every backend and
for a model built anew. They are close to those of ``.weights.h5`` files
(``keras/src/saving/saving_lib.py``, ``_walk_saveable``), with the variables' own names at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.codec.tensors import TensorData, TensorView
from holdfast.errors import Corrupt, PartialLoad, Unsupported
from holdfast.frameworks.keras.imported import the_keras
from holdfast.plugins import import_extra

__all__ = [
    "Part",
    "array_of",
    "assign",
    "numbers_of",
    "parts_of",
    "set_vocabulary",
    "tensor_of",
    "variables_of",
    "vocabularies_of",
    "without_unused",
]

# Keras dtype to safetensors dtype.
_DTYPES: Final[dict[str, str]] = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16",
    "float32": "F32", "float64": "F64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
_NUMPY: Final = {stored: name for name, stored in _DTYPES.items()}
_EXOTIC: Final = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})

# Tables of a model's parts under further names; looked into last, for what has no other path.
_TABLES: Final = (
    "_variables", "_trainable_variables", "_non_trainable_variables", "_seed_generators", "_layers",
    "_metrics",
)  # fmt: skip
# What is no state of the model: the graph it was made of, and sums of an epoch, which start anew.
_PASSING: Final = frozenset(
    {
        "_compile_loss", "_compile_metrics", "_loss_tracker", "_functional", "_inbound_nodes",
        "_outbound_nodes", "_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth",
        "_tracker", "_jax_state", "_modules", "_parameters", "_buffers", "_torch_params",
        "_self_unconditional_checkpoint_dependencies",
        "_self_unconditional_dependency_names", "_unconditional_checkpoint_dependencies",
    }
)  # fmt: skip
_NUMBERED: Final = re.compile(r"variable(_[0-9]+)?")
# What an optimizer keeps of each weight.
_SLOT: Final = re.compile(r"(^|/)optimizer/.*/[0-9]+$")
_DEEPEST: Final = 500


class Part(NamedTuple):
    """A part of a model.

    Attributes:
        path: Its path, empty for the model itself.
        value: A layer, optimizer, metric, generator of random numbers or variable.
    """

    path: str
    value: Any


def parts_of(model: Any) -> Iterator[Part]:
    """Walk a model's parts depth first, each once, under the first path that leads there."""
    keras = the_keras()
    saveable = import_extra("keras.src.saving.keras_saveable", needed_for="a Keras model")
    kinds = (saveable.KerasSaveable, keras.random.SeedGenerator)
    todo, seen = [Part("", model)], set()
    while todo:
        part = todo.pop()
        value = part.value
        if id(value) in seen:
            continue
        seen.add(id(value))
        if part.path.count("/") > _DEEPEST:
            raise Unsupported(f"{part.path[:100]} is nested too deeply to be kept.")
        if isinstance(value, keras.src.backend.Variable):
            yield part
        elif isinstance(value, kinds):
            yield part
            todo.extend(reversed([*_children(part, keras)]))
        elif isinstance(value, dict):
            todo.extend(
                Part(f"{part.path}/{key}", each) for key, each in reversed([*value.items()])
            )
        elif isinstance(value, list | tuple):
            todo.extend(Part(f"{part.path}/{i}", each) for i, each in reversed([*enumerate(value)]))


def _children(part: Part, keras: Any) -> Iterator[Part]:
    """Yield what hangs below a part: its named layers, its attributes, then its optimizer."""
    value, prefix = part.value, f"{part.path}/" if part.path else ""
    if (
        isinstance(value, keras.Sequential)
        or type(value).__name__ == "Functional"
        or (isinstance(value, keras.Model) and hasattr(value, "_operations_by_depth"))
    ):
        yield from (Part(f"{prefix}{layer.name}", layer) for layer in value.layers)
    own = vars(value)
    # Under PyTorch a layer is a module too, which keeps other modules in a table of its own.
    own = {**own, **own.get("_modules", {})}
    attributes = {name: each for name, each in own.items() if name not in _PASSING}
    optimizer = isinstance(value, keras.optimizers.Optimizer)
    if optimizer:
        attributes.pop("_trainable_variables", None)
    names = _step_names(attributes, keras, own=not optimizer)
    last = {name: place for place, name in enumerate((*_TABLES, "optimizer"), 1)}
    for name in sorted(attributes, key=lambda n: (last.get(n, 0), n.startswith("_"), n)):
        yield Part(f"{prefix}{names[name]}", attributes[name])


def _step_names(attributes: Mapping[str, Any], keras: Any, *, own: bool) -> dict[str, str]:
    """Name attributes: variables by their own name where it tells them apart."""
    plain = {name: name.lstrip("_") or name for name in attributes}
    if own:
        for name, value in attributes.items():
            is_variable = isinstance(value, keras.src.backend.Variable)
            if is_variable and not _NUMBERED.fullmatch(value.name):
                plain[name] = value.name
    steps = list(plain.values())
    return {name: step if steps.count(step) == 1 else name for name, step in plain.items()}


def variables_of(model: Any) -> dict[str, Any]:
    """Return a model's variables by path: weights, statistics, seeds, optimizer state.

    Raises:
        Unsupported: Two have the same path.
    """
    keras = the_keras()
    found: dict[str, Any] = {}
    for path, value in parts_of(model):
        if isinstance(value, keras.src.backend.Variable):
            if path in found:
                raise Unsupported(
                    f"two variables of the model are called {path!r:.100}.",
                    hint="layer = Layer(name='another-name')",
                )
            found[path] = value
    return found


def without_unused(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what an optimizer that took no step keeps of each weight: Keras makes it on a whim."""
    steps = [path for path in variables if path.endswith("optimizer/iterations")]
    unused = {path.removesuffix("iterations") for path in steps if not array_of(variables[path])}
    return {
        path: each
        for path, each in variables.items()
        if not (_SLOT.search(path) and any(map(path.startswith, unused)))
    }


def array_of(variable: Any) -> np.ndarray[Any, Any]:
    """Return a variable's numbers in its own dtype; a view of them where the backend allows.

    Raises:
        Unsupported: JAX took them away, as it does with those of averaged weights after a fit.
    """
    keras = the_keras()
    try:
        array = np.asarray(keras.ops.convert_to_numpy(variable.value))
    except RuntimeError as error:
        raise Unsupported(
            f"The numbers of {variable.path} are gone: {error!s:.200}",
            hint="holdfast.save(model, name)  # before predict; or fit again",
        ) from error
    return array.astype(_dtype(keras.backend.standardize_dtype(variable.dtype)), copy=False)


def _dtype(name: str) -> np.dtype[Any]:
    if name in _EXOTIC:
        kinds: Any = import_extra("ml_dtypes", needed_for=f"{name} numbers")
        exotic: np.dtype[Any] = np.dtype(getattr(kinds, name))
        return exotic
    return np.dtype(name)


def tensor_of(path: str, variable: Any) -> TensorData:
    """Describe a variable as a tensor; its numbers are fetched when they are written.

    Raises:
        Unsupported: Its dtype has no counterpart in safetensors.
    """
    keras = the_keras()
    name = keras.backend.standardize_dtype(variable.dtype)
    if name not in _DTYPES:
        raise Unsupported(f"{path} has the dtype {name}, which cannot be kept.")

    def load() -> memoryview:
        array = np.ascontiguousarray(array_of(variable))
        return array.reshape(-1).view(np.uint8).data

    return TensorData(_DTYPES[name], tuple(map(int, variable.shape)), load)


def numbers_of(view: TensorView) -> np.ndarray[Any, Any]:
    """Return a stored tensor's numbers, a view of its bytes.

    Raises:
        Corrupt: No variable has such a dtype.
    """
    if view.dtype not in _NUMPY:
        raise Corrupt(f"a tensor of the dtype {view.dtype} is no variable of a model")
    dtype = _dtype(_NUMPY[view.dtype])
    return np.frombuffer(view.data, dtype=dtype).reshape(view.shape)


def assign(targets: Mapping[str, Any], stored: Mapping[str, TensorView]) -> None:
    """Give variables their stored numbers: all of them, or none when one does not fit.

    Args:
        targets: Variables by path.
        stored: Tensors by path. What an optimizer keeps of each weight may be missing as a
            whole: it was never used.

    Raises:
        PartialLoad: Paths, shapes or dtypes do not match one to one; nothing was changed.
    """
    _refuse_unmatched(targets, stored)
    numbers = {path: _fitting(path, targets[path], numbers_of(view)) for path, view in
               stored.items()}  # fmt: skip
    for path, array in numbers.items():
        targets[path].assign(array)


def _refuse_unmatched(targets: Mapping[str, Any], stored: Mapping[str, TensorView]) -> None:
    unknown = [path for path in stored if path not in targets]
    missing = [path for path in targets if path not in stored]
    if all("optimizer/" in path for path in missing) and not any(map(_SLOT.search, stored)):
        missing = []
    if not unknown and not missing:
        return
    said = [f"{len(missing)} of its variables are not stored ({missing[0]})"] if missing else []
    if unknown:
        said.append(f"{len(unknown)} stored ones are not of it ({unknown[0]})")
    raise PartialLoad(
        f"The model as built has other variables: {'; '.join(said)[:400]}. Nothing was changed.",
        hint="model(inputs)  # once before into=, which makes its variables; for a load without\n"
        "# into= the class's build(self, input_shape) makes every layer and variable",
    )


def _fitting(path: str, variable: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return numbers of the variable's dtype.

    Whole ones may differ in width between backends; a single one may be a whole number in one
    release and none in another, as the place holders of Adafactor are.
    """
    keras = the_keras()
    wanted = _dtype(keras.backend.standardize_dtype(variable.dtype))
    if tuple(variable.shape) == array.shape:
        if wanted == array.dtype:
            return array
        if (wanted.kind in "iu" and array.dtype.kind in "iu") or array.size == 1:
            changed = array.astype(wanted)
            if np.array_equal(changed.astype(array.dtype), array):
                return changed
    raise PartialLoad(
        f"{path} is {wanted}{list(variable.shape)} in the model as built and "
        f"{array.dtype}{list(array.shape)} as stored. Nothing was changed."
    )


def vocabularies_of(model: Any) -> dict[str, dict[str, Any]]:
    """Return the words of lookup layers by path, where the configuration does not hold them.

    Returns:
        For each layer ``tokens``, a list of texts or whole numbers with the special ones in
        front, and for weighted ones ``idf``, an array of as many numbers.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, layer in parts_of(model):
        if not _is_lookup(layer) or not int(layer.lookup_table.size()):
            continue
        tokens = [str(t) if isinstance(t, str) else int(t) for t in layer.get_vocabulary()]
        if layer.output_mode == "tf_idf":
            weights = np.asarray(layer.idf_weights.numpy())[: len(tokens)]
            found[path] = {"tokens": tokens, "idf": np.array(weights)}
        else:
            found[path] = {"tokens": tokens}
    return found


def _is_lookup(layer: Any) -> bool:
    return any(
        base.__name__ == "IndexLookup" and base.__module__.startswith("keras.src.")
        for base in type(layer).__mro__
    )


def set_vocabulary(model: Any, stored: Mapping[str, Mapping[str, Any]]) -> None:
    """Give lookup layers their words.

    Raises:
        PartialLoad: There is no such layer.
        Corrupt: The words are not those of such a layer.
    """
    layers = {path: layer for path, layer in parts_of(model) if _is_lookup(layer)}
    for path, words in stored.items():
        if path not in layers:
            raise PartialLoad(f"The model as built has no vocabulary {path[:100]!r}.")
        try:
            layers[path].set_vocabulary(words["tokens"], words.get("idf"))
        except Exception as error:
            raise Corrupt(f"the vocabulary {path[:100]!r} is damaged: {error!s:.200}") from error
    for _, layer in parts_of(model):
        if type(layer).__name__ == "Normalization" and hasattr(layer, "finalize_state"):
            layer.finalize_state()
