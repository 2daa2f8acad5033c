"""A process that answers messages: started, asked, and ended, come what may.

It runs under another interpreter and imports Holdfast itself from where this process has it. With
bubblewrap it has no network, sees only the files it is given, none of which it can change, and may
not start other processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from holdfast.environment import messages, sandbox, seccomp
from holdfast.environment.exchange import Exchange, hear_out
from holdfast.errors import Corrupt, EnvironmentMismatch

__all__ = ["Child", "Start"]

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_FILES: Final = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_PASSED: Final = (
    "KERAS_BACKEND", "LOKY_MAX_CPU_COUNT", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "TZ",
)  # fmt: skip
_PACKAGE: Final = Path(__file__).resolve().parents[1]
# How Python, C++ and libraries of numbers say that they got no more memory.
_OUT_OF_MEMORY: Final = (
    "MemoryError", "bad_alloc", "Cannot allocate memory", "Memory allocation", "out of memory",
)  # fmt: skip
_PATIENCE: Final = 0.5
# What prints go to must not be what answers go to, before anything else is imported.
_BOOT: Final = """\
import os, resource, sys
told, asked = os.dup(1), os.dup(0)
os.dup2(2, 1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.path[:0] = [sys.argv[1]]
sys.path.extend(sys.argv[2:3])
from importlib import import_module
if sys.argv[4]:
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[4]),) * 2)
import_module(sys.argv[3]).serve(os.fdopen(asked, "rb", 0), os.fdopen(told, "wb", 0))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a process is started with.

    Attributes:
        python: The interpreter, in an environment of its own.
        beside: Folder that is searched for modules last; None for none.
        module: Module of ours whose ``serve(asked, told)`` answers.
        sees: Files and folders that it may read.
        confine: Whether bubblewrap holds it, where it is installed.
        memory: Bytes that it may have for itself, reserved ones among them; None without a limit.
    """

    python: Path
    beside: Path | None
    module: str
    sees: tuple[Path, ...] = ()
    confine: bool = True
    memory: int | None = None


class Child:
    """A running process. Whatever it does wrong ends it, and is told as ``EnvironmentMismatch``.

    Attributes:
        confined: Whether bubblewrap holds it.
    """

    def __init__(self, start: Start, *, after: Callable[[], None] = lambda: None) -> None:
        self._turn = threading.Lock()
        self._owner = os.getpid()
        self._count = 0
        self._tail = bytearray()
        self._memory = start.memory
        self.confined = start.confine and sandbox.missing() is None
        package = Path(tempfile.mkdtemp(prefix="holdfast-worker-"))
        (package / "tmp").mkdir()
        (package / "holdfast").symlink_to(_PACKAGE)
        told: int | None = None
        try:
            with _pipes(confined=self.confined) as (rules, telling, told):
                process = _started(start, package, (rules, telling) if self.confined else ())
        except OSError as error:
            shutil.rmtree(package, ignore_errors=True)
            after()
            raise EnvironmentMismatch(f"The worker cannot be started: {error}") from error
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None  # noqa: S101 - all three are pipes
            os.set_blocking(pipe.fileno(), False)
        self._process = process
        self._end = weakref.finalize(self, _end, process, told, package, self._owner, after)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._end.alive and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process, or bubblewrap's that holds it."""
        return self._process.pid

    def close(self) -> None:
        """End it; a second call does nothing."""
        self._end()

    def ask(
        self, header: Mapping[str, Any], runs: Iterable[memoryview], *, seconds: float
    ) -> tuple[dict[str, Any], list[memoryview]]:
        """Send a message and return the answer, of which nothing is to be believed.

        Args:
            header: JSON-like.
            runs: Bytes that go with it.
            seconds: How long to wait; then the process is ended.

        Raises:
            EnvironmentMismatch: It died, took too long or answered nonsense; it is ended.
        """
        if os.getpid() != self._owner:
            raise EnvironmentMismatch("The worker belongs to the process that started it.")
        with self._turn:
            if not self._end.alive:
                raise EnvironmentMismatch("The worker has ended.")
            self._count += 1
            parts = messages.packed({**header, "id": self._count}, runs)
            try:
                answer, found = Exchange(self._process, self._tail, parts, seconds).run()
                if answer.pop("id", None) != self._count:
                    raise Corrupt("it answered something else than it was asked")  # noqa: TRY301
            except (Corrupt, OSError, TimeoutError, EOFError) as error:
                raise self._failed(error, seconds) from error
            except BaseException:
                self.close()
                raise
            return answer, found

    def _failed(self, error: Exception, seconds: float) -> EnvironmentMismatch:
        status = None
        if isinstance(error, EOFError | OSError) and not isinstance(error, TimeoutError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(1)
        hear_out(self._process, self._tail)
        self.close()
        if isinstance(error, Corrupt):
            why = f"answered nonsense: {error.message}"
        elif isinstance(error, TimeoutError):
            why = f"did not answer within {seconds:g} s"
        else:
            why = "died" if status is None else f"died with status {status}"
        text = self._tail.decode("utf-8", "replace")
        last = "".join(c if c.isprintable() else " " for c in text).strip()[-300:]
        said = f" The last it printed: {last}" if last else ""
        if self._memory is not None and any(word in text for word in _OUT_OF_MEMORY):
            why += f", out of the {self._memory / 2**30:.1f} GiB of memory that it may use"
        return EnvironmentMismatch(f"The worker {why}.{said}")


def _started(start: Start, package: Path, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    outer = _bubblewrap(start, package, *fds) if fds else []
    inner = [str(start.python), "-I", "-B", "-X", "utf8", "-c", _BOOT, str(package)]
    inner += ["" if start.beside is None else str(start.beside), start.module]
    inner += ["" if start.memory is None else str(start.memory)]
    return subprocess.Popen(  # noqa: S603 - a command of ours
        [*outer, *inner],
        bufsize=0,
        cwd=package,
        env=_environment(package / "tmp", confined=bool(fds)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=fds,
        start_new_session=True,
    )


@contextlib.contextmanager
def _pipes(*, confined: bool) -> Iterator[tuple[int, int, int | None]]:
    """Hand out where bubblewrap reads its filter and tells its child, and where that is read."""
    if not confined:
        yield -1, -1, None
        return
    rules, writing = os.pipe()
    told, telling = os.pipe()
    try:
        os.write(writing, seccomp.program() or b"")
        os.close(writing)
        os.set_blocking(told, False)
        yield rules, telling, told
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(rules)
        os.close(telling)


def _bubblewrap(start: Start, package: Path, rules: int, telling: int) -> list[str]:
    """Return the command that confines; later words lie over earlier ones.

    It is not told to die with its parent: that would be the *thread* that started it.
    """
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--new-session"]
    words += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - inside
    places = [*_SYSTEM, *_FILES, package, _PACKAGE]
    places += [*_places(start.python), *start.sees]
    places += [] if start.beside is None else [start.beside]
    for place in map(str, places):
        words += ["--ro-bind-try", place, place]
    words += ["--chdir", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/"]  # noqa: S108 - inside
    return [*words, "--seccomp", str(rules), "--info-fd", str(telling), "--"]


def _places(python: Path) -> Iterator[Path]:
    """Yield the folders of an environment and of the Python that it was made from."""
    environment, base = python.parent.parent, python.resolve().parent.parent
    for place in (environment, environment.resolve(), base):
        if place != Path("/") and str(place) not in _SYSTEM:
            yield place


def _environment(folder: Path, *, confined: bool) -> dict[str, str]:
    """Return the few variables that the process gets: no secrets, no proxies, no user."""
    place = "/tmp" if confined else str(folder)  # noqa: S108 - inside, where it is its own
    return {
        **{name: value for name in _PASSED if (value := os.environ.get(name))},
        "PATH": "/usr/bin:/bin",
        "HOME": place,
        "TMPDIR": place,
        "LANG": "C.UTF-8",
        "HOLDFAST_CACHE": f"{place}/cache",
        "HF_HUB_OFFLINE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _end(
    process: subprocess.Popen[bytes],
    told: int | None,
    package: Path,
    owner: int,
    after: Callable[[], None],
) -> None:
    """Close the pipes, which asks it to end, and then make it."""
    if os.getpid() != owner:  # a fork of the process that started it has copies, and no say
        return
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    if process.returncode is None:
        # The confined one first: bubblewrap ends when it does, and not the other way round.
        with contextlib.suppress(OSError, ValueError, KeyError, subprocess.TimeoutExpired):
            os.kill(int(json.loads(os.read(-1 if told is None else told, 4096))["child-pid"]), 9)
            process.wait(_PATIENCE)
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if told is not None:
        os.close(told)
    shutil.rmtree(package, ignore_errors=True)
    after()
