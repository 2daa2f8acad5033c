from __future__ import annotations

import enum
import json
import math
import struct

import msgspec
import numpy as np
import pytest
import rfc8785
from hypothesis import example, given, settings, strategies as st

from holdfast import record
from holdfast.errors import Corrupt
from holdfast.record import (
    FORMAT,
    Content,
    Document,
    LogEntry,
    Manifest,
    Record,
    Structure,
    TensorEntry,
    canonical,
    digest_hex,
    digest_of,
    parse_digest,
    parse_json,
)

SAFE = 2**53 - 1
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
# Keys on both sides of the surrogates, where UTF-16 order and code point order differ.
KEYS = TEXTS | st.text("a\x7f\u07ff\ud7ff\ue000\uffff\U00010000\U0010ffff", max_size=3)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.floats(
    -1e-300, 1e-300, allow_subnormal=True
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | FLOATS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner),
    max_leaves=25,
)


def as_numbers(value):
    """Whole floats are spelled as integers: compare by value, bools and texts by type too."""
    if isinstance(value, list):
        return [as_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: as_numbers(item) for key, item in value.items()}
    return float(value) if type(value) is int else value


@given(JSON)
@example({"\U00010000": 1, "\uffff": 2, "\ue000": {"b": 1, "a": 2}})
@example([5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e21, 1e20, 1e-6, 1e-7])
@example([1e16, -1e20, 123456789012345680000.0, 2.0**53, 2.0**63])
@example(['\x00\x1f\x7f\b\f\n\r\t"\\/\u2028\u2029', 0.0, -0.0])
def test_canonical_is_what_rfc8785_says_and_reads_back(value) -> None:
    data = canonical(value)
    assert data == rfc8785.dumps(value)
    assert as_numbers(parse_json(data, "document")) == as_numbers(value)


@given(st.integers(0, 2**64 - 1))
@example(0x8000000000000000)  # -0.0
@example(0x0010000000000000)
@example(0x44B52D02C7E14AF6)
@example(0x444B1AE4D6E2EF50)
def test_every_float_is_spelled_as_ecmascript_does(bits: int) -> None:
    (value,) = struct.unpack("<d", bits.to_bytes(8, "little"))
    if not math.isfinite(value):
        with pytest.raises(ValueError, match="not a JSON number"):
            canonical(value)
        return
    data = canonical([value])
    assert data == rfc8785.dumps([value])
    (again,) = parse_json(data, "document")
    assert again == value


@given(JSON, st.sampled_from([None, 1, "\t"]))
def test_the_fast_reader_agrees_with_the_whole_one(value, indent) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    whole, canonical_text = record._parsed_whole(text)
    if record._is_unusual(text):
        return
    fast, again = record._parsed_fast(text)
    assert (fast, again) == (whole, canonical_text)


@given(JSON, st.data())
def test_a_changed_byte_is_refused_or_is_canonical_again(value, data) -> None:
    text = bytearray(canonical(value))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255))
    try:
        changed = parse_json(bytes(text), "document")
    except Corrupt:
        return
    assert rfc8785.dumps(changed) == bytes(text)


class Colour(enum.IntEnum):
    RED = 3


class Word(enum.StrEnum):
    YES = "yes"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"loss": np.float64(0.5)}, b'{"loss":0.5}'),
        ([np.float64(1e-7), (1, 2)], b"[1e-7,[1,2]]"),
        ([Colour.RED, Word.YES, np.str_("t")], b'[3,"yes","t"]'),
        (msgspec.UNSET, None),
        ({1: 2}, None),
        ({"a": {("b",): 1}}, None),
        ({1, 2}, None),
        (b"bytes", None),
        (SAFE + 1, None),
        (-(10**400), None),
        ("\ud800", None),
        ({"\udfff": 1}, None),
        (float("nan"), None),
        ([-math.inf], None),
    ],
    ids=repr,
)
def test_subclasses_are_plain_and_all_else_is_a_value_error(value, expected) -> None:
    if expected is not None:
        assert canonical(value) == expected
        return
    with pytest.raises(ValueError, match=r"\w+ .*"):
        canonical(value)


def test_a_value_that_holds_itself_or_is_too_deep_is_a_value_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested too deeply"):
        canonical(endless)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"\\u0061":1}}',
        b'{"b":1,"a":2}',
        '{"\uffff":1,"\U00010000":2}'.encode(),  # code point order is not UTF-16 order
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[nan]",
        b"[1e999]",
        b"[-1e999]",
        b"[1.0]",
        b"[1.50]",
        b"[1e2]",
        b"[1E-7]",
        b"[1e21]",
        b"[-0]",
        b"[-0.0]",
        b"[01]",
        b"[+1]",
        b"[.5]",
        b"[1.]",
        b"[0x10]",
        b"[9007199254740993]",  # no float has this value
        b"[10000000000000000000000]",
        b"[" + b"9" * 400 + b"]",
        b"[" + b"9" * 10_000 + b"]",
        b"[0.1000000000000000055511151231257827]",
        b" [1]",
        b"[1]\n",
        b"[1, 2]",
        b'{"a" :1}',
        b'["\\u0041"]',
        b'["\\/"]',
        b'["\\u001F"]',
        b'["\\u0008"]',
        b'["\\ud800"]',
        b'["\\ud83d\\ude00"]',
        b'["\xed\xa0\x80"]',
        b'["\xff"]',
        b'["\x01"]',
        b"\xef\xbb\xbf[]",
        "[]".encode("utf-16"),
        "[12345678901234567]".encode("utf-32"),
        b"['a']",
        b"[1,]",
        b"[1][2]",
        b"[1]//",
        b"",
        b"nul",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"[1234567890123456," + b"[" * 50_000 + b"]" * 50_000 + b"]",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_another_spelling_is_refused(text: bytes) -> None:
    with pytest.raises(Corrupt, match=r"^the record is not canonical JSON"):
        parse_json(text, "the record")


@pytest.mark.parametrize(
    "text", [b"[12345678901234567000]", b'["1234567890123456","\xf0\x9f\xa6\x91"]']
)
def test_long_digits_and_astral_characters_take_the_same_rules(text: bytes) -> None:
    value = parse_json(text, "document")
    assert rfc8785.dumps(value) == text
    with pytest.raises(Corrupt):
        parse_json(text.replace(b"[", b"[ "), "document")


def test_a_float_beyond_exact_integers_survives_as_a_float() -> None:
    (value,) = parse_json(canonical([1e17]), "document")
    assert (type(value), value) == (float, 1e17)


def test_digests_have_one_spelling() -> None:
    digest = digest_of(memoryview(b"abc"))
    assert digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert parse_digest(digest) == digest
    assert digest_hex(digest) == digest[7:]
    for bad in (digest.upper(), digest[7:], digest + "0", f"{digest}\n", digest[:-1], None, 5, b""):
        with pytest.raises(Corrupt, match="not a digest"):
            parse_digest(bad)


DIGEST = digest_of(b"")
DOCUMENTS: list[Document] = [
    Content(
        framework="python",
        structure=Structure(types=("a.B",), nodes=(("object", 0, {"x": 1}), ("int", 5)), root=0),
        tensors=(TensorEntry(name="x", dtype="F32", shape=(2, 3), digest=DIGEST),),
    ),
    Record(
        content=DIGEST,
        created="2026-03-03T00:00:00Z",
        author="me",
        golden={"tolerance": None},
        metrics={"loss": 1e17, "accuracy": 0.5},
    ),
    Manifest(content=DIGEST, record=DIGEST),
    LogEntry(name="churn", seq=1, attempt="x", at="now", by="me", kind="save", body={"a": None}),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.title)
def test_documents_read_back_equal(document: Document) -> None:
    data = document.encode()
    again = type(document).decode(memoryview(data))
    assert again == document
    assert again.encode() == data
    assert data == rfc8785.dumps(json.loads(data, parse_int=float))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.title)
@given(extra=st.dictionaries(TEXTS.map(lambda key: f"x{key}"), JSON, max_size=4))
@settings(max_examples=25)
@example(extra={"extra": {"extra": 1}, "nothing": None, "z": []})
def test_unknown_top_level_fields_survive_a_round_trip(document: Document, extra) -> None:
    fields = {**parse_json(document.encode(), "document"), **extra}
    if "digest" in fields:
        bare = canonical({key: value for key, value in fields.items() if key != "digest"})
        fields["digest"] = digest_of(bare)
    data = canonical(fields)
    again = type(document).decode(data)
    assert again.extra.keys() == extra.keys()
    assert again.encode() == data


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.title)
@pytest.mark.parametrize(
    "format_", ["holdfast/2", "holdfast/0", "Holdfast/1", "holdfast/1 ", "", None, 1, [FORMAT]]
)
def test_another_format_is_refused_by_name(document: Document, format_) -> None:
    data = canonical({**parse_json(document.encode(), "document"), "format": format_})
    with pytest.raises(Corrupt, match=r"has format .*; this release reads 'holdfast/1'"):
        type(document).decode(data)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.title)
def test_a_field_of_another_type_or_a_missing_one_is_refused(document: Document) -> None:
    fields = parse_json(document.encode(), "document")
    required = [field.name for field in msgspec.structs.fields(type(document)) if field.required]
    assert required
    for name in required:
        less = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(Corrupt, match=f"^{document.title}: "):
            type(document).decode(canonical(less))
    for name in fields.keys() - {"format", "data"}:
        for wrong in (True, 0.5, [None]):
            with pytest.raises(Corrupt, match=f"^{document.title}: "):
                type(document).decode(canonical({**fields, name: wrong}))


@pytest.mark.parametrize("text", [b"[]", b"null", b'"holdfast/1"', b"1"])
def test_a_document_is_an_object(text: bytes) -> None:
    with pytest.raises(Corrupt, match="log entry is not a JSON object"):
        LogEntry.decode(text)
    with pytest.raises(Corrupt, match="log entry has format None"):
        LogEntry.decode(b"{}")
