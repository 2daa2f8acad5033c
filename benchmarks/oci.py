"""Ten versions of a 403 MB model in a registry, beside one file for each version.

usage: python benchmarks/oci.py [MB] [VERSIONS]   (needs docker-registry; it is started on loopback)

Only one layer of the model changes from version to version. What the server keeps is the size of
the files in its storage folder; what was sent to it is counted on the line between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import httpx
import numpy as np
from safetensors.numpy import save_file

import holdfast


class Line:
    """A line to the server that counts what goes over it."""

    def __init__(self, to):
        self.to, self.sent, self.got = to, 0, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listening.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            for name, ends in (("sent", (near, far)), ("got", (far, near))):
                threading.Thread(target=self.copy, args=(name, *ends), daemon=True).start()

    def copy(self, name, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                target.sendall(data)
                setattr(self, name, getattr(self, name) + len(data))
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def registry(folder):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    config = {
        "version": 0.1, "log": {"level": "error"}, "http": {"addr": f"127.0.0.1:{port}"},
        "storage": {"filesystem": {"rootdirectory": f"{folder}/data"}},
    }  # fmt: skip
    Path(folder, "config.yml").write_text(json.dumps(config))
    words = [shutil.which("docker-registry") or "/usr/bin/docker-registry", "serve"]
    with Path(folder, "log").open("wb") as log:
        running = subprocess.Popen([*words, f"{folder}/config.yml"], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/").close()
                break
            time.sleep(0.05)
        yield Line(port)
    finally:
        running.kill()
        running.wait()


def kept(folder):
    blobs = Path(folder, "data/docker/registry/v2/blobs")
    return sum(file.stat().st_size for file in blobs.rglob("data"))


class Told:
    """Prints what a step cost: time here, bytes on the line, bytes that the server keeps more."""

    def __init__(self, line, folder):
        self.line, self.folder = line, folder

    def step(self, what, act):
        self.line.sent = self.line.got = 0
        before = kept(self.folder)
        wall, cpu = time.perf_counter(), time.process_time()
        result = act()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        more = (kept(self.folder) - before) / 1e6
        sent, got = self.line.sent / 1e6, self.line.got / 1e6
        print(
            f"{what:<44} {wall:7.2f} s {cpu:6.2f} s CPU {sent:8.1f} MB sent {got:8.1f} MB got "
            f"{more:8.1f} MB kept more",
            flush=True,
        )
        return result


def whole_file(line, path):
    """Push one file as one blob in one request, as a client without parts would."""
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    base, size = f"http://{line.host}", {"Content-Length": str(path.stat().st_size)}
    with httpx.Client(timeout=600) as client, path.open("rb") as file:
        location = client.post(f"{base}/v2/plain/net/blobs/uploads/").headers["location"]
        parts = iter(lambda: file.read(1 << 20), b"")
        answer = client.put(f"{location}&digest={digest}", content=parts, headers=size)
        assert answer.status_code == 201


def main():
    layers = max(1, round(float(sys.argv[1] if len(sys.argv) > 1 else 403) / 16.8))
    versions = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    rng = np.random.default_rng(0)
    model = {f"layer{n}": rng.standard_normal((2048, 2048), dtype="f4") for n in range(layers)}
    with tempfile.TemporaryDirectory() as folder, registry(folder) as line:
        os.environ["HOLDFAST_CACHE"] = f"{folder}/cache"
        store = holdfast.Store.create(f"{folder}/store")
        told, file = Told(line, folder), Path(folder, "model.safetensors")
        print(f"{sum(a.nbytes for a in model.values()) / 1e6:.0f} MB in {layers} tensors")
        at = f"oci://{line.host}/team/net"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(1, versions + 1):
            holdfast.save(model, "net", store=store)
            told.step(f"push version {number}", lambda n=number: store.push("net", f"{at}:v{n}"))
            model["layer0"] = model["layer0"] + 1
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
        print(f"{'':<44} {kept(folder) / 1e6:.1f} MB kept for {versions} versions; "
              f"{more / 1024:.0f} MiB of memory more, mapped files included")  # fmt: skip
        told.step("push it again", lambda: store.push("net", f"{at}:v{versions}"))
        told.step("push it to another repository", lambda: store.push("net", f"{at}2:v1"))
        before = kept(folder)
        for number in range(1, min(versions, 3) + 1):
            save_file({**model, "layer0": model["layer0"] + number}, file)
            told.step(f"plain: one file, version {number}", lambda: whole_file(line, file))
        plain = (kept(folder) - before) / min(versions, 3) / 1e6
        print(f"{'':<44} {plain:.1f} MB kept for each version")
        told.step(
            "push as an image with files", lambda: store.push("net", f"{at}3:v1", layout="files")
        )
        there = holdfast.Store.create(f"{folder}/there")
        told.step("pull version 1", lambda: there.pull(f"{at}:v1"))
        told.step("pull the newest", lambda: there.pull(f"{at}:v{versions}"))
        told.step("pull it again", lambda: there.pull(f"{at}:v{versions}"))
        assert holdfast.verify("net", store=there).size > layers * 16e6


if __name__ == "__main__":
    main()
