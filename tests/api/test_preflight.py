"""Whether a version loads here is told without importing its framework."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.cli.main import main


@pytest.fixture(name="store")
def make_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(name="kept")
def make_kept(store):
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = LogisticRegression().fit(X, X[:, 0] > 0)

    def keep(monkeypatch=None, **packages):
        from holdfast.environment import capture

        real = capture.capture

        def pretended(requires):
            facts = real(requires)
            return {**facts, "packages": {**facts["packages"], **packages}}

        if packages:
            monkeypatch.setattr("holdfast.api.save.capture.capture", pretended)
        version = holdfast.save(model, "churn", inputs=X, portable=None, store=store)
        if packages:
            monkeypatch.undo()
        return version

    return keep


def test_a_version_of_this_environment_loads_here_and_was_replayed(kept, store):
    version = kept()
    found = holdfast.preflight("churn", store=store)
    assert (found.ref, found.verdict, found.findings) == ("churn@v1", "loads here", ())
    assert found.tested == "not replayed in this environment yet: hold verify churn@v1"
    version.load()
    found = holdfast.preflight("churn", store=store)
    assert found.tested == "replayed in this very environment before"


def test_a_version_of_an_older_release_loads_migrated_and_says_what_changes(
    kept, store, monkeypatch
):
    kept(monkeypatch, **{"scikit-learn": "1.5.2"})
    found = holdfast.preflight("churn", store=store)
    assert found.verdict == "loads migrated"
    assert found.findings[0].what.startswith("scikit-learn 1.5.2 -> ")
    assert any("multi_class is gone" in each.what for each in found.findings)
    assert "hold verify churn@v1" in found.tested


def test_a_library_that_is_missing_is_named_with_what_installs_it(kept, store, monkeypatch, capsys):
    kept(monkeypatch, **{"no-such-library": "2.3.1+cpu"})
    found = holdfast.preflight("churn", store=store)
    assert found.verdict == "cannot"
    assert found.findings[0].fix == 'python -m pip install "no-such-library~=2.3.0"'
    with pytest.raises(SystemExit) as stopped:
        main(["preflight", "churn", "--store", str(store.path)])
    said = capsys.readouterr()
    assert stopped.value.code == 7
    assert said.out.startswith("CANNOT  churn@v1: ")
    assert said.err.endswith('Try: python -m pip install "no-such-library~=2.3.0"\n')


def test_blobs_that_are_gone_block(kept, store):
    version = kept()
    piece = version.manifest.pieces[-1].digest.removeprefix("sha256:")
    (store.path / "blobs" / "sha256" / piece).unlink()
    found = holdfast.preflight("churn", store=store)
    assert found.verdict == "cannot"
    assert found.findings[0].fix == "hold verify churn@v1"


def test_records_that_say_nonsense(kept, store, monkeypatch):
    kept(monkeypatch, numpy=7, scipy="x" * 500, **{"scikit-learn": "not a version"})
    found = holdfast.preflight("churn", store=store)
    assert found.verdict in ("loads here", "loads migrated")
    assert all(len(each.what) < 300 for each in found.findings)


def test_no_framework_is_imported(kept, store):
    kept()
    code = (
        "import sys, holdfast\n"
        f"print(holdfast.preflight('churn', store={str(store.path)!r}).verdict)\n"
        "print(sorted({'sklearn', 'scipy', 'torch', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["loads here", "[]"]


def test_json_of_the_command(kept, store, capsys):
    kept()
    with pytest.raises(SystemExit) as stopped:
        main(["preflight", "churn", "--json", "--store", str(store.path)])
    document = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert document["verdict"] == "loads here"
    assert document["schema_version"] == 1
