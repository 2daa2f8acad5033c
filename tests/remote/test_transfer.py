"""Versions between stores: only what is missing, the entry last, the same again is nothing."""

import json
import shutil
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.api.attachments import attach
from holdfast.api.compacting import compact
from holdfast.api.history import forget, pin, tag
from holdfast.api.housekeeping import prune
from holdfast.cli.main import cli, main
from holdfast.errors import (
    Conflict,
    Corrupt,
    NotFound,
    PartlyDone,
    RemoteError,
    Unsupported,
    UsageError,
)


def arrays(n, m=0):
    return {"a": np.full(200_000, n, dtype="f8"), "b": np.full(200_000, m, dtype="f8")}


@pytest.fixture(scope="module", name="series")
def store_with_three_versions(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("series") / "store")
    for n in range(1, 4):
        holdfast.save(arrays(n), "net", store=store, metrics={"n": n})
    return store.path


@pytest.fixture(name="near")
def own_copy(series, tmp_path):
    return holdfast.Store(shutil.copytree(series, tmp_path / "near"))


@pytest.fixture(name="far", params=["folder", "bucket"])
def other_store(request, tmp_path, server, store_at):
    if request.param == "folder":
        return holdfast.Store.create(tmp_path / "far")
    return store_at(server)


def values(store, ref):
    return holdfast.load(ref, store=store)["a"][0]


def test_a_version_arrives_whole(near, far):
    done = near.push("net@v2", far)
    assert done.versions == [("net@v2", "net@v1", True)]
    assert values(far, "net@v1") == 2
    assert holdfast.get("net@v1", store=far).record == holdfast.get("net@v2", store=near).record
    assert holdfast.verify("net", store=far).size == done.size


def test_the_same_again_sends_nothing(near, far):
    near.push(["net@v1", "net@v3"], far)
    again = near.push(["net@v1", "net@v3", "net"], far)
    assert (again.blobs, again.size) == (0, 0)
    assert again.versions == [("net@v1", "net@v1", False), ("net@v3", "net@v2", False)]
    assert [v.number for v in holdfast.versions("net", store=far)] == [1, 2]


def test_what_is_shared_is_not_sent(near, far):
    near.push("net@v1", far)
    done = near.push("net@v2", far)
    assert 1_600_000 < done.size < 1_700_000
    assert done.shared > 1_600_000


def test_a_number_that_is_taken_there_is_left_alone(near, far):
    holdfast.save(arrays(9), "net", store=far)
    done = near.push("net@v1", far)
    assert done.versions == [("net@v1", "net@v2", True)]
    assert (values(far, "net@v1"), values(far, "net@v2")) == (9, 1)


def test_aliases_come_when_asked(near, far):
    holdfast.promote("net@v2", to="prod", store=near)
    near.push("net@v2", far)
    assert holdfast.get("net", store=far).aliases == ()
    done = near.push("net@prod", far, aliases=True)
    assert done.aliases == ["prod = net@v1"]
    assert holdfast.get("net@prod", store=far).number == 1
    entries = len(holdfast.log("net", store=far))
    near.push("net@prod", far, aliases=True)
    assert len(holdfast.log("net", store=far)) == entries


def test_history_is_the_same_log(near, far):
    holdfast.promote("net@v1", to="prod", store=near)
    tag("net@v2", {"kind": "best"}, store=near)
    pin("net@v3", reason="law", store=near)
    near.push("net", far, history=True)
    logs = [list(s.catalogue.log.read_from("net", 1)) for s in (near, far)]
    assert logs[0] == logs[1]
    assert [values(far, f"net@v{n}") for n in (1, 2, 3)] == [1, 2, 3]
    holdfast.promote("net@v3", to="prod", store=near)
    holdfast.save(arrays(4), "net", store=near)
    done = near.push("net", far, history=True)
    assert [v.new for v in done.versions] == [False, False, False, True]
    assert holdfast.get("net@prod", store=far).number == 3
    assert near.push("net", far, history=True).blobs == 0


def test_history_goes_without_what_was_forgotten_and_freed(near, far):
    forget(["net@v1"], store=near)
    from holdfast.api.housekeeping import prune

    prune(grace=0, store=near)
    near.push("net", far, history=True)
    assert [v.number for v in holdfast.versions("net", store=far)] == [2, 3]
    far.catalogue.check_chain("net")
    assert holdfast.save(arrays(5), "net", store=far).number == 4


def test_histories_that_have_parted_are_not_joined(near, far):
    near.push("net", far, history=True)
    holdfast.save(arrays(7), "net", store=far)
    before = list(far.catalogue.log.read_from("net", 1))
    assert near.push("net", far, history=True).versions[-1] == ("net@v3", "net@v3", False)
    holdfast.save(arrays(8), "net", store=near)
    with pytest.raises(Conflict, match="from entry 4 on"):
        near.push("net", far, history=True)
    assert list(far.catalogue.log.read_from("net", 1)) == before


def test_a_dry_run_writes_nothing(near, far, server):
    before = dict(server.objects)
    done = near.push(["net@v1", "net@v2"], far, dry_run=True)
    assert done.versions == [("net@v1", None, True), ("net@v2", None, True)]
    assert done.size > 4_800_000
    assert far.catalogue.names() == []
    assert dict(server.objects) == before
    assert near.push(["net@v1", "net@v2"], far).size == done.size


def test_a_dry_run_makes_no_store(near, tmp_path):
    done = near.push("net", tmp_path / "nowhere", dry_run=True)
    assert done.size > 3_200_000
    assert not (tmp_path / "nowhere").exists()


def test_back_again(near, far, tmp_path):
    near.push("net@v3", far)
    back = holdfast.Store.create(tmp_path / "back")
    done = back.pull("net", far)
    assert done.versions == [("net@v1", "net@v1", True)]
    assert values(back, "net") == 3
    record = holdfast.get("net", store=back).record_id
    assert record == holdfast.get("net@v3", store=near).record_id


def test_from_bucket_to_bucket(near, make_server, store_at):
    one = store_at(make_server(), "one")
    two = store_at(make_server(), "two")
    near.push("net", one, history=True)
    one.push("net", two, history=True)
    assert values(two, "net@v2") == 2


def test_a_model_that_answers_still_does(server, store_at, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    model = LogisticRegression().fit(x, x[:, 0] > 0)
    near = holdfast.Store.create(tmp_path / "near")
    holdfast.save(model, "model", inputs=x, store=near)
    far = store_at(server)
    near.push("model", far)
    assert holdfast.verify("model", store=far).proof == "replayed"


def test_damage_at_the_source_is_told_and_does_not_spread(near, far):
    version = holdfast.get("net@v2", store=near)
    piece = max(version.manifest.pieces, key=lambda p: p.size)
    file = near.path / "blobs" / "sha256" / piece.digest[7:]
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    with pytest.raises(Corrupt, match=str(near.path)):
        near.push("net@v2", far)
    assert far.catalogue.names() == []
    assert not far.blobs.has(piece.digest)


def test_a_half_blob_at_the_far_end_is_sent_again(near, far, server):
    version = holdfast.get("net@v2", store=near)
    piece = max(version.manifest.pieces, key=lambda p: p.size)
    if "://" in far.url:
        server.put(f"blobs/sha256/{piece.digest[7:]}", b"half")
    else:
        (far.path / "blobs" / "sha256" / piece.digest[7:]).write_bytes(b"half")
    near.push("net@v2", far)
    assert values(far, "net") == 2


def test_some_and_not_others(near, far):
    with pytest.raises(PartlyDone, match="1 of 3 are at"):
        near.push(["net@v1", "nope", "net@v9"], far)
    assert values(far, "net@v1") == 1
    with pytest.raises(NotFound):
        near.push("nope", far)
    with pytest.raises(UsageError):
        near.push("net@", far)


@pytest.mark.parametrize("verb", ["put", "head", "get", "create", "list"])
def test_a_server_that_dies_at_any_request(near, server, store_at, verb):
    """The push fails with a RemoteError, nothing half is visible, and the next goes on."""
    at, sent = 0, []
    while True:
        seen = [0]

        def dies(asked, _, seen=seen, at=at):
            if asked == verb:
                seen[0] += 1
                if seen[0] > at:
                    raise RemoteError("the server is gone")

        far = store_at(server, f"machine{at}")
        far.blobs._bucket.require_create_only()
        server.before = dies
        try:
            near.push("net@v1", far)
        except RemoteError:
            server.before = lambda *_: None
            for model in store_at(server, "reader").catalogue.names():
                assert holdfast.verify("net", store=store_at(server, "reader")), model
        else:
            server.before = lambda *_: None
            break
        at += 1 if verb in ("put", "create") else 3
        sent.append(sum(key.startswith("blobs/") for key in server.objects))
    assert sent == sorted(sent)
    assert len(sent) > 0
    assert [v.number for v in holdfast.versions("net", store=far)] == [1]
    assert values(far, "net") == 1


def test_an_answer_that_is_lost_is_not_a_second_version(near, server, store_at):
    """The server writes the entry, and the answer is lost; the retry finds its own entry."""
    far = store_at(server)
    far.blobs._bucket.require_create_only()
    real, lost = server.create, []

    def create(key, data):
        made = real(key, data)
        if key.startswith("log/") and not lost:
            lost.append(key)
            return None  # as obstore says after it asked again and found the object there
        return made

    far.blobs._bucket._requests.create = create
    near.push("net@v1", far)
    assert lost
    assert [v.number for v in holdfast.versions("net", store=far)] == [1]


def test_two_pushes_of_one_version_are_one_version(near, server, store_at):
    from holdfast.remote.base import in_parallel

    ends = [store_at(server, f"machine{n}") for n in range(6)]
    done = in_parallel(lambda far: near.push("net@v2", far), ends)
    assert {item.versions[0].there for item in done} == {"net@v1"}
    assert [v.number for v in holdfast.versions("net", store=ends[0])] == [1]


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_commands_say_what_went_where(near, tmp_path):
    far = tmp_path / "far"
    dry = run("push", "net", far, "--store", near.path, "--dry-run")
    assert dry.output.startswith("Would send 3.2 MB in 6 blobs to ")
    done = run("push", "net", far, "--store", near.path)
    assert "net@v3 is net@v1 there\n" in done.output
    again = run("push", "net", far, "--store", near.path, "--json")
    told = json.loads(again.output)
    assert told["versions"] == [{"ref": "net@v3", "there": "net@v1", "new": False}]
    assert told["schema_version"] == 1
    assert run("pull", "net", far, "--store", near.path, "-q").output == "net@v3\n"


def test_partly_done_is_exit_status_three(near, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hold"])
    with pytest.raises(SystemExit) as caught:
        main(["push", "net", "nope", str(tmp_path / "far"), "--store", str(near.path)])
    assert caught.value.code == PartlyDone.exit_code == 3
    told = capsys.readouterr()
    assert "net@v3 is net@v1 there" in told.out
    assert "1 of 2" in told.err
    assert f"Try: hold push nope {tmp_path / 'far'} --store {near.path}" in told.err
    with pytest.raises(SystemExit):
        main(["pull", "net", "nope", str(near.path), "--store", str(tmp_path / "far")])
    assert f"Try: hold pull nope {near.path} --store {tmp_path / 'far'}" in capsys.readouterr().err


def test_what_is_compacted_arrives_coded(near, far):
    compact(keep=0, store=near)
    kept = {blob.digest: blob.stored for blob in near.blobs.list()}
    done = near.push("net", far, history=True)
    assert {blob.digest: blob.stored for blob in far.blobs.list()} == kept
    assert done.size == sum(kept.values())
    assert [values(far, f"net@v{n}") for n in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize("history", [False, True])
def test_what_is_attached_goes_along_and_what_is_there_stays(near, far, history):
    attach(holdfast.get("net@v3", store=near), "pylock", b"a lock")
    near.push("net", far, history=history)
    there = holdfast.get("net", store=far)
    assert there.attached("pylock") == b"a lock"
    holdfast.verify("net", store=far)
    entries = there.store.catalogue.history("net").seq
    near.push("net", far, history=history)
    attach(holdfast.get("net@v3", store=near), "pylock", b"another")
    near.push("net@v3", far)
    assert holdfast.get("net", store=far).attached("pylock") == b"a lock"
    assert there.store.catalogue.history("net").seq == entries


def test_checks_are_kept_in_the_store_that_was_verified(near, far):
    near.push("net", far)
    version = holdfast.get("net", store=far)
    assert version.store.checks.of(version.record_id).checks == {}
    holdfast.verify("net", store=far)
    (check,) = version.store.checks.of(version.record_id).checks.values()
    assert check.outcome == "state only"
    assert list(far._checks.records()) == [version.record_id]
    forget(["net@v1"], store=far)
    prune(store=far)
    assert list(far._checks.records()) == []


def test_a_bucket_is_not_compacted(server, store_at):
    with pytest.raises(Unsupported, match="not a folder") as caught:
        compact(store=store_at(server))
    assert caught.value.hint.startswith("hold compact --store ./models && hold push NAME s3://")
