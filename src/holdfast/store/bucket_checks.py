"""Results of checks in a bucket, under the keys of a folder; see ``checks``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from holdfast.record import Digest, digest_hex
from holdfast.remote.bucket import Bucket
from holdfast.store.checks import FILE, MOST, RECORD

__all__ = ["BucketChecks"]

_CHECKS: Final = "checks"


class BucketChecks:
    """The check documents of a store in a bucket.

    Args:
        bucket: Where.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def put(self, record: Digest, environment: str, data: bytes) -> None:
        """Keep a document in place of the one before it; see ``CheckFiles.put``."""
        self._bucket.put(f"{_folder(record)}/{environment}.json", data)

    def records(self) -> Iterator[Digest]:
        """Yield the records of which something may be kept."""
        names = (found.key.split("/")[1] for found in self._bucket.list(_CHECKS))
        yield from (
            Digest(f"sha256:{name}") for name in dict.fromkeys(names) if RECORD.fullmatch(name)
        )

    def read(self, record: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield what is kept of a record, by environment; unreadable is empty."""
        for found in self._bucket.list(_folder(record)):
            name = FILE.fullmatch(found.key.rpartition("/")[2])
            if name is not None:
                got = self._bucket.get(found.key) if found.size <= MOST else None
                yield name[1], b"" if got is None else got[0]

    def remove(self, record: Digest) -> None:
        """Delete what is kept of a record; raises ``RemoteError`` where that is refused."""
        self._bucket.delete([found.key for found in self._bucket.list(_folder(record))])


def _folder(record: Digest) -> str:
    return f"{_CHECKS}/{digest_hex(record)}"
