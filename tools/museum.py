"""Write archives of the museum under the libraries of their time, and read each under all others.

``python tools/museum.py write [ARCHIVE …]`` writes what is missing. Each archive gets an
environment with what was newest on a day of its time; Holdfast comes last and upgrades nothing.
Archives that exist are left as they are: they are what a release once wrote.

``python tools/museum.py read [FAMILY …]`` reads every archive of a family with the Holdfast of this
checkout, under the libraries of every other, and prints how many answer as they did then.
Environments stay in ``.venvs/museum`` for the next time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MUSEUM = ROOT / "tests" / "museum"
UV = [sys.executable, "-m", "uv"]


class Setting(NamedTuple):
    """What an archive is written under.

    Attributes:
        day: On which its library was the newest; what it depends on is of that day.
        packages: What else is installed.
    """

    day: str
    packages: tuple[str, ...]


SKLEARN = ("pandas", "joblib")
BOOSTERS = ("scikit-learn", "pandas", "joblib")
SETTINGS = {
    "sklearn-1.2.2": Setting("2023-06-01", SKLEARN),
    "sklearn-1.3.2": Setting("2023-12-15", SKLEARN),
    "sklearn-1.4.2": Setting("2024-05-10", SKLEARN),
    "sklearn-1.5.2": Setting("2024-11-15", SKLEARN),
    "sklearn-1.6.1": Setting("2025-03-15", SKLEARN),
    "sklearn-1.7.2": Setting("2025-10-15", SKLEARN),
    "sklearn-1.8.0": Setting("2026-02-15", SKLEARN),
    "sklearn-1.9.1": Setting("2026-11-20", SKLEARN),
    "xgboost-1.7.6": Setting("2023-08-01", BOOSTERS),
    "xgboost-2.0.3": Setting("2024-02-01", BOOSTERS),
    "xgboost-3.2.0": Setting("2026-11-20", BOOSTERS),
    "lightgbm-3.3.5": Setting("2023-06-01", BOOSTERS),
    "lightgbm-4.3.0": Setting("2024-05-10", BOOSTERS),
    "lightgbm-4.7.0": Setting("2026-11-20", BOOSTERS),
    "pandas-2.0.2": Setting("2023-06-10", BOOSTERS),
    "pandas-2.2.2": Setting("2024-07-15", BOOSTERS),
    "pandas-3.1.1": Setting("2026-11-20", BOOSTERS),
    "keras-3.5.0": Setting("2024-09-15", ("jax", "joblib")),
    "keras-3.15.1": Setting("2026-11-20", ("jax", "joblib")),
}
# Family to its distribution, where that has another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
# The newest XGBoost is there without its gigabytes for graphics cards.
SMALLER = {"xgboost-3.2.0": "xgboost-cpu"}


def run(*words: str | Path, **variables: str) -> str:
    """Run a program and return what it printed; stop with its status when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "jax", **variables}
    done = subprocess.run(
        [str(word) for word in words],
        check=False,
        cwd=MUSEUM,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def python_of(name: str) -> Path:
    """Return the interpreter of an archive's environment, which is made where it is missing."""
    folder = ROOT / ".venvs" / "museum" / name
    python = folder / "bin" / "python"
    if not python.exists():
        family, _, release = name.partition("-")
        library = SMALLER.get(name, DISTRIBUTIONS.get(family, family))
        setting = SETTINGS[name]
        run(*UV, "venv", "--quiet", "--python", "3.11", folder)
        install = [*UV, "pip", "install", "--quiet", "--python", python]
        wanted = [f"{library}=={release}", *(each for each in setting.packages if each != library)]
        run(*install, "--exclude-newer", setting.day, *wanted)
        run(*install, ROOT)
    return python


def write(name: str) -> None:
    """Write one archive, unless it is there."""
    archive = MUSEUM / f"{name}.tar.xz"
    if archive.exists():
        print(f"{archive.name} is there")
        return
    python = python_of(name)
    with tempfile.TemporaryDirectory() as cache:
        run(*UV, "pip", "install", "--quiet", "--reinstall-package", "holdfast-ml", "--no-deps",
            "--python", python, ROOT)  # fmt: skip
        run(python, "write.py", archive, HOLDFAST_CACHE=cache)
    print(f"{archive.name}: {archive.stat().st_size:,} bytes")


def read(family: str) -> None:
    """Print what became of every archive of a family under the libraries of every other."""
    archives = [name for name in SETTINGS if name.partition("-")[0] == family]
    print(f"| written under | {' | '.join(name.partition('-')[2] for name in archives)} |")
    print(f"|---|{'---|' * len(archives)}")
    faults = []
    for written in archives:
        cells = []
        for reading in archives:
            found = outcomes(written, python_of(reading))
            counts = Counter(
                outcome.partition(":")[0].partition(" ")[0] for outcome in found.values()
            )
            cells.append(", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts)))
            faults += [f"{written} under {reading}: {name} {outcome}"
                       for name, outcome in found.items() if outcome != "right"]  # fmt: skip
        print(f"| {written.partition('-')[2]} | {' | '.join(cells)} |", flush=True)
    print(*faults, sep="\n", file=sys.stderr)


def outcomes(name: str, python: Path) -> dict[str, str]:
    """Return what became of each version of an archive under an interpreter's libraries."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(MUSEUM / f"{name}.tar.xz") as packed:
            packed.extractall(folder, filter="data")
        store, family = Path(folder) / "store", name.partition("-")[0]
        cache = str(Path(folder) / "cache")
        said = run(python, "read.py", store, family, HOLDFAST_CACHE=cache,
                   PYTHONPATH=str(ROOT / "src"))  # fmt: skip
    found: dict[str, str] = json.loads(said.splitlines()[-1])
    return found


def main() -> None:
    """Do what the first word says with the archives or families that the others name."""
    verb, names = sys.argv[1], sys.argv[2:]
    if verb == "write":
        for name in names or SETTINGS:
            write(name)
    elif verb == "read":
        for family in names or dict.fromkeys(name.partition("-")[0] for name in SETTINGS):
            read(family)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
