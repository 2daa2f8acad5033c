"""The arrays and tensors that a pickle describes, by their places in what it would build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from holdfast.trust.pickles import Call, Global, Inline, Members, Pairs, Persistent, Reading

__all__ = ["PickledTensor", "tensors_of"]

_MOST_VISITED: Final = 2_000_000
_LONGEST_NAME: Final = 300
_REBUILT: Final = frozenset(
    f"torch._utils:_rebuild_tensor{version}" for version in ("", "_v2", "_v3")
)
_ARRAYS: Final = frozenset(f"numpy.{core}.multiarray:_reconstruct" for core in ("core", "_core"))
_BUFFERS: Final = frozenset(f"numpy.{core}.numeric:_frombuffer" for core in ("core", "_core"))
_DILL: Final = "dill._dill:_create_array"
_INSIDE: Final = (Call, Pairs, Members, list, tuple, Inline)
# Tables of a torch module; their names are no part of a parameter's name.
_TABLES: Final = frozenset({"_modules", "_parameters", "_buffers"})
_STORAGES: Final = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool", "ComplexDouble": "complex128", "ComplexFloat": "complex64",
    "Untyped": "bytes",
}  # fmt: skip


class PickledTensor(NamedTuple):
    """An array or tensor.

    Attributes:
        name: Its place: keys and attributes with dots, positions in brackets.
        dtype: As torch or numpy spells it.
        shape: Dimensions.
        storage: What the file keeps elsewhere for it, as the pickle names it; or None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    storage: Any = None


def tensors_of(reading: Reading) -> Iterator[PickledTensor]:
    """Yield the arrays and tensors of what a pickle would build, each once, in order.

    Arrays of objects are no tensors; what is in them is looked through.
    """
    todo: list[tuple[Any, str]] = [(reading.root, "")]
    seen: set[int] = set()
    for _ in range(_MOST_VISITED):
        if not todo:
            return
        value, name = todo.pop()
        if not isinstance(value, _INSIDE) or id(value) in seen:
            continue
        seen.add(id(value))
        found = _tensor(value, name)
        if found is not None and not found.dtype.lstrip("<>|").startswith("O"):
            yield found
            continue
        inner = [(part, inside) for part, inside in _parts(value, name) if _worth(part)]
        todo.extend(reversed(inner))


def _worth(value: Any) -> bool:
    return isinstance(value, _INSIDE) and not (isinstance(value, list | tuple) and not value)


def _tensor(value: Any, name: str) -> PickledTensor | None:
    """Describe a value that stands for an array or a tensor."""
    if type(value) is Inline:
        sizes, dtype, kept = value.facts.get("shape"), _dtype(value.facts.get("dtype")), None
    else:
        parts = _rebuilt(value) or _array(value)
        if parts is None:
            return None
        sizes, dtype, kept = parts
    shape = _shape(sizes)
    return None if shape is None else PickledTensor(name, dtype, shape, kept)


def _rebuilt(value: Any) -> tuple[Any, str, Any] | None:
    """Return the shape, dtype and storage of a torch tensor."""
    if _key(value) not in _REBUILT or len(value.arguments) < 3:
        return None
    storage = value.arguments[0]
    kept = storage.key if type(storage) is Persistent else None
    return value.arguments[2], _storage_dtype(kept), kept


def _array(value: Any) -> tuple[Any, str, Any] | None:
    """Return the shape and dtype of a numpy array, in either of the forms numpy writes."""
    key = _key(value)
    state = value.states[-1] if key in _ARRAYS and value.states else None
    if type(state) is tuple and len(state) >= 4:
        return state[-4], _dtype(state[-3]), None
    if key == _DILL and len(value.arguments) > 2:
        state = value.arguments[2]
        if type(state) is tuple and len(state) >= 4:
            return state[-4], _dtype(state[-3]), None
    if key in _BUFFERS and len(value.arguments) > 2:
        return value.arguments[2], _dtype(value.arguments[1]), None
    return None


def _key(value: Any) -> str | None:
    """Return what a call calls, ``module:name``, when it has a tuple of arguments."""
    if type(value) is not Call or type(value.function) is not Global:
        return None
    return value.function.key if type(value.arguments) is tuple else None


def _shape(value: Any) -> tuple[int, ...] | None:
    if (
        type(value) is Call
        and type(value.function) is Global
        and value.function.key == "torch:Size"
    ):
        value = value.arguments[0] if type(value.arguments) is tuple and value.arguments else None
    if type(value) is not tuple or len(value) > 64:
        return None
    return value if all(type(n) is int and n >= 0 for n in value) else None


def _dtype(value: Any) -> str:
    """Spell a numpy dtype from the arguments of its constructor and its state."""
    if type(value) is not Call or type(value.arguments) is not tuple or not value.arguments:
        return "?"
    code = value.arguments[0]
    state = value.states[-1] if value.states else None
    order = state[1] if type(state) is tuple and len(state) > 1 and type(state[1]) is str else ""
    return f"{order if order in ('<', '>') else ''}{code}" if type(code) is str else "record"


def _storage_dtype(key: Any) -> str:
    kind = key[1] if type(key) is tuple and len(key) > 1 else None
    name = kind.name if type(kind) is Global else ""
    return _STORAGES.get(name.removesuffix("Storage"), name or "?")


def _parts(value: Any, name: str) -> Iterable[tuple[Any, str]]:
    """Yield what a value holds, with names."""
    if type(value) is Pairs:
        for key, item in value.items:
            yield item, _named(name, key)
    elif isinstance(value, Members | list | tuple):
        for place, item in enumerate(value.items if isinstance(value, Members) else value):
            yield item, f"{name}[{place}]"[:_LONGEST_NAME]
    elif type(value) is Inline:
        yield value.nested, name
    else:
        yield from _parts_of_call(value, name)


def _parts_of_call(call: Call, name: str) -> Iterable[tuple[Any, str]]:
    for part in call.arguments if type(call.arguments) is tuple else ():
        yield part, name
    for state in call.states:
        for part in state if type(state) is tuple else (state,):
            yield part, name
    for key, item in call.items:
        yield item, _named(name, key)
    for place, item in enumerate((*call.appended, *call.added)):
        yield item, f"{name}[{place}]"[:_LONGEST_NAME]


def _named(name: str, key: Any) -> str:
    if type(key) is str and key in _TABLES:
        return name
    shown = key if type(key) is str else f"[{key!r:.60}]"
    return (f"{name}.{shown}" if name else shown)[-_LONGEST_NAME:]
