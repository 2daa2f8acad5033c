"""``torch.export`` programs: ``.pt2`` archives whose graph is judged before torch reads it.

torch's reader evaluates what it finds: shape expressions go through ``sympy.sympify``, guards and
argument names into generated Python, sample inputs through pickle. So an archive of ours has no
guards, no sample inputs and no traces of the source, and every text in it must have the form of a
name, an operator or a shape. Source of the format: ``torch/_export/serde/schema.py`` and
``torch/export/pt2_archive/constants.py``.
"""

from __future__ import annotations

import io
import json
import keyword
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.codec.tensors import FileData
from holdfast.errors import Corrupt, UnsafeContent, Unsupported
from holdfast.frameworks.torch.guards import refuse_lost
from holdfast.plugins import import_extra

__all__ = [
    "SPEC",
    "cleaned",
    "graph_of",
    "is_program",
    "joined",
    "members_of",
    "program_of",
    "read_program",
    "write_program",
]

_MODEL: Final = "models/model.json"
_SAMPLES: Final = "data/sample_inputs/model.pt"
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
)
_MEMBER: Final = re.compile(
    r"(models/model\.json|data/(weights|constants)/[a-z_0-9]+(\.json)?|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id))"
)
_GRAPH_LIMIT: Final = 256 << 20
_DEPTH: Final = 60
_NAME: Final = re.compile(r"[A-Za-z0-9_.+:\-]{0,256}")
# aten and the arithmetic of shapes; of aten only from_file reaches out: it maps files.
_OPERATOR: Final = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|pos|eq|ne"
    r"|lt|le|gt|ge|and_|or_|getitem|truediv|pow)|math\.(ceil|floor|trunc)|torch\.sym_\w+"
)
_SYMBOL: Final = r"Symbol\('[a-z]+[0-9]*'(, (positive|integer|nonnegative)=True)*\)"
_SHAPE: Final = re.compile(
    rf"({_SYMBOL}|Pow\({_SYMBOL}, Integer\([2-4]\)\)"
    r"|Integer\(-?[0-9]{1,19}\)|(Add|Mul|Mod|FloorDiv|CleanDiv|CeilDiv|Max|Min|ModularIndexing)\("
    r"|[a-z]+[0-9]+|[0-9]{1,19}|(?<!\*)\*(?!\*)|[()\s,+\-/])*"
)
_SPECS: Final = frozenset({"in_spec", "out_spec"})
_CONTAINERS: Final = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})


def is_program(model: object) -> bool:
    """Say whether a value is a ``torch.export.ExportedProgram``."""
    kind = type(model)
    return kind.__name__ == "ExportedProgram" and kind.__module__ == "torch.export.exported_program"


def program_of(data: bytes) -> Any:
    """Return the program of an archive that was judged."""
    torch = import_extra("torch", needed_for="loading a torch.export program")
    return torch.export.load(io.BytesIO(data))


def _encode(program: Any) -> Mapping[str, Any]:
    import torch

    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    refuse_lost(graph_of(buffer.getvalue()))
    try:
        return {"program": FileData(".pt2", cleaned(buffer.getvalue()))}
    except (Corrupt, UnsafeContent) as error:
        raise Unsupported(
            f"the exported program cannot be kept: {error.message}",
            hint="torch.export.export(model, arguments)  # of operators from torch.ops.aten only",
        ) from error


def _build(fields: Mapping[str, Any]) -> Any:
    data = bytes(fields["program"])
    if cleaned(data) != data:
        raise Corrupt("the .pt2 archive holds what an archive of Holdfast never does")
    return program_of(data)


def _locate() -> type:
    torch = import_extra("torch", needed_for="an ExportedProgram")
    kind: type = torch.export.ExportedProgram
    return kind


SPEC: Final = TypeSpec(
    id="torch.ExportedProgram",
    locate=_locate,
    classes=("torch.export.exported_program:ExportedProgram",),
    encode=_encode,
    build=_build,
    fields=frozenset({"program"}),
    required=frozenset({"program"}),
)


def read_program(path: Path) -> Any:
    """Load a ``.pt2`` file that ``torch.export.save`` wrote, after its graph was judged.

    Raises:
        UnsafeContent: It holds a pickle, an operator beyond aten, or text that torch would run.
        Corrupt: It is damaged.
        Unsupported: It holds only under conditions that are not in its graph.
    """
    data = path.read_bytes()
    judged = cleaned(data)
    refuse_lost(graph_of(data))
    return program_of(judged)


def write_program(program: Any, path: Path) -> None:
    """Write a program for ``torch.export.load``; a model that was not exported is refused."""
    if not is_program(program):
        raise Unsupported(
            f"a {type(program).__name__} is not an exported program.",
            hint="torch.export.export(model, arguments)  # then save that",
        )
    path.write_bytes(_encode(program)["program"].data)


def cleaned(data: bytes) -> bytes:
    """Judge a ``.pt2`` archive and return it in one canonical form, without what is not needed.

    Raises:
        UnsafeContent: It holds a pickle, an operator beyond aten, or text that torch would run.
        Corrupt: It is damaged, or beyond a limit.
    """
    members = members_of(data)
    graph = _parsed(members[_MODEL])
    _strip(graph)
    for key, text in _texts(graph):
        _judge(key, text)
    _judge_arguments(graph)
    for name in members:
        if name.endswith("_config.json"):
            _judge_config(_parsed(members[name]), name)
    members[_MODEL] = _spelled(graph)
    members[_SAMPLES] = b""
    members[".data/serialization_id"] = b"0" * 40
    return joined(members)


def joined(members: Mapping[str, bytes | memoryview]) -> bytes:
    """Return the archive of members by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), members[name])
    return buffer.getvalue()


def graph_of(data: bytes) -> Any:
    """Return the JSON of an archive's graph, which may be forged; raises ``Corrupt``."""
    return _parsed(members_of(data)[_MODEL])


def members_of(data: bytes) -> dict[str, bytes]:
    """Return the members of an archive by name; raises ``Corrupt`` or ``UnsafeContent``."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = archive.infolist()
            if sum(item.file_size for item in found) > max(len(data) * 4, 1 << 20):
                raise Corrupt("the .pt2 archive claims impossible sizes")
            members = {item.filename.partition("/")[2]: archive.read(item) for item in found}
    except (*_BROKEN, ValueError) as error:
        if isinstance(error, Corrupt):
            raise
        raise Corrupt(f"the .pt2 archive is damaged: {error!s:.100}") from error
    strangers = [name for name in members if not _MEMBER.fullmatch(name)]
    if strangers:
        raise _unsafe(f"the .pt2 archive holds {strangers[0]!r:.100}, which is no plain data")
    if len(members) != len(found) or _MODEL not in members:
        raise Corrupt("the .pt2 archive lacks its graph, or names something twice")
    return members


def _parsed(data: bytes) -> Any:
    if len(data) > _GRAPH_LIMIT:
        raise Corrupt("the graph of the .pt2 archive is too large")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"the graph of the .pt2 archive is not JSON: {error!s:.100}") from error


def _spelled(graph: Any) -> bytes:
    return json.dumps(graph, separators=(",", ":"), sort_keys=False).encode()


def _strip(graph: Any) -> None:
    """Take out guards, which are code, and where in whose source a node came from."""
    if not isinstance(graph, dict):
        raise Corrupt("the graph of the .pt2 archive is not an object")
    graph["guards_code"] = []
    todo: list[Any] = [graph]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if isinstance(item.get("metadata"), dict):
                item["metadata"] = {}
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _texts(graph: Any) -> Iterator[tuple[str, str]]:
    """Yield (key above it, text) of every text; keys of objects too."""
    todo: list[tuple[int, str, Any]] = [(0, "", graph)]
    while todo:
        depth, key, item = todo.pop()
        if depth > _DEPTH:
            raise Corrupt("the graph of the .pt2 archive is nested too deeply")
        if isinstance(item, str):
            yield key, item
        elif isinstance(item, dict):
            for name, value in item.items():
                yield "", name
                todo.append((depth + 1, name, value))
        elif isinstance(item, list):
            todo.extend((depth + 1, key, value) for value in item)


def _judge(key: str, text: str) -> None:
    if key == "target":
        sound = _OPERATOR.fullmatch(text)
    elif key == "expr_str":
        sound = _SHAPE.fullmatch(text)
    elif key in _SPECS:
        _judge_containers(text)
        return
    else:
        sound = _NAME.fullmatch(text)
    if not sound:
        kind = "the operator" if key == "target" else "the text"
        raise _unsafe(f"its graph holds {kind} {text!r:.100}, which is not known to be data")


def _judge_containers(text: str) -> None:
    """Judge how arguments are nested: plain containers only, for others are looked up by name."""
    for key, name in _texts(_parsed(text.encode())):
        if key == "type" and name not in _CONTAINERS:
            raise _unsafe(f"its graph takes or gives a {name!r:.60}, not plain containers")
        if key == "context" and not re.fullmatch(r"null|\[[\w\", .\-]*\]", name):
            raise _unsafe(f"its graph nests arguments by {name!r:.60}")


def _judge_arguments(graph: dict[str, Any]) -> None:
    """Judge names that become names in generated Python."""
    todo: list[Any] = [graph]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        if not isinstance(item, dict):
            continue
        todo.extend(item.values())
        names = item.get("forward_arg_names")
        for name in names if isinstance(names, list) else ():
            if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                raise _unsafe(f"its graph has the argument {name!r:.60}")


def _judge_config(config: Any, name: str) -> None:
    """Judge which bytes are which tensor: none may be a pickle."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        raise Corrupt(f"{name} of the .pt2 archive is malformed")
    for entry in entries.values():
        if not isinstance(entry, dict) or entry.get("use_pickle") is not False:
            raise _unsafe(f"{name} of the .pt2 archive names a pickle")
        if not re.fullmatch(r"[a-z_]+[0-9]+", str(entry.get("path_name"))):
            raise _unsafe(f"{name} of the .pt2 archive names {entry.get('path_name')!r:.60}")


def _unsafe(message: str) -> UnsafeContent:
    return UnsafeContent(
        message, hint="hold scan program.pt2  # then export the model anew from its own code"
    )
