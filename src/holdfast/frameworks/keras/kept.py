"""A Keras layer or model as it is kept: its configuration as JSON, its variables as tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.codec.tensors import FileData, TensorView
from holdfast.errors import Corrupt
from holdfast.frameworks.keras import build as keras_build, state as keras_state
from holdfast.frameworks.keras.imported import the_keras
from holdfast.frameworks.keras.judge import parse

__all__ = ["SPEC", "Stored", "build_model", "own_state", "set_own_state", "stored_of"]

# Attributes that are not compared: they change while a model is trained or called; names stand in
# the configuration, and are counted up where a layer makes others.
_RUNNING: Final = frozenset(
    {
        "name", "predict_function", "stop_evaluating", "stop_predicting", "stop_training",
        "test_function", "train_function",
    }
)  # fmt: skip
# What a layer makes its bins of, and forgets at the next adapt.
_SKETCH: Final = ("Discretization", "summary")
_PLAIN: Final = (bool, int, float, str, type(None))


class Stored(NamedTuple):
    """What is stored of a model, read and checked for its types.

    Attributes:
        config: Its configuration, not judged yet.
        variables: Tensors by path.
        vocabularies: Words of lookup layers by path.
        own: What layers of the program's own keep beside their variables, by path and name.
    """

    config: Any
    variables: dict[str, TensorView]
    vocabularies: dict[str, dict[str, Any]]
    own: dict[str, dict[str, Any]]


def _encode(model: Any) -> dict[str, Any]:
    config = keras_build.describe(model)
    text = json.dumps(config, indent=1, ensure_ascii=False)
    variables = keras_state.variables_of(model)
    fields = {
        "config": FileData(".json", text.encode()),
        "variables": {
            path: keras_state.tensor_of(path, variable) for path, variable in variables.items()
        },
        "vocabularies": keras_state.vocabularies_of(model),
        "own": own_state(model),
    }
    return {name: value for name, value in fields.items() if value or name == "config"}


def own_state(model: Any) -> dict[str, dict[str, Any]]:
    """Return what layers of the program's own write with ``save_own_variables``, by path."""
    found: dict[str, dict[str, Any]] = {}
    for path, part in keras_state.parts_of(model):
        if _overrides(part, "save_own_variables"):
            store: dict[str, Any] = {}
            part.save_own_variables(store)
            if store:
                found[path] = {str(name): _array(value) for name, value in store.items()}
    return found


def _array(value: Any) -> Any:
    if hasattr(value, "assign"):  # a variable
        return np.array(keras_state.array_of(value))
    keras = the_keras()
    return np.array(keras.ops.convert_to_numpy(value))


def _overrides(part: Any, name: str) -> bool:
    method = getattr(type(part), name, None)
    module = getattr(method, "__module__", "keras")
    return module is not None and module.partition(".")[0] != "keras"


def set_own_state(model: Any, stored: Mapping[str, Mapping[str, Any]]) -> None:
    """Have layers of the program's own read what they wrote.

    Raises:
        Corrupt: There is no such layer, or it does not take it.
    """
    parts = dict(keras_state.parts_of(model)) if stored else {}
    for path, store in stored.items():
        part = parts.get(path)
        if part is None or not _overrides(part, "load_own_variables"):
            raise Corrupt(f"no layer {path[:100]!r} of the program's own reads a state")
        try:
            part.load_own_variables(dict(store))
        except Exception as error:
            raise Corrupt(f"{path[:100]} does not take its state: {error!s:.200}") from error


def stored_of(fields: Mapping[str, Any]) -> Stored:
    """Return what a node's fields hold.

    Raises:
        Corrupt: A field has the wrong type.
    """
    variables = _table(fields, "variables", TensorView)
    vocabularies = _table(fields, "vocabularies", dict)
    own = _table(fields, "own", dict)
    for words in vocabularies.values():
        tokens, weights = words.get("tokens"), words.get("idf")
        texts = type(tokens) is list and all(type(token) in (str, int) for token in tokens)
        if not texts or not (weights is None or type(weights) is np.ndarray):
            raise Corrupt("a vocabulary is not a list of words")
    config = fields["config"]
    if not isinstance(config, memoryview):
        raise Corrupt("the configuration of a model is no file")
    return Stored(parse(config, "the configuration of a Keras model"), variables, vocabularies, own)


def _table(fields: Mapping[str, Any], name: str, kind: type) -> dict[str, Any]:
    table = fields.get(name, {})
    right = type(table) is dict and all(
        type(key) is str and isinstance(value, kind) for key, value in table.items()
    )
    if not right:
        raise Corrupt(f"the {name} of a model are not a table by path")
    return dict(table)


def build_model(fields: Mapping[str, Any]) -> Any:
    """Build a model and give it its numbers.

    Raises:
        MissingExtra: Keras, or TensorFlow for a layer that needs it, is not installed.
        UnsafeContent: The configuration holds code or names what is no part of a model.
        EnvironmentMismatch: It needs a class that the program did not register.
        PartialLoad: Its variables are not those stored.
        Corrupt: Keras makes no model of it.
    """
    stored = stored_of(fields)
    items = keras_build.items_of(stored.variables)
    model = keras_build.build(stored.config, items)
    fill(model, stored)
    return model


def fill(model: Any, stored: Stored) -> None:
    """Give a model what is stored: all of it, or none where variables do not match.

    Raises:
        PartialLoad: Its variables are not those stored.
        Corrupt: A vocabulary or a state of the program's own does not fit.
    """
    targets = keras_state.variables_of(model)
    variables = stored.variables
    if not getattr(model, "compiled", False):
        variables = {p: v for p, v in variables.items() if not p.startswith("optimizer/")}
    keras_state.assign(targets, variables)
    set_own_state(model, stored.own)
    keras_state.set_vocabulary(model, stored.vocabularies)


def _state(model: Any) -> dict[str, Any]:
    variables = keras_state.without_unused(keras_state.variables_of(model))
    return {
        "config": keras_build.describe(model),
        "variables": {path: keras_state.array_of(each) for path, each in variables.items()},
        "vocabularies": keras_state.vocabularies_of(model),
        "own": own_state(model),
        "trainable": {path: bool(each.trainable) for path, each in variables.items()},
        "attributes": _attributes(model),
    }


def _attributes(model: Any) -> dict[str, dict[str, Any]]:
    """Return what instances carry in plain attributes of the program's own, by path."""
    keras = the_keras()
    found: dict[str, dict[str, Any]] = {}
    for path, part in keras_state.parts_of(model):
        if not isinstance(part, keras.layers.Layer):
            continue
        found[path] = {
            name: _as_json(value)
            for name, value in vars(part).items()
            if not name.startswith("_")
            and name not in _RUNNING
            and (type(part).__name__, name) != _SKETCH
            and _is_plain(value)
        }
    return found


def _as_json(value: Any) -> Any:
    """Write tuples as lists, which they become in a configuration."""
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value


def _is_plain(value: Any, depth: int = 0) -> bool:
    if type(value) in (list, tuple) and depth < 20:
        return all(_is_plain(item, depth + 1) for item in value)
    if type(value) is dict and depth < 20:
        return all(type(k) is str and _is_plain(v, depth + 1) for k, v in value.items())
    return type(value) in _PLAIN or type(value) is np.ndarray


def _layer_class() -> type:
    kind: type = the_keras().layers.Layer
    return kind


def _is_layer(model: object) -> bool:
    return isinstance(model, _layer_class())


SPEC: Final = TypeSpec(
    id="keras.Layer",
    locate=_layer_class,
    classes=("keras.src.models.sequential:Sequential", "keras.src.models.functional:Functional"),
    encode=_encode,
    build=build_model,
    fields=frozenset({"config", "variables", "vocabularies", "own"}),
    required=frozenset({"config"}),
    transparent=frozenset({"variables"}),
    state=_state,
    accepts=_is_layer,
)
