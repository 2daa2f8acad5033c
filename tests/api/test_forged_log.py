"""A reference by digest loads what the digest names, or nothing."""

import pytest

import holdfast
from holdfast.archive import write
from holdfast.errors import Corrupt
from holdfast.record import Content, Manifest, Record, Structure


@pytest.fixture(name="store")
def make_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    return holdfast.Store.create(tmp_path / "store")


def put(store, text):
    """Write the documents of a version that is one text; return their digests."""
    content = Content(framework="python", structure=Structure(nodes=(("str", text),)))
    content_id = write.write_document(store.blobs, content.encode())
    record = Record(content=content_id, created="2026-03-01T00:00:00.000000Z", author="ana")
    record_id = write.write_document(store.blobs, record.encode())
    manifest = Manifest(content=content_id, record=record_id)
    manifest_id = write.write_document(store.blobs, manifest.encode())
    return {"record": record_id, "content": content_id, "manifest": manifest_id}


@pytest.mark.parametrize("swapped", ["record", "content", "manifest"])
@pytest.mark.parametrize(
    "use",
    [
        lambda version: version.load(),
        lambda version: version.tensors(),
        lambda version: version.manifest,
        lambda version: holdfast.verify(version.ref, replay=False, store=version.store),
    ],
    ids=["load", "tensors", "manifest", "verify"],
)
def test_entry_that_mixes_two_versions_is_refused(store, swapped, use):
    good, evil = put(store, "good"), put(store, "evil")
    store.catalogue.add_version("m", **{**good, swapped: evil[swapped]}, by="eve")
    with pytest.raises(Corrupt, match="another version"):
        use(holdfast.get("m@v1", store=store))


def test_sound_entry_is_taken(store):
    good = put(store, "good")
    store.catalogue.add_version("m", **good, by="ana")
    version = holdfast.get(f"m@{good['content']}", store=store)
    assert holdfast.verify(version.ref, replay=False, store=store).blobs == 3
    assert len(version.tensors()) == 0
