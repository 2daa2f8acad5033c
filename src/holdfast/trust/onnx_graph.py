"""Reading an ONNX model as data: graphs, functions, tensors and where their bytes are.

Walks the wire format and parses nothing twice, so a model of gigabytes costs what its structure
costs. Every graph is looked into: those in attributes (bodies of If, Loop and Scan), in functions
and in training information. Source of the format: onnx.proto of https://github.com/onnx/onnx, and
its docs/ExternalData.md.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.onnx_operators import Judgement, judge
from holdfast.trust.protobuf import LENGTH, Field, Limits, Table
from holdfast.trust.report import MOST_TENSORS, Tensor

__all__ = ["Described", "External", "Value", "describe", "is_location", "size_of"]

_EXTERNAL: Final = 1
_MOST_DIMS: Final = 64
_MOST_METADATA: Final = 100
_SHOWN_TEXT: Final = 1000
_LIMITS: Final = Limits(depth=64)

# Number in TensorProto.DataType to name and bits per item; 0 bits: texts.
_DTYPES: Final[dict[int, tuple[str, int]]] = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 8: ("string", 0), 9: ("bool", 8), 10: ("float16", 16),
    11: ("float64", 64), 12: ("uint32", 32), 13: ("uint64", 64), 14: ("complex64", 64),
    15: ("complex128", 128), 16: ("bfloat16", 16), 17: ("float8_e4m3fn", 8),
    18: ("float8_e4m3fnuz", 8), 19: ("float8_e5m2", 8), 20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4), 22: ("int4", 4), 23: ("float4_e2m1fn", 4), 24: ("float8_e8m0fnu", 8),
    25: ("uint2", 2), 26: ("int2", 2), 27: ("float6_e2m3fn", 6), 28: ("float6_e3m2fn", 6),
}  # fmt: skip
# Number of a field of TensorProto with typed values to the dtypes it may hold.
_TYPED: Final = {
    4: {1, 14},
    5: {2, 3, 4, 5, 6, 9, 10, *range(16, 29)},
    7: {7},
    10: {11, 15},
    11: {12, 13},
}
_PAIRS: Final = {14, 15}
_WIDTHS: Final = {4: 4, 10: 8}  # of packed floats and doubles; the others are varints
_CONTINUED: Final = bytes(range(0x80, 0x100))
_CHUNK: Final = 1 << 20

_KEYS: Final = frozenset({"location", "offset", "length", "checksum", "basepath"})

# Fields that messages have; another may hold what this reader cannot judge.
_KNOWN: Final[dict[str, frozenset[int]]] = {
    "ModelProto": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}),
    "GraphProto": frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16}),
    "NodeProto": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
    "AttributeProto": frozenset({*range(1, 12), 13, 14, 15, 20, 21, 22, 23}),
    "TensorProto": frozenset({*range(1, 15), 16}),
    "FunctionProto": frozenset({1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
    "TrainingInfoProto": frozenset({1, 2, 3, 4}),
}


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of the graph.

    Attributes:
        name: Its name.
        dtype: Name of the items' type; for a sequence, map or optional value its kind.
        shape: Dimensions: a number, a symbol, or None for one that is not told; None where it is
            no tensor or its rank is not told.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class External:
    """A tensor whose bytes lie in another file.

    Attributes:
        tensor: Its name.
        location: The file, relative to the model's folder; ``is_location`` holds for it.
        offset: Where in the file.
        length: How many bytes, as dtype and shape ask for.
    """

    tensor: str
    location: str
    offset: int
    length: int


@dataclass(slots=True)
class Described:
    """What a model says.

    Attributes:
        ir_version: Version of the format.
        producer: What wrote it.
        producer_version: Of that.
        opsets: Version of the operators by domain; "" is the standard one.
        inputs: Inputs of the graph that have no value in it.
        outputs: Outputs of the graph.
        operators: How often each operator is used, ``name`` or ``domain::name``.
        places: Byte of one node of each operator.
        functions: Functions the model defines, ``domain::name``.
        tensors: Tensors, at most ``MOST_TENSORS`` of them.
        tensor_count: How many there are in all.
        tensor_bytes: Their size, wherever they are.
        externals: Tensors in other files.
        metadata: The producer's own texts, shortened.
        locales: Locales that text operators ask for; "" where they leave it to the runtime.
        reaching: Operators that reach out of the graph, ``domain::name``.
        unknown: Operators and fields of which nothing is known, in words.
    """

    ir_version: int = 0
    producer: str = ""
    producer_version: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    operators: Counter[str] = field(default_factory=Counter)
    places: dict[str, int] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    tensors: list[Tensor] = field(default_factory=list)
    tensor_count: int = 0
    tensor_bytes: int = 0
    externals: list[External] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    locales: set[str] = field(default_factory=set)
    reaching: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def describe(data: bytes | memoryview) -> Described:
    """Walk a serialised ``ModelProto``.

    Args:
        data: Its bytes; views of a mapped file are not copied.

    Raises:
        Corrupt: It is no model, contradicts itself, or is beyond a limit; says at which byte.
    """
    walk = _Walk()
    walk.model(protobuf.table(data, _LIMITS))
    return walk.found


def size_of(code: int, shape: Iterable[int]) -> int:
    """Return how many bytes the raw values of a tensor take; raises ``Corrupt``.

    Args:
        code: Number of its type in ``TensorProto.DataType``.
        shape: Dimensions.
    """
    if code not in _DTYPES:
        raise Corrupt(f"A tensor has the unknown type {code}.")
    return -(-math.prod(shape) * _DTYPES[code][1] // 8)


def is_location(text: str) -> bool:
    """Say whether a text names a file inside a folder, on every file system."""
    if not text.isprintable() or len(text) > _SHOWN_TEXT:
        return False
    if unicodedata.normalize("NFC", text) != text:
        return False
    for spelling in (text, unicodedata.normalize("NFKC", text)):
        path = PurePosixPath(spelling)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            return False
        if str(path) != spelling or {"\\", ":"} & {*spelling}:
            return False
    return True


class _Walk:
    """Goes through a model with a list of what is left to see, so that nesting costs no stack."""

    def __init__(self) -> None:
        self.found = Described()
        self.todo: list[tuple[Callable[[Table], None], Field]] = []
        self.operators: Counter[tuple[str, str]] = Counter()
        self.functions: set[tuple[str, str]] = set()
        self.unknown: dict[str, None] = {}

    def model(self, model: Table) -> None:
        self.known(model, "ModelProto")
        found = self.found
        found.ir_version = model.signed(1)
        if not 0 < found.ir_version < 1 << 16:
            raise Corrupt(f"An ONNX model has no IR version {found.ir_version}.")
        found.producer = _shortened(model, 2)
        found.producer_version = _shortened(model, 3)
        found.opsets = _opsets(model.all(8))
        found.metadata = _metadata(model.all(14))
        graph = model.one(7)
        if graph is None:
            raise Corrupt("The ONNX model has no graph.")
        self.interface(graph)
        self.todo = [(self.graph, graph)]
        self.todo += [(self.training, part) for part in model.all(20)]
        self.todo += [(self.function, part) for part in model.all(25)]
        while self.todo:
            visit, part = self.todo.pop()
            visit(part.table())
        self.judge()

    def interface(self, graph: Field) -> None:
        """Read inputs and outputs; before IR version 4 every initializer is an input too."""
        table = graph.table()
        given = {tensor.table().text(8) for tensor in table.all(5)}
        inputs = [_value(value) for value in table.all(11)]
        self.found.inputs = tuple(value for value in inputs if value.name not in given)
        self.found.outputs = tuple(_value(value) for value in table.all(12))

    def graph(self, graph: Table) -> None:
        self.known(graph, "GraphProto")
        self.todo += [(self.node, part) for part in graph.all(1)]
        self.todo += [(self.tensor, part) for part in graph.all(5)]
        self.todo += [(self.sparse, part) for part in graph.all(15)]

    def training(self, training: Table) -> None:
        self.known(training, "TrainingInfoProto")
        self.todo += [(self.graph, part) for number in (1, 2) for part in training.all(number)]

    def function(self, function: Table) -> None:
        self.known(function, "FunctionProto")
        self.functions.add((_domain(function.text(10)), function.text(1)))
        for domain, version in _opsets(function.all(9)).items():
            self.found.opsets.setdefault(domain, version)
        self.todo += [(self.node, part) for part in function.all(7)]
        self.todo += [(self.attribute, part) for part in function.all(11)]

    def node(self, node: Table) -> None:
        self.known(node, "NodeProto")
        operator = _domain(node.text(7)), node.text(4)
        if not operator[1]:
            raise Corrupt(f"A node names no operator (byte {node.position:,}).")
        self.operators[operator] += 1
        self.found.places.setdefault(_named(operator), node.position)
        attributes = node.all(5)
        if operator == ("", "StringNormalizer"):
            texts = [part.table() for part in attributes]
            named = [bytes(_view(each, 4)) for each in texts if each.text(1) == "locale"]
            self.found.locales.add(named[0].decode("utf-8", "replace")[:100] if named else "")
        self.todo += [(self.attribute, part) for part in attributes]

    def attribute(self, attribute: Table) -> None:
        self.known(attribute, "AttributeProto")
        visits: tuple[tuple[int, Callable[[Table], None]], ...] = (
            (5, self.tensor), (10, self.tensor), (6, self.graph), (11, self.graph),
            (22, self.sparse), (23, self.sparse),
        )  # fmt: skip
        for number, visit in visits:
            self.todo += [(visit, part) for part in attribute.all(number)]

    def sparse(self, sparse: Table) -> None:
        _dims(sparse.all(3))
        self.todo += [(self.tensor, part) for number in (1, 2) for part in sparse.all(number)]

    def tensor(self, tensor: Table) -> None:
        self.known(tensor, "TensorProto")
        code = tensor.signed(2)
        if code not in _DTYPES:
            raise Corrupt(f"A tensor has the unknown type {code} (byte {tensor.position:,}).")
        name, bits = _DTYPES[code]
        shape = _dims(tensor.all(1))
        count = math.prod(shape)
        size = size_of(code, shape)
        if tensor.one(3) is not None:
            self.unknown["a tensor in segments"] = None
        place = tensor.signed(14)
        if place == _EXTERNAL:
            self.found.externals.append(_external(tensor, size if bits else None))
        elif place or tensor.all(13):
            raise _tensor_error(tensor, "is in another file or not, it says both")
        else:
            size = _check_size(tensor, code, count)
        found = self.found
        found.tensor_count += 1
        found.tensor_bytes += size
        if len(found.tensors) < MOST_TENSORS:
            found.tensors.append(Tensor(name=tensor.text(8), dtype=name, shape=shape))

    def known(self, message: Table, kind: str) -> None:
        for number in sorted(message.numbers() - _KNOWN[kind]):
            self.unknown[f"field {number} of {kind}"] = None

    def judge(self) -> None:
        """Sort the operators by what is known of them; the model's functions are its own graphs."""
        found = self.found
        found.functions = tuple(sorted(map(_named, self.functions)))
        for operator, count in sorted(self.operators.items()):
            name = _named(operator)
            found.operators[name] += count
            judgement = judge(*operator)
            if judgement is Judgement.REACHES_OUT:
                found.reaching.append(name)
            elif judgement is Judgement.UNKNOWN and operator not in self.functions:
                self.unknown[f"the operator {name:.200}"] = None
        found.unknown = list(self.unknown)


def _named(operator: tuple[str, str]) -> str:
    domain, name = operator
    return f"{domain}::{name}" if domain else name


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _opsets(imports: Iterable[Field]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for part in imports:
        table = part.table()
        domain, version = _domain(table.text(1)), table.signed(2)
        if not 0 < version < 1 << 31:
            raise Corrupt(f"The operators of {domain!r:.100} have no version {version}.")
        if opsets.setdefault(domain, version) != version:
            raise Corrupt(f"The operators of {domain!r:.100} have two versions.")
    return opsets


def _metadata(entries: list[Field]) -> dict[str, str]:
    tables = (part.table() for part in entries[:_MOST_METADATA])
    return {_shortened(table, 1): _shortened(table, 2) for table in tables}


def _shortened(table: Table, number: int) -> str:
    """Return the beginning of a text of the producer's own, of whatever length it is."""
    return bytes(_view(table, number)[: 4 * _SHOWN_TEXT]).decode("utf-8", "replace")[:_SHOWN_TEXT]


def _view(table: Table, number: int) -> memoryview:
    part = table.one(number)
    return memoryview(b"") if part is None else part.view()


def _dims(fields: Iterable[Field]) -> tuple[int, ...]:
    """Read dimensions; refuses negative ones, too many, and more items than can be counted."""
    shape: list[int] = []
    for part in fields:
        for number in part.integers():
            if number < 0 or len(shape) >= _MOST_DIMS:
                raise Corrupt(f"A tensor has impossible dimensions (byte {part.position:,}).")
            shape.append(number)
    if math.prod(max(number, 1) for number in shape) >= 1 << 62:
        raise Corrupt(f"A tensor of the shape {shape!r:.200} cannot be.")
    return tuple(shape)


def _tensor_error(tensor: Table, what: str) -> Corrupt:
    return Corrupt(f"The tensor {tensor.text(8)!r:.100} {what} (byte {tensor.position:,}).")


def _check_size(tensor: Table, code: int, count: int) -> int:
    """Compare the values that are there with what dtype and shape ask for; return their bytes."""
    _name, bits = _DTYPES[code]
    raw = tensor.one(9)
    typed = [number for number in (4, 5, 6, 7, 10, 11) if tensor.all(number)]
    if raw is not None:
        wanted = size_of(code, (count,))
        if not bits or typed or len(raw.view()) != wanted:
            raise _tensor_error(tensor, f"has {len(raw.view()):,} bytes of {wanted:,}")
        return wanted
    if not bits:
        texts = [len(part.view()) for part in tensor.all(6)]
        if len(texts) != count or typed not in ([6], []):
            raise _tensor_error(tensor, f"has {len(texts):,} texts of {count:,}")
        return sum(texts)
    held = sum(_items(part, number) for number in typed for part in tensor.all(number))
    wanted = count
    if code in _PAIRS:
        wanted = count * 2
    elif bits in (2, 4):  # as many in each number as a byte has room for
        wanted = -(-count * bits // 8)
    if held != wanted or len(typed) > 1 or any(code not in _TYPED.get(n, ()) for n in typed):
        raise _tensor_error(tensor, f"has {held:,} values of {wanted:,}")
    return size_of(code, (count,))


def _items(part: Field, number: int) -> int:
    """Count the items in one field of repeated numbers."""
    if part.wire != LENGTH:
        return 1
    view = part.view()
    if number in _WIDTHS:
        return len(view) // _WIDTHS[number] if len(view) % _WIDTHS[number] == 0 else -1
    chunks = (bytes(view[at : at + _CHUNK]) for at in range(0, len(view), _CHUNK))
    return sum(len(chunk.translate(None, _CONTINUED)) for chunk in chunks)


def _external(tensor: Table, size: int | None) -> External:
    """Read where an external tensor lies; the file itself is not looked at."""
    entries = [part.table() for part in tensor.all(13)]
    told = {entry.text(1): entry.text(2) for entry in entries}
    if len(told) != len(entries) or not told.keys() <= _KEYS:
        raise _tensor_error(tensor, f"says of its file {sorted(told)!r:.200}")
    if size is None or any(tensor.all(number) for number in (4, 5, 6, 7, 9, 10, 11)):
        raise _tensor_error(tensor, "has values here and in another file, or holds texts")
    location = told.get("location", "")
    if not is_location(location):
        raise _tensor_error(tensor, f"lies in {location!r:.200}, which is not inside the folder")
    numbers = [told.get("offset", "0"), told.get("length", str(size))]
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers):
        raise _tensor_error(tensor, f"lies at {numbers!r:.200}, which are no numbers")
    offset, length = map(int, numbers)
    if length != size:
        raise _tensor_error(tensor, f"has {length:,} bytes of {size:,} in another file")
    return External(tensor.text(8), location, offset, length)


def _value(part: Field) -> Value:
    table = part.table()
    kind = table.one(2)
    dtype, shape = ("unknown", None) if kind is None else _type(kind.table())
    return Value(table.text(1), dtype, shape)


def _type(kind: Table) -> tuple[str, tuple[int | str | None, ...] | None]:
    """Read a TypeProto; of a value that is no tensor only what kind it is."""
    for number, word in (
        (4, "sequence"),
        (5, "map"),
        (9, "optional"),
        (8, "sparse"),
        (7, "opaque"),
    ):
        if kind.one(number) is not None:
            return word, None
    tensor = kind.one(1)
    if tensor is None:
        return "unknown", None
    table = tensor.table()
    name, _ = _DTYPES.get(table.signed(1), ("unknown", 0))
    shape = table.one(2)
    return name, None if shape is None else tuple(_axes(shape))


def _axes(shape: Field) -> Iterator[int | str | None]:
    for axis in shape.table().all(1):
        table = axis.table()
        number, symbol = table.one(1), table.one(2)
        if number is not None:
            size = number.signed()
            yield size if size >= 0 else None
        else:
            yield symbol.text()[:_SHOWN_TEXT] or None if symbol is not None else None
