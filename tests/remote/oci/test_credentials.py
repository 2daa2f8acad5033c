import json
import os
import stat

import pytest

from holdfast.errors import RemoteError
from holdfast.remote.oci.challenge import Challenge, best_challenge
from holdfast.remote.oci.credentials import Credentials, credentials_for


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(value):
        text = value if isinstance(value, str) else json.dumps(value)
        (tmp_path / "config.json").write_text(text)

    return write


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Put a credential helper on the path."""

    def write(script):
        program = tmp_path / "bin" / "docker-credential-mine"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return write


def test_without_configuration_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    assert credentials_for("h.org") is None


def test_entries_as_docker_and_others_write_them(config):
    config({"auths": {
        "h.org:5000": {"auth": "YW5hOmI6Yw=="},
        "https://https.org": {"username": "ana", "password": "x"},
        "https://index.docker.io/v1/": {"auth": "YW5hOng="},
        "token.org": {"auth": "YW5hOng=", "identitytoken": "tok"},
        "odd.org": {"auth": "%%%"}, "empty.org": {}, "wrong.org": 7,
    }})  # fmt: skip
    assert credentials_for("h.org:5000") == ("ana", "b:c")
    assert credentials_for("https.org") == ("ana", "x")
    assert credentials_for("docker.io") == ("ana", "x")
    assert credentials_for("token.org").is_token
    assert [credentials_for(h) for h in ("odd.org", "empty.org", "wrong.org", "h.org")] == [
        None
    ] * 4


def test_secrets_are_not_shown():
    assert "hush" not in repr(Credentials("ana", "hush")) + str([Credentials("ana", "hush")])


def test_a_helper_is_asked_for_the_registry(config, helper):
    config({"credHelpers": {"h.org": "mine"}})
    helper("""read key; [ "$key$1" = h.orgget ] && echo '{"Username":"ana","Secret":"s"}'""")
    assert credentials_for("h.org") == ("ana", "s")
    assert credentials_for("other.org") is None


def test_a_store_of_all_gives_way_to_entries(config, helper):
    config({"credsStore": "mine", "auths": {"h.org": {"auth": "YW5hOng="}}})
    helper("echo 'credentials not found in native keychain'; exit 1")
    assert credentials_for("h.org") == ("ana", "x")
    helper("""echo '{"Username":"<token>","Secret":"s"}'""")
    assert credentials_for("h.org").is_token


@pytest.mark.parametrize(
    "script", ["exit 3", "echo hush", """echo '{"Username":7}'""", "echo '[]'"]
)
def test_a_helper_that_fails_is_told_without_its_words(config, helper, script):
    config({"credsStore": "mine"})
    helper(script)
    with pytest.raises(RemoteError, match="docker-credential-mine") as caught:
        credentials_for("h.org")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["../evil", "a b", "absent-program"])
def test_what_is_no_helper(config, name):
    config({"credsStore": name})
    with pytest.raises(RemoteError):
        credentials_for("h.org")


@pytest.mark.parametrize("text", ["{", "[]", "7", "[" * 100_000])
def test_a_damaged_configuration(config, text):
    config(text)
    with pytest.raises(RemoteError, match=r"config\.json"):
        credentials_for("h.org")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Bearer realm="https://a/t",service="s",scope="repository:n:pull,push"'],
         Challenge("bearer", "https://a/t", "s", "repository:n:pull,push")),
        (['Basic realm="x, y", Bearer realm=https://a'], Challenge("bearer", "https://a")),
        (["basic realm=x", 'BEARER Realm="https://a"'], Challenge("bearer", "https://a")),
        (['Basic realm="Bearer realm=https://evil"'],
         Challenge("basic", "Bearer realm=https://evil")),
        (["Negotiate", 'Basic realm="a\\"b"'], Challenge("basic", 'a"b')),
        (["Negotiate abc=="], None), ([""], None), (['=,="' * 50_000], None), ([], None),
        (['Bearer service="s"'], None),
    ],
)  # fmt: skip
def test_challenges(headers, expected):
    assert best_challenge(headers) == expected
