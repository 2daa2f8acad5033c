"""Reading tar archives as a scan must: header by header, bounded, nothing unpacked.

Source of the format: POSIX.1-2001 pax (``ustar`` and extended headers) and the GNU tar manual,
"Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust.source import Source

__all__ = ["TarEntry", "is_tar", "read_tar"]

_BLOCK: Final = 512
_MOST_ENTRIES: Final = 200_000
# Extended headers, which hold long names, may have so many bytes.
_EXTENDED_LIMIT: Final = 1 << 20
_KINDS: Final = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "hard link",
    b"2": "symbolic link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """A member.

    Attributes:
        name: Its path.
        kind: ``file``, ``folder``, ``hard link``, ``symbolic link``, ``device``, ``pipe`` or
            ``unknown``.
        link: What a link leads to.
        header: Byte of its header.
        start: Byte of its content.
        size: Bytes of its content.
    """

    name: str
    kind: str
    link: str
    header: int
    start: int
    size: int


def is_tar(head: bytes) -> bool:
    """Say whether a first block of 512 bytes is a member's header: its checksum tells."""
    return len(head) >= _BLOCK and any(head[:_BLOCK]) and _checks(head[:_BLOCK])


def _checks(block: bytes) -> bool:
    try:
        claimed = _number(block[148:156])
    except Corrupt:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    total = sum(rest)  # some old programs took bytes for signed
    return claimed == total or claimed == total - 256 * sum(byte > 127 for byte in rest)


def _number(field: bytes) -> int:
    """Read octal digits, or GNU's binary form of large numbers."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return -1 if field[0] == 0xFF else number
    text = field.split(b"\0")[0].strip(b" ")
    if not text:
        return 0
    if not all(48 <= byte < 56 for byte in text):
        raise Corrupt("a header has a number that is none")
    return int(text, 8)


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")


def read_tar(source: Source) -> Iterator[TarEntry]:
    """Yield the members in order.

    Raises:
        Corrupt: A header is damaged or contradicts the archive's size; the members before it were
            yielded. An archive without its end of zero blocks is not refused.
    """
    at = 0
    shared: dict[str, str] = {}
    pending: dict[str, str] = {}
    for _ in range(_MOST_ENTRIES):
        block = source.read(at, _BLOCK)
        if not any(block):
            return
        if len(block) < _BLOCK or not _checks(block):
            raise Corrupt(f"the header at byte {at} is damaged")
        size = _number(block[124:136])
        if "size" in pending and pending["size"].isascii() and pending["size"].isdigit():
            size = int(pending["size"][:20])
        if size < 0:
            raise Corrupt(f"the member at byte {at} claims a negative size")
        kind, start = block[156:157], at + _BLOCK
        if kind == b"g":
            shared |= _extended(source, start, size, kind)
        elif kind in (b"L", b"K", b"x", b"X"):
            pending |= _extended(source, start, size, kind)
        else:
            yield _entry(block, at, size, shared | pending)
            pending = {}
        holds = size if _KINDS.get(kind, "file") == "file" else 0
        at = start + -(-holds // _BLOCK) * _BLOCK
    raise Corrupt(f"it has more than {_MOST_ENTRIES} members")


def _entry(block: bytes, at: int, size: int, pending: dict[str, str]) -> TarEntry:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:262] == b"ustar" and block[263:264] != b" " else ""
    name = f"{prefix}/{name}" if prefix else name
    kind = _KINDS.get(block[156:157], "unknown")
    name = pending.get("path", name)
    if kind == "file" and name.endswith("/"):
        kind = "folder"
    return TarEntry(
        name=name,
        kind=kind,
        link=pending.get("linkpath", _text(block[157:257])),
        header=at,
        start=at + _BLOCK,
        size=size if kind in ("file", "unknown") else 0,
    )


def _extended(source: Source, start: int, size: int, kind: bytes) -> dict[str, str]:
    """Read a header that says more of the next member, or of all that follow."""
    if size > _EXTENDED_LIMIT:
        raise Corrupt(f"the extended header at byte {start} has {size} bytes")
    data = source.exactly(start, size, "an extended header")
    if kind == b"L":
        return {"path": _text(data)}
    if kind == b"K":
        return {"linkpath": _text(data)}
    return dict(_records(data))


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(data):
        digits, _, _ = data[at : at + 20].partition(b" ")
        if not digits.isdigit() or not 4 < int(digits) <= len(data) - at:
            return
        length = int(digits)
        key, equals, value = data[at + len(digits) + 1 : at + length - 1].partition(b"=")
        if equals and key in (b"path", b"linkpath", b"size"):
            yield key.decode(), value.decode("utf-8", "replace")
        at += length
