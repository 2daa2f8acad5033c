"""A registry in this process, with every kind of misbehaviour on demand."""

from __future__ import annotations

import base64
import hashlib
import http.server
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import holdfast
from holdfast.remote.oci.place import parse_place
from holdfast.remote.oci.registry import Repository
from holdfast.remote.oci.session import Session

USER, SECRET = "ana", "correct horse"
BASIC = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Stub:
    """A registry with one thread for each connection.

    ``auth`` is None, ``"basic"`` or ``"bearer"``. ``before`` is called with each request's handler
    and says whether it has answered in the registry's place. ``lists`` says whether it keeps lists
    of referrers; ``keeps`` whether it keeps the part of a chunk that arrived before a cut;
    ``ranges`` whether it sends parts of blobs.
    """

    def __init__(self) -> None:
        self.auth: str | None = None
        self.before: Callable[[Any], bool] = lambda _: False
        self.lists, self.keeps, self.ranges = True, True, True
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.numbers = itertools.count()
        self.asked: list[tuple[str, str]] = []
        self.seen: list[dict[str, str]] = []
        self.received = 0
        self.tokens = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.realm = f"http://{self.host}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, rest: str = "team/net:v1") -> str:
        return f"oci://{self.host}/{rest}"

    def count(self, method: str, part: str = "") -> int:
        return sum(m == method and part in path for m, path in self.asked)

    def _handler(stub) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(_Handler):
            registry = stub

        return Handler


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Stub

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError, TimeoutError):
            self.close_connection = True

    def body(self) -> bytes:
        """Read what is sent, as far as it comes."""
        data = bytearray()
        want = int(self.headers.get("Content-Length", 0))
        while len(data) < want:
            part = self.rfile.read(min(1 << 16, want - len(data)))
            if not part:
                break
            data += part
        self.registry.received += len(data)
        return bytes(data)

    def say(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def error(self, status: int, code: str, **headers: str) -> None:
        data = json.dumps({"errors": [{"code": code, "message": f"{SECRET} <b>"}]}).encode()
        self.say(status, data, **headers)

    def cut(self) -> None:
        """End the connection without an answer."""
        self.close_connection = True
        self.connection.close()

    def _run(self) -> None:
        stub = self.registry
        stub.asked.append((self.command, self.path))
        stub.seen.append(dict(self.headers))
        if stub.before(self):
            return
        parts = urlsplit(self.path)
        self.asked_for = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if parts.path == "/token":
            self._token()
        elif self._is_allowed():
            self._answer(parts.path)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _run  # noqa: N815

    def _token(self) -> None:
        self.body()
        if self.headers.get("Authorization") != BASIC:
            self.error(401, "UNAUTHORIZED")
            return
        self.registry.tokens += 1
        self.say(200, json.dumps({"token": f"t-{self.asked_for.get('scope', '')}"}).encode())

    def _is_allowed(self) -> bool:
        stub, given = self.registry, self.headers.get("Authorization")
        if stub.auth is None or (stub.auth == "basic" and given == BASIC):
            return True
        repository = re.search(r"/v2/(.*?)/(blobs|manifests|referrers)/", self.path)
        name = repository.group(1) if repository else ""
        scope = f"repository:{name}:{'pull' if self.command in ('GET', 'HEAD') else 'pull,push'}"
        if stub.auth == "bearer" and given == f"Bearer t-{scope}":
            return True
        if self.command in ("PUT", "PATCH", "POST"):
            self.body()
        way = 'Basic realm="here"'
        if stub.auth == "bearer":
            way = f'Bearer realm="{stub.realm}",service="stub",scope="{scope}"'
        self.error(401, "UNAUTHORIZED", WWW_Authenticate=way)
        return False

    def _answer(self, path: str) -> None:
        for pattern, act in (
            (r"/v2/(.+)/blobs/uploads/([^/]*)", self._upload),
            (r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", self._blob),
            (r"/v2/(.+)/manifests/(.+)", self._manifest),
            (r"/v2/(.+)/referrers/(.+)", self._referrers),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                act(*found.groups())
                return
        self.error(404, "NAME_UNKNOWN")

    def _upload(self, repository: str, identifier: str) -> None:
        stub = self.registry
        blobs = stub.blobs.setdefault(repository, {})
        location = f"/v2/{repository}/blobs/uploads/"
        if self.command == "POST":
            digest = self.asked_for.get("mount", "")
            data = stub.blobs.get(self.asked_for.get("from", ""), {}).get(digest)
            if data is not None:
                blobs[digest] = data
                self.say(201, Location=f"/v2/{repository}/blobs/{digest}")
                return
            identifier = str(next(stub.numbers))
            stub.uploads[identifier] = bytearray()
            self.say(202, Location=f"{location}{identifier}?state=x", Range="0-0")
            return
        held = stub.uploads.get(identifier)
        if held is None:
            self.error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command in ("PATCH", "PUT"):
            wanted, data = int(self.headers["Content-Length"]), self.body()
            if len(data) < wanted and not stub.keeps:
                del stub.uploads[identifier]
            held += data
            if len(data) < wanted:
                self.cut()
                return
        if self.command == "PUT":
            digest = self.asked_for["digest"]
            if digest_of(bytes(held)) != digest:
                self.error(400, "DIGEST_INVALID")
                return
            blobs[digest] = bytes(stub.uploads.pop(identifier))
            self.say(201, Docker_Content_Digest=digest)
            return
        status = 202 if self.command == "PATCH" else 204
        self.say(status, Location=self.path, Range=f"0-{max(len(held) - 1, 0)}")

    def _blob(self, repository: str, digest: str) -> None:
        data = self.registry.blobs.get(repository, {}).get(digest)
        if data is None:
            self.error(404, "BLOB_UNKNOWN")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and self.registry.ranges and self.command == "GET":
            start, end = int(asked[1]), int(asked[2]) + 1
            where = f"bytes {start}-{end - 1}/{len(data)}"
            self.say(206, data[start:end], Content_Range=where)
            return
        self.say(200, data, Content_Length=str(len(data)), Docker_Content_Digest=digest)

    def _manifest(self, repository: str, reference: str) -> None:
        stub = self.registry
        if self.command == "PUT":
            data, kind = self.body(), self.headers["Content-Type"]
            for name in (reference, digest_of(data)):
                stub.manifests[f"{repository}:{name}"] = (kind, data)
            subject = json.loads(data).get("subject")
            more = {"OCI_Subject": subject["digest"]} if subject and stub.lists else {}
            self.say(201, Docker_Content_Digest=digest_of(data), **more)
            return
        kind, data = stub.manifests.get(f"{repository}:{reference}", ("", b""))
        if not data:
            self.error(404, "MANIFEST_UNKNOWN")
            return
        self.say(200, data, Content_Type=kind, Docker_Content_Digest=digest_of(data))

    def _referrers(self, repository: str, digest: str) -> None:
        if not self.registry.lists:
            self.say(404, b"404 page not found\n", Content_Type="text/plain")
            return
        found = []
        for name, (kind, data) in self.registry.manifests.items():
            said = json.loads(data)
            if (
                name == f"{repository}:{digest_of(data)}"
                and said.get("subject", {}).get("digest") == digest
            ):
                entry = {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
                entry["artifactType"] = said["artifactType"]
                found.append({**entry, "annotations": said.get("annotations", {})})
        self.say(200, json.dumps({"schemaVersion": 2, "manifests": found}).encode())


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Run a registry; docker's configuration is empty, and caches are the test's own."""
    pytest.importorskip("httpx", reason="httpx is not installed")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    registry = Stub()
    try:
        yield registry
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def new_stub() -> type[Stub]:
    """Return what makes another registry."""
    pytest.importorskip("httpx", reason="httpx is not installed")
    return Stub


@pytest.fixture
def other_stub() -> Iterator[Stub]:
    registry = Stub()
    try:
        yield registry
    finally:
        registry.stop()


@pytest.fixture
def login(tmp_path: Path) -> Callable[..., None]:
    """Write docker's configuration."""

    def write(host: str, user: str = USER, secret: str = SECRET, **more: Any) -> None:
        packed = base64.b64encode(f"{user}:{secret}".encode()).decode()
        (tmp_path / "docker").mkdir(exist_ok=True)
        config = {"auths": {host: {"auth": packed, **more}}}
        (tmp_path / "docker" / "config.json").write_text(json.dumps(config))

    return write


@pytest.fixture
def session(stub: Stub) -> Iterator[Session]:
    """Connections to the registry that never wait; ``slept`` lists what they would have."""
    slept: list[float] = []
    with Session(parse_place(stub.url()), sleep=slept.append) as made:
        made.slept = slept  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def repository(stub: Stub, session: Session) -> Repository:
    return Repository(session, parse_place(stub.url()))


@pytest.fixture
def store(tmp_path: Path) -> holdfast.Store:
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> holdfast.Store:
    return holdfast.Store.create(tmp_path / "other")
