"""Objects to a flat node table and tensors, without recursion and without changing them."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from holdfast.codec.arrays import dtype_text, store_array
from holdfast.codec.nodes import BUILTINS, COLUMN_FROM, FILE, NUMPY_TYPES, OBJECT
from holdfast.codec.registry import OWN_CLASS, UNUSABLE, Registry, TypeSpec
from holdfast.codec.tensors import FileData, TensorData
from holdfast.codec.texts import ARRAY as STRING_ARRAY
from holdfast.errors import Unsupported
from holdfast.record import Structure

__all__ = ["Encoded", "Path", "encode", "key_order", "key_text"]

Node: TypeAlias = "tuple[Any, ...]"

_SAFE: Final = 2**53 - 1
_NAME_BYTES: Final = 200
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._~-]+")
_NARROW: Final = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


class Encoded(NamedTuple):
    """An object graph ready to be written.

    Attributes:
        structure: The node table.
        tensors: Tensor bytes by name.
        files: Files by relative path.
    """

    structure: Structure
    tensors: dict[str, TensorData]
    files: dict[str, bytes | memoryview]


class Path:
    """Where an object is, kept as links so that a million objects cost no texts."""

    __slots__ = ("parent", "shown", "step")

    def __init__(self, parent: Path | None, step: str, shown: str) -> None:
        self.parent = parent
        self.step = step
        self.shown = shown

    def _links(self) -> list[Path]:
        links: list[Path] = []
        here: Path | None = self
        while here is not None and len(links) < 1000:
            links.append(here)
            here = here.parent
        return links[::-1]

    def __str__(self) -> str:
        return "".join(link.shown for link in self._links())

    def tensor_name(self) -> str:
        """Join the steps with dots, made safe and short enough for a safetensors header."""
        raw = ".".join(link.step for link in self._links() if link.step)
        name = "".join(
            char if char.isprintable() and char != "%" else f"%{ord(char):02x}"
            for char in raw.encode("utf-8", "backslashreplace").decode()
        )
        if name in ("", "__metadata__"):
            name = f"data{name}"
        data = name.encode()
        if len(data) <= _NAME_BYTES:
            return name
        cut = data[: _NAME_BYTES - 18].decode("utf-8", "ignore")
        return f"{cut}~{hashlib.sha256(data).hexdigest()[:16]}"


def encode(obj: Any, registry: Registry, *, label: str | None = None) -> Encoded:
    """Encode an object graph.

    Args:
        obj: Plain Python values, numpy arrays, registered types, nested and shared as they are.
        registry: What may be kept beside the built-in types.
        label: How the root is called in messages; default: its type in lower case.

    Raises:
        Unsupported: Something in it cannot be kept; the message starts with its path.
    """
    return _Encoder(registry).run(obj, label or type(obj).__name__.lower())


class _Encoder:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.nodes: list[Node | None] = []
        self.types: dict[str, int] = {}
        self.tensors: dict[str, TensorData] = {}
        self.files: dict[str, bytes | memoryview] = {}
        self._memo: dict[Hashable, int] = {}
        self._folded: set[str] = set()
        self._alive: list[Any] = []
        self._queue: deque[tuple[int, Any, Path, TypeSpec | None]] = deque()

    def run(self, obj: Any, label: str) -> Encoded:
        root = self.ref(obj, Path(None, "", label))
        while self._queue:
            index, item, path, spec = self._queue.popleft()
            self.nodes[index] = (
                self.instance(item, path, spec) if spec is not None else self._value(item, path)
            )
        nodes = tuple(node for node in self.nodes if node is not None)
        structure = Structure(types=tuple(self.types), nodes=nodes, root=root)
        return Encoded(structure, self.tensors, self.files)

    def ref(self, obj: Any, path: Path) -> int:
        """Return the node of an object, making one and queueing it at the first meeting."""
        leaf = _LEAVES.get(type(obj))
        if leaf is not None:
            node = leaf(obj)
            known = self._memo.get(node)
            if known is None:
                known = self._memo[node] = self.add(node)
            return known
        spec = None if type(obj) in _VALUES else self._spec(obj, path)
        key: Hashable = id(obj) if spec is None else (spec.id, spec.identity(obj))
        known = self._memo.get(key)
        if known is not None:
            return known
        self._alive.append(obj)  # an id must not be reused while we hold it
        index = self.add(None)
        self._memo[key] = index
        self._queue.append((index, obj, path, spec))
        return index

    def add(self, node: Node | None) -> int:
        """Append a node that nothing else will share, and return its place."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _spec(self, obj: Any, path: Path) -> TypeSpec | None:
        try:
            return self.registry.spec_for(obj)
        except Unsupported as error:
            raise _at(path, error) from error

    def _value(self, obj: Any, path: Path) -> Node:
        encoder = _VALUES.get(type(obj))
        try:
            if encoder is not None:
                return encoder(self, obj, path)
            if isinstance(obj, np.generic):
                return _scalar(obj)
            if isinstance(obj, np.dtype):
                return ("dtype", OBJECT if obj.char == "O" else dtype_text(obj))
            if isinstance(obj, type):
                return _class(obj)
        except Unsupported as error:
            raise _at(path, error) from error
        return self._stranger(obj, path)

    def _stranger(self, obj: Any, path: Path) -> Node:
        """Keep an instance of a class that an installed package registers; refuse any other."""
        refusal = _unsupported(obj, path)
        if refusal is not None:
            raise refusal
        broken = self.registry.grow()
        spec = self._spec(obj, path)
        if spec is None:
            raise _not_registered(type(obj), path, broken)
        return self.instance(obj, path, spec)

    def instance(self, obj: Any, path: Path, spec: TypeSpec) -> Node:
        """Return the node of an object of a type."""
        try:
            fields = spec.encode(obj)
        except Unsupported as error:
            raise _at(path, error) from error
        if not spec.derived.isdisjoint(fields):
            fields = {key: value for key, value in fields.items() if key not in spec.derived}
        if spec.fields is not None and not fields.keys() <= spec.fields:
            raise _unknown_field(min(fields.keys() - spec.fields), spec, path)
        refs = {}
        for name in sorted(fields):  # attributes have no order: what was loaded is the same content
            hidden = name in spec.transparent
            refs[name] = self.ref(fields[name], path if hidden else Path(path, name, f".{name}"))
        return ("object", self.types.setdefault(spec.id, len(self.types)), refs)

    def tensor(self, data: TensorData, path: Path) -> str:
        """Name a tensor by its path, uniquely."""
        base = name = path.tensor_name()
        count = 1
        while name in self.tensors:
            count += 1
            name = f"{base}~{count}"
        self.tensors[name] = data
        return name

    def file(self, data: FileData, path: Path) -> str:
        """Name a file by its path, uniquely and so that every file system takes it."""
        base = _UNFIT.sub("_", path.tensor_name()).strip(".") or "model"
        name, count = f"{base}{data.ending}", 1
        while name.casefold() in self._folded:
            count += 1
            name = f"{base}-{count}{data.ending}"
        self._folded.add(name.casefold())
        self.files[name] = data.data
        return name


def _int(value: int) -> Node:
    return ("int", value) if -_SAFE <= value <= _SAFE else ("int", hex(value))


def _str(value: str) -> Node:
    if value.isascii() or _encodable(value):
        return ("str", value)
    return ("wtf8", value.encode("utf-8", "surrogatepass").hex())


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_LEAVES: Final[dict[type, Callable[[Any], Node]]] = {
    type(None): lambda _: ("none",),
    bool: lambda value: ("bool", bool(value)),
    int: _int,
    float: lambda value: ("float", repr(value)),
    complex: lambda value: ("complex", repr(value.real), repr(value.imag)),
    str: _str,
    type(...): lambda _: ("ellipsis",),
}


def _list(encoder: _Encoder, items: list[Any], path: Path) -> Node:
    column = _column(encoder, items, path)
    if column is not None:
        return column
    return ("list", [encoder.ref(item, _item(path, i)) for i, item in enumerate(items)])


def _column(encoder: _Encoder, items: list[Any], path: Path) -> Node | None:
    """Return the node that keeps items of one plain type together, None where there is none."""
    kinds = set(map(type, items)) if len(items) >= COLUMN_FROM else ()
    if kinds == {str}:
        return ("strings", list(items)) if _encodable("".join(items)) else None
    if kinds == {float}:
        numbers = np.array(items, dtype=np.float64)
        unknown = bool(np.isnan(numbers).any())  # a NaN has bits of its own
        return None if unknown else ("floats", encoder.tensor(store_array(numbers).tensor, path))
    if kinds == {int}:
        try:
            numbers = _narrowed(np.array(items, dtype=np.int64))
        except OverflowError:
            return None
        return ("ints", encoder.tensor(store_array(numbers).tensor, path))
    return None


def _narrowed(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return whole numbers in the narrowest integers that hold them all."""
    low, high = int(numbers.min()), int(numbers.max())
    fits = (dtype for dtype in _NARROW if _holds(dtype, low) and _holds(dtype, high))
    return numbers.astype(next(fits))


def _holds(dtype: type[np.integer[Any]], number: int) -> bool:
    return int(np.iinfo(dtype).min) <= number <= int(np.iinfo(dtype).max)


def _item(path: Path, position: int) -> Path:
    return Path(path, str(position), f"[{position}]")


def _tuple(encoder: _Encoder, items: tuple[Any, ...], path: Path) -> Node:
    refs = []
    for i, item in enumerate(items):
        named = i == 1 and type(items[0]) is str and type(item) not in _LEAVES
        refs.append(encoder.ref(item, path if named else _item(path, i)))
    return ("tuple", refs)


def _set(encoder: _Encoder, items: Any, path: Path) -> Node:
    ordered = sorted(items, key=key_order)
    refs = [encoder.ref(item, _item(path, i)) for i, item in enumerate(ordered)]
    _refuse_twins(refs)
    return ("set" if type(items) is set else "frozenset", refs)


def key_order(key: Any) -> tuple[str, str]:
    """Return what sorts the members of a set the same way in every process."""
    return type(key).__name__, key_text(key)


def key_text(key: Any) -> str:
    """Return a key's text; of sets too it is the same in every process.

    Raises:
        Unsupported: It is nested too deeply to be hashed.
    """
    try:
        return _spelled(key)
    except RecursionError as error:
        raise Unsupported(
            "a key or member is nested too deeply.", hint="use a text as the key instead"
        ) from error


def _spelled(key: Any) -> str:
    if type(key) is tuple:
        return f"({', '.join(map(_spelled, key))}{',' if len(key) == 1 else ''})"
    if type(key) is frozenset:
        return f"frozenset({{{', '.join(sorted(map(_spelled, key)))}}})"
    if type(key) is int and not -_SAFE <= key <= _SAFE:
        return hex(key)
    return _ADDRESS.sub("", repr(key))


def _dict(encoder: _Encoder, items: dict[Any, Any], path: Path) -> Node:
    if type(items) is dict and set(map(type, items)) == {str}:
        keys = _column(encoder, list(items), path)
        values = None if keys is None else _column(encoder, list(items.values()), path)
        if keys is not None and values is not None:
            return ("textdict", [encoder.add(keys), encoder.add(values)])
    refs = []
    for key, value in items.items():
        text = key_text(key)[:60]
        step = Path(path, key if type(key) is str else text, f"[{text}]")
        refs += [encoder.ref(key, step), encoder.ref(value, step)]
    _refuse_twins(refs[::2])
    return ("ordereddict" if type(items) is OrderedDict else "dict", refs)


def _refuse_twins(refs: list[int]) -> None:
    """Refuse what equals nothing, not even itself, and is there twice: NaN."""
    if len(set(refs)) < len(refs):
        raise Unsupported(
            "NaN is a key or member twice, and nothing tells one from the other.",
            hint="{key: value for key, value in items.items() if key == key}  # leaves NaN out",
        )


def _array(encoder: _Encoder, array: np.ndarray[Any, Any], path: Path) -> Node:
    if array.dtype == object:
        flat = array.ravel(order="C").tolist()
        refs = [encoder.ref(item, _item(path, i)) for i, item in enumerate(flat)]
        options: dict[str, Any] = {}
        if array.ndim > 1 and not array.flags.c_contiguous:
            options["order"] = "F"
        if not array.flags.writeable:
            options["readonly"] = True
        return ("objects", list(array.shape), refs, options)
    if array.dtype.char == "T":
        return encoder.instance(array, path, STRING_ARRAY)
    stored = store_array(array)
    return ("array", encoder.tensor(stored.tensor, path), stored.options)


def _bytes(encoder: _Encoder, data: Any, path: Path) -> Node:
    kind = "bytes" if type(data) is bytes else "bytearray"
    content = TensorData("U8", (len(data),), lambda: memoryview(data))
    return (kind, encoder.tensor(content, path))


def _slice(encoder: _Encoder, item: slice, path: Path) -> Node:
    parts = (item.start, item.stop, item.step)
    return ("slice", [encoder.ref(part, path) for part in parts])


def _range(encoder: _Encoder, item: range, path: Path) -> Node:
    return ("range", [encoder.ref(part, path) for part in (item.start, item.stop, item.step)])


def _buffer(encoder: _Encoder, data: TensorData, path: Path) -> Node:
    return ("buffer", encoder.tensor(data, path))


_VALUES: Final[dict[type, Callable[[_Encoder, Any, Path], Node]]] = {
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    dict: _dict,
    OrderedDict: _dict,
    np.ndarray: _array,
    np.memmap: _array,
    bytes: _bytes,
    bytearray: _bytes,
    slice: _slice,
    range: _range,
    TensorData: _buffer,
    FileData: lambda encoder, data, path: (FILE, encoder.file(data, path)),
}


def _scalar(value: np.generic) -> Node:
    dtype = value.dtype
    if dtype.fields is not None or (dtype.kind == "V" and "float" not in dtype.name):
        raise Unsupported("a structured numpy scalar cannot be kept.", hint="value.item()")
    if isinstance(value, np.str_):
        return ("scalar", f"<U{len(value)}", value.encode("utf-32-le", "surrogatepass").hex())
    if isinstance(value, np.bytes_):
        return ("scalar", f"|S{len(value)}", value.hex())
    data = np.asarray(value)
    if dtype.byteorder == ">":
        data = data.astype(dtype.newbyteorder("<"))
    return ("scalar", dtype_text(data.dtype), data.tobytes().hex())


def _class(value: type) -> Node:
    for kind, table in (("builtin", BUILTINS), ("nptype", NUMPY_TYPES)):
        for name, known in table.items():
            if known is value:
                return (kind, name)
    raise Unsupported(
        f"the class {value.__module__}.{value.__qualname__} as a value cannot be kept.",
        hint="keep its name as a text instead",
    )


def _at(path: Path, error: Unsupported) -> Unsupported:
    """Put the path in front of a message, once."""
    if getattr(error, "placed", False):
        return error
    placed = Unsupported(f"{path}: {error.message}", hint=error.hint, ref=str(path))
    placed.placed = True  # type: ignore[attr-defined]
    return placed


def _unknown_field(name: str, spec: TypeSpec, path: Path) -> Unsupported:
    return Unsupported(
        f"{path}.{name} is an attribute that {spec.id} does not have in any release we know, so "
        "it would not survive a load.",
        hint=f"del {path}.{name}  # keep such facts with params= or note=",
        ref=f"{path}.{name}",
    )


# What to write instead of values that are refused for good.
_INSTEAD: Final = {
    "operator.itemgetter": OWN_CLASS,
    "operator.attrgetter": OWN_CLASS,
    "operator.methodcaller": OWN_CLASS,
    "pathlib.PosixPath": "str(path)  # or pathlib.PurePosixPath(path)",
    "pathlib.WindowsPath": "str(path)",
    "pathlib.PureWindowsPath": "str(path)",
    "numpy.recarray": "array.view(numpy.ndarray).astype(array.dtype.descr)",
    "numpy.poly1d": "polynomial.coeffs",
}

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


def _unsupported(obj: Any, path: Path) -> Unsupported | None:
    """Return the refusal of what no registration can help, None for an instance of a class."""
    kind = type(obj)
    where = f"{kind.__module__}.{kind.__qualname__}"
    if callable(obj) and hasattr(obj, "__qualname__"):
        name = obj.__qualname__
        what = "a lambda" if "<lambda>" in name else f"the function {name}"
        message = f"{path} is {what}; code is never kept in a file."
        hint = OWN_CLASS
    elif kind.__module__.partition(".")[0] in ("numpy", "scipy", "pandas", "sklearn", "torch"):
        message = f"{path} is a {where}, which this release cannot keep."
        hint = f"replace {path} by a plain value or array, or leave it out before saving"
    elif kind.__module__.partition(".")[0] in sys.stdlib_module_names:
        message = f"{path} is a {where}, which is not data that can be kept."
        hint = f"replace {path} by a plain value, or leave it out before saving"
    else:
        return None
    hint = _INSTEAD.get(where.replace("._local.", ".").replace("numpy.rec.", "numpy."), hint)
    return Unsupported(_ADDRESS.sub("", message), hint=hint, ref=str(path))


def _not_registered(kind: type, path: Path, broken: tuple[str, ...]) -> Unsupported:
    message = f"{path} is a {kind.__module__}.{kind.__qualname__}, a class that is not registered."
    if broken:
        message += f" {UNUSABLE} {'; '.join(broken)}."
    module, name, comment = kind.__module__, kind.__qualname__, ""
    if module == "__main__" or "<locals>" in name:  # no other program could import it from there
        comment = "  # move the class there first: what loads it must import it too"
        module, name = "steps", name.rpartition(".")[2]
    return Unsupported(
        _ADDRESS.sub("", message),
        hint=f"from {module} import {name.partition('.')[0]}{comment}\n"
        f"holdfast.register({name})  # before saving, and before loading",
        ref=str(path),
    )
