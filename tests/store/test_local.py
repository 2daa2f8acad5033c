import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.errors import Conflict, Corrupt, HoldfastError, NoSpace, NoStore
from holdfast.record import Digest, digest_hex, digest_of
from holdfast.store import reading as readings
from holdfast.store.local import LocalStore
from holdfast.testing.stores import StoreConformance


def place(store: LocalStore, digest: Digest) -> Path:
    return store.path / "blobs" / "sha256" / digest_hex(digest)


@pytest.fixture(name="store")
def empty_store(tmp_path: Path) -> LocalStore:
    return LocalStore.create(tmp_path / "store")


class TestConformance(StoreConformance):
    @pytest.fixture
    def damage(self, store: LocalStore) -> Callable[[Digest], None]:
        def flip(digest: Digest) -> None:
            path = place(store, digest)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.chmod(0o644)
            path.write_bytes(data)

        return flip

    @pytest.fixture
    def age(self, store: LocalStore) -> Callable[[Digest, float], None]:
        def make_old(digest: Digest, seconds: float) -> None:
            then = time.time() - seconds
            os.utime(place(store, digest), (then, then))

        return make_old


def put(store: LocalStore, data: bytes) -> Digest:
    return store.put(lambda: [data])


def trash(store: LocalStore, digest: Digest) -> Path:
    return store.path / "tmp" / f"trash-{digest_hex(digest)}"


def interrupted_delete(store: LocalStore, digest: Digest) -> None:
    """Leave a blob as a delete does that is killed after setting it aside."""
    place(store, digest).rename(trash(store, digest))


def make_old(path: Path) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)


def never(_: Digest) -> bool:
    return False


def test_blobs_are_read_only_files_named_by_sha256sum(store: LocalStore) -> None:
    digest = put(store, b"data")
    assert place(store, digest).name == hashlib.sha256(b"data").hexdigest()
    assert place(store, digest).stat().st_mode & 0o777 == 0o444
    assert list((store.path / "tmp").iterdir()) == []


def test_a_store_explains_itself(store: LocalStore) -> None:
    marker = json.loads((store.path / "store.json").read_bytes())
    assert marker == {"format": "holdfast/1", "id": store.id}
    assert "sha256sum" in (store.path / "README.txt").read_text()
    assert {item.name for item in store.path.iterdir()} == {
        *("README.txt", "blobs", "log", "store.json", "tmp"),
    }


def test_creating_again_opens(store: LocalStore) -> None:
    digest = put(store, b"data")
    again = LocalStore.create(store.path)
    assert again.id == store.id
    assert again.read(digest) == b"data"
    assert LocalStore.open(store.path).id == store.id


def test_eight_creators_make_one_store(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: LocalStore.create(tmp_path / "s"), range(8)))
    assert len({store.id for store in stores}) == 1


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(HoldfastError, match=r"not empty \(thesis\.tex") as caught:
        LocalStore.create(tmp_path)
    assert caught.value.hint == f"hold init {tmp_path / 'store'}"
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_half_made_is_finished(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "README.txt").touch()
    store = LocalStore.create(tmp_path)
    assert store.read(put(store, b"data")) == b"data"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HoldfastError, match="is a file, and a store is a folder"):
        LocalStore.create(tmp_path / "file")
    with pytest.raises(NoStore):
        LocalStore.open(tmp_path / "file")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(NoStore, match="no store") as caught:
        LocalStore.open(tmp_path)
    assert caught.value.hint == f"hold init {tmp_path}"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (b"", "not canonical JSON"),
        (b'{"format":"holdfast/1","id":"a"} ', "not canonical JSON"),
        (b'{"format":"holdfast/2","id":"a"}', "not the marker of a 'holdfast/1' store"),
        (b'{"format":"holdfast/1"}', "not the marker"),
        (b'{"format":"holdfast/1","id":7}', "not the marker"),
        (b"[]", "not the marker"),
    ],
)
def test_a_damaged_or_newer_store_is_refused(
    store: LocalStore, marker: bytes, message: str
) -> None:
    path = store.path / "store.json"
    path.unlink()
    path.write_bytes(marker)
    for enter in (LocalStore.open, LocalStore.create):
        with pytest.raises(Corrupt, match=message):
            enter(store.path)
    assert path.read_bytes() == marker


def test_a_symlinked_blob_is_refused(store: LocalStore, tmp_path: Path) -> None:
    digest = put(store, b"data")
    (tmp_path / "elsewhere").write_bytes(b"data")
    place(store, digest).unlink()
    place(store, digest).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Corrupt, match="cannot be read"):
        store.read(digest)
    with pytest.raises(Corrupt, match="cannot be read"):
        store.open_blob(digest)
    make_old(tmp_path / "elsewhere")
    store.freshen(digest)
    assert (tmp_path / "elsewhere").stat().st_mtime == 1_000_000_000
    assert store.drop_damaged(digest)
    assert store.read(put(store, b"data")) == b"data"


def test_a_blob_that_is_no_file_is_refused_at_once(store: LocalStore) -> None:
    pipe, folder = digest_of(b"pipe"), digest_of(b"folder")
    os.mkfifo(place(store, pipe))
    place(store, folder).mkdir()
    for digest in (pipe, folder):
        with pytest.raises(Corrupt, match="not a file"):
            store.read(digest)


def test_running_out_of_descriptors_is_not_called_damage(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(store, b"data")

    def too_many(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", too_many)
        with pytest.raises(HoldfastError, match="Too many open files") as caught:
            store.drop_damaged(digest)
    assert not isinstance(caught.value, Corrupt)
    assert store.read(digest) == b"data"


@pytest.mark.parametrize("way", ["has", "size", "read", "open_blob", "freshen", "put"])
def test_an_interrupted_delete_is_undone_by_whoever_looks(store: LocalStore, way: str) -> None:
    digest = put(store, b"data")
    make_old(place(store, digest))
    interrupted_delete(store, digest)
    if way == "put":
        store.put(lambda: pytest.fail("the bytes are there"), expect=digest)
    elif way == "open_blob":
        store.open_blob(digest).close()
    else:
        assert getattr(store, way)(digest)
    assert not trash(store, digest).exists()
    assert place(store, digest).read_bytes() == b"data"


def test_the_next_delete_finishes_an_interrupted_one(store: LocalStore) -> None:
    needed, gone = put(store, b"needed"), put(store, b"gone")
    for digest in (needed, gone):
        make_old(place(store, digest))
        interrupted_delete(store, digest)
    assert store.delete([], still_needed=lambda digest: digest == needed) == 4
    assert store.read(needed) == b"needed"
    assert not store.has(gone)
    assert list((store.path / "tmp").iterdir()) == []


def test_a_second_delete_at_once_is_refused_and_disturbs_nothing(store: LocalStore) -> None:
    digest = put(store, b"data")
    refused = []

    def other_tries(_: Digest) -> bool:
        with pytest.raises(Conflict, match="Something else is deleting") as caught:
            LocalStore.open(store.path).delete([digest], still_needed=never, grace=0.0)
        refused.append(caught.value.exit_code)
        return False

    assert store.delete([digest], still_needed=other_tries, grace=0.0) == 4
    assert refused == [8]
    assert not store.has(digest)
    put(store, b"data")
    interrupted_delete(store, digest)
    assert store.delete([], still_needed=other_tries, grace=0.0) == 4
    assert not store.has(digest)
    assert store.delete([], still_needed=never) == 0


def test_prune_beside_writers_takes_nothing_they_were_promised(store: LocalStore) -> None:
    blobs = [b"%d" % number for number in range(40)]
    digests = [put(store, data) for data in blobs]
    done = threading.Event()

    def prune() -> None:
        while not done.is_set():
            with contextlib.suppress(Conflict):
                store.delete(digests, still_needed=never)

    def write(data: bytes) -> None:
        digest = digest_of(data)
        with contextlib.suppress(FileNotFoundError):
            make_old(place(store, digest))
        assert store.put(lambda: [data], expect=digest) == digest
        assert store.read(digest) == data

    with ThreadPoolExecutor(6) as pool:
        pruners = [pool.submit(prune) for _ in range(2)]
        try:
            for _ in range(5):
                list(pool.map(write, blobs))
                assert [store.read(digest) for digest in digests] == blobs
        finally:
            done.set()
    assert [pruner.result() for pruner in pruners] == [None, None]


def test_delete_sweeps_what_crashed_writers_left_days_ago(store: LocalStore) -> None:
    old, new = store.path / "tmp" / "123-old", store.path / "tmp" / "123-new"
    old.touch()
    new.touch()
    make_old(old)
    store.delete([], still_needed=never)
    assert [item.name for item in (store.path / "tmp").iterdir()] == ["123-new"]


def test_list_ignores_files_that_are_no_blobs(store: LocalStore) -> None:
    digest = put(store, b"data")
    (store.path / "blobs" / "sha256" / ".DS_Store").touch()
    assert [info.digest for info in store.list()] == [digest]


def test_short_writes_are_continued(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data[:7])))
    data = bytes(range(256))
    assert store.read(put(store, data)) == data


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, None)]
)
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_failing_disk_leaves_nothing_visible(
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    expected: type[HoldfastError] | None,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(HoldfastError, match="Nothing visible was changed") as caught:
            put(store, b"data")
    assert type(caught.value) is (expected or HoldfastError)
    assert list(store.list()) == []
    assert list((store.path / "tmp").iterdir()) == []


def test_a_failed_flush_is_not_forgotten(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, b"data")
    flushed = os.fsync
    calls = []

    def fail_once(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        flushed(fd)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(HoldfastError, match="Input/output error"):
        store.flush()
    store.flush()
    store.flush()
    assert len(calls) == 2


def test_identity_is_told_for_settled_files_on_known_file_systems(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = store.open_blob(put(store, b"data"))
    monkeypatch.setattr(readings, "trustworthy", lambda _: True)
    assert reading.identity() is None  # changed less than two seconds ago
    monkeypatch.setattr(time, "time_ns", lambda: 2 * 10**18)
    settled = reading.identity()
    assert settled is not None
    assert settled[2] == 4
    monkeypatch.setattr(readings, "trustworthy", lambda _: False)
    assert reading.identity() is None
    reading.close()
    reading.close()
