"""Reading TensorFlow's graphs as data: GraphDef and SavedModel, by the wire format alone.

Sources of the format: ``graph.proto``, ``node_def.proto``, ``function.proto``,
``meta_graph.proto``, ``saved_model.proto`` and ``saved_object_graph.proto`` of TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.protobuf import LENGTH, Field, Table
from holdfast.trust.tf_operators import PATHS
from holdfast.trust.zips import escapes

__all__ = ["DTYPES", "Described", "describe_graph", "describe_saved_model", "keras_documents"]

_MOST_NODES: Final = 1_000_000
_MOST_LISTED: Final = 200
_MOST_TRACED: Final = 1_000

# Number in DataType to name.
DTYPES: Final = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string",
    8: "complex64", 9: "int64", 10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16",
    15: "qint16", 16: "quint16", 17: "uint16", 18: "complex128", 19: "float16", 20: "resource",
    21: "variant", 22: "uint32", 23: "uint64", 24: "float8_e5m2", 25: "float8_e4m3fn", 29: "int4",
    30: "uint4",
}  # fmt: skip


@dataclass(slots=True)
class Described:
    """What a graph says.

    Attributes:
        operators: How often each is used, in functions too.
        functions: How many functions it defines.
        places: Byte of the first node of each operator.
        paths: (operator, path) of files that the graph itself names.
        version: Of TensorFlow that wrote it, or None.
        tags: Tags of a SavedModel's graphs.
        signatures: Name of a signature to its inputs and outputs, ``x float32[3] -> y int64``.
        assets: Files beside a SavedModel that it reads.
        keras: Documents of Keras that describe its objects.
        placeholders: Inputs of a graph without signatures.
    """

    operators: Counter[str] = field(default_factory=Counter)
    functions: int = 0
    places: dict[str, int] = field(default_factory=dict)
    paths: list[tuple[str, str]] = field(default_factory=list)
    version: str | None = None
    tags: list[str] = field(default_factory=list)
    signatures: dict[str, str] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    keras: list[str] = field(default_factory=list)
    placeholders: list[str] = field(default_factory=list)


def describe_graph(data: bytes | memoryview) -> Described:
    """Walk a serialised ``GraphDef``; raises ``Corrupt`` with the byte."""
    found = Described()
    _graph(list(protobuf.fields(data)), found)
    return found


def describe_saved_model(data: bytes | memoryview) -> Described:
    """Walk a serialised ``SavedModel``; raises ``Corrupt`` with the byte."""
    found = Described()
    for part in _messages(protobuf.fields(data), 2):
        _meta_graph(part.table(), found)
    return found


def keras_documents(data: bytes | memoryview) -> list[str]:
    """Return the documents of a ``keras_metadata.pb``, which Keras 2 kept beside a SavedModel.

    Raises:
        Corrupt: It is none; says at which byte.
    """
    found = []
    for part in _messages(protobuf.fields(data), 1):
        table = part.table()
        if not table.text(4).startswith("_tf_keras"):
            raise Corrupt("It holds an object that is none of Keras'.")
        found.append(table.text(5))
    return found


def _messages(fields: Iterable[Field], number: int) -> Iterator[Field]:
    return (part for part in fields if part.number == number and part.wire == LENGTH)


def _meta_graph(meta: Table, found: Described) -> None:
    for part in meta.all(1):
        info = part.table()
        found.version = found.version or info.text(5)[:40] or None
        found.tags += [tag.text()[:100] for tag in info.all(4)[:_MOST_LISTED]]
    assets = [part.table() for part in meta.all(6)]
    found.assets += [asset.text(2)[:1000] for asset in assets[:_MOST_LISTED]]
    given = {_tensor_name(asset).partition(":")[0] for asset in assets}
    for part in meta.all(2):
        _graph(list(part.message()), found, given)
    for part in meta.all(5)[:_MOST_LISTED]:
        entry = part.table()
        for value in entry.all(2):
            found.signatures[entry.text(1)[:200]] = _signature(value.table())
    for part in meta.all(7):
        _objects(part.message(), found)


def _tensor_name(asset: Table) -> str:
    info = asset.one(1)
    return "" if info is None else info.table().text(1)


def _signature(signature: Table) -> str:
    sides = (signature.all(number)[:_MOST_LISTED] for number in (1, 2))
    return " -> ".join(", ".join(_tensor_info(part.table()) for part in side) for side in sides)


def _tensor_info(entry: Table) -> str:
    value = entry.one(2)
    if value is None:
        return entry.text(1)[:100]
    info = value.table()
    shape = info.one(3)
    sizes = "" if shape is None else _shape(shape.table())
    return f"{entry.text(1)[:100]} {DTYPES.get(info.signed(2), '?')}{sizes}"


def _shape(shape: Table) -> str:
    if shape.signed(3):
        return ""
    sizes = [axis.table().signed(1) for axis in shape.all(2)[:64]]
    return f"[{', '.join('?' if size < 0 else str(size) for size in sizes)}]"


def _objects(objects: Iterable[Field], found: Described) -> None:
    """Keep what Keras says of its objects: releases up to 2.4 kept it in the graph of objects."""
    for part in _messages(objects, 1):
        for user in _messages(part.message(), 4):
            table = user.table()
            if table.text(1).startswith("_tf_keras") and table.text(3):
                found.keras.append(table.text(3))


def _graph(graph: list[Field], found: Described, given: Collection[str] = ()) -> None:
    """Read the nodes outside and inside functions, and where each takes paths of files from."""
    bodies = [_Body("", list(_messages(graph, 1)), frozenset(given))]
    for library in _messages(graph, 2):
        for function in _messages(library.message(), 1):
            name = _signature_name(function)
            bodies.append(_Body(name, list(_messages(function.message(), 3)), frozenset()))
    found.functions += len(bodies) - 1
    for body in bodies:
        body.read(found)
    opening = _opening(bodies)
    for body in bodies:
        for operator, path in body.paths(opening):
            if len(found.paths) < _MOST_LISTED:
                found.paths.append((operator, path[:200]))


def _signature_name(function: Field) -> str:
    signature = function.table().one(1)
    return "" if signature is None else signature.table().text(1)


def _opening(bodies: Sequence[_Body]) -> set[str]:
    """Return the functions that open a file, or call one that does."""
    callers: dict[str, list[str]] = {}
    todo = [body.name for body in bodies if body.opens]
    for body in bodies:
        for called in body.calls:
            callers.setdefault(called, []).append(body.name)
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += callers.get(name, ())
    return found


class _Body:
    """The nodes of a graph or of a function.

    Attributes:
        name: Of the function; empty for the graph itself.
        opens: Nodes that open a file whose path they are handed.
        calls: Functions that nodes call, to those nodes.
    """

    def __init__(self, name: str, nodes: list[Field], given: frozenset[str]) -> None:
        self.name = name
        self.opens: list[Table] = []
        self.calls: dict[str, list[Table]] = {}
        self._nodes = nodes
        # Constants that a reader replaces: the places of a model's own assets.
        self._given = given
        self._by_name: dict[str, Table] = {}

    def read(self, found: Described) -> None:
        """Count the operators."""
        for node in self._nodes:
            table = node.table()
            operator = table.text(2)[:200]
            found.operators[operator] += 1
            found.places.setdefault(operator, node.position)
            if operator in PATHS:
                self.opens.append(table)
            elif not self.name and operator == "Placeholder":
                found.placeholders.append(table.text(1)[:200])
            for called in _functions(table):
                self.calls.setdefault(called, []).append(table)
            if found.operators.total() > _MOST_NODES:
                raise Corrupt(f"it has more than {_MOST_NODES} nodes")

    def paths(self, opening: set[str]) -> Iterator[tuple[str, str]]:
        """Yield (operator, path) where the path of a file is one that the graph chose.

        It should be handed over. One that is put together of the graph's own texts alone, or of
        one that starts at the root or climbs, is the graph's choice.
        """
        calling = [node for name in self.calls if name in opening for node in self.calls[name]]
        for node in self.opens[:_MOST_LISTED]:
            place = PATHS[node.text(2)]
            texts, handed = self._sources([part.text() for part in node.all(3)][place : place + 1])
            chosen = _chosen(texts) or (texts[0] if texts and not handed else None)
            if chosen is not None:
                yield node.text(2), chosen
        for node in calling[:_MOST_LISTED]:
            chosen = _chosen(self._sources([part.text() for part in node.all(3)])[0])
            if chosen is not None:
                yield node.text(2), chosen

    def _sources(self, todo: list[str]) -> tuple[list[str], bool]:
        """Return the texts that inputs are made of, and whether something was handed over."""
        if not self._by_name:
            self._by_name = {table.text(1): table for table in (n.table() for n in self._nodes)}
        seen: set[str] = set()
        texts: list[str] = []
        handed = False
        while todo and len(seen) < _MOST_TRACED:
            name = todo.pop().lstrip("^").partition(":")[0]
            if name in seen:
                continue
            seen.add(name)
            source = self._by_name.get(name)
            if source is None or name in self._given or source.text(2) in ("Placeholder", "_Arg"):
                handed = True
            elif source.text(2) == "Const":
                texts += _strings(source)
            else:
                todo += [part.text() for part in source.all(3)]
        return texts, handed


def _chosen(texts: Iterable[str]) -> str | None:
    """Return the first text that as a path leads to a place of its own."""
    return next((text for text in texts if len(text) > 1 and _leads(text)), None)


def _leads(text: str) -> bool:
    return text.isprintable() and (escapes(text) or "://" in text)


def _functions(node: Table) -> Iterator[str]:
    """Yield the functions that a node names in its attributes, alone or in lists."""
    for part in node.all(5):
        for value in part.table().all(2):
            table = value.table()
            functions = table.all(10)
            for inner in table.all(1):
                functions = [*functions, *inner.table().all(9)]
            for function in functions:
                yield function.table().text(1)


def _strings(node: Table) -> Iterator[str]:
    """Yield the texts of a constant: attribute ``value``, a TensorProto of strings."""
    for part in node.all(5):
        entry = part.table()
        if entry.text(1) != "value":
            continue
        for value in entry.all(2):
            for tensor in value.table().all(8):
                for text in tensor.table().all(8)[:_MOST_LISTED]:
                    yield bytes(text.view()[:1000]).decode("utf-8", "replace")
