"""Fifty saves of one name from ten processes: fifty versions, none lost, each verified."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

import holdfast

CHILD = """
import sys, numpy, holdfast
for i in range(5):
    seed = int(sys.argv[2]) * 5 + i
    model, params = {"w": numpy.full(300, seed)}, {"seed": seed}
    saved = holdfast.save(model, "net", params=params, store=sys.argv[1])
    print(saved.number, seed)
"""


def test_fifty_parallel_saves_give_fifty_versions(tmp_path):
    store = holdfast.Store.create(tmp_path / "store")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(store.path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(10)
    ]
    said = {}
    for child in children:
        out, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
        said.update((int(a), int(b)) for a, b in (line.split() for line in out.splitlines()))
    assert sorted(said) == list(range(1, 51))
    for version in holdfast.versions("net", store=store):
        seed = said[version.number]
        assert version.record.params == {"seed": seed}
        assert np.array_equal(version.load()["w"], np.full(300, seed))
    assert len(holdfast.log("net", store=store)) == 50
    assert holdfast.verify("net@v50", store=store).proof == "state only"
