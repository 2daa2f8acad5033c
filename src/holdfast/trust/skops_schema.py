"""Judging the schema of a skops file: the types it names, and whether nodes are what they say.

skops builds every node by the reader that the node's ``__loader__`` names, after comparing its
``__module__`` and ``__class__`` with a list of trusted types. Every hole it had was a node whose
reader made something else of it than what was compared. Source of the format: ``skops/io`` of
skops-dev/skops, ``_general.py``, ``_numpy.py``, ``_sklearn.py``, ``_scipy.py``.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["SkopsSchema", "judge"]

_MOST_NODES: Final = 5_000_000
_MOST_TYPES: Final = 2_000
_PROTOCOLS: Final = range(3)

# Reader to the classes it makes; None: what the node names is built by its class.
_LOADERS: Final[dict[str, frozenset[str] | None]] = {
    "BytearrayNode": frozenset({"builtins:bytearray"}),
    "BytesNode": frozenset({"builtins:bytes"}),
    "CachedNode": None,
    "ConstructorFromReduceNode": None,
    "DTypeNode": None,
    "DefaultDictNode": frozenset({"collections:defaultdict"}),
    "DictNode": None,
    "FunctionNode": None,
    "JsonNode": frozenset({f"builtins:{name}" for name in ("str", "int", "float", "bool")}),
    "ListNode": frozenset({"builtins:list"}),
    "LossNode": None,
    "MaskedArrayNode": frozenset({"numpy.ma:MaskedArray", "numpy.ma.core:MaskedArray"}),
    "MethodNode": None,
    "NdArrayNode": None,
    "ObjectNode": None,
    "OperatorFuncNode": None,
    "PartialNode": frozenset({"functools:partial"}),
    "QuantileForestNode": None,
    "RandomGeneratorNode": frozenset({"numpy.random._generator:Generator"}),
    "RandomStateNode": frozenset({"numpy.random.mtrand:RandomState", "numpy.random:RandomState"}),
    "SetNode": frozenset({"builtins:set"}),
    "SliceNode": frozenset({"builtins:slice"}),
    "SparseMatrixNode": None,
    "TreeNode": frozenset({"sklearn.tree._tree:Tree"}),
    "TupleNode": frozenset({"builtins:tuple"}),
    "TypeNode": None,
}
# Readers whose class must come from one package.
_PACKAGES: Final = {
    "DTypeNode": "numpy", "LossNode": "sklearn", "NdArrayNode": "numpy",
    "OperatorFuncNode": "operator", "QuantileForestNode": "quantile_forest",
    "SparseMatrixNode": "scipy",
}  # fmt: skip
# Readers that call something of what they build.
_CALLERS: Final = {
    "ConstructorFromReduceNode": "would call a constructor by its name",
    "MethodNode": "would look up a method by its name",
    "OperatorFuncNode": "would look up a function of operator by its name",
}
_BIT_GENERATORS: Final = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_PLAIN: Final = frozenset(
    {f"builtins:{name}" for name in (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
        "range", "set", "slice", "str", "tuple",
    )}
    | {f"numpy:{name}" for name in (
        "bool", "bool_", "bytes_", "complex128", "complex64", "datetime64", "dtype", "float16",
        "float32", "float64", "int16", "int32", "int64", "int8", "ndarray", "object_", "str_",
        "timedelta64", "uint16", "uint32", "uint64", "uint8", "void",
    )}
    | {"collections:OrderedDict", "collections:defaultdict"}
)  # fmt: skip


@dataclass(slots=True)
class SkopsSchema:
    """What a schema names.

    Attributes:
        types: Types and functions, ``module.name``, each once.
        unknown: Those that are not known to be data.
        lies: Nodes whose reader is not the one for what they name, and other tricks, in words.
        faults: What is damaged.
        notes: What is worth knowing.
        version: Of skops.
        sklearn: Version of scikit-learn that an estimator in it was fitted with, or None.
        protocol: Of the format, or None.
    """

    types: dict[str, None] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    lies: dict[str, None] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    version: str | None = None
    sklearn: str | None = None
    protocol: int | None = None


def judge(schema: Any, known: Container[str]) -> SkopsSchema:
    """List what a schema, as read from its JSON, would have skops build.

    Args:
        schema: The document.
        known: Types and functions that are data beside plain ones, ``module:name``.
    """
    found = SkopsSchema()
    if not isinstance(schema, dict):
        found.faults["the schema is no object"] = None
        return found
    version, protocol = schema.get("_skops_version"), schema.get("protocol")
    found.version = version[:40] if isinstance(version, str) else None
    if isinstance(protocol, int) and protocol in _PROTOCOLS:
        found.protocol = protocol
    else:
        found.faults[f"it claims the protocol {protocol!r:.40}"] = None
    if protocol in (0, 1):
        found.notes["it asks for readers of an older protocol, whose checks are weaker"] = None
    for node in _objects(schema, found):
        _node(node, found, known)
    return found


def _objects(schema: Any, found: SkopsSchema) -> Iterator[dict[str, Any]]:
    todo = [schema]
    for _ in range(_MOST_NODES):
        if not todo:
            return
        item = todo.pop()
        if isinstance(item, dict):
            yield item
            todo.extend(v for v in reversed(item.values()) if isinstance(v, dict | list))
            _fitted_with(item.get("_sklearn_version"), found)
        elif isinstance(item, list):
            todo.extend(v for v in reversed(item) if isinstance(v, dict | list))
    found.faults[f"it has more than {_MOST_NODES} nodes"] = None


def _fitted_with(node: Any, found: SkopsSchema) -> None:
    content = node.get("content") if isinstance(node, dict) else None
    if found.sklearn is None and isinstance(content, str) and len(content) < 40:
        try:
            version = json.loads(content)
        except ValueError:
            return
        found.sklearn = version if isinstance(version, str) else None


def _node(node: dict[str, Any], found: SkopsSchema, known: Container[str]) -> None:
    loader, module, name = (node.get(f"__{key}__") for key in ("loader", "module", "class"))
    if loader is None and module is None and name is None:
        return
    if not (isinstance(loader, str) and isinstance(module, str) and isinstance(name, str)):
        found.faults["a node does not say what it is"] = None
        return
    key, shown = f"{module}:{name}", f"{module}.{name}"[:200]
    _name(key, found, known)
    if loader not in _LOADERS:
        _tell(found.lies, f"there is no reader {loader[:60]!r}")
        return
    made, package = _LOADERS[loader], _PACKAGES.get(loader)
    if (made is not None and key not in made) or (package and module.split(".")[0] != package):
        _tell(found.lies, f"{shown} would be made by {loader}, the reader of something else")
    if loader in _CALLERS:
        _tell(found.lies, f"{shown}: {_CALLERS[loader]} ({loader})")
    _name_inside(loader, node.get("content"), found, known)


def _name(key: str, found: SkopsSchema, known: Container[str]) -> None:
    shown = key.replace(":", ".", 1)[:200]
    _tell(found.types, shown)
    if key not in known and key not in _PLAIN:
        _tell(found.unknown, shown)


def _name_inside(loader: str, content: Any, found: SkopsSchema, known: Container[str]) -> None:
    """Judge what a reader looks up by a name that stands in the content, and not in the node.

    Functions of protocol 0 are such, and the bit generator inside numpy's Generator.
    """
    if not isinstance(content, dict):
        return
    if loader == "FunctionNode" and "module_path" in content:
        _name(f"{content['module_path']!s:.100}:{content.get('function')!s:.100}", found, known)
    if loader != "RandomGeneratorNode":
        return
    try:
        name = json.loads(content["bit_generator"]["content"]["bit_generator"]["content"])
    except (KeyError, TypeError, ValueError):
        name = None
    if name not in _BIT_GENERATORS:
        _tell(found.lies, f"would call {name!s:.60} of numpy.random as a bit generator")


def _tell(where: dict[str, None], what: str) -> None:
    if len(where) < _MOST_TYPES:
        where[what] = None
