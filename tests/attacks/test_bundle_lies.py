"""Bundles that lie, are cut, or were made by another program: read, or refused with the reason."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import holdfast
from holdfast.errors import Corrupt, HoldfastError, UsageError

ARRAYS = {"big": np.random.default_rng(0).normal(size=(1 << 20) // 8), "small": np.arange(5.0)}
REF = "org.opencontainers.image.ref.name"
ALIASES = "vnd.holdfast.aliases"


@pytest.fixture(name="store", scope="module")
def filled_store(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("s") / "store")
    holdfast.save(ARRAYS, "m", store=store)
    holdfast.save({"small": np.ones(3)}, "m", store=store)
    return store


@pytest.fixture(name="members", scope="module")
def sound_members(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("b") / "m.hold"
    store.bundle(["m@v1", "m@v2"], path)
    return members_of(path)


def members_of(path):
    with tarfile.open(path) as archive:
        return {item.name: archive.extractfile(item).read() for item in archive}


def put(path, members, *others):
    """Write members by name, then others as they are given."""
    with tarfile.open(path, "w") as archive:
        for name, data in [*members.items(), *others]:
            item = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            item.size = len(data)
            archive.addfile(item, io.BytesIO(data))
    return path


def kind(name, type_, link=""):
    item = tarfile.TarInfo(name)
    item.type, item.linkname = type_, link
    return item, b""


def blob(data):
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def rewritten(members, change):
    """Return the members with something changed in the index, as if it had been written so."""
    index = json.loads(members["index.json"])
    index.pop("annotations", None)
    change(index["manifests"])
    return {**members, "index.json": json.dumps(index).encode()}


def with_manifest(members, change):
    """Return the members with something changed in the first version's manifest."""
    index = json.loads(members["index.json"])
    index.pop("annotations", None)
    first = index["manifests"][0]
    document = json.loads(members[f"blobs/sha256/{first['digest'][7:]}"])
    change(document)
    data = json.dumps(document).encode()
    first.update(digest="sha256:" + hashlib.sha256(data).hexdigest(), size=len(data))
    return {**members, "index.json": json.dumps(index).encode(), blob(data): data}


def open_it(path):
    """Read all that a bundle holds, as ``hold verify --all`` and ``hold unbundle`` do."""
    store = holdfast.Store(path)
    return [version.load(verify="always") for version in holdfast.versions("m", store=store)]


INDEX = {
    "a missing manifest": lambda m: m[0].update(digest="sha256:" + "0" * 64),
    "another size": lambda m: m[0].update(size=3),
    "no digest": lambda m: m[0].update(digest="../../etc/passwd"),
    "a number twice": lambda m: m[1]["annotations"].update({REF: "m@v1"}),
    "a record twice": lambda m: m.append({**m[0], "annotations": {REF: "m@v7"}}),
    "a wrong alias": lambda m: m[0]["annotations"].update({ALIASES: "v9"}),
    "an alias twice": lambda m: [each["annotations"].update({ALIASES: "prod"}) for each in m],
    "an alias over again": lambda m: m[0]["annotations"].update({ALIASES: "prod prod"}),
    "many manifests": lambda m: m.extend(m * 2_000),
}


@pytest.mark.parametrize("lie", INDEX)
def test_an_index_that_lies_is_refused(members, tmp_path, lie):
    path = put(tmp_path / "m.hold", rewritten(members, INDEX[lie]))
    with pytest.raises(Corrupt, match=r"m\.hold is no sound bundle"):
        holdfast.Store(path)


MANIFESTS = {
    "a layer that is not there": lambda d: d["layers"][4].update(digest="sha256:" + "0" * 64),
    "a layer's size": lambda d: d["layers"][4].update(size=7),
    "a name that is none": lambda d: d["annotations"].update({"vnd.holdfast.name": "../m"}),
    "a group that is none": lambda d: d["layers"][3]["annotations"].update(
        {"vnd.holdfast.pieces": "0-2"}
    ),
    "documents of another": lambda d: d["layers"][2].update(
        {key: d["layers"][1][key] for key in ("digest", "size")}
    ),
}


@pytest.mark.parametrize("lie", MANIFESTS)
def test_a_manifest_that_lies_is_refused(members, tmp_path, lie):
    path = put(tmp_path / "m.hold", with_manifest(members, MANIFESTS[lie]))
    with pytest.raises(Corrupt, match="is no sound bundle"):
        holdfast.Store(path)


MEMBERS = {
    "symbolic link": kind("blobs/sha256/" + "a" * 64, tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": kind("log/m/00000001.json", tarfile.LNKTYPE, "index.json"),
    "device": kind("blobs/sha256/" + "a" * 64, tarfile.CHRTYPE),
    "pipe": kind("index.json", tarfile.FIFOTYPE),
    "absolute": ("/etc/cron.d/job", b"x"),
    "outside": ("blobs/sha256/../../../x", b"x"),
    "foreign": ("model.pkl", b"x"),
    "second index": ("index.json", b"{}"),
    "second blob": ("blobs/sha256/", b"x"),
    "a log without beginning": ("log/m/00000002.json", b"{}"),
    "a log that is none": ("log/m/00000001.json", b"{}"),
    "a log of another": ("log/other/00000001.json", b"{}"),
}


@pytest.mark.parametrize("what", MEMBERS)
def test_a_member_that_no_bundle_has_is_refused(members, tmp_path, what):
    name, data = MEMBERS[what]
    name = next(n for n in members if n.startswith(name)) if what == "second blob" else name
    path = put(tmp_path / "m.hold", members, (name, data))
    with pytest.raises(Corrupt):
        holdfast.Store(path)
    assert os.listdir(tmp_path) == ["m.hold"]  # noqa: PTH208 - names, not paths


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize(
    "data", [None, b"", b"[" * 100_000, b"{}", b'{"schemaVersion":2}', b"\xff"]
)
def test_documents_of_the_layout_are_judged(members, tmp_path, name, data):
    changed = {key: value for key, value in members.items() if key != name}
    if data is not None:
        changed[name] = data
    path = put(tmp_path / "m.hold", changed)
    with pytest.raises(Corrupt, match="is no sound bundle"):
        holdfast.Store(path)


def test_a_flipped_bit_of_the_index_never_renames_a_version(members, tmp_path):
    index = members["index.json"]
    changed = index.replace(b"m@v1", b"m@v3")
    assert changed != index
    path = put(tmp_path / "m.hold", {**members, "index.json": changed})
    with pytest.raises(Corrupt, match="its own digest"):
        holdfast.Store(path)


@pytest.mark.parametrize(
    "value", [b'"\xff"', b"[" * 900 + b"]" * 900, b'"\\ud800"', b"1e999"], ids=repr
)
def test_what_the_index_says_to_others_is_read_for_its_digest(members, tmp_path, value):
    index = members["index.json"].replace(b"{", b'{"another.s":' + value + b",", 1)
    path = put(tmp_path / "m.hold", {**members, "index.json": index})
    with pytest.raises(Corrupt, match="is no sound bundle"):
        holdfast.Store(path)


def test_a_huge_index_is_not_read(members, tmp_path):
    path = put(tmp_path / "m.hold", {**members, "index.json": b" " * ((16 << 20) + 1)})
    with pytest.raises(Corrupt, match="more than"):
        holdfast.Store(path)


def test_a_sparse_member_does_not_become_what_it_claims(members, tmp_path):
    place = max(members, key=lambda name: len(members[name]))
    sparse = tarfile.TarInfo(place)
    sparse.type = tarfile.GNUTYPE_SPARSE
    rest = {name: data for name, data in members.items() if name != place}
    path = put(tmp_path / "m.hold", rest, (sparse, members[place][: 1 << 12]))
    with pytest.raises(Corrupt):
        open_it(path)


def test_a_layout_of_something_else_is_told(members, tmp_path):
    changed = with_manifest(
        members, lambda d: d.update(artifactType="application/vnd.docker.container.image.v1+json")
    )
    only = rewritten(changed, lambda m: m.pop())
    with pytest.raises(UsageError, match="holds no version"):
        holdfast.Store(put(tmp_path / "m.hold", only))


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.symlink_to(p), lambda p: p.touch(0)])
def test_what_is_no_file_is_not_waited_for(tmp_path, make):
    make(tmp_path / "m.hold")
    with pytest.raises(HoldfastError, match=r"m\.hold"):
        holdfast.Store(tmp_path / "m.hold")


def test_a_bundle_of_another_program_needs_no_reference_in_its_index(store, members, tmp_path):
    def changed(manifests):
        for each in manifests:
            each["annotations"] = {REF: "latest"}

    path = put(tmp_path / "m.hold", rewritten(members, changed))
    found = holdfast.versions("m", store=path)
    assert {v.record_id for v in found} == {
        v.record_id for v in holdfast.versions("m", store=store)
    }
    assert [v.number for v in found] == [1, 2]


def test_a_log_that_says_another_thing_than_the_index_is_refused(store, tmp_path):
    store.bundle("m", tmp_path / "whole.hold", history=True)
    members = members_of(tmp_path / "whole.hold")
    for refs in (["m@v2", "m@v1"], ["m@v1", "m@v3"], ["m@v1", "latest"]):

        def changed(manifests, refs=refs):
            for each, ref in zip(manifests, refs, strict=True):
                each["annotations"] = {REF: ref}

        with pytest.raises(Corrupt, match="its index"):
            holdfast.Store(put(tmp_path / "m.hold", rewritten(members, changed)))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_bundle_cut_anywhere_is_refused_or_whole(members, tmp_path_factory, data):
    path = put(tmp_path_factory.mktemp("cut") / "m.hold", members)
    end = path.stat().st_size
    last = end - (-(-end // 10240) * 10240 - end)
    cut = data.draw(st.integers(0, last))
    os.truncate(path, cut)
    try:
        found = open_it(path)
    except HoldfastError:
        return
    assert (found[0]["big"] == ARRAYS["big"]).all()
    assert (found[1]["small"] == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_found_or_means_nothing(members, tmp_path_factory, data):
    small = {name: value for name, value in members.items() if len(value) < 1 << 16}
    large = {name: value for name, value in members.items() if name not in small}
    path = put(tmp_path_factory.mktemp("flip") / "m.hold", {**small, **large})
    content = bytearray(path.read_bytes())
    reach = len(content) if data.draw(st.integers(0, 9)) == 0 else 24_000
    at = data.draw(st.integers(0, reach - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = open_it(path)
    except HoldfastError:
        return
    assert (found[0]["big"] == ARRAYS["big"]).all()
    assert (found[1]["small"] == 1).all()
