"""Whether a version loads here is told without importing its framework."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.cli.main import main
from holdfast.environment import capture, preflight as environments


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


def test_a_version_fitted_on_a_table_is_known_by_its_replay_too(store):
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    model = LogisticRegression().fit(frame, [0, 0, 1, 1])
    holdfast.save(model, "table", inputs=frame, portable=None, store=store).load()
    found = holdfast.preflight("table", store=store)
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


def test_a_check_of_another_person_in_such_an_environment_is_told(
    kept, store, monkeypatch, tmp_path
):
    kept()
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "another"))
    holdfast.verify("churn", store=store)
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "a third"))
    found = holdfast.preflight("churn", store=holdfast.Store(store.path))
    assert found.tested.startswith("replayed in such an environment on 20")
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    capture._machine.cache_clear()
    found = holdfast.preflight("churn", store=holdfast.Store(store.path))
    capture._machine.cache_clear()
    assert "hold verify churn@v1; elsewhere replayed on 20" in found.tested
    assert "(python 3.99.0 -> 3." in found.tested


def findings(record, **given):
    return list(getattr(environments, record)(given))


class TestFindings:
    def test_a_pair_of_releases_is_told_apart_by_what_was_tested(self, monkeypatch):
        monkeypatch.setattr(environments, "installed_version", lambda _: "1.9.1")
        (old,) = findings("libraries", packages={"scikit-learn": "1.3.2"})
        assert old.what == "scikit-learn 1.3.2 -> 1.9.1 (both in >=1.2,<1.10, which was tested)"
        (older,) = findings("libraries", packages={"scikit-learn": "0.24.2"})
        assert older.what == "scikit-learn 0.24.2 -> 1.9.1 (only >=1.2,<1.10 was tested)"
        (other,) = findings("libraries", packages={"scipy": "1.0.0"})
        assert other.what == "scipy 1.0.0 -> 1.9.1"

    def test_an_older_onnxruntime_blocks(self, monkeypatch):
        monkeypatch.setattr(environments, "installed_version", lambda _: "1.15.0")
        (found,) = findings("runtime", onnx={"minimum_onnxruntime": "1.17"})
        assert found.kind == "blocks"
        assert found.fix == 'python -m pip install --upgrade "onnxruntime>=1.17"'
        assert not findings("runtime", onnx={"minimum_onnxruntime": "1.15"})
        monkeypatch.setattr(environments, "installed_version", lambda _: None)
        assert not findings("runtime", onnx={"minimum_onnxruntime": "1.17"})

    def test_features_that_the_processor_lacks_are_named(self, monkeypatch):
        monkeypatch.setattr(environments, "cpu_features", lambda: ["avx", "fma"])
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        wide = ["avx", "avx2", "avx512f", "avx512bw", "avx512cd", "avx512dq"]
        (found,) = findings("processor", machine="x86_64", cpu_features=wide)
        assert found.kind == "note"
        assert "a processor with avx2, avx512bw, avx512cd, avx512dq, …" in found.what
        assert not findings("processor", machine="x86_64", cpu_features=["fma"])
        assert not findings("processor", machine="aarch64", cpu_features=["neon"])

    def test_wheels_that_need_a_feature_block_without_it(self, monkeypatch):
        monkeypatch.setattr(environments, "cpu_features", lambda: ["sse4_2"])
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        (found,) = findings("processor", packages={"tensorflow-cpu": "2.19.0"})
        assert (found.kind, "AVX" in found.what) == ("blocks", True)
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        assert not findings("processor", packages={"tensorflow-cpu": "2.19.0"})

    @pytest.mark.parametrize("record", ["libraries", "runtime", "processor", "devices"])
    @pytest.mark.parametrize("value", [None, 7, "x", [], [None], {"a": []}, {"packages": 1}])
    def test_a_record_of_nonsense_is_no_traceback(self, record, value):
        names = ("packages", "onnx", "cpu_features", "machine", "os", "python", "device")
        assert isinstance(findings(record, **dict.fromkeys(names, value)), list)

    def test_arrays_that_numpy_cannot_hold_alone(self, store, monkeypatch):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        holdfast.save({"a": np.zeros(3, ml_dtypes.bfloat16)}, "narrow", store=store)
        assert holdfast.preflight("narrow", store=store).verdict == "loads here"
        real = environments.installed_version
        monkeypatch.setattr(
            environments,
            "installed_version",
            lambda name: None if name == "ml_dtypes" else real(name),
        )
        found = holdfast.preflight("narrow", store=store)
        assert found.verdict == "cannot"
        assert found.findings[0].fix == 'python -m pip install "ml_dtypes>=0.4"'
