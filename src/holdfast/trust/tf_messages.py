"""The messages of TensorFlow's graphs: which fields they have, shapes, types and attributes.

Sources of the format: ``saved_model.proto``, ``meta_graph.proto``, ``graph.proto``,
``node_def.proto``, ``function.proto``, ``attr_value.proto``, ``tensor.proto`` and ``types.proto``
of TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.protobuf import Field, Table

__all__ = ["DTYPES", "Oddities", "dtype_of", "in_attributes", "shape_of"]

_MOST_RANK: Final = 254
_MOST_NOTED: Final = 200
# A constant may say one number for all of its items; all of them together have a limit.
_MOST_CONSTANTS: Final = 256 << 20

# Number in DataType to name and bytes per item; 0 for what has no size of its own.
DTYPES: Final[dict[int, tuple[str, int]]] = {
    1: ("float32", 4), 2: ("float64", 8), 3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2),
    6: ("int8", 1), 7: ("string", 0), 8: ("complex64", 8), 9: ("int64", 8), 10: ("bool", 1),
    11: ("qint8", 0), 12: ("quint8", 0), 13: ("qint32", 0), 14: ("bfloat16", 2), 15: ("qint16", 0),
    16: ("quint16", 0), 17: ("uint16", 2), 18: ("complex128", 16), 19: ("float16", 2),
    20: ("resource", 0), 21: ("variant", 0), 22: ("uint32", 4), 23: ("uint64", 8),
    24: ("float8_e5m2", 1), 25: ("float8_e4m3fn", 1), 29: ("int4", 0), 30: ("uint4", 0),
}  # fmt: skip

# Numbers of the fields that are there once, and of those that repeat.
_FIELDS: Final[dict[str, tuple[frozenset[int], frozenset[int]]]] = {
    "SavedModel": (frozenset({1}), frozenset({2})),
    "MetaGraphDef": (frozenset({1, 2, 3, 7}), frozenset({4, 5, 6})),
    "GraphDef": (frozenset({2, 3, 4, 5}), frozenset({1})),
    "NodeDef": (frozenset({1, 2, 4, 6, 7}), frozenset({3, 5})),
    "FunctionDefLibrary": (frozenset(), frozenset({1, 2, 3})),
    "FunctionDef": (frozenset({1, 2}), frozenset({3, 4, 5, 6, 7, 8})),
    "attribute": (frozenset({1, 2}), frozenset()),
    "AttrValue": (frozenset(range(1, 11)), frozenset()),
    "ListValue": (frozenset(), frozenset(range(2, 10))),
    "NameAttrList": (frozenset({1}), frozenset({2})),
    "SavedObjectGraph": (frozenset(), frozenset({1, 2})),
}


@dataclass(slots=True)
class Oddities:
    """What no writer of graphs does.

    Attributes:
        fields: Fields that no message here has; one may hold what is not judged.
        faults: Lies: what is there twice, so that readers may differ, and what cannot be.
        room: Bytes that constants may still claim beyond those they hold.
    """

    fields: dict[str, None] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)
    room: int = _MOST_CONSTANTS

    def table(self, kind: str, part: Field) -> Table:
        """Read a message of a kind that is known, all of it; raises ``Corrupt``."""
        return self.checked(kind, part.table())

    def checked(self, kind: str, table: Table) -> Table:
        """Note the fields of a message that are not known, or doubled."""
        once, repeated = _FIELDS[kind]
        for number in table.numbers() - repeated:
            if len(self.fields) >= _MOST_NOTED:
                break
            if number not in once:
                self.fields[f"field {number} of {kind}"] = None
            elif len(table.all(number)) > 1:
                self.faults[f"field {number} of {kind} is there twice"] = None
        return table

    def constant(self, tensor: Table) -> None:
        """Count what a ``TensorProto`` claims beyond the bytes it holds."""
        width = DTYPES.get(tensor.signed(1), ("", 8))[1] or 1
        content = tensor.one(4)
        held = 0 if content is None else len(content.view())
        self.room -= max(math.prod(shape_of(tensor, 2) or ()) * width - held, 0)
        if self.room < 0:
            self.faults["the graph has constants of more items than it holds"] = None


def dtype_of(number: int) -> str:
    """Return the name of a type."""
    return DTYPES.get(number, (f"type {number}", 0))[0]


def shape_of(message: Table, number: int) -> tuple[int, ...] | None:
    """Read a field that is a TensorShapeProto; None where the rank is not known.

    Raises:
        Corrupt: It has more dimensions than a tensor can have.
    """
    told = message.one(number)
    if told is None:
        return ()
    shape = told.table()
    if shape.signed(3):
        return None
    axes = shape.all(2)
    if len(axes) > _MOST_RANK:
        raise Corrupt(f"a shape has {len(axes)} dimensions")
    return tuple(axis.table().signed(1) for axis in axes)


def in_attributes(entries: Iterable[Field], odd: Oddities) -> Iterator[str]:
    """Yield the functions that attributes name: alone, in lists and in attributes of functions.

    Constants in them are counted on the way.
    """
    for entry in entries:
        for value in odd.table("attribute", entry).all(2):
            table = odd.table("AttrValue", value)
            lists = [odd.table("ListValue", part) for part in table.all(1)]
            tensors, functions = [table.all(8)], [table.all(10)]
            tensors += [each.all(8) for each in lists]
            functions += [each.all(9) for each in lists]
            for tensor in (part for parts in tensors for part in parts):
                odd.constant(tensor.table())
            for function in (part for parts in functions for part in parts):
                named = odd.table("NameAttrList", function)
                yield named.text(1)
                yield from in_attributes(named.all(2), odd)
