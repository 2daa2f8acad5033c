"""Start-up beside MLflow where it is installed: import, ``hold ls``, installed packages.

Run: python benchmarks/startup.py
"""

import importlib.metadata
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 9


def wall(command, env=None):
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=env)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def closure(name):
    """Count the distributions an installation of ``name`` without extras needs, itself included."""
    seen, queue = set(), [name]
    while queue:
        current = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if current in seen:
            continue
        try:
            requires = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add(current)
        for line in requires:
            requirement, _, marker = line.partition(";")
            if "extra" in marker or ("sys_platform" in marker and "win32" in marker):
                continue
            queue.append(re.match(r"[A-Za-z0-9._-]+", requirement).group())
    return seen


def main():
    bare = wall([sys.executable, "-c", "pass"])
    rows = [("python -c pass", bare)]
    rows.append(("import holdfast", wall([sys.executable, "-c", "import holdfast"])))
    hold = Path(sys.executable).with_name("hold")
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HOLDFAST_STORE": f"{folder}/s", "HOLDFAST_CACHE": f"{folder}/c"}
        code = (
            "import holdfast, numpy\n"
            "for i in range(20):\n holdfast.save({'a': numpy.arange(i+1)}, f'm{i}')"
        )
        subprocess.run([sys.executable, "-c", code], check=True, env=env)
        rows.append(("hold ls (20 models)", wall([hold, "ls"], env)))
        rows.append(("hold log m1", wall([hold, "log", "m1"], env)))
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        rows.append(("import mlflow", wall([sys.executable, "-c", "import mlflow"])))
        print(f"mlflow: {len(closure('mlflow'))} packages")
    for name, seconds in rows:
        above = (seconds - bare) * 1e3
        print(f"{name:<22} {seconds * 1e3:8.1f} ms   above bare python {above:8.1f} ms")
    packages = closure("holdfast-ml")
    print(f"holdfast-ml: {len(packages)} packages with itself: {', '.join(sorted(packages))}")


if __name__ == "__main__":
    main()
