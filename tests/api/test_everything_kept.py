"""One dictionary of everything that is kept, saved here and compared in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import holdfast

SCRIPT = Path(__file__).with_name("everything.py")


def run(verb: str, store: Path) -> str:
    env = {**os.environ, "PYTHONHASHSEED": "random"}
    command = [sys.executable, SCRIPT, verb, store]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module", name="filled")
def fill_a_store(tmp_path_factory):
    store = tmp_path_factory.mktemp("everything") / "store"
    run("save", store)
    return store


def test_everything_comes_back_the_same_in_another_process(filled):
    assert json.loads(run("load", filled)) == []


def test_the_comparison_finds_what_is_lost(filled):
    """Each group is saved with one value changed a little; ``load`` must name it."""
    assert json.loads(run("spoil", filled)) == [
        "keys: bools as keys",
        "arrays: F order",
        "arrays: read only",
        "randoms: SeedSequence",
        "standard: own class",
        "scipys: csr_matrix",
        "scipys: normal",
        "frames: DatetimeIndex",
        "functions: ufuncs",
    ]


def test_two_thousand_levels_need_no_stack(tmp_path):
    assert run("deep", tmp_path / "store") == "2000"


def test_what_is_one_object_is_one_object_again(tmp_path):
    rows, names, seed = np.arange(5.0), ["a"], np.random.RandomState(1)
    model = {"train": (rows, names), "test": [rows, names], "seeds": [seed, {"again": seed}]}
    model["self"] = model
    store = holdfast.Store.create(tmp_path / "store")
    holdfast.save(model, "shared", store=store)
    again = holdfast.load("shared", store=store)
    assert again["train"][0] is again["test"][0]
    assert again["train"][1] is again["test"][1]
    assert again["seeds"][0] is again["seeds"][1]["again"]
    assert again["self"] is again
    again["test"][0][0] = 9
    assert again["train"][0][0] == 9
    assert holdfast.load("shared", store=store)["train"][0][0] == 0
