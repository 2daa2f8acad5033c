"""skops files as live objects, by the way that pickles take: nothing is imported by name.

A node of skops' schema says which reader makes it (``__loader__``) of which class. Here each reader
makes values of a pickle's graph, and only of the classes that it is for; what the graph names is
then looked up in the same closed tables. Source of the format: ``skops/io`` of skops-dev/skops,
``_general.py``, ``_numpy.py``, ``_scipy.py`` and ``_sklearn.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, UnsafeContent, Unsupported
from holdfast.rescue.arrays import MaskedObjects, Objects
from holdfast.rescue.building import RECIPES, built
from holdfast.rescue.graph import Graph
from holdfast.rescue.mapped import bytes_of_file
from holdfast.rescue.npz import arrays_in, member, member_array
from holdfast.trust.pickles import Call, Global, Members, Pairs
from holdfast.trust.source import Allowance, FileSource
from holdfast.trust.zips import Entry, ZipArchive, open_zip

__all__ = ["read_skops"]

_MOST_SCHEMA: Final = 256 << 20
_DEEPEST: Final = 150
_PROTOCOLS: Final = range(3)
# Modules of compiled classes whose state is a tuple; pickles make them by ``newObj``.
_NEW_OBJECTS: Final = frozenset(
    {"sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree", "sklearn.metrics._dist_metrics"}
)
_RANDOM: Final = "numpy.random._pickle"
_SPARSE: Final = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}


def read_skops(path: Path, registry: Registry) -> Any:
    """Read a skops file.

    Raises:
        UnsafeContent: A node is made by the reader of something else, or would call something.
        Unsupported: It holds something that is not known as data.
        Corrupt: It is damaged.
        EnvironmentMismatch: An estimator is of another scikit-learn than the installed one.
    """
    with FileSource(path) as source:
        archive = open_zip(source)
        if archive.faults:
            raise Corrupt(archive.faults[0][0])
        reader = _Nodes(archive, bytes_of_file(path), registry)
        schema = reader.schema()
        root = reader.node(schema)
        return built(Graph(registry, RECIPES), root, registry, "model", reader.calls)


class _Nodes:
    """Makes values of a graph of the nodes of one schema; a node with an id is made once."""

    def __init__(
        self, archive: ZipArchive, whole: np.ndarray[Any, Any], registry: Registry
    ) -> None:
        self.archive = archive
        self.whole = whole
        self.registry = registry
        self.entries = {entry.name: entry for entry in archive.entries}
        self.calls: list[Call] = []
        self._known: dict[int, Any] = {}
        self._depth = 0

    def schema(self) -> Any:
        """Return the schema, whose protocol is one that is known."""
        entry = self.entries.get("schema.json")
        if entry is None:
            raise Corrupt("it has no schema.json")
        text = self.archive.content(entry, _MOST_SCHEMA, Allowance())
        try:
            schema = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Corrupt(f"its schema is not JSON: {error!s:.80}") from error
        if not isinstance(schema, dict) or schema.get("protocol") not in _PROTOCOLS:
            raise Corrupt("its schema is of no known protocol")
        return schema

    def node(self, node: Any) -> Any:
        """Make the value of a node."""
        if not isinstance(node, dict) or not isinstance(node.get("__loader__"), str):
            raise Corrupt("a node of its schema does not say what it is")
        loader, identity = node["__loader__"], node.get("__id__")
        if isinstance(identity, int) and identity in self._known:
            return self._known[identity]  # it is written anew wherever it occurs
        make = _LOADERS.get(loader)
        if make is None:
            raise UnsafeContent(f"a node of its schema is made by {loader[:60]!r}, which calls")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unsupported("its schema is nested too deeply.")
        made = make(self, node)
        self._depth -= 1
        if isinstance(identity, int):
            self._known[identity] = made
        return made

    def call(self, key: str, arguments: Any, state: Any = None, *, new: bool = False) -> Call:
        """Make a call of a class or function, with a state."""
        made = Call(_global(key), arguments, 0, new=new)
        made.states = [] if state is None else [state]
        self.calls.append(made)
        return made

    def file(self, node: Any) -> Entry:
        """Return the member of the archive that a node names."""
        entry = self.entries.get(node.get("file") or "")
        if entry is None:
            raise Corrupt("a node of its schema names a file that is not in the archive")
        return entry


def _key(node: Any) -> str:
    module, name = node.get("__module__"), node.get("__class__")
    if not isinstance(module, str) or not isinstance(name, str):
        raise Corrupt("a node of its schema does not say what it is")
    return f"{module}:{name}"


def _of(node: Any, *keys: str) -> str:
    """Return what a node says it is, once its reader is the one for that."""
    key = _key(node)
    if key not in keys:
        said = key.replace(":", ".")[:100]
        raise UnsafeContent(
            f"a node of its schema says that it is {said} and is made as something else"
        )
    return key


def _content(node: Any, kind: type = dict) -> Any:
    content = node.get("content")
    if not isinstance(content, kind):
        raise Corrupt("a node of its schema has another content than its kind has")
    return content


def _json(_: _Nodes, node: Any) -> Any:
    try:
        value = json.loads(_content(node, str))
    except (ValueError, RecursionError) as error:
        raise Corrupt("a value of its schema is not JSON") from error
    if isinstance(value, list | dict):
        raise Corrupt("a value of its schema is a container")
    return value


def _dict(nodes: _Nodes, node: Any) -> Any:
    kinds = nodes.node(node.get("key_types"))
    content = _content(node)
    if type(kinds) is not list or len(kinds) != len(content):
        raise Corrupt("a dict of its schema has another number of keys than of their types")
    items = [
        (_dict_key(kind, key), nodes.node(value))
        for kind, (key, value) in zip(kinds, content.items(), strict=True)
    ]
    if _key(node) == "builtins:dict":
        return Pairs(items)
    if _key(node) == "collections:Counter":
        return nodes.call("collections:Counter", (Pairs(items),))
    made = nodes.call(_key(node), (), new=_key(node) != "collections:OrderedDict")
    made.items = items
    return made


# Type of a key to what makes it of the text that JSON keeps.
_KEYS: Final[dict[str, Callable[[str], Any]]] = {
    "builtins:str": str,
    "builtins:int": int,
    "builtins:float": float,
    "builtins:bool": lambda text: {"true": True, "false": False}[text.lower()],
    **{
        f"numpy:{name}": getattr(np, name)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "numpy:float64": lambda text: np.float64(float(text)),
    "numpy:float32": lambda text: np.float32(float(text)),
    "numpy:str_": np.str_,
}


def _dict_key(kind: Any, key: str) -> Any:
    make = _KEYS.get(kind.key) if type(kind) is Global else None
    if make is None:
        raise Unsupported("a dict has keys of a type that is not known here.")
    try:
        return make(key)
    except (ValueError, KeyError, OverflowError) as error:
        raise Corrupt("a key of a dict is not of the type that it says") from error


def _default(nodes: _Nodes, node: Any) -> Call:
    _of(node, "collections:defaultdict")
    content = _content(node)
    main = nodes.node(content.get("main"))
    if type(main) is not Pairs:
        raise Corrupt("a defaultdict of its schema is none")
    made = nodes.call("collections:defaultdict", (nodes.node(content.get("default_factory")),))
    made.items = main.items
    return made


def _list(nodes: _Nodes, node: Any) -> list[Any]:
    _of(node, "builtins:list")
    return [nodes.node(item) for item in _content(node, list)]


def _set(nodes: _Nodes, node: Any) -> Members:
    frozen = _of(node, "builtins:set", "builtins:frozenset") == "builtins:frozenset"
    return Members([nodes.node(item) for item in _content(node, list)], frozen)


def _tuple(nodes: _Nodes, node: Any) -> Any:
    items = tuple(nodes.node(item) for item in _content(node, list))
    key = _key(node)
    return items if key == "builtins:tuple" else nodes.call(key, items, new=True)


def _global(key: str) -> Global:
    module, _, name = key.partition(":")
    return Global(module, name, 0)


def _name(_: _Nodes, node: Any) -> Global:
    return _global(_key(node))


def _partial(nodes: _Nodes, node: Any) -> Call:
    _of(node, "functools:partial")
    parts = [nodes.node(_content(node).get(n)) for n in ("func", "args", "kwds", "namespace")]
    return nodes.call("functools:partial", (parts[0],), tuple(parts), new=False)


def _slice(nodes: _Nodes, node: Any) -> Call:
    _of(node, "builtins:slice")
    content = _content(node)
    parts = tuple(content.get(name) for name in ("start", "stop", "step"))
    if not all(part is None or type(part) is int for part in parts):
        raise Corrupt("a slice of its schema is none")
    return nodes.call("builtins:slice", parts)


def _object(nodes: _Nodes, node: Any) -> Call:
    key = _key(node)
    module = key.partition(":")[0]
    content = node.get("content")
    state = None if content is None else nodes.node(content)
    if module in _NEW_OBJECTS:
        return nodes.call(f"{module}:newObj", (_global(key),), state)
    return nodes.call(key, (), state, new=True)


def _constructed(nodes: _Nodes, node: Any) -> Call:
    """Make what is its constructor's arguments; only recipes of ours take it."""
    arguments = nodes.node(_content(node))
    if type(arguments) is not tuple or _key(node) not in RECIPES:
        raise UnsafeContent(f"it would call {_key(node).replace(':', '.'):.100}")
    return nodes.call(_key(node), arguments)


def _reduced(nodes: _Nodes, node: Any) -> Call:
    """Make a tree or a compiled loss of arguments and a state."""
    given = node.get("__reduce__")
    arguments = nodes.node(given.get("args")) if isinstance(given, dict) else None
    state = nodes.node(node.get("content"))
    empty = type(state) is Pairs and not state.items
    if type(arguments) is not tuple or _key(node) not in RECIPES:
        raise UnsafeContent(f"it would call {_key(node).replace(':', '.'):.100}")
    return nodes.call(_key(node), arguments, None if empty or state == () else state)


def _tree(nodes: _Nodes, node: Any) -> Call:
    _of(node, "sklearn.tree._tree:Tree")
    return _reduced(nodes, node)


def _method(nodes: _Nodes, node: Any) -> Call:
    """Name a method bound to an object; only attributes that are left out may be such."""
    content = _content(node)
    owner, name = nodes.node(content.get("obj")), content.get("func")
    return nodes.call("builtins:getattr", (owner, name))


def _bytes(nodes: _Nodes, node: Any) -> Any:
    key = _of(node, "builtins:bytes", "builtins:bytearray")
    content = member(nodes.archive, nodes.file(node), nodes.whole).tobytes()
    return content if key == "builtins:bytes" else bytearray(content)


def _array(nodes: _Nodes, node: Any) -> Any:
    """Make an array, or a numpy scalar, which skops keeps as an array without dimensions."""
    if node.get("type") == "json":
        _of(node, "numpy:ndarray")
        shape = nodes.node(node.get("shape"))
        return Objects(shape, "C", _flat(nodes, _content(node, list), shape))
    value = member_array(nodes.archive, nodes.file(node), nodes.whole, nodes.registry)
    if type(value) is not np.ndarray:
        raise Corrupt("an array of its schema is none")
    scalar = value.dtype.type
    key = _of(node, "numpy:ndarray", f"{scalar.__module__}:{scalar.__name__}")
    if key == "numpy:ndarray":
        return value
    if value.shape != ():
        raise Corrupt("a numpy scalar of its schema is an array")
    return value[()]


def _flat(nodes: _Nodes, items: list[Any], shape: Any) -> list[Any]:
    """Return the items of an array of objects, which are lists in lists as its shape says."""
    if type(shape) is not tuple or not shape or not all(type(n) is int and n >= 0 for n in shape):
        raise Corrupt("an array of objects in its schema has no shape")
    if len(items) != shape[0]:
        raise Corrupt("an array of objects in its schema has another shape than it says")
    if len(shape) == 1:
        return [nodes.node(item) for item in items]
    rows = [_content(item, list) for item in items if isinstance(item, dict)]
    if len(rows) != len(items):
        raise Corrupt("an array of objects in its schema has another shape than it says")
    return [part for row in rows for part in _flat(nodes, row, shape[1:])]


def _masked(nodes: _Nodes, node: Any) -> Any:
    _of(node, "numpy.ma:MaskedArray", "numpy.ma.core:MaskedArray")
    content = _content(node)
    data, mask = nodes.node(content.get("data")), nodes.node(content.get("mask"))
    try:
        if not isinstance(data, Objects):
            return np.ma.MaskedArray(data, mask=mask)
        flat = np.empty(len(data.items), dtype=object)
        return MaskedObjects(
            np.ma.MaskedArray(flat.reshape(data.shape), mask=mask), flat, data.items
        )
    except (TypeError, ValueError, np.ma.MaskError) as error:
        raise Corrupt(f"a masked array of its schema is none: {error!s:.80}") from error


def _dtype(nodes: _Nodes, node: Any) -> np.dtype[Any]:
    if not _key(node).startswith("numpy:"):
        _of(node, "numpy:dtype")
    value = nodes.node(_content(node))
    if isinstance(value, Objects):
        return np.dtype(object)
    if not isinstance(value, np.ndarray):
        raise Corrupt("a dtype of its schema is none")
    found: np.dtype[Any] = value.dtype
    return found


def _random_state(nodes: _Nodes, node: Any) -> Call:
    _of(node, "numpy.random.mtrand:RandomState", "numpy.random:RandomState")
    state = nodes.node(_content(node))
    return nodes.call(f"{_RANDOM}:__randomstate_ctor", (_bits_of(state),), state)


def _generator(nodes: _Nodes, node: Any) -> Call:
    _of(node, "numpy.random._generator:Generator", "numpy.random:Generator")
    content = _content(node)
    state = nodes.node(content.get("bit_generator"))
    seed = _seed(nodes, nodes.node(content["seed_seq"])) if "seed_seq" in content else None
    bits = nodes.call(f"{_RANDOM}:__bit_generator_ctor", (_bits_of(state),), (state, seed))
    return nodes.call(f"{_RANDOM}:__generator_ctor", (bits,))


def _bits_of(state: Any) -> str:
    """Return the name of the bit generator that a state is of."""
    found = dict(state.items).get("bit_generator") if type(state) is Pairs else None
    if type(found) is not str:
        raise Corrupt("a random state of its schema has no bit generator")
    return found


def _seed(nodes: _Nodes, state: Any) -> Call:
    parts = dict(state.items) if type(state) is Pairs else {}
    names = ("entropy", "n_children_spawned", "", "pool_size", "spawn_key")
    values = tuple(parts.get(name) for name in names)
    key = "numpy.random.bit_generator:__pyx_unpickle_SeedSequence"
    kind = Global("numpy.random.bit_generator", "SeedSequence", 0)
    return nodes.call(key, (kind, 0, None), values)


def _sparse(nodes: _Nodes, node: Any) -> Call:
    """Make a sparse matrix of the ``.npz`` that ``scipy.sparse.save_npz`` writes."""
    parts = arrays_in(member(nodes.archive, nodes.file(node), nodes.whole), nodes.registry)
    text = _text(parts.get("format"))
    is_array = bool(parts.get("_is_array", np.array(0)))
    name = f"{text}_{'array' if is_array else 'matrix'}"
    if text not in _SPARSE or "shape" not in parts or not {*_SPARSE[text]} <= parts.keys():
        raise Corrupt("a sparse matrix of its schema is of no known format")
    _of(node, f"scipy.sparse._{text}:{name}")
    attributes = {key: parts[key] for key in _SPARSE[text]}
    if text == "coo":
        attributes["coords"] = (attributes.pop("row"), attributes.pop("col"))
        attributes["has_canonical_format"] = False
    shape = tuple(map(int, parts["shape"].tolist()))
    state = Pairs([("_shape", shape), *attributes.items()])
    return nodes.call(f"scipy.sparse._{text}:{name}", (), state, new=True)


def _text(value: Any) -> str:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "S" or value.shape != ():
        raise Corrupt("a sparse matrix of its schema is of no known format")
    return bytes(value.item()).decode("ascii", "replace")


_LOADERS: Final[dict[str, Callable[[_Nodes, Any], Any]]] = {
    "BytearrayNode": _bytes,
    "BytesNode": _bytes,
    "ConstructorFromReduceNode": _constructed,
    "DTypeNode": _dtype,
    "DefaultDictNode": _default,
    "DictNode": _dict,
    "FunctionNode": _name,
    "JsonNode": _json,
    "ListNode": _list,
    "LossNode": _reduced,
    "MaskedArrayNode": _masked,
    "MethodNode": _method,
    "NdArrayNode": _array,
    "ObjectNode": _object,
    "PartialNode": _partial,
    "RandomGeneratorNode": _generator,
    "RandomStateNode": _random_state,
    "SetNode": _set,
    "SliceNode": _slice,
    "SparseMatrixNode": _sparse,
    "TreeNode": _tree,
    "TupleNode": _tuple,
    "TypeNode": _name,
}
