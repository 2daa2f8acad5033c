"""Foreign files become versions, or are explained; nothing in them runs."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import holdfast
from holdfast.errors import HoldfastError, MissingExtra, UnsafeContent

X = np.random.default_rng(0).normal(size=(60, 3))


class Evil:
    def __reduce__(self):
        return os.system, ("touch canary",)


def forest():
    return RandomForestClassifier(4, random_state=0).fit(X, X[:, 0] > 0)


def test_a_pickled_estimator_becomes_a_proven_version(tmp_path):
    model = forest()
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(model))
    version = holdfast.convert(tmp_path / "old.pkl", "churn", inputs=X, store=tmp_path / "s")
    assert version.proof == "replayed"
    origin = version.record.params["converted_from"]
    assert (origin["file"], origin["kind"]) == ("old.pkl", "pickle")
    assert origin["written_by"].startswith("scikit-learn")
    again = holdfast.load("churn", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_an_unsafe_file_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps([forest(), Evil()]))
    with pytest.raises(UnsafeContent, match=r"posix\.system"):
        holdfast.convert("evil.pkl", "m", store=tmp_path / "s")
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "s").exists()


def test_a_torch_checkpoint_becomes_its_state_dict(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    torch.save(net.state_dict(), tmp_path / "net.pt")
    holdfast.convert(tmp_path / "net.pt", "net", store=tmp_path / "s")
    again = holdfast.load("net", store=tmp_path / "s")
    assert all(torch.equal(again[key], value) for key, value in net.state_dict().items())


def test_native_booster_files_become_boosters(tmp_path):
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    one = xgboost.XGBClassifier(n_estimators=3).fit(X, X[:, 0] > 0).get_booster()
    two = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X, X[:, 0] > 0).booster_
    for ending in ("ubj", "json"):
        one.save_model(tmp_path / f"one.{ending}")
        version = holdfast.convert(tmp_path / f"one.{ending}", "one", store=tmp_path / "s")
        assert version.content.framework == "xgboost"
    two.save_model(tmp_path / "two.txt")
    holdfast.convert(tmp_path / "two.txt", "two", store=tmp_path / "s")
    again = holdfast.load("two", store=tmp_path / "s")
    assert np.array_equal(again.predict(X), two.predict(X))


class Computed:
    def __reduce__(self):
        return eval, ("{'a': [1, 2, 3]}",)


def mixed_folder(folder):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    folder.mkdir()
    (folder / "forest.pkl").write_bytes(pickle.dumps(forest()))
    joblib.dump(forest(), folder / "forest.joblib", compress=3)
    torch.save({"w": torch.ones(3)}, folder / "state.pt")
    torch.save(torch.nn.Linear(2, 2), folder / "whole.pt", _use_new_zipfile_serialization=False)
    np.savez(folder / "arrays.npz", a=X)
    with h5py.File(folder / "weights.h5", "w") as file:
        file["dense/kernel"] = X
    (folder / "cut.safetensors").write_bytes(b"\x10" + bytes(7) + b"{}")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    (folder / "computed.pkl").write_bytes(pickle.dumps(Computed()))
    (folder / "deeper").mkdir()
    (folder / "deeper" / "notes.txt").write_text("nothing to see\n", "utf-8")


def told(folder, *words):
    command = [sys.executable, "-m", "holdfast.cli.main", "convert", "mixed", "--store", "s"]
    done = subprocess.run(
        [*command, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_folder_of_mixed_files_ends_with_each_taken_over_or_explained(tmp_path):
    mixed_folder(tmp_path / "mixed")
    done = told(tmp_path)
    assert done.returncode == 3, done.stderr
    rows = dict(line.removeprefix("mixed/").split(None, 1) for line in done.stdout.splitlines()[1:])
    for file, version in {
        "forest.pkl": "forest-pkl@v1", "forest.joblib": "forest-joblib@v1", "state.pt": "state@v1",
        "whole.pt": "whole@v1", "arrays.npz": "arrays@v1", "weights.h5": "weights@v1",
    }.items():  # fmt: skip
        assert rows[file].startswith(version)
    for file, reason in {
        "evil.pkl": "would call posix.system (byte", "computed.pkl": "would call builtins.eval",
        "cut.safetensors": "the header claims 16 bytes", "deeper/notes.txt": "unknown kind of file",
    }.items():  # fmt: skip
        assert rows[file].startswith("-")
        assert reason in rows[file]
    assert len(rows) == 10
    assert "4 of 10 files were not taken over" in done.stderr
    assert "hold convert --store s mixed --sandbox" in done.stderr
    assert not (tmp_path / "canary").exists()


@pytest.mark.slow
def test_with_the_sandbox_what_computes_is_taken_over_and_the_rest_explained(tmp_path):
    from holdfast.environment import sandbox

    if sandbox.holder() is None:
        pytest.skip("nothing holds a process here")
    mixed_folder(tmp_path / "mixed")
    done = told(tmp_path, "--sandbox", "--json")
    assert done.returncode == 3
    rows = {row["file"].removeprefix("mixed/"): row for row in json.loads(done.stdout)["converted"]}
    assert rows["computed.pkl"]["how"] == "run in a sandbox"
    assert rows["forest.pkl"]["how"] == "read as data"
    assert "of the type int, no model" in rows["evil.pkl"]["message"]
    assert holdfast.load("computed", store=tmp_path / "s") == {"a": [1, 2, 3]}
    assert not (tmp_path / "canary").exists()


def test_a_folder_that_is_one_model_is_asked_of_its_adapter(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(HoldfastError) as caught:
        holdfast.convert(tmp_path / "model", "m", store=tmp_path / "s")
    assert "IsADirectory" not in str(caught.value)


def test_one_bad_file_alone_tells_its_own_exit_status(tmp_path, capsys):
    from holdfast.cli.main import main

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SystemExit) as done:
        main(["convert", str(tmp_path / "evil.pkl"), "--name", "m", "--store", str(tmp_path / "s")])
    assert done.value.code == 6
    assert "Nothing was run" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"PK\x03\x04", b"CBM1", b"tree\n", b"{L"])
def test_nonsense_is_refused_in_words(data, tmp_path):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(HoldfastError):
        holdfast.convert(tmp_path / "file", "m", store=tmp_path / "s")


def test_scan_offers_only_what_convert_takes_over(tmp_path):
    from holdfast.rescue.reading import kinds

    samples = Path(__file__).parent.parent / "trust" / "samples"
    offered = 0
    for number, path in enumerate(sorted(samples.iterdir())):
        report = holdfast.scan(path)
        if report.takes != "data":
            continue
        offered += 1
        assert report.kind in kinds()
        try:
            holdfast.convert(path, f"m{number}", store=tmp_path / "store")
        except MissingExtra:
            continue
    assert offered >= 5
