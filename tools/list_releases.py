"""Write the table of release dates: when each minor release of a library came out.

Asks a package index for the upload times of what it has (PEP 700), a page for each library::

    python tools/list_releases.py URL   # of the index, or set PIP_INDEX_URL
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src/holdfast/environment/releases.json"
LIBRARIES = (
    "catboost", "flax", "jax", "keras", "lightgbm", "numpy", "onnx", "onnxruntime", "optax",
    "pandas", "peft", "scikit-learn", "scipy", "sentence-transformers", "spacy", "statsmodels",
    "tensorflow", "torch", "transformers", "xgboost",
)  # fmt: skip
SINCE = "2018"
# Source: "Status of Python versions" in Python's developer's guide, and the PEPs that it names.
PYTHON_ENDS = {
    "3.6": "2021-12-23", "3.7": "2023-06-27", "3.8": "2024-10-07", "3.9": "2025-10-31",
    "3.10": "2026-10-31", "3.11": "2027-10-31", "3.12": "2028-10-31", "3.13": "2029-10-31",
    "3.14": "2030-10-31",
}  # fmt: skip


def files(index: str, library: str) -> list[dict[str, Any]]:
    """Return what an index says of a library's files."""
    kind = "application/vnd.pypi.simple.v1+json"
    asked = urllib.request.Request(f"{index.rstrip('/')}/{library}/", headers={"Accept": kind})  # noqa: S310 - the index that was given
    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310 - same
        found: list[dict[str, Any]] = json.loads(answer.read())["files"]
        return found


def version_of(name: str) -> Version | None:
    """Return the release that a file is of, None for an old kind of file."""
    try:
        if name.endswith(".whl"):
            return parse_wheel_filename(name)[1]
        return parse_sdist_filename(name)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def minors(found: list[dict[str, Any]]) -> dict[str, str]:
    """Return the day on which each minor release first had a final version."""
    days: dict[tuple[int, int], str] = {}
    for file in found:
        version = version_of(file["filename"])
        if version is None or version.is_prerelease or not file.get("upload-time"):
            continue
        minor = (version.major, version.minor)
        days[minor] = min(days.get(minor, "9"), file["upload-time"][:10])
    return {f"{a}.{b}": day for (a, b), day in sorted(days.items()) if day >= SINCE}


def main() -> None:
    """Write the table anew."""
    index = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PIP_INDEX_URL")
    if not index:
        raise SystemExit("Which index? python tools/list_releases.py URL")
    released = {library: minors(files(index, library)) for library in LIBRARIES}
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    table = {"as_of": today, "python_ends": PYTHON_ENDS, "released": released}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    print(f"{sum(map(len, released.values()))} releases in {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
