import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.record import Digest, digest_hex
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
