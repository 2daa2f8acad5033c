"""A store and a log in a bucket do what every store and every log must do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.catalogue.bucket import BucketLog
from holdfast.record import Digest, digest_hex
from holdfast.remote.bucket import Bucket
from holdfast.store.cache import BlobCache
from holdfast.store.objects import ObjectStore
from holdfast.testing.coding import CodingConformance
from holdfast.testing.logs import LogConformance
from holdfast.testing.stores import StoreConformance


class TestStore(StoreConformance):
    @pytest.fixture
    def store(self, server, blobs_at):
        return blobs_at(server)

    @pytest.fixture
    def damage(self, server, store):
        def flip(digest: Digest) -> None:
            server.flip(f"blobs/sha256/{digest_hex(digest)}")
            store.renew(digest)

        return flip


class TestStoreWithoutRoomForACache(TestStore):
    @pytest.fixture
    def store(self, server, blobs_at):
        return blobs_at(server, limit=0)


class TestCoding(CodingConformance):
    @pytest.fixture
    def store(self, server, blobs_at):
        return blobs_at(server)

    @pytest.fixture
    def lose(self, server):
        return lambda digest: server.objects.pop(f"coded/sha256/{digest_hex(digest)}")


class TestCodingWithoutRoomForACache(TestCoding):
    @pytest.fixture
    def store(self, server, blobs_at):
        return blobs_at(server, limit=0)


class TestLog(LogConformance):
    @pytest.fixture
    def log(self, server, bucket_of):
        return BucketLog(bucket_of(server))


class TestLogAtACarelessServer(LogConformance):
    """Where several writers are let in at once, still only one has its entry kept."""

    @pytest.fixture
    def log(self, make_server, bucket_of):
        server = make_server("one by one")
        server.slow = 0.002
        return BucketLog(bucket_of(server))


@pytest.fixture(name="memory_bucket")
def bucket_through_obstore(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return a bucket whose requests go through obstore, to a store of its own in memory."""
    from holdfast.remote import requests

    kept = pytest.importorskip("obstore.store", reason="obstore is not installed").MemoryStore()
    monkeypatch.setattr(requests, "_opened", lambda *_: kept)
    return Bucket(requests.ObstoreRequests("s3://bucket/team"))


class TestStoreThroughObstore(StoreConformance):
    @pytest.fixture
    def store(self, memory_bucket, tmp_path: Path):
        return ObjectStore.create(memory_bucket, BlobCache(tmp_path, 1 << 30))


class TestCodingThroughObstore(CodingConformance):
    @pytest.fixture
    def store(self, memory_bucket, tmp_path: Path):
        return ObjectStore.create(memory_bucket, BlobCache(tmp_path, 1 << 30))

    @pytest.fixture
    def lose(self, memory_bucket):
        return lambda digest: memory_bucket.delete([f"coded/sha256/{digest_hex(digest)}"])


class TestLogThroughObstore(LogConformance):
    @pytest.fixture
    def log(self, memory_bucket: Callable[..., Bucket]):
        return BucketLog(memory_bucket)
