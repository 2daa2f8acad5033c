"""Making the environment that a version was saved in again, with uv.

A record names distributions; only those of a table in this repository are ever installed, in
versions that are versions and nothing else, as wheels (whose installation runs no code). The index
is asked for what it had when the version was saved, so that what was not recorded is of that time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from holdfast.durable import mapped_os_errors
from holdfast.environment.capture import installed_version
from holdfast.errors import EnvironmentMismatch
from holdfast.plugins import REQUIREMENTS

__all__ = ["ABOUT", "BUILDING", "FOLDER", "LOCK", "OURS", "Plan", "Ready", "plan", "ready", "uv"]

OURS: Final = "holdfast-ml"
# What Holdfast itself imports on its way to a model, beside numpy; it lies outside the environment.
_BESIDE: Final = ("msgspec", "packaging", "platformdirs")
_LISTED: Final = frozenset(
    {canonicalize_name(text.partition(">")[0]) for text in REQUIREMENTS.values()}
    | {"numpy", "thinc", "tensorflow-cpu", "xgboost-cpu"}
)
_OLDEST: Final = (3, 11)
_MONTH: Final = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])-\d{2}T")
_MINUTES: Final = 60
# Names in the cache: the folder of all; beside each environment's; and in it, what it is.
FOLDER, BUILDING, LOCK, ABOUT = "environments", ".building", ".lock", "holdfast.json"
_UNREACHABLE: Final = (
    "failed to fetch", "error sending request", "network connectivity", "dns error", "offline",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """An environment to be made.

    Attributes:
        requirements: Distributions with their exact versions, and those of which none is recorded.
        python: ``3.11``.
        as_of: End of the month in which the version was saved: nothing that the index got later
            is installed, and what was saved in the same month shares an environment.
    """

    requirements: tuple[str, ...]
    python: str
    as_of: str | None

    @property
    def key(self) -> str:
        """Digest of what determines the environment; versions with the same key share one."""
        facts = [self.requirements, self.python, self.as_of, sys.platform, platform.machine()]
        facts.append(" ".join(platform.libc_ver()))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


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


def plan(environment: Mapping[str, Any], created: str, also: Iterable[str] = ()) -> Plan:
    """Say what an environment like the recorded one consists of; looks at nothing outside.

    Args:
        environment: Of the record: untrusted.
        created: Of the record: when it was saved.
        also: Distributions that the version needs and of which no version is recorded.

    Raises:
        EnvironmentMismatch: It names what is never installed, or no library, or no usable Python.
    """
    packages = environment.get("packages")
    named = packages if isinstance(packages, dict) else {}
    pinned: dict[str, Version] = {
        str(canonicalize_name(str(name))): _exact(str(name), wanted)
        for name, wanted in named.items()
        if name != OURS
    }
    if not pinned:
        raise EnvironmentMismatch("The record names no libraries, so none can be installed.")
    free = [name for name in sorted({*also}) if canonicalize_name(name) not in pinned]
    unlisted = sorted({*pinned, *map(canonicalize_name, free)} - _LISTED)
    if unlisted:
        raise EnvironmentMismatch(
            f"Its environment has {unlisted[0]:.80}, which is not among the libraries that "
            "Holdfast installs: a file must not choose what code comes onto this machine.",
            hint=f'python -m pip install "{unlisted[0]:.80}"  # if you trust it',
        )
    wanted = tuple([f"{name}=={version}" for name, version in sorted(pinned.items())] + free)
    return Plan(wanted, _python(environment.get("python")), _month_end(created))


def _month_end(created: str) -> str | None:
    found = _MONTH.match(created)
    if found is None:
        return None
    year, month = int(found[1]), int(found[2])
    return f"{year + month // 12}-{month % 12 + 1:02}-01T00:00:00Z"


def _exact(name: str, wanted: object) -> Version:
    try:
        return Version(wanted if isinstance(wanted, str) and len(wanted) < 100 else "")
    except InvalidVersion as error:
        raise EnvironmentMismatch(
            f"The record says that {name:.80} had the version {wanted!r:.60}, which is none."
        ) from error


def _python(text: object) -> str:
    found = re.match(r"(\d{1,2})\.(\d{1,3})(\.|$)", text) if isinstance(text, str) else None
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        raise EnvironmentMismatch(
            f"The record says that it was saved under Python {text!r:.40}; a worker needs "
            f"{_OLDEST[0]}.{_OLDEST[1]} or newer."
        )
    return f"{found[1]}.{found[2]}"


def uv() -> list[str] | None:
    """Return the command that runs uv, None where it is not installed."""
    if find_spec("uv") is not None:
        return [sys.executable, "-P", "-m", "uv"]  # not what lies in the working directory
    program = shutil.which("uv")
    return None if program is None else [program]


Announce = Callable[[str], AbstractContextManager[None]]


def ready(wanted: Plan, cache: Path, *, announce: Announce) -> Ready:
    """Find or build an environment, once for all processes.

    Args:
        wanted: What it consists of.
        cache: Folder of disposable files.
        announce: Given words, a context in which a person is told that something takes a while.

    Raises:
        EnvironmentMismatch: It cannot be built: no uv, no such Python, no network, no such wheel.
        NoSpace: The disk is full; nothing half-built is left.
    """
    versions = {name: installed_version(name) for name in _BESIDE}
    ours = tuple(name if found is None else f"{name}=={found}" for name, found in versions.items())
    beside = Plan(ours, wanted.python, None)
    with mapped_os_errors(cache, "building an environment"), contextlib.ExitStack() as locks:
        folder = cache / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        place, built = _built(folder, wanted, locks, announce, _install)
        python = place / "bin" / "python"
        rest, too = _built(
            folder, beside, locks, announce, lambda it, to: _install_beside(it, to, python)
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
        about = {"requirements": wanted.requirements, "python": wanted.python}
        (building / ABOUT).write_text(json.dumps(about), "utf-8")
        building.rename(place)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _is_whole(place: Path) -> bool:
    has_python = (place / "bin" / "python").exists() or not (place / "pyvenv.cfg").exists()
    return has_python and (place / ABOUT).exists()


def _install(wanted: Plan, to: Path) -> None:
    here = "{}.{}".format(*sys.version_info)
    python = sys.executable if wanted.python == here else wanted.python
    _run(["venv", "--quiet", "--no-project", "--python", python, str(to)], wanted, to.parent)
    until = [] if wanted.as_of is None else ["--exclude-newer", wanted.as_of]
    words = ["pip", "install", "--quiet", "--compile-bytecode", "--link-mode", "hardlink"]
    words += ["--only-binary", ":all:", "--python", str(to / "bin" / "python"), *until]
    _run([*words, *wanted.requirements], wanted, to.parent)


def _install_beside(wanted: Plan, to: Path, python: Path) -> None:
    words = ["pip", "install", "--quiet", "--compile-bytecode", "--link-mode", "hardlink"]
    words += ["--only-binary", ":all:", "--no-deps", "--python", str(python), "--target", str(to)]
    _run([*words, *wanted.requirements], wanted, to.parent)


def _run(words: Sequence[str], wanted: Plan, folder: Path) -> None:
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
        done = subprocess.run(  # noqa: S603 - names from our table, versions that were parsed
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
            f"Building the environment took more than {_MINUTES} minutes.", hint=_by_hand(wanted)
        ) from error
    if done.returncode:
        raise _failure(words[0], done.stderr, wanted)


def _failure(step: str, said: str, wanted: Plan) -> EnvironmentMismatch:
    words = " ".join(re.sub(r"[^ -~]+", " ", said).split())[-600:] or "it said nothing"
    if step == "venv":
        return EnvironmentMismatch(
            f"It was saved under Python {wanted.python}, and uv finds none here: {words}",
            hint=f"python -m uv python install {wanted.python}",
        )
    if any(word in said.casefold() for word in _UNREACHABLE):
        why = "The package index cannot be reached"
    else:
        why = "The package index does not offer these libraries for this machine and Python"
        if any("+" in text for text in wanted.requirements):
            why += " (what has a + in its version has an index of its own: set UV_INDEX)"
    return EnvironmentMismatch(f"{why}: {words}", hint=_by_hand(wanted))


def _by_hand(wanted: Plan) -> str:
    until = "" if wanted.as_of is None else f" --exclude-newer {wanted.as_of}"
    shown = " ".join(wanted.requirements)
    return f"python -m uv pip install --dry-run --python {wanted.python}{until} {shown}"
