"""The OCI manifest: bytes that never differ, within what registries take, and read as hostile."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import holdfast
from holdfast.archive import layout, oci, read
from holdfast.errors import Corrupt, HoldfastError, Unsupported, UsageError
from holdfast.record import (
    Content,
    Digest,
    FileEntry,
    Manifest,
    Piece,
    Record,
    Structure,
    TensorEntry,
    digest_of,
)

KINDS = "application/vnd.cncf.model."


def digest(text):
    return digest_of(text.encode())


def made(names, files=()):
    """Documents of a version with so many tensors of 1 MiB, and the sizes of all its blobs."""
    tensors = [
        TensorEntry(name=n, dtype="F32", shape=(layout.BIG // 4,), digest=digest(n)) for n in names
    ]
    entries = [FileEntry(name=n, size=len(n), digest=digest(n)) for n in files]
    content = Content(
        framework="torch",
        structure=Structure(nodes=(("none",),)),
        tensors=tuple(sorted(tensors, key=lambda t: t.name)),
        files=tuple(entries),
    )
    record = Record(content=digest_of(content.encode()), created="2026-01-01T00:00:00Z", author="A")
    plan = layout.plan(content.tensors)
    pieces = [Piece(digest=digest(p[0].name), size=layout.BIG) for p in plan.pieces]
    if pieces:
        pieces.insert(0, Piece(digest=digest_of(plan.header), size=len(plan.header)))
    record_id = digest_of(record.encode())
    manifest = Manifest(content=record.content, record=record_id, pieces=tuple(pieces))
    documents = oci.Documents(digest_of(manifest.encode()), manifest, content, record)
    sizes = {documents.manifest_id: len(manifest.encode()), record_id: len(record.encode())}
    sizes[Digest(record.content)] = len(content.encode())
    sizes |= {Digest(p.digest): p.size for p in pieces} | {
        Digest(f.digest): f.size for f in entries
    }
    return documents, sizes


def packed(documents, sizes, attached=None):
    layers = oci.layers_of(documents, sizes, attached)
    digests = [layer.digest or digest(f"all of {layer.path}") for layer in layers]
    return layers, oci.encode("m", documents, layers, digests)


@pytest.fixture(name="saved", scope="module")
def saved_version(tmp_path_factory):
    X = np.arange(40.0).reshape(20, 2)
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(X, X[:, 0])
    store = tmp_path_factory.mktemp("s") / "store"
    return holdfast.save(
        model, "m", inputs=X, store=store, license="MIT", note="why", portable=None
    )


@pytest.fixture(name="artifact", scope="module")
def packed_version(saved):
    documents = oci.Documents(
        saved.manifest_id, *read.documents(saved.store.blobs, saved.manifest_id)
    )
    sizes = read.sizes_of(saved.store.blobs, saved.manifest_id)
    return documents, sizes, packed(documents, sizes)[1]


def test_a_saved_version_comes_back_blob_for_blob(artifact):
    documents, sizes, done = artifact
    image = oci.parse(done.manifest)
    assert image.name == "m"
    assert image.config == (digest_of(done.config), len(done.config))
    held = oci.held_by(image, documents)
    assert {blob: place.size for blob, place in held.items()} == sizes
    assert all(place == (blob, 0, sizes[blob]) for blob, place in held.items())


def test_the_manifest_is_modelpacks_and_the_config_has_its_three_objects_only(artifact):
    documents, _, done = artifact
    manifest, config = json.loads(done.manifest), json.loads(done.config)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == KINDS + "manifest.v1+json"
    assert manifest["config"]["mediaType"] == KINDS + "config.v1+json"
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["descriptor"] == {
        "name": "m",
        "createdAt": documents.record.created,
        "authors": [documents.record.author],
        "licenses": ["MIT"],
        "description": "why",
    }
    assert config["modelfs"] == {
        "type": "layers",
        "diffIds": [layer["digest"] for layer in manifest["layers"]],
    }
    paths = [layer["annotations"]["org.cncf.model.filepath"] for layer in manifest["layers"]]
    assert paths[:5] == ["manifest.json", "content.json", "record.json", *paths[3:5]]
    assert {"weights/000000", "golden.safetensors"} <= {*paths}
    assert all(layer["mediaType"].startswith(KINDS) for layer in manifest["layers"])


def test_the_same_version_is_the_same_bytes_and_an_attachment_is_a_layer_more(artifact):
    documents, sizes, done = artifact
    assert packed(documents, sizes)[1] == done
    lock = (digest("lock"), 4)
    image = oci.parse(packed(documents, sizes, {"pylock": lock})[1].manifest)
    assert image.attached == {"pylock": lock}
    assert oci.held_by(image, documents)[lock[0]].size == 4


def expert_names(experts):
    return [
        f"model.layers.{layer}.experts.{expert}.{part}"
        for layer in range(30)
        for expert in range(experts)
        for part in ("up", "down")
    ]


def test_many_pieces_are_grouped_by_the_beginnings_of_names():
    documents, sizes = made(expert_names(120))
    layers, done = packed(documents, sizes)
    weights = [layer for layer in layers if layer.first is not None]
    assert 1_000 < len(weights) <= 5_001
    assert len(done.manifest) < 2 << 20
    assert [blob for layer in weights for blob in layer.blobs] == [
        (p.digest, p.size) for p in documents.manifest.pieces
    ]
    held = oci.held_by(oci.parse(done.manifest), documents)
    group = next(layer for layer in weights if len(layer.blobs) > 1)
    assert [held[blob].offset for blob, _ in group.blobs[:2]] == [0, layout.BIG]


def test_one_more_tensor_moves_no_other_group(monkeypatch):
    monkeypatch.setattr(oci, "_MOST_PIECES", 500)
    before, _ = packed(*made(expert_names(12)))
    after, _ = packed(*made([*expert_names(12), "model.layers.7.experts.9.also"]))
    assert 100 < len(before) < 510
    were, are = ({layer.blobs for layer in layers[3:]} for layers in (before, after))
    assert len(were - are) <= 2  # the header, and the group that it joins


def test_names_without_a_common_beginning_are_grouped_too(monkeypatch):
    monkeypatch.setattr(oci, "_MOST_PIECES", 500)
    layers, _ = packed(*made([hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(600)]))
    assert 200 < len(layers) <= 510


def test_five_thousand_pieces_are_a_layer_each():
    layers, _ = packed(*made([f"t{n}" for n in range(4_999)]))
    assert [len(layer.blobs) for layer in layers] == [1] * 5_003


def test_too_many_files_are_refused():
    documents, sizes = made([], [f"f{n:05}" for n in range(10_000)])
    with pytest.raises(Unsupported, match="10003 layers"):
        oci.layers_of(documents, sizes)


def layer_at(document, path):
    layers = document["layers"]
    return next(i for i in layers if i["annotations"]["org.cncf.model.filepath"] == path)


def first_piece(document):
    return layer_at(document, "weights/000000")


LIES = {
    "no content": lambda d: d["layers"].remove(layer_at(d, "content.json")),
    "a piece twice": lambda d: d["layers"].append(dict(first_piece(d))),
    "no first piece": lambda d: d["layers"].remove(first_piece(d)),
    "another size": lambda d: first_piece(d).update(size=1),
    "a negative size": lambda d: first_piece(d).update(size=-1),
    "a huge size": lambda d: first_piece(d).update(size=1 << 62),
    "another piece": lambda d: first_piece(d).update(digest=digest("other")),
    "no digest": lambda d: first_piece(d).update(digest="sha512:" + "0" * 128),
    "gzip": lambda d: first_piece(d).update(mediaType=KINDS + "weight.v1.tar+gzip"),
    "a group": lambda d: first_piece(d)["annotations"].update({"vnd.holdfast.pieces": "0-7"}),
    "a wrong group": lambda d: first_piece(d)["annotations"].update({"vnd.holdfast.pieces": "1-1"}),
    "no golden set": lambda d: d["layers"].remove(layer_at(d, "golden.safetensors")),
    "another record": lambda d: layer_at(d, "record.json").update(digest=digest("other")),
    "later": lambda d: d["annotations"].update({"vnd.holdfast.format": "holdfast/2"}),
    "many layers": lambda d: d.update(layers=d["layers"] * 1_000),
    "a list": lambda d: d.update(layers={}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_manifest_is_refused(artifact, lie):
    documents, _, done = artifact
    document = json.loads(done.manifest)
    LIES[lie](document)
    with pytest.raises(Corrupt):
        oci.held_by(oci.parse(json.dumps(document).encode()), documents)


@pytest.mark.parametrize("key", ["mediaType", "artifactType", "config", "annotations"])
def test_a_manifest_of_something_else_is_told_apart(artifact, key):
    document = json.loads(artifact[2].manifest)
    document[key] = {"config": document["layers"][0], "annotations": None}.get(key, "text/plain")
    with pytest.raises(UsageError, match="something else"):
        oci.parse(json.dumps(document).encode())


def test_layers_of_others_may_stand_beside_ours(artifact):
    documents, sizes, done = artifact
    document = json.loads(done.manifest)
    document["layers"].append(
        {"mediaType": KINDS + "doc.v1.tar+gzip", "digest": digest("readme"), "size": 6}
    )
    assert oci.held_by(oci.parse(json.dumps(document).encode()), documents).keys() == sizes.keys()


def test_a_huge_manifest_is_not_read():
    with pytest.raises(Corrupt, match="longer"):
        oci.parse(b"[" * (oci.LONGEST_MANIFEST + 1))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_changes_is_read_or_refused(artifact, data):
    documents, sizes, done = artifact
    changed = bytearray(done.manifest)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        held = oci.held_by(oci.parse(bytes(changed)), documents)
    except HoldfastError:
        return
    assert {blob: place.size for blob, place in held.items()}.items() >= sizes.items()
