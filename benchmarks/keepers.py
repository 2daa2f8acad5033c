"""DVC, git-lfs and MLflow, keeping versions of one file: the bytes that each of them stores.

A tool that is not there is fetched into a folder: packages into an environment of their own,
git-lfs out of Debian's package, which is unpacked and not installed. What cannot be had is told.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = "model.safetensors"
PACKAGES = ("dvc", "mlflow-skinny")
# In its own environment: a copy of the file for each version, as a run's artifact.
LOG = """
import sys, mlflow
mlflow.set_tracking_uri("file:mlruns")
with mlflow.start_run():
    mlflow.log_artifact(sys.argv[1], sys.argv[2])
"""


class Keepers:
    """The tools that are there, by their names, each with what counts the bytes it stores."""

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.found = {}
        self._tool("git-lfs", self._git_lfs, self._with_git_lfs)
        self._tool("DVC", lambda: self._package("dvc"), self._with_dvc)
        self._tool("MLflow", lambda: self._package("mlflow"), self._with_mlflow)

    def stored(self, paths):
        """Yield each tool's name and version, and the bytes it stores for all versions."""
        for name, (version, keep) in self.found.items():
            with tempfile.TemporaryDirectory(dir=self.folder) as place:
                yield f"{name} {version}", keep(Path(place), paths)

    def _tool(self, name, find, keep):
        try:
            self.found[name] = find(), keep
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error)
            print(f"SKIPPED: {name} cannot be had here: {output.strip()[-300:]}", file=sys.stderr)

    def _git_lfs(self):
        self.git_lfs = shutil.which("git-lfs") or self.folder / "usr/bin/git-lfs"
        if not Path(self.git_lfs).exists():
            run("apt-get", "download", "git-lfs", at=self.folder)
            for package in self.folder.glob("git-lfs_*.deb"):
                run("dpkg", "-x", package, self.folder)
        return run(self.git_lfs, "version").split()[0].removeprefix("git-lfs/")

    def _package(self, name):
        tools = self.folder / "venv/bin"
        if not (tools / name).exists():
            run(sys.executable, "-m", "venv", self.folder / "venv")
            run(tools / "python", "-m", "pip", "install", *PACKAGES)
        return run(tools / name, "--version").split()[-1]

    def _with_git_lfs(self, place, paths):
        search = f"{Path(self.git_lfs).parent}{os.pathsep}{os.environ['PATH']}"
        repository(place)
        run("git", "lfs", "install", "--local", at=place, PATH=search)
        run("git", "lfs", "track", "*.safetensors", at=place, PATH=search)
        for path in paths:
            shutil.copyfile(path, place / FILE)
            run("git", "add", ".", at=place, PATH=search)
            run("git", "commit", "-qm", path.stem, at=place, PATH=search)
        return size_of(place / ".git/lfs")

    def _with_dvc(self, place, paths):
        dvc = self.folder / "venv/bin/dvc"
        repository(place)
        run(dvc, "init", "-q", at=place)
        for path in paths:
            (place / FILE).unlink(missing_ok=True)
            shutil.copyfile(path, place / FILE)
            run(dvc, "add", "-q", FILE, at=place)
            run("git", "add", ".", at=place)
            run("git", "commit", "-qm", path.stem, at=place)
        return size_of(place / ".dvc/cache")

    def _with_mlflow(self, place, paths):
        for path in paths:
            words = self.folder / "venv/bin/python", "-c", LOG, path.resolve(), path.stem
            run(*words, at=place, MLFLOW_ALLOW_FILE_STORE="true")
        return size_of(place / "mlruns")


def repository(place):
    run("git", "init", "-q", at=place)
    for name, value in (("user.name", "b"), ("user.email", "b@example.org"), ("gc.auto", "0")):
        run("git", "config", name, value, at=place)


def size_of(folder):
    """Return the bytes of all files in a folder, each file once however many names it has."""
    found = (file.stat() for file in Path(folder).rglob("*") if file.is_file())
    return sum({stat.st_ino: stat.st_size for stat in found}.values())


def run(*words, at=None, **environment):
    """Return what a command prints; raises where it fails."""
    done = subprocess.run(
        words, cwd=at, check=True, capture_output=True, text=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_NOSYSTEM": "1", **environment},
    )  # fmt: skip
    return done.stdout.strip()
