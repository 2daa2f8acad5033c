"""The image with ordinary files: a tar that Python reads, whose blobs have known places."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

import holdfast
from holdfast.archive import oci, oci_files, read
from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import digest_of


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("store"))
    rng = np.random.default_rng(0)
    model = {"big": rng.standard_normal(300_000), "small": rng.standard_normal(7)}
    return holdfast.save(model, "net", store=store)


@pytest.fixture(scope="module", name="image")
def packed(version):
    """Return the documents, the bytes of the tar and the manifest of an image."""
    blobs = version.store.blobs
    documents = oci.Documents(version.manifest_id, *read.documents(blobs, version.manifest_id))
    sizes = read.sizes_of(blobs, version.manifest_id)
    tar = oci_files.files_of(oci.layers_of(documents, sizes))
    data = b"".join(s if isinstance(s, bytes) else blobs.read(s[0]) for s in tar.segments)
    assert len(data) == tar.size
    packed = oci_files.encode("net", documents, sizes, (digest_of(data), len(data)))
    return documents, data, packed.manifest


def test_the_tar_holds_ordinary_files(version, image):
    _, data, _ = image
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {item.name: tar.extractfile(item).read() for item in tar if item.isfile()}
        assert [item.name for item in tar if item.isdir()] == ["models"]
    pieces = [version.store.blobs.read(piece.digest) for piece in version.manifest.pieces]
    assert files.pop("models/model.safetensors") == b"".join(pieces)
    assert {name: digest_of(data) for name, data in files.items()} == {
        "models/manifest.json": version.manifest_id,
        "models/content.json": version.content_id,
        "models/record.json": version.record_id,
    }


def test_every_blob_is_where_the_manifest_says(image):
    documents, data, manifest = image
    parsed = oci_files.parse(manifest)
    assert parsed.name == "net"
    first = oci_files.documents_in(parsed)
    everything = oci_files.held_by(parsed, documents)
    assert first.items() <= everything.items()
    for digest, held in everything.items():
        assert digest_of(data[held.offset : held.offset + held.size]) == digest


def test_names_and_sizes_that_need_more_than_a_plain_header():
    long, size = f"{'ü' * 90}/{'b' * 90}.bin", 9 << 30
    layers = [
        oci.Layer(f"files/{long}", "raw", ((digest_of(b"a"), size),)),
        oci.Layer("files/z", "raw", ((digest_of(b"b"), 3),)),
    ]
    tar = oci_files.files_of(layers)
    head = b"".join(part for part in tar.segments[:1] if isinstance(part, bytes))
    assert tar.places[digest_of(b"a")] == len(head)
    info = tarfile.TarInfo.frombuf(head[-512:], "utf-8", "replace")
    assert info.size == size
    assert tar.places[digest_of(b"b")] > size


def test_a_manifest_of_something_else_is_left_alone(image):
    document = json.loads(image[2])
    document["annotations"] = {}
    assert oci_files.parse(json.dumps(document).encode()) is None
    assert oci_files.parse(b"[" * 100_000) is None


def test_a_damaged_manifest_never_names_other_places_without_a_word(image):
    """But for the sizes of documents, which have been read and hashed by then."""
    documents, _, manifest = image
    whole = oci_files.held_by(oci_files.parse(manifest), documents)
    for at in range(len(manifest)):
        damaged = manifest[:at] + bytes([manifest[at] ^ 1]) + manifest[at + 1 :]
        try:
            parsed = oci_files.parse(damaged)
            held = {} if parsed is None else oci_files.held_by(parsed, documents)
        except HoldfastError:
            continue
        for digest, (_, offset, size) in held.items():
            assert offset == whole[digest].offset
            assert size == whole[digest].size or digest in parsed.sizes


def test_an_image_of_another_version_is_refused(image):
    documents, _, manifest = image
    other = documents._replace(manifest_id=digest_of(b"other"))
    with pytest.raises(Corrupt, match="not those that its manifest names"):
        oci_files.held_by(oci_files.parse(manifest), other)
