"""Judging a node table as data, before anything is imported or built."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from holdfast.codec.arrays import NARROW, array_shape, dtype_of
from holdfast.codec.nodes import BUILTINS, FILE, IMMUTABLE, MAX_NODES, NUMPY_TYPES, OBJECT
from holdfast.codec.registry import UNUSABLE, Registry, TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch
from holdfast.record import Structure

__all__ = ["Audit", "Summary", "TensorLike", "audit"]

_BIG: Final = re.compile(r"-?0x[1-9a-f][0-9a-f]*")
_FLOAT: Final = re.compile(r"-?(inf|[0-9]+(\.[0-9]+)?(e[+-]?[0-9]{1,3})?)|nan")
_HEX: Final = re.compile(r"([0-9a-f]{2})*")
_MAX_TENSORS: Final = 200_000
_MAX_KEY_DEPTH: Final = 100
_MAX_KEY_STEPS: Final = 4 * MAX_NODES
_ENDLESS: Final = (_MAX_KEY_STEPS + 1, _MAX_KEY_DEPTH + 1)


class TensorLike(Protocol):
    """What the audit needs to know of a tensor."""

    @property
    def dtype(self) -> str:
        """The safetensors dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What a node table would build.

    Attributes:
        type_ids: Registered types it uses.
        children: Per node the nodes it refers to.
    """

    type_ids: frozenset[str]
    children: tuple[tuple[int, ...], ...]


class Summary:
    """An audited node, looked at without building it; handed to ``TypeSpec.check``."""

    __slots__ = ("_auditor", "_index")

    def __init__(self, auditor: _Auditor, index: int) -> None:
        self._auditor = auditor
        self._index = index

    @property
    def _node(self) -> Sequence[Any]:
        return self._auditor.nodes[self._index]

    @property
    def kind(self) -> str:
        """The node's kind, for example ``"array"``."""
        return str(self._node[0])

    @property
    def type_id(self) -> str | None:
        """The registered type of an object node, else None."""
        return self._auditor.types[self._node[1]] if self.kind == "object" else None

    @property
    def value(self) -> Any:
        """The Python value of a none, bool, int, float or str node; else None."""
        node = self._node
        match node[0]:
            case "bool" | "str":
                return node[1]
            case "int":
                return node[1] if isinstance(node[1], int) else int(node[1], 16)
            case "float":
                return float(node[1])
        return None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The logical shape of an array or buffer, else None."""
        node = self._node
        if node[0] == "array":
            tensor = self._auditor.tensors[node[1]]
            shape: tuple[int, ...] = array_shape(tensor.dtype, tuple(tensor.shape), node[2])[1]
            return shape
        if node[0] in ("buffer", "ints", "floats"):
            return tuple(self._auditor.tensors[node[1]].shape)
        return tuple(node[1]) if node[0] == "objects" else None

    @property
    def dtype(self) -> str | None:
        """The logical dtype's text of an array, the safetensors dtype of a buffer, else None."""
        node = self._node
        if node[0] == "array":
            tensor = self._auditor.tensors[node[1]]
            return str(array_shape(tensor.dtype, tuple(tensor.shape), node[2])[0])
        return self._auditor.tensors[node[1]].dtype if node[0] == "buffer" else None

    @property
    def is_dict(self) -> bool:
        """Whether it is a plain dict, of whichever members."""
        return self.kind in ("dict", "textdict")

    @property
    def items(self) -> tuple[Summary, ...]:
        """The members of a list, tuple or set, keys and values in turn of a dict; else empty.

        A dict of texts to values of one plain type keeps no node per member, so it is empty too.
        """
        node = self._node
        refs = node[1] if node[0] in _REFS else ()
        return tuple(Summary(self._auditor, ref) for ref in refs)

    @property
    def fields(self) -> dict[str, Summary]:
        """The fields of an object; else empty."""
        node = self._node
        refs = node[2] if node[0] == "object" else {}
        return {name: Summary(self._auditor, ref) for name, ref in refs.items()}


def audit(
    structure: Structure,
    tensors: Mapping[str, TensorLike],
    registry: Registry,
    files: Collection[str] = (),
) -> Audit:
    """Check everything that can be checked without building.

    Args:
        structure: The node table.
        tensors: Every tensor of the version by name.
        registry: The closed registry.
        files: Names of the version's files; those that no node names are the saver's own.

    Raises:
        Corrupt: The table contradicts itself, hides something or is beyond a limit.
        EnvironmentMismatch: A type id is not known here.
    """
    return _Auditor(structure, tensors, registry, files).run()


class _Auditor:
    def __init__(
        self,
        structure: Structure,
        tensors: Mapping[str, TensorLike],
        registry: Registry,
        files: Collection[str],
    ) -> None:
        self.nodes = structure.nodes
        self.types = structure.types
        self.root = structure.root
        self.tensors = tensors
        self.registry = registry
        self.unused_files = set(files)
        self.used_tensors: set[str] = set()
        self.used_types: set[int] = set()
        self._children: list[int] = []

    def run(self) -> Audit:
        if not 0 < len(self.nodes) <= MAX_NODES or len(self.tensors) > _MAX_TENSORS:
            raise Corrupt(
                f"{len(self.nodes)} nodes and {len(self.tensors)} tensors are beyond the limits"
            )
        specs = self._specs()
        children = tuple(self._judged(index) for index in range(len(self.nodes)))
        self._nothing_hidden(children)
        self._hashing_is_bounded(children)
        for index, node in enumerate(self.nodes):
            if node[0] == "object":
                check = specs[node[1]].check
                if check is not None:
                    check(Summary(self, index).fields)
        return Audit(frozenset(self.types), children)

    def _specs(self) -> list[TypeSpec]:
        if len(set(self.types)) != len(self.types):
            raise Corrupt("a type id is listed twice")
        broken: tuple[str, ...] = ()
        if self._unknown():
            broken = self.registry.grow()
        for name in self._unknown():
            if name.startswith("user."):
                raise _not_registered(name[5:], broken)
            raise EnvironmentMismatch(
                f"The file holds the type {name!r:.100}, which this release does not know.",
                hint="python -m pip install --upgrade holdfast-ml",
            )
        return [self.registry.by_id[name] for name in self.types]

    def _unknown(self) -> list[str]:
        return [name for name in self.types if name not in self.registry.by_id]

    def _judged(self, index: int) -> tuple[int, ...]:
        node = self.nodes[index]
        judge = _JUDGES.get(node[0]) if node and isinstance(node[0], str) else None
        if judge is None:
            raise Corrupt(f"node {index} has the unknown kind {node[:1]!r:.60}")
        self._children = []
        try:
            sound = judge(self, node)
        except (IndexError, TypeError, ValueError, KeyError, AttributeError) as error:
            if isinstance(error, Corrupt):
                raise Corrupt(f"node {index}: {error.message}") from error
            raise Corrupt(f"node {index} ({node[0]}) is malformed") from error
        if not sound:
            raise Corrupt(f"node {index} ({node[0]}) is malformed")
        return tuple(self._children)

    def _nothing_hidden(self, children: Sequence[tuple[int, ...]]) -> None:
        if not _is_index(self.root, len(self.nodes)):
            raise Corrupt("the root is not a node")
        seen = bytearray(len(self.nodes))
        seen[self.root] = 1
        stack = [self.root]
        while stack:
            for child in children[stack.pop()]:
                if not seen[child]:
                    seen[child] = 1
                    stack.append(child)
        if sum(seen) != len(self.nodes):
            raise Corrupt(f"{len(self.nodes) - sum(seen)} nodes are not reachable from the root")
        hidden = self.tensors.keys() - self.used_tensors
        if hidden:
            raise Corrupt(f"tensor {min(hidden)!r:.100} belongs to nothing in the structure")
        if len(self.used_types) != len(self.types):
            raise Corrupt("a type id is listed but not used")

    def _hashing_is_bounded(self, children: Sequence[tuple[int, ...]]) -> None:
        """Refuse keys and members whose hash would recurse too deep or take too long.

        Python hashes and compares nested tuples by recursion and visits a shared part each time
        it is met, so a few nodes can ask for 2^n steps or for more stack than there is.
        """
        sizes: dict[int, tuple[int, int]] = {}
        steps = 0
        for node in self.nodes:
            if node[0] not in ("set", "frozenset", "dict", "ordereddict"):
                continue
            for ref in node[1] if "set" in node[0] else node[1][::2]:
                size, depth = self._unrolled(ref, children, sizes)
                steps += size
                if depth > _MAX_KEY_DEPTH or steps > _MAX_KEY_STEPS:
                    raise Corrupt("a key or member is nested too deeply")

    def _unrolled(
        self, root: int, children: Sequence[tuple[int, ...]], sizes: dict[int, tuple[int, int]]
    ) -> tuple[int, int]:
        """Return size and depth of the tree that hashing ``root`` walks; memoised in ``sizes``."""
        stack = [root]
        while stack:
            index = stack[-1]
            below = children[index] if self.nodes[index][0] in IMMUTABLE else ()
            if index not in sizes:
                sizes[index] = _ENDLESS  # what stands here when it is met again below itself
                waiting = [child for child in below if child not in sizes]
                stack += waiting
                if waiting:
                    continue
            stack.pop()
            parts = [sizes[child] for child in below]
            size = 1 + sum(part[0] for part in parts)
            depth = 1 + max((part[1] for part in parts), default=0)
            sizes[index] = (min(size, _ENDLESS[0]), min(depth, _ENDLESS[1]))
        return sizes[root]

    def refs(self, refs: Any) -> bool:
        """Check a list of node references and note them."""
        if not isinstance(refs, list | tuple):
            return False
        count = len(self.nodes)
        if not all(_is_index(ref, count) for ref in refs):
            return False
        self._children.extend(refs)
        return True

    def tensor(self, name: Any) -> TensorLike:
        """Look up a tensor that must exist, and note that it is used."""
        if not isinstance(name, str) or name not in self.tensors:
            raise Corrupt(f"tensor {name!r:.100} does not exist")
        if name in self.used_tensors:
            raise Corrupt(f"tensor {name!r:.100} is used twice")
        self.used_tensors.add(name)
        return self.tensors[name]


def _not_registered(name: str, broken: Sequence[str]) -> EnvironmentMismatch:
    message = (
        f"The file holds an instance of {name!r:.100}, a class of the saver's own that neither"
    )
    message += " this program nor an installed package registers."
    if broken:
        message += f" {UNUSABLE} {'; '.join(broken)}."
    kind = name.rpartition(".")[2]
    return EnvironmentMismatch(
        message,
        hint=f"holdfast.register({kind:.60}, name={name!r:.100})  # define or import it before",
    )


def _is_index(value: Any, count: int) -> bool:
    return type(value) is int and 0 <= value < count


def _int(_: _Auditor, node: Sequence[Any]) -> bool:
    _kind, value = node
    if type(value) is int:
        return True
    return isinstance(value, str) and bool(_BIG.fullmatch(value))


def _float_text(text: Any) -> bool:
    return isinstance(text, str) and bool(_FLOAT.fullmatch(text))


def _hex(_: _Auditor, node: Sequence[Any]) -> bool:
    return len(node) == 2 and isinstance(node[1], str) and bool(_HEX.fullmatch(node[1]))


def _wtf8(auditor: _Auditor, node: Sequence[Any]) -> bool:
    if not _hex(auditor, node):
        return False
    bytes.fromhex(node[1]).decode("utf-8", "surrogatepass")
    return True


def _strings(_: _Auditor, node: Sequence[Any]) -> bool:
    _kind, items = node
    return isinstance(items, list | tuple) and all(type(item) is str for item in items)


def _bytes(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, name = node
    tensor = auditor.tensor(name)
    return tensor.dtype == "U8" and len(tensor.shape) == 1


def _column(*dtypes: str) -> Callable[[_Auditor, Sequence[Any]], bool]:
    def judge(auditor: _Auditor, node: Sequence[Any]) -> bool:
        _kind, name = node
        tensor = auditor.tensor(name)
        return tensor.dtype in dtypes and len(tensor.shape) == 1

    return judge


def _array(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, name, options = node
    tensor = auditor.tensor(name)
    array_shape(tensor.dtype, tuple(tensor.shape), options)
    return True


def _objects(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, shape, refs, options = node
    sizes = isinstance(shape, list | tuple) and all(type(n) is int and n >= 0 for n in shape)
    known = (
        options.keys() <= {"order", "readonly"}
        and options.get("order", "F") == "F"
        and options.get("readonly", True) is True
    )
    return (
        sizes
        and known
        and len(shape) <= 32
        and math.prod(max(n, 1) for n in shape) <= MAX_NODES
        and auditor.refs(refs)
        and math.prod(shape) == len(refs)
    )


def _scalar(_: _Auditor, node: Sequence[Any]) -> bool:
    _kind, text, data = node
    dtype = dtype_of(text)
    if not isinstance(text, str) or not isinstance(data, str) or not _HEX.fullmatch(data):
        return False
    if dtype.kind == "U":
        bytes.fromhex(data).decode("utf-32-le", "surrogatepass")
    return (dtype.kind != "V" or text in NARROW) and len(data) == 2 * dtype.itemsize


def _dtype(_: _Auditor, node: Sequence[Any]) -> bool:
    _kind, text = node
    return text == OBJECT or dtype_of(text) is not None


def _sequence(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, refs = node
    return auditor.refs(refs)


def _sized(count: int) -> Callable[[_Auditor, Sequence[Any]], bool]:
    return lambda auditor, node: _sequence(auditor, node) and len(node[1]) == count


def _range(auditor: _Auditor, node: Sequence[Any]) -> bool:
    ints = _sized(3)(auditor, node) and all(auditor.nodes[ref][0] == "int" for ref in node[1])
    return ints and auditor.nodes[node[1][2]][1] not in (0, "0x0")


def _dict(auditor: _Auditor, node: Sequence[Any]) -> bool:
    return _sequence(auditor, node) and len(node[1]) % 2 == 0


def _text_dict(auditor: _Auditor, node: Sequence[Any]) -> bool:
    if not _sized(2)(auditor, node):
        return False
    keys, values = (auditor.nodes[ref] for ref in node[1])
    return keys[0] == "strings" and values[0] in ("strings", "ints", "floats")


def _buffer(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, name = node
    auditor.tensor(name)
    return True


def _file(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, name = node
    if name not in auditor.unused_files:
        raise Corrupt(f"the file {name!r:.100} does not exist or is used twice")
    auditor.unused_files.remove(name)
    return True


def _object(auditor: _Auditor, node: Sequence[Any]) -> bool:
    _kind, type_index, fields = node
    if not _is_index(type_index, len(auditor.types)) or not isinstance(fields, dict):
        return False
    auditor.used_types.add(type_index)
    name = auditor.types[type_index]
    spec = auditor.registry.by_id[name]
    if spec.fields is not None and not fields.keys() <= spec.fields:
        raise Corrupt(f"{name} has no field {min(fields.keys() - spec.fields)!r:.60}")
    if not spec.required <= fields.keys():
        raise Corrupt(f"{name} lacks the field {min(spec.required - fields.keys())!r}")
    if not all(key.isidentifier() and not key.startswith("__") for key in fields):
        raise Corrupt(f"{name} has a field that is not a name")
    return auditor.refs(list(fields.values()))


def _one_of(table: Mapping[str, type]) -> Callable[[_Auditor, Sequence[Any]], bool]:
    return lambda _, node: len(node) == 2 and node[1] in table


_REFS: Final = frozenset(
    {"list", "tuple", "set", "frozenset", "dict", "ordereddict", "slice", "range"}
)

_JUDGES: Final[dict[str, Callable[[_Auditor, Sequence[Any]], bool]]] = {
    "none": lambda _, node: len(node) == 1,
    "ellipsis": lambda _, node: len(node) == 1,
    "bool": lambda _, node: len(node) == 2 and type(node[1]) is bool,
    "int": _int,
    "float": lambda _, node: len(node) == 2 and _float_text(node[1]),
    "complex": lambda _, node: len(node) == 3 and all(map(_float_text, node[1:])),
    "str": lambda _, node: len(node) == 2 and type(node[1]) is str,
    "wtf8": _wtf8,
    "strings": _strings,
    "bytes": _bytes,
    "bytearray": _bytes,
    "ints": _column("U8", "I8", "U16", "I16", "U32", "I32", "I64"),
    "floats": _column("F64"),
    "array": _array,
    "objects": _objects,
    "scalar": _scalar,
    "dtype": _dtype,
    "nptype": _one_of(NUMPY_TYPES),
    "builtin": _one_of(BUILTINS),
    "list": _sequence,
    "tuple": _sequence,
    "set": _sequence,
    "frozenset": _sequence,
    "dict": _dict,
    "textdict": _text_dict,
    "ordereddict": _dict,
    "slice": _sized(3),
    "range": _range,
    "buffer": _buffer,
    FILE: _file,
    "object": _object,
}
