"""Telling by its content what kind of file this is; extensions decide nothing."""

from __future__ import annotations

from typing import Final

from holdfast.trust import safetensors
from holdfast.trust.npy import MAGIC as NPY
from holdfast.trust.pickles import read
from holdfast.trust.source import Source, coding_of
from holdfast.trust.tars import is_tar
from holdfast.trust.zips import has_directory

__all__ = ["identify"]

_HEAD: Final = 4096
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_MAGICS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "zip"),
    (_HDF5, "hdf5"),
    (NPY, "npy"),
    (b"GGUF", "gguf"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"CBM1", "catboost"),
    (b"binf", "xgboost-binary"),
    (b"tree\n", "lightgbm"),
)
# The number that torch wrote before 1.6, as the first pickle of the file (torch.serialization).
_TORCH_LEGACY: Final = 0x1950A86A20F9469CFC6C
_ONNX_NEXT: Final = b"\x12\x1a\x22\x28\x32\x3a\x42"
_GRAPH_NEXT: Final = b"\x0a\x12\x1a\x22"


def identify(source: Source) -> str:
    """Return the kind of what is in a source, one of ``report.KINDS``.

    Zip archives are ``zip`` here; what they are for is told by their members.
    """
    head = source.read(0, _HEAD)
    marked = next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)
    if marked is not None:
        return marked
    if is_tar(head):
        return "tar"
    if safetensors.looks_like(head, source.size):
        return "safetensors"
    if coding_of(head) is not None:
        return "compressed"
    told = _structured(head) or _pickle(source, head) or _protobuf(head)
    # An archive may have something else in front of it.
    return told or ("zip" if has_directory(source) else "unknown")


def _structured(head: bytes) -> str | None:
    """Tell the forms of XGBoost: JSON and UBJSON with its first keys."""
    text = head.lstrip()[:400]
    if head.startswith(b"{L") and (b"learner" in head or b"version" in head):
        return "xgboost-ubj"
    if text.startswith(b"{") and b'"learner"' in head:
        return "xgboost-json"
    return None


def _pickle(source: Source, head: bytes) -> str | None:
    """Tell pickles by their protocol mark; of protocols 0 and 1, by being read to the end."""
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2:
        first = read(memoryview(head), joblib=False)
        if first.end is not None and first.root == _TORCH_LEGACY:
            return "torch-legacy"
        return "joblib" if b"NumpyArrayWrapper" in head else "pickle"
    if not head or head[:1] not in b"(]}cilI0FSUVNGJKMTXsdp)":
        return None
    found = read(source.view(16 << 20) if source.size <= 16 << 20 else memoryview(head))
    return "pickle" if found.end is not None or found.globals else None


def _protobuf(head: bytes) -> str | None:
    """Tell ONNX and GraphDef by their first fields: onnx.proto, graph.proto."""
    if len(head) > 3 and head[0] == 0x08 and 1 <= head[1] <= 32 and head[2:3] in _ONNX_NEXT:
        return "onnx"
    if len(head) > 16 and head[:1] == b"\x0a" and head[2:3] in b"\x0a" and b"\x12" in head[:200]:
        return "graphdef"
    return None
