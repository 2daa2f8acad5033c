"""Calling Keras models repeatably, and making inputs for them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from holdfast.frameworks.keras.imported import the_keras
from holdfast.frameworks.keras.state import array_of, variables_of
from holdfast.plugins import import_extra

__all__ = ["call", "steady", "synthetic"]

_SEED: Final = 20_260_301
_NEEDED_FOR: Final = "a Keras model"
# Stands for a dimension that a model leaves open.
_OPEN: Final = 12
_WORDS: Final = ("alpha beta", "beta gamma", "gamma alpha alpha", "delta")


def call(model: Any, inputs: Any) -> Any:
    """Answer as the user's ``model.predict(inputs)`` does; a layer alone is called.

    Args:
        model: A model or layer.
        inputs: An array, frame or list of texts; a tuple, list or dictionary of arrays for a model
            of several inputs.

    Returns:
        numpy arrays, in tuples, lists and dictionaries as the model has them.
    """
    keras = the_keras()
    given = _given(model, inputs)
    if isinstance(model, keras.Model):
        return _plain(model.predict(given, verbose=0), keras)
    return _plain(model(given), keras)


def _given(model: Any, inputs: Any) -> Any:
    if isinstance(inputs, list) and inputs and all(isinstance(item, str) for item in inputs):
        return _texts(inputs)
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "UO":
        return _texts(inputs)
    if isinstance(inputs, tuple) and type(getattr(model, "_inputs_struct", None)) is list:
        return list(inputs)
    if isinstance(inputs, Mapping):
        return {name: _given(None, value) for name, value in inputs.items()}
    return inputs


def _texts(inputs: Any) -> Any:
    """Return texts as TensorFlow's, in which every layer that takes texts computes."""
    tensorflow = import_extra("tensorflow", needed_for="a layer that takes texts")
    return tensorflow.constant(inputs if isinstance(inputs, list) else inputs.tolist())


def _plain(value: Any, keras: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item, keras) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, keras) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if hasattr(value, "to_tensor") and hasattr(value, "row_splits"):  # ragged
        return value.to_tensor().numpy()
    return np.asarray(keras.ops.convert_to_numpy(value))


@contextmanager
def steady(model: Any) -> Iterator[None]:
    """Seed the generators; restore them and everything that a call may change on exit.

    A call may move the state of recurrent layers, counters and generators: all variables that are
    not trained are put back.
    """
    _unalias(model)
    kept = {
        path: (variable, np.array(array_of(variable)))
        for path, variable in variables_of(model).items()
        if "optimizer/" not in path and _moves(variable)
    }
    states = (random.getstate(), np.random.get_state())  # noqa: NPY002 - it is the global one
    try:
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002
        with _global_generator():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for variable, array in kept.values():
            if not np.array_equal(array_of(variable), array, equal_nan=array.dtype.kind == "f"):
                variable.assign(array)


def _unalias(model: Any) -> None:
    """Give each variable an array of its own.

    After a fit with averaged weights two variables have one array, which a call under JAX takes
    away from both and gives back to one.
    """
    seen: set[int] = set()
    for variable in variables_of(model).values():
        if id(variable.value) in seen:
            variable.assign(np.array(array_of(variable)))
        seen.add(id(variable.value))


def _moves(variable: Any) -> bool:
    """Say whether a call may change a variable: frozen weights are large, and not changed."""
    return not variable.trainable and variable.name not in ("kernel", "bias", "embeddings")


@contextmanager
def _global_generator() -> Iterator[None]:
    """Seed the generator of layers that have none of their own, where there is one by now."""
    state = import_extra("keras.src.backend.common.global_state", needed_for=_NEEDED_FOR)
    generator = state.get_global_attribute("global_seed_generator")
    if generator is None:
        yield
        return
    before = np.array(array_of(generator.state))
    try:
        generator.state.assign(np.array([_SEED, 0], before.dtype))
        yield
    finally:
        generator.state.assign(before)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Make inputs of the model's own shapes and dtypes; None where they are not known.

    Numbers are zeros and ones where a layer looks them up in a table, else standard normal.
    Dimensions that are left open have 12 places.

    Returns:
        An array of shape (rows, …), or a tuple, list or dictionary of them.
    """
    keras = the_keras()
    struct = getattr(model, "_inputs_struct", None)
    if struct is None and isinstance(model, keras.Sequential) and model.built:
        struct = model.inputs[0] if len(model.inputs) == 1 else None
    if struct is None:
        return _by_build_shape(model, rows, seed, keras)
    looked_up = any(type(layer).__name__ in _TABLES for layer in _layers(model))
    draw = np.random.default_rng(seed)
    return keras.tree.map_structure(
        lambda each: _drawn(draw, each.shape, each.dtype, rows, looked_up=looked_up), struct
    )


_TABLES: Final = frozenset({"Embedding", "ReversibleEmbedding", "IntegerLookup", "CategoryEncoding",
                            "Hashing"})  # fmt: skip


def _layers(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _by_build_shape(model: Any, rows: int, seed: int, keras: Any) -> Any | None:
    """Make inputs of the shape with which a model or layer of another kind was built."""
    built = (model.get_build_config() or {}) if hasattr(model, "get_build_config") else {}
    shape = built.get("input_shape")
    if not isinstance(shape, list | tuple) or not shape:
        return None
    if not all(isinstance(size, int | None) for size in shape):
        return None
    looked_up = any(
        isinstance(layer, keras.layers.Embedding) for layer in _layers(model)
    ) or isinstance(model, keras.layers.Embedding)
    return _drawn(np.random.default_rng(seed), shape, "float32", rows, looked_up=looked_up)


def _drawn(draw: Any, shape: Any, dtype: str, rows: int, *, looked_up: bool) -> Any:
    sizes = (rows, *(_OPEN if size is None else int(size) for size in shape[1:]))
    if dtype == "string":
        return np.array(_WORDS, dtype=object)[draw.integers(0, len(_WORDS), sizes)]
    if looked_up or "int" in dtype or dtype == "bool":
        return draw.integers(0, 2, sizes).astype("float32" if "float" in dtype else dtype)
    return draw.standard_normal(sizes).astype("float32" if dtype == "bfloat16" else dtype)
