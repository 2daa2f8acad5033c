"""The closed set of node kinds and of the classes that may appear as values.

Imports nothing it reads about beyond numpy's own scalar classes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np

__all__ = [
    "BUILTINS",
    "COLUMN_FROM",
    "CONTAINERS",
    "FILE",
    "IMMUTABLE",
    "LEAVES",
    "MAX_NODES",
    "MUTABLE",
    "NUMPY_TYPES",
    "OBJECT",
    "TENSOR_KINDS",
]

MAX_NODES: Final = 5_000_000

# Lists of one plain type become one node from this length on.
COLUMN_FROM: Final = 8

# The dtype of arrays of objects, which only a dtype as a value can be.
OBJECT: Final = "|O"

LEAVES: Final = frozenset(
    {
        "none", "bool", "int", "float", "complex", "str", "wtf8", "ellipsis", "scalar", "dtype",
        "nptype", "builtin", "strings",
    }
)  # fmt: skip
TENSOR_KINDS: Final = frozenset({"bytes", "bytearray", "ints", "floats", "array", "buffer"})
FILE: Final = "file"
MUTABLE: Final = frozenset({"list", "dict", "textdict", "ordereddict", "set", "objects"})
IMMUTABLE: Final = frozenset({"tuple", "frozenset", "slice", "range"})
CONTAINERS: Final = MUTABLE | IMMUTABLE | {"object"}

BUILTINS: Final[dict[str, type]] = {
    "OrderedDict": OrderedDict, "bool": bool, "bytes": bytes, "complex": complex, "dict": dict,
    "float": float, "int": int, "list": list, "object": object, "set": set, "str": str,
    "tuple": tuple,
}  # fmt: skip

NUMPY_TYPES: Final[dict[str, type]] = {
    name: getattr(np, name)
    for name in (
        "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128", "str_", "bytes_",
        "datetime64", "timedelta64", "object_", "number", "integer", "floating", "generic",
        "ndarray",
    )
}  # fmt: skip
