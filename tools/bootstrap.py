"""Make .venv: a virtual environment with uv, the project and what its tests need.

Needs only Python 3.11+ with pip and venv. PyTorch is installed when pip is configured to find a
CPU build locally, or when UV_TORCH_BACKEND=cpu is set; a CUDA build is never downloaded.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path("Scripts/python.exe" if os.name == "nt" else "bin/python")

# Frameworks whose tests have an environment of their own, to the extras it is made of.
HEAVY = {
    "catboost": "catboost",
    "jax": "jax",
    "keras": "keras,jax,h5,torch",
    "spacy": "spacy",
    "statsmodels": "statsmodels",
    "tensorflow": "keras,tensorflow,h5",
    "transformers": "transformers,transformers-test,torch",
}


def run(*words: str | Path) -> None:
    """Run a program; stop with its status when it fails."""
    done = subprocess.run([str(word) for word in words], check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.returncode)


def find_links() -> list[str]:
    """Return where pip is configured to look for wheels beside its index; uv does not read that."""
    configured = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    if not configured:
        words = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
        asked = subprocess.run(words, capture_output=True, text=True, check=False)
        configured = asked.stdout if asked.returncode == 0 else ""
    return [place for place in re.split(r"[\s,]+", configured.strip()) if place]


def has_cpu_torch(places: list[str]) -> bool:
    """Say whether a local folder holds a CPU wheel of the pinned torch for this Python."""
    pinned = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if pinned is None:
        return False
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    pattern = f"torch-{pinned.group(1)}+cpu-{tag}-*{platform.machine()}.whl"
    for place in places:
        url = urlparse(place)
        if url.scheme in ("", "file") and any(Path(unquote(url.path)).glob(pattern)):
            return True
    return False


def main() -> None:
    """Create the environment, or that of the framework named, and say what is missing from it."""
    framework = sys.argv[1] if len(sys.argv) > 1 else None
    venv = ROOT / (".venv" if framework not in HEAVY else f".venvs/{framework}")
    python = venv / SCRIPTS
    if sys.version_info < (3, 11):  # noqa: UP036 - this script runs before any check of pip's
        raise SystemExit(f"Holdfast needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", venv)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "uv")
    places = find_links()
    os.environ["UV_FIND_LINKS"] = ",".join(places)
    with_torch = has_cpu_torch(places) or os.environ.get("UV_TORCH_BACKEND") == "cpu"
    extras = ["test", HEAVY.get(framework, "light,check,torch")]
    if not with_torch:
        extras = [part for part in ",".join(extras).split(",") if part != "torch"]
    # Tests start many processes, and where writing bytecode is off each would compile anew.
    install = [python, "-m", "uv", "pip", "install", "--python", python, "--compile-bytecode"]
    install.append("--quiet")
    run(*install, "--constraint", "constraints.txt", "--editable", f".[{','.join(extras)}]")
    if not with_torch:
        print(
            "NOTE: no CPU build of PyTorch was found, so its tests are skipped.\n"
            "      Where the PyTorch index can be reached: UV_TORCH_BACKEND=cpu make setup"
        )
    print(f"Ready: {venv}")


if __name__ == "__main__":
    main()
