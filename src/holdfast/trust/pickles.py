"""Reading a pickle as data: an opcode reader with a symbolic stack that never calls anything.

What a pickle would build is returned as a graph of the values below. Plain values are themselves:
None, bool, int, float, str, bytes, bytearray, tuple, list. Everything that an unpickler would
import or call is only described.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Global:
    """A class or function that would be imported."""

    module: str
    name: str
    position: int


@dataclass(eq=False, slots=True)
class Call:
    """Something that would be called: REDUCE, NEWOBJ, NEWOBJ_EX, OBJ or INST, then BUILD and so on.

    Attributes:
        function: A ``Global``, or whatever stands where a callable should.
        arguments: A tuple of values (or whatever stands there).
        keywords: A ``Pairs``, for NEWOBJ_EX.
        new: True when ``cls.__new__`` would be called and not the class itself.
        position: Byte of the opcode.
        states: Arguments of BUILD opcodes, in order.
        appended: Items of APPEND and APPENDS.
        items: (key, value) of SETITEM and SETITEMS.
        added: Members of ADDITEMS.
    """

    function: Any
    arguments: Any
    position: int
    keywords: Any = None
    new: bool = False
    states: list[Any] = field(default_factory=list)
    appended: list[Any] = field(default_factory=list)
    items: list[tuple[Any, Any]] = field(default_factory=list)
    added: list[Any] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Pairs:
    """A dict, as (key, value) in order: keys may be symbolic, so nothing is hashed."""

    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Members:
    """A set or frozenset."""

    items: list[Any] = field(default_factory=list)
    frozen: bool = False


@dataclass(eq=False, slots=True)
class Persistent:
    """A PERSID or BINPERSID: something the file keeps elsewhere, for example a torch storage."""

    key: Any
    position: int


@dataclass(eq=False, slots=True)
class Inline:
    """Bytes of an array that joblib writes into the stream after the array's description.

    Attributes:
        offset: Byte in the decompressed stream.
        size: How many.
    """

    offset: int
    size: int
