"""What is put beside a manifest at one time with somebody else, where the list is a tag."""

import json

import pytest

from holdfast.errors import RemoteError
from holdfast.record import digest_of
from holdfast.remote.oci.referrers import Beside, put_beside, those_beside
from holdfast.remote.oci.registry import INDEX_TYPE, MANIFEST_TYPE, Stored

DATA = b'{"schemaVersion":2}'
SUBJECT = Stored(digest_of(DATA), MANIFEST_TYPE, DATA)
TAG = "team/net:" + SUBJECT.digest.replace(":", "-")


@pytest.fixture(autouse=True)
def _without_lists(stub):
    stub.lists = False


def beside(word):
    return Beside("application/vnd.test", {"word": word}, word.encode())


def words(repository):
    return sorted(each.annotations["word"] for each in those_beside(repository, SUBJECT.digest))


def written_over(stub, times):
    """Write the index as it was before a put over it right after the put, as a slow writer does.

    It has read the index before, and adds an entry of its own.
    """
    left = [*range(times)]

    def before(handler):
        if handler.command != "PUT" or not handler.path.endswith(TAG.partition(":")[2]) or not left:
            return False
        old = json.loads(stub.manifests.get(TAG, (INDEX_TYPE, b'{"manifests":[]}'))[1])
        word = f"other{left.pop(0)}"
        entry = {"mediaType": MANIFEST_TYPE, "digest": digest_of(word.encode()), "size": 5}
        old["manifests"].append({**entry, "annotations": {"word": word}})
        handler.say(201, Docker_Content_Digest=digest_of(handler.body()))
        stub.manifests[TAG] = (INDEX_TYPE, json.dumps(old).encode())
        return True

    stub.before = before


def test_an_addition_that_is_written_over_is_added_anew(stub, repository):
    put_beside(repository, SUBJECT, beside("first"))
    written_over(stub, 3)
    assert put_beside(repository, SUBJECT, beside("second"))
    assert words(repository) == ["first", "other0", "other1", "other2", "second"]
    assert not put_beside(repository, SUBJECT, beside("second"))


def test_what_others_lose_meanwhile_is_put_back(stub, repository):
    """A writer that knows of nothing before it takes away what was seen; it comes back."""
    put_beside(repository, SUBJECT, beside("first"))
    written_over(stub, 1)
    whole = stub.manifests.pop(TAG)
    asked = stub.before

    def before(handler):
        if handler.command == "GET" and TAG not in stub.manifests:
            stub.manifests[TAG] = whole
        elif handler.command == "PUT" and handler.path.endswith(TAG.partition(":")[2]):
            stub.manifests.pop(TAG, None)
        return asked(handler)

    stub.before = before
    put_beside(repository, SUBJECT, beside("second"))
    assert words(repository) == ["first", "other0", "second"]


def test_somebody_who_writes_over_it_again_and_again_is_told_of(stub, repository):
    written_over(stub, 99)
    with pytest.raises(RemoteError, match="after 5 tries") as caught:
        put_beside(repository, SUBJECT, beside("second"))
    assert "hold push NAME oci://" in caught.value.hint
    stub.before = lambda _: False
    assert put_beside(repository, SUBJECT, beside("second"))
    assert "second" in words(repository)
