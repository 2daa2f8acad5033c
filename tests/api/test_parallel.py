"""Saves of one name from several processes: as many versions, none lost, each verified."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import holdfast

CHILD = """
import sys, numpy, holdfast
for i in range(5):
    seed = int(sys.argv[2]) * 5 + i
    model, params = {"w": numpy.full(300, seed)}, {"seed": seed}
    saved = holdfast.save(model, "net", params=params, store=sys.argv[1])
    print(saved.number, seed)
"""


@pytest.mark.parametrize("processes", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_parallel_saves_give_as_many_versions(tmp_path, processes):
    count = 5 * processes
    store = holdfast.Store.create(tmp_path / "store")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(store.path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    said = {}
    for child in children:
        out, err = child.communicate(timeout=600)
        assert child.returncode == 0, err
        said.update((int(a), int(b)) for a, b in (line.split() for line in out.splitlines()))
    assert sorted(said) == list(range(1, count + 1))
    for version in holdfast.versions("net", store=store):
        seed = said[version.number]
        assert version.record.params == {"seed": seed}
        assert np.array_equal(version.load()["w"], np.full(300, seed))
    assert len(holdfast.log("net", store=store)) == count
    assert holdfast.verify(f"net@v{count}", store=store).proof == "state only"
