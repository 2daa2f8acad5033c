"""What a server is found to keep of create-only puts, and what follows from it."""

import functools
import os
import time

import numpy as np
import pytest

import holdfast
from holdfast.catalogue.bucket import BucketLog
from holdfast.catalogue.catalogue import Catalogue
from holdfast.errors import RemoteError
from holdfast.record import LogEntry, digest_of
from holdfast.remote.base import in_parallel

FIRST = "log/model/00000001.json"


@pytest.mark.parametrize("kind", ["atomic", "one by one"])
def test_a_server_is_tried_out_once(kind, make_server, bucket_of, tmp_path):
    server = make_server(kind)
    memory = tmp_path / "known"
    assert bucket_of(server, memory).require_create_only() == kind
    assert server.counts()["create"] > 8
    assert server.objects == {}, "what it was tried out with is still there"
    assert bucket_of(server, memory).require_create_only() == kind
    assert server.counts() == {}


def test_reading_works_where_writing_is_refused(make_server, store_at, monkeypatch):
    server = make_server()
    holdfast.save({"a": np.arange(3)}, "model", store=store_at(server))
    server.creates = "ignored"
    before = dict(server.objects)
    monkeypatch.setenv("HOLDFAST_CACHE", os.environ["HOLDFAST_CACHE"] + "-of-another")
    store = holdfast.Store("s3://bucket/team")
    assert (holdfast.load("model", store=store)["a"] == np.arange(3)).all()
    for write in (
        lambda: holdfast.save({"a": np.arange(4)}, "model", store=store),
        lambda: holdfast.promote("model", to="prod", store=store),
        lambda: holdfast.Store.create("s3://bucket/team"),
    ):
        with pytest.raises(RemoteError, match="ignores create-only puts"):
            write()
    assert server.objects == before


def test_an_old_or_damaged_or_strange_memory_is_not_believed(make_server, bucket_of, tmp_path):
    server = make_server()
    memory = tmp_path / "known"
    bucket_of(server, memory).require_create_only()
    good = memory.read_text()
    for text, age in (
        ("", 0), ("nonsense\natomic", 0), (good.replace("atomic", "maybe"), 0),
        (good, 8 * 86_400), (good, -3600),
    ):  # fmt: skip
        memory.write_text(text)
        then = time.time() - age
        os.utime(memory, (then, then))
        server.counts()
        bucket_of(server, memory).require_create_only()
        assert server.counts()["create"] > 8


def test_nothing_is_left_when_it_cannot_be_remembered(make_server, bucket_of, tmp_path):
    server = make_server()
    (tmp_path / "file").write_text("in the way of a folder")
    assert bucket_of(server, tmp_path / "file" / "known").require_create_only() == "atomic"


def test_a_refusal_while_trying_out_is_told(make_server, bucket_of):
    server = make_server()

    def read_only(verb, key):
        if verb in ("put", "create"):
            raise RemoteError("you may only read")

    server.before = read_only
    with pytest.raises(RemoteError, match="only read"):
        bucket_of(server).require_create_only()


def test_one_of_many_is_told_that_it_created(make_server, bucket_of):
    """At a careless server too: the one whose bytes are there in the end."""
    for kind in ("atomic", "one by one"):
        server = make_server(kind)
        bucket = bucket_of(server)
        bucket.require_create_only()
        for turn in range(5):
            key = f"key{turn}"
            create = functools.partial(bucket.create, key)
            won = in_parallel(create, [b"%d" % n for n in range(8)])
            assert sum(one is not None for one in won) == 1
            winner = next(n for n, one in enumerate(won) if one is not None)
            assert server.objects[key][0] == b"%d" % winner


def test_nothing_is_built_on_an_entry_that_can_still_be_replaced(make_server, bucket_of):
    server = make_server("one by one")
    bucket = bucket_of(server)
    log = BucketLog(bucket)
    assert log.append("model", 1, b"first")
    server.put("log/model/00000001.json", b"another's, let in before")
    before = server.clock
    assert not log.append("model", 2, b"second, which continues ours", digest_of(b"first"))
    assert server.clock - before >= bucket.settles
    assert "log/model/00000002.json" not in server.objects


@pytest.mark.parametrize("kind", ["atomic", "one by one"])
def test_an_answer_that_never_comes_is_looked_up(kind, make_server, bucket_of):
    """The server has written the object when the line dies: that is no failure."""
    server = make_server(kind)
    bucket = bucket_of(server)
    bucket.require_create_only()
    real = server.create

    def dies_after(key, data):
        real(key, data)
        raise RemoteError("the line is dead")

    server.create = bucket._requests.create = dies_after
    assert bucket.create("ours", b"ours") is not None
    assert bucket.create("ours", b"ours") is not None
    with pytest.raises(RemoteError):
        bucket.create("ours", b"another's")
    assert server.objects["ours"][0] == b"ours"


class TestAnEntryReplacedByALateWriter:
    """Where a server lets several writers in, what was read may not be what stays."""

    @pytest.fixture
    def server(self, make_server):
        return make_server("one by one")

    @pytest.fixture
    def open_log(self, server, bucket_of):
        return lambda kind=BucketLog: kind(bucket_of(server))

    @pytest.fixture
    def entries(self, server, open_log):
        """Return two entries for one place: the first lies there, the other comes late."""
        both = []
        for by in ("ours", "theirs"):
            act(Catalogue(open_log(), None), by)
            both.append(server.objects.pop(FIRST)[0])
        server.put(FIRST, both[0])
        return both

    def test_a_reader_between_the_two_reads_again(self, server, open_log, entries):
        log = open_log()
        assert log.read("model", 1) == entries[0]
        server.put(FIRST, entries[1])
        act(Catalogue(open_log(), None), "third")
        found = list(log.read_from("model", 1))
        assert found == [entries[1], server.objects["log/model/00000002.json"][0]]

    def test_a_writer_continues_the_one_that_stays(self, server, open_log, entries):
        catalogue = Catalogue(open_log(), None)
        assert catalogue.resolve("model", 1).by == "ours"
        server.put(FIRST, entries[1])
        act(catalogue, "third")
        assert prev(server) == digest_of(entries[1])

    def test_one_replaced_while_the_index_is_written(self, server, open_log, entries):
        class Late(BucketLog):
            def stamp(self, name, seq):
                if server.objects[FIRST][0] == entries[0]:
                    server.put(FIRST, entries[1])
                    self._forget(name)
                return super().stamp(name, seq)

        catalogue = Catalogue(open_log(Late), None)
        assert catalogue.resolve("model", 1).by == "ours"
        act(catalogue, "third")
        assert prev(server) == digest_of(entries[1])
        assert catalogue.resolve("model", 1).by == "theirs"


def act(catalogue, by):
    digest = digest_of(b"")
    catalogue.add_version("model", record=digest, content=digest, manifest=digest, by=by)


def prev(server):
    return LogEntry.decode(server.objects["log/model/00000002.json"][0]).prev
