"""Foreign files become versions, or are explained; nothing in them runs."""

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import holdfast
from holdfast.errors import HoldfastError, UnsafeContent

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


def test_a_folder_of_mixed_files_ends_with_each_taken_over_or_explained(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "forest.pkl").write_bytes(pickle.dumps(forest()))
    joblib.dump(forest(), folder / "packed.joblib", compress=3)
    torch.save({"w": torch.ones(3)}, folder / "state.pt")
    torch.save(torch.nn.Linear(2, 2), folder / "whole.pt")
    np.savez(folder / "arrays.npz", a=X)
    np.save(folder / "array.npy", X)
    holdfast.save({"a": X}, "a", store=tmp_path / "t")
    holdfast.export("a", folder / "tensors.safetensors", store=tmp_path / "t")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    (folder / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "notes.txt").write_text("nothing to see\n", "utf-8")
    words = ["-m", "holdfast.cli.main", "convert", "mixed", "--store", "s"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "3 of 10 files were not taken over" in done.stderr
    for word in ("forest@v1", "packed@v1", "state@v1", "whole@v1", "arrays@v1", "array@v1",
                 "tensors@v1", "would call posix.system", "HDF5"):  # fmt: skip
        assert word in done.stdout
    assert not (tmp_path / "canary").exists()


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
