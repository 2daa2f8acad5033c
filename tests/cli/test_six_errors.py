"""The six errors people meet most, word for word; each ends in one line that can be run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast
from holdfast import errors
from holdfast.api import load as loading


@pytest.fixture(name="store")
def empty_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(name="churn")
def churn_model(store):
    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, :3]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, data.target)
    holdfast.save(
        model, "churn", inputs=frame, labels=["stay", "leave"], portable=None, store=store
    )
    return frame


def hold(store, *words):
    env = {**os.environ, "HOLDFAST_STORE": str(store.path)}
    command = [sys.executable, "-m", "holdfast.cli.main", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


class Runs:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_unsafe_content(store, tmp_path):
    (tmp_path / "old_model.pkl").write_bytes(pickle.dumps(Runs()))
    done = hold(store, "save", "old_model.pkl", "--name", "churn")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == (
        "UNSAFE  old_model.pkl is a pickle, would call posix.system (byte 46). Nothing was run.\n"
        "Try: hold scan old_model.pkl  # what is in it; then: "
        "hold convert old_model.pkl --name NAME\n"
    )
    assert not (tmp_path / "pwned").exists()


def test_golden_rows_differ(store, churn, monkeypatch):
    right = LogisticRegression.predict_proba
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda self, X: right(self, X) * 0.99)
    changed = ["scikit-learn 1.2.1 -> 1.9.1"]
    monkeypatch.setattr(loading.capture, "changed", lambda old, new: changed)
    with pytest.raises(errors.BehaviourMismatch) as caught:
        holdfast.load("churn", store=store)
    assert str(caught.value) == (
        "REFUSED: 64 of 64 golden rows differ (max 0.01 > 1e-09) for churn@v1. "
        "Cause candidates: scikit-learn 1.2.1 -> 1.9.1.\n"
        "Try: hold show churn@v1"
    )


def test_input_columns_differ(store, churn, tmp_path):
    churn.rename(columns={"mean radius": "Mean_Radius"}).head(2).to_csv("new.csv", index=False)
    done = hold(store, "predict", "churn", "new.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "The input columns differ from those churn@v1 was saved with: missing 'mean radius'; not "
        "known 'Mean_Radius'. Nothing was predicted.\n"
        "Try: X = X.rename(columns={'Mean_Radius': 'mean radius'})\n"
    )
    churn.drop(columns="mean radius").head(2).to_csv("few.csv", index=False)
    assert hold(store, "predict", "churn", "few.csv").stderr == (
        "The input columns differ from those churn@v1 was saved with: missing 'mean radius'. "
        "Nothing was predicted.\n"
        "Try: hold show churn@v1\n"
    )


def test_tensors_unmatched(store):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net = torch.nn.Linear(2, 1)
    wrapped = {f"module.{name}": value for name, value in net.state_dict().items()}
    holdfast.save(wrapped, "net", store=store)
    with pytest.raises(errors.PartialLoad) as caught:
        holdfast.load("net", into=torch.nn.Linear(2, 1), store=store)
    assert str(caught.value) == (
        "0 of 2 tensors matched. All stored names start with 'module.'; nothing was changed.\n"
        'Try: holdfast.load("net@v1", into=model, rename="module.->")'
    )
    again = holdfast.load("net", into=torch.nn.Linear(2, 1), rename="module.->", store=store)
    assert torch.equal(again.weight, net.weight)


def test_environment_cannot_load(store, churn):
    code = f"""
        import sys
        sys.modules["sklearn"] = None  # as if it were not installed
        import holdfast
        try:
            holdfast.load("churn", store={str(store.path)!r})
        except holdfast.HoldfastError as error:
            print(type(error).__name__, error.exit_code, error, sep="|")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "MissingExtra|7|loading a scikit-learn model needs the package 'scikit-learn', which is "
        'not installed here.\nTry: python -m pip install "scikit-learn>=1.2"\n'
    )


def test_no_space(store, monkeypatch):
    usage = type("Usage", (), {"free": 40_000_000})
    monkeypatch.setattr("holdfast.api.save.shutil.disk_usage", lambda path: usage)
    with pytest.raises(errors.NoSpace) as caught:
        holdfast.save({"w": np.zeros(10_000_000)}, "big", store=store)
    assert str(caught.value) == (
        f"Needs 0.08 GB, 0.04 GB free in {store.path}. Nothing was written; all earlier versions "
        "are intact.\nTry: hold prune --dry-run"
    )
