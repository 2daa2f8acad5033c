"""Reports on archives: zip by what it is for, tar, and compressed files."""

from __future__ import annotations

import posixpath
import zlib
from collections import Counter
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.report import Finding, Report, Severity
from holdfast.trust.scan.draft import DEFECTS, Draft
from holdfast.trust.scan.identify import PICKLES, identify
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.scan.zip_kinds import conclude, purpose
from holdfast.trust.source import Inflated, Source, coding_of
from holdfast.trust.tars import TarEntry, read_tar
from holdfast.trust.zips import Entry, ZipArchive, escapes, is_absolute, open_zip

__all__ = ["look_at_compressed", "look_at_tar", "look_at_zip"]

# Members up to this size are compared with their checksum.
_CHECKED: Final = 1 << 20
_LINK_LIMIT: Final = 4096
# Before joblib 0.10: the mark, then the length in hexadecimal digits in a field of 19.
_OLD_JOBLIB: Final = b"ZF0x"
_OLD_JOBLIB_HEADER: Final = 21


def look_at_zip(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a zip archive: its members by their content, and the whole by what it is for."""
    archive = open_zip(source)
    draft.faults(archive.faults)
    _outside(scanner, archive, draft, depth)
    for entry in archive.entries:
        _judge_entry(scanner, archive, entry, draft)
    draft.kind, chosen = purpose(archive)
    for entry in chosen:
        if not scanner.may_look(depth):
            draft.broken("it has more members, or archives inside, than are looked into")
            break
        draft.members.append(_member(scanner, archive, entry, draft, depth))
    conclude(scanner, archive, draft)


def _outside(scanner: Scanner, archive: ZipArchive, draft: Draft, depth: int) -> None:
    """Look at what stands before and between the members."""
    stretches = list(archive.gaps)
    if archive.prefix and identify(archive.source) == "zip":
        stretches.insert(0, (0, archive.prefix))
    for start, size in stretches[:20]:
        part = archive.source.window(start, size)
        draft.note(f"{size} bytes belong to no member", start)
        if identify(part) != "unknown" and scanner.may_look(depth):
            draft.members.append(scanner.look(part, f"(from byte {start})", depth + 1))


def _judge_entry(scanner: Scanner, archive: ZipArchive, entry: Entry, draft: Draft) -> None:
    if escapes(entry.name):
        draft.unsafe(f"unpacking it would write to {entry.name!r:.100}", entry.header)
    if entry.is_link:
        try:
            with archive.open(entry, scanner.allowance) as content:
                target = content.read(0, _LINK_LIMIT).decode("utf-8", "replace")
        except Corrupt:
            target = "/"
        _judge_link(draft, entry.name, target, "symbolic link", entry.header)


def _judge_link(draft: Draft, name: str, target: str, kind: str, place: int) -> None:
    """A link that leads out of the folder lets later members be written there."""
    base = "" if kind == "hard link" else posixpath.dirname(name)
    inside = posixpath.normpath(posixpath.join(base, target))
    said = f"{name!r:.100} is a {kind} to {target!r:.100}"
    if is_absolute(target) or escapes(inside):
        draft.unsafe(f"{said}, out of its folder", place)
    else:
        draft.note(said, place)


def _member(
    scanner: Scanner, archive: ZipArchive, entry: Entry, draft: Draft, depth: int
) -> Report:
    if not entry.is_readable:
        said = f"compressed by method {entry.method}, which is not read here"
        return _without_look(scanner, entry, Severity.UNREAD, said)
    try:
        with archive.open(entry, scanner.allowance) as content:
            report = scanner.look(content, entry.name, depth + 1)
            data = content.read(0, _CHECKED) if entry.size <= _CHECKED else None
            whole = content.fault is None
    except Corrupt as error:
        return _without_look(scanner, entry, Severity.BROKEN, error.message)
    if entry.is_encrypted:
        if report.kind != "unknown":
            draft.broken(f"{entry.name!r:.100} says that it is encrypted, and is not", entry.header)
        else:
            draft.unread(f"{entry.name!r:.100} is encrypted", entry.header)
    elif data is not None and whole and entry.listed and zlib.crc32(data) != entry.crc:
        said = "has another checksum than the directory says; some readers do not mind"
        draft.broken(f"{entry.name!r:.100} {said}", entry.header)
    return report


def _without_look(scanner: Scanner, entry: Entry, severity: Severity, what: str) -> Report:
    draft = Draft(entry.name, "unknown", entry.size, scanner.allowance)
    draft.find(Finding(severity=severity, what=what))
    return draft.report()


def look_at_tar(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a tar archive: its members by their content."""
    names: Counter[str] = Counter()
    try:
        for entry in read_tar(source):
            names[entry.name] += 1
            _judge_tar_entry(entry, draft)
            if entry.kind != "file" or not entry.size:
                continue
            if not scanner.may_look(depth):
                draft.broken("it has more members, or archives inside, than are looked into")
                break
            if entry.start + entry.size > source.size:
                draft.broken(f"{entry.name!r:.100} is cut short", entry.header)
            inside = source.window(entry.start, entry.size)
            draft.members.append(scanner.look(inside, entry.name, depth + 1))
    except Corrupt as error:
        draft.broken(error.message)
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        draft.note(f"{len(doubled)} names are there twice, {doubled[0]!r:.100} for one")


def _judge_tar_entry(entry: TarEntry, draft: Draft) -> None:
    if escapes(entry.name):
        draft.unsafe(f"unpacking it would write to {entry.name!r:.100}", entry.header)
    if entry.kind in ("hard link", "symbolic link"):
        _judge_link(draft, entry.name, entry.link, entry.kind, entry.header)
    elif entry.kind not in ("file", "folder"):
        draft.unsafe(f"{entry.name!r:.100} is a {entry.kind}", entry.header)


def look_at_compressed(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a compressed file by what is inside; a pickle stays a pickle when compressed."""
    head = source.read(0, 4096)
    old = head.startswith(_OLD_JOBLIB)
    coding = "zlib" if old else coding_of(head) or ""
    draft.facts["coding"] = coding
    if coding == "zstd":
        draft.unread("compressed with zstd")
        return
    if not scanner.may_look(depth):
        draft.broken("it has more archives inside archives than are looked into")
        return
    packed = source.window(_OLD_JOBLIB_HEADER) if old else source
    with Inflated(packed, coding, scanner.allowance) as content:
        inside = scanner.look(content, draft.path, depth + 1)
        end = content.end
    if end is not None and end < packed.size:
        draft.note("bytes follow the compressed data, which readers leave unread", end)
    if inside.kind in PICKLES:
        _fold(draft, inside, coding)
    else:
        draft.members.append(inside)


def _fold(draft: Draft, inside: Report, coding: str) -> None:
    """Say of the whole what was said of the pickle in it; positions are of the plain bytes."""
    draft.kind, draft.facts = inside.kind, {**inside.facts, "coding": coding}
    draft.framework, draft.written_by = inside.framework, inside.written_by
    draft.imports(inside.imports)
    draft.count_tensors(inside)
    draft.members.extend(inside.members)
    draft.note(f"compressed with {coding}: bytes are counted in what was decompressed")
    for finding in inside.findings:
        draft.find(finding)
    draft.takes = None if draft.has(*DEFECTS) else inside.takes
