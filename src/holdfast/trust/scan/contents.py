"""Reports on files of one kind each, and on zip archives by what they are for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from holdfast.errors import Corrupt
from holdfast.trust.gguf import read_gguf
from holdfast.trust.npy import read_npy_header
from holdfast.trust.report import MOST_TENSORS, Finding, Report, Severity, Tensor
from holdfast.trust.safetensors import read_safetensors_header
from holdfast.trust.scan.identify import identify
from holdfast.trust.scan.pickled import describe
from holdfast.trust.source import Allowance, Inflated, Source, coding_of
from holdfast.trust.tars import read_tar
from holdfast.trust.zips import Entry, ZipArchive, escapes, open_zip

__all__ = ["report_on"]

_DEEPEST: Final = 6
_MOST_PICKLE: Final = 256 << 20
_MOST_JSON: Final = 64 << 20
_MOST_IN_A_ROW: Final = 64
_MOST_MEMBERS: Final = 2_000
_REACHES: Final = ("__", "import ", "eval(", "exec(", "subprocess", "os.", "popen")
# Keras names the class of everything in a configuration; these hold code.
_KERAS_CODE: Final = ("Lambda", "__lambda__")


class Scanner:
    """What one scan knows and may spend."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.allowance = Allowance()

    def look(self, source: Source, path: str, depth: int = 0) -> Report:
        """Report on what is in a source."""
        kind = identify(source)
        report = Report(path=path, kind=kind, size=source.size)
        try:
            return _LOOKS[kind](self, source, report, depth) if kind in _LOOKS else report
        except Corrupt as error:
            return _with(report, [_broken(error.message)])


def report_on(source: Source, path: str, known: frozenset[str]) -> Report:
    """Report on what is in a source; what is wrong becomes a finding, nothing is raised.

    Args:
        source: The bytes.
        path: How it is called in the report.
        known: Names in pickles that are data beside the vocabulary.
    """
    return Scanner(known).look(source, path)


def _broken(what: str, position: int | None = None) -> Finding:
    return Finding(severity=Severity.BROKEN, what=what, position=position)


def _unsafe(what: str, position: int | None = None) -> Finding:
    return Finding(severity=Severity.UNSAFE, what=what, position=position)


def _note(what: str) -> Finding:
    return Finding(severity=Severity.NOTE, what=what)


def _with(report: Report, findings: Iterable[Finding], **more: Any) -> Report:
    return replace(report, findings=(*report.findings, *findings), **more)


def _faults(faults: Iterable[tuple[str, int | None]]) -> list[Finding]:
    return [_broken(*fault) for fault in list(faults)[:100]]


def _pickle(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:  # noqa: ARG001 - every look is called alike
    """Describe every pickle in a row: torch wrote five before 1.6, and a second one may hide."""
    data = source.view(_MOST_PICKLE)
    found = [describe(data, scanner.known)]
    while len(found) < _MOST_IN_A_ROW and (end := found[-1].reading.end) is not None:
        following = describe(data, scanner.known, offset=end) if end < len(data) else None
        if following is None or not (following.reading.end or following.reading.globals):
            break
        found.append(following)
    first, legacy = found[0], report.kind == "torch-legacy"
    findings = [finding for each in found for finding in each.findings]
    if len(found) > 1 and not legacy:
        findings.append(_note(f"{len(found) - 1} pickles more follow, the first at its end"))
    known = {each.takes for each in found} == {"data"}
    return _with(
        report,
        findings,
        kind="joblib" if first.reading.inline else report.kind,
        imports=tuple(dict.fromkeys(name for each in found for name in each.imports)),
        framework="PyTorch" if legacy else first.framework,
        written_by=first.written_by,
        takes=("data" if known else "sandbox") if first.takes else None,
    )


def _safetensors(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:  # noqa: ARG001 - same
    file = read_safetensors_header(source)
    tensors = [Tensor(name=t.name, dtype=t.dtype, shape=t.shape) for t in file.tensors]
    return _with(
        report,
        _faults(file.faults),
        takes=None if file.faults else "data",
        tensors=tuple(tensors[:MOST_TENSORS]),
        tensor_count=len(tensors),
        facts=dict(file.metadata),
        framework={"pt": "PyTorch", "tf": "TensorFlow", "flax": "Flax"}.get(
            file.metadata.get("format", "")
        ),
    )


def _gguf(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:  # noqa: ARG001 - same
    file = read_gguf(source)
    findings = _faults(file.faults)
    for key, value in file.metadata.items():
        if key.endswith("chat_template") or ".chat_template." in key:
            findings += _template(str(value), key)
    tensors = [Tensor(name=t.name, dtype=t.dtype, shape=t.shape) for t in file.tensors]
    return _with(
        report,
        findings,
        takes=None if file.faults else "data",
        tensors=tuple(tensors[:MOST_TENSORS]),
        tensor_count=len(tensors),
        facts={"version": file.version, "keys": len(file.metadata)},
        framework=str(file.metadata.get("general.architecture", "")) or None,
    )


def _template(text: str, place: str) -> list[Finding]:
    """Look at a chat template, which is a program in Jinja: what reaches for Python is named."""
    reached = [word for word in _REACHES if word in text]
    if reached:
        return [_unsafe(f"the template {place!r:.60} reaches for Python ({reached[0].strip()!r})")]
    return [_note(f"the template {place!r:.60} is a program in Jinja; it was not rendered")]


def _npy(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:
    header = read_npy_header(source)
    tensor = Tensor(name=report.path, dtype=header.dtype, shape=header.shape)
    report = _with(report, [], framework="NumPy", tensors=(tensor,), tensor_count=1, takes="data")
    if not header.objects:
        missing = header.size is not None and source.size - header.start < header.size
        return _with(report, [_broken("the array is cut short")] if missing else [])
    inside = _pickle(scanner, source.window(header.start), report, depth)
    return _with(inside, [_note("an array of objects, which is a pickle")], kind="npy")


def _compressed(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:
    coding = coding_of(source.read(0, 4096)) or ""
    if coding in ("zstd", "lz4") or depth >= _DEEPEST:
        return _with(report, [_note(f"compressed with {coding}, and not looked into")])
    with Inflated(source, coding, scanner.allowance) as inflated:
        inside = scanner.look(inflated, report.path, depth + 1)
        findings = [_broken(inflated.fault)] if inflated.fault else []
    if inside.kind in ("pickle", "joblib"):
        return _with(inside, [_note(f"compressed with {coding}"), *findings], size=report.size)
    return _with(report, findings, members=(inside,))


def _tar(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:
    findings: list[Finding] = []
    members: list[Report] = []
    for entry in read_tar(source):
        if escapes(entry.name):
            findings.append(_unsafe(f"unpacking it would write to {entry.name!r:.100}"))
        if entry.kind not in ("file", "folder"):
            findings.append(_unsafe(f"{entry.name!r:.100} is a {entry.kind}", entry.header))
        if entry.kind != "file" or depth >= _DEEPEST or not _may(scanner, members):
            continue
        inside = source.window(entry.start, entry.size)
        members.append(scanner.look(inside, entry.name, depth + 1))
    return _with(report, findings, members=tuple(members))


def _may(scanner: Scanner, members: list[Report]) -> bool:
    scanner.allowance.members -= 1
    return scanner.allowance.members > 0 and len(members) < _MOST_MEMBERS


def _zip(scanner: Scanner, source: Source, report: Report, depth: int) -> Report:
    archive = open_zip(source)
    findings = _faults(archive.faults)
    if archive.prefix:
        findings.append(_note(f"{archive.prefix} bytes stand before the archive"))
    for entry in archive.entries:
        if escapes(entry.name):
            findings.append(_unsafe(f"unpacking it would write to {entry.name!r:.100}"))
        if entry.is_link:
            findings.append(_unsafe(f"{entry.name!r:.100} is a symbolic link"))
        if entry.is_encrypted:
            findings.append(_note(f"{entry.name!r:.100} says that it is encrypted"))
    kind, chosen = _purpose(archive)
    report = _with(report, findings, kind=kind)
    members: list[Report] = []
    for entry in chosen:
        if depth >= _DEEPEST or not _may(scanner, members):
            break
        members.append(_member(scanner, archive, entry, depth))
    return _summed(_with(report, [], members=tuple(members)), archive, scanner)


def _purpose(archive: ZipArchive) -> tuple[str, list[Entry]]:
    """Tell what an archive is for, and which members are worth a look."""
    entries = [entry for entry in archive.entries if not entry.is_folder]
    names = {entry.name for entry in entries}
    last = {name.partition("/")[2] or name for name in names}
    pickles = [e for e in entries if e.name.endswith((".pkl", ".pickle"))]
    code = any(name.startswith("code/") for name in last)
    graph = any(name.startswith("models/") and name.endswith(".json") for name in last)
    arrays = bool(names) and all(name.endswith(".npy") for name in names)
    keras = {"config.json", "metadata.json", "model.weights.h5"} <= names
    schemas = [entry for entry in entries if entry.name == "schema.json"]
    tests: tuple[tuple[Any, str, list[Entry]], ...] = (
        (code and {"constants.pkl", "data.pkl"} & last, "torchscript", pickles),
        (graph, "torch-program", pickles),
        ("data.pkl" in last, "torch", pickles),
        (schemas, "skops", []),
        (keras, "keras", []),
        (arrays, "npz", entries),
    )
    return next(((kind, chosen) for told, kind, chosen in tests if told), ("zip", entries))


def _member(scanner: Scanner, archive: ZipArchive, entry: Entry, depth: int) -> Report:
    report = Report(path=entry.name, kind="unknown", size=entry.size)
    try:
        with archive.open(entry, scanner.allowance) as content:
            return scanner.look(content, entry.name, depth + 1)
    except Corrupt as error:
        return _with(report, [_broken(error.message)])


def _summed(report: Report, archive: ZipArchive, scanner: Scanner) -> Report:
    """Say of the whole what its members tell."""
    imports = tuple(dict.fromkeys(name for member in report.members for name in member.imports))
    tensors = tuple(tensor for member in report.members for tensor in member.tensors)
    worst = {member.takes for member in report.members}
    summed = _with(
        report,
        [],
        imports=imports,
        tensors=tensors[:MOST_TENSORS],
        tensor_count=sum(member.tensor_count for member in report.members),
        written_by=next((m.written_by for m in report.members if m.written_by), None),
        framework=next((m.framework for m in report.members if m.framework), None),
    )
    if report.kind in ("torch", "npz"):
        framework = "PyTorch" if report.kind == "torch" else "NumPy"
        return replace(
            summed, takes="data" if worst == {"data"} else "sandbox", framework=framework
        )
    if report.kind in ("torchscript", "torch-program"):
        script = report.kind == "torchscript"
        findings = [_unsafe("a program: code that torch would compile and run")] if script else []
        return _with(summed, findings, framework="PyTorch", takes=None if script else "data")
    if report.kind == "keras":
        return _keras(summed, archive, scanner)
    if report.kind == "skops":
        return _skops(summed, archive, scanner)
    return summed


def _json_member(archive: ZipArchive, name: str, scanner: Scanner) -> Any:
    entry = next(entry for entry in archive.entries if entry.name == name)
    try:
        return json.loads(archive.content(entry, _MOST_JSON, scanner.allowance))
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{name} is not JSON: {error!s:.80}") from error


def _keras(report: Report, archive: ZipArchive, scanner: Scanner) -> Report:
    config = _json_member(archive, "config.json", scanner)
    about = _json_member(archive, "metadata.json", scanner)
    version = about.get("keras_version") if isinstance(about, dict) else None
    classes = tuple(dict.fromkeys(_classes(config)))
    findings = [
        _unsafe(f"its configuration holds code: {name}")
        for name in classes
        if name.endswith(_KERAS_CODE) or not name.startswith(("keras.", "keras:"))
    ]
    return _with(
        report,
        findings[:100],
        framework="Keras",
        written_by=str(version)[:40] if version else None,
        imports=classes,
    )


def _classes(config: Any) -> Iterable[str]:
    """Yield ``module.class`` of everything that a Keras configuration names."""
    todo, seen = [config], 0
    while todo and seen < 1_000_000:
        item = todo.pop()
        seen += 1
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str):
                module = item.get("module")
                yield f"{module}.{item['class_name']}" if module else f"keras.{item['class_name']}"
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _skops(report: Report, archive: ZipArchive, scanner: Scanner) -> Report:
    schema = _json_member(archive, "schema.json", scanner)
    names: dict[str, None] = {}
    todo, seen = [schema], 0
    while todo and seen < 5_000_000:
        item = todo.pop()
        seen += 1
        if isinstance(item, dict):
            if isinstance(item.get("__class__"), str) and isinstance(item.get("__module__"), str):
                names[f"{item['__module__']}.{item['__class__']}"] = None
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
    known = {name.replace(":", ".") for name in scanner.known}
    plain = ("builtins.", "numpy.", "collections.")
    strange = [name for name in names if name not in known and not name.startswith(plain)]
    version = schema.get("_skops_version") if isinstance(schema, dict) else None
    return _with(
        report,
        [_unsafe(f"would build {name}") for name in strange[:100]],
        imports=tuple(names),
        framework="skops",
        written_by=str(version)[:40] if version else None,
    )


_LOOKS: Final[dict[str, Callable[[Scanner, Source, Report, int], Report]]] = {
    "compressed": _compressed,
    "gguf": _gguf,
    "joblib": _pickle,
    "npy": _npy,
    "pickle": _pickle,
    "safetensors": _safetensors,
    "tar": _tar,
    "torch-legacy": _pickle,
    "zip": _zip,
}
