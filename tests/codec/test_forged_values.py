"""Every kind of value forged in every place, in processes of their own: none may crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("forgery.py")


@pytest.mark.parametrize(
    "group",
    [
        *("functions", "standard", "numbers", "sparse", "interpolators", "marks"),
        pytest.param("frames", marks=pytest.mark.slow),
    ],
)
def test_forged_values_are_refused_or_harmless(group: str) -> None:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(SCRIPT), group],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={**os.environ, **one_thread},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])  # LAPACK may complain before it
    assert counts["refused"] > 100
    assert counts["refused"] > counts.get("harmless", 0)
