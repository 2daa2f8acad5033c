"""Versions to a registry and back, and registries that do not mean well."""

import json

import numpy as np
import pytest

import holdfast
from holdfast.api import sending
from holdfast.api.attachments import attach
from holdfast.archive import oci
from holdfast.errors import Corrupt, HoldfastError, NotFound, PartlyDone, RemoteError, UsageError
from holdfast.record import digest_of

LOCK = b'lock-version = "1.0"\n'


def net(layers=2, seed=0):
    rng = np.random.default_rng(seed)
    return {f"layer{n}": rng.standard_normal((363, 363)) for n in range(layers)}


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a store with one version, which is only read."""
    store = holdfast.Store.create(tmp_path_factory.mktemp("saved"))
    holdfast.save(net(), "net", store=store, metrics={"auc": 0.9})
    return store


@pytest.fixture(scope="module")
def holding(saved, new_stub):
    """Return what a registry holds after a push: its blobs and manifests."""
    registry = new_stub()
    try:
        saved.push("net", registry.url())
    finally:
        registry.stop()
    return registry.blobs["team/net"], registry.manifests


@pytest.fixture
def pushed(stub, holding):
    """Return the reference of a version that was pushed."""
    stub.blobs, stub.manifests = {"team/net": {**holding[0]}}, {**holding[1]}
    return stub.url()


@pytest.mark.parametrize("layout", ["blobs", "files"])
def test_a_version_comes_back_bit_for_bit(stub, saved, other, layout):
    version = holdfast.get("net", store=saved)
    done = saved.push("net", stub.url(), layout=layout)
    assert done.versions[0].new
    assert done.versions[0].there.startswith(f"{stub.url()}@sha256:")
    got = other.pull(stub.url())
    assert got.versions == [(stub.url(), "net@v1", True)]
    back = holdfast.get("net", store=other)
    assert (back.record_id, back.content_id, back.manifest_id) == (
        version.record_id, version.content_id, version.manifest_id,
    )  # fmt: skip
    assert same(holdfast.load("net", store=other), net())
    assert holdfast.verify("net", store=other).size == got.size
    by_digest = other.pull(f"{stub.url('team/net')}@{done.versions[0].there[-71:]}")
    assert by_digest.versions == [(done.versions[0].there.replace(":v1", ""), "net@v1", False)]


def test_a_version_that_is_there_is_not_sent(stub, saved, pushed):
    stub.received = 0
    again = saved.push("net", pushed)
    assert (again.size, again.blobs, again.versions[0].new) == (0, 0, False)
    assert stub.received == 0


def test_the_second_version_sends_one_layer(stub, store):
    model = net()
    holdfast.save(model, "net", store=store)
    store.push("net", stub.url())
    model["layer1"] = model["layer1"] + 1
    holdfast.save(model, "net", store=store)
    stub.received = 0
    done = store.push("net", stub.url("team/net:v2"))
    assert model["layer1"].nbytes <= done.size <= stub.received <= model["layer1"].nbytes + 9_000
    assert done.shared >= model["layer0"].nbytes


def test_a_pull_fetches_only_what_is_not_here(stub, store, other, pushed):
    other.pull(pushed)
    assert other.pull(pushed, "another").size == 0
    assert [m.name for m in other.catalogue.names()] == ["another", "net"]


def test_a_dry_run_changes_nothing(stub, saved, other, tmp_path):
    would = saved.push("net", stub.url(), dry_run=True)
    assert would.versions == [("net@v1", None, True)]
    assert (stub.blobs, stub.manifests) == ({}, {})
    assert saved.push("net", stub.url()).size == would.size
    assert sending.pull(stub.url(), None, tmp_path / "none", dry_run=True).to.endswith("none")
    assert not (tmp_path / "none").exists()
    would = other.pull(stub.url(), dry_run=True)
    assert list(other.blobs.list()) == []
    assert other.pull(stub.url()).size == would.size


def test_blobs_of_another_repository_are_not_sent(stub, saved):
    saved.push("net", stub.url())
    stub.received = 0
    done = saved.push("net", stub.url("prod/net:v1"))
    assert done.size == 0
    assert stub.received == len(stub.manifests["prod/net:v1"][1])


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_with_credentials(stub, saved, other, login, auth):
    stub.auth = auth
    login(stub.host)
    saved.push("net", stub.url())
    saved.push("net", stub.url("prod/net:v1"))
    other.pull(stub.url("prod/net:v1"))
    assert same(holdfast.load("net", store=other), net())


@pytest.mark.parametrize("lists", [True, False])
def test_attachments_go_along_as_referrers(stub, store, other, lists):
    stub.lists = lists
    version = holdfast.save(net(), "net", store=store)
    attach(version, "pylock", LOCK)
    assert store.push("net", stub.url()).size > len(LOCK)
    assert store.push("net", stub.url()).size == 0
    other.pull(stub.url())
    assert holdfast.get("net", store=other).attached("pylock") == LOCK
    attach(version, "pylock", LOCK * 2)
    assert store.push("net", stub.url()).size == 2 * len(LOCK)
    third = holdfast.Store.create(other.path.parent / "third")
    third.pull(stub.url())
    assert holdfast.get("net", store=third).attached("pylock") == LOCK * 2
    assert (f"team/net:{digest_of(stub.manifests['team/net:v1'][1]).replace(':', '-')}"
            in stub.manifests) == (not lists)  # fmt: skip


def test_a_damaged_attachment_is_told_and_the_version_is_here(stub, store, other):
    version = holdfast.save(net(), "net", store=store)
    attach(version, "pylock", LOCK)
    store.push("net", stub.url())
    stub.blobs["team/net"][digest_of(LOCK)] = LOCK.upper()
    with pytest.raises(PartlyDone, match="pylock"):
        other.pull(stub.url())
    assert same(holdfast.load("net", store=other), net())
    assert holdfast.get("net", store=other).attached("pylock") is None


def test_what_refers_to_something_else_is_not_attached(stub, store, other):
    version = holdfast.save(net(), "net", store=store)
    attach(version, "pylock", LOCK)
    store.push("net", stub.url())
    subject = digest_of(stub.manifests["team/net:v1"][1])
    name, (kind, data) = next(
        (n, m) for n, m in stub.manifests.items() if b"subject" in m[1] and ":sha256:" in n
    )
    forged = data.replace(subject.encode(), digest_of(b"other").encode())
    stub.manifests[f"team/net:{digest_of(forged)}"] = (kind, forged)
    listed = {"mediaType": kind, "digest": digest_of(forged), "size": len(forged)}
    entry = {**listed, "artifactType": json.loads(data)["artifactType"]}
    entry["annotations"] = json.loads(data)["annotations"]
    stub.before = lambda h: (
        "/referrers/" in h.path
        and (h.say(200, json.dumps({"manifests": [entry]}).encode()) or True)
    )
    with pytest.raises(PartlyDone, match="which it is not"):
        other.pull(stub.url())
    assert holdfast.get("net", store=other).attached("pylock") is None


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"manifests":[{}]}', b"[" * 90_000, b"\xff"])
def test_a_list_of_referrers_that_is_none(stub, store, other, pushed, answer):
    stub.before = lambda h: "/referrers/" in h.path and (h.say(200, answer) or True)
    with pytest.raises(HoldfastError) as caught:
        other.pull(pushed)
    assert caught.value.exit_code in (3, 4, 9)
    assert same(holdfast.load("net", store=other), net())


def test_wrong_bytes_never_become_visible(stub, other, pushed, tmp_path):
    for digest, data in sorted(stub.blobs["team/net"].items()):
        stub.blobs["team/net"][digest] = data[:-1] + bytes([data[-1] ^ 1])
        if json.loads(stub.manifests["team/net:v1"][1])["config"]["digest"] != digest:
            fresh = holdfast.Store.create(tmp_path / digest[-8:])
            with pytest.raises(Corrupt, match="other bytes"):
                fresh.pull(pushed)
            assert fresh.catalogue.names() == []
        stub.blobs["team/net"][digest] = data
    other.pull(pushed)
    assert same(holdfast.load("net", store=other), net())


def test_a_blob_that_is_gone(stub, other, pushed):
    largest = max(stub.blobs["team/net"], key=lambda d: len(stub.blobs["team/net"][d]))
    kept = stub.blobs["team/net"].pop(largest)
    with pytest.raises(RemoteError, match="404"):
        other.pull(pushed)
    assert other.catalogue.names() == []
    stub.blobs["team/net"][largest] = kept
    assert other.pull(pushed).size < sum(map(len, stub.blobs["team/net"].values()))


def test_a_push_heals_what_the_registry_lost(stub, saved, other, pushed):
    largest = max(stub.blobs["team/net"], key=lambda d: len(stub.blobs["team/net"][d]))
    del stub.blobs["team/net"][largest]
    assert saved.push("net", pushed).blobs == 1
    other.pull(pushed)


def test_a_registry_that_forgets_what_it_took(stub, saved):
    def before(handler):
        if handler.command == "PUT" and "/manifests/" in handler.path:
            stub.blobs["team/net"].popitem()
        return False

    stub.before = before
    with pytest.raises(RemoteError, match="does not hold what was sent"):
        saved.push("net", stub.url())


def test_a_blob_that_vanishes_before_the_manifest_is_sent_again(stub, saved, other):
    left = [1]

    def before(handler):
        if handler.command != "PUT" or "/manifests/" not in handler.path or not left:
            return False
        left.pop()
        stub.blobs["team/net"].popitem()
        handler.body()
        handler.error(400, "MANIFEST_BLOB_UNKNOWN")
        return True

    stub.before = before
    saved.push("net", stub.url())
    other.pull(stub.url())
    stub.before = lambda h: "/manifests/" in h.path and h.command == "PUT" and (
        h.body(), h.error(404, "NAME_INVALID")
    )  # fmt: skip
    with pytest.raises(RemoteError, match="404 NAME_INVALID"):
        saved.push("net", stub.url("team/net:v2"))


def test_a_version_that_is_damaged_here_is_not_sent(stub, store, damage):
    damage(holdfast.save(net(), "net", store=store))
    with pytest.raises(Corrupt, match="not what was saved"):
        store.push("net", stub.url())
    assert stub.manifests == {}


def altered(stub, change):
    """Replace the manifest under the tag by one that was changed."""
    kind, data = stub.manifests["team/net:v1"]
    document = json.loads(data)
    change(document)
    stub.manifests["team/net:v1"] = (kind, json.dumps(document).encode())


def _drop_record(document):
    document["layers"] = [x for x in document["layers"] if "record" not in str(x)]


def _swap(document):
    one, two = document["layers"][3:5]
    one["digest"], two["digest"] = two["digest"], one["digest"]


def _grow(document):
    document["layers"][-1]["size"] += 10**15


def _shrink(document):
    document["layers"][1]["size"] -= 1


def _huge(document):
    for layer in document["layers"]:
        layer["size"] = 1 << 50


def _rename(document):
    document["annotations"] = {
        key: "../../etc/passwd" if value == "net" else value
        for key, value in document["annotations"].items()
    }


@pytest.mark.parametrize("change", [_drop_record, _swap, _grow, _shrink, _huge, _rename])
def test_forged_manifests(stub, other, pushed, change):
    altered(stub, change)
    with pytest.raises(HoldfastError) as caught:
        other.pull(pushed)
    assert caught.value.exit_code in (4, 9)
    assert other.catalogue.names() == []
    assert stub.count("GET", "/blobs/") < 10


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"schemaVersion":2}', b"7"]
)
def test_what_is_no_manifest(stub, other, pushed, data):
    stub.manifests["team/net:v1"] = ("application/vnd.oci.image.manifest.v1+json", data or b" ")
    with pytest.raises((Corrupt, UsageError)):
        other.pull(pushed)


def test_an_ordinary_image_is_told_apart(stub, other, pushed):
    image = {
        "schemaVersion": 2, "mediaType": oci.MANIFEST_TYPE, "layers": [],
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
            "digest": digest_of(b"{}"),
        },
    }  # fmt: skip
    stub.manifests["team/net:v1"] = (oci.MANIFEST_TYPE, json.dumps(image).encode())
    with pytest.raises(UsageError, match="something else"):
        other.pull(pushed)


def _files_size(document):
    document["layers"][0]["size"] += 512


def _files_told(document):
    notes = document["annotations"]
    notes["vnd.holdfast.sizes"] = notes["vnd.holdfast.sizes"].replace("=", "=9", 1)


def _files_order(document):
    notes = document["annotations"]
    notes["vnd.holdfast.sizes"] = " ".join(reversed(notes["vnd.holdfast.sizes"].split()))


def _files_words(document):
    document["annotations"]["vnd.holdfast.sizes"] = "sha256:xyz=1 " * 50_000


def _files_two(document):
    document["layers"] *= 2


@pytest.mark.parametrize(
    "change", [_files_size, _files_told, _files_order, _files_words, _files_two]
)
def test_forged_images_of_files(stub, saved, other, change):
    saved.push("net", stub.url(), layout="files")
    altered(stub, change)
    with pytest.raises((Corrupt, RemoteError)):
        other.pull(stub.url())
    assert other.catalogue.names() == []


def test_what_a_registry_cannot_do(stub, saved, other, pushed):
    for asked in (
        lambda: saved.push("net", pushed, history=True),
        lambda: saved.push("net", pushed, aliases=True),
        lambda: saved.push(["net", "net@v1"], pushed),
        lambda: saved.push("net", f"{stub.url('team/net')}@{digest_of(b'')}"),
        lambda: saved.push("net", other, layout="files"),
        lambda: other.pull(pushed, history=True),
        lambda: other.pull([pushed, "a", "b"]),
        lambda: other.pull(pushed, "No Name"),
        lambda: other.pull("net"),
    ):
        with pytest.raises(UsageError):
            asked()
    with pytest.raises(NotFound):
        other.pull(stub.url("team/net:v9"))
    with pytest.raises(NotFound):
        saved.push("absent", pushed)
