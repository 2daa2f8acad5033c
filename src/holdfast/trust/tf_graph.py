"""Reading TensorFlow's graphs as data: GraphDef and SavedModel, by the wire format alone.

A graph is a program that TensorFlow runs, some of it while it is loaded. Every node of the graph
and of its functions is looked into. Sources of the format: ``saved_model.proto``,
``meta_graph.proto``, ``graph.proto``, ``function.proto`` and ``saved_object_graph.proto`` of
TensorFlow; for what a load runs ``tensorflow/python/saved_model/load.py``.

::

    found = tf_graph.describe_saved_model(data)
    found.reaching  # operators that read files, call a network, run Python
    found.kept  # whether it only computes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.protobuf import LENGTH, Field, Table
from holdfast.trust.tf_functions import Body, chosen_paths, reached
from holdfast.trust.tf_messages import Oddities, dtype_of, in_attributes, shape_of
from holdfast.trust.tf_operators import CHECKPOINT, FOREIGN, does, reaches_out

__all__ = ["Described", "describe_graph", "describe_saved_model", "keras_documents"]

_MOST_NODES: Final = 1_000_000
_MOST_FUNCTIONS: Final = 200_000
_MOST_LISTED: Final = 200


@dataclass(slots=True)
class Described(Oddities):
    """What a graph says.

    Attributes:
        graphs: How many graphs there are.
        objects: Whether it says which objects there are, as TensorFlow 2 writes it.
        operators: How often each is used, in functions too.
        functions: Names of the functions it defines.
        places: Byte of the first node of each operator.
        reaching: Operators that reach out of the graph, and what they do.
        unknown: Operators that are not known to compute alone, and what is known.
        paths: (operator, path) of files that the graph itself names.
        version: Of TensorFlow that wrote it, or None.
        tags: Tags of a SavedModel's graphs.
        signatures: Name of a signature to its inputs and outputs, ``x float32[3] -> y int64``.
        assets: Files beside a SavedModel that it reads.
        keras: Documents of Keras that describe its objects.
        placeholders: Inputs of a graph without signatures.
    """

    graphs: int = 0
    objects: bool = False
    operators: Counter[str] = field(default_factory=Counter)
    functions: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    reaching: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    paths: list[tuple[str, str]] = field(default_factory=list)
    version: str | None = None
    tags: list[str] = field(default_factory=list)
    signatures: dict[str, str] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    keras: list[str] = field(default_factory=list)
    placeholders: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether it is one graph of objects, as TensorFlow 2 writes a SavedModel."""
        return self.graphs == 1 and self.objects

    @property
    def kept(self) -> bool:
        """Whether it is a SavedModel that does nothing but compute, so that it may be loaded."""
        refused = (self.reaching, self.unknown, self.paths, self.assets, self.fields, self.faults)
        return self.whole and not any(refused)


def describe_graph(data: bytes | memoryview) -> Described:
    """Walk a serialised ``GraphDef``; raises ``Corrupt`` with the byte."""
    found = Described()
    _graph(found.checked("GraphDef", protobuf.table(data)), found, set())
    return found


def describe_saved_model(data: bytes | memoryview) -> Described:
    """Walk a serialised ``SavedModel``.

    Operators by which TensorFlow writes and reads checkpoints are part of every SavedModel. They
    are no fault in the graph around its functions, which a load of objects does not run, and in
    functions that nothing else than that graph can reach.

    Raises:
        Corrupt: It is damaged or beyond a limit; says at which byte.
    """
    found = Described()
    for part in found.checked("SavedModel", protobuf.table(data)).all(2):
        found.graphs += 1
        _meta_graph(found.table("MetaGraphDef", part), found)
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
    for part in meta.all(5)[:_MOST_LISTED]:
        entry = part.table()
        for value in entry.all(2):
            found.signatures[entry.text(1)[:200]] = _signature(value.table())
    offered: set[str] = set()
    for part in meta.all(7):
        found.objects = True
        offered.update(_objects(found.table("SavedObjectGraph", part), found))
    given = {_tensor_name(asset).partition(":")[0] for asset in assets}
    for part in meta.all(2):
        _graph(found.table("GraphDef", part), found, offered, given)


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
    shape = shape_of(info, 3) if info.all(3) else None
    sizes = ", ".join("?" if size < 0 else str(size) for size in (shape or ())[:64])
    told = "" if shape is None else f"[{sizes}]"
    return f"{entry.text(1)[:100]} {dtype_of(info.signed(2))}{told}"


def _objects(graph: Table, found: Described) -> Iterator[str]:
    """Yield the functions that objects have: those that a load may run, or hands out.

    What Keras says of its objects is kept: releases up to 2.4 kept it here.
    """
    for item in graph.all(2):
        yield item.table().text(1)
    for node in graph.all(1):
        for part in node.message():
            if part.number == 4:
                user = part.table()
                if user.text(1).startswith("_tf_keras") and user.text(3):
                    found.keras.append(user.text(3))
            elif part.number in (6, 8):  # a function of several traces, a single trace
                yield from (name.text() for name in part.table().all(1))


def _graph(graph: Table, found: Described, offered: set[str], given: Iterable[str] = ()) -> None:
    """Read the nodes outside and inside functions, and where each takes paths of files from."""
    bodies = [Body("", graph.all(1), frozenset(given))]
    names: set[str] = set()
    for part in graph.all(2):
        library = found.table("FunctionDefLibrary", part)
        bodies += [_function(each, names, found) for each in library.all(1)]
        for gradient in (*library.all(2), *library.all(3)):
            offered.update(name.text() for name in gradient.message() if name.wire == LENGTH)
    if sum(len(body.nodes) for body in bodies) + found.operators.total() > _MOST_NODES:
        raise Corrupt(f"it has more than {_MOST_NODES:,} nodes")
    for body in bodies:
        body.read(names, found)
        _judge(body, names, found)
    found.placeholders += bodies[0].placeholders
    for body in reached(bodies, offered):
        for name in sorted(CHECKPOINT.intersection(body.operators)):
            found.reaching[name] = "reads or writes files, where an object of the model calls it"
    for operator, path in chosen_paths(bodies):
        if len(found.paths) < _MOST_LISTED:
            found.paths.append((operator, path[:200]))


def _function(part: Field, names: set[str], found: Described) -> Body:
    function = found.table("FunctionDef", part)
    told = [signature.table().text(1) for signature in function.all(1)]
    name = told[0] if told else ""
    if not name or name in names:
        found.faults["a function has no name or one that is taken"] = None
    names.add(name)
    found.functions.append(name)
    if len(found.functions) > _MOST_FUNCTIONS:
        raise Corrupt(f"it has more than {_MOST_FUNCTIONS:,} functions")
    body = Body(name, function.all(3))
    of_arguments = [
        entry
        for argument in function.all(7)
        for value in argument.table().all(2)
        for entry in value.table().all(1)
    ]
    for called in in_attributes([*function.all(5), *of_arguments], found):
        body.calls.setdefault(called, [])
    return body


def _judge(body: Body, functions: set[str], found: Described) -> None:
    found.operators.update(body.operators)
    for name, place in body.places.items():
        found.places.setdefault(name, place)
        words = does(name)
        if words is None or (words == FOREIGN and name in functions):
            continue
        (found.reaching if reaches_out(words) else found.unknown)[name] = words
