"""A whole store in a bucket: what it costs in requests, and what two machines see of each other."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.api.settings import store_setting
from holdfast.errors import Conflict, NoStore, UsageError
from holdfast.record import digest_of
from holdfast.remote.base import in_parallel


def arrays(n):
    return {f"w{i}": np.full(200_000, i, dtype="f8") for i in range(5)} | {"n": np.full(3, n)}


def test_what_a_save_costs(server, store_at):
    """A request or two for each new blob, one for each known, and a dozen for the log."""
    store = store_at(server)
    store.blobs._bucket.require_create_only()
    server.counts()
    holdfast.save(arrays(1), "net", store=store)
    asked = server.counts()
    assert asked["put"] == 10
    assert asked["head"] <= 14
    assert sum(asked.values()) <= 40
    store = store_at(server)
    store.blobs._bucket.require_create_only()
    server.counts()
    holdfast.save(arrays(2), "net", store=store)
    asked = server.counts()
    assert asked["put"] == 4
    assert sum(asked.values()) <= 36


def test_what_a_load_costs(server, store_at):
    store = store_at(server)
    holdfast.save(arrays(1), "net", store=store)
    cold = store_at(server, "another")
    server.counts()
    holdfast.load("net", store=cold)
    asked = server.counts()
    assert asked["get"] == 10 + 2  # the blobs, the entry of the log, and whether another follows
    assert sum(asked.values()) <= 15
    holdfast.load("net", store=cold)
    assert sum(server.counts().values()) <= 2


def test_two_hundred_names_are_a_list_and_a_few_gets(server, store_at):
    digest = digest_of(b"document")
    catalogue = store_at(server).catalogue
    for n in range(200):
        catalogue.add_version(f"m{n}", record=digest, content=digest, manifest=digest, by="ana")
    cold = store_at(server, "another").catalogue
    server.counts()
    assert len(cold.names()) == 200
    asked = server.counts()
    assert asked["list"] == 1
    assert asked["get"] <= 400
    assert len(cold.names()) == 200
    assert server.counts() == {"list": 1}


def test_many_entries_are_fetched_together(server, store_at):
    digest = digest_of(b"document")
    catalogue = store_at(server).catalogue
    for _ in range(150):
        catalogue.add_version("net", record=digest, content=digest, manifest=digest, by="ana")
    cold = store_at(server, "another").catalogue
    server.counts()
    assert cold.resolve("net", None).number == 150
    assert server.counts()["get"] <= 152


def test_lists_that_lag_behind_hide_no_entry(server, store_at):
    """Where a name ends is asked for, not read off a list: a prune must not miss a version."""
    digest = digest_of(b"document")
    catalogue = store_at(server).catalogue
    for _ in range(70):
        catalogue.add_version("net", record=digest, content=digest, manifest=digest, by="ana")
    server.unlisted = {f"log/net/{n:08}.json" for n in (68, 69, 70)}
    assert len(list(store_at(server, "one").catalogue.live())) == 70
    assert store_at(server, "two").catalogue.resolve("net", None).number == 70
    assert len(store_at(server, "three").catalogue.history("net").entries) == 70
    assert store_at(server, "four").catalogue.names()[0].newest == 70
    info = store_at(server, "five").catalogue.add_version(
        "net", record=digest, content=digest, manifest=digest, by="ben"
    )
    assert info.number == 71


def test_another_machine_sees_it_at_once(server, store_at):
    one, two = store_at(server, "one"), store_at(server, "two")
    for n in range(3):
        holdfast.save(arrays(n), "net", store=(one, two)[n % 2])
        again = store_at(server, f"reader {n}")
        assert holdfast.get("net", store=again).number == n + 1


def test_an_alias_that_moved_is_a_conflict(server, store_at):
    one, two = store_at(server, "one"), store_at(server, "two")
    for n in range(2):
        holdfast.save(arrays(n), "net", store=one)
    holdfast.promote("net@v1", to="prod", store=one)
    before = two.catalogue.history("net").aliases["prod"].version
    holdfast.promote("net@v2", to="prod", store=one)
    fresh = store_at(server, "three")
    with pytest.raises(Conflict):
        fresh.catalogue.set_alias("net", "prod", 1, by="ben", replaced=before)


def test_writers_on_many_machines_lose_nothing(server, store_at):
    stores = [store_at(server, f"machine{n}") for n in range(8)]

    def save(n):
        return holdfast.save({"n": np.full(2, n)}, "team", store=stores[n]).ref

    refs = in_parallel(save, range(8), threads=8)
    assert sorted(refs) == [f"team@v{n}" for n in range(1, 9)]
    for n, ref in enumerate(refs):
        assert (holdfast.load(ref, store=stores[0])["n"] == n).all()


def test_lazy_tensors_fetch_what_is_asked(server, store_at):
    small = {f"s{n:02}": np.full(1000, n) for n in range(30)}
    store = store_at(server)
    holdfast.save(small | {"big": np.ones(300_000)}, "net", store=store)
    far = store_at(server, "another")
    tensors = holdfast.get("net", store=far).tensors()
    names = [name for name in tensors if tensors._views._entries[name].shape == (1000,)]
    server.counts()
    assert tensors[names[3]][0] == tensors[names[3]][-1]
    assert server.counts()["get"] == 2  # one ranged read, and the group when asked again
    assert all((tensors[name] == tensors[name][0]).all() for name in names)
    assert server.counts() == {}


def test_a_ranged_read_is_verified(server, store_at):
    from holdfast.errors import Corrupt

    store = store_at(server)
    version = holdfast.save({f"s{n}": np.arange(999) for n in range(9)}, "net", store=store)
    piece = max(version.manifest.pieces, key=lambda p: p.size)
    far = store_at(server, "another")
    tensors = holdfast.get("net", store=far).tensors()
    data, found = server.objects[f"blobs/sha256/{piece.digest[7:]}"]
    server.objects[f"blobs/sha256/{piece.digest[7:]}"] = (bytes(len(data)), found)
    with pytest.raises(Corrupt, match="not what was saved"):
        tensors[next(iter(tensors))]


def test_a_store_that_is_not_there(server, store_at, monkeypatch, bucket_of):
    from holdfast.api import remotes

    monkeypatch.setattr(remotes, "_bucket", lambda _: bucket_of(server))
    with pytest.raises(NoStore) as caught:
        holdfast.Store("s3://bucket/team")
    assert caught.value.hint == "hold init s3://bucket/team"
    assert server.objects == {}
    assert holdfast.save(arrays(1), "net", store="s3://bucket/team").number == 1


def test_what_needs_a_folder_says_so(server, store_at):
    store = store_at(server)
    with pytest.raises(UsageError, match="not a folder") as caught:
        store.path.exists()
    assert "hold pull" in caught.value.hint
    assert "s3://" in repr(store)


def test_a_remote_store_can_be_the_one_in_force(monkeypatch, tmp_path):
    monkeypatch.setenv("HOLDFAST_STORE", "s3://bucket/team")
    assert store_setting().value == "s3://bucket/team"
    monkeypatch.delenv("HOLDFAST_STORE")
    (tmp_path / "holdfast.toml").write_text('store = "s3://bucket/team"\ncache_size = "1 GB"\n')
    monkeypatch.chdir(tmp_path)
    assert store_setting().value == "s3://bucket/team"
    from holdfast.api.settings import cache_limit

    assert cache_limit() == 10**9


def test_local_work_imports_nothing_of_it(tmp_path):
    holdfast.save({"a": np.arange(3)}, "model", store=tmp_path / "store")
    code = (
        "import sys\n"
        "from holdfast.cli.main import main\n"
        "try:\n"
        "    main(['ls', '--store', sys.argv[1]])\n"
        "except SystemExit:\n"
        "    pass\n"
        "loaded = {'obstore', 'concurrent.futures', 'holdfast.store.objects'} & {*sys.modules}\n"
        "sys.exit(str(loaded) if loaded else 0)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "store")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_worker_gets_copies_of_the_version(server, store_at):
    """It has no network and sees one folder; the folder goes when it ends."""
    from pathlib import Path

    from holdfast.api import load, worker
    from holdfast.environment.child import Start

    x = np.random.default_rng(0).normal(size=(40, 3))
    model = LogisticRegression().fit(x, x[:, 0] > 0)
    store = store_at(server)
    version = holdfast.save(model, "model", inputs=x, store=store)
    with worker._folder(version) as folder:
        start = Start(
            python=Path(sys.executable), beside=None, module=worker._MODULE, sees=(folder,)
        )
        given = {"verify": "auto", "replay": "auto"}
        remote, said = worker.started(version, start, load.options(None, "auto", None), **given)
        assert said["proof"] == "replayed"
        assert (remote.predict(x) == model.predict(x)).all()
        remote.close()
    assert not folder.exists()
