"""A model of more pieces than the process may open files: mapped as far as it goes, else read."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(code, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


CHILD = """
    import os, resource, sys
    import numpy as np
    import holdfast
    soft, hard = map(int, sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    arrays = {f"a{i}": np.full(140_000, i, dtype="f8") for i in range(50)}
    holdfast.save(arrays, "many", store=sys.argv[1])
    again = holdfast.load("many", store=sys.argv[1])
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    open(os.devnull).close()
    print(len(os.listdir("/dev/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_soft_limit_is_raised_as_far_as_the_hard_one_allows(tmp_path):
    opened, limit = run(CHILD, tmp_path / "store", 40, 4000)
    assert int(limit) == 4000
    assert int(opened) > 50


def test_beyond_the_hard_limit_bytes_are_read_and_half_of_it_stays_free(tmp_path):
    opened, limit = run(CHILD, tmp_path / "store", 40, 40)
    assert int(limit) == 40
    assert int(opened) <= 24
