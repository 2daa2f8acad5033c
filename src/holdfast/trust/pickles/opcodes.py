"""What every opcode does to the symbolic machine.

Source of the opcodes: CPython's ``Lib/pickletools.py``; of what they do: ``Modules/_pickle.c`` and
``Lib/pickle.py``.
"""

from __future__ import annotations

import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from holdfast.trust.pickles import text
from holdfast.trust.pickles.stack import PLAIN, Break, Machine
from holdfast.trust.pickles.values import (
    Call,
    Global,
    LongBytearray,
    Members,
    OutOfBand,
    Pairs,
    Persistent,
)

__all__ = ["TABLE"]

_LONG: Final = 1 << 10
_HIGHEST: Final = 5


def _push(machine: Machine, *, value: Any) -> None:
    machine.stack.append(value)


def _push_new(kind: Callable[[], Any], machine: Machine) -> None:
    machine.stack.append(kind())


def _line_number(read: Callable[[bytes], Any], machine: Machine) -> None:
    line = machine.line()
    try:
        value = read(line)
    except ValueError as error:
        if len(line) < 4000:
            raise Break(f"no number: {error!s:.80}") from error
        machine.find(f"{error!s:.80}")
        value = 0
    machine.stack.append(value)


def _integer(width: int, machine: Machine, *, signed: bool) -> None:
    machine.stack.append(int.from_bytes(machine.take(width), "little", signed=signed))


def _long(width: int, machine: Machine) -> None:
    size = int.from_bytes(machine.take(width), "little", signed=width == 4)
    if size < 0:
        raise Break("a number has a negative length")
    machine.stack.append(int.from_bytes(machine.take(size), "little", signed=True))


def _float(machine: Machine) -> None:
    machine.stack.append(struct.unpack(">d", machine.take(8))[0])


def _bytes(width: int, machine: Machine) -> None:
    machine.stack.append(machine.long_bytes(machine.number(width)))


def _bytearray(machine: Machine) -> None:
    data = machine.take(machine.number(8))
    machine.stack.append(bytearray(data) if len(data) < _LONG else LongBytearray(data))


def _unicode(width: int, machine: Machine) -> None:
    data = machine.take(machine.number(width))
    machine.stack.append(_decoded(data, "utf-8", "surrogatepass"))


def _decoded(data: bytes | memoryview, encoding: str, errors: str = "strict") -> str:
    try:
        return str(data, encoding, errors)
    except UnicodeDecodeError as error:
        raise Break(f"a text is not {encoding}") from error


def _unicode_line(machine: Machine) -> None:
    machine.stack.append(_decoded(machine.line(), "raw-unicode-escape"))


def _push_python2(machine: Machine, data: bytes | memoryview) -> None:
    """Push a string of Python 2: text where it is ASCII, else bytes."""
    try:
        machine.stack.append(str(data, "ascii"))
    except UnicodeDecodeError:
        machine.out.python2 = True
        machine.stack.append(data)


def _string(width: int, machine: Machine) -> None:
    _push_python2(machine, machine.long_bytes(machine.number(width)))


def _string_line(machine: Machine) -> None:
    try:
        data = text.unescaped(machine.line())
    except ValueError as error:
        raise Break(f"{error}") from error
    _push_python2(machine, data)


def _next_buffer(machine: Machine) -> None:
    machine.stack.append(OutOfBand(machine.out.buffers, machine.opcode_at))
    machine.out.buffers += 1


def _readonly_buffer(machine: Machine) -> None:
    machine.top()


# Containers.


def _tuple_of(count: int, machine: Machine) -> None:
    start = len(machine.stack) - count
    machine.stack.append(tuple(machine.cut(start)) if count else ())


def _tuple(machine: Machine) -> None:
    machine.stack.append(tuple(machine.cut(machine.unmark())))


def _list(machine: Machine) -> None:
    machine.stack.append(machine.cut(machine.unmark()))


def _dict(machine: Machine) -> None:
    machine.stack.append(Pairs(_pairs(machine.cut(machine.unmark()))))


def _frozenset(machine: Machine) -> None:
    machine.stack.append(Members(machine.cut(machine.unmark()), frozen=True))


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        raise Break("a dict has an odd number of keys and values")
    return list(zip(items[::2], items[1::2], strict=True))


def _append(machine: Machine) -> None:
    machine.top(1)
    _extend(machine, [machine.pop()])


def _appends(machine: Machine) -> None:
    items = machine.cut(machine.unmark())
    machine.top()
    if items:
        _extend(machine, items)


def _extend(machine: Machine, items: list[Any]) -> None:
    target = machine.top()
    if type(target) is list:
        target.extend(items)
    elif type(target) is Call:
        target.appended = _more(target.appended, items)
    elif isinstance(target, (bytearray, LongBytearray)):
        machine.find("it appends to a bytearray, which no pickler does")
    else:
        machine.changed(target, "append", items)


def _more(old: Any, items: list[Any]) -> list[Any]:
    """Return the items so far and more; what is long already is not copied."""
    if not old:
        return items
    old.extend(items)
    return old  # type: ignore[no-any-return]


def _setitem(machine: Machine) -> None:
    machine.top(2)
    value, key = machine.pop(), machine.pop()
    _set(machine, [(key, value)])


def _setitems(machine: Machine) -> None:
    pairs = _pairs(machine.cut(machine.unmark()))
    machine.top()
    if pairs:
        _set(machine, pairs)


def _set(machine: Machine, pairs: list[tuple[Any, Any]]) -> None:
    target = machine.top()
    if type(target) is Pairs:
        target.items.extend(pairs)
    elif type(target) is Call:
        target.items = _more(target.items, pairs)
    elif isinstance(target, (bytearray, LongBytearray)):
        machine.find("it sets an item of a bytearray, which no pickler does")
    elif type(target) is list:
        _set_in_list(machine, target, pairs)
    else:
        machine.changed(target, "setitem", pairs)


def _set_in_list(machine: Machine, target: list[Any], pairs: list[tuple[Any, Any]]) -> None:
    """Set items of a list, which no pickler does and every unpickler would."""
    for key, value in pairs:
        if isinstance(key, int):
            if not -len(target) <= key < len(target):
                raise Break("it sets an item beyond a list's end")
            target[key] = value
        elif isinstance(key, PLAIN):
            raise Break("it sets an item of a list by no index")
        else:
            machine.find("it changes a list by a computed index")


def _additems(machine: Machine) -> None:
    items = machine.cut(machine.unmark())
    target = machine.top()
    if not items:
        return
    if type(target) is Members and not target.frozen:
        target.items.extend(items)
    elif type(target) is Call:
        target.added = _more(target.added, items)
    else:
        machine.changed(target, "add", items)


# The stack and the memo.


def _mark(machine: Machine) -> None:
    machine.fence = len(machine.stack)
    machine.marks.append(machine.fence)


def _pop(machine: Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.unmark()
    else:
        machine.pop()


def _pop_mark(machine: Machine) -> None:
    machine.cut(machine.unmark())


def _dup(machine: Machine) -> None:
    machine.stack.append(machine.top())


def _place(machine: Machine) -> int:
    try:
        return text.index(machine.line())
    except ValueError as error:
        raise Break(f"{error!s:.80}") from error


def _get_line(machine: Machine) -> None:
    machine.recall(_place(machine))


def _get(width: int, machine: Machine) -> None:
    machine.recall(machine.number(width))


def _put_line(machine: Machine) -> None:
    machine.remember(_place(machine))


def _put(width: int, machine: Machine) -> None:
    machine.remember(machine.number(width))


def _memoize(machine: Machine) -> None:
    machine.remember(len(machine.memo))


# Imports and calls.


def _import(machine: Machine, module: str, name: str) -> Global:
    """Note an import, under the name that Python 3 looks for."""
    if machine.out.protocol < 3:
        renamed = NAME_MAPPING.get((module, name))
        module, name = renamed or (IMPORT_MAPPING.get(module, module), name)
    return machine.imported(module, name)


def _import_lines(machine: Machine, encoding: str) -> Global:
    module = _decoded(machine.line(), encoding)
    return _import(machine, module, _decoded(machine.line(), encoding))


def _global(machine: Machine) -> None:
    machine.stack.append(_import_lines(machine, "utf-8"))


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if isinstance(name, str) and isinstance(module, str):
        machine.stack.append(_import(machine, module, name))
    else:
        machine.stack.append(machine.imported(_computed(module), _computed(name)))


def _computed(value: Any) -> str:
    """Return a name, or words for one that is not in the pickle as it is.

    Byte strings of Python 2 are names where the unpickler is told an encoding.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, memoryview)):
        return str(value, "latin-1")
    if isinstance(value, (Call, Persistent, Global)):
        return f"<computed at byte {value.position}>"
    raise Break("an import by something that is no text")


def _inst(machine: Machine) -> None:
    function = _import_lines(machine, "ascii")  # Python's imports before it takes the mark
    arguments = tuple(machine.cut(machine.unmark()))
    machine.called(function, arguments, new=not arguments)


def _obj(machine: Machine) -> None:
    items = machine.cut(machine.unmark())
    if not items:
        raise Break("it takes from an empty stack")
    machine.called(items[0], tuple(items[1:]), new=len(items) == 1)


def _reduce(machine: Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if isinstance(arguments, (type(None), int, float)):
        raise Break("it calls with arguments that are no tuple")
    machine.called(function, arguments, new=False)


def _newobj(machine: Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.called(function, arguments, new=True)


def _newobj_ex(machine: Machine) -> None:
    keywords, arguments, function = machine.pop(), machine.pop(), machine.pop()
    machine.called(function, arguments, keywords, new=True)


def _build(machine: Machine) -> None:
    machine.top(1)
    state, target = machine.pop(), machine.top()
    if type(target) is Call:
        target.states = _more(target.states, [state])
    elif not isinstance(target, PLAIN) or _may_set(state):
        machine.changed(target, "build", state)


def _may_set(state: Any) -> bool:
    """Say whether BUILD with this state would certainly set something, of a plain value in vain."""
    if isinstance(state, tuple) and len(state) == 2:
        state = state[0]
    if isinstance(state, (Pairs, Members)):
        return bool(state.items)
    return isinstance(state, PLAIN) and bool(state)


def _extension(width: int, machine: Machine) -> None:
    code = int.from_bytes(machine.take(width), "little", signed=width == 4)
    if code <= 0:
        raise Break("an extension code that is not positive")
    machine.stack.append(machine.imported("copyreg", f"<extension {code}>"))


def _push_persistent(machine: Machine, key: Any) -> None:
    found = Persistent(key, machine.opcode_at)
    machine.out.persistent.append(found)
    machine.stack.append(found)


def _persid(machine: Machine) -> None:
    _push_persistent(machine, _decoded(machine.line(), "ascii"))


def _binpersid(machine: Machine) -> None:
    _push_persistent(machine, machine.pop())


def _proto(machine: Machine) -> None:
    protocol = machine.number(1)
    if protocol > _HIGHEST:
        machine.find(f"it is of protocol {protocol}, which no Python has")
    machine.out.protocol = protocol


def _frame(machine: Machine) -> None:
    machine.enter_frame(machine.number(8))


_ACTIONS: Final[dict[bytes, Callable[[Machine], None]]] = {
    pickle.INT: partial(_line_number, text.flag_or_integer),
    pickle.LONG: partial(_line_number, text.integer),
    pickle.FLOAT: partial(_line_number, text.floating),
    pickle.BININT: partial(_integer, 4, signed=True),
    pickle.BININT1: partial(_integer, 1, signed=False),
    pickle.BININT2: partial(_integer, 2, signed=False),
    pickle.LONG1: partial(_long, 1),
    pickle.LONG4: partial(_long, 4),
    pickle.BINFLOAT: _float,
    pickle.STRING: _string_line,
    pickle.BINSTRING: partial(_string, 4),
    pickle.SHORT_BINSTRING: partial(_string, 1),
    pickle.BINBYTES: partial(_bytes, 4),
    pickle.SHORT_BINBYTES: partial(_bytes, 1),
    pickle.BINBYTES8: partial(_bytes, 8),
    pickle.BYTEARRAY8: _bytearray,
    pickle.NEXT_BUFFER: _next_buffer,
    pickle.READONLY_BUFFER: _readonly_buffer,
    pickle.NONE: partial(_push, value=None),
    pickle.NEWTRUE: partial(_push, value=True),
    pickle.NEWFALSE: partial(_push, value=False),
    pickle.UNICODE: _unicode_line,
    pickle.SHORT_BINUNICODE: partial(_unicode, 1),
    pickle.BINUNICODE: partial(_unicode, 4),
    pickle.BINUNICODE8: partial(_unicode, 8),
    pickle.EMPTY_LIST: partial(_push_new, list),
    pickle.EMPTY_DICT: partial(_push_new, Pairs),
    pickle.EMPTY_SET: partial(_push_new, Members),
    pickle.EMPTY_TUPLE: partial(_tuple_of, 0),
    pickle.TUPLE1: partial(_tuple_of, 1),
    pickle.TUPLE2: partial(_tuple_of, 2),
    pickle.TUPLE3: partial(_tuple_of, 3),
    pickle.TUPLE: _tuple,
    pickle.LIST: _list,
    pickle.DICT: _dict,
    pickle.FROZENSET: _frozenset,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.SETITEM: _setitem,
    pickle.SETITEMS: _setitems,
    pickle.ADDITEMS: _additems,
    pickle.MARK: _mark,
    pickle.POP: _pop,
    pickle.POP_MARK: _pop_mark,
    pickle.DUP: _dup,
    pickle.GET: _get_line,
    pickle.BINGET: partial(_get, 1),
    pickle.LONG_BINGET: partial(_get, 4),
    pickle.PUT: _put_line,
    pickle.BINPUT: partial(_put, 1),
    pickle.LONG_BINPUT: partial(_put, 4),
    pickle.MEMOIZE: _memoize,
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.INST: _inst,
    pickle.OBJ: _obj,
    pickle.REDUCE: _reduce,
    pickle.NEWOBJ: _newobj,
    pickle.NEWOBJ_EX: _newobj_ex,
    pickle.BUILD: _build,
    pickle.EXT1: partial(_extension, 1),
    pickle.EXT2: partial(_extension, 2),
    pickle.EXT4: partial(_extension, 4),
    pickle.PERSID: _persid,
    pickle.BINPERSID: _binpersid,
    pickle.PROTO: _proto,
    pickle.FRAME: _frame,
}

# By byte; None where no opcode is. STOP is the reader's own.
TABLE: Final[tuple[Callable[[Machine], None] | None, ...]] = tuple(
    _ACTIONS.get(bytes([code])) for code in range(256)
)
