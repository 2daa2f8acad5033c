"""Many buffers hashed at once have the digests that hashlib gives, whatever their lengths."""

import hashlib
import types

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from holdfast.record import digest_of
from holdfast.store import hashing

LENGTHS = st.one_of(
    st.integers(0, 300),
    st.builds(
        lambda blocks, more: max(0, 64 * blocks + more), st.integers(0, 40), st.integers(-9, 9)
    ),
)
MESSAGES = st.lists(LENGTHS, max_size=40)


def made(lengths):
    whole = bytes(n * n % 251 for n in range(4096))
    return [whole[n % 97 :][:length] for n, length in enumerate(lengths)]


def one_by_one(messages):
    return b"".join(hashlib.sha256(message).digest() for message in messages)


@pytest.fixture(name="use")
def choose_native(native, monkeypatch):
    """Return what chooses how many lanes there are."""

    def use(width, *, sha=0, sha256=native.sha256):
        parts = types.SimpleNamespace(LANES=min(width, native.LANES), SHA=sha, sha256=sha256)
        monkeypatch.setattr(hashing, "_native", parts)
        hashing.lanes.cache_clear()

    yield use
    hashing.lanes.cache_clear()


@pytest.mark.parametrize("width", [8, 16])
def test_lanes_hash_as_hashlib_does(native, width):
    if width > native.LANES:
        with pytest.raises(ValueError, match="lanes"):
            native.sha256((b"",), width)
        return

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(MESSAGES)
    def check(lengths):
        messages = tuple(map(memoryview, made(lengths)))
        assert native.sha256(messages, width) == one_by_one(messages)

    check()
    long = tuple(bytes([n]) * (700_001 * n % 1_000_003) for n in range(20))
    assert native.sha256(long, width) == one_by_one(long)


def test_what_is_no_row_of_bytes_is_refused(native):
    width = native.LANES
    for wrong, kind in (
        ((memoryview(bytes(8))[::2],), BufferError),
        ((b"", "text"), TypeError),
        ([b""], TypeError),
    ):
        with pytest.raises((kind, ValueError)):
            native.sha256(wrong, width)
    for no_width in (0, -8, 7, 32, 2**20):
        with pytest.raises(ValueError, match="lanes"):
            native.sha256((b"",), no_width)


@pytest.mark.parametrize("width", [0, 8, 16])
def test_digests_come_in_the_order_of_their_buffers(use, width):
    use(width)
    for lengths in (
        [],
        [5],
        [64] * 2,
        [0, 1, 64, 2],
        [3000, 1, 2, 3, 4, 5],
        [*range(0, 4000, 99)],
        [4000, 9, 1, 2],
    ):
        messages = made(lengths)
        assert hashing.digests_of(messages) == [*map(digest_of, messages)]


def test_lanes_are_off_where_they_are_wrong_or_no_faster(use):
    use(16, sha256=lambda messages, _: bytes(32 * len(messages)))
    assert hashing.lanes() == 0
    use(16, sha=1)
    assert hashing.lanes() == 0
    assert hashing.digests_of([b"a", b"b", b"c"]) == [*map(digest_of, (b"a", b"b", b"c"))]


@pytest.mark.parametrize("width", [0, 8, 16])
@pytest.mark.parametrize("sizes", [[], [1], [9] * 25, [1 << 29] * 7, [1 << 40, 1, 1], [5] * 333])
def test_groups_are_all_buffers_in_order(monkeypatch, width, sizes):
    monkeypatch.setattr(hashing, "lanes", lambda: width)
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}.get)
    groups = [sizes[part] for part in hashing.groups_of(sizes)]
    assert [size for group in groups for size in group] == sizes
    for group in groups:
        assert 1 <= len(group) <= max(1, width)
        assert len(group) == 1 or sum(group) <= 1 << 30
