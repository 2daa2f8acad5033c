"""A file's bytes as memory that may be written to and never reaches the file."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt, UnsafeContent, Unsupported, UsageError
from holdfast.trust.pickles import Reading
from holdfast.trust.report import Severity
from holdfast.trust.source import Allowance, FileSource, Inflated, coding_of
from holdfast.trust.zips import Entry

__all__ = ["bytes_of_file", "data_start", "inflated_file", "require_sound", "writable"]

_CHUNK: Final = 1 << 20
_LOCAL_HEADER: Final = 30
# A stream may become so many times its size, and this much whatever its size.
_RATIO: Final = 64
_SMALL: Final = 512 << 20


def bytes_of_file(path: Path) -> np.ndarray[Any, Any]:
    """Map a file privately: nothing is read until it is used, and writing changes a copy.

    Returns:
        Bytes, of shape (size,) and dtype uint8.

    Raises:
        UsageError: It cannot be opened or is no regular file.
        Corrupt: It is empty.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        file = os.open(path, flags)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path} cannot be read: {said}", hint=f"ls -l {path.parent}") from error
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError(f"{path} is not a regular file.", hint=f"ls -l {path.parent}")
        if not facts.st_size:
            raise Corrupt(f"{path} is empty", hint=f"ls -l {path.parent}")
        return np.frombuffer(mmap.mmap(file, 0, access=mmap.ACCESS_COPY), dtype=np.uint8)
    finally:
        os.close(file)


def inflated_file(path: Path) -> np.ndarray[Any, Any]:
    """Return a file's bytes, decompressed where it is one compressed stream.

    Returns:
        Bytes, of shape (size,) and dtype uint8, that may be written to.

    Raises:
        Corrupt: The stream is damaged, or becomes so large that it is taken for a bomb.
        Unsupported: It is compressed in a way that Python does not undo by itself.
    """
    with FileSource(path) as source:
        coding = coding_of(source.read(0, 4096))
        if coding is None:
            return bytes_of_file(path)
        if coding == "zstd":
            raise Unsupported(
                f"{path} is compressed with zstd, which Python does not undo by itself.",
                hint=f"unzstd < {path} > {path}.plain",
                ref=str(path),
            )
        return _inflated(path, source, coding)


def _inflated(path: Path, source: FileSource, coding: str) -> np.ndarray[Any, Any]:
    allowance = Allowance()
    allowance.inflated = limit = max(_SMALL, _RATIO * source.size)
    with Inflated(source, coding, allowance) as stream:
        size = stream.size
        if allowance.inflated <= 0:
            raise Corrupt(
                f"{path} becomes larger than {limit >> 20} MiB when it is decompressed, "
                f"more than {_RATIO} times its size",
                hint=f"ls -l {path}",
            )
        if stream.fault is not None:
            raise Corrupt(f"{path}: {stream.fault}", hint=f"ls -l {path}")
        content = np.empty(size, dtype=np.uint8)
        for start in range(0, size, _CHUNK):
            part = stream.read(start, _CHUNK)
            content[start : start + len(part)] = np.frombuffer(part, dtype=np.uint8)
    return content


def writable(array: np.ndarray[Any, Any], whole: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that may be written to: the same bytes where they lie in ``whole``.

    Args:
        array: A view of ``whole``, or of anything else.
        whole: Bytes that may be written to.
    """
    if array.flags.writeable:
        return array
    start, offset = whole.ctypes.data, array.ctypes.data - whole.ctypes.data
    inside = array.size and offset >= 0 and array.ctypes.data + array.nbytes <= start + whole.nbytes
    if not inside or not (array.flags.c_contiguous or array.flags.f_contiguous):
        return array.copy(order="K")
    flat: Any = whole.data
    return np.ndarray(array.shape, array.dtype, flat, offset, array.strides)


def data_start(whole: np.ndarray[Any, Any], entry: Entry) -> int:
    """Return where a member of a zip archive starts in the archive's bytes.

    Source: APPNOTE.TXT of PKWARE, 4.3.7, local file header.

    Raises:
        Corrupt: There is no member.
    """
    header = whole[entry.header : entry.header + _LOCAL_HEADER].tobytes()
    if len(header) != _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise Corrupt(f"{entry.name!r:.100} is not where the archive says")
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return entry.header + _LOCAL_HEADER + name + extra


def require_sound(reading: Reading) -> None:
    """Refuse a pickle that breaks off, lies, or changes something that it did not make.

    Raises:
        UnsafeContent: It would run something or reach out.
        Corrupt: It is damaged.
    """
    unsafe = [found.what for found in reading.findings if found.severity is Severity.UNSAFE]
    if reading.changes:
        unsafe.append("it changes what it did not make")
    if unsafe:
        raise UnsafeContent(unsafe[0])
    if not reading.whole:
        raise Corrupt(str(reading.findings[0]) if reading.findings else "it breaks off")
