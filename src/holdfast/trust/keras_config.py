"""Judging the configuration of a Keras model: the classes it names and the code it holds.

Keras builds a model by importing what its configuration names (``keras/src/saving/
serialization_lib.py``, ``_retrieve_class_or_fn``), so whoever writes the configuration chooses what
runs. Here every name is listed, and what is more than a layer, an optimizer or the like of Keras
itself is told.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["KerasConfig", "judge"]

_MOST_PARTS: Final = 1_900_000
_MOST_NAMES: Final = 2_000
_SHOWN: Final = 60

# Packages that are Keras, and the parts of it that make models. Others, such as ``keras.utils`` and
# ``keras.saving``, read files, fetch addresses and switch off Keras' own safety.
_ROOTS: Final = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
_PARTS: Final = frozenset(
    {
        "activations", "constraints", "distribution", "dtype_policies", "engine", "initializers",
        "layers", "losses", "metrics", "mixed_precision", "models", "ops", "optimizers",
        "quantizers", "random", "regularizers",
    }
)  # fmt: skip
# Functions are named one by one by Keras: only modules of pure functions.
_FUNCTION_PARTS: Final = frozenset({"activations", "losses", "metrics", "initializers", "ops"})

# Classes that run code from the file or from beside it, whatever module they are said to be of.
_CODE: Final = {
    "Lambda": "holds Python code (Lambda)",
    "__lambda__": "holds Python bytecode",
    "TFSMLayer": "runs a SavedModel from a path (TFSMLayer)",
    "TorchModuleWrapper": "unpickles a PyTorch module (TorchModuleWrapper)",
    "JaxLayer": "calls a function of the program (JaxLayer)",
    "FlaxLayer": "calls a module of the program (FlaxLayer)",
    "RemoteModel": "is a model at an address",
}
# Names of Keras' functions that must not be called by a file.
_GADGETS: Final = frozenset(
    {
        "enable_unsafe_deserialization", "deserialize_keras_object", "get_file", "load_img",
        "load_model", "load_weights", "model_from_json", "plot_model", "pickle", "save_model",
    }
)  # fmt: skip
# Keras means its own functions by the module "builtins"; older releases took it by its word.
_BUILTINS: Final = frozenset(dir(builtins))
# Pieces of data that Keras serializes under a class name of its own.
_DATA: Final = frozenset(
    {"__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__",
     "__typespec__", "__set__", "__keras_tensor__"}
)  # fmt: skip


@dataclass(slots=True)
class KerasConfig:
    """What a configuration names.

    Attributes:
        classes: Classes, ``module.name``, each once; the first is the model's.
        code: What would run code or reach out of the file, in words.
        custom: Classes that the program must register before Keras can build the model.
        whole: Whether all of it was judged.
    """

    classes: dict[str, None] = field(default_factory=dict)
    code: dict[str, None] = field(default_factory=dict)
    custom: dict[str, None] = field(default_factory=dict)
    whole: bool = True

    def tell(self, what: str) -> None:
        """Note something that would run code or reach out of the file."""
        if len(self.code) < _MOST_NAMES:
            self.code[what] = None


def judge(config: Any) -> KerasConfig:
    """List what a configuration, as read from its JSON, would have Keras build."""
    found = KerasConfig()
    for part in _objects(config, found):
        name = part.get("class_name")
        if isinstance(name, str):
            _class(found, part, name)
            own = part.get("config")
            _values(found, own if isinstance(own, dict) else part)
        elif isinstance(name, list | dict):
            found.tell("names a class by something that is no text")
    return found


def _objects(config: Any, found: KerasConfig) -> Iterator[dict[str, Any]]:
    """Yield every object of a configuration, outer ones first; it is bounded and not recursive."""
    todo = [config]
    for _ in range(_MOST_PARTS):
        if not todo:
            return
        item = todo.pop()
        if isinstance(item, dict):
            yield item
            todo.extend(v for v in reversed(item.values()) if isinstance(v, dict | list))
        elif isinstance(item, list):
            todo.extend(v for v in reversed(item) if isinstance(v, dict | list))
    found.whole = False


def _class(found: KerasConfig, part: dict[str, Any], name: str) -> None:
    module, registered = part.get("module"), part.get("registered_name")
    if name in _DATA:
        return
    if name == "function" and isinstance(part.get("config"), str):
        _function(found, module, part["config"])
        return
    known = f"{module}.{name}" if isinstance(module, str) and module else name
    if len(found.classes) < _MOST_NAMES:
        found.classes[known[:200]] = None
    plain = name.rpartition(">")[2].rpartition(".")[2]
    if plain in _CODE:
        found.tell(_CODE[plain])
    elif module is not None and not isinstance(module, str):
        found.tell("names a module by something that is no text")
    elif module and not _of_keras(module, _PARTS):
        found.tell(f"would import {module[:_SHOWN]}.{name[:_SHOWN]}")
    elif plain in _GADGETS:
        found.tell(f"would call {known[:_SHOWN]}")
    elif ">" in name or (isinstance(registered, str) and registered and not module):
        found.custom[str(registered or name)[:200]] = None


def _function(found: KerasConfig, module: Any, name: str) -> None:
    """Judge a function that is named; without a module it is one that the program registered."""
    if not module and name not in _GADGETS:
        found.custom[name[:200]] = None
    elif module == "builtins" and name not in _BUILTINS | _GADGETS:
        found.classes[f"keras.{name[:200]}"] = None
    elif name in _GADGETS or not (isinstance(module, str) and _of_keras(module, _FUNCTION_PARTS)):
        found.tell(f"would call {str(module)[:_SHOWN]}.{name[:_SHOWN]}")


def _of_keras(module: str, parts: frozenset[str]) -> bool:
    """Say whether a module is Keras' own and of a part that makes models."""
    root = next((root for root in _ROOTS if module == root or module.startswith(f"{root}.")), None)
    if root is None:
        return False
    inner = [part for part in module[len(root) :].split(".") if part not in ("", "src", "api")]
    return not inner or inner[0] in parts


def _values(found: KerasConfig, part: dict[str, Any]) -> None:
    """Look for code and paths among an object's own values."""
    function = part.get("function")
    if part.get("function_type") == "lambda" or (
        isinstance(function, list) and function and isinstance(function[0], str)
    ):
        found.tell(_CODE["__lambda__"])
    vocabulary = part.get("vocabulary")
    if isinstance(vocabulary, str) and vocabulary:
        found.tell(f"would read the file {vocabulary[:_SHOWN]!r} (vocabulary)")
    for key in ("filepath", "weights_path", "data_dir"):
        if isinstance(part.get(key), str) and part[key]:
            found.tell(f"would read the file {part[key][:_SHOWN]!r} ({key})")
