"""Copies of remote blobs on this machine: bounded, verified, shared by processes, disposable."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

import holdfast
from holdfast.errors import Corrupt, UsageError
from holdfast.record import digest_hex, digest_of
from holdfast.store.cache import BlobCache


def add(cache, data):
    held = cache.add([data])
    held.reading.close()
    return held.digest


def size_of(cache):
    return sum(file.stat().st_size for file in (cache.folder / "blobs").iterdir())


def test_what_was_added_is_there(tmp_path):
    cache = BlobCache(tmp_path / "cache", 1000)
    held = cache.add([b"one", memoryview(b"two")])
    assert held.digest == digest_of(b"onetwo")
    assert bytes(held.reading.view()) == b"onetwo"
    held.reading.close()
    reading = cache.open(held.digest)
    assert bytes(reading.view()) == b"onetwo"
    reading.close()
    assert cache.open(digest_of(b"another")) is None
    assert sorted(p.name for p in cache.folder.iterdir()) == ["blobs", "used"]


def test_the_least_recently_used_go_first(tmp_path):
    cache = BlobCache(tmp_path, 5000)
    digests = [add(cache, bytes([n]) * 1000) for n in range(5)]
    for age, digest in enumerate(reversed(digests), 1):
        then = time.time() - 10_000 * age
        os.utime(tmp_path / "used" / digest_hex(digest), (then, then))
    cache.open(digests[0]).close()  # the oldest is used again
    newest = add(cache, b"x" * 1000)
    cache.trim()
    assert size_of(cache) <= 5000
    assert cache.has(digests[0])
    assert cache.has(newest)
    assert not cache.has(digests[1])


def test_using_a_blob_does_not_undo_its_stamp(tmp_path):
    """Stamps of verified files go by their times, so use is noted beside them."""
    cache = BlobCache(tmp_path, 5000)
    digest = add(cache, b"data")
    place = tmp_path / "blobs" / digest_hex(digest)
    before = place.stat()
    os.utime(tmp_path / "used" / digest_hex(digest), (0, 0))
    cache.open(digest).close()
    after = place.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert (tmp_path / "used" / digest_hex(digest)).stat().st_mtime > 1e9


def test_the_limit_holds_however_much_comes_in(tmp_path):
    cache = BlobCache(tmp_path, 64_000)
    for n in range(200):
        add(cache, n.to_bytes(2, "big") * 1000)
        assert size_of(cache) <= 64_000 * 17 // 16


def test_a_blob_beyond_the_limit_is_readable_and_not_kept(tmp_path):
    cache = BlobCache(tmp_path, 10)
    held = cache.add([b"more than ten bytes"])
    assert bytes(held.reading.view()) == b"more than ten bytes"
    held.reading.close()
    assert not cache.has(held.digest)
    assert size_of(cache) == 0


def test_a_view_outlives_its_removal(tmp_path):
    cache = BlobCache(tmp_path, 1000)
    reading = cache.open(add(cache, b"data"))
    view = reading.view()
    reading.close()
    assert cache.drop(digest_of(b"data"))
    assert bytes(view) == b"data"


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    cache = BlobCache(tmp_path, 1000)

    def chunks():
        yield b"data"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.add(chunks())
    assert size_of(cache) == 0
    assert not list(tmp_path.glob("new-*"))


def test_what_crashed_processes_left_is_swept(tmp_path):
    cache = BlobCache(tmp_path, 1000)
    add(cache, b"data")
    for name, age in (("new-1-old", 100_000), ("new-2-young", 10)):
        (tmp_path / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    cache.trim()
    assert [p.name for p in tmp_path.glob("new-*")] == ["new-2-young"]


def test_several_processes_share_it(tmp_path):
    code = (
        "import sys, random\n"
        "from pathlib import Path\n"
        "from holdfast.record import digest_of\n"
        "from holdfast.store.cache import BlobCache\n"
        "cache, rng = BlobCache(Path(sys.argv[1]), 50_000), random.Random(int(sys.argv[2]))\n"
        "for _ in range(400):\n"
        "    data = bytes([rng.randrange(100)]) * 1000\n"
        "    reading = cache.open(digest_of(data)) or cache.add([data]).reading\n"
        "    assert bytes(reading.view()) == data\n"
        "    reading.close()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    running = [
        subprocess.Popen([*words, str(n)], stderr=subprocess.PIPE, text=True) for n in range(4)
    ]
    for process in running:
        assert process.wait() == 0, process.stderr.read()
        process.stderr.close()
    assert size_of(BlobCache(tmp_path, 50_000)) <= 50_000 + 4 * 50_000 // 16 + 1000


def cached_files(store):
    return [p for p in (store.blobs._cache.folder / "blobs").iterdir() if p.stat().st_size > 10**6]


def test_a_copy_that_went_bad_is_fetched_again(server, store_at):
    """Found by its hash at the load, dropped, and the model is loaded all the same."""
    store = store_at(server)
    holdfast.save({"w": np.ones(300_000)}, "net", store=store)
    (file,) = cached_files(store)
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    assert (holdfast.load("net", store=store, verify="always")["w"] == 1).all()
    (file,) = cached_files(store)
    assert digest_of(file.read_bytes())[7:] == file.name


def test_a_document_that_went_bad_is_fetched_again(server, store_at):
    store = store_at(server)
    version = holdfast.save({"w": np.ones(3)}, "net", store=store)
    file = store.blobs._cache.folder / "blobs" / digest_hex(version.record_id)
    file.chmod(0o600)
    file.write_bytes(b"{}")
    assert holdfast.get("net", store=store).record.content == version.content_id


def test_wrong_bytes_of_the_server_are_refused_and_not_kept(server, store_at):
    store = store_at(server, "saver")
    version = holdfast.save({"w": np.ones(300_000)}, "net", store=store)
    (piece,) = [p.digest for p in version.manifest.pieces if p.size > 10**6]
    server.flip(f"blobs/sha256/{piece[7:]}")
    other = store_at(server, "loader")
    for _ in range(2):
        with pytest.raises(Corrupt, match="not what was saved"):
            holdfast.load("net", store=other)
    assert not other.blobs.near(piece)


def test_a_save_repairs_what_the_server_has_damaged(server, store_at):
    store = store_at(server, "saver")
    version = holdfast.save({"w": np.ones(300_000)}, "net", store=store)
    (piece,) = [p.digest for p in version.manifest.pieces if p.size > 10**6]
    server.flip(f"blobs/sha256/{piece[7:]}")
    other = store_at(server, "another saver")
    again = holdfast.save({"w": np.ones(300_000)}, "net", store=other)
    assert again.healed > 0
    assert holdfast.verify("net@v1", store=other)


@pytest.mark.parametrize(
    ("text", "size"), [("10 GB", 10**10), ("500MB", 5 * 10**8), ("1.5 kB", 1500), ("0", 0)]
)
def test_the_limit_is_set_in_words(monkeypatch, text, size):
    from holdfast.api.settings import cache_limit

    monkeypatch.setenv("HOLDFAST_CACHE_SIZE", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "10 XB", "1e9", "10 GB of it"])
def test_other_words_are_refused(monkeypatch, text):
    from holdfast.api.settings import cache_limit

    monkeypatch.setenv("HOLDFAST_CACHE_SIZE", text)
    with pytest.raises(UsageError, match="not a size"):
        cache_limit()
