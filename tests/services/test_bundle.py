"""Programs that know nothing of Holdfast: skopeo, a registry and oras read what a bundle holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import holdfast

pytestmark = pytest.mark.service

ORAS = Path(__file__).parents[2] / ".venvs" / "oras"
MODEL = {f"layer.{k}.weight": np.random.default_rng(k).normal(size=1 << 18) for k in range(3)}


def program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(name="skopeo")
def skopeo_program():
    return program("skopeo")


@pytest.fixture(name="oras", scope="module")
def oras_python():
    """The Python client, in an environment of its own in this checkout."""
    python = ORAS / "bin" / "python"
    surroundings = {key: value for key, value in os.environ.items() if key != "UV_OFFLINE"}
    for words in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(ORAS)],
        ["pip", "install", "--quiet", "--python", str(python), "oras>=0.2.40"],
    ):
        uv = [sys.executable, "-m", "uv", *words]
        done = subprocess.run(uv, env=surroundings, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"oras could not be installed: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(name="registry", scope="module")
def running_registry(tmp_path_factory):
    """Debian's registry on a free port, without TLS."""
    command, root = program("docker-registry"), tmp_path_factory.mktemp("registry")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{one.getsockname()[1]}"
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\n"
        f"storage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: {host}}}\n"
    )
    with (root / "log").open("wb") as log:
        running = subprocess.Popen([command, "serve", str(config)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{host}/v2/", timeout=2)
                break
            time.sleep(0.1)
        yield host
    finally:
        running.terminate()
        running.wait(10)


@pytest.fixture(name="store", scope="module")
def filled_store(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("s") / "store")
    holdfast.save(MODEL, "churn", store=store)
    holdfast.save({**MODEL, "layer.2.weight": MODEL["layer.2.weight"] + 1}, "churn", store=store)
    return store


@pytest.fixture(name="file", scope="module")
def one_bundle(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("b") / "churn.hold"
    store.bundle(["churn@v1", "churn@v2"], path)
    return path


def test_skopeo_copies_a_version_out_and_back(store, file, skopeo, tmp_path):
    raw = run(skopeo, "inspect", "--raw", f"oci-archive:{file}:churn@v2")
    assert '"artifactType":"application/vnd.cncf.model.manifest.v1+json"' in raw
    run(skopeo, "copy", f"oci-archive:{file}:churn@v2", f"oci:{tmp_path}/layout:latest")
    for blob in (tmp_path / "layout" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    run(skopeo, "copy", f"oci:{tmp_path}/layout:latest", f"oci-archive:{tmp_path}/back.hold")
    back = holdfast.get(str(tmp_path / "back.hold"))
    assert back.record_id == holdfast.get("churn@v2", store=store).record_id
    assert (back.load()["layer.2.weight"] == MODEL["layer.2.weight"] + 1).all()
    to = holdfast.Store.create(tmp_path / "to")
    assert to.unbundle(tmp_path / "back.hold").versions[0].there == "churn@v1"


def test_a_bundle_with_its_history_is_one_image_to_skopeo(store, skopeo, tmp_path):
    only = holdfast.Store.create(tmp_path / "only")
    only.pull("churn@v1", store)
    only.bundle("churn", tmp_path / "h.hold", history=True)
    run(skopeo, "copy", f"oci-archive:{tmp_path}/h.hold", f"oci:{tmp_path}/layout:latest")


def test_a_registry_takes_it_and_oras_pulls_files(file, skopeo, registry, oras, tmp_path):
    target = f"docker://{registry}/team/churn:v1"
    run(skopeo, "copy", "--dest-tls-verify=false", f"oci-archive:{file}:churn@v1", target)
    code = (
        "import sys, oras.client\n"
        "client = oras.client.OrasClient(insecure=True)\n"
        "client.pull(target=sys.argv[1], outdir=sys.argv[2])\n"
    )
    run(oras, "-c", code, f"{registry}/team/churn:v1", tmp_path)
    pieces = sorted((tmp_path / "weights").iterdir())
    whole = tmp_path / "model.safetensors"
    whole.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    found = load_file(whole)
    assert found.keys() == MODEL.keys()
    assert all((found[name] == value).all() for name, value in MODEL.items())
    assert (tmp_path / "record.json").is_file()


def test_tar_and_sha256sum_check_it(file, tmp_path):
    run("tar", "-xf", file, "-C", tmp_path)
    script = 'for f in *; do echo "$f  $f"; done | sha256sum --check --quiet'
    run("sh", "-c", f"cd {tmp_path}/blobs/sha256 && {script}")
