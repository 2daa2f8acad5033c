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

EVERYTHING = Path(__file__).with_name("everything.py")
DEEP = Path(__file__).with_name("deep.py")


def run(script: Path, *words: str | Path) -> str:
    env = {**os.environ, "PYTHONHASHSEED": "random"}
    command = [sys.executable, script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module", name="differing")
def compare_in_another_process(tmp_path_factory):
    """Return what came back otherwise, and what did after one value of each group was changed."""
    store = tmp_path_factory.mktemp("everything") / "store"
    run(EVERYTHING, "save", store)
    return json.loads(run(EVERYTHING, "load", store))


def test_everything_comes_back_the_same_in_another_process(differing):
    assert differing[0] == []


def test_the_comparison_finds_what_is_lost(differing):
    assert differing[1] == [
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
    assert run(DEEP, tmp_path / "store") == "2000"


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
