"""Write the table of Keras' own classes and functions that a model's configuration may name.

Run it under each supported release, oldest first, and review the difference; names are only ever
added, so that files of every release stay readable::

    python tools/list_keras_types.py

What could run code, load a file or call an arbitrary function is left out by hand, below.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
from keras.src import api_export
from keras.src.saving.keras_saveable import KerasSaveable

TABLE = Path(__file__).parents[1] / "src/holdfast/frameworks/keras/types.json"

# Public modules whose classes are parts of models.
PUBLIC = (
    "keras", "keras._legacy.layers", "keras.constraints", "keras.distillation",
    "keras.dtype_policies", "keras.initializers", "keras.layers", "keras.losses", "keras.metrics",
    "keras.optimizers", "keras.optimizers.schedules", "keras.quantizers", "keras.random",
    "keras.regularizers",
)  # fmt: skip
# Of the module "keras" itself only these.
ROOT = {"DTypePolicy", "FloatDTypePolicy", "InputSpec", "Model", "Sequential"}
# Classes without a public name, which configurations name by their place in the source.
PRIVATE = (
    "keras.src.activations.", "keras.src.applications.",
    "keras.src.layers.preprocessing.feature_space", "keras.src.models.functional",
    "keras.src.ops.",
)  # fmt: skip
# Layers that hold code or open files; operations that call a function of their configuration.
REFUSED = {
    "AssociativeScan", "Cond", "CustomGradient", "FlaxLayer", "ForiLoop", "JVP", "JaxLayer",
    "Lambda", "Map", "Scan", "Switch", "TFSMLayer", "TorchModuleWrapper", "VectorizedMap",
    "Vectorize", "WhileLoop", "Function", "Operation", "vectorize", "Cross", "Feature",
}  # fmt: skip
# Modules whose functions are named alone, as "relu"; and those of operations on arrays.
FUNCTIONS = ("keras.activations", "keras.losses", "keras.metrics")
OPERATIONS = ("keras.src.ops.nn", "keras.src.ops.numpy", "keras.src.ops.math")
# What the modules have beside.
MAKERS = {"deserialize", "get", "serialize"}


def subclasses(kind: type) -> Iterator[type]:
    """Yield the classes derived from ``kind``, however far."""
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def import_all() -> None:
    """Import every module of Keras that its own tests do not own."""
    for module in pkgutil.walk_packages(keras.src.__path__, "keras.src."):
        if module.name.startswith(PRIVATE) and not module.name.endswith("_test"):
            importlib.import_module(module.name)


def classes() -> dict[str, set[str]]:
    """Return the classes by the module that configurations name for them."""
    found: dict[str, set[str]] = {}
    for path, item in api_export.REGISTERED_NAMES_TO_OBJS.items():
        module, _, name = path.rpartition(".")
        wanted = module in PUBLIC and (module != "keras" or name in ROOT)
        if inspect.isclass(item) and wanted and name not in REFUSED:
            found.setdefault(module, set()).add(name)
    for kind in subclasses(KerasSaveable):
        public = api_export.get_name_from_symbol(kind)
        place = f"{kind.__module__}."
        if public is None and place.startswith(PRIVATE) and kind.__name__ not in REFUSED:
            found.setdefault(kind.__module__, set()).add(kind.__name__)
    return found


def functions() -> dict[str, set[str]]:
    """Return the functions by the module that configurations name for them."""
    found: dict[str, set[str]] = {}
    for path, item in api_export.REGISTERED_NAMES_TO_OBJS.items():
        module, _, name = path.rpartition(".")
        operation = module.startswith("keras.ops") and item.__module__ in OPERATIONS
        if isinstance(item, FunctionType) and name not in MAKERS | REFUSED:
            if module in FUNCTIONS:
                found.setdefault("builtins", set()).add(name)
            if module in FUNCTIONS or operation:
                found.setdefault(module, set()).add(name)
    return found


def merged(old: dict[str, list[str]], new: dict[str, set[str]]) -> dict[str, list[str]]:
    """Add names to a table; none is ever taken away."""
    return {
        module: sorted({*old.get(module, ()), *new.get(module, ())})
        for module in sorted({*old, *new})
    }


def main() -> None:
    """Add the names of the installed release to the table."""
    import_all()
    table: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    table = {
        "classes": merged(table.get("classes", {}), classes()),
        "functions": merged(table.get("functions", {}), functions()),
        "releases": sorted({*table.get("releases", ()), keras.__version__}),
    }
    text = json.dumps(table, indent=1)
    TABLE.write_text(text + "\n", encoding="utf-8")
    count = sum(map(len, table["classes"].values()))
    print(f"Keras {keras.__version__}: {count} classes in {TABLE}")


if __name__ == "__main__":
    main()
