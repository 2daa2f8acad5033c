"""The page of registries says what the code does."""

import json
import re
from pathlib import Path

import pytest

import holdfast
from holdfast.api import registry_beside
from holdfast.archive import checks, oci, oci_files, oci_reading, read
from holdfast.record import digest_of

TEXT = (Path(__file__).parent.parent / "docs" / "format" / "registry.md").read_text("utf-8")


@pytest.fixture(name="manifest")
def of_an_image(tmp_path):
    store = holdfast.Store.create(tmp_path)
    version = holdfast.save({"w": [1.5]}, "m", store=store)
    blobs = store.blobs
    documents = oci_reading.Documents(
        version.manifest_id, *read.documents(blobs, version.manifest_id)
    )
    sizes = read.sizes_of(blobs, version.manifest_id)
    tar = oci_files.files_of(oci.layers_of(documents, sizes))
    packed = oci_files.encode("m", documents, sizes, (digest_of(b""), tar.size))
    return {**json.loads(packed.manifest), "made": packed.config, "ids": version}


def test_types_and_annotations_are_named(manifest):
    named = [manifest["config"]["mediaType"], manifest["layers"][0]["mediaType"]]
    named += [*manifest["annotations"], registry_beside.ROLE, registry_beside.CREATED]
    for text in (*named, registry_beside.ATTACHMENT, registry_beside.CHECKS):
        assert f"`{text}`" in TEXT


def test_the_limits_are_those_of_the_code():
    assert f"at most {checks.LONGEST_REPORT:,} bytes" in TEXT
    assert f"the {registry_beside._MOST_REPORTS} newest such reports" in TEXT


def test_the_sizes_are_in_the_order_that_the_page_says(manifest):
    order = re.search(r"for the (\w+), the\s+(\w+), the (\w+)", TEXT).groups()
    assert order == ("manifest", "content", "record")
    told = [
        word.partition("=")[0] for word in manifest["annotations"]["vnd.holdfast.sizes"].split()
    ]
    version = manifest["ids"]
    assert told == [version.manifest_id, version.content_id, version.record_id]
    assert json.loads(manifest["made"])["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
