"""What to make of calls in pickles of Python's own values and of numpy's random states."""

from __future__ import annotations

import datetime as dt
import re
from collections import OrderedDict, deque
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final
from uuid import UUID

from holdfast.codec.encode import Path
from holdfast.errors import Corrupt, Unsupported
from holdfast.rescue import arrays
from holdfast.rescue.graph import Graph, Recipe, arguments_of, key_of, named, state_of
from holdfast.trust.pickles import Call, Global

__all__ = ["RECIPES"]

_MOST_BITS: Final = 1 << 16


def _only(raw: Call) -> None:
    """Refuse a state or items where a call says all."""
    if state_of(raw) is not None:
        raise Corrupt("it has a state, which it does not take")


def _whole(*values: Any) -> tuple[int, ...]:
    if not all(type(value) is int for value in values):
        raise Corrupt("it is not made of whole numbers")
    return values


def _slice(graph: Graph, raw: Call, path: Path) -> slice:
    _only(raw)
    start, stop, step = (graph.make(part, path) for part in arguments_of(raw, 3))
    return slice(start, stop, step)


def _range(_: Graph, raw: Call, __: Path) -> range:
    _only(raw)
    start, stop, step = _whole(*arguments_of(raw, 3))
    if not step:
        raise Corrupt("a range has no step")
    return range(start, stop, step)


def _complex(_: Graph, raw: Call, __: Path) -> complex:
    _only(raw)
    real, imaginary = arguments_of(raw, 2)
    if type(real) is not float or type(imaginary) is not float:
        raise Corrupt("it is not made of two numbers")
    return complex(real, imaginary)


def _items_of(raw: Call) -> list[Any]:
    _only(raw)
    (items,) = arguments_of(raw, 0, 1) or ([],)
    if type(items) not in (list, tuple):
        raise Corrupt("it is not made of a list")
    return list(items)


def _set(graph: Graph, raw: Call, path: Path) -> set[Any]:
    return set(_hashable(graph, raw, path))


def _frozenset(graph: Graph, raw: Call, path: Path) -> frozenset[Any]:
    return frozenset(_hashable(graph, raw, path))


def _hashable(graph: Graph, raw: Call, path: Path) -> list[Any]:
    items = [graph.make(item, path) for item in _items_of(raw)]
    try:
        set(items)
    except TypeError as error:
        raise Corrupt("it has a member that cannot be one") from error
    return items


def _ordered(graph: Graph, raw: Call, path: Path) -> Any:
    (pairs,) = arguments_of(raw, 0, 1) or ([],)
    state = {} if not raw.states else named(raw.states[0])
    # torch notes the versions of modules there, and reads tensors without.
    if state.keys() - {"_metadata"} or len(raw.states) > 1 or raw.appended or raw.added:
        raise Unsupported("an OrderedDict has attributes of its own.")
    for part in state.values():
        graph.make(part, path)
    if type(pairs) is not list or not all(type(p) in (list, tuple) and len(p) == 2 for p in pairs):
        raise Corrupt("it is not made of pairs")
    return graph.fill_dict(OrderedDict(), [*map(tuple, pairs), *raw.items], path)


def _defaultdict(graph: Graph, raw: Call, path: Path) -> Any:
    (factory,) = arguments_of(raw, 0, 1) or (None,)
    if raw.states or raw.appended or raw.added:
        raise Corrupt("more is put into it than items")
    items = graph.fill_dict({}, raw.items, path)
    fields = {"factory": graph.make(factory, path), "items": items}
    return graph.cast.fields("collections.defaultdict", fields)


def _counter(graph: Graph, raw: Call, path: Path) -> Any:
    (items,) = arguments_of(raw, 0, 1) or (None,)
    _only(raw)
    counts = {} if items is None else graph.make(items, path)
    return graph.cast.fields("collections.Counter", {"items": counts})


def _deque(graph: Graph, raw: Call, path: Path) -> Any:
    items, *most = arguments_of(raw, 0, 1, 2) or ((),)
    if items not in ((), []) or raw.states or raw.items or raw.added:
        raise Corrupt("a deque is made of something else than items")
    found: deque[Any] = deque(maxlen=_whole(*most)[0] if most and most[0] is not None else None)
    return graph.fill_list(found, raw.appended, path)


def _decimal(_: Graph, raw: Call, __: Path) -> Decimal:
    _only(raw)
    (text,) = arguments_of(raw, 1)
    try:
        if type(text) is str and len(text) <= _MOST_BITS:
            return Decimal(text)
    except InvalidOperation:
        pass
    raise Corrupt("a Decimal is no number")


def _fraction(_: Graph, raw: Call, __: Path) -> Fraction:
    _only(raw)
    parts: Any = arguments_of(raw, 1, 2)
    if len(parts) == 1 and type(parts[0]) is str:
        parts = tuple(int(p) for p in parts[0].split("/") if p.lstrip("-").isdecimal())[:2]
    numbers = _whole(*parts)
    if not numbers or max(n.bit_length() for n in numbers) > _MOST_BITS or not numbers[-1]:
        raise Corrupt("a Fraction is no number")
    return Fraction(*numbers)


def _uuid(_: Graph, raw: Call, __: Path) -> UUID:
    number = named(state_of(raw)).get("int")
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise Corrupt("a UUID is no number")
    return UUID(int=number)


def _path(_: Graph, raw: Call, __: Path) -> PurePosixPath:
    _only(raw)
    if type(raw.arguments) is not tuple or not all(type(part) is str for part in raw.arguments):
        raise Corrupt("a path is not made of texts")
    return PurePosixPath(*raw.arguments)


def _pattern(_: Graph, raw: Call, __: Path) -> re.Pattern[Any]:
    """Compile a regular expression; what it matches may be slow, but compiling it is not."""
    _only(raw)
    pattern, flags = arguments_of(raw, 2)
    if type(pattern) not in (str, bytes) or len(pattern) > 10_000 or type(flags) is not int:
        raise Corrupt("a regular expression is none")
    try:
        return re.compile(pattern, flags & ~re.DEBUG.value)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise Corrupt(f"a regular expression is none: {error!s:.60}") from error


def _namespace(name: str, graph: Graph, raw: Call, path: Path) -> Any:
    arguments_of(raw, 0)
    state = state_of(raw)
    fields: dict[str, Any] = {}
    if state is not None:
        graph.fill_dict(fields, named(state).items(), path)
    return graph.cast.fields(name, fields)


# Times: the bytes of ``datetime.__reduce__``, see CPython's Lib/_pydatetime.py, ``_getstate``.


def _date(_: Graph, raw: Call, __: Path) -> dt.date:
    _only(raw)
    return dt.date(*_date_parts(_clock_bytes(arguments_of(raw, 1)[0], 4)))


def _datetime(graph: Graph, raw: Call, path: Path) -> Any:
    data, zone = _clock(graph, raw, path, 10)
    fold, month = divmod(data[2], 128)
    parts = (*_date_parts(bytes([data[0], data[1], month, data[3]])), *_time_parts(data[4:]))
    return _checked(dt.datetime, parts, zone, fold)


def _time(graph: Graph, raw: Call, path: Path) -> Any:
    data, zone = _clock(graph, raw, path, 6)
    fold, hour = divmod(data[0], 128)
    return _checked(dt.time, _time_parts(bytes([hour, *data[1:]])), zone, fold)


def _clock(graph: Graph, raw: Call, path: Path, size: int) -> tuple[bytes, Any]:
    _only(raw)
    data, *zone = arguments_of(raw, 1, 2)
    found = graph.make(zone[0], path) if zone else None
    if found is not None and not isinstance(found, dt.timezone):
        raise Unsupported("a time is of a zone that is not known here.")
    return _clock_bytes(data, size), found


def _clock_bytes(data: Any, size: int) -> bytes:
    found = bytes(arrays.bytes_of(data))
    if len(found) != size:
        raise Corrupt("a date or time has a state of another size")
    return found


def _date_parts(data: bytes) -> tuple[int, int, int]:
    return int.from_bytes(data[:2], "big"), data[2], data[3]


def _time_parts(data: bytes) -> tuple[int, int, int, int]:
    return data[0], data[1], data[2], int.from_bytes(data[3:6], "big")


def _checked(kind: Any, parts: tuple[int, ...], zone: Any, fold: int) -> Any:
    try:
        return kind(*parts, tzinfo=zone, fold=fold)
    except ValueError as error:
        raise Corrupt(f"it is no time: {error!s:.60}") from error


def _delta(_: Graph, raw: Call, __: Path) -> dt.timedelta:
    _only(raw)
    try:
        return dt.timedelta(*_whole(*arguments_of(raw, 3)))
    except OverflowError as error:
        raise Corrupt("a timedelta is too large") from error


def _timezone(graph: Graph, raw: Call, path: Path) -> dt.timezone:
    _only(raw)
    parts = [graph.make(part, path) for part in arguments_of(raw, 1, 2)]
    if not isinstance(parts[0], dt.timedelta) or not all(type(name) is str for name in parts[1:]):
        raise Corrupt("a time zone is not an offset with a name")
    return dt.timezone(*parts)


def _partial(graph: Graph, raw: Call, path: Path) -> Any:
    state = state_of(raw)
    if type(state) is not tuple or len(state) != 4 or type(state[1]) is not tuple:
        raise Corrupt("a partial has another state than a function and its arguments")
    function, arguments, keywords, attributes = state
    if attributes is not None and named(attributes):
        raise Unsupported("a partial has attributes of its own.")
    fields = {
        "func": graph.make(function, path),
        "args": graph.make(arguments, path),
        "keywords": graph.fill_dict({}, named(keywords).items(), path),
    }
    return graph.cast.fields("functools.partial", fields)


def _method(graph: Graph, raw: Call, _: Path) -> Any:
    """Take a method of texts, such as ``str.lower``."""
    _only(raw)
    owner, name = arguments_of(raw, 2)
    if key_of(owner) != "builtins:str" or type(name) is not str:
        raise Unsupported("it would take an attribute of something.")
    return graph.function(f"builtins:str.{name}")


def _ufunc(graph: Graph, raw: Call, _: Path) -> Any:
    _only(raw)
    module, name = arguments_of(raw, 2)
    return graph.function(f"{module}:{name}")


# numpy's random states, see numpy/random/_pickle.py and bit_generator.pyx.


def _bit_generator(graph: Graph, raw: Any, path: Path) -> dict[str, Any]:
    """Return the fields of a bit generator: its name, state and seed."""
    if type(raw) is str:
        return {"bit_generator": raw}
    if type(raw) is not Call or key_of(raw.function) != _MAKER:
        raise Corrupt("a random state has no bit generator")
    graph.take(raw)
    (kind,) = arguments_of(raw, 0, 1) or ("MT19937",)
    key = key_of(kind)
    name = kind if key is None else key.partition(":")[2]
    state = state_of(raw)
    state, *seed = state if type(state) is tuple and len(state) == 2 else (state,)
    fields = {"bit_generator": name}
    if state is not None:
        fields["state"] = _random_state(graph, state, path)
    if seed and seed[0] is not None:
        fields["seed"] = graph.make(seed[0], path)
    return fields


def _random_state(graph: Graph, raw: Any, path: Path) -> dict[str, Any]:
    state = named(raw)
    return {name: graph.make(part, path) for name, part in state.items() if name != "bit_generator"}


def _inner(raw: Call) -> Any:
    """Return what a generator draws from: numpy 1.24 to 1.26 name beside it what would make it."""
    inner, *maker = arguments_of(raw, 0, 1, 2) or ("MT19937",)
    if maker and (type(maker[0]) is not Global or maker[0].key != _MAKER):
        raise Corrupt("a random generator is made by something else than numpy's own function")
    return inner


def _generator(graph: Graph, raw: Call, path: Path) -> Any:
    inner = _inner(raw)
    fields = _bit_generator(graph, inner, path)
    if raw.states:  # releases before 1.24 put the state here
        fields["state"] = _random_state(graph, state_of(raw), path)
    return graph.cast.fields("numpy.Generator", fields)


def _legacy_random(graph: Graph, raw: Call, path: Path) -> Any:
    inner = _inner(raw)
    name = _bit_generator(graph, inner, path)["bit_generator"]
    state = named(state_of(raw))
    if state.get("bit_generator", name) != name:
        raise Corrupt("a RandomState has the state of another bit generator")
    drawn = {part: state.pop(part, 0) for part in ("has_gauss", "gauss")}
    inside = {k: graph.make(v, path) for k, v in state.items() if k != "bit_generator"}
    fields: Mapping[str, Any] = {
        "bit_generator": name,
        "state": inside,
        "has_gauss": int(drawn["has_gauss"]) if type(drawn["has_gauss"]) is int else 0,
        "gauss": float(drawn["gauss"]) if type(drawn["gauss"]) in (int, float) else 0.0,
    }
    return graph.cast.fields("numpy.RandomState", fields)


def _seed(graph: Graph, raw: Call, path: Path) -> Any:
    arguments, state = arguments_of(raw, 3), state_of(raw)
    state = arguments[2] if state is None else state
    if type(state) is not tuple or len(state) != 5:
        raise Corrupt("a SeedSequence has another state than numpy writes")
    entropy, spawned, _, size, key = state
    graph.make(state, path)
    numbers = graph.make(entropy, path)
    fields = {
        "entropy": [*map(int, numbers)] if hasattr(numbers, "__len__") else int(numbers),
        "spawn_key": tuple(map(int, graph.make(key, path))),
        "pool_size": int(size),
        "spawned": int(spawned),
    }
    return graph.cast.fields("numpy.SeedSequence", fields)


_RANDOM: Final = "numpy.random._pickle"
_MAKER: Final = f"{_RANDOM}:__bit_generator_ctor"

RECIPES: Final[dict[str, Recipe]] = {
    "builtins:slice": _slice,
    "builtins:range": _range,
    "builtins:complex": _complex,
    "builtins:set": _set,
    "builtins:frozenset": _frozenset,
    "builtins:getattr": _method,
    "collections:OrderedDict": _ordered,
    "collections:defaultdict": _defaultdict,
    "collections:Counter": _counter,
    "collections:deque": _deque,
    "decimal:Decimal": _decimal,
    "fractions:Fraction": _fraction,
    "uuid:UUID": _uuid,
    "pathlib:PurePosixPath": _path,
    "re:_compile": _pattern,
    "argparse:Namespace": partial(_namespace, "argparse.Namespace"),
    "types:SimpleNamespace": partial(_namespace, "types.SimpleNamespace"),
    "datetime:date": _date,
    "datetime:datetime": _datetime,
    "datetime:time": _time,
    "datetime:timedelta": _delta,
    "datetime:timezone": _timezone,
    "functools:partial": _partial,
    "numpy.core:_ufunc_reconstruct": _ufunc,
    "numpy._core:_ufunc_reconstruct": _ufunc,
    f"{_RANDOM}:__randomstate_ctor": _legacy_random,
    f"{_RANDOM}:__generator_ctor": _generator,
    "numpy.random.bit_generator:__pyx_unpickle_SeedSequence": _seed,
}
