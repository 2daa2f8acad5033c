"""Coding loses nothing, and a coded blob that lies is refused."""

import itertools

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from holdfast.errors import Corrupt
from holdfast.record import Digest
from holdfast.store import choosing, coding, planes
from holdfast.store.coded import Index, Layout, Part, ending
from holdfast.store.coding import Kind

pytestmark = pytest.mark.usefixtures("passes")

BASE = Digest("sha256:" + "0" * 64)
FLOATS = {2: "<f2", 4: "<f4", 8: "<f8"}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.0, -1.0, 5e-324, 65504.0]


def decoded(file, base=None):
    layout = Layout(memoryview(file))
    out = bytearray(layout.index.size)
    coding.decode(layout, memoryview(file), base, memoryview(out))
    return bytes(out)


def coded(data, kinds, base=None):
    given_base = None if base is None else (BASE, memoryview(base))
    return b"".join(coding.encode(memoryview(data), kinds, base=given_base))


def bits(width):
    return arrays.arrays(f"<u{width}", st.integers(0, 300))


@pytest.mark.parametrize("kind", planes.KINDS)
@pytest.mark.parametrize("width", [1, 2, 4, 8])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_bit_pattern_comes_back_from_its_planes(width, kind, data):
    numbers = data.draw(bits(width))
    base = None
    if kind in ("difference", "sorted"):
        base = data.draw(arrays.arrays(f"<u{width}", numbers.shape)).view("u1")
    out = np.zeros(numbers.nbytes, "u1")
    planes.join(planes.split(numbers.view("u1"), width, kind, base), kind, out, base)
    assert (out == numbers.view("u1")).all()


@pytest.mark.parametrize("kind", ["difference", "sorted"])
@pytest.mark.parametrize("width", [2, 4, 8])
def test_special_numbers_come_back_from_their_differences(width, kind):
    with np.errstate(over="ignore"):
        special = np.array(SPECIAL, FLOATS[width])
    pairs = np.array(list(itertools.product(special, special)), FLOATS[width])
    numbers, base = (np.ascontiguousarray(pairs[:, i]).view("u1") for i in (0, 1))
    out = np.zeros_like(numbers)
    planes.join(planes.split(numbers, width, kind, base), kind, out, base)
    assert (out == numbers).all()


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.binary(max_size=400))),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_runs_of_any_kind_come_back(runs, based):
    runs = [
        (width, real and width > 1, data[: len(data) // width * width])
        for width, real, data in runs
    ]
    data = b"".join(run[2] for run in runs)
    base = bytes(reversed(data)) if based else None
    file = coded(data, [Kind(len(run), width, real) for width, real, run in runs], base)
    assert decoded(file, memoryview(base) if based else None) == data


@pytest.fixture(name="weights", scope="module")
def make_weights():
    rng = np.random.default_rng(0)
    return (rng.standard_normal(700_001) * 0.02).astype("<f4")


def test_weights_become_smaller_and_their_descendants_much_smaller(weights):
    rng = np.random.default_rng(1)
    tuned = weights + (rng.standard_normal(weights.size) * 1e-6).astype("<f4")
    kinds = [Kind(tuned.nbytes, 4, float=True)]
    alone = coded(tuned.data.cast("B"), kinds)
    differing = coded(tuned.data.cast("B"), kinds, weights.data.cast("B"))
    assert len(alone) < 0.86 * tuned.nbytes
    assert len(differing) < 0.6 * tuned.nbytes
    assert decoded(alone) == tuned.tobytes()
    assert decoded(differing, weights.data.cast("B")) == tuned.tobytes()


def test_a_base_that_does_not_help_is_not_named(weights):
    other = weights[::-1].copy()
    file = coded(
        weights.data.cast("B"), [Kind(weights.nbytes, 4, float=True)], other.data.cast("B")
    )
    assert Layout(memoryview(file)).index.base is None
    assert decoded(file) == weights.tobytes()


def test_differences_are_sorted_only_where_that_pays(weights):
    rng = np.random.default_rng(2)
    alike = (weights.view("<i4") + rng.integers(-50, 50, weights.size, "<i4")).tobytes()
    by_size = (weights + np.float32(1e-5)).tobytes()
    kinds = [Kind(len(alike), 4, float=True)]
    for data, kind in ((alike, "difference"), (by_size, "sorted")):
        file = coded(data, kinds, weights.data.cast("B"))
        assert Layout(memoryview(file)).index.parts[0].kind == kind
        assert decoded(file, weights.data.cast("B")) == data


@pytest.mark.parametrize("chunk", [1000, 1 << 20])
def test_chunks_of_any_size_are_read(weights, monkeypatch, chunk):
    monkeypatch.setattr(choosing, "_SORTED_BYTES", chunk * 4)
    monkeypatch.setattr(choosing, "_CHUNK", dict.fromkeys((1, 2, 4, 8), chunk))
    data = (weights + np.float32(1e-6))[:300_000].tobytes()
    kinds = [Kind(400_000, 4, float=True), Kind(800_000, 4, float=True)]
    for base in (None, weights.data.cast("B")[: len(data)]):
        assert decoded(coded(data, kinds, base), base) == data


def test_numbers_that_repeat_as_wholes_are_not_cut_into_planes():
    shares = np.random.default_rng(0).random(300)
    data = np.random.default_rng(1).choice(shares, 200_000).tobytes()
    file = coded(data, [Kind(len(data), 8, float=True)])
    assert len(file) < 0.25 * len(data)
    assert Layout(memoryview(file)).index.parts[0].width == 1
    assert decoded(file) == data


def test_equal_bytes_take_hardly_any_room():
    data = bytes(8_000_000) + b"\x07" * 8_000_000
    file = coded(data, [Kind(len(data), 8, float=True)])
    assert len(file) < 2000
    assert decoded(file) == data


@pytest.mark.parametrize("based", [False, True])
def test_a_range_is_what_it_is_in_the_whole(weights, based):
    data = weights.tobytes()
    base = (weights + np.float32(1e-6)).tobytes() if based else None
    kinds = [Kind(len(data), 4, float=True)]
    file = memoryview(coded(data, kinds, base))
    view = None if base is None else memoryview(base)
    layout = Layout(file)
    for start, length in [(0, 0), (0, 1), (5, 17), (524_287, 2), (2_000_001, 800_000)]:
        found = coding.decode_range(layout, file, view, start, length)
        assert found == data[start : start + length]


def test_frames_are_those_of_any_zstd(weights):
    data = weights.tobytes()
    file = coded(data, [Kind(len(data), 4, float=True)])
    chunk = Layout(memoryview(file)).chunks[0]
    exponents = chunk.lengths[3]
    start = chunk.offset + sum(n or chunk.part.chunk for n in chunk.lengths[:3])
    frame = file[start : start + exponents]
    assert len(zstandard.ZstdDecompressor().decompress(frame)) == chunk.part.chunk


class TestLies:
    @pytest.fixture(name="file")
    def make_file(self):
        data = np.arange(600, dtype="<f4").tobytes()
        return coded(
            data + b"text" * 50, [Kind(len(data), 4, float=True), Kind(200, 1, float=False)]
        )

    def test_a_byte_anywhere_is_refused_or_changes_what_it_decodes_to(self, file):
        plain = decoded(file)
        told = 0
        for place in range(len(file)):
            damaged = bytearray(file)
            damaged[place] ^= 0x11
            try:
                assert len(decoded(damaged)) == len(plain)
            except Corrupt:
                told += 1
        assert told > 100

    def test_no_end_is_enough(self, file):
        for end in range(len(file)):
            with pytest.raises(Corrupt):
                decoded(file[:end])

    @pytest.mark.parametrize(
        "changed",
        [
            {"size": -8},
            {"size": 2**52},
            {"width": 3},
            {"width": 0},
            {"kind": "difference"},
            {"kind": "sorted"},
            {"kind": "pickle"},
            {"chunk": 0},
            {"chunk": 2**40},
            {"planes": (0, 0, 0)},
            {"planes": (0, 0, 0, 2**50)},
            {"planes": (0, 0, 0, -257)},
            {"planes": (-1,) * 4_000},
        ],
        ids=str,
    )
    def test_an_index_that_contradicts_itself_is_refused(self, changed):
        said = {"size": 16, "width": 4, "kind": "float", "chunk": 4, "planes": (-1, -1, -1, -1)}
        part = Part(**(said | changed))
        with pytest.raises(Corrupt):
            Layout(memoryview(ending(Index(size=part.size, parts=(part,)))))

    def test_a_size_that_is_not_its_parts_is_refused(self):
        part = Part(size=16, width=4, kind="float", chunk=4, planes=(-1,) * 4)
        with pytest.raises(Corrupt, match="as long as the blob"):
            Layout(memoryview(ending(Index(size=20, parts=(part,)))))

    def test_a_frame_that_grows_beyond_its_chunk_is_refused_before_it_does(self):
        bomb = zstandard.ZstdCompressor().compress(bytes(2**28))
        part = Part(size=2**20, width=1, kind="bytes", chunk=2**20, planes=(len(bomb),))
        with pytest.raises(Corrupt, match="more or fewer bytes"):
            decoded(bomb + ending(Index(size=2**20, parts=(part,))))

    def test_what_follows_a_frame_inside_its_length_is_refused(self):
        frame = zstandard.ZstdCompressor().compress(bytes(100)) + b"more"
        part = Part(size=100, width=1, kind="bytes", chunk=100, planes=(len(frame),))
        with pytest.raises(Corrupt):
            decoded(frame + ending(Index(size=100, parts=(part,))))

    @pytest.mark.parametrize("kind", ["difference", "sorted"])
    def test_a_base_that_is_missing_or_shorter_is_refused(self, kind):
        base = np.zeros(8, "<f4")
        part = Part(size=32, width=4, kind=kind, chunk=8, planes=(-1,) * 4)
        file = ending(Index(size=32, base=BASE, parts=(part,)))
        assert decoded(file, base.data.cast("B")) == base.tobytes()
        for short in (None, base[:4].data.cast("B")):
            with pytest.raises(Corrupt, match="base is shorter"):
                decoded(file, short)
