"""Coded blobs that come from elsewhere into a folder: whole, with their base, or plain."""

import threading

import numpy as np
import pytest

from holdfast.durable import write_new
from holdfast.errors import NoSpace
from holdfast.record import digest_of
from holdfast.store import arriving
from holdfast.store.coder import Coder
from holdfast.store.coding import Kind
from holdfast.store.local import LocalStore
from holdfast.testing.coding import CodingConformance, MadeCoded

BASE, CHILD = ((np.arange(20_000, dtype="f4") / 7 + n).tobytes() for n in (0, 1e-3))
KINDS = [Kind(len(BASE), 4, float=True)]


@pytest.fixture(name="store")
def empty_store(tmp_path):
    return LocalStore.create(tmp_path / "store")


class TestCoding(CodingConformance):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore.create(tmp_path / "store")

    @pytest.fixture
    def lose(self, store):
        return lambda digest: store.coded.place(digest).unlink()


def unfinished(store):
    return list((store.path / "tmp").iterdir())


def test_beside_a_compaction_it_arrives_plain(store):
    """The compaction, which has listed the bases, might make a difference of this one's."""
    base = store.put(lambda: [BASE])
    with Coder(store) as coder:
        assert store.put_coded(digest_of(CHILD), MadeCoded(CHILD, BASE))
        coder.code(base, KINDS)
    found = store.find(digest_of(CHILD))
    assert (found.stored, found.base) == (len(CHILD), None)
    assert store.read(digest_of(CHILD)) == CHILD
    assert not unfinished(store)


def test_a_compaction_that_comes_after_it_leaves_its_base(store):
    other = store.put(lambda: [bytes(len(BASE))])
    base = store.put(lambda: [BASE])
    store.put_coded(digest_of(CHILD), MadeCoded(CHILD, BASE))
    with Coder(store) as coder:
        assert coder.code(base, KINDS, [other]) > 0
    assert store.find(base).base is None
    assert store.read(digest_of(CHILD)) == CHILD


def test_a_deletion_waits_while_one_gets_its_name(store):
    with store.arriving() as alone:
        assert alone
        began, done = threading.Event(), threading.Event()

        def deletes():
            began.set()
            store.delete([], still_needed=lambda _: False)
            done.set()

        thread = threading.Thread(target=deletes)
        thread.start()
        began.wait(timeout=60)
        assert not done.is_set()
        with store.arriving() as beside:
            assert beside
    thread.join(timeout=60)
    assert done.is_set()


def test_no_room_leaves_nothing(store, monkeypatch):
    def full(path, chunks, **_):
        write_new(path, [next(iter(chunks))[:10]])
        raise NoSpace("the disk is full")

    monkeypatch.setattr(arriving, "write_new", full)
    with pytest.raises(NoSpace):
        store.put_coded(digest_of(BASE), MadeCoded(BASE))
    assert list(store.list()) == []
    assert not unfinished(store)
