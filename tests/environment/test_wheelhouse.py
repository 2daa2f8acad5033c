"""Wheels are fetched from where uv says, into a folder, and are those of the lock or none."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from holdfast.environment import wheelhouse
from holdfast.environment.plan import Plan
from holdfast.errors import EnvironmentMismatch

NUMPY = "numpy-1.24.3-py3-none-any.whl"
BYTES = b"a wheel, as far as anybody looks"


def sha(data):
    return hashlib.sha256(data).hexdigest()


SHA = sha(BYTES)


def locked(name, place, digest):
    return (
        f'[[packages]]\nname = "{name}"\nversion = "1.24.3"\n'
        f'wheels = [{{ {place}, hashes = {{ sha256 = "{digest}" }} }}]\n'
    ).encode()


@pytest.fixture(name="fetch")
def make_fetch(tmp_path, monkeypatch):
    """Return what fetches one wheel; uv is made up, the rest is true."""
    source, folder = tmp_path / "index", tmp_path / "wheels"
    source.mkdir()
    folder.mkdir()
    (source / NUMPY).write_bytes(BYTES)
    beside = "msgspec-1.0-py3-none-any.whl"
    (source / beside).write_bytes(b"another")

    def fetch(place=None, *, lock=SHA):
        url = place if place is not None else f'url = "{(source / NUMPY).as_uri()}"'
        near = f'url = "{(source / beside).as_uri()}"'

        def compiled(requirements, *_, words):
            assert ("--no-deps" in words) == (requirements != ("numpy==1.24.3",))
            if "--no-deps" in words:
                return locked("msgspec", near, sha(b"another"))
            return locked("numpy", url, SHA)

        monkeypatch.setattr(wheelhouse, "compiled", compiled)
        pins = (f"numpy==1.24.3 --hash=sha256:{lock}",)
        wheelhouse.fetch(Plan(("numpy==1.24.3",), "3.11", None, pins), folder, tmp_path / "cache")

    fetch.source, fetch.folder = source, folder
    return fetch


def test_wheels_and_their_sums(fetch):
    fetch()
    assert (fetch.folder / NUMPY).read_bytes() == BYTES
    done = wheelhouse.listed(fetch.folder)
    assert done.wheels == ("msgspec-1.0-py3-none-any.whl", NUMPY)
    assert done.size == len(BYTES) + 7
    sums = (fetch.folder / "SHA256SUMS").read_text("utf-8")
    assert f"{sha(BYTES)}  {NUMPY}\n" in sums
    assert len(list(fetch.folder.iterdir())) == 3


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(fetch):
    fetch()
    (fetch.source / NUMPY).unlink()
    fetch()
    (fetch.folder / NUMPY).write_bytes(b"damaged")
    with pytest.raises(EnvironmentMismatch, match=f"{NUMPY} cannot be fetched") as raised:
        fetch()
    assert raised.value.hint == f"put {NUMPY} into {fetch.folder}, then run it again"
    (fetch.folder / NUMPY).write_bytes(BYTES)
    fetch()


def test_other_bytes_than_the_lock_says_are_not_taken(fetch):
    with pytest.raises(EnvironmentMismatch, match="with other bytes than its lock") as raised:
        fetch(lock="0" * 64)
    assert raised.value.hint.startswith("hold env lock REF")
    assert list(fetch.folder.iterdir()) == []


def test_bytes_that_change_on_the_way_are_not_taken(fetch):
    (fetch.source / NUMPY).write_bytes(BYTES + b"!")
    with pytest.raises(EnvironmentMismatch, match="arrived with other bytes"):
        fetch()
    assert list(fetch.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ('url = "https://127.0.0.1:9/numpy-1.24.3-py3-none-any.whl"', "cannot be fetched"),
        ('url = "ftp://example.org/numpy-1.24.3-py3-none-any.whl"', "none of a wheel"),
        ('url = "https://example.org/numpy-1.24.3.tar.gz"', "none of a wheel"),
        ('url = "https://example.org/scipy-1.24.3-py3-none-any.whl"', "none of a wheel"),
        (f'url = "https://example.org/{quote("../../evil.whl", safe="")}"', "none of a wheel"),
        ('url = "https://[/numpy-1.24.3-py3-none-any.whl"', "none of a wheel"),
        ("size = 7", "none of a wheel"),
    ],
)
def test_places_that_are_none(fetch, place, told):
    with pytest.raises(EnvironmentMismatch, match=told):
        fetch(place)
    assert list(fetch.folder.iterdir()) == []


class Answer(BaseHTTPRequestHandler):
    """A server that says more than it sends, or hangs up, or finds nothing."""

    def do_GET(self):
        how = self.path.split("/")[1]
        if how == "nothing":
            self.send_error(404)
        elif how != "hangs":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BYTES)))
            self.end_headers()
            self.wfile.write(BYTES[: -1 if how == "short" else None])

    def log_message(self, *_):
        pass


@pytest.fixture(name="server")
def make_server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("how", ["short", "hangs", "nothing"])
def test_a_server_that_fails_leaves_nothing(fetch, server, monkeypatch, how):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(EnvironmentMismatch, match=r"cannot be fetched|arrived with other"):
        fetch(f'url = "{server}/{how}/{NUMPY}"')
    assert list(fetch.folder.iterdir()) == []
    fetch(f'url = "{server}/sound/{NUMPY}"')
    assert (fetch.folder / NUMPY).read_bytes() == BYTES


def test_a_folder_of_the_users_own_is_an_index_too(fetch, tmp_path):
    fetch(f'path = "{tmp_path / "index" / NUMPY}"')
    assert (fetch.folder / NUMPY).read_bytes() == BYTES
