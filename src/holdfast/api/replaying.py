"""A process of its own that replays versions, so that a model that crashes ends no more than it.

It is this environment: the same interpreter, the same folders of modules, the same caches. What a
model prints goes nowhere; a crash, a hang and whatever a framework raises become a result.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Any, Final, Self

from holdfast.api.verifying import Verified, failure, replayed
from holdfast.archive import read
from holdfast.errors import HoldfastError

__all__ = ["Replayer", "serve"]

SECONDS: Final = 600.0
_LARGE: Final = 16 << 20
_BOOT: Final = """\
import json, os, sys
told, asked = os.dup(1), os.dup(0)
nowhere = os.open(os.devnull, os.O_RDWR)
os.dup2(nowhere, 1)
os.dup2(nowhere, 0)
sys.path[:] = json.loads(sys.argv[1])
from holdfast.api.replaying import serve
serve(sys.argv[2], os.fdopen(asked, "rb"), os.fdopen(told, "wb"))
"""


class Replayer:
    """The process; it is started when the first version is to be replayed.

    Args:
        store: Where the store is.
        seconds: How long a version may take.
    """

    def __init__(self, store: str, seconds: float = SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def replay(self, ref: str, sizes: read.Checked) -> Verified:
        """Build a version and replay its golden set.

        Args:
            ref: The version.
            sizes: What was hashed of it, for the result.
        """
        process = self._process = self._process or self._started()
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        try:
            process.stdin.write(json.dumps([ref, *sizes]).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process)
        except (BrokenPipeError, EOFError):
            why = f"the process that replayed it {_ended(process)}"
        except TimeoutError:
            why = f"it was not replayed within {self._seconds:g} s"
        else:
            return Verified(*json.loads(line))
        self._end()
        return Verified(ref, *sizes, "failed", f"bytes verified, {why}", error="failed")

    def _started(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", _BOOT, json.dumps(sys.path), self._store]
        try:
            return subprocess.Popen(  # noqa: S603 - this interpreter and a program of ours
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt at the terminal is for the one who asked
            )
        except OSError as error:
            raise HoldfastError(
                f"The process that replays cannot be started: {error}.",
                hint="hold verify --no-replay",
            ) from error

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        fd, said = process.stdout.fileno(), b""
        watch, until = select.poll(), time.monotonic() + self._seconds
        watch.register(fd, select.POLLIN)
        while not said.endswith(b"\n"):
            if not watch.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            chunk = os.read(fd, 65536)
            if not chunk:
                raise EOFError
            said += chunk
        return said

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            if process.poll() is None:
                process.kill()


def _ended(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(5)
    except subprocess.TimeoutExpired:
        return "stopped answering"
    if status < 0:
        name = signal.Signals(-status).name
        return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with status {status}"


def serve(store: str, asked: IO[bytes], told: IO[bytes]) -> None:
    """Replay one version a line until the pipe closes; runs in the process of its own."""
    from holdfast.api.store import Store

    threading.Thread(target=_end_with, args=(asked.fileno(),), daemon=True).start()
    opened = Store(store)
    for line in iter(asked.readline, b""):
        ref, blobs, size = json.loads(line)
        found = _replayed(opened, ref, read.Checked(blobs, size))
        told.write(json.dumps(found).encode() + b"\n")
        told.flush()


def _replayed(store: Any, ref: str, sizes: read.Checked) -> Verified:
    from holdfast.api.history import get

    try:
        return Verified(ref, *sizes, *replayed(get(ref, store=store)))
    except HoldfastError as error:
        return failure(ref, sizes, error)
    except Exception as error:  # noqa: BLE001 - a framework may raise anything
        words = f"{type(error).__name__}: {error!s:.300}"
        return Verified(ref, *sizes, "failed", f"bytes verified, {words}", error="failed")
    finally:
        if sizes.size > _LARGE:  # small ones go by themselves, and a collection takes 0.1 s
            gc.collect()


def _end_with(fd: int) -> None:
    """End this process when the one that asked is gone, whatever it computes."""
    watch = select.poll()
    watch.register(fd, 0)
    watch.poll()
    os._exit(0)
