"""The format's documents as frozen structs, their digests, and canonical JSON.

Four documents make a version (see ``docs/format/v1.md``): the *content* (what the model is; its
digest is the ``content_id``), the *record* (all that is said about it; its digest is the
``record_id``), the *manifest* (which blobs hold the tensors) and the *log entry* that makes the
version visible under a name. Each is canonical JSON in the sense of RFC 8785, so a document that
does not re-encode to its own bytes is refused: that alone rejects duplicate keys, NaN, numbers
out of range and hidden white space.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NewType, Self

import msgspec

from holdfast.errors import Corrupt

__all__ = [
    "FORMAT",
    "Content",
    "Digest",
    "Document",
    "FileEntry",
    "LogEntry",
    "Manifest",
    "Piece",
    "Record",
    "Structure",
    "TensorEntry",
    "canonical",
    "digest_hex",
    "digest_of",
    "parse_digest",
    "parse_json",
]

FORMAT: Final = "holdfast/1"

# "sha256:" and 64 lower-case hexadecimal digits.
Digest = NewType("Digest", str)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SAFE_INTEGER: Final = 2**53 - 1
_ATOMS: Final = frozenset({str, bool, type(None)})
_DIGITS: Final = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_LONG: Final = b"0" * 16
_ASTRAL: Final = re.compile(rb"[\xf0-\xf4]")


def digest_of(data: bytes | memoryview) -> Digest:
    """Return the SHA-256 digest of ``data`` as ``sha256:<hex>``."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: object) -> Digest:
    """Check that ``text`` is a digest in its one accepted spelling.

    Raises:
        Corrupt: It is not.
    """
    if isinstance(text, str) and _DIGEST.fullmatch(text):
        return Digest(text)
    raise Corrupt(f"not a digest: {text!r:.100}")


def digest_hex(digest: Digest) -> str:
    """Return the 64 hexadecimal digits of a digest."""
    return digest[7:]


def canonical(value: Any) -> bytes:
    """Encode JSON-like Python values as canonical JSON (RFC 8785).

    Args:
        value: None, bool, int, float, str, and lists and string-keyed mappings of them.

    Raises:
        ValueError: A float is not finite, an integer is outside ±(2^53 - 1), or a string holds a
            lone surrogate: none of them has one JSON spelling that all readers agree on. Or the
            value is something else, or nested too deeply.
    """
    try:
        return msgspec.json.encode(_plain(value))
    except RecursionError as error:
        raise ValueError("the value is nested too deeply for JSON") from error


def _plain(value: Any) -> Any:
    """Return ``value`` with keys sorted and floats spelled, ready for a plain encoder."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int or kind is float:
        return _scalar(value)
    if isinstance(value, list | tuple):
        if _ATOMS.issuperset(map(type, value)):
            return value
        return [item if type(item) in _ATOMS else _plain(item) for item in value]
    if isinstance(value, dict | Mapping):
        return {key: _plain(value[key]) for key in _ordered(value)}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """Spell a number, and a text of a subclass, plainly."""
    if isinstance(value, int):
        if not -_SAFE_INTEGER <= value <= _SAFE_INTEGER:
            raise ValueError(f"an integer of {value.bit_length()} bits has no exact JSON number")
        return int(value)
    if isinstance(value, float):
        return msgspec.Raw(_number(float(value)).encode())
    if isinstance(value, str):
        return str.__str__(value)
    raise ValueError(f"{type(value).__name__} is not JSON")


def _ordered(keys: Mapping[Any, Any]) -> list[str]:
    """Sort keys by their UTF-16 code units, as ECMAScript does; ASCII keys need no encoding."""
    try:
        plain = "".join(keys).isascii()
    except TypeError as error:
        raise ValueError("the keys of a JSON object must be strings") from error
    return sorted(keys) if plain else sorted(keys, key=_utf16_order)


def _utf16_order(key: str) -> bytes:
    return key.encode("utf-16-be")


def _number(value: float) -> str:
    """Write a float as ECMAScript's Number::toString does (ECMA-262, 6.1.6.1.20)."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return f"{sign}{digits}{'0' * (point - count)}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"{sign}{digits[0]}{'.' + digits[1:] if count > 1 else ''}{power}"


def parse_json(data: bytes | memoryview, what: str) -> Any:
    """Parse canonical JSON; anything that is not in canonical form is refused.

    Args:
        data: The document's bytes.
        what: What the document is, for the message.

    Raises:
        Corrupt: Not JSON, nested too deeply, or not canonical.
    """
    data = bytes(data)
    try:
        value, again = _parsed_whole(data) if _is_unusual(data) else _parsed_fast(data)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Corrupt(f"{what} is not canonical JSON: {error!s:.200}") from error
    if again != data:
        raise Corrupt(
            f"{what} is not canonical JSON: it has duplicate keys, another key order, "
            "white space or another spelling of a number."
        )
    return value


def _is_unusual(data: bytes) -> bool:
    """Tell whether a document may hold long integers or characters beyond U+FFFF."""
    return _LONG in data.translate(_DIGITS) or not (data.isascii() or not _ASTRAL.search(data))


def _parsed_fast(data: bytes) -> tuple[Any, bytes]:
    """Return the value and its canonical bytes without a step of Python per value.

    The plain encoder agrees with RFC 8785 but for the spelling of floats, which the hook keeps as
    texts, and for what ``_is_unusual`` tells.
    """
    floats: list[str] = []

    def spelled(text: str) -> msgspec.Raw:
        floats.append(text)
        return msgspec.Raw(_number(float(text)).encode())

    value = msgspec.json.Decoder(float_hook=spelled).decode(data)
    again = msgspec.json.encode(value, order="sorted")
    return (msgspec.json.decode(data) if floats else value), again


def _parsed_whole(data: bytes) -> tuple[Any, bytes]:
    value = json.loads(data, parse_int=_exact)
    return value, canonical(value)


def _exact(text: str) -> float:
    """Read an integer; beyond 2^53 it is a float that ECMAScript spells without an exponent."""
    return int(text) if len(text) < 16 or abs(int(text)) <= _SAFE_INTEGER else float(text)


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON document with one canonical form; unknown top-level fields survive a round trip.

    Attributes:
        extra: Fields of the document that this release does not know.
    """

    extra: dict[str, Any] = msgspec.field(default_factory=dict)

    title: ClassVar[str] = "document"

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Read a document from its canonical bytes.

        Raises:
            Corrupt: The bytes are not canonical, or a field has the wrong type.
        """
        fields = parse_json(data, cls.title)
        if not isinstance(fields, dict):
            raise Corrupt(f"{cls.title} is not a JSON object")
        format_ = fields.get("format")
        if format_ != FORMAT:
            raise Corrupt(f"{cls.title} has format {format_!r:.60}; this release reads {FORMAT!r}.")
        known = {name for name in cls.__struct_fields__ if name != "extra"}
        extra = {key: value for key, value in fields.items() if key not in known}
        try:
            return msgspec.convert(
                {**{key: fields[key] for key in fields.keys() & known}, "extra": extra}, cls
            )
        except (msgspec.ValidationError, RecursionError) as error:
            raise Corrupt(f"{cls.title}: {error!s:.300}") from error

    def encode(self) -> bytes:
        """Return the document's canonical bytes; fields at their default None are left out."""
        return canonical(self._members())

    def _members(self) -> dict[str, Any]:
        fields = msgspec.to_builtins(self)
        extra = fields.pop("extra")
        return {**extra, **{k: v for k, v in fields.items() if v is not None}}


class TensorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of the version's safetensors file.

    Attributes:
        name: Its name in the safetensors header.
        dtype: Its safetensors dtype, for example ``"F32"``.
        shape: Its dimensions.
        digest: SHA-256 of its little-endian, C-ordered bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file kept whole beside the tensors.

    Attributes:
        name: Relative path with forward slashes.
        size: Bytes.
        digest: SHA-256 of the bytes.
    """

    name: str
    size: int
    digest: str


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """An object graph as a flat table: integers in nodes refer to other nodes.

    Attributes:
        types: Interned type ids; object nodes refer to them by position.
        nodes: Each node is ``[kind, ...]``; the kinds are listed in ``docs/format/v1.md``.
        root: Index of the node that is the model.
    """

    types: tuple[str, ...] = ()
    nodes: tuple[tuple[Any, ...], ...]
    root: int = 0


class Content(Document, frozen=True, kw_only=True):
    """What the model is. Its digest is the version's ``content_id``.

    Attributes:
        framework: Id of the adapter that packed it, for example ``"sklearn"``.
        structure: The object graph without arrays.
        tensors: The tensors, sorted by name.
        files: Files kept whole, sorted by name.
        signature: Inputs, outputs and labels as far as they are known.
    """

    title: ClassVar[str] = "content"

    format: str = FORMAT
    framework: str
    structure: Structure
    tensors: tuple[TensorEntry, ...] = ()
    files: tuple[FileEntry, ...] = ()
    signature: dict[str, Any] = msgspec.field(default_factory=dict)


class Record(Document, frozen=True, kw_only=True):
    """All that is said about a version. Its digest is the ``record_id``.

    Attributes:
        content: The content's digest.
        created: When, RFC 3339 in UTC.
        author: Who, as the operating system or git names them.
        environment: Library versions, Python, platform.
        golden: The golden set: calls, tolerance, and the digest of its tensors; None without one.
        portable: The form that answers without the model's library, or why there is none.
        metrics: Numbers given by the caller.
        params: Parameters given by the caller.
        data: What the caller says of the training data.
        parents: ``record_id`` of the versions this one was made from.
        tags: Words given at save.
        note: Free text.
        license: SPDX expression or free text.
        source: git commit and whether the work tree was dirty.
    """

    title: ClassVar[str] = "record"

    format: str = FORMAT
    content: str
    created: str
    author: str
    environment: dict[str, Any] = msgspec.field(default_factory=dict)
    golden: dict[str, Any] | None = None
    portable: dict[str, Any] | None = None
    metrics: dict[str, Any] = msgspec.field(default_factory=dict)
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    data: Any = None
    parents: tuple[str, ...] = ()
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    note: str | None = None
    license: str | None = None
    source: dict[str, Any] | None = None


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that holds a run of bytes of ``model.safetensors``.

    Attributes:
        digest: The blob.
        size: Its bytes.
    """

    digest: str
    size: int


class Manifest(Document, frozen=True, kw_only=True):
    """Which blobs hold a version.

    Attributes:
        content: Digest of the content document.
        record: Digest of the record document.
        pieces: Blobs whose concatenation is ``model.safetensors``; the first is its header.
    """

    title: ClassVar[str] = "manifest"

    format: str = FORMAT
    content: str
    record: str
    pieces: tuple[Piece, ...] = ()


class LogEntry(Document, frozen=True, kw_only=True):
    """One act on a name. Entries are create-only and chained by digest.

    The newest entry has no successor that vouches for it, so each also carries ``digest``, the
    SHA-256 of its own canonical bytes without that member. It tells damage, not forgery.

    Attributes:
        name: The model's name.
        seq: Position in the name's log, from 1, dense.
        prev: Digest of the previous entry's bytes; None for the first.
        attempt: Random id of the append, so that a writer recognises its own entry after a race.
        at: When, RFC 3339 in UTC with microseconds.
        by: Who.
        kind: ``save``, ``alias``, ``tag``, ``pin`` or ``forget``.
        body: The act's own fields, by kind; see ``docs/format/v1.md``.
    """

    title: ClassVar[str] = "log entry"

    format: str = FORMAT
    name: str
    seq: int
    prev: str | None = None
    attempt: str
    at: str
    by: str
    kind: str
    body: dict[str, Any]

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Read an entry from its canonical bytes.

        Raises:
            Corrupt: As for every document, or the entry does not match its own digest.
        """
        entry = super().decode(data)
        entry.extra.pop("digest", None)
        if entry.encode() != bytes(data):
            raise Corrupt(f"{cls.title}: it does not match its own digest")
        return entry

    def encode(self) -> bytes:
        """Return the entry's canonical bytes with their own digest among them."""
        members = self._members()
        return canonical({**members, "digest": digest_of(canonical(members))})
