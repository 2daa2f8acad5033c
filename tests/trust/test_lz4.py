"""LZ4 frames, undone as the real library undoes them; damage is told, large claims are bounded."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from holdfast.trust.lz4 import MAGIC, Lz4Decompressor
from holdfast.trust.source import Allowance, Data, Inflated

SAMPLES = Path(__file__).parent / "samples"
LINKED = (SAMPLES / "linked.lz4").read_bytes()
TWO = (SAMPLES / "two_frames.lz4").read_bytes()


def undone(data, allowed=1 << 24):
    allowance = Allowance()
    allowance.inflated = allowed
    with Inflated(Data(data), "lz4", allowance) as source:
        return source.read(0, 1 << 24), source.fault


def test_linked_blocks_with_checksums_are_undone():
    data, fault = undone(LINKED)
    assert fault is None
    found = pickle.loads(data)
    assert len(found["words"]) == 20_000
    assert found["x"].shape == (30, 3)


def test_frames_in_a_row_are_one_stream():
    assert undone(TWO) == (bytes(99_999) + b"end", None)


def test_bytes_that_come_one_by_one_give_the_same():
    whole, unpacker = undone(LINKED)[0], Lz4Decompressor()
    parts = [unpacker.decompress(LINKED[at : at + 1], 1 << 16) for at in range(len(LINKED))]
    while not unpacker.eof:
        parts.append(unpacker.decompress(b"", 1 << 16))
    assert b"".join(parts) == whole


@pytest.mark.parametrize("data", [LINKED, TWO])
def test_a_stream_that_is_cut_says_so(data):
    whole = undone(data)[0]
    for end in range(7, len(data) - 4, 5):
        found, fault = undone(data[:end])
        assert whole.startswith(found)
        assert fault is not None or len(found) == 99_999  # cut between two frames


def test_a_block_of_very_many_bytes_is_undone_up_to_the_limit():
    block = b"\x1fa\x01\x00" + b"\xff" * 16_000 + b"\x00"
    frame = MAGIC + b"\x60\x70\x00" + len(block).to_bytes(4, "little") + block
    data, fault = undone(frame + bytes(4))
    assert (fault, len(data)) == (None, 1 + 19 + 255 * 16_000)
    _, fault = undone(LINKED, allowed=1_000)
    assert "limit" in fault


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_block_ends(block, linked):
    head = MAGIC + (b"\x40" if linked else b"\x60") + b"\x40\x00"
    frame = head + len(block).to_bytes(4, "little") + block + bytes(4)
    data, fault = undone(frame * 2)
    assert len(data) <= 2 << 16 or fault is not None


@given(st.integers(0, len(LINKED) - 1), st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_any_flipped_bit_ends(place, bit):
    data = bytearray(LINKED)
    data[place] ^= 1 << bit
    undone(bytes(data))
