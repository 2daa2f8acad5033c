"""Versions of old releases answer from their own libraries, bit for bit as they did then.

The libraries come from the package index.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import holdfast
from holdfast.api.settings import cache_folder
from holdfast.cli.main import main
from holdfast.environment import kept, recreate
from holdfast.errors import EnvironmentMismatch

pytestmark = pytest.mark.service

ARCHIVE = Path(__file__).parent / "sklearn-1.2.2.tar.xz"


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(name="store")
def make_store(unpacked, environments, monkeypatch):
    """Open the archive; its environment is built by the first test and used by all."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(environments))
    monkeypatch.delenv("UV_OFFLINE")
    return holdfast.Store(unpacked(ARCHIVE) / "store")


def served(store, name, environment="recorded"):
    try:
        return holdfast.get(name, store=store).load_proven(environment=environment)
    except EnvironmentMismatch as error:
        if "cannot be reached" in error.message or "is not installed here" in error.message:
            pytest.skip(f"the package index is not reachable: {error.message[:200]}")
        raise


def equal(want, have):
    if isinstance(want, list):
        return len(want) == len(have) and all(map(equal, want, have))
    if sparse.issparse(want):
        return (want != have).nnz == 0
    if isinstance(want, pd.DataFrame):
        return want.equals(have)
    want, have = np.asarray(want), np.asarray(have)
    if want.dtype == object:
        return want.tolist() == have.tolist()
    return want.dtype == have.dtype and want.tobytes() == have.tobytes()


@pytest.mark.parametrize("name", ["adaboost", "text", "mixed-logistic", "process-values"])
def test_it_answers_bit_for_bit_as_then(store, name):
    loaded = served(store, name)
    held_out = holdfast.load(f"{name}.held-out", store=store)
    assert (loaded.proof, loaded.rung) == ("replayed", "worker")
    assert loaded.model.packages["scikit-learn"] == "1.2.2"
    with loaded.model as model:
        compared = 0
        for method, want in held_out["answers"].items():
            if method in model.methods:
                assert equal(want, getattr(model, method)(held_out["rows"])), method
                compared += 1
        assert compared


def test_what_is_refused_here_falls_to_the_worker_and_builds_nothing_twice(
    store, caplog, monkeypatch
):
    served(store, "adaboost").model.close()
    monkeypatch.setattr(recreate, "uv", lambda: ["/nowhere/uv"])
    loaded = holdfast.get("adaboost", store=store).load_proven()
    with loaded.model:
        assert loaded.rung == "worker"
    assert "adaboost@v1 does not load here" in caplog.text
    assert len(kept.kept(cache_folder())) >= 2


def test_the_command_predicts_from_it(store, tmp_path, capsys):
    served(store, "adaboost").model.close()
    held_out = holdfast.load("adaboost.held-out", store=store)
    rows = tmp_path / "rows.csv"
    pd.DataFrame(held_out["rows"]).to_csv(rows, index=False)
    words = ["predict", "adaboost", str(rows), "--environment", "recorded", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--store", str(store.path)])
    said = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert said["predictions"] == held_out["answers"]["predict"].tolist()
