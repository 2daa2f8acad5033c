"""Reading a TensorFlow SavedModel or GraphDef as data: operators, functions, signatures.

A graph is a program that TensorFlow runs, some of it while it is loaded. Every node of the graph
and of its library of functions is looked into. Sources of the format: ``saved_model.proto``,
``meta_graph.proto``, ``graph.proto``, ``function.proto``, ``attr_value.proto`` and
``saved_object_graph.proto`` of https://github.com/tensorflow/tensorflow; for what a load runs
``tensorflow/python/saved_model/load.py``.

::

    found = savedmodel.describe(data)
    found.reaching  # operators that read files, call a network, run Python
    found.unknown  # operators and parts of which nothing is known
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.protobuf import LENGTH, Field, Table
from holdfast.trust.tensor_bundle import DTYPES, shape_of

__all__ = ["Described", "Signature", "Value", "describe", "describe_graph"]

_MOST_FUNCTIONS: Final = 200_000
# A constant may say one number for all of its items; all of them together have a limit.
_MOST_CONSTANTS: Final = 256 << 20
_SHOWN: Final = 100


def _read() -> tuple[frozenset[str], frozenset[str]]:
    place = resources.files("holdfast.trust").joinpath("savedmodel_operators.json")
    table = json.loads(place.read_text("utf-8"))
    return frozenset(table["computing"]), frozenset(table["of_checkpoints"])


_COMPUTING, _OF_CHECKPOINTS = _read()
# How operators are named that do more than compute: files, networks, other programs, Python.
_REACHING: Final = re.compile(
    r".*(File|Path|Reader|Dataset|Iterator|Summary|Debug|Rpc|Remote|Print|Save|Restore|Checkpoint"
    r"|Proto|PyFunc|Queue|Session|Collective|DistributedSave|CallModule|CustomCall|Vocab|Py[A-Z])"
    r".*|NumpyFunction|ImmutableConst|Copy|CopyHost|LoadLibrary|LoadAndRemapMatrix|Send|Recv|_Send"
    r"|_Recv|Abort|Skipgram|ShardedFilename"
)
# Fields that messages have; another may hold what this reader cannot judge.
_KNOWN: Final[dict[str, frozenset[int]]] = {
    "SavedModel": frozenset({1, 2}),
    "MetaGraphDef": frozenset(range(1, 8)),
    "GraphDef": frozenset({1, 2, 3, 4, 5}),
    "NodeDef": frozenset(range(1, 8)),
    "FunctionDefLibrary": frozenset({1, 2, 3}),
    "FunctionDef": frozenset({1, 2, 3, 4, 5, 6, 7, 8}),
    "AttrValue": frozenset(range(1, 11)),
    "SavedObjectGraph": frozenset({1, 2}),
}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of a signature.

    Attributes:
        name: Its name.
        dtype: Name of the items' type, or a word for what is no tensor.
        shape: Dimensions, -1 for one that is left open; None where the rank is not told.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A function that a SavedModel offers.

    Attributes:
        inputs: By name.
        outputs: By name.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(slots=True)
class Described:
    """What a SavedModel or GraphDef says.

    Attributes:
        version: Of TensorFlow that wrote it.
        graphs: How many graphs there are.
        objects: Whether it says which objects there are, as TensorFlow 2 writes it.
        operators: How often each operator is used.
        functions: Names of the functions in its library.
        signatures: By name.
        assets: Files beside it that it reads.
        reaching: Operators that reach out of the graph, each once.
        unknown: Operators and fields of which nothing is known, in words.
    """

    version: str = ""
    graphs: int = 0
    objects: bool = False
    operators: Counter[str] = field(default_factory=Counter)
    functions: dict[str, None] = field(default_factory=dict)
    signatures: dict[str, Signature] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    reaching: dict[str, None] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)


def describe(data: bytes | memoryview) -> Described:
    """Walk a ``saved_model.pb``.

    Operators by which TensorFlow writes and reads checkpoints are part of every SavedModel. They
    are no fault in the graph around its functions, which a load of objects does not run, and in
    functions that nothing else than that graph can reach.

    Raises:
        Corrupt: It is damaged, contradicts itself or is beyond a limit.
    """
    walk = _Walk()
    model = walk.message("SavedModel", protobuf.table(data))
    for each in model.all(2):
        walk.found.graphs += 1
        walk.meta_graph(walk.message("MetaGraphDef", each.table()))
    if not walk.found.graphs:
        raise Corrupt("a SavedModel without a graph")
    return walk.done()


def describe_graph(data: bytes | memoryview) -> Described:
    """Walk a GraphDef (``.pb``); raises ``Corrupt``. Checkpoint operators are told as reaching."""
    walk = _Walk()
    walk.graph(walk.message("GraphDef", protobuf.table(data)))
    walk.found.graphs = 1
    for name in walk.top_level & _OF_CHECKPOINTS:
        walk.found.reaching[name] = None
    return walk.done()


class _Walk:
    def __init__(self) -> None:
        self.found = Described()
        self.top_level: set[str] = set()
        self._calls: dict[str, set[str]] = {}
        self._with_checkpoints: dict[str, set[str]] = {}
        self._offered: set[str] = set()
        self._constants = _MOST_CONSTANTS

    def message(self, kind: str, table: Table) -> Table:
        """Return a message, noting fields of it that are not known."""
        for number in table.numbers() - _KNOWN[kind]:
            self.found.unknown[f"field {number} of {kind}"] = None
        return table

    def meta_graph(self, meta: Table) -> None:
        info, objects, graph = meta.one(1), meta.one(7), meta.one(2)
        if info is not None:
            self.found.version = info.table().text(5)[:_SHOWN]
        if graph is not None:
            self.graph(self.message("GraphDef", graph.table()))
        for item in meta.all(5):
            entry = item.table()
            signature = entry.one(2)
            if signature is not None:
                self.found.signatures[entry.text(1)] = _signature(signature.table())
        for item in meta.all(6):
            self.found.assets.append(item.table().text(2)[:_SHOWN])
        if objects is not None:
            self.found.objects = True
            self._objects(self.message("SavedObjectGraph", objects.table()))

    def _objects(self, graph: Table) -> None:
        """Note the functions that objects have: those that a load may run, or hands out."""
        for item in graph.all(2):
            self._offered.add(item.table().text(1))
        for node in graph.all(1):
            for part in node.message():
                if part.number in (6, 8):  # a function of several traces, a single trace
                    names = part.table().all(1)
                    self._offered.update(name.text() for name in names)

    def graph(self, graph: Table) -> None:
        for node in graph.all(1):
            self.top_level.add(self._node(node, set()))
        library = graph.one(2)
        if library is None:
            return
        parts = self.message("FunctionDefLibrary", library.table())
        for function in parts.all(1):
            self._function(self.message("FunctionDef", function.table()))
        for gradient in parts.all(2):
            pair = gradient.table()
            self._offered.update((pair.text(1), pair.text(2)))
        for gradient in parts.all(3):
            self._offered.add(gradient.table().text(1))

    def _function(self, function: Table) -> None:
        signature = function.one(1)
        name = "" if signature is None else signature.table().text(1)
        if not name or name in self.found.functions:
            raise Corrupt(
                f"a function of the graph has no name or one that is taken ({name!r:.80})"
            )
        if len(self.found.functions) >= _MOST_FUNCTIONS:
            raise Corrupt(f"the graph has more than {_MOST_FUNCTIONS:,} functions")
        self.found.functions[name] = None
        called = self._calls.setdefault(name, set())
        for node in function.all(3):
            operator = self._node(node, called)
            if operator in _OF_CHECKPOINTS:
                self._with_checkpoints.setdefault(name, set()).add(operator)
        for number in (5, 7):  # attributes of the function and of its arguments
            for item in function.all(number):
                self._calls_in(item, called, 0)

    def _node(self, node: Field, called: set[str]) -> str:
        table = self.message("NodeDef", node.table())
        operator = table.text(2)
        self.found.operators[operator] += 1
        if operator in self.found.functions:  # a call without an operator of its own
            called.add(operator)
        elif operator not in _COMPUTING and operator not in _OF_CHECKPOINTS:
            self._odd(operator, called)
        for item in table.all(5):
            entry = item.table()
            value = entry.one(2)
            if value is not None:
                self._attribute(value, called)
        return operator

    def _odd(self, operator: str, called: set[str]) -> None:
        """Note an operator that is not in the table; a function may be one, and come later."""
        if _REACHING.fullmatch(operator):
            self.found.reaching[operator[:_SHOWN]] = None
        else:
            called.add(operator)
            self.found.unknown[operator[:_SHOWN] or "an operator without a name"] = None

    def _attribute(self, value: Field, called: set[str]) -> None:
        table = self.message("AttrValue", value.table())
        for function in table.all(10):
            called.add(function.table().text(1))
        for tensor in table.all(8):
            self._constant(tensor.table())
        for items in table.all(1):
            inside = items.table()
            for function in inside.all(9):
                called.add(function.table().text(1))
            for tensor in inside.all(8):
                self._constant(tensor.table())

    def _constant(self, tensor: Table) -> None:
        shape = shape_of(tensor, 2) or ()
        width = DTYPES.get(tensor.signed(1), ("", 8))[1] or 1
        self._constants -= max(math.prod(shape) * width, 0)
        content = tensor.one(4)
        self._constants += 0 if content is None else len(content.view())
        if self._constants < 0:
            raise Corrupt("the graph has constants of more items than it holds")

    def _calls_in(self, item: Field, called: set[str], depth: int) -> None:
        """Find functions that are named anywhere in an attribute."""
        entry = item.table()
        value = entry.one(2)
        if value is None or value.wire != LENGTH or depth > 3:
            return
        for part in value.message():
            if part.number == 10:
                called.add(part.table().text(1))

    def done(self) -> Described:
        """Say which functions reach for files where something else than the graph calls them."""
        for name in self.found.functions:
            self.found.unknown.pop(name[:_SHOWN], None)  # called by its name, as an operator
        callers: dict[str, set[str]] = {}
        for name, called in self._calls.items():
            for other in called:
                callers.setdefault(other, set()).add(name)
        for function, operators in self._with_checkpoints.items():
            if not self._offered.isdisjoint(_upwards(function, callers)):
                self.found.reaching.update(dict.fromkeys(sorted(operators)))
        return self.found


def _upwards(function: str, callers: dict[str, set[str]]) -> Iterator[str]:
    """Yield a function and all that call it, however far."""
    todo, seen = [function], {function}
    while todo:
        name = todo.pop()
        yield name
        fresh = callers.get(name, set()) - seen
        seen |= fresh
        todo.extend(fresh)


def _signature(table: Table) -> Signature:
    return Signature(*(tuple(_values(table, number)) for number in (1, 2)))


def _values(table: Table, number: int) -> Iterator[Value]:
    for item in sorted(table.all(number), key=lambda each: each.table().text(1)):
        entry = item.table()
        info = entry.one(2)
        if info is None:
            continue
        told = info.table()
        plain = told.one(4) is None and told.one(5) is None
        dtype = DTYPES.get(told.signed(2), ("other", 0))[0] if plain else "composite"
        yield Value(entry.text(1), dtype, shape_of(told, 3))
