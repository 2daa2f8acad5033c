"""Making the environment that a version was saved in again, with uv.

A record names distributions; only those of a table in this repository are ever installed, in
versions that are versions and nothing else, as wheels (whose installation runs no code). The index
is asked for what it had when the version was saved, so that what was not recorded is of that time;
where the version has a lock, for the very wheels of the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.durable import mapped_os_errors
from holdfast.environment.capture import index_of, installed_version
from holdfast.environment.plan import OURS, Plan, plan
from holdfast.errors import EnvironmentMismatch

__all__ = [
    "ABOUT",
    "BUILDING",
    "FOLDER",
    "LOCK",
    "OURS",
    "Plan",
    "Ready",
    "beside",
    "plan",
    "ready",
    "run",
    "torch_index",
    "uv",
]

# What Holdfast itself imports on its way to a model, beside numpy; it lies outside the environment.
_BESIDE: Final = ("msgspec", "packaging", "platformdirs")
_MINUTES: Final = 60
# Names in the cache: the folder of all; beside each environment's; and in it, what it is.
FOLDER, BUILDING, LOCK, ABOUT = "environments", ".building", ".lock", "holdfast.json"
_UNREACHABLE: Final = (
    "failed to fetch", "error sending request", "network connectivity", "dns error", "offline",
    "network was disabled",
)  # fmt: skip
_OTHER_BYTES: Final = ("hash mismatch", "no trusted hash", "none of the hashes")
# With one of these the user has said where packages come from, and nothing is added.
_INDEXES: Final = (
    "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_URL",
    "UV_NO_INDEX", "UV_OFFLINE", "UV_TORCH_BACKEND",
)  # fmt: skip


class Ready(NamedTuple):
    """Environments that are there, and locked against ``prune`` until they are let go.

    Attributes:
        python: The interpreter.
        beside: Folder of what Holdfast itself needs, to be searched last.
        built: Whether something had to be built.
        release: Lets go.
    """

    python: Path
    beside: Path
    built: bool
    release: Callable[[], None]


def uv() -> list[str] | None:
    """Return the command that runs uv, None where it is not installed."""
    if find_spec("uv") is not None:
        return [sys.executable, "-P", "-m", "uv"]  # not what lies in the working directory
    program = shutil.which("uv")
    return None if program is None else [program]


Announce = Callable[[str], AbstractContextManager[None]]


def beside() -> tuple[str, ...]:
    """Return what Holdfast itself needs, in the versions that it has here."""
    versions = {name: installed_version(name) for name in _BESIDE}
    return tuple(name if found is None else f"{name}=={found}" for name, found in versions.items())


def ready(
    wanted: Plan, cache: Path, *, announce: Announce, wheelhouse: Path | None = None
) -> Ready:
    """Find or build an environment, once for all processes.

    Args:
        wanted: What it consists of.
        cache: Folder of disposable files.
        announce: Given words, a context in which a person is told that something takes a while.
        wheelhouse: Folder of wheels that takes the place of the package index; nothing is
            downloaded then.

    Raises:
        EnvironmentMismatch: It cannot be built: no uv, no such Python, no network, no such wheel.
        NoSpace: The disk is full; nothing half-built is left.
    """
    # A wheelhouse was made elsewhere, so it need not have the very releases that are here.
    ours = Plan(beside() if wheelhouse is None else _BESIDE, wanted.python, None)
    source = [] if wheelhouse is None else _only(wheelhouse)
    with mapped_os_errors(cache, "building an environment"), contextlib.ExitStack() as locks:
        folder = cache / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        place, built = _built(
            folder, wanted, locks, announce, lambda it, to: _install(it, to, source)
        )
        python = place / "bin" / "python"
        rest, too = _built(
            folder, ours, locks, announce, lambda it, to: _install_beside(it, to, python, source)
        )
        return Ready(python, rest, built or too, locks.pop_all().close)


def _built(
    folder: Path,
    wanted: Plan,
    locks: contextlib.ExitStack,
    announce: Announce,
    install: Callable[[Plan, Path], None],
) -> tuple[Path, bool]:
    """Return a folder that is complete, and whether this call made it; it stays locked."""
    place = folder / wanted.key
    lock = locks.enter_context((folder / f"{wanted.key}{LOCK}").open("ab"))
    made = False
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_whole(place):
            os.utime(place / ABOUT)
            return place, made
        # Two that both wait to write would wait for each other: let go before asking for more.
        fcntl.flock(lock, fcntl.LOCK_UN)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(place):
            with announce(f"Building the environment {', '.join(wanted.requirements)}"):
                _build(place, wanted, install)
            made = True


def _build(place: Path, wanted: Plan, install: Callable[[Plan, Path], None]) -> None:
    building = place.with_name(f"{place.name}{BUILDING}")
    for left in (building, place):  # of a build that was killed; of a Python that is gone
        shutil.rmtree(left, ignore_errors=True)
    try:
        install(wanted, building)
        about = {
            "requirements": wanted.requirements,
            "python": wanted.python,
            "locked": bool(wanted.pins),
        }
        (building / ABOUT).write_text(json.dumps(about), "utf-8")
        building.rename(place)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    has_python = (place / "bin" / "python").exists() or not (place / "pyvenv.cfg").exists()
    return has_python and (place / ABOUT).exists()


def _only(wheelhouse: Path) -> list[str]:
    if not wheelhouse.is_dir():
        raise EnvironmentMismatch(
            f"There is no wheelhouse {wheelhouse}.", hint=f"hold env bundle REF --to {wheelhouse}"
        )
    return ["--no-index", "--offline", "--find-links", str(wheelhouse.resolve())]


def _install(wanted: Plan, to: Path, source: Sequence[str]) -> None:
    here = "{}.{}".format(*sys.version_info)
    python = sys.executable if wanted.python == here else wanted.python
    hint = _by_hand(wanted)
    words = ["venv", "--quiet", "--no-project", "--python", python, str(to)]
    run(words, to.parent, python=wanted.python, hint=hint)
    words = [*_pip_install(to / "bin" / "python"), *_narrowed(wanted, to), *source]
    words += [] if source else torch_index(wanted.requirements)
    # What is in a wheelhouse has no date.
    words += [] if source or wanted.as_of is None else ["--exclude-newer", wanted.as_of]
    run([*words, *wanted.requirements], to.parent, python=wanted.python, hint=hint)


def _pip_install(python: Path) -> list[str]:
    words = ["pip", "install", "--quiet", "--compile-bytecode", "--link-mode", "hardlink"]
    return [*words, "--only-binary", ":all:", "--python", str(python)]


def _narrowed(wanted: Plan, to: Path) -> list[str]:
    """Write a lock as constraints, which let uv install nothing else and ask for nothing more."""
    if not wanted.pins:
        return []
    constraints = to / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in wanted.pins), "utf-8")
    return ["--require-hashes", "--constraints", str(constraints)]


def _install_beside(wanted: Plan, to: Path, python: Path, source: Sequence[str]) -> None:
    words = [*_pip_install(python), "--no-deps", "--target", str(to), *source]
    hint = _by_hand(wanted)
    run([*words, *wanted.requirements], to.parent, python=wanted.python, hint=hint)


def _by_hand(wanted: Plan) -> str:
    until = "" if wanted.as_of is None else f" --exclude-newer {wanted.as_of}"
    shown = " ".join(wanted.requirements)
    return f"python -m uv pip install --dry-run --python {wanted.python}{until} {shown}"


def torch_index(requirements: Iterable[str]) -> list[str]:
    """Return the words that have uv take PyTorch's packages, and only these, from their index."""
    if any(os.environ.get(name) for name in _INDEXES):
        return []
    pinned = (text.partition("==")[::2] for text in requirements)
    labels = {version.partition("+")[2] for name, version in pinned if index_of(name, version)}
    return ["--torch-backend", *labels] if len(labels) == 1 else []


def run(words: Sequence[str], folder: Path, *, python: str, hint: str) -> str:
    """Run uv and return what it wrote.

    Args:
        words: The command: names of our table, versions and texts that were judged.
        folder: Working directory, with no project in it or above.
        python: ``3.11``, for messages.
        hint: How to try by hand what failed.

    Raises:
        EnvironmentMismatch: uv is not installed, or it failed.
    """
    command = uv()
    if command is None:
        raise EnvironmentMismatch(
            "The environment it was saved in can be rebuilt with uv, which is not installed here.",
            hint="python -m pip install uv",
        )
    # Nothing is downloaded that nobody would expect, and no project in sight has a say.
    variables = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    variables.pop("VIRTUAL_ENV", None)
    try:
        done = subprocess.run(  # noqa: S603 - see ``words``
            [*command, *words],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_MINUTES * 60,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentMismatch(
            f"Building the environment took more than {_MINUTES} minutes.", hint=hint
        ) from error
    if done.returncode:
        raise _failure(words, done.stderr, python, hint)
    return done.stdout


def _failure(words: Sequence[str], said: str, python: str, hint: str) -> EnvironmentMismatch:
    shown = " ".join(re.sub(r"[^ -~]+", " ", said).split())[-600:] or "it said nothing"
    if words[0] == "venv":
        return EnvironmentMismatch(
            f"It was saved under Python {python}, and uv finds none here: {shown}",
            hint=f"python -m uv python install {python}",
        )
    folded = said.casefold()
    if any(word in folded for word in _OTHER_BYTES):
        return EnvironmentMismatch(
            f"Its lock is not of what the package index offers: {shown}",
            hint="hold env lock REF  # makes a new one, if the index is to be trusted",
        )
    if "--no-index" in words:
        return EnvironmentMismatch(
            f"The wheelhouse does not have these libraries: {shown}",
            hint="hold env bundle REF --to FOLDER  # where there is a network",
        )
    if any(word in folded for word in _UNREACHABLE):
        why = (
            "The package index cannot be reached (where there is no network, a folder of "
            "'hold env bundle' named by HOLDFAST_WHEELHOUSE serves)"
        )
    elif "--require-hashes" in words:
        why = "The package index does not offer what its lock names, for this machine and Python"
        hint = "hold env lock REF  # makes a new one"
    else:
        why = "The package index does not offer these libraries for this machine and Python"
        if any("+" in word for word in words):
            why += " (what has a + in its version has an index of its own: set UV_INDEX)"
    return EnvironmentMismatch(f"{why}: {shown}", hint=hint)
