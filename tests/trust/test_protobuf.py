"""The wire reader of protobuf: what it reads, and that nothing makes it run away."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest

from holdfast.errors import Corrupt
from holdfast.trust import protobuf
from holdfast.trust.protobuf import Limits


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def of_bytes(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def of_int(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value & (1 << 64) - 1)


def test_every_wire_type_is_read_with_its_position() -> None:
    data = (
        of_int(1, 300)
        + varint(2 << 3 | 1)
        + struct.pack("<d", -2.5)
        + of_bytes(3, "grün".encode())
        + varint(4 << 3 | 5)
        + struct.pack("<f", 0.5)
    )
    number, double, text, single = protobuf.fields(data)
    assert (number.number, number.unsigned(), number.position) == (1, 300, 1)
    assert (double.number, double.real()) == (2, -2.5)
    assert (text.text(), bytes(data[text.position : text.position + 5])) == (
        "grün",
        "grün".encode(),
    )
    assert (single.wire, single.real()) == (protobuf.FIXED32, 0.5)


def test_negative_integers_are_twos_complement() -> None:
    (field,) = protobuf.fields(of_int(1, -7))
    assert field.signed() == -7
    (fixed,) = protobuf.fields(varint(1 << 3 | 5) + struct.pack("<i", -9))
    assert fixed.signed() == -9


def test_repeated_integers_are_read_packed_or_not() -> None:
    packed = of_bytes(1, b"".join(varint(n & (1 << 64) - 1) for n in (1, -1, 300)))
    assert [n for f in protobuf.fields(packed) for n in f.integers()] == [1, -1, 300]
    loose = of_int(1, 1) + of_int(1, -1) + of_int(1, 300)
    assert [n for f in protobuf.fields(loose) for n in f.integers()] == [1, -1, 300]


def test_messages_inside_are_views_and_not_copies() -> None:
    data = of_bytes(1, of_bytes(2, b"x" * 50))
    (outer,) = protobuf.fields(data)
    (inner,) = outer.message()
    assert inner.view().obj is data


def test_a_singular_field_that_is_there_twice_is_refused_when_it_is_judged() -> None:
    table = protobuf.table(of_bytes(2, b"Add") + of_bytes(2, b"ReadFile") + of_int(3, 4))
    with pytest.raises(Corrupt, match="field 2 is there 2 times"):
        table.text(2)
    assert table.signed(3) == 4
    assert table.text(9) == ""
    assert table.numbers() == {2, 3}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x08", "cut short"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x00\x01", "no field can have this number"),
        (b"\x88\x80\x80\x80\x80\x00\x01", "no field can have this number"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0e", "wire type 6"),
        (b"\x0a\x7fabc", "goes beyond its message"),
        (b"\x0a" + varint((1 << 63) + 5), "goes beyond its message"),
        (b"\x09\x00\x00", "goes beyond its message"),
        (b"\x0d\x00\x00", "goes beyond its message"),
    ],
)
def test_damaged_bytes_are_refused_with_the_place(data: bytes, words: str) -> None:
    with pytest.raises(Corrupt, match=words) as caught:
        list(protobuf.fields(data))
    assert "(byte " in caught.value.message


def test_values_of_another_kind_are_refused() -> None:
    (number,) = protobuf.fields(of_int(1, 5))
    (text,) = protobuf.fields(of_bytes(1, b"\xff\xfe"))
    for wrong in (number.view, number.text, number.real, text.unsigned, text.signed, text.real):
        with pytest.raises(Corrupt):
            wrong()
    with pytest.raises(Corrupt):
        list(number.message())
    with pytest.raises(Corrupt, match="not UTF-8"):
        text.text()


def test_depth_count_and_texts_are_bounded() -> None:
    data = b""
    for _ in range(200):
        data = of_bytes(1, data)

    def deepest(found: object) -> None:
        for field in found:  # type: ignore[attr-defined]
            deepest(field.message())

    with pytest.raises(Corrupt, match="100 deep"):
        deepest(protobuf.fields(data))
    many = of_int(1, 1) * 50
    with pytest.raises(Corrupt, match="more than 49 fields"):
        list(protobuf.fields(many, Limits(fields=49)))
    inside = of_bytes(1, many) * 2
    with pytest.raises(Corrupt, match="more than 60 fields"):
        [list(field.message()) for field in protobuf.fields(inside, Limits(fields=60))]
    packed = of_bytes(1, b"\x01" * 100)
    with pytest.raises(Corrupt, match="more than 60 fields"):
        [list(field.integers()) for field in protobuf.fields(packed, Limits(fields=60))]
    with pytest.raises(Corrupt, match="one message has more than 20 fields"):
        protobuf.table(many, Limits(table=20))
    with pytest.raises(Corrupt, match="a text of 11 bytes"):
        next(protobuf.fields(of_bytes(1, b"x" * 11), Limits(text=10))).text()


def test_a_huge_length_costs_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(Corrupt):
        list(protobuf.fields(b"\x0a" + varint(1 << 40)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_random_bytes_end_in_fields_or_in_corrupt() -> None:
    draw = random.Random(0)
    outcomes: set[type] = set()
    for _ in range(3000):
        data = draw.randbytes(draw.randrange(40))
        try:
            for field in protobuf.fields(data):
                outcomes.add(type(field.value))
        except Corrupt:
            outcomes.add(Corrupt)
    assert outcomes == {int, memoryview, Corrupt}
