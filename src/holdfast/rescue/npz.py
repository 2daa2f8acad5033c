"""NumPy's files: an array, or a zip archive of them, as views of the mapped file.

Arrays of objects are pickles, and are read as pickles are: as data or not at all.
"""

from __future__ import annotations

import ast
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib.format import descr_to_dtype

from holdfast.codec.registry import Registry
from holdfast.errors import Corrupt
from holdfast.rescue.building import RECIPES, built
from holdfast.rescue.graph import Graph
from holdfast.rescue.mapped import bytes_of_file, data_start, require_sound
from holdfast.trust.npy import read_npy_header
from holdfast.trust.pickles import read
from holdfast.trust.source import Allowance, FileSource, Inflated, Source
from holdfast.trust.zips import Entry, ZipArchive, open_zip

__all__ = ["Memory", "arrays_in", "member", "member_array", "read_npy", "read_npz"]

_BLOCK: Final = 16 << 20
_RATIO: Final = 1_100  # deflate cannot do better; more is a lie or a bomb
_SMALL: Final = 1 << 20
_RECORD: Final = 1_000  # longer descriptions are cut short by their reader


def read_npy(path: Path, registry: Registry) -> Any:
    """Read a ``.npy`` file.

    Raises:
        Corrupt: It is damaged.
        UnsafeContent: It holds objects that would run something.
        Unsupported: It holds objects that are not known as data.
    """
    with FileSource(path) as source:
        return _array(source, bytes_of_file(path), registry)


def read_npz(path: Path, registry: Registry) -> dict[str, Any]:
    """Read a ``.npz`` archive: arrays by name, views of the file where they are not compressed.

    Raises:
        Corrupt: It is damaged, or a size in it is a lie.
        UnsafeContent, Unsupported: As ``read_npy``.
    """
    with FileSource(path) as source:
        return _arrays(source, bytes_of_file(path), registry)


def arrays_in(content: np.ndarray[Any, Any], registry: Registry) -> dict[str, Any]:
    """Read a ``.npz`` archive that is in memory; raises as ``read_npz``."""
    return _arrays(Memory(content), content, registry)


def _arrays(source: Source, whole: np.ndarray[Any, Any], registry: Registry) -> dict[str, Any]:
    archive = open_zip(source)
    if archive.faults:
        raise Corrupt(archive.faults[0][0])
    found: dict[str, Any] = {}
    for entry in archive.entries:
        name = entry.name.removesuffix(".npy")
        if name in found:
            raise Corrupt(f"{name!r:.100} is there twice")
        found[name] = member_array(archive, entry, whole, registry)
    return found


def member(archive: ZipArchive, entry: Entry, whole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a member's bytes, checked against the directory; a view if it is not compressed.

    Raises:
        Corrupt: They are not what the directory says, or a bomb.
    """
    if entry.size > max(_SMALL, entry.packed * _RATIO):
        raise Corrupt(f"{entry.name!r:.100} claims an impossible size")
    if entry.method or entry.is_encrypted:
        content = _unpacked(archive, entry)
    else:
        start = data_start(whole, entry)
        content = whole[start : start + entry.packed]
    if len(content) != entry.size or _checksum(content) != entry.crc:
        raise Corrupt(f"{entry.name!r:.100} is not what the archive's directory says")
    return content


def member_array(
    archive: ZipArchive, entry: Entry, whole: np.ndarray[Any, Any], registry: Registry
) -> Any:
    """Return the array that a member is; raises as ``read_npy``."""
    content = member(archive, entry, whole)
    try:
        return _array(Memory(content), content, registry)
    except Corrupt as error:
        raise Corrupt(f"{entry.name!r:.100} is not an array: {error.message}") from error


def _unpacked(archive: ZipArchive, entry: Entry) -> np.ndarray[Any, Any]:
    allowance = Allowance()
    allowance.inflated = entry.size + 1
    content = np.empty(entry.size, dtype=np.uint8)
    with archive.open(entry, allowance) as source:
        for start in range(0, entry.size, _BLOCK):
            part = source.read(start, _BLOCK)
            if len(part) != min(_BLOCK, entry.size - start):
                raise Corrupt(f"{entry.name!r:.100} is cut short")
            content[start : start + len(part)] = np.frombuffer(part, dtype=np.uint8)
        if isinstance(source, Inflated) and source.fault:
            raise Corrupt(f"{entry.name!r:.100}: {source.fault}")
    return content


def _checksum(content: np.ndarray[Any, Any]) -> int:
    checksum = 0
    for start in range(0, len(content), _BLOCK):
        checksum = zlib.crc32(content[start : start + _BLOCK].data, checksum)
    return checksum


class Memory(Source):
    """Bytes that were mapped, as a source."""

    def __init__(self, content: np.ndarray[Any, Any]) -> None:
        self._content = content

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self._content)

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``; fewer where the bytes end."""
        return self._content[start : start + count].tobytes() if start >= 0 else b""


def _array(source: Source, whole: np.ndarray[Any, Any], registry: Registry) -> Any:
    """Return the array whose header ``source`` has, over the bytes of ``whole``."""
    header = read_npy_header(source)
    data = whole[header.start :]
    if header.objects:
        return _objects(data, registry)
    dtype = _dtype(header.dtype)
    count = int(np.prod(header.shape, dtype=object))
    if dtype.hasobject or count * dtype.itemsize > len(data):
        raise Corrupt(f"an array of shape {header.shape!r:.100} has {len(data)} bytes")
    try:
        flat = np.frombuffer(data[: count * dtype.itemsize].data, dtype=dtype, count=count)
        array = flat.reshape(header.shape, order="F" if header.fortran else "C")
    except (ValueError, OverflowError) as error:
        raise Corrupt(f"no array has the shape {header.shape!r:.100}") from error
    return array if array.flags.aligned else array.copy(order="K")


def _dtype(text: str) -> np.dtype[Any]:
    try:
        if not text.startswith("["):
            return np.dtype(text)
        if len(text) >= _RECORD:
            raise Corrupt("its records have more fields than are read here")
        found: np.dtype[Any] = descr_to_dtype(ast.literal_eval(text))
    except (TypeError, ValueError, SyntaxError, KeyError, RecursionError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"numpy has no dtype {text!r:.60}") from error
    return found


def _objects(data: np.ndarray[Any, Any], registry: Registry) -> Any:
    """Read an array of objects, which is a pickle, as pickles are read."""
    reading = read(data.data, joblib=False)
    require_sound(reading)
    return built(Graph(registry, RECIPES, data), reading.root, registry, "array", reading.calls)
