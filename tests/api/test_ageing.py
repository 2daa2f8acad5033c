"""What needs attention and what was checked where, told without running anything."""

import json
import subprocess
import sys

import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

import holdfast
from holdfast.api import ageing as module
from holdfast.archive import checks, write
from holdfast.archive.checks import Check
from holdfast.environment import capture, recreate
from holdfast.record import Content, Manifest, Record, Structure, digest_hex

HERE = capture.capture(["sklearn"])
OLD = {**HERE, "packages": {"scikit-learn": "1.2.2", "numpy": "1.24.3"}}


@pytest.fixture(name="store")
def empty_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(autouse=True)
def without_uv(monkeypatch):
    monkeypatch.setattr(recreate, "uv", lambda: None)


def keep(store, name, environment=HERE, *, golden=None, number=0, portable=None):
    """Make a version that claims to be of some environment."""
    content = write.write_document(
        store.blobs,
        Content(framework="python", structure=Structure(nodes=(("int", number),))).encode(),
    )
    said = Record(
        content=content,
        created="2023-03-01T00:00:00.000000Z",
        author="ana",
        environment=environment,
        golden=golden,
        portable=portable,
        note=f"{name} {number}",
    )
    record = write.write_document(store.blobs, said.encode())
    manifest = write.write_document(store.blobs, Manifest(content=content, record=record).encode())
    info = store.catalogue.add_version(
        name, record=record, content=content, manifest=manifest, by="ana"
    )
    return holdfast.get(f"{name}@v{info.number}", store=store)


def checked(version, outcome="replayed", at=None, environment=None):
    at = capture.now() if at is None else at
    facts = checks.here(version.record.environment) if environment is None else environment
    version.store.checks.add(
        Check(
            record=version.record_id,
            manifest=version.info.manifest,
            at=at,
            hashed=at,
            by="ana",
            environment=facts,
            blobs=3,
            size=300,
            outcome=outcome,
            detail=f"it is {outcome}",
        )
    )


def kinds(found):
    return [(each.ref, each.kind) for each in found.concerns]


def test_a_new_store_of_sound_versions_needs_nothing(store):
    data = load_iris()
    model = DecisionTreeClassifier(max_depth=2).fit(data.data, data.target)
    holdfast.save(model, "tree", inputs=data.data, store=store)
    holdfast.save({"a": np.arange(3)}, "plain", store=store)
    found = store.ageing()
    assert (found.versions, found.concerns, found.environments) == (("plain@v1", "tree@v1"), (), ())
    store.verify()
    found = store.ageing()
    assert found.concerns == ()
    (only,) = found.environments
    assert only.here
    assert f"Python {HERE['python']}" in only.label
    assert {ref: cell[0]["outcome"] for ref, cell in found.matrix.items()} == {
        "plain@v1": "state only",
        "tree@v1": "replayed",
    }


def test_what_a_check_found_here_is_told_worst_first(store):
    for outcome in ("unproved", "failed", "refused", "damaged", "replayed"):
        checked(keep(store, f"m-{outcome}", golden={"level": "inputs"}), outcome)
    found = store.ageing()
    assert kinds(found) == [
        ("m-damaged@v1", "damaged"),
        ("m-refused@v1", "refused here"),
        ("m-failed@v1", "failed here"),
        ("m-unproved@v1", "unproved here"),
    ]
    assert "it is refused" in found.concerns[1].what
    assert found.concerns[1].fix == "hold show m-refused@v1"  # the libraries are the same


def test_a_version_refused_under_other_libraries_is_sent_to_its_own(store, monkeypatch):
    checked(keep(store, "m", OLD), "refused")
    monkeypatch.setattr(recreate, "uv", lambda: ["uv"])
    fixes = [each.fix for each in store.ageing().concerns if each.kind == "refused here"]
    assert fixes == ["hold predict m@v1 rows.csv --environment recorded"]


def test_a_refusal_elsewhere_is_in_the_matrix_and_is_no_concern_here(store):
    version = keep(store, "m")
    elsewhere = {**checks.here(version.record.environment), "python": "3.12.1"}
    checked(version, "refused", environment=elsewhere)
    checked(version)
    found = store.ageing()
    assert found.concerns == ()
    assert [(each.label, each.here) for each in found.environments] == [
        (f"Python {HERE['python']}", True),
        ("Python 3.12.1", False),
    ]
    assert [cell["outcome"] for cell in found.matrix["m@v1"]] == ["replayed", "refused"]


def test_damage_found_anywhere_counts_until_a_later_check(store):
    version = keep(store, "m")
    elsewhere = {**checks.here(version.record.environment), "python": "3.12.1"}
    checked(version, at="2026-11-01T00:00:00.000000Z")
    checked(version, "damaged", at="2026-11-02T00:00:00.000000Z", environment=elsewhere)
    assert kinds(store.ageing()) == [("m@v1", "damaged")]
    checked(version)
    assert store.ageing().concerns == ()


def test_a_missing_library_and_its_way_out(store, monkeypatch):
    lacking = {**HERE, "packages": {"numpy": HERE["packages"]["numpy"], "lightgbm": "4.6.0"}}
    monkeypatch.setattr(capture, "installed_version", no("lightgbm", capture.installed_version))
    monkeypatch.setattr(
        module.preflight, "installed_version", no("lightgbm", module.preflight.installed_version)
    )
    keep(store, "m", lacking)
    (found,) = store.ageing().concerns
    assert found.kind == "cannot load here"
    assert found.fix.startswith("python -m pip install")
    monkeypatch.setattr(recreate, "uv", lambda: ["uv"])
    (found,) = store.ageing().concerns
    assert found.kind == "needs its worker"
    assert found.fix == "hold predict m@v1 rows.csv --environment recorded"


def no(name, ask):
    return lambda distribution: None if distribution == name else ask(distribution)


def test_the_end_of_life_of_libraries_until_a_replay_on_newer_ones(store):
    golden = {"level": "inputs"}
    version = keep(store, "m", OLD, golden=golden)
    (found,) = store.ageing().concerns
    assert found.kind == "end of life"
    assert "numpy 1.24 came out on 2022-12-18, over two years ago (SPEC 0)" in found.what
    assert "scikit-learn 1.2 came out on 2022-12-08" in found.what
    assert found.fix == "hold verify m@v1"
    checked(version, "state only")  # which says nothing of what it answers
    assert kinds(store.ageing()) == [("m@v1", "end of life")]
    checked(version, environment={**OLD, "packages": {"scikit-learn": "1.2.2"}})
    assert kinds(store.ageing()) == [("m@v1", "end of life")]
    checked(version)
    assert store.ageing().concerns == ()


def test_where_the_libraries_here_are_past_their_support_newer_ones_are_needed(store, monkeypatch):
    keep(store, "m", OLD)
    old = {"scikit-learn": "1.2.2", "numpy": "1.24.3"}
    monkeypatch.setattr(capture, "installed_version", old.get)
    (found,) = store.ageing().concerns
    assert 'pip install --upgrade "numpy"' in found.fix
    assert "hold verify m@v1" in found.fix


def test_long_unchecked(store, monkeypatch):
    monkeypatch.setattr("holdfast.catalogue.catalogue._now", lambda: "2026-01-01T00:00:00.000000Z")
    first, second = keep(store, "a"), keep(store, "b")
    checked(second, at="2026-02-01T00:00:00.000000Z")
    found = store.ageing()
    assert [(each.ref, each.kind, each.what) for each in found.concerns] == [
        ("a@v1", "long unchecked", "never, since 2026-01-01"),
        ("b@v1", "long unchecked", "last checked on 2026-02-01"),
    ]
    checked(first)
    checked(second)
    assert store.ageing().concerns == ()


def test_versions_that_matter_and_all_of_them(store):
    for number in range(4):
        keep(store, "m", number=number)
    holdfast.promote("m@v2", to="prod", store=store)
    assert store.ageing().versions == ("m@v2", "m@v4")
    assert len(store.ageing(everything=True).versions) == 4
    holdfast.api.history.forget(["m@v4"], store=store)
    assert store.ageing().versions == ("m@v2", "m@v3")


def test_damaged_documents_and_logs_are_concerns(store):
    version, _ = keep(store, "m"), keep(store, "n")
    path = store.path / "blobs" / "sha256" / digest_hex(version.record_id)
    path.unlink()
    (store.path / "log" / "n" / "00000001.json").unlink()
    (store.path / "log" / "n" / "00000001.json").write_text("{}")
    found = store.ageing()
    assert kinds(found) == [("m@v1", "damaged"), ("n", "damaged")]
    assert found.concerns[1].fix == "hold log n"


def test_forged_checks_are_counted_and_change_nothing(store):
    version = keep(store, "m")
    checked(version, "damaged")
    (place,) = store.path.glob("checks/*/*.json")
    place.write_bytes(place.read_bytes().replace(b"damaged", b"perfect"))
    found = store.ageing()
    assert (found.concerns, found.ignored, found.environments) == ((), 1, ())


def test_a_check_of_other_bytes_is_none_of_this_version(store):
    version = keep(store, "m")
    checked(version, "damaged")
    (check,) = store.checks.of(version.record_id).checks.values()
    store.checks.add(replace(check, manifest="sha256:" + "0" * 64))
    assert store.ageing().concerns == ()


def test_environments_that_agree_share_a_column(store):
    numpy, sklearn = HERE["packages"]["numpy"], HERE["packages"]["scikit-learn"]
    one = {**HERE, "packages": {"numpy": numpy, "scikit-learn": sklearn}}
    other = {**HERE, "packages": {"numpy": numpy, "torch": None}, "cpu": "another", "threads": 64}
    older = {**HERE, "packages": {"numpy": "1.26.4", "scikit-learn": "1.5.2"}}
    for name, environment in (("a", one), ("b", other), ("c", older)):
        checked(keep(store, name, environment), environment=environment)
    found = store.ageing()
    assert len(found.environments) == 2
    assert {tuple(each.label.split(", ")) for each in found.environments} == {
        (f"numpy {numpy}", f"scikit-learn {sklearn}", f"Python {HERE['python']}"),
        ("numpy 1.26.4", "scikit-learn 1.5.2", f"Python {HERE['python']}"),
    }
    for ref, row in found.matrix.items():
        assert [cell is None for cell in row].count(False) == 1, ref


def test_nothing_heavy_is_imported(store):
    data = load_iris()
    model = DecisionTreeClassifier(max_depth=2).fit(data.data, data.target)
    holdfast.save(model, "tree", inputs=data.data, store=store)
    store.verify()
    code = (
        "import json, sys, holdfast\n"
        "found = holdfast.Store(sys.argv[1]).ageing(everything=True)\n"
        "assert found.environments\n"
        "print(json.dumps(sorted({'numpy', 'sklearn', 'scipy', 'torch'} & sys.modules.keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_a_portable_form_answers_where_a_library_is_missing(store, monkeypatch):
    gone = {**HERE, "packages": {"no-such-library": "1.2"}}
    blob = write.write_document(store.blobs, b"graph")
    keep(store, "net", gone, portable={"blob": blob, "format": "onnx"})
    keep(store, "other", gone, portable={"reason": "no converter"})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    found = {each.ref: each for each in module.ageing(store).concerns}
    assert found["net@v1"].kind == "loads portable"
    assert found["net@v1"].fix == "hold predict net@v1 rows.csv --environment portable"
    assert found["other@v1"].kind == "cannot load here"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert module.ageing(store).concerns[0].kind == "cannot load here"
