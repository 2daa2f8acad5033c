"""What every blob store must do, as tests. See ``holdfast.testing`` for how to run them."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import pytest

from holdfast.errors import Corrupt, HoldfastError, NotFound
from holdfast.record import Digest, digest_of
from holdfast.store.base import BlobStore, Buffer

__all__ = ["StoreConformance"]

Damage: TypeAlias = Callable[[Digest], None]
Age: TypeAlias = Callable[[Digest, float], None]

_MIB: Final = 2**20
_LONG_AGO: Final = 7200.0
_SMALL: Final = b"holdfast"
_ABSENT: Final = digest_of(b"never stored")


def _put(store: BlobStore, data: bytes, *, expect: Digest | None = None) -> Digest:
    return store.put(lambda: [data], expect=expect)


def _unneeded(_: Digest) -> bool:
    return False


def _stored(store: BlobStore) -> dict[Digest, int]:
    listed = list(store.list())
    sizes = {info.digest: info.size for info in listed}
    assert len(sizes) == len(listed), "a blob was listed twice"
    return sizes


class StoreConformance:
    """Tests of a ``BlobStore``; subclass it and provide the fixture ``store``.

    ``store`` must return an empty store that nobody else writes to. Two more fixtures may be
    overridden; the tests that need them are skipped otherwise:

    - ``damage`` returns a function that changes one byte of a stored blob behind the store's back.
    - ``age`` returns a function ``(digest, seconds)`` that makes a blob look unused for so long.
    """

    @pytest.fixture
    def damage(self) -> Damage | None:
        """Return a function that flips a byte of a stored blob, or None."""
        return None

    @pytest.fixture
    def age(self) -> Age | None:
        """Return a function that makes a blob look unused for some seconds, or None."""
        return None

    def test_put_names_the_bytes_by_their_digest(self, store: BlobStore) -> None:
        """A blob's name is its SHA-256, and it can be read back whole."""
        digest = _put(store, _SMALL)
        assert digest == digest_of(_SMALL)
        assert store.has(digest)
        assert store.size(digest) == len(_SMALL)
        assert store.read(digest) == _SMALL

    def test_an_empty_store_lists_nothing(self, store: BlobStore) -> None:
        """A new store is empty."""
        assert _stored(store) == {}

    def test_chunks_of_every_kind_are_joined_in_order(self, store: BlobStore) -> None:
        """Chunks are bytes, bytearrays or memoryviews, and the empty one is allowed."""
        chunks: list[Buffer] = [b"a", bytearray(b"b"), b"", memoryview(b"xcx")[1:2]]
        assert store.read(store.put(lambda: chunks)) == b"abc"

    def test_views_of_wide_items_are_stored_as_bytes(self, store: BlobStore) -> None:
        """A memoryview of 8-byte items counts as its bytes."""
        wide = memoryview(bytes(range(16))).cast("Q")
        digest = store.put(lambda: [wide])
        assert store.size(digest) == 16
        assert store.read(digest) == bytes(range(16))

    def test_the_empty_blob(self, store: BlobStore) -> None:
        """No bytes are a blob too."""
        digest = store.put(list)
        assert digest == digest_of(b"")
        assert store.has(digest)
        assert store.size(digest) == 0
        assert store.read(digest) == b""
        assert store.read_range(digest, 0, 0) == b""
        reading = store.open_blob(digest)
        assert bytes(reading.view()) == b""
        reading.close()

    def test_a_large_blob(self, store: BlobStore) -> None:
        """8 MiB in uneven chunks come back whole, mapped and by range."""
        data = b"".join(bytes([i % 251]) * 65_537 for i in range(128))[: 8 * _MIB]
        cuts = [0, 1, 4096, 3 * _MIB + 7, len(data)]
        digest = store.put(lambda: [data[a:b] for a, b in itertools.pairwise(cuts)])
        assert store.size(digest) == len(data)
        assert store.read(digest) == data
        assert store.read_range(digest, 5 * _MIB - 3, _MIB) == data[5 * _MIB - 3 : 6 * _MIB - 3]
        reading = store.open_blob(digest)
        assert reading.size == len(data)
        assert bytes(reading.view()) == data
        reading.close()

    def test_putting_again_changes_nothing(self, store: BlobStore) -> None:
        """The same bytes are one blob, with and without ``expect``."""
        first = _put(store, _SMALL)
        assert _put(store, _SMALL) == first
        assert _put(store, _SMALL, expect=first) == first
        assert _stored(store) == {first: len(_SMALL)}

    def test_expect_that_is_right(self, store: BlobStore) -> None:
        """A digest computed beforehand is accepted when the bytes are those."""
        assert _put(store, _SMALL, expect=digest_of(_SMALL)) == digest_of(_SMALL)
        assert store.read(digest_of(_SMALL)) == _SMALL

    def test_expect_that_is_wrong_leaves_nothing(self, store: BlobStore) -> None:
        """Bytes that are not those expected become visible under no name."""
        with pytest.raises(Corrupt):
            _put(store, _SMALL, expect=_ABSENT)
        assert not store.has(_ABSENT)
        assert not store.has(digest_of(_SMALL))
        assert _stored(store) == {}

    def test_a_put_that_fails_leaves_nothing(self, store: BlobStore) -> None:
        """An error in the middle of the chunks reaches the caller, and nothing is visible."""

        def chunks() -> Iterable[Buffer]:
            yield _SMALL
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.put(chunks)
        assert _stored(store) == {}
        assert not store.has(digest_of(_SMALL))

    def test_a_missing_blob(self, store: BlobStore) -> None:
        """What is not there is said to be so, as ``NotFound`` with the digest in ``ref``."""
        asks: list[Callable[[], Any]] = [
            lambda: store.size(_ABSENT),
            lambda: store.read(_ABSENT),
            lambda: store.open_blob(_ABSENT),
            lambda: store.read_range(_ABSENT, 0, 1),
        ]
        for ask in asks:
            with pytest.raises(NotFound) as caught:
                ask()
            assert caught.value.ref == _ABSENT
        assert not store.has(_ABSENT)
        assert not store.freshen(_ABSENT)

    def test_a_digest_that_is_none_is_refused(self, store: BlobStore) -> None:
        """No path, other case or shorter text passes as a digest."""
        for text in ("../../etc/passwd", "sha256:" + "A" * 64, "sha256:12", _ABSENT + "/x", ""):
            with pytest.raises(Corrupt):
                store.has(Digest(text))
            with pytest.raises(Corrupt):
                store.read(Digest(text))

    def test_ranges(self, store: BlobStore) -> None:
        """Any range inside the blob is served, one outside is an error, never a short answer."""
        digest = _put(store, _SMALL)
        assert store.read_range(digest, 0, len(_SMALL)) == _SMALL
        assert store.read_range(digest, 3, 2) == _SMALL[3:5]
        assert store.read_range(digest, len(_SMALL), 0) == b""
        for offset, length in ((0, 9), (8, 1), (-1, 1), (2, -1)):
            with pytest.raises(HoldfastError):
                store.read_range(digest, offset, length)

    def test_a_view_outlives_its_reading_and_protects_the_blob(self, store: BlobStore) -> None:
        """Views stay valid after ``close``; what is written to one never reaches the store."""
        digest = _put(store, _SMALL)
        reading = store.open_blob(digest)
        view = reading.view()
        reading.close()
        assert bytes(view) == _SMALL
        if not view.readonly:
            view[0:1] = b"H"
        assert store.read(digest) == _SMALL
        view.release()

    def test_list_tells_every_blob_with_its_size(self, store: BlobStore) -> None:
        """All blobs are listed, once each."""
        blobs = [bytes([i]) * (i + 1) for i in range(20)]
        expected = {_put(store, data): len(data) for data in blobs}
        assert _stored(store) == expected

    def test_flush_may_be_called_at_any_time(self, store: BlobStore) -> None:
        """``flush`` with nothing to do, after a put and twice."""
        store.flush()
        digest = _put(store, _SMALL)
        store.flush()
        store.flush()
        assert store.read(digest) == _SMALL

    def test_concurrent_puts_of_one_blob(self, store: BlobStore) -> None:
        """Eight writers of the same bytes all succeed, and there is one blob."""
        data = bytes(range(256)) * 4096
        start = threading.Barrier(8)

        def write(_: int) -> Digest:
            start.wait()
            return _put(store, data)

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(write, range(8))) == {digest_of(data)}
        assert _stored(store) == {digest_of(data): len(data)}
        assert store.read(digest_of(data)) == data

    def test_concurrent_puts_of_many_blobs(self, store: BlobStore) -> None:
        """Writers of different bytes do not disturb each other."""
        blobs = [bytes([i]) * 10_000 for i in range(64)]
        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(lambda data: _put(store, data), blobs))
        assert digests == [digest_of(data) for data in blobs]
        assert [store.read(digest) for digest in digests] == blobs

    def test_delete_frees_the_bytes(self, store: BlobStore) -> None:
        """What is deleted is gone, what is not stays, and the bytes freed are told."""
        gone, kept = _put(store, b"gone"), _put(store, b"kept!")
        assert store.delete([gone], still_needed=_unneeded, grace=0.0) == 4
        assert not store.has(gone)
        with pytest.raises(NotFound):
            store.read(gone)
        assert _stored(store) == {kept: 5}

    def test_delete_of_what_is_not_there(self, store: BlobStore) -> None:
        """Somebody else may have deleted it first: that is no error."""
        digest = _put(store, _SMALL)
        assert store.delete([_ABSENT], still_needed=_unneeded, grace=0.0) == 0
        assert store.delete([digest, digest], still_needed=_unneeded, grace=0.0) == len(_SMALL)

    def test_a_deleted_blob_can_be_put_again(self, store: BlobStore) -> None:
        """A name is not used up by a delete."""
        digest = _put(store, _SMALL)
        store.delete([digest], still_needed=_unneeded, grace=0.0)
        assert _put(store, _SMALL, expect=digest) == digest
        assert store.read(digest) == _SMALL

    def test_grace_keeps_what_was_used_just_now(self, store: BlobStore) -> None:
        """A blob put a moment ago may belong to a version that is being saved."""
        digest = _put(store, _SMALL)
        assert store.delete([digest], still_needed=_unneeded) == 0
        assert store.read(digest) == _SMALL

    def test_delete_asks_again_whether_a_blob_is_needed(self, store: BlobStore) -> None:
        """``still_needed`` has the last word, blob by blob."""
        needed, gone = _put(store, b"needed"), _put(store, b"gone")
        asked: list[Digest] = []

        def still_needed(digest: Digest) -> bool:
            asked.append(digest)
            return digest == needed

        assert store.delete([needed, gone], still_needed=still_needed, grace=0.0) == 4
        assert sorted(asked) == sorted([needed, gone])
        assert store.read(needed) == b"needed"
        assert not store.has(gone)

    def test_an_interrupted_delete_loses_nothing(self, store: BlobStore) -> None:
        """When ``still_needed`` fails, every blob not yet deleted can still be read."""
        digests = [_put(store, data) for data in (b"1", b"2", b"3")]

        def fails(_: Digest) -> bool:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.delete(digests, still_needed=fails, grace=0.0)
        assert [store.read(digest) for digest in digests] == [b"1", b"2", b"3"]

    def test_a_blob_used_while_it_is_being_deleted_stays(self, store: BlobStore) -> None:
        """A writer that finds the blob in the middle of a delete keeps it, by put or freshen."""
        by_put, by_freshen = _put(store, b"put"), _put(store, b"freshen")

        def uses_it(digest: Digest) -> bool:
            if digest == by_put:
                _put(store, b"put", expect=digest)
            else:
                assert store.freshen(digest)
            return False

        store.delete([by_put, by_freshen], still_needed=uses_it, grace=0.0)
        assert store.read(by_put) == b"put"
        assert store.read(by_freshen) == b"freshen"

    def test_freshen_saves_an_old_blob_from_delete(self, store: BlobStore, age: Age | None) -> None:
        """Old blobs are deleted unless they were freshened, or put again with ``expect``."""
        if age is None:
            pytest.skip("no age fixture")
        old, freshened, again = (_put(store, data) for data in (b"old", b"freshened", b"again"))
        for digest in (old, freshened, again):
            age(digest, _LONG_AGO)
        assert store.freshen(freshened)
        assert _put(store, b"again", expect=again) == again
        freed = store.delete([old, freshened, again], still_needed=_unneeded, grace=_LONG_AGO / 2)
        assert freed == 3
        assert set(_stored(store)) == {freshened, again}

    def test_a_blob_taken_back_from_a_delete_is_fresh(
        self, store: BlobStore, age: Age | None
    ) -> None:
        """A writer that takes a blob back keeps it for as long as one who has just put it."""
        if age is None:
            pytest.skip("no age fixture")
        by_put, by_freshen = _put(store, b"put"), _put(store, b"freshen")

        def uses_it(digest: Digest) -> bool:
            if digest == by_put:
                _put(store, b"put", expect=digest)
            else:
                assert store.freshen(digest)
            return False

        for needed in (uses_it, _unneeded):
            age(by_put, _LONG_AGO)
            age(by_freshen, _LONG_AGO)
            both = [by_put, by_freshen]
            store.delete(both, still_needed=needed, grace=_LONG_AGO / 2)
            if needed is uses_it:
                assert store.delete(both, still_needed=_unneeded, grace=_LONG_AGO / 2) == 0
        assert _stored(store) == {}

    def test_list_tells_when_a_blob_was_used(self, store: BlobStore, age: Age | None) -> None:
        """``modified`` follows age and ``freshen``."""
        if age is None:
            pytest.skip("no age fixture")
        old, new = _put(store, b"old"), _put(store, b"new")
        age(old, _LONG_AGO)
        age(new, _LONG_AGO)
        store.freshen(new)
        modified = {info.digest: info.modified for info in store.list()}
        assert modified[new] - modified[old] == pytest.approx(_LONG_AGO, abs=60)

    def test_a_flipped_byte_is_found(self, store: BlobStore, damage: Damage | None) -> None:
        """``read`` compares the bytes with their name and names the blob."""
        if damage is None:
            pytest.skip("no damage fixture")
        digest = _put(store, _SMALL)
        damage(digest)
        with pytest.raises(Corrupt) as caught:
            store.read(digest)
        assert caught.value.ref == digest
        assert store.damaged(digest, " (a test)").ref == digest

    def test_drop_damaged_makes_room(self, store: BlobStore, damage: Damage | None) -> None:
        """A damaged blob is set aside, so that putting the right bytes repairs the store."""
        if damage is None:
            pytest.skip("no damage fixture")
        digest = _put(store, _SMALL)
        damage(digest)
        assert store.drop_damaged(digest)
        assert not store.has(digest)
        _put(store, _SMALL, expect=digest)
        assert store.read(digest) == _SMALL

    def test_drop_damaged_leaves_good_blobs(self, store: BlobStore) -> None:
        """A good blob stays; a missing one counts as one that must be put."""
        digest = _put(store, _SMALL)
        assert not store.drop_damaged(digest)
        assert store.read(digest) == _SMALL
        assert store.drop_damaged(_ABSENT)

    def test_it_says_where_it_is(self, store: BlobStore) -> None:
        """``url`` is a text for messages."""
        assert store.url
