"""Results of checks beside a version in a registry: they come along, and prove nothing here."""

import json

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

import holdfast
from holdfast.api.registry_beside import CHECKS, CREATED
from holdfast.archive.checks import LONGEST_REPORT
from holdfast.cli.main import cli
from holdfast.record import canonical, digest_of
from holdfast.remote.oci.referrers import Beside, put_beside
from holdfast.remote.oci.registry import Stored

OTHER = {"python": "3.9.1"}


@pytest.fixture(name="version", scope="module")
def checked_version(tmp_path_factory):
    """Return a version that replays, and that another machine and this one have checked."""
    sklearn = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    store = holdfast.Store.create(tmp_path_factory.mktemp("checked"))
    model = sklearn.LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    version = holdfast.save(model, "net", store=store, inputs=[[0.0], [1.0], [2.0]])
    holdfast.verify("net", store=store)
    (made,) = store.checks.of(version.record_id).checks.values()
    store.checks.add(replace(made, environment={**made.environment, **OTHER}, by="bea"))
    return version


@pytest.fixture(name="store")
def its_store(version):
    """Return that version's store, which is only read."""
    return version.store


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Be a machine that has proven nothing yet."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache of another machine"))


def beside(stub, repository, data, created="2026-01-01T00:00:00.000000Z"):
    kind, manifest = stub.manifests["team/net:v1"]
    subject = Stored(digest_of(manifest), kind, manifest)
    put_beside(repository, subject, Beside(CHECKS, {CREATED: created}, data))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("lists", [True, False])
def test_results_of_checks_come_along_and_are_told_as_hearsay(stub, store, other, version, lists):
    stub.lists = lists
    assert store.push("net", stub.url()).checks == 2
    assert store.push("net", stub.url())[2:4] == (0, 0)
    got = other.pull(stub.url())
    assert (got.checks, got.notes) == (2, ())
    found = other.checks.of(version.record_id)
    assert found.checks == {}
    place = stub.url("team/net")
    assert {each.heard for each in found.heard.values()} == {place}
    assert {each.by for each in found.heard.values()} > {"bea"}
    tested = holdfast.preflight("net", store=other).tested
    assert tested.startswith("not replayed in this environment yet: hold verify net@v1")
    assert f"{place} says replayed" in tested
    matrix = other.ageing().matrix["net@v1"]
    assert [cell["heard"] for cell in matrix] == [place] * len(matrix)
    page = CliRunner().invoke(cli, ["ageing", "--store", str(other.path)]).output
    assert "(replayed)" in page
    assert "what a registry told" in page


def test_what_is_checked_here_is_worth_more_than_what_is_told(stub, store, other, version):
    store.push("net", stub.url())
    other.pull(stub.url())
    assert holdfast.verify("net", store=other).proof == "replayed"
    found = other.checks.of(version.record_id)
    assert (len(found.checks), len(found.heard)) == (1, 1)
    other.pull(stub.url())
    assert other.checks.of(version.record_id) == found
    assert holdfast.preflight("net", store=other).tested.startswith("replayed in this very")
    assert other.push("net", stub.url("team/net:v2")).checks == 2  # hearsay goes on as such


def test_hearsay_neither_ends_a_run_nor_takes_the_place_of_a_replay(
    stub, store, other, version, monkeypatch
):
    """A forged check of this environment, of a moment to come, changes nothing that verify does."""
    store.push("net", stub.url())
    other.pull(stub.url())
    from holdfast.api import fixity

    monkeypatch.setattr(fixity._Started, "end", lambda self: None)
    monkeypatch.setattr(fixity._Started, "begin", lambda self: "2000-01-01T00:00:00.000000Z")
    assert len(other.verify(replay=False).verified) == 1
    (made,) = other.checks.of(version.record_id).checks.values()
    assert (made.outcome, made.heard) == ("unproved", None)


def forged(version, **changed):
    (check,) = [
        each for each in version.store.checks.of(version.record_id).checks.values()
        if each.by != "bea"
    ]  # fmt: skip
    return {**json.loads(check.encode()), **changed}


def report(*checks, **more):
    return canonical({"format": "holdfast/1", "checks": [*checks], **more})


def test_what_a_report_claims_is_judged_check_by_check(stub, store, other, version, repository):
    store.push("net", stub.url())
    beside(stub, repository, report(
        forged(version, record=digest_of(b"other")),
        forged(version, at="2999-01-01T00:00:00.000000Z", hashed="2999-01-01T00:00:00.000000Z"),
        forged(version, outcome="perfect"),
        forged(version, environment={"packages": {"numpy": "../../x"}}, heard="this machine"),
        "no check", 7, [],
    ), "2999")  # fmt: skip
    got = other.pull(stub.url())
    assert got.failed == {}
    assert got.checks == 3
    assert "6 results of checks" in got.notes[0]
    assert {each.heard for each in other.checks.of(version.record_id).heard.values()} == {
        stub.url("team/net")
    }


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 50_000, b'{"checks":[],"format":"holdfast/9"}',
        b" " * (LONGEST_REPORT + 1),
    ],
)  # fmt: skip
def test_what_is_no_report_is_passed_over_with_a_note(
    stub, store, other, version, repository, data
):
    store.push("net", stub.url())
    beside(stub, repository, data)
    stub.asked.clear()
    ran = CliRunner().invoke(cli, ["pull", stub.url(), "--store", str(other.path)])
    assert (ran.exit_code, ran.exception) == (0, None)
    assert "1 reports of checks in" in ran.stderr
    assert "2 results of checks went along" in ran.stdout
    if len(data) > LONGEST_REPORT:
        assert stub.count("GET", digest_of(data)) == 0


def test_reports_without_end_fill_nothing(stub, store, other, version, repository):
    store.push("net", stub.url())
    many = [forged(version, environment={"packages": {"numpy": str(n)}}) for n in range(70)]
    beside(stub, repository, report(*many), "2999")
    for number in range(16):
        each = forged(version, environment={"packages": {"torch": str(number)}})
        beside(stub, repository, report(each), f"2998-{number:02}")
    stub.asked.clear()
    got = other.pull(stub.url())
    assert got.checks == len(list(other.path.glob("checks/*/*.json"))) == 64
    assert stub.count("GET", "/manifests/sha256:") == 16


def test_damage_of_this_store_is_not_told(stub, store, version):
    kept = [*store.checks.of(version.record_id).checks.values()]
    for check in kept:
        store.checks.add(replace(check, outcome="damaged"))
    assert store.push("net", stub.url()).checks == 0
    for check in kept:
        store.checks.add(check)
