"""What a sandboxed program does first: give itself limits that it cannot take back, then work."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from holdfast.environment import landlock, seccomp

__all__ = ["RESULT", "enter"]

RESULT: Final = "result.json"
_LIBRARIES: Final = 6 << 30


def enter(text: str) -> None:
    """Limit this process, run one function of Holdfast and write down what it returns.

    Args:
        text: JSON of ``module``, ``arguments``, ``limits`` and ``places``, from the parent process.
    """
    task: dict[str, Any] = json.loads(text)
    _limit(**task["limits"])
    if task["places"] is not None:
        _shut_in(**task["places"])
    result = import_module(task["module"]).main(**task["arguments"])
    Path(RESULT).write_text(json.dumps(result), "utf-8")


def _shut_in(*, reading: list[str], writing: list[str]) -> None:
    """Give up all else: what bubblewrap would have done from outside.

    Raises:
        OSError: The kernel refuses; nothing was run then.
    """
    own = "/proc/self"
    seccomp.die_with_parent()
    seccomp.forgo_privileges()
    landlock.restrict([*reading, own], [*writing, "/dev/null"])
    seccomp.apply()


def _limit(*, memory: int, cpu: int, disk: int) -> None:
    import resource

    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_DATA: memory,
        # What is mapped from files and libraries counts here as well.
        resource.RLIMIT_AS: memory + _LIBRARIES,
        resource.RLIMIT_FSIZE: disk,
        resource.RLIMIT_NOFILE: 1024,
    }
    for kind, value in limits.items():
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)  # noqa: PLW2901 - the lower of the two
        resource.setrlimit(kind, (value, value))
