"""What a zip archive is for, told by its members; and what its members together say of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from holdfast.errors import Corrupt
from holdfast.trust.pickles import Global, read
from holdfast.trust.report import Finding, Report, Severity
from holdfast.trust.scan.draft import DEFECTS, Draft
from holdfast.trust.scan.pickled_tensors import tensors_of
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.zips import Entry, ZipArchive

__all__ = ["conclude", "purpose"]

_MOST_CODE: Final = 4 << 20
_MOST_PICKLE: Final = 64 << 20
# Bytes of an element of a storage, by the beginning of its class's name.
_WIDTHS: Final = {
    "double": 8, "float": 4, "half": 2, "bfloat16": 2, "long": 8, "int": 4, "short": 2, "char": 1,
    "byte": 1, "bool": 1, "complexdouble": 16, "complexfloat": 8, "untyped": 1,
}  # fmt: skip

# Members of a checkpoint that are raw bytes or say a word of it (torch: caffe2/serialize).
_RAW: Final = re.compile(
    r"(?:data/\d+|data/weights/weight_\d+|data/constants/tensor_\d+|tensors/\d+|constants/\d+"
    r"|version|byteorder|archive_format|archive_version|\.format_version|\.storage_alignment"
    r"|\.data/(?:serialization_id|version))"
)
_SETSTATE: Final = re.compile(r"^[ \t]*def __setstate__\b", re.MULTILINE)
_FILE_OPERATORS: Final = re.compile(
    r"\b(?:torch|ops\.aten|ops\.prim)\.(?:save|load|from_file|_load_for_lite_interpreter)\b"
)
_LIBRARIES: Final = re.compile(r"\bops\.(?!aten\b|prim\b|prims\b|quantized\b)(\w+)\.")
# What torch itself puts into the pickles of a program.
_OWN_NAMES: Final = ("__torch__.", "torch.jit._pickle.")


def purpose(archive: ZipArchive) -> tuple[str, list[Entry]]:
    """Tell what an archive is for, and which members are worth a look."""
    entries = [entry for entry in archive.entries if not entry.is_folder and not entry.is_link]
    names = {entry.name for entry in entries}
    root = _root(names)
    kind = _kind({name[len(root) :] for name in names if name.startswith(root)}, names)
    if kind.startswith("torch"):
        return kind, [e for e in entries if not _is_known(kind, e.name[len(root) :])]
    return kind, entries


def _kind(inside: set[str], names: set[str]) -> str:
    """Tell what an archive is for.

    Args:
        inside: Names of members in the folder that torch puts everything into.
        names: Names of all members.
    """
    code = any(name.startswith("code/") for name in inside)
    graph = inside & {"archive_format", "serialized_exported_program.json"}
    tests: tuple[tuple[object, str], ...] = (
        (code and inside & {"constants.pkl", "data.pkl"}, "torchscript"),
        (graph and any(name.endswith(".json") for name in inside), "torch-program"),
        ("data.pkl" in inside, "torch"),
        ("schema.json" in names, "skops"),
        ("config.json" in names and names & {"metadata.json", "model.weights.h5"}, "keras"),
        (names and all(name.endswith(".npy") for name in names), "npz"),
    )
    return next((kind for told, kind in tests if told), "zip")


def _is_known(kind: str, name: str) -> bool:
    """Say whether a member of torch's is raw bytes, or source that the conclusion reads."""
    source = kind == "torchscript" and name.endswith((".py", ".debug_pkl"))
    return source or _RAW.fullmatch(name) is not None


def _root(names: set[str]) -> str:
    """Return the folder in which torch put everything, with its slash."""
    marks = ("data.pkl", "archive_format", "serialized_exported_program.json", "constants.pkl")
    for mark in marks:
        for name in sorted(names):
            if name == mark or (name.endswith(f"/{mark}") and name.count("/") == 1):
                return name[: -len(mark)]
    return ""


def conclude(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    """Say of the whole what its members tell, and what only the whole tells."""
    for member in draft.members:
        draft.imports(member.imports)
        draft.count_tensors(member)
        draft.framework = draft.framework or member.framework
        draft.written_by = draft.written_by or member.written_by
    ending = _ENDINGS.get(draft.kind)
    try:
        if ending is not None:
            ending(scanner, archive, draft)
    except Corrupt as error:
        draft.broken(error.message)
        draft.takes = None


def _npz(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    del scanner, archive
    draft.framework = "NumPy"
    _takes_as_members(draft)


def _takes_as_members(draft: Draft) -> None:
    """Take the whole over as its members are: as data only when each of them is."""
    pickled = {m.takes for m in draft.members if m.takes is not None}
    if draft.has(*DEFECTS) or not draft.members:
        draft.takes = None
    else:
        draft.takes = (
            "data" if pickled == {"data"} and not draft.has(Severity.UNSAFE) else "sandbox"
        )


def _torch(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    draft.framework = "PyTorch"
    _takes_as_members(draft)
    by_name = {entry.name: entry for entry in archive.entries}
    root = _root(set(by_name))
    for mark in ("byteorder", ".format_version"):
        entry = by_name.get(root + mark)
        if entry is not None and entry.size < 100:
            text = archive.content(entry, 100, scanner.allowance).decode("ascii", "replace")
            draft.facts[mark.strip(".")] = text.strip()
    entry = by_name.get(f"{root}data.pkl")
    if entry is None or entry.size > _MOST_PICKLE:
        return
    with archive.open(entry, scanner.allowance) as content:
        reading = read(content.view())
        missing = [_missing(tensor.storage, by_name, root) for tensor in tensors_of(reading)]
    for said in dict.fromkeys(text for text in missing if text is not None):
        draft.broken(said)
        draft.takes = None


def _missing(storage: Any, by_name: dict[str, Entry], root: str) -> str | None:
    """Say when the archive does not hold what a tensor's storage claims."""
    if type(storage) is not tuple or len(storage) < 5 or type(storage[1]) is not Global:
        return None
    kind, key, count = storage[1], storage[2], storage[4]
    if type(key) is not str or type(count) is not int:
        return "a tensor's storage is described in an unknown way"
    entry = by_name.get(f"{root}data/{key}")
    if entry is None:
        return f"the storage {key[:60]!r} is not in the archive"
    name = kind.name.removesuffix("Storage").lower()
    width = _WIDTHS.get(name)
    if width is not None and not 0 <= count * width <= entry.size:
        return f"the storage {key[:60]!r} claims {count * width} bytes and has {entry.size}"
    return None


def _torchscript(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    """Say what the code of a program does beyond computing; it is never taken over."""
    draft.framework, draft.takes = "PyTorch", None
    draft.members = [_without_own_names(member) for member in draft.members]
    code = [entry for entry in archive.entries if entry.name.endswith(".py")]
    libraries: set[str] = set()
    for entry in code[:1_000]:
        text = archive.content(entry, _MOST_CODE, scanner.allowance).decode("utf-8", "replace")
        if _SETSTATE.search(text):
            draft.unsafe(f"opening it runs code of {entry.name:.100} (__setstate__)")
        found = _FILE_OPERATORS.search(text)
        if found is not None:
            draft.unsafe(f"{entry.name:.100} reads or writes files ({found[0]})")
        libraries.update(_LIBRARIES.findall(text))
    if libraries:
        draft.note(f"it calls operators of {', '.join(sorted(libraries)[:10])}")
    draft.note(f"a program in {len(code)} files, which torch compiles and runs")
    draft.facts["code"] = [entry.name for entry in code[:100]]


def _without_own_names(member: Report) -> Report:
    """Leave out what a program's pickle says of classes of the program itself."""
    kept = tuple(finding for finding in member.findings if not _is_own(finding))
    if len(kept) == len(member.findings):
        return member
    return replace(member, findings=kept)


def _is_own(finding: Finding) -> bool:
    words = finding.what.split()  # would import NAME …
    named = words[:1] == ["would"] and len(words) > 2 and words[2].startswith(_OWN_NAMES)
    return finding.severity is Severity.UNSAFE and named


def _torch_program(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    del scanner
    draft.framework = "PyTorch"
    native = [e.name for e in archive.entries if e.name.endswith((".so", ".cpp", ".o", ".cubin"))]
    if native:
        draft.unsafe(f"it holds native code: {native[0]!r:.100}")
    draft.note("a program, whose texts torch evaluates when it reads it")
    # Its samples are a pickle, which taking it over leaves aside.
    draft.take_as_data()


def _keras(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    del scanner, archive
    draft.framework = "Keras"
    _describes(draft, "config.json")
    draft.take_as_data()


def _skops(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    del scanner, archive
    schema = _describes(draft, "schema.json")
    if schema is not None:
        draft.framework, draft.written_by = schema.framework, schema.written_by
        if "protocol" not in schema.facts:
            draft.broken("its schema describes no object")
    draft.take_as_data()


def _describes(draft: Draft, name: str) -> Report | None:
    """Take over the facts of the document by which an archive is read."""
    found = [member for member in draft.members if member.path == name and member.kind == "json"]
    if not found:
        draft.broken(f"{name} is not JSON, or larger than is read here")
        return None
    draft.facts |= found[0].facts
    return found[0]


def _zip(scanner: Scanner, archive: ZipArchive, draft: Draft) -> None:
    """Name archives that their program unpacks and runs."""
    del scanner
    names = [entry.name for entry in archive.entries]
    if any(name.endswith(".data/extern_modules") for name in names):
        draft.unsafe("a torch.package, whose Python code runs when it is imported")
    if "MAR-INF/MANIFEST.json" in names:
        code = _first(names, ".py")
        draft.unsafe(f"a TorchServe archive, whose handler is code{f': {code}' if code else ''}")


def _first(names: Sequence[str], ending: str) -> str | None:
    return next((name[:100] for name in names if name.endswith(ending)), None)


_ENDINGS: Final = {
    "keras": _keras,
    "npz": _npz,
    "skops": _skops,
    "torch": _torch,
    "torch-program": _torch_program,
    "torchscript": _torchscript,
    "zip": _zip,
}
