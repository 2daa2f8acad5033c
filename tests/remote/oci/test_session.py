"""Who may see credentials, what is tried again, and where a client is not led to."""

import email.utils
import json
import threading
import time

import pytest

from holdfast.errors import NoSpace, RemoteError
from holdfast.record import digest_of
from holdfast.remote.oci.place import parse_place
from holdfast.remote.oci.registry import Part
from holdfast.remote.oci.session import Session

DATA = bytes(range(256)) * 40
DIGEST = digest_of(DATA)
WHOLE = Part(0, len(DATA), len(DATA))


@pytest.fixture(autouse=True)
def _one_blob(stub):
    stub.blobs["team/net"] = {DIGEST: DATA}


def once(act, when=lambda handler: True):
    """Answer one request in the registry's place."""
    left = [1]

    def before(handler):
        if not left[0] or not when(handler):
            return False
        left[0] -= 1
        act(handler)
        return True

    return before


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_credentials_come_from_dockers_configuration(stub, repository, login, auth):
    stub.auth = auth
    login(stub.host)
    assert repository.read(DIGEST, WHOLE) == DATA
    assert repository.send(digest_of(b"new"), lambda: [b"new"])
    assert stub.blobs["team/net"][digest_of(b"new")] == b"new"


def test_a_token_serves_all_requests_of_a_kind_and_threads_share_it(stub, repository, login):
    stub.auth = "bearer"
    login(stub.host)
    threads = [threading.Thread(target=repository.size, args=(DIGEST,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stub.tokens == 1
    repository.send(digest_of(b"new"), lambda: [b"new"])
    assert stub.tokens == 2


def test_a_token_that_expires_is_renewed_in_the_middle(stub, repository, login):
    stub.auth = "bearer"
    login(stub.host)
    assert repository.size(DIGEST) == len(DATA)
    stub.before = once(
        lambda h: h.error(
            401,
            "UNAUTHORIZED",
            WWW_Authenticate=f'Bearer realm="{stub.realm}",scope="repository:team/net:pull"',
        )
    )
    assert repository.size(DIGEST) == len(DATA)
    assert stub.tokens == 2


def test_an_identity_token_is_exchanged(stub, repository, login, monkeypatch):
    stub.auth = "bearer"
    login(stub.host, identitytoken="refresh-me")
    forms = []

    def before(handler):
        if handler.path != "/token" or handler.command != "POST":
            return False
        forms.append(handler.body().decode())
        handler.say(200, json.dumps({"access_token": "t-repository:team/net:pull"}).encode())
        return True

    stub.before = before
    assert repository.size(DIGEST) == len(DATA)
    assert "refresh_token=refresh-me" in forms[0]
    assert "grant_type=refresh_token" in forms[0]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("known", [False, True])
def test_wrong_or_no_credentials_are_an_error_without_a_loop(stub, repository, login, auth, known):
    stub.auth = auth
    if known:
        login(stub.host, secret="not this one")
    with pytest.raises(RemoteError, match="401 UNAUTHORIZED") as caught:
        repository.read(DIGEST, WHOLE)
    assert len(stub.asked) < 8
    assert caught.value.exit_code == 9
    assert caught.value.hint.startswith("docker login")
    assert "not this one" not in str(caught.value)


def test_credentials_do_not_follow_a_redirection_to_another_host(
    stub, repository, login, other_stub
):
    stub.auth = "basic"
    login(stub.host)
    other_stub.before = lambda h: bool(h.say(200, DATA)) or True
    stub.before = lambda h: (
        "/blobs/" in h.path
        and "Authorization" in h.headers
        and (h.say(307, Location=f"http://{other_stub.host}/somewhere") or True)
    )
    assert repository.read(DIGEST, WHOLE) == DATA
    assert [headers.get("Authorization") for headers in other_stub.seen] == [None]


def test_another_host_is_not_given_credentials_when_it_asks(stub, repository, login, other_stub):
    login(stub.host)
    other_stub.auth = "basic"
    stub.before = lambda h: h.say(307, Location=f"http://{other_stub.host}{h.path}") or True
    with pytest.raises(RemoteError, match="401"):
        repository.read(DIGEST, WHOLE)
    assert all("Authorization" not in headers for headers in other_stub.seen)


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest", "http://10.0.0.7/x", "file:///etc/passwd", "ftp://h.org/x",
        "http://ana:pw@127.0.0.1/", "http://[::1", "https://", "gopher://x", "http://h.org:99999/",
    ],
)  # fmt: skip
def test_a_client_is_not_led_astray(stub, repository, login, to):
    login(stub.host)
    stub.before = lambda h: h.say(307, Location=to) or True
    with pytest.raises(RemoteError, match="does not go there" if to[-1] != "1" else "cut"):
        repository.read(DIGEST, WHOLE)
    stub.before = lambda h: h.say(202, Location=to) or True
    with pytest.raises(RemoteError, match="does not go there"):
        repository.send(digest_of(b"x"), lambda: [b"x"])
    stub.auth, stub.realm, stub.before = "bearer", to, lambda _: False
    with pytest.raises(RemoteError, match="does not go there"):
        repository.size(DIGEST)


def test_redirections_in_circles_end(stub, repository):
    stub.before = lambda h: h.say(302, Location=h.path) or True
    with pytest.raises(RemoteError, match="in circles"):
        repository.read(DIGEST, WHOLE)
    assert len(stub.asked) < 10


def test_a_registry_behind_tls_is_not_asked_in_clear():
    with Session(parse_place("oci://registry.example.org/net:v1")) as session:
        url = session.beside("http://registry.example.org/v2/net/blobs/uploads/1?a=b")
        assert url == "https://registry.example.org/v2/net/blobs/uploads/1?a=b"
        with pytest.raises(RemoteError, match="does not go there"):
            session.beside("http://127.0.0.1/")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_registry_is_asked_again_when_it_says(stub, repository, session, status):
    stub.before = once(lambda h: h.error(status, "TOOMANYREQUESTS", Retry_After="7"))
    assert repository.read(DIGEST, WHOLE) == DATA
    assert session.slept == [7.0]


def test_a_moment_to_wait_for_may_be_a_date(stub, repository, session):
    moment = email.utils.formatdate(time.time() + 20, usegmt=True)
    stub.before = once(lambda h: h.error(429, "TOOMANYREQUESTS", Retry_After=moment))
    assert repository.read(DIGEST, WHOLE) == DATA
    assert 15 < session.slept[0] <= 20


def test_a_registry_that_wants_too_long_a_wait_is_left_alone(stub, repository, session):
    stub.before = lambda h: h.error(429, "TOOMANYREQUESTS", Retry_After="86400") or True
    with pytest.raises(RemoteError, match="86400 seconds"):
        repository.read(DIGEST, WHOLE)
    assert session.slept == []


def test_a_registry_that_stays_busy_is_an_error(stub, repository, session):
    stub.before = lambda h: h.error(503, "UNAVAILABLE", Retry_After="1") or True
    with pytest.raises(RemoteError, match="says 503, though"):
        repository.size(DIGEST)
    assert len(session.slept) == 3


def test_a_server_that_is_not_there(stub, repository, session):
    stub.stop()
    with pytest.raises(RemoteError, match="cannot be reached"):
        repository.size(DIGEST)
    stub.__init__()  # so that the fixture can stop it


def test_what_a_server_says_is_not_repeated(stub, repository):
    stub.before = lambda h: h.error(400, "MANIFEST_INVALID") or True
    with pytest.raises(RemoteError, match="400 MANIFEST_INVALID") as caught:
        repository.manifest("v1")
    assert "horse" not in str(caught.value)


def test_a_web_page_is_recognised(stub, repository):
    page = b"<html>" + b"x" * 10_000_000
    stub.before = lambda h: h.say(418, page, Content_Type="text/html") or True
    with pytest.raises(RemoteError, match="418 with a web page"):
        repository.manifest("v1")


def test_a_full_registry(stub, repository):
    stub.before = lambda h: h.error(507, "FULL") or True
    with pytest.raises(NoSpace):
        repository.send(digest_of(b"x"), lambda: [b"x"])


def endless(handler, *, status=200, chunked=True):
    handler.send_response(status)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")


@pytest.mark.parametrize("status", [200, 418])
def test_an_endless_answer_is_not_read(stub, repository, status):
    stub.before = lambda h: endless(h, status=status) or True
    with pytest.raises(RemoteError):
        repository.manifest("v1")
    with pytest.raises(RemoteError):
        repository.read(DIGEST, WHOLE)


def test_a_compressed_answer_is_not_unpacked(stub, repository):
    stub.before = lambda h: h.say(200, b"x", Content_Encoding="gzip") or True
    with pytest.raises(RemoteError, match="compressed"):
        repository.manifest("v1")


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b"[]", b'{"token":7}', b'{"token":"a\\r\\nHost: evil"}', b"[" * 100_000, b"\xff"],
)
def test_a_token_server_that_sends_no_token(stub, repository, answer):
    stub.auth = "bearer"
    stub.before = lambda h: h.path.startswith("/token") and (h.say(200, answer) or True)
    with pytest.raises(RemoteError, match="gives no token"):
        repository.size(DIGEST)


@pytest.mark.parametrize(
    "raw",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nshort", b"\x00\xff" * 40, b"HTTP/1.1 9",
     b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http(stub, repository, raw):
    def before(handler):
        handler.wfile.write(raw)
        handler.cut()
        return True

    stub.before = before
    with pytest.raises(RemoteError):
        repository.manifest("v1")


def test_a_registry_that_sends_nothing_any_more(stub, repository, monkeypatch):
    """Time runs fast: a minute for each part that comes."""
    monkeypatch.setattr("holdfast.remote.oci.session._WINDOW", -1.0)

    def drip(handler):
        start = int(handler.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        handler.say(206 if start else 200, DATA[start : start + 10],
                    Content_Length=str(len(DATA) - start),
                    Content_Range=f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")  # fmt: skip
        return True

    stub.before = drip
    with pytest.raises(RemoteError, match="almost nothing"):
        repository.read(DIGEST, WHOLE)


def test_the_package_is_asked_for_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(ImportError, match="httpx") as caught:
        Session(parse_place("oci://h.org/net:v1"))
    assert 'pip install "httpx' in caught.value.hint


def test_no_such_manifest(stub, repository):
    assert repository.manifest("v9") is None
    assert repository.size(digest_of(b"none")) is None
