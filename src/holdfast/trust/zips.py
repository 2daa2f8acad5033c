"""Reading zip archives as a scan must: bounded, and telling where readers would disagree.

Python's ``zipfile`` refuses what other readers open (a checksum that differs, a local header that
disagrees) and believes what it should not (sizes, overlaps, names). Here every entry of the
directory is described, what no entry covers is told, and an archive that lost its directory is
walked from its first local header. Source of the format: PKWARE APPNOTE.TXT, sections 4.3 and 4.5.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.source import Allowance, Inflated, Source

__all__ = ["Entry", "ZipArchive", "escapes", "has_directory", "is_absolute", "open_zip"]

_LOCAL: Final = b"PK\x03\x04"
_CENTRAL: Final = b"PK\x01\x02"
_END: Final = b"PK\x05\x06"
_END_64: Final = b"PK\x06\x06"
_LOCATOR_64: Final = b"PK\x06\x07"
_DESCRIPTOR: Final = b"PK\x07\x08"

_TAIL: Final = 22 + 0xFFFF
_MOST_ENTRIES: Final = 200_000
_DIRECTORY_LIMIT: Final = 32 << 20
# How many local headers are compared with the directory, and how far a lost member is followed.
_MOST_HEADERS: Final = 5_000
_SEARCH: Final = 4 << 20
# Deflate cannot do better (zlib's technical notes: 1032 to 1).
_DEFLATE_RATIO: Final = 1_040
_CODINGS: Final = {8: "deflate", 12: "bzip2"}
_UNKNOWN_32: Final = 0xFFFFFFFF
# A descriptor after a member's data has at most so many bytes.
_DESCRIPTOR_SIZE: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A member as the directory describes it.

    Attributes:
        name: Its path in the archive.
        flags: General purpose bits.
        method: Compression method; 0 is stored, 8 deflate.
        crc: CRC-32 of the content.
        packed: Bytes in the archive.
        size: Bytes of the content.
        header: Byte of its local header.
        mode: Unix mode, 0 when the archive has none.
        listed: False when only its local header is there.
    """

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    mode: int = 0
    listed: bool = True

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, which has no content."""
        return self.name.endswith("/")

    @property
    def is_link(self) -> bool:
        """Whether unpacking it makes a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_readable(self) -> bool:
        """Whether it is compressed in a way that is read here: stored, deflate or bzip2."""
        return not self.method or self.method in _CODINGS

    @property
    def is_encrypted(self) -> bool:
        """Whether it says that it is encrypted."""
        return bool(self.flags & 1)


@dataclass(slots=True)
class ZipArchive:
    """An archive's members and what is wrong with it.

    Attributes:
        entries: Members in the directory's order, then those that the directory hides.
        faults: What is damaged or contradictory, with the byte.
        prefix: Bytes before the first member.
        gaps: (start, size) of stretches between members that belong to none.
    """

    source: Source
    entries: tuple[Entry, ...] = ()
    faults: tuple[tuple[str, int | None], ...] = ()
    prefix: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    def open(self, entry: Entry, allowance: Allowance) -> Source:
        """Return a member's content; encryption is not undone.

        Raises:
            Corrupt: There is no such member at that place, or it is compressed in another way than
                stored, deflate or bzip2.
        """
        start = _data_start(self.source, entry)
        if not entry.method:
            return self.source.window(start, entry.packed)
        coding = _CODINGS.get(entry.method)
        if coding is None:
            raise Corrupt(f"it is compressed by method {entry.method}, which is not read here")
        packed = self.source.window(start, entry.packed)
        return Inflated(packed, coding, allowance, entry.size)

    def content(self, entry: Entry, most: int, allowance: Allowance) -> bytes:
        """Return all of a member's content, judged by its size and checksum.

        Raises:
            Corrupt: It has more than ``most`` bytes, or is not what the directory says.
        """
        with self.open(entry, allowance) as source:
            data = source.read(0, most + 1)
            fault = source.fault
        if len(data) > most:
            raise Corrupt(f"{entry.name!r:.100} has more than {most} bytes")
        if fault or len(data) != entry.size or zlib.crc32(data) != entry.crc:
            raise Corrupt(f"{entry.name!r:.100} is not what the archive's directory says")
        return data


def is_absolute(name: str) -> bool:
    """Say whether a name starts at the root, or on a drive."""
    return name[:1] in ("/", "\\") or (len(name) > 1 and name[1] == ":")


def escapes(name: str) -> bool:
    """Say whether a member's name would lead out of the folder that it is unpacked in."""
    return is_absolute(name) or ".." in name.replace("\\", "/").split("/")


def has_directory(source: Source, *, to_the_end: bool = False) -> bool:
    """Say whether the bytes end as a zip archive does, whatever they begin with.

    Args:
        source: The bytes.
        to_the_end: Whether nothing may follow the archive; some readers do not mind.
    """
    start = max(0, source.size - _TAIL)
    tail = source.read(start, _TAIL)
    ends = list(_ends(tail, start))
    exact = [end for end in ends if _closes(tail, end - start)]
    return any(_leads_somewhere(source, end) for end in (exact if to_the_end else ends))


def _leads_somewhere(source: Source, end: int) -> bool:
    """Say whether an end record is more than four bytes that look like one."""
    try:
        return bool(_directory(source, end)[0])
    except Corrupt:
        return False


def open_zip(source: Source) -> ZipArchive:
    """Read an archive's directory, and its local headers beside it.

    What is wrong is told in ``faults``; nothing is raised for it.
    """
    tail_start = max(0, source.size - _TAIL)
    ends = list(_ends(source.read(tail_start, _TAIL), tail_start))
    faults: list[tuple[str, int | None]] = []
    entries: dict[int, Entry] = {}
    shift = 0
    for end in ends[:4]:
        try:
            found, shift = _directory(source, end)
        except Corrupt as error:
            faults.append((error.message, end))
            continue
        entries.update((entry.header, entry) for entry in found)
        if len(found) > len({entry.header for entry in found}):
            faults.append(("two entries of the directory share one member", end))
        doubled = [name for name, n in Counter(e.name for e in found).items() if n > 1]
        if doubled:
            said = f"{len(doubled)} names are there twice, {doubled[0]!r:.100} for one"
            faults.append((f"{said}: readers disagree on which counts", end))
    if len(ends) > 1:
        faults.append((f"it has {len(ends)} directories, and readers disagree on them", ends[0]))
    if not ends:
        faults.append(("it has no directory: cut short, or made so that scanners give up", None))
    archive = ZipArchive(source, tuple(entries.values()), tuple(faults), shift)
    return _with_strays(archive, faults, ends)


def _ends(tail: bytes, start: int) -> Iterator[int]:
    """Yield where an end of the central directory is; exact ones, else the last there is."""
    at, last, exact = len(tail), None, False
    while (at := tail.rfind(_END, 0, at)) >= 0:
        if at + 22 > len(tail):
            continue
        last = at if last is None else last
        if _closes(tail, at):
            exact = True
            yield start + at
    if not exact and last is not None:
        yield start + last


def _closes(tail: bytes, at: int) -> bool:
    """Say whether an end record and its comment reach to the end."""
    return at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)


def _directory(source: Source, end: int) -> tuple[list[Entry], int]:
    """Return the entries that one end record leads to, and by how much their places are shifted."""
    record = source.exactly(end, 22, "the end of the directory")
    count, size, offset = struct.unpack_from("<HII", record, 10)
    before = end
    locator = source.read(end - 20, 20)
    if locator.startswith(_LOCATOR_64):
        before, count, size, offset = _end_64(source, end, locator)
    if size > min(before, _DIRECTORY_LIMIT) or count > _MOST_ENTRIES:
        raise Corrupt(f"the directory claims {count} members in {size} bytes")
    shift = before - size - offset
    start = before - size
    if source.read(start, 4) != _CENTRAL and count:
        start, shift = offset, 0
    data = source.exactly(start, size, "the directory")
    entries = list(_entries(data, start, shift))
    if len(entries) != count:
        raise Corrupt(f"the directory claims {count} members and has {len(entries)}")
    return entries, max(0, shift)


def _end_64(source: Source, end: int, locator: bytes) -> tuple[int, int, int, int]:
    (position,) = struct.unpack_from("<Q", locator, 8)
    for place in (end - 76, position):  # beside its locator, or where that says
        record = source.read(place, 56)
        if record.startswith(_END_64) and len(record) == 56:
            _, count, size, offset = struct.unpack_from("<QQQQ", record, 24)
            return place, count, size, offset
    raise Corrupt("the end record of a large archive is not where its locator says")


def _entries(data: bytes, start: int, shift: int) -> Iterator[Entry]:
    at = 0
    while at < len(data):
        if data[at : at + 4] != _CENTRAL or at + 46 > len(data):
            raise Corrupt(f"the directory is damaged at byte {start + at}")
        flags, method = struct.unpack_from("<HH", data, at + 8)
        crc, packed, size, name_size, extra_size, comment = struct.unpack_from(
            "<IIIHHH", data, at + 16
        )
        mode, header = struct.unpack_from("<II", data, at + 38)
        name_end = at + 46 + name_size
        extra = data[name_end : name_end + extra_size]
        packed, size, header = _wide(extra, packed, size, header)
        yield Entry(
            name=_text(data[at + 46 : name_end]),
            flags=flags,
            method=method,
            crc=crc,
            packed=packed,
            size=size,
            header=header + shift,
            mode=mode >> 16,
        )
        at = name_end + extra_size + comment


def _wide(extra: bytes, packed: int, size: int, header: int) -> tuple[int, int, int]:
    """Take numbers beyond 32 bits from the extra field of large archives."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(extra[i : i + 8] for i in range(at + 4, at + 4 + length - 7, 8))
            size, packed, header = (
                int.from_bytes(next(numbers, b""), "little") if value == _UNKNOWN_32 else value
                for value in (size, packed, header)
            )
            break
        at += 4 + length
    return packed, size, header


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp437")


def _data_start(source: Source, entry: Entry) -> int:
    record = source.exactly(entry.header, 30, f"the header of {entry.name!r:.100}")
    if not record.startswith(_LOCAL):
        raise Corrupt(f"there is no member at byte {entry.header}")
    name, extra = struct.unpack_from("<HH", record, 26)
    return entry.header + 30 + int(name) + int(extra)


def _with_strays(
    archive: ZipArchive, faults: list[tuple[str, int | None]], ends: Sequence[int]
) -> ZipArchive:
    """Compare local headers with the directory and look at what lies between members."""
    source = archive.source
    end = min(ends, default=source.size)
    listed = sorted(archive.entries, key=lambda entry: entry.header)[:_MOST_HEADERS]
    faults.extend(_lies(listed))
    spans: list[tuple[int, int]] = []
    for entry in listed:
        try:
            start = _data_start(source, entry)
        except Corrupt as error:
            faults.append((error.message, entry.header))
            continue
        faults.extend(_disagreements(source, entry))
        if start + entry.packed > source.size:
            faults.append((f"{entry.name!r:.100} goes beyond the archive's end", entry.header))
        spans.append((entry.header, start + entry.packed))
    complete = len(listed) == len(archive.entries)
    gaps, overlaps = _gaps(spans, _directory_start(source, end) if complete and ends else end)
    if overlaps is not None:
        faults.append(("members overlap: the same bytes would be unpacked many times", overlaps))
    hidden: list[Entry] = []
    strays: list[tuple[int, int]] = []
    for start, size in gaps if complete else ():
        found = list(_walk(source.window(0, start + size), start))
        hidden.extend(found)
        if found and ends:
            said = f"{found[0].name!r:.100} is a member that the directory does not list"
            faults.append((said, start))
        elif not found and size > _DESCRIPTOR_SIZE:
            strays.append((start, size))
    prefix = min((e.header for e in (*listed, *hidden)), default=0)
    strays = [gap for gap in strays if gap[0] >= prefix]
    return ZipArchive(source, (*archive.entries, *hidden), tuple(faults), prefix, tuple(strays))


def _lies(entries: Sequence[Entry]) -> Iterator[tuple[str, int | None]]:
    for entry in entries:
        ratio = {0: 1, 8: _DEFLATE_RATIO}.get(entry.method)
        if ratio is not None and entry.size > max(64, entry.packed * ratio):
            said = (
                f"{entry.name!r:.100} claims {entry.size} bytes, which {entry.packed} cannot hold"
            )
            yield said, entry.header
        if "\0" in entry.name:
            yield f"the name {entry.name!r:.100} has a zero byte, where some end it", entry.header


def _disagreements(source: Source, entry: Entry) -> Iterator[tuple[str, int | None]]:
    """Say where a local header contradicts the directory; readers follow one or the other."""
    record = source.read(entry.header, 30)
    flags, method = struct.unpack_from("<HH", record, 6)
    size = int.from_bytes(record[26:28], "little")
    name = _text(source.read(entry.header + 30, size))
    if name != entry.name:
        yield f"{entry.name!r:.100} calls itself {name!r:.100} in its own header", entry.header
    if method != entry.method or (flags ^ entry.flags) & 1:
        yield f"{entry.name!r:.100} is packed otherwise than the directory says", entry.header


def _directory_start(source: Source, end: int) -> int:
    """Return where the directory before an end record starts."""
    size = int.from_bytes(source.read(end + 12, 4), "little")
    locator = source.read(end - 20, 20)
    if locator.startswith(_LOCATOR_64):
        try:
            place, _, size, _ = _end_64(source, end, locator)
        except Corrupt:
            return end
        end = place
    return max(0, end - size)


def _gaps(spans: Sequence[tuple[int, int]], end: int) -> tuple[list[tuple[int, int]], int | None]:
    """Return the stretches that no span covers up to ``end``, and where two overlap."""
    gaps: list[tuple[int, int]] = []
    overlap: int | None = None
    at = 0
    for start, stop in sorted(spans):
        if start < at:
            overlap = start if overlap is None else overlap
        elif start > at:
            gaps.append((at, start - at))
        at = max(at, stop)
    if end > at:
        gaps.append((at, end - at))
    return gaps, overlap


def _walk(source: Source, start: int) -> Iterator[Entry]:
    """Yield members by their local headers, as far as one follows another."""
    at, left = start, _SEARCH
    if source.read(at, 4) != _LOCAL:
        skipped = source.read(at, min(_DESCRIPTOR_SIZE + 4, source.size - at)).find(_LOCAL)
        if skipped < 0:
            return
        at += skipped
    while left > 0:
        record = source.read(at, 30)
        if len(record) < 30 or not record.startswith(_LOCAL):
            return
        flags, method = struct.unpack_from("<HH", record, 6)
        crc, packed, size, name_size, extra_size = struct.unpack_from("<IIIHH", record, 14)
        name = _text(source.read(at + 30, name_size))
        data = at + 30 + name_size + extra_size
        extra = source.read(at + 30 + name_size, extra_size)
        packed, size, _ = _wide(extra, packed, size, 0)
        entry = Entry(
            name=name, flags=flags, method=method, crc=crc, packed=packed, size=size, header=at,
            listed=False,
        )  # fmt: skip
        if flags & 8 and not packed:  # its size comes after its data
            stop = _next_signature(source, data, left)
            left -= stop - data
            entry = replace(entry, packed=stop - data, size=0 if method else stop - data)
        yield entry
        at = _after(source, data + entry.packed)


def _after(source: Source, at: int) -> int:
    """Skip a data descriptor."""
    following = source.read(at, _DESCRIPTOR_SIZE + 4)
    found = following.find(_LOCAL)
    return at + found if following.startswith(_DESCRIPTOR) and found > 0 else at


def _next_signature(source: Source, start: int, most: int) -> int:
    """Return where the next record starts, at most ``most`` bytes on."""
    size, at = 1 << 16, start
    while at < start + most:
        part = source.read(at, size + 3)
        places = (part.find(mark) for mark in (_DESCRIPTOR, _LOCAL, _CENTRAL, _END))
        found = min((place for place in places if place >= 0), default=-1)
        if found >= 0:
            return at + found
        if len(part) < size:
            return at + len(part)
        at += size
    return at
