"""PyTorch checkpoints from before release 1.6: pickles in a row, and then the storages.

Source of the format: ``torch/serialization.py`` (``_legacy_save``, ``_legacy_load``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt, Unsupported
from holdfast.rescue.building import built
from holdfast.rescue.graph import Graph
from holdfast.rescue.mapped import bytes_of_file, require_sound
from holdfast.rescue.torch_files import Checkpoint, module_state, storage_of
from holdfast.trust.pickles import Pairs, Persistent, Reading, read

__all__ = ["read_legacy"]

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_PICKLES: Final = 5  # magic number, protocol, machine, object, names of the storages
_COUNT: Final = 8
_WIDTHS: Final = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "bool": 1, "complex128": 16, "complex64": 8,
}  # fmt: skip


def read_legacy(path: Path, registry: Registry) -> Any:
    """Read a checkpoint's containers and tensors, as ``read_torch`` does.

    Raises:
        UnsafeContent: It would run something.
        Unsupported: It holds an object that is not data; the message has its path.
        Corrupt: It is damaged, or lies about sizes.
        MissingExtra: torch is not installed.
    """
    whole = bytes_of_file(path)
    readings: list[Reading] = []
    end = 0
    for _ in range(_PICKLES):
        reading = read(whole.data, offset=end, joblib=False)
        require_sound(reading)
        readings.append(reading)
        end = reading.end or len(whole)
    magic, protocol, machine, told, names = readings
    if magic.root != _MAGIC or protocol.root != _PROTOCOL:
        raise Corrupt("it is no checkpoint of PyTorch")
    facts = dict(machine.root.items) if type(machine.root) is Pairs else {}
    if facts.get("little_endian") is not True:
        raise Unsupported("it was written on a big-endian machine.")
    stored = _places(whole, end, names.root, told.persistent)

    def locate(name: str, size: int) -> np.ndarray[Any, Any]:
        found = stored.get(name)
        if found is None or len(found) < size:
            raise Corrupt(f"the storage {name!r:.40} is missing or too short")
        return found[:size]

    checkpoint = Checkpoint(locate)
    graph = Graph(registry, checkpoint.recipes, elsewhere=checkpoint.storage, first=module_state)
    return built(graph, told.root, registry, "checkpoint")


def _places(
    whole: np.ndarray[Any, Any], start: int, names: Any, persistent: Sequence[Persistent]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the bytes of the storages by name: each follows its number of elements."""
    widths = {name: _WIDTHS[dtype] for name, dtype, _ in map(_storage, persistent) if name}
    if type(names) is not list or not all(type(name) is str for name in names):
        raise Corrupt("the names of its storages are no texts")
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name in names:
        if name not in widths or name in found:
            raise Corrupt(f"the storage {name!r:.40} is named twice, or is of no tensor")
        count = int.from_bytes(whole[start : start + _COUNT].tobytes(), "little", signed=True)
        size = count * widths[name]
        start += _COUNT
        if count < 0 or start + size > len(whole):
            raise Corrupt(f"the storage {name!r:.40} leads out of the file")
        found[name] = whole[start : start + size]
        start += size
    return found


def _storage(value: Persistent) -> tuple[str, str, int]:
    """Return a storage; a module's source, which old releases kept beside it, has no name here."""
    if type(value.key) is tuple and value.key[:1] == ("module",):
        return "", "uint8", 0
    return storage_of(value)
