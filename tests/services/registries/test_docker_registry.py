"""Versions in a real registry, and what skopeo and oras make of them."""

import json
import os
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load, load_file

import holdfast
from holdfast.api.attachments import attach
from holdfast.archive import oci
from holdfast.errors import RemoteError
from holdfast.record import digest_of
from holdfast.remote.oci import uploads

pytestmark = pytest.mark.service

MIB = 1 << 20


def net(layers=6, side=512):
    rng = np.random.default_rng(0)
    return {f"layer{n}": rng.standard_normal((side, side)) for n in range(layers)}


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("layout", ["blobs", "files"])
def test_there_and_back(registry, mine, yours, layout):
    saved = holdfast.save(net(), "net", store=mine, metrics={"auc": 0.9})
    url = registry.url(f"{layout}/net:v1")
    done = mine.push("net", url, layout=layout)
    yours.pull(done.versions[0].there)
    back = holdfast.get("net", store=yours)
    assert (back.record_id, back.content_id) == (saved.record_id, saved.content_id)
    assert same(holdfast.load("net", store=yours), net())


def test_the_second_version_sends_one_layer(registry, line, mine):
    model = {name: array + 0.5 for name, array in net().items()}  # no other test's blobs
    at = registry.bytes_on_disk()
    holdfast.save(model, "net", store=mine)
    mine.push("net", registry.url("two/net:v1", line.host))
    first, before, line.sent = registry.bytes_on_disk() - at, registry.bytes_on_disk(), 0
    model["layer3"] = model["layer3"] + 1
    holdfast.save(model, "net", store=mine)
    mine.push("net", registry.url("two/net:v2", line.host))
    kept, sent = registry.bytes_on_disk() - before, line.sent
    assert first > 6 * model["layer3"].nbytes
    for count in (kept, sent):
        assert model["layer3"].nbytes <= count <= model["layer3"].nbytes + 30_000
    line.sent = 0
    mine.push("net", registry.url("two/net:v2", line.host))
    assert line.sent < 10_000  # questions only
    line.sent = 0
    mine.push("net", registry.url("else/net:v2", line.host))  # mounted
    assert line.sent < 30_000


def test_an_upload_survives_three_cuts(registry, line, mine, yours, monkeypatch):
    """This registry forgets an upload whose chunk was cut: that blob begins anew."""
    monkeypatch.setattr(uploads, "_CHUNK", 4 * MIB)
    model = {"big": np.random.default_rng(1).standard_normal((2048, 2048))}  # 32 MiB
    holdfast.save(model, "net", store=mine)
    line.cuts = [10 * MIB, 20 * MIB, 6 * MIB]
    mine.push("net", registry.url("cut/net:v1", line.host))
    assert line.cuts == []
    yours.pull(registry.url("cut/net:v1"))
    assert same(holdfast.load("net", store=yours), model)


def test_a_registry_that_dies_in_the_middle(start, mine, yours, monkeypatch):
    registry = start()
    holdfast.save(net(16), "net", store=mine)
    real, sent = uploads.upload, []

    def upload(*words, **named):
        if len(sent) == 12:
            registry.kill()
        sent.append(1)
        return real(*words, **named)

    monkeypatch.setattr("holdfast.remote.oci.registry.upload", upload)
    with pytest.raises(RemoteError, match="What has come over is kept"):
        mine.push("net", registry.url("net:v1"))
    with pytest.raises(RemoteError, match="cannot be reached"):
        yours.pull(registry.url("net:v1"))
    registry.start()
    again = mine.push("net", registry.url("net:v1"))
    assert again.shared >= 2 * net(1)["layer0"].nbytes
    yours.pull(registry.url("net:v1"))
    assert same(holdfast.load("net", store=yours), net(16))


def hold(tmp_path, *words):
    return subprocess.run(
        [sys.executable, "-c", "from holdfast.cli.main import main; main()", *map(str, words)],
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_password_from_dockers_configuration(start, basic, login, mine, yours, tmp_path):
    registry = start(basic)
    holdfast.save(net(2), "net", store=mine)
    url = registry.url("team/net:v1")
    login(registry.host)
    sent = hold(tmp_path, "push", "net", url, "--store", mine.path)
    assert (sent.returncode, sent.stderr) == (0, "")
    got = hold(tmp_path, "pull", url, "other", "-q", "--store", yours.path)
    assert got.stdout == "other@v1\n"
    login(registry.host, secret="another-secret")
    refused = hold(tmp_path, "pull", url, "--store", yours.path)
    assert refused.returncode == 9
    assert "401 UNAUTHORIZED" in refused.stderr
    assert "another-secret" not in refused.stderr + refused.stdout


def test_tokens(start, tokens, login, mine, yours):
    registry = start(tokens.auth)
    login(registry.host)
    holdfast.save(net(2), "net", store=mine)
    mine.push("net", registry.url("team/net:v1"))
    mine.push("net", registry.url("prod/net:v1"))
    yours.pull(registry.url("prod/net:v1"))
    assert same(holdfast.load("net", store=yours), net(2))
    assert ["repository:team/net:pull,push"] in [sorted(s) for s in tokens.scopes]
    login(registry.host, secret="another-secret")
    with pytest.raises(RemoteError, match="refuses these credentials"):
        yours.pull(registry.url("team/net:v1"))


def test_attachments_without_a_list_of_referrers(registry, mine, yours):
    """docker-registry 2.8 keeps no such list: a tag stands for it."""
    version = holdfast.save(net(1), "net", store=mine)
    attach(version, "pylock", b"a lock")
    mine.push("net", registry.url("locked/net:v1"))
    attach(version, "pylock", b"another lock")
    holdfast.verify("net", store=mine)
    assert mine.push("net", registry.url("locked/net:v1")).checks == 1
    assert yours.pull(registry.url("locked/net:v1")).checks == 1
    assert holdfast.get("net", store=yours).attached("pylock") == b"another lock"
    (check,) = yours.checks.of(version.record_id).heard.values()
    assert check.heard == registry.url("locked/net")


def test_pieces_in_groups(registry, mine, yours, monkeypatch):
    monkeypatch.setattr(oci, "_MOST_PIECES", 4)
    model = {f"{part}.{n}": net(1)["layer0"] + n for part in "abc" for n in range(4)}
    holdfast.save(model, "net", store=mine)
    sent = mine.push("net", registry.url("groups/net:v1"))
    assert sent.blobs < 12
    yours.pull(registry.url("groups/net:v1"))
    assert same(holdfast.load("net", store=yours), model)


def test_many_push_at_the_same_time(registry, mine, yours):
    holdfast.save(net(4), "net", store=mine)
    failed = []

    def push(number):
        try:
            mine.push("net", registry.url(f"crowd/net:v{number}"))
        except Exception as error:  # noqa: BLE001 - reported below
            failed.append(error)

    threads = [threading.Thread(target=push, args=(n % 3,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number in range(3):
        yours.pull(registry.url(f"crowd/net:v{number}"))
    assert [info.number for info in yours.catalogue.live()] == [1]


def test_skopeo_copies_what_was_pushed(registry, skopeo, mine, yours, tmp_path):
    version = holdfast.save(net(3), "net", store=mine)
    mine.push("net", registry.url("sk/net:v1"))
    at = f"docker://{registry.host}/sk/net"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"{at}:v1")
    assert json.loads(raw)["artifactType"] == oci.ARTIFACT_TYPE
    skopeo("copy", "--src-tls-verify=false", f"{at}:v1", f"oci:{tmp_path / 'layout'}:v1")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:v1", f"{at}:copy")
    yours.pull(registry.url("sk/net:copy"))
    assert holdfast.get("net", store=yours).record_id == version.record_id
    weights = b"".join(
        (tmp_path / "layout" / "blobs" / "sha256" / layer["digest"][7:]).read_bytes()
        for layer in json.loads(raw)["layers"]
        if layer["annotations"]["org.cncf.model.filepath"].startswith("weights/")
    )
    assert any(np.array_equal(array, net(3)["layer2"]) for array in load(weights).values())


def test_skopeo_gives_an_image_with_ordinary_files(registry, skopeo, mine, tmp_path):
    version = holdfast.save(net(3), "net", store=mine)
    mine.push("net", registry.url("image/net:v1"), layout="files")
    at = f"docker://{registry.host}/image/net:v1"
    skopeo("copy", "--src-tls-verify=false", at, f"dir:{tmp_path / 'image'}")
    about = json.loads(skopeo("inspect", "--tls-verify=false", at))
    (layer,) = about["Layers"]
    with tarfile.open(tmp_path / "image" / layer[7:]) as tar:
        tar.extractall(tmp_path / "root", filter="data")
    models = tmp_path / "root" / "models"
    found = load_file(models / "model.safetensors")
    assert any(np.array_equal(array, net(3)["layer1"]) for array in found.values())
    assert digest_of((models / "record.json").read_bytes()) == version.record_id
    config = json.loads(skopeo("inspect", "--config", "--tls-verify=false", at))
    assert config["rootfs"]["diff_ids"] == [layer]


def test_oras_pulls_the_files(registry, oras, mine, tmp_path):
    version = holdfast.save(net(3), "net", store=mine)
    mine.push("net", registry.url("files/oras:v1"))
    script = (
        "import sys, oras.client; c = oras.client.OrasClient(insecure=True, tls_verify=False)\n"
        "print(c.pull(target=sys.argv[1], outdir=sys.argv[2]))"
    )
    done = subprocess.run(
        [oras, "-c", script, f"{registry.host}/files/oras:v1", str(tmp_path / "out")],
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = (tmp_path / "out" / "record.json").read_bytes()
    assert digest_of(record) == version.record_id
    pieces = sorted((tmp_path / "out" / "weights").iterdir())
    found = load(b"".join(piece.read_bytes() for piece in pieces))
    assert any(np.array_equal(array, net(3)["layer0"]) for array in found.values())


def test_a_push_that_is_killed_goes_on(registry, line, mine, tmp_path):
    model = net(24, side=724)  # 24 times 4 MiB
    holdfast.save(model, "net", store=mine)
    url = registry.url("killed/net:v1", line.host)
    words = [sys.executable, "-c", "from holdfast.cli.main import main; main()"]
    running = subprocess.Popen([*words, "push", "net", url, "--store", str(mine.path)])
    while line.sent < 30 * MIB and running.poll() is None:
        time.sleep(0.002)
    running.kill()
    running.wait()
    done = mine.push("net", url)
    assert done.shared >= 4 * model["layer0"].nbytes
    assert line.sent < 1.3 * sum(array.nbytes for array in model.values())


def test_a_bundle_that_skopeo_copied_is_what_a_push_makes(registry, skopeo, mine, yours, tmp_path):
    version = holdfast.save(net(2), "net", store=mine)
    mine.bundle("net", tmp_path / "net.hold")
    archive = f"oci-archive:{tmp_path / 'net.hold'}:net@v1"
    skopeo("copy", "--dest-tls-verify=false", archive, f"docker://{registry.host}/bundle/net:v1")
    again = mine.push("net", registry.url("bundle/net:v1"))
    assert (again.size, again.versions[0].new) == (0, False)
    packed = holdfast.Store(tmp_path / "net.hold")
    assert packed.push("net", registry.url("bundle/net:v1")).versions[0].new is False
    yours.pull(registry.url("bundle/net:v1"))
    assert holdfast.get("net", store=yours).record_id == version.record_id
