import pytest

from holdfast.errors import UsageError
from holdfast.remote.oci.place import is_place, parse_place

HEX = "a" * 64


@pytest.mark.parametrize(
    ("url", "host", "repository", "tag", "plain"),
    [
        ("oci://ghcr.io/team/net:v1", "ghcr.io", "team/net", "v1", False),
        ("oci://R.org:5000/a/b__c/d-e.f:V_1.x-2", "r.org:5000", "a/b__c/d-e.f", "V_1.x-2", False),
        ("oci://localhost:5000/net:v1", "localhost:5000", "net", "v1", True),
        ("oci://127.8.9.1/net:v1", "127.8.9.1", "net", "v1", True),
        ("oci://[::1]:5000/net:v1", "[::1]:5000", "net", "v1", True),
        ("oci+http://registry.lan/net:v1", "registry.lan", "net", "v1", True),
        ("oci://localhost.evil.org/net:v1", "localhost.evil.org", "net", "v1", False),
        (f"oci://h.org/net@sha256:{HEX}", "h.org", "net", None, False),
    ],
)  # fmt: skip
def test_places(url, host, repository, tag, plain):
    place = parse_place(url)
    assert (*place[:3], place.plain) == (host, repository, tag, plain)
    assert parse_place(str(place)) == place


@pytest.mark.parametrize(
    "url",
    [
        "oci://ghcr.io/team/net", "oci://ghcr.io/Team/net:v1", "oci://ghcr.io/../net:v1",
        "oci://ghcr.io/team//net:v1", "oci://ghcr.io/net:", f"oci://h.org/net:{'t' * 129}",
        "oci://h.org/net@sha256:abc", "oci:///net:v1", "oci://h.org/net:v1?x=1", "oci://-h/net:v1",
        "oci://h.org:123456/net:v1", "oci://h.org/net:v1\n", f"oci://h.org/{'a/' * 1000}b:v1",
        "oci:\\h.org/net:v1",
    ],
)  # fmt: skip
def test_what_is_no_place(url):
    with pytest.raises(UsageError):
        parse_place(url)


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(UsageError) as caught:
        parse_place("oci://ana:secret@h.org/net:v1")
    assert "secret" not in str(caught.value)


def test_what_is_taken_for_a_place():
    assert is_place("oci://x/y:z")
    assert is_place("oci+http://")
    assert not any(map(is_place, ["oci", "./oci", "s3://x", "", None]))
