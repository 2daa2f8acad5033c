"""Judging a Keras configuration against a closed table, before Keras sees any of it.

Keras builds a model from a tree in which every object says its module and class, and would import
what the tree names. Here each name must be one of Keras' own in ``types.json``
(``tools/list_keras_types.py``) or one that the running program registered; what is handed on is
written anew from what was judged. Source of the format: ``keras/src/saving/serialization_lib.py``.
"""

from __future__ import annotations

import builtins
import json
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, NoReturn

from holdfast.errors import Corrupt, EnvironmentMismatch, UnsafeContent

__all__ = ["Judged", "is_of_keras", "judge", "parse"]

_MOST_BYTES: Final = 256 << 20
_MOST_PARTS: Final = 2_000_000
_MOST_OBJECTS: Final = 100_000
_DEEPEST: Final = 150
_MOST_NUMBER: Final = 1 << 63
# Steps that a recurrent layer may write out one by one.
_MOST_UNROLLED: Final = 10_000
# Numbers by which a layer would repeat itself while it is built.
_BOUNDS: Final = {"ngrams": 64, "num_oov_indices": 1 << 20}
_SHAPES: Final = frozenset({"batch_shape", "batch_input_shape", "shape", "input_shape"})
_DTYPE: Final = re.compile(r"bool|string|u?int[0-9]{1,2}|b?float[0-9]{1,2}(_e[0-9a-z]{1,8})?")

# Where older releases kept classes that have no public name.
_MOVED: Final = {
    ("keras.engine.functional", "Functional"): "keras.src.models.functional",
    ("keras.src.engine.functional", "Functional"): "keras.src.models.functional",
    ("keras.models", "Functional"): "keras.src.models.functional",
    ("keras.models", "Sequential"): "keras",
    ("keras.models", "Model"): "keras",
}
# Under PyTorch an optimizer is of a class of its backend.
_OF_BACKENDS: Final = re.compile(r"keras\.src\.backend\.[a-z]{1,20}\.optimizers\.")
# Python's own functions; by the module "builtins" Keras means any function.
_BUILTINS: Final = frozenset(dir(builtins))
# Packages of which a file names no part but what is in the table.
_FOREIGN: Final = frozenset({"keras", "keras_hub", "numpy", "tensorflow", "torch"})

REGISTER: Final = (
    '@keras.saving.register_keras_serializable("mine")  # above the class or function, whose\n'
    "# module is imported before saving, and before loading"
)
_OWN_LAYER: Final = (
    '@keras.saving.register_keras_serializable("mine")\n'
    "class Step(keras.layers.Layer): ...  # its call() does what the code did; use Step() instead"
)


@dataclass(slots=True)
class Judged:
    """A configuration that names nothing but what is known.

    Attributes:
        config: Written anew from what was judged.
        classes: What it names of Keras, ``module.name``, each once, the model's first.
        custom: Names of the program's own registered classes and functions, each once.
    """

    config: Any = None
    classes: dict[str, None] = field(default_factory=dict)
    custom: dict[str, None] = field(default_factory=dict)


def _read() -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    text = resources.files("holdfast.frameworks.keras").joinpath("types.json").read_text("utf-8")
    table = json.loads(text)
    return tuple(  # type: ignore[return-value]
        {module: frozenset(names) for module, names in table[part].items()}
        for part in ("classes", "functions")
    )


_CLASSES, _FUNCTIONS = _read()
# Also by what they were called before.
_ACTIVATIONS: Final = _FUNCTIONS["keras.activations"] | {"hard_swish", "softsign", "swish"}
_NAMES: Final = frozenset(name for names in _CLASSES.values() for name in names)


def is_of_keras(module: Any, name: Any) -> bool:
    """Say whether the table has a class of Keras by this module and name."""
    texts = isinstance(module, str) and isinstance(name, str)
    return texts and name in _CLASSES.get(module, ())


def parse(data: bytes | memoryview, what: str) -> Any:
    """Read JSON in which no name is there twice.

    Args:
        data: UTF-8.
        what: What it is, for messages.

    Raises:
        Corrupt: It is not JSON, too large or nested too deeply.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Corrupt(f"{what} names something twice")
        return found

    if len(data) > _MOST_BYTES:
        raise Corrupt(f"{what} has {len(data):,} bytes, more than {_MOST_BYTES:,}")
    try:
        return json.loads(str(data, "utf-8"), object_pairs_hook=once)
    except Corrupt:
        raise
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is not JSON: {error!s:.200}") from error


def judge(config: Any, registered: Collection[str], *, strangers: bool = False) -> Judged:
    """Judge a configuration, as read from its JSON.

    Args:
        config: The tree.
        registered: Names under which the program registered classes and functions with Keras.
        strangers: Let classes pass that could be the program's own and are not registered: when
            a live model is described, where they exist.

    Raises:
        UnsafeContent: It holds code, or names what is no part of a model; nothing was run.
        EnvironmentMismatch: It needs a class or function that the program did not register.
        Corrupt: It is no configuration, or beyond a limit.
    """
    walk = _Walk(registered, strangers=strangers)
    walk.found.config = walk.part(config, "config", 0)
    walk.refuse_unrolled()
    return walk.found


class _Walk:
    def __init__(self, registered: Collection[str], *, strangers: bool) -> None:
        self.found = Judged()
        self._registered = registered
        self._strangers = strangers
        self._parts = _MOST_PARTS
        self._objects = _MOST_OBJECTS
        self._unrolls = False
        self._longest = 0

    def part(self, item: Any, where: str, depth: int) -> Any:
        """Judge anything; return it written anew."""
        self._parts -= 1
        if self._parts < 0 or depth > _DEEPEST:
            raise Corrupt(f"a Keras configuration is larger than is read here ({where[-100:]})")
        if isinstance(item, dict):
            if "class_name" in item:
                return self._object(item, where, depth)
            return self._members(item, where, depth)
        if isinstance(item, list):
            return [self.part(each, f"{where}[{i}]", depth + 1) for i, each in enumerate(item)]
        if isinstance(item, int) and abs(item) >= _MOST_NUMBER:
            raise Corrupt(f"{where[-100:]} is a number beyond 64 bits")
        return item

    def _members(self, item: dict[str, Any], where: str, depth: int) -> dict[str, Any]:
        for name in item.keys() & _BOUNDS.keys():
            if isinstance(item[name], int) and item[name] > _BOUNDS[name]:
                raise Corrupt(f"{where[-100:]}.{name} is {item[name]}, which no model needs")
        for name in item.keys() & _SHAPES:
            sizes = item[name] if isinstance(item[name], list) else ()
            self._longest = max([self._longest, *(n for n in sizes if isinstance(n, int))])
        self._unrolls = self._unrolls or item.get("unroll") is True
        return {
            name: self.part(value, f"{where}.{name[:60]}", depth + 1)
            for name, value in item.items()
        }

    def refuse_unrolled(self) -> None:
        """Refuse recurrent layers that would write out a step for every place of a huge shape."""
        if self._unrolls and self._longest > _MOST_UNROLLED:
            raise Corrupt(f"a recurrent layer unrolls over {self._longest:,} steps")

    def _object(self, item: dict[str, Any], where: str, depth: int) -> dict[str, Any]:
        name, config = item["class_name"], item.get("config")
        self._objects -= 1
        if self._objects < 0:
            raise Corrupt(f"a Keras configuration has more than {_MOST_OBJECTS:,} objects")
        if not isinstance(name, str):
            raise Corrupt(f"{where[-100:]} names a class by something that is no text")
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            where = repr(config["name"][:60])
        if name.startswith("__"):
            return {"class_name": name, "config": self._data(name, config, where, depth)}
        module = item.get("module")
        if module is not None and not isinstance(module, str):
            raise Corrupt(f"{where[-100:]} names a module by something that is no text")
        registered = item.get("registered_name")
        if registered is not None and not isinstance(registered, str):
            raise Corrupt(f"{where[-100:]} is registered under something that is no text")
        if name == "function":
            return self._function(module, config, where)
        own = self._name(module, name, registered, where)
        if isinstance(config, dict):
            _refuse_path(config.get("vocabulary"), where)
            if own["registered_name"] is None:
                self._functions_by_name(config, where)
        rest = {key: value for key, value in item.items() if key not in own}
        return {**own, **self._members(rest, where, depth)}

    def _name(
        self, module: str | None, name: str, registered: str | None, where: str
    ) -> dict[str, Any]:
        """Judge what an object is of; return the three fields that say so."""
        module = _MOVED.get((module or "", name), module)
        if module and _OF_BACKENDS.match(module):
            module, registered = "keras.optimizers", None
        wanted = registered or name
        own: dict[str, Any] = {"module": module, "class_name": name, "registered_name": registered}
        if wanted in self._registered:  # Keras looks there first
            self.found.custom[wanted] = None
            return own | {"registered_name": wanted}
        known = _CLASSES.get(module, frozenset()) if module else _NAMES
        if registered in (None, name) and name in known:
            self.found.classes[f"{module}.{name}" if module else name] = None
            return own | {"registered_name": None}
        if not self._strangers or self._is_foreign(module, name):
            self._refuse(module, name, wanted, where)
        self.found.custom[wanted] = None
        return own

    def _is_foreign(self, module: str | None, name: str) -> bool:
        """Say whether something is known to be no class of the program's own."""
        top = (module or "").partition(".")[0]
        standard = sys.stdlib_module_names - {"__main__", "builtins"}
        builtin = top == "builtins" and name in _BUILTINS
        return builtin or top in _FOREIGN or top in standard or name.rpartition(">")[2] in _CODE

    def _refuse(self, module: str | None, name: str, wanted: str, where: str) -> NoReturn:
        """Refuse a class or function that is neither Keras' nor registered."""
        said = f"{module}.{name}"[:120] if module else wanted[:120]
        code = _CODE.get(name.rpartition(">")[2])
        if code:
            raise UnsafeContent(f"UNSAFE  {where[-100:]} {code}. Nothing was run.", hint=_OWN_LAYER)
        if self._is_foreign(module, name):
            raise UnsafeContent(
                f"UNSAFE  {where[-100:]} names {said}, which is no part of a model. Nothing was "
                "imported or run.",
                hint=REGISTER,
            )
        raise EnvironmentMismatch(
            f"Needs {wanted[:120]} (in {where[-100:]}), which this program did not register "
            "with Keras; Holdfast imports nothing that a file names.",
            hint=f"import {module or 'the_module'}  # with register_keras_serializable above "
            f'{name[:60]}\nholdfast.load("REF")  # or into= a model of the same layers',
        )

    def _function(self, module: str | None, config: Any, where: str) -> dict[str, Any]:
        if not isinstance(config, str):
            raise Corrupt(f"{where[-100:]} names a function by something that is no text")
        own = {"module": module, "class_name": "function", "config": config}
        # Keras up to 3.6 wrote the name of a registered function without its package.
        own_name = next(
            (n for n in self._registered if n == config or n.endswith(f">{config}")), None
        )
        if own_name is not None and config not in _FUNCTIONS.get(module or "", ()):
            self.found.custom[own_name] = None
            return own | {"config": own_name, "registered_name": own_name}
        if module is None or config not in _FUNCTIONS.get(module, ()):
            self._refuse(module, config, config, where)
        self.found.classes[f"{module}.{config}"] = None
        return own | {"registered_name": config}

    def _functions_by_name(self, config: dict[str, Any], where: str) -> None:
        """Judge functions of which layers of Keras keep the name alone, whosever they are."""
        for key, value in config.items():
            if not key.endswith("activation") or not isinstance(value, str | dict):
                continue
            if value == "<lambda>" or (isinstance(value, dict) and "class_name" not in value):
                raise UnsafeContent(
                    f"UNSAFE  {where[-100:]} holds a Python function without a name as its {key}. "
                    "Nothing was run.",
                    hint=REGISTER,
                )
            if isinstance(value, dict):
                continue
            if value in self._registered:
                self.found.custom[value] = None
            elif value not in _ACTIVATIONS:
                self._refuse(None, value, value, where)

    def _data(self, name: str, config: Any, where: str, depth: int) -> Any:
        """Judge what is a value and no object: an array, bytes, a slice."""
        if name in ("__tensor__", "__numpy__"):
            dtype = config.get("dtype") if isinstance(config, dict) else None
            if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
                raise Corrupt(f"{where[-100:]} is an array of no known dtype")
        elif name == "__bytes__":
            if not isinstance(config, dict) or not isinstance(config.get("value"), str):
                raise Corrupt(f"{where[-100:]} is bytes without a text")
        elif name not in ("__slice__", "__ellipsis__", "__keras_tensor__"):
            what = _CODE.get(name, f"holds a {name[:60]}, which is not known")
            raise UnsafeContent(f"UNSAFE  {where[-100:]} {what}. Nothing was run.", hint=_OWN_LAYER)
        return self.part(config, f"{where}.config", depth + 1)


# Classes that run code from the file or from beside it.
_CODE: Final = {
    "Lambda": "is a Lambda layer, which holds Python code",
    "__lambda__": "holds the bytecode of a Python function",
    "__typespec__": "looks up a class of TensorFlow by its name",
    "FlaxLayer": "is a FlaxLayer, which calls a module of the program",
    "JaxLayer": "is a JaxLayer, which calls a function of the program",
    "TFOpLambda": "is a TFOpLambda, which calls a function of TensorFlow by its name",
    "TFSMLayer": "is a TFSMLayer, which runs the SavedModel at a path",
    "TensorFlowOpLayer": "is a TensorFlowOpLayer, which runs an operator by its name",
    "TorchModuleWrapper": "is a TorchModuleWrapper, which unpickles a PyTorch module",
}


def _refuse_path(vocabulary: Any, where: str) -> None:
    if isinstance(vocabulary, str):
        raise UnsafeContent(
            f"UNSAFE  {where[-100:]} would read its vocabulary from {vocabulary[:100]!r}. Nothing "
            "was read.",
            hint="StringLookup(vocabulary=open(path).read().splitlines())  # the words themselves",
        )
