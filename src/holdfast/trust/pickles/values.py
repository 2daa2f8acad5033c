"""What a pickle would build, as a graph of plain values and of descriptions.

Plain values are themselves: None, bool, int, float, str, bytes, bytearray, tuple, list. Long bytes
are read-only memoryviews of the input. Whatever an unpickler would import or call is one of the
classes below, and nothing of it is ever imported or called. Values may be shared and contain each
other in circles; they compare by identity and their ``repr`` does not descend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from holdfast.trust.report import Finding

__all__ = [
    "Call",
    "Change",
    "Global",
    "Inline",
    "LongBytearray",
    "Members",
    "OutOfBand",
    "Pairs",
    "Persistent",
    "Reading",
]


@dataclass(eq=False, slots=True)
class Global:
    """A class or function that would be imported.

    Attributes:
        module: Its module, as Python 3 would look for it: names of Python 2 in pickles of
            protocols 0 to 2 are translated as unpicklers do (``__builtin__`` is ``builtins``).
        name: Its qualified name. A name that the pickle computes is written in angle brackets.
        position: Byte of the opcode.
    """

    module: str
    name: str
    position: int

    @property
    def key(self) -> str:
        """The name as vocabularies spell it: ``module:name``."""
        return f"{self.module}:{self.name}"


@dataclass(eq=False, slots=True, repr=False)
class Call:
    """Something that would be called: REDUCE, NEWOBJ, NEWOBJ_EX, OBJ or INST, then BUILD and so on.

    Attributes:
        function: A ``Global``, or whatever stands where a callable should.
        arguments: A tuple of values (or whatever stands there).
        keywords: A ``Pairs``, for NEWOBJ_EX.
        new: True when ``cls.__new__`` would be called and not the class itself; so it is for OBJ
            and INST without arguments, if what they name is a class.
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
    # Empty tuples until something comes: most calls have none of these, and there may be millions.
    states: list[Any] | tuple[()] = ()
    appended: list[Any] | tuple[()] = ()
    items: list[tuple[Any, Any]] | tuple[()] = ()
    added: list[Any] | tuple[()] = ()

    def __repr__(self) -> str:
        what = self.function if isinstance(self.function, Global) else type(self.function).__name__
        return f"Call({what!r}, position={self.position})"


@dataclass(eq=False, slots=True, repr=False)
class Pairs:
    """A dict, as (key, value) in order: keys may be symbolic, so nothing is hashed."""

    items: list[tuple[Any, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Pairs of {len(self.items)}"


@dataclass(eq=False, slots=True, repr=False)
class Members:
    """A set or frozenset."""

    items: list[Any] = field(default_factory=list)
    frozen: bool = False

    def __repr__(self) -> str:
        return f"Members of {len(self.items)}"


@dataclass(eq=False, slots=True, repr=False)
class LongBytearray:
    """A bytearray that is long enough to be left where it lies.

    Attributes:
        data: A view of the input.
    """

    data: memoryview


@dataclass(eq=False, slots=True)
class Persistent:
    """A PERSID or BINPERSID: something the file keeps elsewhere, for example a torch storage."""

    key: Any
    position: int

    def __repr__(self) -> str:
        return f"Persistent(position={self.position})"


@dataclass(eq=False, slots=True)
class OutOfBand:
    """A NEXT_BUFFER: bytes that whoever loads the pickle must hand over.

    Attributes:
        index: Which of them, from 0.
    """

    index: int
    position: int


@dataclass(eq=False, slots=True, repr=False)
class Inline:
    """An array that joblib writes into the stream after its description.

    Attributes:
        offset: Byte in the (decompressed) stream where the array's bytes, or its pickle, start.
        size: How many.
        wrapper: The ``Call`` that makes the description, ``joblib.numpy_pickle.NumpyArrayWrapper``.
        facts: The description's attributes by name: shape, order, dtype, subclass.
        nested: For arrays of objects, which are a pickle of their own: what that builds.
    """

    offset: int
    size: int
    wrapper: Call | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    nested: Any = None

    def __repr__(self) -> str:
        return f"Inline(offset={self.offset}, size={self.size})"


@dataclass(eq=False, slots=True, repr=False)
class Change:
    """A change of something that the pickle did not make, for example an imported list.

    Attributes:
        target: What would be changed: a ``Global``, ``Persistent``, ``Inline`` or ``OutOfBand``.
        how: ``append``, ``setitem``, ``add`` or ``build``.
        arguments: What would be handed over.
        position: Byte of the opcode.
    """

    target: Any
    how: str
    arguments: Any
    position: int


@dataclass(slots=True, repr=False)
class Reading:
    """What was read of one pickle.

    Attributes:
        root: What it would build; None when it breaks off (see ``end``).
        globals: Every import, in order.
        calls: Every call, in order.
        changes: Changes of what it did not make itself, in order.
        persistent: Everything it keeps elsewhere, in order.
        inline: Arrays of joblib, in order.
        protocol: The last protocol it declares; 0 when it declares none.
        end: Byte after its STOP; None when it breaks off before.
        cut: Whether it breaks off because the bytes end.
        python2: Whether it has byte strings of Python 2 that are not ASCII.
        buffers: How many buffers it wants from whoever loads it.
        opcodes: How many opcodes were read, those of pickles inside included.
        findings: What is wrong with it, in order.
    """

    root: Any = None
    globals: list[Global] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    persistent: list[Persistent] = field(default_factory=list)
    inline: list[Inline] = field(default_factory=list)
    protocol: int = 0
    end: int | None = None
    cut: bool = False
    python2: bool = False
    buffers: int = 0
    opcodes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether it was read to its end and nothing was wrong with it."""
        return self.end is not None and not self.findings
