"""PyTorch checkpoints read as data: tensors are views of the mapped file.

Source of the format: ``torch/serialization.py`` (``_save``, ``_load``) and ``torch/_utils.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, UnsafeContent, Unsupported
from holdfast.plugins import import_extra
from holdfast.rescue.graph import Graph, built
from holdfast.rescue.mapped import bytes_of_file
from holdfast.trust.pickles import Call, Global, Persistent, read
from holdfast.trust.source import Allowance, FileSource
from holdfast.trust.zips import Entry, ZipArchive, open_zip

__all__ = ["read_torch"]

_MOST_PICKLE: Final = 1 << 30
_LOCAL_HEADER: Final = 30
_MOST_AXES: Final = 64
# Storage class to torch dtype.
_DTYPES: Final = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "UntypedStorage": "uint8",
}  # fmt: skip


class _Checkpoint:
    """The storages of one file, each as one flat tensor."""

    def __init__(self, path: Path, archive: ZipArchive, folder: str) -> None:
        self.torch = import_extra("torch", needed_for="tensors of a PyTorch checkpoint")
        self.path = path
        self.whole = bytes_of_file(path)
        self.entries = {entry.name: entry for entry in archive.entries}
        self.folder = folder
        self.storages: dict[str, Any] = {}

    def storage(self, value: Persistent) -> Any:
        """Return a storage as a flat tensor of its dtype, a view of the file."""
        key = value.key
        if type(key) is not tuple or len(key) != 5 or key[0] != "storage":
            raise Corrupt("the checkpoint names something else where a storage belongs")
        _, kind, name, _device, count = key
        dtype = _DTYPES.get(kind.name) if type(kind) is Global and kind.module == "torch" else None
        if dtype is None and type(kind) is Global and kind.key == "torch.storage:UntypedStorage":
            dtype = "uint8"
        if dtype is None or type(name) is not str or type(count) is not int or count < 0:
            raise Corrupt("the checkpoint has a storage of an unknown kind")
        known = self.storages.get(name)
        if known is None:
            known = self.storages[name] = self._read(name, getattr(self.torch, dtype), count)
        return known

    def _read(self, name: str, dtype: Any, count: int) -> Any:
        entry = self.entries.get(f"{self.folder}data/{name}")
        size = count * self.torch.empty(0, dtype=dtype).element_size()
        if entry is None or entry.method or entry.is_encrypted or entry.packed < size:
            raise Corrupt(f"the storage {name!r:.40} is missing, compressed or too short")
        start = self._start(entry)
        if start + size > len(self.whole):
            raise Corrupt(f"the storage {name!r:.40} leads out of the file")
        if not count:
            return self.torch.empty(0, dtype=dtype)
        part = self.whole[start : start + size]
        if part.ctypes.data % self.torch.empty(0, dtype=dtype).element_size():
            part = part.copy()
        return self.torch.frombuffer(part.data, dtype=dtype)

    def _start(self, entry: Entry) -> int:
        header = self.whole[entry.header : entry.header + _LOCAL_HEADER].tobytes()
        if len(header) != _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise Corrupt("a member of the checkpoint is not where the archive says")
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        return entry.header + _LOCAL_HEADER + name + extra

    def tensor(self, graph: Graph, call: Call, path: str) -> Any:
        """Make a tensor of ``_rebuild_tensor_v2(storage, offset, size, stride, grad, hooks)``."""
        arguments = call.arguments
        if type(arguments) is not tuple or len(arguments) < 4 or call.states:
            raise Corrupt(f"{path[:200]} is no tensor")
        flat = graph.make(arguments[0], path)
        offset, size, stride = arguments[1], _sizes(arguments[2]), _sizes(arguments[3])
        if type(offset) is not int or offset < 0 or len(size) != len(stride):
            raise Corrupt(f"{path[:200]} has an impossible shape")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) and last >= len(flat):
            raise Corrupt(f"{path[:200]} leads out of its storage")
        made = flat.as_strided(size, stride, offset) if math.prod(size) else flat.new_empty(size)
        if len(arguments) > 4 and arguments[4] is True:
            made.requires_grad_(requires_grad=True)
        return graph.keep(call, made)

    def parameter(self, graph: Graph, call: Call, path: str) -> Any:
        """Make a parameter of ``_rebuild_parameter(tensor, requires_grad, hooks)``."""
        if type(call.arguments) is not tuple or len(call.arguments) < 2:
            raise Corrupt(f"{path[:200]} is no parameter")
        data = graph.make(call.arguments[0], path)
        if not isinstance(data, self.torch.Tensor):
            raise Corrupt(f"{path[:200]} is no parameter")
        wanted = call.arguments[1] is True
        return graph.keep(call, self.torch.nn.Parameter(data.detach(), requires_grad=wanted))

    def size(self, graph: Graph, call: Call, path: str) -> Any:
        """Make a ``torch.Size``."""
        return graph.keep(
            call, self.torch.Size(_sizes(call.arguments[0])) if call.arguments else path
        )


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
    if reading.end is None or reading.findings or reading.changes:
        told = reading.findings[0].what if reading.findings else "it changes what it did not make"
        raise UnsafeContent(f"{path}: {told}", hint=f"hold scan {path}", ref=str(path))
    checkpoint = _Checkpoint(path, archive, entry.name.removesuffix("data.pkl"))
    special: Mapping[str, Any] = {
        "torch._utils:_rebuild_tensor_v2": checkpoint.tensor,
        "torch._utils:_rebuild_parameter": checkpoint.parameter,
        "torch:Size": checkpoint.size,
    }
    graph = Graph(registry, None, special=special, persistent=checkpoint.storage, modules=True)
    return built(graph, reading.root, registry, "checkpoint")


def _byte_order(archive: ZipArchive, folder: str) -> str:
    entry = next((e for e in archive.entries if e.name == f"{folder}byteorder"), None)
    if entry is None:
        return "little"
    return archive.content(entry, 16, Allowance()).decode("ascii", "replace")
