"""Debian's docker-registry on loopback, the programs that others use with it, and a cut line."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import holdfast

ROOT = Path(__file__).parents[3]
ORAS = ROOT / ".venvs" / "oras"
USER, SECRET = "tester", "a-secret-of-the-tests"
# bcrypt of the secret, as htpasswd writes it
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuot8dXIaTUgJta8Mg5DOO2rLYHXJ.TZG\n"


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/local/bin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Registry:
    """One docker-registry with its storage in a folder.

    Attributes:
        host: Its address.
    """

    def __init__(self, root: Path, auth: dict[str, Any] | None = None) -> None:
        self._root = root
        self._port = free_port()
        self._running: subprocess.Popen[bytes] | None = None
        self.host = f"127.0.0.1:{self._port}"
        root.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(root / "data")}},
            "http": {"addr": self.host},
        }
        if auth is not None:
            config["auth"] = auth
        (root / "config.yml").write_text(json.dumps(config))  # JSON is YAML

    def start(self) -> None:
        with (self._root / "log").open("ab") as log:
            self._running = subprocess.Popen(
                [program("docker-registry"), "serve", str(self._root / "config.yml")],
                stdout=log,
                stderr=log,
            )
        for _ in range(600):
            with contextlib.suppress(OSError):
                try:
                    urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5).close()
                except urllib.error.HTTPError as error:
                    error.close()
                return
            assert self._running.poll() is None, (self._root / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("docker-registry does not answer")

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait(timeout=20)

    def url(self, rest: str, host: str | None = None) -> str:
        return f"oci://{host or self.host}/{rest}"

    def bytes_on_disk(self) -> int:
        """Return the bytes of all blobs and manifests that the server keeps."""
        blobs = self._root / "data" / "docker" / "registry" / "v2" / "blobs"
        return sum(file.stat().st_size for file in blobs.rglob("data"))


class Line:
    """A line to a server that counts what is sent to it and is cut after so many bytes.

    Attributes:
        sent: Bytes that went to the server.
        cuts: Where the next connections are cut, in bytes sent over each.
    """

    def __init__(self, to: str) -> None:
        host, _, port = to.partition(":")
        self._to = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.sent = 0
        self.cuts: list[int] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                far = socket.create_connection(self._to)
                threading.Thread(target=self._up, args=(near, far), daemon=True).start()
                threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        over = 0
        with contextlib.suppress(OSError), near, far:
            while data := near.recv(1 << 16):
                over += len(data)
                with self._lock:
                    is_cut = bool(self.cuts) and over > self.cuts[0]
                    if is_cut:
                        self.cuts.pop(0)
                if is_cut:
                    near.shutdown(socket.SHUT_RDWR)
                    return
                far.sendall(data)
                with self._lock:
                    self.sent += len(data)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(1 << 16):
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)


class TokenServer:
    """Gives tokens to whom it knows, signed with a key whose certificate the registry has.

    Attributes:
        auth: The registry's settings for it.
        scopes: What was asked for.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self._key, certificate = root / "key.pem", root / "certificate.pem"
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t"]
        files = ["-keyout", str(self._key), "-out", str(certificate)]
        subprocess.run([program("openssl"), *words, *files], check=True, capture_output=True)
        lines = certificate.read_text().splitlines()
        self._x5c = "".join(line for line in lines if not line.startswith("-"))
        self.scopes: list[list[str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                basic = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
                if self.headers.get("Authorization") != f"Basic {basic}":
                    self.send_error(401)
                    return
                server.scopes.append(asked.get("scope", []))
                data = json.dumps({"token": server.token(asked.get("scope", []))}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        port = self._server.server_address[1]
        self.auth = {
            "token": {
                "realm": f"http://127.0.0.1:{port}/token",
                "service": "tests",
                "issuer": "tests",
                "rootcertbundle": str(certificate),
            }
        }

    def token(self, scopes: list[str]) -> str:
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": "tests", "sub": USER, "aud": "tests", "iat": now, "nbf": now - 10,
            "exp": now + 300, "jti": str(now), "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self._x5c]}
        text = ".".join(_b64(json.dumps(part).encode()) for part in (head, claims))
        signed = subprocess.run(
            [program("openssl"), "dgst", "-sha256", "-sign", str(self._key)],
            input=text.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{text}.{_b64(signed)}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Start registries; they end with the test."""
    started: list[Registry] = []

    def make(auth: dict[str, Any] | None = None) -> Registry:
        started.append(Registry(tmp_path / f"registry{len(started)}", auth))
        started[-1].start()
        return started[-1]

    yield make
    for registry in started:
        registry.kill()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Registry(tmp_path_factory.mktemp("registry"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def line(registry: Registry) -> Iterator[Line]:
    made = Line(registry.host)
    yield made
    made.close()


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    server = TokenServer(tmp_path / "tokens")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give each test caches and a docker configuration of its own; return the latter's folder."""
    pytest.importorskip("httpx", reason="httpx is not installed")
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker"


@pytest.fixture
def login(surroundings: Path) -> Callable[..., None]:
    def write(host: str, user: str = USER, secret: str = SECRET) -> None:
        packed = base64.b64encode(f"{user}:{secret}".encode()).decode()
        config = {"auths": {host: {"auth": packed}}}
        (surroundings / "config.json").write_text(json.dumps(config))

    return write


@pytest.fixture
def basic(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a registry that knows one user by his password."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    return {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}}


@pytest.fixture
def skopeo() -> Callable[..., str]:
    """Run skopeo and return what it prints."""
    name = program("skopeo")

    def run(*words: object) -> str:
        done = subprocess.run([name, *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def oras() -> Path:
    """Return a Python that has oras, installed once; skip loudly where it cannot be had."""
    python = ORAS / "bin" / "python"
    if (ORAS / "ready").exists():
        return python
    surroundings = {key: value for key, value in os.environ.items() if key != "UV_OFFLINE"}
    uv = [sys.executable, "-m", "uv"]
    for words in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(ORAS)],
        ["pip", "install", "--quiet", "--python", str(python), "oras==0.2.43"],
    ):
        done = subprocess.run(
            uv + words, env=surroundings, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"oras could not be installed: {done.stderr.strip()[-300:]}")
    (ORAS / "ready").touch()
    return python


@pytest.fixture
def mine(tmp_path: Path) -> holdfast.Store:
    return holdfast.Store.create(tmp_path / "mine")


@pytest.fixture
def yours(tmp_path: Path) -> holdfast.Store:
    return holdfast.Store.create(tmp_path / "yours")
