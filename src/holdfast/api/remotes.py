"""Stores in buckets: their parts put together, and what this machine remembers of them."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.api.settings import cache_folder, cache_limit
from holdfast.catalogue.bucket import BucketLog
from holdfast.record import digest_hex, digest_of
from holdfast.remote.bucket import Bucket
from holdfast.remote.requests import ObstoreRequests, check_url
from holdfast.store.bucket_checks import BucketChecks
from holdfast.store.cache import BlobCache
from holdfast.store.objects import ObjectStore

__all__ = ["Remote", "create", "opened"]


class Remote(NamedTuple):
    """A store in a bucket.

    Attributes:
        blobs: Its bytes.
        log: Its log.
        checks: Documents of what ``verify`` found.
        id: From its marker.
    """

    blobs: ObjectStore
    log: BucketLog
    checks: BucketChecks
    id: str


def opened(url: str) -> Remote:
    """Open a store with one request.

    Raises:
        NoStore: There is none.
        RemoteError: The server does not answer, or refuses.
        MissingExtra: ``obstore`` is not installed here.
    """
    bucket = _bucket(url)
    blobs = ObjectStore.open(bucket, _cache())
    return Remote(blobs, BucketLog(bucket), BucketChecks(bucket), blobs.id)


def create(url: str) -> None:
    """Make an empty store; one already there stays as it is.

    Raises:
        RemoteError: The server does not answer, refuses, or cannot hold a log that is shared.
    """
    ObjectStore.create(_bucket(url), _cache())


def _bucket(url: str) -> Bucket:
    url = check_url(url)
    known = digest_hex(digest_of(url.encode()))[:32]
    return Bucket(ObstoreRequests(url), cache_folder() / "servers" / known)


def _cache() -> BlobCache:
    return BlobCache(cache_folder() / "remote", cache_limit())
