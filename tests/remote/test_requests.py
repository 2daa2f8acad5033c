"""URLs, and what servers refuse, in words that hold no secret."""

import time

import pytest

from holdfast.errors import NoSpace, RemoteError, UsageError
from holdfast.remote.base import in_parallel
from holdfast.remote.requests import check_url, refusal

ANSWER = (
    "Generic S3 error: Error performing GET http://127.0.0.1:8085/b/k in 12ms - Server returned "
    "non-2xx status code: {status}: <?xml version='1.0'?><Error><Code>{code}</Code><Message>no"
    "</Message><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><StringToSign>SECRETSIGN</StringToSign>"
)
URL = "s3://bucket/models"


@pytest.mark.parametrize("url", [URL, "gs://a-b.c/d/e", "az://box", "s3://bucket/"])
def test_urls_of_stores(url):
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///x", "ftp://host/x", "s3://bucket/a/../b", "s3://bucket//a", "s3://b?x=1",
     "s3://b/a#b", "s3://bucket/a\nb", "http://bucket/x", "s3://b/./c"],
)  # fmt: skip
def test_other_urls_are_refused(url):
    with pytest.raises(UsageError):
        check_url(url)


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(UsageError) as caught:
        check_url("s3://key:hunter2@bucket/models")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("403 Forbidden", "SignatureDoesNotMatch", "refuses these credentials"),
        ("403 Forbidden", "AccessDenied", "refuses these credentials"),
        ("400 Bad Request", "ExpiredToken", "have expired"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock is off"),
        ("404 Not Found", "NoSuchBucket", "There is no bucket bucket"),
        ("503 Service Unavailable", "SlowDown", "503 SlowDown"),
        ("500 Internal Server Error", "InternalError", "500 InternalError"),
    ],
)
def test_answers_in_words(status, code, words):
    error = refusal(URL, "GenericError", ANSWER.format(status=status, code=code))
    assert isinstance(error, RemoteError)
    assert error.exit_code == 9
    assert words in error.message
    assert "SECRET" not in str(error)
    assert "AKIA" not in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("error sending request: Connection refused", "cannot be reached"),
        ("HTTP error: operation timed out", "does not answer in time"),
        ("http://169.254.169.254/latest/api/token", "no credentials"),
        ("HTTP error: builder error ... BadScheme", "in clear"),
    ],
)
def test_no_answers_in_words(text, words):
    assert words in refusal(URL, "GenericError", text).message


def test_a_full_bucket_is_a_lack_of_space():
    for status, code in (("413 Too Large", "QuotaExceeded"), ("507 Insufficient Storage", "X")):
        error = refusal(URL, "GenericError", ANSWER.format(status=status, code=code))
        assert isinstance(error, NoSpace)


@pytest.mark.parametrize("url", [URL, "gs://bucket/models", "az://box/models"])
def test_each_kind_is_opened_through_obstore(url, monkeypatch):
    pytest.importorskip("obstore", reason="obstore is not installed")
    from holdfast.remote.requests import ObstoreRequests

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert ObstoreRequests(url).url == url


def test_settings_that_cannot_be_used_are_not_repeated(monkeypatch):
    pytest.importorskip("obstore", reason="obstore is not installed")
    from holdfast.remote.requests import ObstoreRequests

    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "hunter2")
    with pytest.raises(RemoteError, match="settings in the environment") as caught:
        ObstoreRequests("az://box/models")
    assert "hunter2" not in str(caught.value)


def test_without_obstore_it_is_said_what_to_install(monkeypatch):
    import sys

    from holdfast.errors import MissingExtra
    from holdfast.remote.requests import ObstoreRequests

    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match="obstore") as caught:
        ObstoreRequests(URL)
    assert "pip install" in caught.value.hint


def test_in_parallel_keeps_order_and_stops_at_a_failure():
    assert in_parallel(lambda n: n * n, range(40)) == [n * n for n in range(40)]
    done = []

    def fails(n):
        done.append(n)
        if n == 2:
            raise ZeroDivisionError
        if n > 2:
            time.sleep(0.02)  # all of them would take ten seconds

    with pytest.raises(ZeroDivisionError):
        in_parallel(fails, range(1000), threads=2)
    assert len(done) < 1000
