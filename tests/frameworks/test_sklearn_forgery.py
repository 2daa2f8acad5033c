"""Every fitted field of every estimator forged, in processes of their own: none may crash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("forgery_sklearn.py")
# Whose compiled code followed a forged number out of its arrays before it was judged.
KNOWN = (
    "BisectingKMeans", "CountVectorizer", "DictVectorizer", "FeatureHasher",
    "GradientBoostingClassifier", "HDBSCAN", "HashingVectorizer", "HistGradientBoostingRegressor",
    "IsolationForest", "KMeans", "KNeighborsClassifier", "MiniBatchKMeans", "MultiLabelBinarizer",
    "NuSVC", "NuSVR", "OneClassSVM", "PolynomialFeatures", "SVC", "SVR", "SparseRandomProjection",
    "TfidfVectorizer",
)  # fmt: skip


def forge(*arguments: str) -> dict[str, int]:
    """Run the script, which fails on the first crash it met, and return its counts."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
        env={**os.environ, **one_thread},
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def test_known_crashers_are_refused_or_harmless():
    counts = forge(*KNOWN, "--limit", "20")
    assert counts["cases"] == len(KNOWN)
    assert counts["mutations"] == 20 * counts["cases"]
    assert counts["refused"] > counts["mutations"] // 8


@pytest.mark.slow
def test_every_estimator_forged_is_refused_or_harmless():
    counts = forge("--limit", "50")
    assert counts["cases"] >= 200
    assert counts.get("not encoded", 0) == 0
    assert counts["mutations"] >= 10_000
    assert counts["refused"] > 1_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_no_forged_number_is_followed_past_the_end_of_an_array():
    counts = forge("--guard", "--limit", "25", "--seed", "1")
    assert counts["cases"] >= 200
    assert counts["mutations"] >= 5_000
