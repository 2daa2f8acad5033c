"""What attacks share."""

import json

import pytest

import holdfast
from holdfast.archive import write
from holdfast.record import Digest, canonical


@pytest.fixture(scope="session", name="forged")
def forge():
    """Return what publishes a version whose portable form was changed; all digests are in order."""

    def forged(version, change):
        store = version.store
        record = json.loads(store.blobs.read(version.record_id))
        change(record["portable"])
        manifest = json.loads(store.blobs.read(Digest(version.info.manifest)))
        record_id = write.write_document(store.blobs, canonical(record))
        manifest_id = write.write_document(
            store.blobs, canonical({**manifest, "record": record_id})
        )
        info = store.catalogue.add_version(
            "forged", record=record_id, content=version.content_id, manifest=manifest_id, by="eve"
        )
        return holdfast.get(f"forged@v{info.number}", store=store)

    return forged
