"""Telling by its content what a model file is, without opening it in any other sense."""

from __future__ import annotations

import bz2
import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast.errors import Corrupt, UnsafeContent, UsageError

__all__ = ["sniff"]

_HEAD: Final = 4096
_PICKLE_LIMIT: Final = 16 << 20
_HDF5: Final = b"\x89HDF\r\n\x1a\n"


def sniff(path: Path) -> str:
    """Return the name of a file's format, or words for an unknown one.

    Returns:
        ``safetensors``, ``npz``, ``npy``, ``onnx``, ``hdf5``, ``gguf``, ``an unknown kind of
        file`` or ``an unknown kind of zip archive``.

    Raises:
        UnsafeContent: It is a pickle or holds one, whatever its name; it was not opened.
        UsageError: There is no such file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}"
        ) from error
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head.startswith(b"\x93NUMPY"):
        if b"'O'" in head[:512] or b"'|O'" in head[:512]:
            raise _unsafe(path, "an array of objects, which is a pickle")
        return "npy"
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(b"GGUF"):
        return "gguf"
    if _is_safetensors(head, path.stat().st_size):
        return "safetensors"
    if _is_pickle(path, head):
        raise _unsafe(path, _imports(path))
    if _is_compressed_pickle(head):
        raise _unsafe(path, "a compressed pickle")
    return "onnx" if _is_onnx(head) else "an unknown kind of file"


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) > 9 and head[8:9] == b"{" and length <= size - 8


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Corrupt(f"{path} is a damaged zip archive: {error!s:.100}") from error
    pickles = [name for name in names if name.endswith((".pkl", ".pickle"))]
    if pickles:
        raise _unsafe(path, f"a zip archive with the pickle {pickles[0]!r:.100}")
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "an unknown kind of zip archive"


def _is_pickle(path: Path, head: bytes) -> bool:
    if _has_protocol(head):
        return True
    with path.open("rb") as file:
        data = file.read(_PICKLE_LIMIT)
    try:  # protocols 0 and 1 have no magic number: the first opcodes must make sense
        for count, (opcode, _, _) in enumerate(pickletools.genops(data)):
            if opcode.name == "STOP" or count > 30:
                return count > 0
    except Exception:  # noqa: BLE001 - whatever the parser says, these bytes are no pickle
        return False
    return False


def _has_protocol(data: bytes) -> bool:
    return data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_compressed_pickle(head: bytes) -> bool:
    """Look at the first bytes inside what joblib's ``compress=`` writes, and no more of them."""
    unpackers: tuple[Callable[[], bytes], ...] = (
        lambda: zlib.decompressobj(wbits=47).decompress(head, 16),  # zlib or gzip
        lambda: bz2.BZ2Decompressor().decompress(head, 16),
        lambda: lzma.LZMADecompressor().decompress(head, 16),
    )
    for unpack in unpackers:
        try:
            if _has_protocol(unpack()):
                return True
        except (zlib.error, lzma.LZMAError, OSError, EOFError):
            continue
    return False


def _imports(path: Path) -> str:
    """Say what the first import of a pickle is and where; reads opcodes, runs nothing."""
    with path.open("rb") as file:
        data = file.read(_PICKLE_LIMIT)
    texts: list[str] = []
    try:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                name = str(argument).replace(" ", ".")
                return f"a pickle, would import {name:.100} (byte {position})"
            if opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
                return f"a pickle, would import {'.'.join(texts[-2:]):.100} (byte {position})"
            if isinstance(argument, str):
                texts.append(argument)
    except Exception:  # noqa: BLE001 - a broken stream is still a pickle, and still refused
        return "a damaged pickle"
    return "a pickle"


def _is_onnx(head: bytes) -> bool:
    """Look for the first fields of a ModelProto: ir_version (field 1), then a known field.

    Source: onnx.proto, message ModelProto.
    """
    if len(head) < 3 or head[0] != 8:
        return False
    return 1 <= head[1] <= 32 and head[2] in b"\x12\x1a\x3a\x42\x28\x22"


def _unsafe(path: Path, what: str) -> UnsafeContent:
    return UnsafeContent(
        f"UNSAFE  {path} is {what}. Nothing was run.",
        hint=f"hold scan {path}  # what is in it; then: hold convert {path} --name NAME",
        ref=str(path),
    )
