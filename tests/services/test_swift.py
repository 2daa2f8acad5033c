"""Stores in a bucket of a real server."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast.api import remotes
from holdfast.api.compacting import compact
from holdfast.api.history import forget
from holdfast.api.housekeeping import prune
from holdfast.catalogue.bucket import BucketLog
from holdfast.errors import NoStore, RemoteError
from holdfast.record import Digest, digest_hex, digest_of
from holdfast.remote.requests import ObstoreRequests
from holdfast.store.cache import BlobCache
from holdfast.store.objects import ObjectStore
from holdfast.testing.coding import CodingConformance
from holdfast.testing.logs import LogConformance
from holdfast.testing.stores import StoreConformance

pytestmark = pytest.mark.service


class TestStore(StoreConformance):
    @pytest.fixture
    def store(self, url, tmp_path):
        return ObjectStore.create(remotes._bucket(url), BlobCache(tmp_path, 1 << 30))

    @pytest.fixture
    def damage(self, url, store):
        def flip(digest: Digest) -> None:
            bucket, key = remotes._bucket(url), f"blobs/sha256/{digest_hex(digest)}"
            data = bytearray(bucket.get(key)[0])
            data[-1] ^= 1
            bucket.put(key, bytes(data))
            store.renew(digest)

        return flip


class TestCoding(CodingConformance):
    @pytest.fixture
    def store(self, url, tmp_path):
        return ObjectStore.create(remotes._bucket(url), BlobCache(tmp_path, 1 << 30))

    @pytest.fixture
    def lose(self, url):
        return lambda d: remotes._bucket(url).delete([f"coded/sha256/{digest_hex(d)}"])


class TestLog(LogConformance):
    @pytest.fixture
    def log(self, url):
        return BucketLog(remotes._bucket(url))


def net(seed=0, layers=6):
    rng = np.random.default_rng(seed)
    return {f"layer{n}": rng.standard_normal((512, 512)) for n in range(layers)}


@pytest.fixture(name="hold")
def command_line(tmp_path):
    """Run the command line in a folder of its own, since ``init`` writes beside where it is."""

    def run(*words, **surroundings):
        return subprocess.run(
            [sys.executable, "-m", "holdfast.cli.main", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, **surroundings},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_saved_here_and_loaded_there(url, machine):
    model = net()
    with machine("ana's"):
        version = holdfast.save(model, "net", store=url)
        holdfast.promote(version.ref, to="prod", store=url)
    with machine("ben's"):
        assert same(holdfast.load("net@prod", store=url), model)
        assert holdfast.verify("net", store=url).size > 12_000_000
        assert [m.name for m in holdfast.Store(url).catalogue.names()] == ["net"]


def test_the_second_version_sends_one_layer(url, swift):
    model = net()
    holdfast.save(model, "net", store=url)
    before = swift.bytes_on_disk()
    model["layer3"] = model["layer3"] + 1
    holdfast.save(model, "net", store=url)
    sent = swift.bytes_on_disk() - before
    assert model["layer3"].nbytes <= sent <= model["layer3"].nbytes + 20_000


def test_a_push_of_the_second_version_sends_one_layer(url, swift, tmp_path):
    model = net()
    store = holdfast.Store.create(tmp_path / "store")
    holdfast.save(model, "net", store=store)
    store.push("net", url)
    before = swift.bytes_on_disk()
    model["layer3"] = model["layer3"] + 1
    holdfast.save(model, "net", store=store)
    done = store.push("net", url)
    sent = swift.bytes_on_disk() - before
    assert model["layer3"].nbytes <= sent <= model["layer3"].nbytes + 20_000
    assert done.versions == [("net@v2", "net@v2", True)]


def test_fine_tunes_go_and_come_as_differences(url, swift, machine, tmp_path):
    """The bytes that the server keeps are those that the folder keeps."""
    near = holdfast.Store.create(tmp_path / "near")
    base = net(layers=2)
    models = [
        {k: (v * (1 + step * 1e-6)).astype("f4") for k, v in base.items()} for step in range(4)
    ]
    for model in models:
        holdfast.save(model, "net", store=near)
    compact(keep=0, store=near)
    before = swift.bytes_on_disk()
    done = near.push("net", url, history=True)
    occupied = swift.bytes_on_disk() - before
    assert done.size <= occupied < done.size + 20_000
    assert done.size < 0.7 * 4 * sum(v.nbytes for v in models[0].values())
    with machine("ben's"):
        assert all(same(holdfast.load(f"net@v{n}", store=url), m) for n, m in enumerate(models, 1))
        forget(["net@v1", "net@v3"], store=url)
        assert prune(grace=0, store=url).blobs > 0
        back = holdfast.Store.create(tmp_path / "back")
        back.pull(["net@v2", "net@v4"], url)
        assert len(back.blobs.bases()) == 2
        assert same(holdfast.load("net", store=back), models[3])
    with machine("cleo's"):
        assert same(holdfast.load("net@v2", store=url), models[1])
        holdfast.verify("net@v4", store=url)


def test_a_bucket_can_be_copied_into_a_folder(url, tmp_path):
    """What ``aws s3 sync`` would leave is a valid store, in both directions."""
    model = net(layers=2)
    holdfast.save(model, "net", store=url)
    bucket = remotes._bucket(url)
    for folder in ("blobs", "log"):
        for found in list(bucket.list(folder)):
            place = tmp_path / "copy" / found.key
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bucket.get(found.key)[0])
    (tmp_path / "copy" / "tmp").mkdir()
    (tmp_path / "copy" / "store.json").write_bytes(bucket.get("store.json")[0])
    assert same(holdfast.load("net", store=tmp_path / "copy"), model)


def test_a_folder_can_be_copied_into_a_bucket(url, tmp_path):
    model = net(layers=2)
    holdfast.save(model, "net", store=tmp_path / "store")
    bucket = remotes._bucket(url)
    for file in (tmp_path / "store").rglob("*"):
        if file.is_file():
            bucket.put(file.relative_to(tmp_path / "store").as_posix(), file.read_bytes())
    assert same(holdfast.load("net", store=url), model)
    assert holdfast.save(model, "net", store=url).ref == "net@v2"


def test_twenty_writers_lose_nothing(url, tmp_path):
    """Twenty processes save at once: twenty versions, dense numbers, each as it was saved."""
    holdfast.Store.create(url)
    code = (
        "import sys, numpy as np, holdfast\n"
        "n = int(sys.argv[2])\n"
        "print(holdfast.save({'n': np.full(4, n)}, 'team', store=sys.argv[1]).ref)\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, str(n)],
            env={**os.environ, "HOLDFAST_CACHE": str(tmp_path / f"cache{n}")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(20)
    ]
    told = {}
    for n, process in enumerate(running):
        out, err = process.communicate()
        assert process.returncode == 0, err
        told[out.strip()] = n
    assert sorted(told) == sorted(f"team@v{n}" for n in range(1, 21))
    for ref, n in told.items():
        assert (holdfast.load(ref, store=url)["n"] == n).all()
    holdfast.Store(url).catalogue.check_chain("team")


def test_a_push_that_is_killed_three_times_goes_on(url, tmp_path, hold):
    """Each cut leaves the far end whole, and what has arrived is not sent again."""
    store = holdfast.Store.create(tmp_path / "store")
    model = {f"layer{n}": np.random.default_rng(n).standard_normal((512, 256)) for n in range(48)}
    holdfast.save(model, "net", store=store)
    holdfast.Store.create(url)
    bucket = remotes._bucket(url)
    words = [sys.executable, "-m", "holdfast.cli.main", "push", "net", url, "--store", store.url]
    arrived = [0]
    for _ in range(3):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and count(bucket) < arrived[-1] + 8:
            time.sleep(0.05)
        assert process.poll() is None, "it was faster than the test"
        process.send_signal(signal.SIGKILL)
        process.wait()
        arrived.append(count(bucket))
        assert holdfast.Store(url).catalogue.names() == []
    assert arrived == sorted(set(arrived))
    done = hold("push", "net", url, "--store", store.url, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    needed = len(list(store.blobs.list()))
    assert needed - told["blobs"] >= arrived[-1] - 1
    assert told["versions"] == [{"ref": "net@v1", "there": "net@v1", "new": True}]
    assert same(holdfast.load("net", store=url), model)


def count(bucket):
    return sum(1 for _ in bucket.list("blobs"))


def test_forgotten_bytes_are_freed_by_the_second_prune(url, hold):
    holdfast.save(net(0, 2), "net", store=url)
    holdfast.save(net(1, 2), "net", store=url)
    assert hold("forget", "net@v1", "--store", url).returncode == 0
    told = json.loads(hold("prune", "--store", url, "--json").stdout)
    assert (told["blobs"], told["young"] > 2) == (0, True)
    told = json.loads(hold("prune", "--store", url, "--grace", "0", "--json").stdout)
    assert told["freed"] > 4_000_000
    assert holdfast.verify("net@v2", store=url).blobs == 6


def test_one_tensor_is_one_ranged_read(url, machine, monkeypatch):
    model = {f"small{n}": np.full(1000, n) for n in range(20)} | {"big": np.ones((512, 512))}
    holdfast.save(model, "net", store=url)
    asked = []
    real = ObstoreRequests.get

    def counted(self, key, start=0, end=None):
        got = real(self, key, start, end)
        asked.append(0 if got is None else len(got[0]))
        return got

    monkeypatch.setattr(ObstoreRequests, "get", counted)
    with machine("another"):
        tensors = holdfast.get("net", store=url).tensors()
        names = sorted(tensors)
        asked.clear()
        value = tensors[names[-1]]
        assert (value == value[0]).all()
        assert asked == [8000]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses these credentials"),
        ({"AWS_ACCESS_KEY_ID": "test:nobody"}, "refuses these credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"AWS_ALLOW_HTTP": "false"}, "sends everything in clear"),
    ],
)
def test_what_the_server_refuses_is_said(url, changed, words, hold):
    holdfast.Store.create(url)
    done = hold("ls", "--store", url, **changed)
    assert done.returncode == 9
    assert words in done.stderr
    assert done.stderr.count("Try: ") == 1
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    assert "Signature" not in done.stderr.replace("SignatureDoesNotMatch", "")


def test_no_bucket_and_no_store(url):
    with pytest.raises(NoStore):
        holdfast.Store(url)
    with pytest.raises(RemoteError, match="There is no bucket nobody-made-this"):
        holdfast.Store("s3://nobody-made-this/models")


def test_the_command_line_knows_what_to_do(url, tmp_path, hold):
    """From a folder to a bucket and into another folder, with history, by commands alone."""
    here, there = tmp_path / "here", tmp_path / "there"
    for n in range(2):
        holdfast.save(net(n, 2), "net", store=here)
    holdfast.promote("net@v1", to="prod", store=here)
    assert hold("init", url, "--store", here).returncode == 0
    assert (tmp_path / "holdfast.toml").read_text() == f'store = "{url}"\n'
    dry = hold("push", "net", url, "--store", here, "--history", "--dry-run", "--json")
    assert json.loads(dry.stdout)["size"] > 8_000_000
    assert holdfast.Store(url).catalogue.names() == []
    assert hold("push", "net", url, "--store", here, "--history").returncode == 0
    assert hold("pull", "net", url, "--store", there, "--history").returncode == 0
    logs = [sorted(p.read_bytes() for p in Path(s, "log/net").iterdir()) for s in (here, there)]
    assert logs[0] == logs[1]
    assert hold("verify", "net@prod", "--store", there).returncode == 0


class CutWire:
    """Stands between a client and the server, and hangs up after so many bytes of one direction."""

    def __init__(self, endpoint, most, *, down=False):
        self._down = down
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._server, self._left = (host, int(port)), most
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._left <= 0:
                near.close()
                continue
            far = socket.create_connection(self._server)
            for one, two, counts in ((near, far, not self._down), (far, near, self._down)):
                threading.Thread(target=self._pass, args=(one, two, counts), daemon=True).start()

    def _pass(self, one, two, counts):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if counts:
                    self._left -= len(data)
                if self._left <= 0:
                    break
                two.sendall(data)
        for end in (one, two):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self._listening.close()


@pytest.mark.parametrize("most", [30_000, 1_000_000, 9_000_000])
def test_a_line_that_is_cut_in_the_middle_of_a_blob(url, swift, tmp_path, most, hold):
    """Exit status 9, nothing half is visible, and the next push goes on."""
    store = holdfast.Store.create(tmp_path / "store")
    model = net()
    holdfast.save(model, "net", store=store)
    holdfast.Store.create(url)
    wire = CutWire(swift.endpoint, most)
    try:
        done = hold("push", "net", url, "--store", store.url, AWS_ENDPOINT_URL=wire.endpoint)
    finally:
        wire.close()
    assert done.returncode == 9, done.stderr
    assert "What was sent before is kept" in done.stderr
    assert holdfast.Store(url).catalogue.names() == []
    bucket = remotes._bucket(url)
    for found in bucket.list("blobs"):
        assert digest_of(bucket.get(found.key)[0])[7:] == found.key.rpartition("/")[2]
    assert hold("push", "net", url, "--store", store.url).returncode == 0
    assert same(holdfast.load("net", store=url), model)


def test_a_line_that_is_cut_in_the_middle_of_a_load(url, swift, machine, monkeypatch):
    model = net()
    holdfast.save(model, "net", store=url)
    with machine("another"):
        wire = CutWire(swift.endpoint, 5_000_000, down=True)
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", wire.endpoint)
            with pytest.raises(RemoteError):
                holdfast.load("net", store=url)
        wire.close()
        assert same(holdfast.load("net", store=url), model)
