"""Blobs up and down over connections that are cut, and to registries that lie about them."""

import contextlib

import numpy as np
import pytest

from holdfast.errors import Corrupt, RemoteError
from holdfast.record import digest_of
from holdfast.remote.oci import uploads
from holdfast.remote.oci.registry import Part

DATA = np.random.default_rng(0).bytes(6 << 20)
DIGEST = digest_of(DATA)
WHOLE = Part(0, len(DATA), len(DATA))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(uploads, "_CHUNK", 2 << 20)


def cut_after(stub, sizes):
    """Cut the next requests that carry a body after so many bytes of it."""

    def before(handler):
        if handler.command not in ("PATCH", "PUT") or not sizes:
            return False
        size = min(sizes.pop(0), int(handler.headers["Content-Length"]))
        data = handler.rfile.read(size)
        stub.received += size
        identifier = handler.path.partition("uploads/")[2].partition("?")[0]
        if stub.keeps:
            stub.uploads[identifier] += data
        else:
            del stub.uploads[identifier]
        handler.cut()
        return True

    stub.before = before


def test_a_blob_goes_in_one_request(stub, repository):
    assert repository.send(DIGEST, lambda: [DATA[:7], memoryview(DATA)[7:]])
    assert stub.blobs["team/net"] == {DIGEST: DATA}
    assert [method for method, _ in stub.asked] == ["POST", "PUT"]


def test_a_registry_that_takes_no_large_requests_gets_chunks(stub, repository):
    def before(handler):
        if int(handler.headers.get("Content-Length", 0)) <= 2 << 20:
            return False
        handler.close_connection = True
        handler.error(413, "SIZE_INVALID", Connection="close")
        return True

    stub.before = before
    assert repository.send(DIGEST, lambda: [DATA])
    assert stub.blobs["team/net"] == {DIGEST: DATA}
    assert (stub.count("PATCH"), stub.count("PUT")) == (2, 2)
    stub.before = lambda h: h.command == "PUT" and (h.body(), h.error(413, "SIZE_INVALID"))
    with pytest.raises(RemoteError, match="413 SIZE_INVALID"):
        repository.send(digest_of(b"x"), lambda: [b"x"])


def test_three_cuts_cost_nothing_where_the_registry_keeps_what_arrived(stub, repository):
    cut_after(stub, [1 << 20, 300_000, 5])
    assert repository.send(DIGEST, lambda: [DATA])
    assert stub.blobs["team/net"] == {DIGEST: DATA}
    assert stub.received == len(DATA)


def test_three_cuts_where_the_registry_forgets_the_upload(stub, repository):
    stub.keeps = False
    cut_after(stub, [1 << 20, 300_000, 5])
    assert repository.send(DIGEST, lambda: [DATA])
    assert stub.blobs["team/net"] == {DIGEST: DATA}


def test_a_connection_that_is_always_cut_is_an_error(stub, repository):
    cut_after(stub, [10] * 100)
    with pytest.raises(RemoteError, match="cut"):
        repository.send(DIGEST, lambda: [DATA])
    assert len(stub.asked) < 60
    stub.before = lambda _: False
    assert repository.send(DIGEST, lambda: [DATA])


@pytest.mark.parametrize("status", [404, 416, 500, 502])
def test_an_upload_that_the_registry_has_lost_begins_anew(stub, repository, status):
    """The chunk may have been taken or not."""
    left = [1]
    cut_after(stub, [10])
    cutting = stub.before

    def before(handler):
        if handler.command != "PATCH" or not left:
            return cutting(handler)
        left.pop()
        data = handler.body()
        for held in stub.uploads.values():
            held.extend(data)
        if status in (404, 500):
            stub.uploads.clear()
        handler.error(status, "BLOB_UPLOAD_UNKNOWN")
        return True

    stub.before = before
    assert repository.send(DIGEST, lambda: [DATA])
    assert stub.blobs["team/net"] == {DIGEST: DATA}


def test_an_answer_that_is_lost_is_no_second_upload(stub, repository):
    lost = [1]

    def before(handler):
        if handler.command != "PUT" or not lost:
            return False
        lost.pop()
        stub.blobs["team/net"][DIGEST] = DATA
        handler.body()
        handler.cut()
        return True

    stub.before = before
    assert repository.send(DIGEST, lambda: [DATA])
    assert stub.received == len(DATA)


def test_a_blob_is_taken_from_another_repository(stub, repository):
    stub.blobs["team/base"] = {DIGEST: DATA}
    assert not repository.send(DIGEST, lambda: [DATA], mount="team/base")
    assert stub.received == 0
    assert repository.send(digest_of(b"x"), lambda: [b"x"], mount="team/base")


@pytest.mark.parametrize(
    "said", ["0-0", "0-1", "0-99999999", "5-9", "nonsense", "bytes=0-", "-1", ""]
)
def test_what_a_registry_says_of_an_upload_is_not_believed(stub, repository, said):
    """Neither when it has taken a chunk, nor when it is asked after a cut."""
    cut_after(stub, [10, 2 << 20])
    cutting = stub.before

    def before(handler):
        if cutting(handler):
            return True
        if handler.command == "GET":
            handler.say(204, Location=handler.path, Range=said)
            return True
        if handler.command == "PATCH":
            identifier = handler.path.partition("uploads/")[2].partition("?")[0]
            data = handler.body()
            stub.uploads[identifier] += data
            handler.say(202, Location=handler.path, Range=said)
            return True
        return False

    stub.before = before
    with contextlib.suppress(RemoteError):  # what it kept and denies makes other bytes
        repository.send(DIGEST, lambda: [DATA])
    assert stub.blobs["team/net"] in ({}, {DIGEST: DATA})
    assert len(stub.asked) < 40


def test_a_registry_that_stored_something_else(stub, repository):
    stub.before = lambda h: h.command == "PUT" and (
        h.body(), h.say(201, Docker_Content_Digest=digest_of(b"other"))
    )  # fmt: skip
    with pytest.raises(RemoteError, match="other bytes"):
        repository.send(DIGEST, lambda: [DATA])


def test_a_registry_that_does_not_say_where_to_send(stub, repository):
    stub.before = lambda h: h.command == "POST" and (h.say(202) or True)
    with pytest.raises(RemoteError, match="where an upload goes"):
        repository.send(DIGEST, lambda: [DATA])


def test_a_download_goes_on_where_it_was_cut(stub, repository):
    stub.blobs["team/net"] = {DIGEST: DATA}
    for ranges in (True, False):
        stub.ranges = ranges
        left = [1_000_000, 2_000_000, 3_000_000]

        def before(handler, left=left):
            if not left:
                return False
            start = int(handler.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
            start = start if stub.ranges else 0
            handler.say(206 if start else 200, DATA[start : start + left.pop()],
                        Content_Length=str(len(DATA) - start),
                        Content_Range=f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")  # fmt: skip
            handler.cut()
            return True

        stub.before = before
        assert b"".join(repository.stream(DIGEST, WHOLE)) == DATA
        assert not left


def test_a_part_of_a_blob(stub, repository):
    stub.blobs["team/net"] = {DIGEST: DATA}
    for stub.ranges in (True, False):
        part = Part(100_000, 2_000_000, len(DATA))
        assert b"".join(repository.stream(DIGEST, part)) == DATA[100_000:2_100_000]


@pytest.mark.parametrize("size", [0, 5, len(DATA) - 1, len(DATA) + 1])
def test_a_blob_of_another_length_is_refused(stub, repository, size):
    stub.blobs["team/net"] = {DIGEST: (DATA + b"x")[:size]}
    with pytest.raises(RemoteError, match="which has"):
        repository.read(DIGEST, WHOLE)


def test_other_bytes_are_refused(stub, repository):
    stub.blobs["team/net"] = {DIGEST: bytes(len(DATA))}
    with pytest.raises(Corrupt, match="other bytes"):
        repository.read(DIGEST, WHOLE)


def test_another_part_than_was_asked_for(stub, repository):
    stub.before = lambda h: h.say(206, b"xx", Content_Range="bytes 5-6/7") or True
    with pytest.raises(RemoteError, match="another part"):
        repository.read(DIGEST, Part(1, 2, 7))


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30])
def test_a_blob_without_a_length(stub, repository, length):
    stub.before = lambda h: h.say(200, Content_Length=length) or True
    with pytest.raises(RemoteError):
        repository.size(DIGEST)


def test_a_manifest_that_is_not_what_its_header_says(stub, repository):
    stub.before = lambda h: h.say(200, b"{}", Docker_Content_Digest=digest_of(b"x")) or True
    with pytest.raises(RemoteError, match="but its bytes are"):
        repository.manifest("v1")
    stub.before = lambda h: h.say(200, b"{}") or True
    with pytest.raises(Corrupt, match="other bytes"):
        repository.manifest(DIGEST)
