"""Running a function of Holdfast in a process that can do little: a sandbox.

With bubblewrap (https://github.com/containers/bubblewrap) the process has no network, sees only
the libraries it needs and the files it is given, may write in one folder, may not start other
processes, and is gone at its time limit whatever it does. Without it the process shuts itself in
before it reads anything: Landlock keeps it to the same places, a system call filter keeps it from
sockets, processes and signals. Where the kernel has neither, only memory and time are limited,
which is enough for a parser and not for foreign code.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from holdfast.environment import landlock, seccomp
from holdfast.environment.watching import Job, require_plain, result_of, watch
from holdfast.errors import EnvironmentMismatch

__all__ = ["BUBBLEWRAP", "LANDLOCK", "Limits", "Outcome", "holder", "missing", "run"]

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_FILES: Final = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_RANDOM: Final = ("/dev/urandom", "/dev/random", "/dev/zero")
BUBBLEWRAP: Final = "bubblewrap"
LANDLOCK: Final = "Landlock and seccomp"
_INPUTS: Final = "/holdfast-input"
_FOLDER: Final = "/holdfast-work"
_BOOT: Final = """\
import sys
sys.path[:] = sys.argv[2:]
from holdfast.environment.inside import enter
enter(sys.argv[1])
"""
_HINT: Final = "sudo apt-get install bubblewrap  # or: dnf install bubblewrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a sandboxed process may use.

    Attributes:
        memory: Bytes of memory that is its own.
        cpu: Seconds of computing.
        wall: Seconds from beginning to end.
        disk: Bytes that it may write.
    """

    memory: int = 4 << 30
    cpu: int = 300
    wall: float = 300.0
    disk: int = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went.

    Attributes:
        result: What the function returned, as JSON; untrusted. None when it did not get there.
        ended: ``"done"``, ``"failed"``, ``"time"`` or ``"disk"``.
        output: The end of what it printed, untrusted.
        by: What held it: ``"bubblewrap"``, ``"Landlock and seccomp"``, or None when it was only
            limited.
    """

    result: dict[str, Any] | None
    ended: str
    output: str
    by: str | None


def run(
    module: str,
    *,
    folder: Path,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Path],
    limits: Limits,
    confine: bool = True,
) -> Outcome:
    """Run ``main(**arguments)`` of a module of ours in a sandbox.

    Args:
        module: The module's name, from our own code.
        folder: An empty folder of the caller's, the only place where the process may write; it is
            its working directory.
        arguments: JSON-like; the path of each input is added under its name.
        inputs: Files or folders that it may read, beside the libraries of this environment.
        limits: What it may use.
        confine: Whether it must be held; without, it is only limited where nothing can hold it.

    Raises:
        EnvironmentMismatch: It must be confined, and cannot be here.
        Corrupt: It left something else than files and folders in its folder.
    """
    by = holder()
    if by is None and confine:
        raise EnvironmentMismatch(
            f"There is no sandbox here: {missing()}, and the kernel has no Landlock.", hint=_HINT
        )
    wrapped = by == BUBBLEWRAP
    (folder / "tmp").mkdir()
    places = {
        name: f"{_INPUTS}/{name}" if wrapped else str(path.resolve())
        for name, path in inputs.items()
    }
    task = {
        "module": module,
        "arguments": {**arguments, **places},
        "limits": {name: int(v) for name, v in asdict(limits).items() if name != "wall"},
        "places": _places(folder, places.values()) if by == LANDLOCK else None,
    }
    inner = [sys.executable, "-I", "-c", _BOOT, json.dumps(task), *_import_path()]
    with _pipes() as (rules, told, telling):
        outer = _bubblewrap(folder, inputs, rules, telling) if wrapped else []
        job = Job(
            command=[*outer, *inner],
            folder=folder,
            environment=_environment(),
            wall=limits.wall,
            disk=limits.disk,
            told=told if wrapped else None,
            fds=(rules, telling) if wrapped else (),
        )
        ended, output = watch(job)
    if ended == "done":
        require_plain(folder)
    result = result_of(folder) if ended == "done" else None
    ended = "failed" if ended == "done" and result is None else ended
    return Outcome(result=result, ended=ended, output=output, by=by)


def holder() -> str | None:
    """Return what can hold a process here, the best first; None when nothing can."""
    if missing() is None:
        return BUBBLEWRAP
    return LANDLOCK if landlock.release() and seccomp.program() is not None else None


@functools.cache
def missing() -> str | None:
    """Return why bubblewrap cannot hold a process here, None when it can."""
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed" if sys.platform == "linux" else "it needs Linux"
    if seccomp.program() is None:
        return "the system calls of this kind of machine are not known"
    words = [program, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - fixed words
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason told"]
        return f"bubblewrap may not do its work ({said[-1][:200]})"
    return None


@functools.cache
def _import_path() -> tuple[str, ...]:
    """Return where a program of this environment imports from, beside its own folder.

    The folder of the running script is left out: it is the user's, and no library.
    """
    words = [sys.executable, "-P", "-c", "import sys; print(*sys.path, sep='\\n')"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - fixed words
    own = str(Path(__file__).resolve().parents[2])
    places = [own, *done.stdout.splitlines()]
    return tuple(dict.fromkeys(place for place in places if place and Path(place).exists()))


def _places(folder: Path, given: Iterable[str]) -> dict[str, list[str]]:
    """Return where a process may read and where it may write, for Landlock."""
    reading = [*_SYSTEM, *_FILES, *_libraries(), *given, *_RANDOM]
    return {"reading": reading, "writing": [str(folder.resolve())]}


def _bubblewrap(folder: Path, inputs: Mapping[str, Path], rules: int, telling: int) -> list[str]:
    """Return the command that confines; later words lie over earlier ones."""
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    words += ["--new-session", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    for place in (*_SYSTEM, *_FILES, *_libraries()):
        words += ["--ro-bind-try", place, place]
    for name, path in inputs.items():
        words += ["--ro-bind", str(path.resolve()), f"{_INPUTS}/{name}"]
    words += ["--bind", str(folder), _FOLDER, "--chdir", _FOLDER]
    words += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return [*words, "--seccomp", str(rules), "--info-fd", str(telling), "--"]


def _libraries() -> list[str]:
    """Return the folders of this Python and of what it imports, none of them inside another."""
    places = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    places += [sysconfig.get_path("stdlib"), str(Path(sys.executable).resolve().parent)]
    places += _import_path()
    kept: list[str] = []
    for place in sorted({*places, *(str(Path(place).resolve()) for place in places)}):
        if not any(Path(place).is_relative_to(outer) for outer in (*_SYSTEM, *kept)):
            kept.append(place)
    return kept


def _environment() -> dict[str, str]:
    """Return the few variables that the process gets: no secrets, no proxies, no user."""
    own = {name: value for name in ("KERAS_BACKEND", "TZ") if (value := os.environ.get(name))}
    return {
        **own,
        "PATH": "/usr/bin:/bin",
        "HOME": _FOLDER,
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TMPDIR": "tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "HOLDFAST_CACHE": "cache",
        "LOKY_MAX_CPU_COUNT": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


@contextmanager
def _pipes() -> Iterator[tuple[int, int, int]]:
    """Hand out where the filter is read from, and both ends of what bubblewrap tells."""
    rules, writing = os.pipe()
    told, telling = os.pipe()
    os.set_blocking(told, False)
    try:
        os.write(writing, seccomp.program() or b"")
        os.close(writing)
        yield rules, told, telling
    finally:
        for each in (rules, told, telling):
            os.close(each)
