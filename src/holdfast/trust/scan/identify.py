"""Telling by its content what kind of file this is; extensions decide nothing."""

from __future__ import annotations

import re
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import protobuf, safetensors
from holdfast.trust.boosters import kind_of_booster
from holdfast.trust.hdf5 import find_superblock
from holdfast.trust.npy import MAGIC as NPY
from holdfast.trust.pickles import Limits, Reading, read
from holdfast.trust.report import Severity
from holdfast.trust.source import Source, coding_of
from holdfast.trust.tars import is_tar
from holdfast.trust.tf_checkpoint import is_checkpoint
from holdfast.trust.zips import has_directory

__all__ = ["PICKLES", "begins_as_pickle", "identify", "words_for"]

# Kinds that are pickles from their first byte on.
PICKLES: Final = frozenset({"joblib", "pickle", "torch-legacy"})

_HEAD: Final = 4096
_MOST_TEXT: Final = 16 << 20
_MAGICS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (NPY, "npy"),
    (b"GGUF", "gguf"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
)
# Marks of the protocols that each pickler of theirs writes; 0 and 1 an unpickler takes as well.
_MARKS: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# So many opcodes in a row make sense in a pickle only.
_ENOUGH: Final = Limits(opcodes=100_000)
# The number that torch wrote before 1.6, as the first pickle of the file (torch.serialization).
_TORCH_LEGACY: Final = 0x1950A86A20F9469CFC6C
_FIRST_OPCODES: Final = frozenset(
    b"(]}cilIFSUVNGJKMTXLBC0P)\x80\x82\x83\x84\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x95\x96\x97"
)
# Tags of the outermost fields of ONNX, SavedModel and GraphDef; writers begin with the first two.
_USUAL_TAGS: Final = b"\x08\x0a"
_FIRST_TAGS: Final = _USUAL_TAGS + b"\x12\x18\x1a\x22\x28\x2a\x32\x3a\x42\x72\xa2\xca\xd2"
# What JSON begins with, once the zeros and marks of UTF-16 and UTF-32 are left out.
_WIDE: Final = b"\0\xff\xfe"
_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[\[{\"\]\d-]|\s{4000})")
_NAME: Final = re.compile(r"[^\W\d][\w.<>]*")
# Before joblib 0.10: a mark, and the length as hexadecimal text (joblib.numpy_pickle_compat).
_OLD_JOBLIB: Final = b"ZF0x"

# Files that are no models' own formats but stand beside them: magic, place, words.
_OTHERS: Final[tuple[tuple[bytes, int, str], ...]] = (
    (b"\x7fELF", 0, "a native program or library (ELF)"),
    (b"MZ", 0, "a native program or library (Windows)"),
    (b"\xcf\xfa\xed\xfe", 0, "a native program or library (macOS)"),
    (b"\xca\xfe\xba\xbe", 0, "a native library or Java class"),
    (b"#!", 0, "a script"),
    (b"TFL3", 4, "TensorFlow Lite"),
    (b"ET1", 4, "an ExecuTorch program"),
    (b"PAR1", 0, "Parquet"),
    (b"ARROW1", 0, "Arrow"),
    (b"SQLite format 3\0", 0, "SQLite"),
    (b"%PDF-", 0, "PDF"),
    (b"\x89PNG", 0, "a PNG picture"),
    (b"\xff\xd8\xff", 0, "a JPEG picture"),
    (b"Rar!", 0, "a rar archive"),
    (b"lmdb", 0, "lmdb"),
)


def identify(source: Source) -> str:
    """Return the kind of what is in a source, one of ``report.KINDS``.

    Zip archives are ``zip`` here; what they are for is told by their members. So it is with HDF5.
    """
    head = source.read(0, _HEAD)
    marked = next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)
    return (
        marked
        or kind_of_booster(head)
        or _container(head, source)
        or _pickle(source, head)
        or _protobuf(source)
        or _elsewhere(source)
        or ("json" if _JSON.match(head.translate(None, _WIDE)) else "unknown")
    )


def _container(head: bytes, source: Source) -> str | None:
    if is_tar(head):
        return "tar"
    if safetensors.looks_like(head, source.size):
        return "safetensors"
    return "compressed" if coding_of(head) is not None or head.startswith(_OLD_JOBLIB) else None


def _elsewhere(source: Source) -> str | None:
    """Tell what is told by its end, or need not stand at the beginning."""
    if not source.jumps:
        return None
    if find_superblock(source) is not None:
        return "hdf5"
    if is_checkpoint(source):
        return "tf-checkpoint"
    return "zip" if has_directory(source) else None


def words_for(head: bytes) -> str | None:
    """Say what a file is that is none of ``report.KINDS``, if it is one that is often met."""
    return next(
        (words for magic, at, words in _OTHERS if head[at : at + len(magic)] == magic), None
    )


def _pickle(source: Source, head: bytes) -> str | None:
    """Tell pickles by their protocol mark; of protocols 0 and 1, by being read."""
    if head.startswith(_MARKS):
        first = read(memoryview(head), joblib=False)
        if first.end is not None and first.root == _TORCH_LEGACY:
            return "torch-legacy"
        return "joblib" if b"NumpyArrayWrapper" in head else "pickle"
    found = _beginning(source, head)
    return "pickle" if found is not None and _is_pickle(found) else None


def _beginning(source: Source, head: bytes) -> Reading | None:
    """Read what may be a pickle without a mark, as far as needed; None where it cannot be one.

    A text that happens to begin as a pickle breaks off soon, wherever it ends.
    """
    if not head or head[0] not in _FIRST_OPCODES:
        return None
    found = read(memoryview(head), joblib=False)
    if found.cut and source.size > len(head):
        rest = source.view() if source.jumps else memoryview(source.read(0, _MOST_TEXT))
        found = read(rest, joblib=False, limits=_ENOUGH)
    return found


def _is_pickle(found: Reading) -> bool:
    """Say whether bytes without a protocol mark were a pickle: whole, or calling what has a name.

    Any text may begin with the letter of an opcode.
    """
    if any(finding.severity is Severity.UNSAFE for finding in found.findings):
        return True  # it went on beyond all limits
    if found.end is not None:
        return found.end > 2 or bool(found.globals)
    return bool(found.calls) and all(
        _NAME.fullmatch(item.module) and _NAME.fullmatch(item.name) for item in found.globals[:20]
    )


def begins_as_pickle(source: Source) -> bool:
    """Say whether a file of another kind would call something where it is read as a pickle."""
    found = _beginning(source, source.read(0, _HEAD))
    return found is not None and bool(found.globals and found.calls) and _is_pickle(found)


def _protobuf(source: Source) -> str | None:
    """Tell ONNX, SavedModel and GraphDef by their outermost fields, which may be in any order.

    Sources: onnx.proto (ModelProto), saved_model.proto (SavedModel), graph.proto (GraphDef).
    """
    first = source.read(0, 2)
    if len(first) < 2 or first[0] not in _FIRST_TAGS:
        return None
    seen: dict[int, int] = {}
    nodes = objects = 0
    whole = True
    try:
        for count, field in enumerate(protobuf.fields(source.view())):
            seen.setdefault(field.number, field.wire)
            if field.number == 1 and field.wire == protobuf.LENGTH and nodes < 8:
                nodes += _is_node(field)
                objects += _is_keras_object(field)
            if count > 2_000:
                break
    except Corrupt:
        whole = False
    # What is damaged, or begins as no writer begins it, must be plainer.
    if not whole and (first[0] not in _USUAL_TAGS or (len(seen) < 2 and not nodes + objects)):
        return None
    if objects and seen.keys() == {1}:
        return "keras-metadata"
    if seen.get(1) == protobuf.VARINT:
        return _onnx_or_saved_model(seen)
    return "graphdef" if nodes and seen.keys() <= {1, 2, 3, 4, 5} else None


def _onnx_or_saved_model(seen: dict[int, int]) -> str | None:
    number, text = protobuf.VARINT, protobuf.LENGTH
    onnx = {1: number, 2: text, 3: text, 4: text, 5: number, 6: text, 7: text, 8: text, 14: text,
            20: text, 25: text, 26: text}  # fmt: skip
    if any(onnx.get(at) != wire for at, wire in seen.items()):
        return None
    if seen.keys() & {7, 8} or seen.keys() >= {2, 3}:
        return "onnx"
    return "savedmodel" if seen.keys() == {1, 2} else None


def _is_node(field: protobuf.Field) -> bool:
    """Say whether a field is a NodeDef: a name (1) and an operator (2), both texts."""
    try:
        parts = [part for part, _ in zip(field.message(), range(3), strict=False)]
        return [part.number for part in parts[:2]] == [1, 2] and parts[1].text().isidentifier()
    except Corrupt:
        return False


def _is_keras_object(field: protobuf.Field) -> bool:
    """Say whether a field is a SavedObject of Keras: an identifier (4) of its own."""
    try:
        parts = [part for part, _ in zip(field.message(), range(5), strict=False)]
        return any(part.number == 4 and part.text().startswith("_tf_keras") for part in parts)
    except Corrupt:
        return False
