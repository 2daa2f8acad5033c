"""PyTorch checkpoints read as data: tensors are views of the mapped file.

Source of the format: ``torch/serialization.py`` (``_save``, ``_load``) and ``torch/_utils.py``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.codec.encode import Path as Place
from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra
from holdfast.rescue.building import RECIPES, built
from holdfast.rescue.graph import Graph, Recipe, key_of
from holdfast.rescue.mapped import bytes_of_file, data_start, require_sound
from holdfast.trust.pickles import Call, Global, Pairs, Persistent, read
from holdfast.trust.source import Allowance, FileSource
from holdfast.trust.zips import ZipArchive, open_zip

__all__ = ["Checkpoint", "module_state", "read_torch", "storage_of"]

_MOST_PICKLE: Final = 1 << 30
_MOST_AXES: Final = 64
_TABLES: Final = frozenset({"_parameters", "_buffers", "_modules"})
# Storage class to torch dtype.
_DTYPES: Final = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "UntypedStorage": "uint8",
}  # fmt: skip


# Returns the bytes of a storage, by its name and size, of dtype uint8.
Locate = Callable[[str, int], np.ndarray[Any, Any]]


class Checkpoint:
    """The storages of one file, each as one flat tensor."""

    def __init__(self, locate: Locate) -> None:
        """Begin; ``locate`` raises ``Corrupt`` for a storage that is not there."""
        self.torch = import_extra("torch", needed_for="tensors of a PyTorch checkpoint")
        self.storages: dict[str, Any] = {}
        self._locate = locate

    @property
    def recipes(self) -> Mapping[str, Recipe]:
        """What to make of the calls in a checkpoint."""
        return {
            **RECIPES,
            "torch._utils:_rebuild_tensor": self.tensor,
            "torch._utils:_rebuild_tensor_v2": self.tensor,
            "torch._utils:_rebuild_parameter": self.parameter,
            "torch:Size": self.size,
        }

    def storage(self, value: Persistent) -> Any:
        """Return a storage as a flat tensor of its dtype, a view of the file."""
        name, dtype, count = storage_of(value)
        known = self.storages.get(name)
        if known is None:
            known = self.storages[name] = self._read(name, getattr(self.torch, dtype), count)
        return known

    def _read(self, name: str, dtype: Any, count: int) -> Any:
        width = dtype.itemsize
        part = self._locate(name, count * width)
        if not count:
            return self.torch.empty(0, dtype=dtype)
        if part.ctypes.data % width:
            part = part.copy()
        return self.torch.frombuffer(part.data, dtype=dtype)

    def tensor(self, graph: Graph, call: Call, path: Place) -> Any:
        """Make a tensor of ``_rebuild_tensor_v2(storage, offset, size, stride, grad, hooks)``."""
        arguments = call.arguments
        if type(arguments) is not tuple or len(arguments) < 4 or call.states:
            raise Corrupt("it is no tensor")
        flat = graph.make(arguments[0], path)
        offset, size, stride = arguments[1], _sizes(arguments[2]), _sizes(arguments[3])
        if not isinstance(flat, self.torch.Tensor):
            raise Corrupt("it has something else where a storage belongs")
        if type(offset) is not int or offset < 0 or len(size) != len(stride):
            raise Corrupt("it has an impossible shape")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) and last >= len(flat):
            raise Corrupt("it leads out of its storage")
        made = flat.as_strided(size, stride, offset) if math.prod(size) else flat.new_empty(size)
        if len(arguments) > 4 and arguments[4] is True:
            made.requires_grad_(requires_grad=True)
        return made

    def parameter(self, graph: Graph, call: Call, path: Place) -> Any:
        """Make a parameter of ``_rebuild_parameter(tensor, requires_grad, hooks)``."""
        if type(call.arguments) is not tuple or len(call.arguments) < 2:
            raise Corrupt("it is no parameter")
        data = graph.make(call.arguments[0], path)
        if not isinstance(data, self.torch.Tensor):
            raise Corrupt("it is no parameter")
        wanted = call.arguments[1] is True
        return self.torch.nn.Parameter(data.detach(), requires_grad=wanted)

    def size(self, _: Graph, call: Call, __: Place) -> Any:
        """Make a ``torch.Size``."""
        return self.torch.Size(_sizes(call))


def storage_of(value: Persistent) -> tuple[str, str, int]:
    """Return the name, the dtype and the number of elements of a storage.

    Raises:
        Corrupt: It is none, or a part of another one, as releases before 0.4 wrote them.
    """
    key = value.key
    if type(key) is not tuple or len(key) not in (5, 6) or key[0] != "storage":
        raise Corrupt("the checkpoint names something else where a storage belongs")
    _, kind, name, _device, count, *view = key
    dtype = _DTYPES.get(kind.name) if type(kind) is Global and kind.module == "torch" else None
    if dtype is None and type(kind) is Global and kind.key == "torch.storage:UntypedStorage":
        dtype = "uint8"
    if dtype is None or type(name) is not str or type(count) is not int or count < 0:
        raise Corrupt("the checkpoint has a storage of an unknown kind")
    if view not in ([], [None]):
        raise Corrupt("the checkpoint has a storage that is a part of another")
    return name, dtype, count


def module_state(graph: Graph, call: Call, path: Place) -> OrderedDict[str, Any] | None:
    """Return what the ``state_dict`` of a module is, of whatever class; None for anything else.

    Its tables say all: ``_parameters``, ``_buffers`` and ``_modules``.
    """
    tables = _tables(call)
    if tables is None:
        return None
    found: OrderedDict[str, Any] = OrderedDict()
    for table in ("_parameters", "_buffers"):
        for key, raw in tables[table]:
            tensor = graph.make(raw, Place(path, str(key), f".{key!s:.60}"))
            if tensor is not None:
                found[str(key)] = tensor
    for key, raw in tables["_modules"]:
        child = graph.make(raw, Place(path, str(key), f".{key!s:.60}"))
        if not isinstance(child, OrderedDict | None):
            raise Unsupported(f"its part {key!s:.60} is no module")
        found.update({f"{key}.{name}": tensor for name, tensor in (child or {}).items()})
    return found


def _tables(call: Call) -> dict[str, list[tuple[Any, Any]]] | None:
    """Return the items of the tables that every module has, None for anything else."""
    state = call.states[-1] if call.states else None
    if not call.new or type(state) is not Pairs:
        return None
    found = {key: _items(item) for key, item in state.items if key in _TABLES}
    whole = {key: items for key, items in found.items() if items is not None}
    return whole if whole.keys() == _TABLES else None


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the items of a dict, ordered or not; None for anything else."""
    ordered = type(value) is Call and key_of(value.function) == "collections:OrderedDict"
    return list(value.items) if type(value) is Pairs or ordered else None


def _sizes(value: Any) -> tuple[int, ...]:
    items = value.arguments[0] if type(value) is Call and value.arguments else value
    if type(items) is not tuple or len(items) > _MOST_AXES:
        raise Corrupt("a tensor has an impossible shape")
    if not all(type(n) is int and 0 <= n < 2**62 for n in items):
        raise Corrupt("a tensor has an impossible shape")
    return items


def read_torch(path: Path, registry: Registry) -> Any:
    """Read a checkpoint's containers and tensors.

    Returns:
        What ``torch.load(weights_only=True)`` would give; tensors are private views of the file.
        Modules, of whatever class, come as their state_dict: their code is not in the file.

    Raises:
        Unsupported: It holds an object that is not data; the message has its path.
        Corrupt: It is damaged, or lies about sizes.
        MissingExtra: torch is not installed.
    """
    with FileSource(path) as source:
        archive = open_zip(source)
        entry = next((e for e in archive.entries if e.name.endswith("data.pkl")), None)
        if entry is None or entry.is_encrypted:
            raise Corrupt(f"{path} has no data.pkl", ref=str(path))
        data = archive.content(entry, _MOST_PICKLE, Allowance())
        order = _byte_order(archive, entry.name.removesuffix("data.pkl"))
    if order != "little":
        raise Unsupported(f"{path} was written on a big-endian machine.", ref=str(path))
    reading = read(memoryview(data), joblib=False)
    require_sound(reading)
    stored = _Stored(path, archive, entry.name.removesuffix("data.pkl"))
    checkpoint = Checkpoint(stored.locate)
    graph = Graph(registry, checkpoint.recipes, elsewhere=checkpoint.storage, first=module_state)
    return built(graph, reading.root, registry, "checkpoint")


class _Stored:
    """The storages of a zip archive, which are members that are not compressed."""

    def __init__(self, path: Path, archive: ZipArchive, folder: str) -> None:
        self._whole = bytes_of_file(path)
        self._entries = {entry.name: entry for entry in archive.entries}
        self._folder = folder

    def locate(self, name: str, size: int) -> np.ndarray[Any, Any]:
        entry = self._entries.get(f"{self._folder}data/{name}")
        if entry is None or entry.method or entry.is_encrypted or entry.packed < size:
            raise Corrupt(f"the storage {name!r:.40} is missing, compressed or too short")
        start = data_start(self._whole, entry)
        if start + size > len(self._whole):
            raise Corrupt(f"the storage {name!r:.40} leads out of the file")
        return self._whole[start : start + size]


def _byte_order(archive: ZipArchive, folder: str) -> str:
    entry = next((e for e in archive.entries if e.name == f"{folder}byteorder"), None)
    if entry is None:
        return "little"
    return archive.content(entry, 16, Allowance()).decode("ascii", "replace")
