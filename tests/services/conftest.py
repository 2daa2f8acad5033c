"""A real server for object storage: OpenStack Swift with its S3 interface, on loopback.

It is installed into ``.venvs/swift`` of this checkout, by the first test that asks for it, and
started on free ports in a folder of its own: four processes, ended with the tests.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venvs" / "swift"
KEY, SECRET = "test:tester", "a-secret-of-the-tests"
STORES = ("account", "container", "object")
FILTERS = ("s3api", "tempauth", "slo")


def installed() -> Path:
    """Return the folder of Swift's programs; skip loudly where it cannot be had."""
    programs = ENVIRONMENT / "bin"
    if (programs / "swift-proxy-server").exists():
        return programs
    surroundings = {key: value for key, value in os.environ.items() if key != "UV_OFFLINE"}
    uv = [sys.executable, "-m", "uv"]
    for words in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(ENVIRONMENT)],
        ["pip", "install", "--quiet", "--python", str(programs / "python"), "swift", "setuptools"],
    ):
        done = subprocess.run(
            uv + words, env=surroundings, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"swift could not be installed: {done.stderr.strip()[-300:]}")
    return programs


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Swift:
    """One node with one device.

    Attributes:
        endpoint: Address of its S3 interface.
    """

    def __init__(self, programs: Path, root: Path) -> None:
        self._programs = programs
        self._root = root
        self._ports = {name: free_port() for name in (*STORES, "proxy")}
        self._running: list[subprocess.Popen[bytes]] = []
        self.endpoint = f"http://127.0.0.1:{self._ports['proxy']}"

    def start(self) -> None:
        (self._root / "device" / "d1").mkdir(parents=True)
        self._write("swift.conf", {
            "swift-hash": {"swift_hash_path_suffix": secrets.token_hex(8)},
            "storage-policy:0": {"name": "one", "default": "yes"},
        })  # fmt: skip
        for name in STORES:
            self._ring(name)
            self._write(f"{name}.conf", {
                "DEFAULT": {
                    **self._usual(name), "devices": self._root / "device",
                    "mount_check": "false", "fallocate_reserve": 0,
                },
                "pipeline:main": {"pipeline": f"{name}-server"},
                f"app:{name}-server": {"use": f"egg:swift#{name}"},
            })  # fmt: skip
        self._write("proxy.conf", {
            "DEFAULT": self._usual("proxy"),
            "pipeline:main": {"pipeline": " ".join([*FILTERS, "proxy-server"])},
            "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "true"},
            "filter:s3api": {"use": "egg:swift#s3api", "location": "us-east-1"},
            "filter:tempauth": {
                "use": "egg:swift#tempauth", "user_test_tester": f"{SECRET} .admin",
            },
            "filter:slo": {"use": "egg:swift#slo"},
        })  # fmt: skip
        for name in (*STORES, "proxy"):
            with (self._root / f"{name}.log").open("wb") as log:
                words = [self._programs / f"swift-{name}-server", self._root / f"{name}.conf"]
                self._running.append(
                    subprocess.Popen(words, stdout=log, stderr=log, env=self._surroundings())
                )
        self._answers()

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(timeout=20)

    def _usual(self, name: str) -> dict[str, Any]:
        return {
            "bind_ip": "127.0.0.1", "bind_port": self._ports[name], "swift_dir": self._root,
            "workers": 0, "log_level": "WARNING", "user": "",
        }  # fmt: skip

    def _surroundings(self) -> dict[str, str]:
        return {**os.environ, "SWIFT_DIR": str(self._root)}

    def _write(self, name: str, sections: dict[str, dict[str, Any]]) -> None:
        lines = [
            line
            for section, values in sections.items()
            for line in (f"[{section}]", *(f"{k} = {v}" for k, v in values.items() if v != ""))
        ]
        (self._root / name).write_text("\n".join(lines) + "\n", "utf-8")

    def _ring(self, name: str) -> None:
        builder = str(self._root / f"{name}.builder")
        device = f"r1z1-127.0.0.1:{self._ports[name]}/d1"
        for words in (["create", "4", "1", "1"], ["add", device, "1"], ["rebalance"]):
            program = self._programs / "swift-ring-builder"
            done = subprocess.run(
                [program, builder, *words],
                env=self._surroundings(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

    def _answers(self) -> None:
        """Wait until it answers, for a minute at most."""
        for _ in range(600):
            with contextlib.suppress(OSError):
                try:
                    urllib.request.urlopen(self.endpoint, timeout=5).close()
                except urllib.error.HTTPError as error:
                    error.close()
                    return
                else:
                    return
            dead = [p for p in self._running if p.poll() is not None]
            assert not dead, "\n".join(f.read_text() for f in self._root.glob("*.log"))
            time.sleep(0.1)
        raise AssertionError("swift does not answer")

    def environment(self) -> dict[str, str]:
        """Return the variables with which a client reaches it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def make_bucket(self) -> str:
        """Make a bucket and return its name."""
        import obstore
        from obstore.store import S3Store

        name = f"bucket-{secrets.token_hex(6)}"
        # Only the bucket itself is asked for: a presigned request for the empty key.
        url = obstore.sign(S3Store(name), "PUT", "", dt.timedelta(minutes=5))
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT")) as answer:
            assert answer.status == 200
        return name

    def bytes_on_disk(self) -> int:
        """Return the bytes of all objects that the server keeps on its device."""
        return sum(file.stat().st_size for file in (self._root / "device").rglob("*.data"))


@pytest.fixture(scope="session", name="swift")
def running_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    server = Swift(installed(), tmp_path_factory.mktemp("swift"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(name="url")
def url_of_a_new_bucket(swift: Swift, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a store to be made, with credentials for it in the environment."""
    for key, value in swift.environment().items():
        monkeypatch.setenv(key, value)
    return f"s3://{swift.make_bucket()}/team/models"


@pytest.fixture(name="machine")
def other_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """Work as on another machine: with caches of its own."""

    @contextlib.contextmanager
    def work(name: str) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setenv("HOLDFAST_CACHE", str(tmp_path / "machines" / name))
            yield

    return work
