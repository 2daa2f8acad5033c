"""Deletions in a bucket race with writers on other machines: nothing that is needed is lost."""

import itertools
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

import holdfast
from holdfast.api.housekeeping import prune
from holdfast.cli.main import cli
from holdfast.errors import Conflict, Corrupt, RemoteError
from holdfast.record import digest_hex, digest_of
from holdfast.remote.base import in_parallel
from holdfast.store.intents import LEASE

GRACE = 3600.0
GARBAGE, OTHER = b"garbage" * 10, b"more of it"


def put(store, data):
    return store.put(lambda: [data])


def key(digest):
    return f"blobs/sha256/{digest_hex(digest)}"


def dispose(store, digests, grace=GRACE, needed=()):
    return store.dispose(
        digests, unneeded=lambda some: [d for d in some if d not in needed], grace=grace
    )


@pytest.fixture(name="pruner")
def machine_that_prunes(server, blobs_at):
    return blobs_at(server, "pruner")


@pytest.fixture(name="writer")
def machine_that_saves(server, blobs_at):
    return blobs_at(server, "writer")


@pytest.fixture(name="old")
def old_garbage(server, pruner):
    """Two blobs that nobody needs and nobody has used for long, announced for deletion."""
    digests = [put(pruner, data) for data in (GARBAGE, OTHER)]
    server.clock += 2 * GRACE
    assert dispose(pruner, digests) == (0, 0, 2, server.clock + GRACE)
    return digests


def test_first_announced_and_after_the_grace_period_deleted(server, pruner, old):
    server.clock += GRACE - 60
    assert dispose(pruner, old).deleted == 0
    assert all(map(pruner.has, old))
    server.clock += 120
    assert dispose(pruner, old) == (2, len(GARBAGE) + len(OTHER), 0, None)
    assert not any(map(pruner.has, old))


def test_another_machine_may_carry_out_what_was_announced(server, writer, old):
    server.clock += GRACE + 1
    assert dispose(writer, []).deleted == 2


def test_young_blobs_are_not_announced(server, pruner):
    assert dispose(pruner, [put(pruner, GARBAGE)]) == (0, 0, 0, None)
    assert not [k for k in server.objects if k.startswith("prune/")]


def test_this_machines_clock_says_nothing(server, pruner, monkeypatch):
    """Only the server's clock counts, so a machine whose own is a year ahead deletes nothing."""
    digest = put(pruner, GARBAGE)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert dispose(pruner, [digest]).waiting == 0


def test_a_writer_objects_before_it_commits(server, pruner, writer, old):
    assert writer.freshen(old[0])
    writer.flush()
    server.clock += GRACE + 1
    assert dispose(pruner, []).deleted == 0
    assert all(map(pruner.has, old))


def test_garbage_goes_in_the_end_although_a_writer_objected_once(server, pruner, writer, old):
    writer.freshen(old[0])
    writer.flush()
    server.clock += GRACE + 1
    assert dispose(pruner, [old[1]]).waiting == 1
    server.clock += GRACE + 1
    assert dispose(pruner, []).deleted == 1


def test_a_writer_that_needs_something_else_does_not_object(server, pruner, writer, old):
    put(writer, b"its own")
    writer.flush()
    server.clock += GRACE + 1
    assert dispose(pruner, old).deleted == 2


def test_what_a_log_names_by_then_stays(server, pruner, old):
    server.clock += GRACE + 1
    assert dispose(pruner, [], needed=old[:1]).deleted == 1
    assert pruner.has(old[0])


def test_what_was_put_again_stays(server, pruner, writer, old):
    server.clock += 1
    server.put(key(old[0]), GARBAGE)
    server.clock += GRACE + 1
    assert dispose(pruner, []).deleted == 1
    assert pruner.has(old[0])


def test_a_damaged_version_stops_it(server, pruner, old):
    server.clock += GRACE + 1

    def refuses(_):
        raise Corrupt("a visible version is damaged")

    with pytest.raises(Corrupt):
        pruner.dispose([], unneeded=refuses, grace=GRACE)
    assert all(map(pruner.has, old))
    assert not [k for k in server.objects if k.startswith("prune/")]


def test_a_damaged_announcement_deletes_nothing_and_stops_no_writer(server, pruner, writer, old):
    name = next(k for k in server.objects if k.startswith("prune/"))
    server.flip(name)
    server.clock += GRACE + 1
    fresh = type(pruner).open(pruner._bucket, pruner._cache)
    with pytest.raises(Corrupt):
        dispose(fresh, [])
    assert all(map(pruner.has, old))
    put(writer, b"its own")
    writer.flush()


class Interrupted(BaseException):
    """The process dies here."""


def killed_at(server, verb, part, act):
    """Run an act whose process dies at the first request of this kind."""

    def die(asked, name):
        if asked == verb and part in name:
            raise Interrupted

    server.before = die
    try:
        act()
    except Interrupted:
        pass
    finally:
        server.before = lambda *_: None


@pytest.mark.parametrize(
    ("verb", "part"),
    [("create", "decided"), ("head", "prune/"), ("head", "blobs"), ("delete", "blobs"),
     ("put", ".done"), ("list", "prune")],
)  # fmt: skip
def test_a_prune_that_dies_harms_nobody(server, pruner, writer, old, verb, part):
    """A writer that comes after it waits no longer than it must, and keeps what it needs."""
    server.clock += GRACE + 1
    killed_at(server, verb, part, lambda: dispose(pruner, []))
    began = server.clock
    held = [put(writer, data) for data in (GARBAGE, OTHER)]
    writer.flush()
    assert writer.missing(held) == []
    assert all(map(writer.has, held))
    assert server.clock - began <= LEASE + 60
    server.clock += GRACE + 1
    assert dispose(pruner, [], needed=held).deleted == 0
    assert all(map(writer.has, held))


def test_a_writer_that_is_too_late_waits_and_puts_again(server, pruner, writer, old):
    """The deletion is decided when the writer, which saw the blob before, comes to commit."""
    assert writer.put(lambda: [GARBAGE], expect=old[0]) == old[0]
    writer._cache.add([GARBAGE]).reading.close()  # as a save leaves it that has read it back
    server.clock += GRACE + 1
    flushing = threading.Event()
    writes = []

    def between(verb, name):
        if verb == "delete" and "blobs" in name and not flushing.is_set():
            flushing.set()
            thread = threading.Thread(target=lambda: writes.append(writer.flush()))
            thread.start()
            writes.append(thread)

    # It waits for the other thread, and no time passes on the server: the lease does not end.
    writer._bucket.sleep = lambda _: time.sleep(0.001)
    server.before = between
    assert dispose(pruner, []).deleted == 2
    writes[0].join(timeout=60)
    assert not writes[0].is_alive()
    assert writer.has(old[0])
    assert writer.missing([old[0]]) == []


def test_a_writer_without_the_bytes_commits_nothing(server, pruner, writer, old):
    writer.freshen(old[0])
    server.clock += GRACE + 1
    assert dispose(pruner, []).deleted == 2
    with pytest.raises(Conflict, match="Nothing became visible"):
        writer.flush()


def test_of_two_prunes_one_decides(server, pruner, blobs_at, old):
    server.clock += GRACE + 1
    others = [blobs_at(server, f"pruner {n}") for n in range(4)]
    done = in_parallel(lambda store: dispose(store, []).deleted, others)
    assert sum(done) == 2
    assert not any(map(pruner.has, old))


def test_settled_announcements_are_swept_after_a_day(server, pruner, old):
    server.clock += GRACE + 1
    dispose(pruner, [])
    assert [k for k in server.objects if k.startswith("prune/")]
    server.clock += 90_000
    dispose(pruner, [])
    assert not [k for k in server.objects if k.startswith("prune/")]


def test_a_prune_that_slept_through_all_of_it_deletes_nothing(server, pruner, writer, old):
    """It was about to decide when a writer objected and another prune swept the announcement."""
    server.clock += GRACE + 1
    intents = pruner._intents.all()
    writer.freshen(old[0])
    writer.flush()
    server.clock += 90_000
    dispose(writer, [])
    assert not [k for k in server.objects if k.startswith("prune/")]
    assert not pruner._intents.decide(intents[0], delete=True)
    assert all(map(pruner.has, old))


def arrays(n):
    return {"w": np.full(300_000, n, dtype="f8"), "b": np.arange(n)}


def test_a_whole_store_is_pruned(server, store_at):
    store = store_at(server)
    for n in (1, 2):
        holdfast.save(arrays(n), "net", store=store)
    from holdfast.api.history import forget

    forget(["net@v1"], store=store)
    assert prune(store=store).young > 0
    server.clock += 2 * GRACE
    dry = prune(store=store, dry_run=True)
    found = prune(store=store)
    assert found.blobs == 0
    assert found.waiting > 3
    assert found.until is not None
    assert dry.kept == found.kept == 6
    server.clock += GRACE + 1
    done = prune(store=store)
    assert done.blobs == found.waiting
    assert done.freed > 2_400_000
    assert holdfast.verify("net@v2", store=store).blobs == 6
    assert prune(store=store) == done._replace(blobs=0, freed=0)


@pytest.mark.parametrize(
    "verb",
    ["put", "create", "list", *(pytest.param(v, marks=pytest.mark.slow) for v in ("head", "get"))],
)
def test_a_save_beside_a_prune_at_every_request(server, store_at, verb):
    """A prune runs whole between any two requests of a save of what it wants to delete."""
    first = store_at(server, "first")
    holdfast.save(arrays(1), "net", store=first)
    holdfast.save(arrays(2), "net", store=first)
    from holdfast.api.history import forget

    forget(["net@v1"], store=first)
    server.clock += 2 * GRACE
    prune(store=first)
    snapshot, clock = dict(server.objects), server.clock
    for at in itertools.count():
        server.objects, server.clock = dict(snapshot), clock
        pruner, saver = store_at(server, f"pruner{at}"), store_at(server, f"saver{at}")
        pruner.blobs._bucket.require_create_only()
        saver.blobs._bucket.require_create_only()
        seen = [0]

        def prunes(asked, _, seen=seen, at=at, pruner=pruner):
            if asked != verb:
                return
            seen[0] += 1
            if seen[0] == at + 1:
                server.before = lambda *_: None
                server.clock += GRACE + 1
                prune(store=pruner)

        server.before = prunes
        try:
            version = holdfast.save(arrays(1), "net", store=saver)
        finally:
            server.before = lambda *_: None
        reader = store_at(server, f"reader{at}")
        assert (holdfast.load(version.ref, store=reader)["w"] == 1).all()
        holdfast.verify(version.ref, store=reader)
        if seen[0] <= at:
            break
    assert at > 0


def test_a_server_that_fails_in_the_middle_loses_nothing(server, pruner, old):
    server.clock += GRACE + 1

    def fails(verb, name):
        if verb == "delete" and "blobs" in name:
            raise RemoteError("the line is dead")

    server.before = fails
    with pytest.raises(RemoteError):
        dispose(pruner, [])
    server.before = lambda *_: None
    assert digest_of(GARBAGE) == old[0]
    assert all(map(pruner.has, old))


def test_the_command_says_when_to_come_back(server, store_at):
    store = store_at(server)
    holdfast.save(arrays(1), "net", store=store)
    put(store.blobs, GARBAGE)
    server.clock += 2 * GRACE
    first = CliRunner().invoke(cli, ["prune", "--store", store.url])
    assert first.output.startswith("Freed 0 B in 0 blobs; 6 blobs are needed.\nAnnounced 1 blobs")
    assert "1970-01-12 16:46 UTC" in first.output  # the server's clock, in these tests
    server.clock += GRACE + 1
    second = CliRunner().invoke(cli, ["prune", "--store", store.url])
    assert second.output == "Freed 70 B in 1 blobs; 6 blobs are needed.\n"
