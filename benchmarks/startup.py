"""Start-up of a plain install: import, ``hold ls``, how many packages; MLflow where it is there.

Run: python benchmarks/startup.py

The plain install is made afresh in a temporary environment, since packages that other tools bring
(typing_extensions, say) are imported by ours when they are there. MLflow 3.x was measured at 3.7 s
and 87 packages (research of this project, same kind of machine); it is timed here when installed.
"""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from timing import Sample, alternate, at_most, ms, show, under

ROUNDS = 15
ROOT = Path(__file__).resolve().parents[1]
MODELS = """
import holdfast, numpy
for i in range(20):
    holdfast.save({'a': numpy.arange(i + 1)}, f'm{i}')
"""


def run(command, env=None):
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=env)
    return Sample(time.perf_counter() - started, 0.0)


def plain_install(folder):
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "--quiet", "--python", sys.executable, folder])
    python = folder / "bin" / "python"
    run([*uv, "pip", "install", "--quiet", "--python", python, ROOT])
    listed = subprocess.run(
        [*uv, "pip", "list", "--python", python, "--format", "freeze"],
        check=True,
        capture_output=True,
        text=True,
    )
    return python, listed.stdout.split()


def has_mlflow():
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python, packages = plain_install(folder / "plain")
        hold = python.with_name("hold")
        env = {**os.environ, "HOLDFAST_STORE": f"{folder}/s", "HOLDFAST_CACHE": f"{folder}/c"}
        run([python, "-c", MODELS], env)
        actions = {
            "bare": partial(run, [python, "-c", "pass"]),
            "import": partial(run, [python, "-c", "import holdfast"]),
            "ls": partial(run, [hold, "ls"], env),
            "log": partial(run, [hold, "log", "m1"], env),
        }
        if has_mlflow():
            actions["mlflow"] = partial(run, [sys.executable, "-c", "import mlflow"])
        samples = alternate(actions, ROUNDS)
    rows = [
        under("python -c 'import holdfast', whole process", samples["import"], 50),
        under("hold ls (20 models), whole process", samples["ls"], 200),
        under("hold log m1, whole process", samples["log"], 200),
        at_most("packages of a plain install, itself included", len(packages), 12, "packages", 87),
    ]
    show(f"start-up; bare Python takes {ms(samples['bare'], 'wall')}", rows)
    if "mlflow" in samples:
        print(f"import mlflow: {ms(samples['mlflow'], 'wall')}")
    print(", ".join(packages))


if __name__ == "__main__":
    main()
