"""Bundles out of a bucket: streamed, hashed, whole or not there."""

from __future__ import annotations

import numpy as np
import pytest

import holdfast
from holdfast.errors import Corrupt
from holdfast.record import digest_hex


@pytest.fixture(name="far")
def store_in_a_bucket(server, store_at):
    store = store_at(server)
    holdfast.save({"a": np.full(200_000, 7.0)}, "net", store=store)
    return store_at(server, "another machine")


def test_versions_come_out_of_a_bucket(far, tmp_path):
    far.bundle("net", tmp_path / "m.hold")
    assert (holdfast.load(str(tmp_path / "m.hold"), verify="always")["a"] == 7).all()


def test_a_blob_damaged_in_the_bucket_leaves_no_file(far, server, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    piece = holdfast.get("net", store=far).manifest.pieces[1].digest
    server.flip(f"blobs/sha256/{digest_hex(piece)}")
    with pytest.raises(Corrupt):
        far.bundle("net", folder / "m.hold")
    assert not list(folder.iterdir())


def test_a_bundle_goes_into_a_bucket(far, server, store_at, tmp_path):
    near = holdfast.Store.create(tmp_path / "near")
    near.pull("net", far)
    holdfast.save({"a": np.full(200_000, 8.0)}, "net", store=near)
    near.bundle("net", tmp_path / "m.hold")
    assert far.unbundle(tmp_path / "m.hold").versions[0].there == "net@v2"
    assert holdfast.load("net", store=far)["a"][0] == 8
