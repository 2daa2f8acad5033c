"""Write archives of the museum under the libraries of their time.

``python tools/museum.py [RELEASE …]``. Each scikit-learn gets an environment with what was newest
on a day of its time; Holdfast comes last and upgrades nothing. Archives that exist are left as they
are: they are what a release once wrote.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUSEUM = ROOT / "tests" / "museum"

# scikit-learn to a day on which it was the newest: dependencies are of that day.
RELEASES = {
    "1.2.2": "2023-06-01",
    "1.3.2": "2023-12-15",
    "1.4.2": "2024-05-10",
    "1.5.2": "2024-11-15",
    "1.6.1": "2025-03-15",
    "1.7.2": "2025-10-15",
    "1.8.0": "2026-02-15",
    "1.9.1": "2026-11-20",
}


def run(*words: str | Path, **variables: str) -> None:
    """Run a program; stop with its status when it fails."""
    environment = {**os.environ, **variables}
    done = subprocess.run([str(word) for word in words], check=False, cwd=MUSEUM, env=environment)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    """Write what is missing of the releases named, or of all."""
    uv = [sys.executable, "-m", "uv"]
    for release in sys.argv[1:] or RELEASES:
        archive = MUSEUM / f"sklearn-{release}.tar.xz"
        if archive.exists():
            print(f"{archive.name} is there")
            continue
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "venv" / "bin" / "python"
            run(*uv, "venv", "--quiet", "--python", "3.11", Path(folder) / "venv")
            install = [*uv, "pip", "install", "--quiet", "--python", python]
            day = RELEASES[release]
            run(*install, "--exclude-newer", day, f"scikit-learn=={release}", "pandas", "joblib")
            run(*install, ROOT)
            cache = str(Path(folder) / "cache")
            run(python, "write.py", archive, HOLDFAST_CACHE=cache, OMP_NUM_THREADS="1")
        print(f"{archive.name}: {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
