"""An ONNX model as bytes: the file and the files beside it that hold its larger tensors.

Files are mapped and never read whole. A neighbour is opened only where the model's own folder has
it as a plain file: no link leads out of the folder, and no name does. Source of the rules:
docs/ExternalData.md of https://github.com/onnx/onnx.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from holdfast.errors import Conflict, Corrupt, UnsafeContent, Unsupported, UsageError
from holdfast.trust import onnx_graph
from holdfast.trust.onnx_graph import Described, External

__all__ = [
    "MAIN",
    "MOST_BYTES",
    "OnnxFile",
    "describe",
    "neighbours",
    "open_file",
    "refuse_operators",
    "write_file",
]

MAIN: Final = "model.onnx"
# No protobuf parser takes more.
MOST_BYTES: Final = (1 << 31) - 1
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not keep us waiting


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A model as bytes, for keeping it without the onnx package or beyond a protobuf's size.

    Attributes:
        data: The ``.onnx`` file.
        files: What it keeps in other files, by their place relative to its folder.
    """

    data: bytes | memoryview
    files: Mapping[str, bytes | memoryview] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size of the model with its other files."""
        return sum(memoryview(part).nbytes for part in (self.data, *self.files.values()))

    def proto(self) -> Any:
        """Return the parsed ``onnx.ModelProto`` with all tensors in it, in memory.

        Raises:
            MissingExtra: The onnx package is not installed.
            Corrupt: It is damaged.
            UsageError: It is larger than a protobuf can be.
        """
        from holdfast.frameworks.onnx import protos

        if self.nbytes > MOST_BYTES:
            raise UsageError(
                "A model of more than 2 GB cannot be one protobuf.",
                hint='holdfast.get("REF").predictor().predict(X)  # runs it as it is',
            )
        described = describe(self.data)
        return protos.proto_of(OnnxFile(self.data, neighbours(described, self.files)))


def open_file(path: Path) -> OnnxFile:
    """Map an ONNX file and the files that its tensors lie in.

    Raises:
        Corrupt: It is damaged or lies about sizes, or a file beside it is missing.
        UnsafeContent: An operator reaches out of the graph, or a file beside it is a link.
        Unsupported: It uses operators of which nothing is known.
        UsageError: There is no such file.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="ls -l") from error
    data = _mapped(descriptor, str(path))
    described = describe(data)
    refuse_operators(described)
    folder = path.parent
    places = dict.fromkeys(external.location for external in described.externals)
    files = {place: _neighbour(folder, place) for place in places}
    neighbours(described, files)
    return OnnxFile(data, files)


def describe(data: bytes | memoryview) -> Described:
    """Walk a model as data; raises ``Corrupt``. See ``trust.onnx_graph``."""
    if memoryview(data).nbytes > MOST_BYTES:
        raise Corrupt(
            "An ONNX file of more than 2 GB is not one that a parser takes; its tensors belong "
            "into a file beside it.",
            hint='onnx.save(model, "model.onnx", save_as_external_data=True)',
        )
    return onnx_graph.describe(data)


def refuse_operators(described: Described) -> None:
    """Refuse a graph that may do more than compute.

    Raises:
        UnsafeContent: An operator reads files, calls a network or runs code.
        Unsupported: Nothing is known of an operator, or of something else in the file.
    """
    if described.reaching:
        raise UnsafeContent(
            f"UNSAFE  The ONNX graph uses {_some(described.reaching)}, which reaches out of the "
            "graph: it reads files, calls a network or runs code. Nothing was run.",
            hint="netron model.onnx  # to see where; export the model without it",
        )
    if described.unknown:
        raise Unsupported(
            f"The ONNX graph holds {_some(described.unknown)}, of which Holdfast knows nothing.",
            hint='holdfast.save({"model": "as a file"}, name, files=["model.onnx"])',
        )


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - 5} more" if len(every) > 5 else ""
    return ", ".join(every[:5]) + more


def neighbours(
    described: Described, files: Mapping[str, bytes | memoryview]
) -> dict[str, bytes | memoryview]:
    """Return the files that a model's tensors lie in, each checked to hold them.

    Args:
        described: The model.
        files: Files by place; others than those wanted are left out.

    Raises:
        Corrupt: One is missing or too short, or two places are one on some file systems.
    """
    found: dict[str, bytes | memoryview] = {}
    folded = {MAIN: MAIN}
    for external in described.externals:
        place = external.location
        if place not in files:
            raise Corrupt(
                f"The tensor {external.tensor!r:.100} lies in the file {place!r:.200}, "
                "which is missing."
            )
        _require_inside(external, memoryview(files[place]).nbytes)
        found[place] = files[place]
        key = unicodedata.normalize("NFKC", place).casefold()
        if folded.setdefault(key, place) != place or place == MAIN:
            raise Corrupt(f"The files {folded[key]!r:.200} and {place!r:.200} have one name.")
    return found


def _require_inside(external: External, size: int) -> None:
    if external.offset + external.length > size:
        raise Corrupt(
            f"The tensor {external.tensor!r:.100} ends at byte "
            f"{external.offset + external.length:,} of {external.location!r:.200}, "
            f"which has {size:,}."
        )


def _neighbour(folder: Path, place: str) -> memoryview:
    """Map a file below a folder, every step of the way being a plain folder of its own."""
    *steps, name = place.split("/")
    held: list[int] = []
    try:
        held.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for step in steps:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            held.append(os.open(step, flags, dir_fd=held[-1]))
        descriptor = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=held[-1])
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnsafeContent(
                f"UNSAFE  A tensor lies in {place!r:.200}, and the way there is a link. It was "
                "not followed.",
                hint=f"cp -rL {folder} copy  # if the links are your own, and save the copy",
                ref=place,
            ) from error
        raise Corrupt(
            f"The file {place!r:.200} beside the model cannot be read: {error.strerror}"
        ) from error
    finally:
        for opened in held:
            os.close(opened)
    return _mapped(descriptor, place, alone=True)


def _mapped(descriptor: int, name: str, *, alone: bool = False) -> memoryview:
    """Map an open file and close it.

    Raises:
        UnsafeContent: It is no plain file, or ``alone`` and a file of other names too.
    """
    try:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode) or (alone and told.st_nlink != 1):
            what = "has other names too (hard links)" if stat.S_ISREG(told.st_mode) else "no file"
            raise UnsafeContent(
                f"UNSAFE  {name!r:.200} is not a plain file of its own: {what}.",
                hint="cp -r FOLDER copy  # and save the copy",
                ref=name,
            )
        if told.st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except OSError as error:  # more files than a process may map
        raise Corrupt(f"The file {name!r:.200} cannot be mapped: {error.strerror}") from error
    finally:
        os.close(descriptor)


def write_file(model: OnnxFile, path: Path) -> None:
    """Write a model and its other files; nothing that is there is overwritten.

    Raises:
        Conflict: A file is there already.
        Corrupt: A place of its own leads out of the folder.
    """
    files = neighbours(describe(model.data), model.files)
    targets = {path.parent / place: data for place, data in files.items()}
    there = next((target for target in (path, *targets) if target.exists()), None)
    if there is not None:
        raise Conflict(f"{there} is there already; nothing was written.", hint=f"ls -l {there}")
    for target, data in {**targets, path: model.data}.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(data)
