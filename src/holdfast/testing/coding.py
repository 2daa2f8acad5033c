"""What a store that keeps blobs coded must do, as tests. See ``holdfast.testing``."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest, digest_of
from holdfast.store.base import BlobStore, Coding
from holdfast.store.coding import Kind, encode

__all__ = ["CodingConformance", "MadeCoded"]

_NUMBERS = [(np.arange(20_000, dtype="f4") / 7 + step).tobytes() for step in (0, 1e-3, 2e-3)]
_BASE, _CHILD, _GRANDCHILD = (digest_of(data) for data in _NUMBERS)
_PLAIN = dict(zip((_BASE, _CHILD, _GRANDCHILD), _NUMBERS, strict=True))


class MadeCoded:
    """The coded form of floats, as if it had been opened in another store.

    Args:
        plain: Their bytes.
        base: Bytes of what they are differences to.
    """

    def __init__(self, plain: bytes, base: bytes | None = None) -> None:
        below = None if base is None else (digest_of(base), memoryview(base))
        kinds = [Kind(len(plain), 4, float=True)]
        self._plain = plain
        self.file = memoryview(b"".join(encode(memoryview(plain), kinds, base=below)))
        self.size, self.stored = len(plain), len(self.file)
        self.base: Digest | None = None if below is None else below[0]

    def pieces(self) -> Iterator[memoryview]:
        """Yield the plain bytes."""
        yield memoryview(self._plain)

    def close(self) -> None:
        """Do nothing: there is no file."""


def _coded(digest: Digest, base: Digest | None = None) -> MadeCoded:
    return MadeCoded(_PLAIN[digest], None if base is None else _PLAIN[base])


class CodingConformance:
    """Tests of a ``BlobStore`` that is ``Coding``; subclass it and provide the fixture ``store``.

    ``store`` must return an empty store that nobody else writes to, and ``lose`` a function that
    removes the coded form of a blob behind the store's back.
    """

    @pytest.fixture
    def coding(self, store: BlobStore) -> Coding:
        """Return the store as what it must be besides."""
        assert isinstance(store, Coding)
        return store

    def test_an_empty_store_codes_nothing(self, coding: Coding) -> None:
        """There is nothing to find."""
        assert not coding.codes()
        assert coding.bases() == set()
        assert coding.find(_BASE) is None
        assert coding.open_coded(_BASE) is None

    def test_a_coded_blob_is_its_plain_bytes(self, store: BlobStore, coding: Coding) -> None:
        """Whole, by range, by view and by size it reads like any other."""
        made = _coded(_BASE)
        assert coding.put_coded(_BASE, made)
        assert store.has(_BASE)
        assert store.size(_BASE) == len(_PLAIN[_BASE])
        assert store.read(_BASE) == _PLAIN[_BASE]
        assert store.read_range(_BASE, 70_001, 99) == _PLAIN[_BASE][70_001:70_100]
        with pytest.raises(Corrupt):
            store.read_range(_BASE, len(_PLAIN[_BASE]) - 1, 2)
        reading = store.open_blob(_BASE)
        assert bytes(reading.view()) == _PLAIN[_BASE]
        reading.close()

    def test_a_coded_blob_is_told_as_one(self, store: BlobStore, coding: Coding) -> None:
        """Its two sizes and its base are found and listed, and its file is what was put."""
        store.put(lambda: [_PLAIN[_BASE]])
        made = _coded(_CHILD, _BASE)
        assert coding.put_coded(_CHILD, made)
        assert coding.codes()
        assert coding.bases() == {_BASE}
        listed = {info.digest: info for info in store.list()}
        assert {*listed} == {_BASE, _CHILD}
        found = coding.find(_CHILD)
        assert found is not None
        for info in (found, listed[_CHILD]):
            assert (info.size, info.stored, info.base) == (made.size, made.stored, _BASE)
        assert store.read(_CHILD) == _PLAIN[_CHILD]
        opened = coding.open_coded(_CHILD)
        assert opened is not None
        assert bytes(opened.file) == bytes(made.file)
        assert b"".join(opened.pieces()) == _PLAIN[_CHILD]
        opened.close()

    def test_a_base_may_be_coded_alone(self, store: BlobStore, coding: Coding) -> None:
        """A base is there if it takes no other blob to decode it."""
        assert coding.put_coded(_BASE, _coded(_BASE))
        assert coding.put_coded(_CHILD, _coded(_CHILD, _BASE))
        assert store.read(_CHILD) == _PLAIN[_CHILD]

    def test_without_a_base_that_serves_it_is_not_taken(
        self, store: BlobStore, coding: Coding
    ) -> None:
        """The base is missing, or takes another blob itself: nothing becomes visible."""
        assert not coding.put_coded(_CHILD, _coded(_CHILD, _BASE))
        store.put(lambda: [_PLAIN[_BASE]])
        assert coding.put_coded(_CHILD, _coded(_CHILD, _BASE))
        assert not coding.put_coded(_GRANDCHILD, _coded(_GRANDCHILD, _CHILD))
        assert not store.has(_GRANDCHILD)
        with pytest.raises(NotFound):
            store.read(_GRANDCHILD)

    def test_what_decodes_to_something_else_is_refused(
        self, store: BlobStore, coding: Coding
    ) -> None:
        """Another blob's coded form leaves nothing."""
        with pytest.raises(Corrupt):
            coding.put_coded(_CHILD, _coded(_BASE))
        assert not store.has(_CHILD)
        assert list(store.list()) == []

    def test_a_base_is_kept_as_long_as_what_needs_it(
        self, store: BlobStore, coding: Coding
    ) -> None:
        """A deletion that is told of no need for it leaves it, and takes both together."""
        store.put(lambda: [_PLAIN[_BASE]])
        assert coding.put_coded(_CHILD, _coded(_CHILD, _BASE))
        assert store.delete([_BASE], still_needed=lambda _: False, grace=0) == 0
        assert store.read(_CHILD) == _PLAIN[_CHILD]
        for _ in range(2):
            store.delete([_BASE, _CHILD], still_needed=lambda _: False, grace=0)
        assert list(store.list()) == []
        assert coding.bases() == set()

    def test_a_base_that_vanished_is_told(
        self, store: BlobStore, coding: Coding, lose: Callable[[Digest], None]
    ) -> None:
        """What cannot be decoded any more is not found, and reading says why."""
        assert coding.put_coded(_BASE, _coded(_BASE))
        assert coding.put_coded(_CHILD, _coded(_CHILD, _BASE))
        lose(_BASE)
        assert coding.find(_CHILD) is None
        with pytest.raises(Corrupt) as caught:
            store.read(_CHILD)
        assert caught.value.ref == _CHILD
        assert store.drop_damaged(_CHILD)
        store.put(lambda: [_PLAIN[_CHILD]], expect=_CHILD)
        assert store.read(_CHILD) == _PLAIN[_CHILD]
