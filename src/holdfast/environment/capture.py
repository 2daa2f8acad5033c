"""The facts of the moment: versions, platform, commit, who and when. Never environment variables.

Facts explain differences; they never block a save. Nothing here raises.
"""

from __future__ import annotations

import datetime as dt
import functools
import getpass
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

from holdfast.environment.owners import owner_of

__all__ = [
    "GitSource",
    "author",
    "capture",
    "changed",
    "environment_key",
    "index_of",
    "installed_version",
    "now",
    "same_packages",
]

# Import name to the distributions that may provide it, most usual first.
_DISTRIBUTIONS: Final[dict[str, tuple[str, ...]]] = {
    "sklearn": ("scikit-learn",),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "PIL": ("pillow",),
}
_ALWAYS: Final = ("numpy", "holdfast-ml")
# What PyTorch's own indexes serve, each index named by the local part of its versions.
_TORCH: Final = frozenset({"torch", "torchaudio", "torchvision"})
_LABEL: Final = re.compile(r"cpu|cu[0-9]{2,3}|rocm[0-9](?:\.[0-9]){1,2}|xpu")
_TORCH_INDEX: Final = "https://download.pytorch.org/whl/"
_SHOWN: Final = 4
_GIT_SECONDS: Final = 5.0


def now() -> str:
    """Return the present as RFC 3339 in UTC with microseconds."""
    moment = dt.datetime.now(tz=dt.UTC).isoformat(timespec="microseconds")
    return moment.replace("+00:00", "Z")


def capture(requires: Iterable[str]) -> dict[str, Any]:
    """Return what ran: Python, platform and the versions of the packages that matter.

    Args:
        requires: Import names of the packages that loading needs.

    Returns:
        JSON-like facts; ``packages`` maps distribution names to versions.
    """
    packages = {}
    for name in (*requires, *_ALWAYS):
        for distribution in _DISTRIBUTIONS.get(name, (name,)):
            version = installed_version(distribution)
            if version is not None:
                packages[distribution] = version
                break
        else:
            packages.update([owner] if (owner := owner_of(name)) is not None else [])
    return {"packages": dict(sorted(packages.items())), **_machine()}


@functools.lru_cache(maxsize=256)
def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None; nothing is imported."""
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def same_packages(
    environment: Mapping[str, Any], requires: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Return what runs here, for the packages that a record names: see ``capture``.

    Args:
        environment: The record's.
        requires: Import names of packages that count as well, where they are known.
    """
    names = environment.get("packages")
    versions = {n: installed_version(n) for n in names} if isinstance(names, dict) else {}
    known = {name: version for name, version in versions.items() if version is not None}
    if requires is not None:
        known |= capture(requires)["packages"]
    return {"packages": dict(sorted(known.items())), **_machine()}


@functools.lru_cache(maxsize=1)
def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "os": platform.system(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "cpu": _cpu(),
        "threads": os.cpu_count() or 1,
    }


def _cpu() -> str:
    """Name the processor, from /proc/cpuinfo where there is one."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def index_of(name: str, version: str) -> str | None:
    """Return the public index of a distribution whose version has a local part, None if unknown.

    The table is ours: a file never says where packages come from.
    """
    label = version.partition("+")[2]
    return _TORCH_INDEX + label if name in _TORCH and _LABEL.fullmatch(label) else None


def environment_key(environment: Mapping[str, Any]) -> str:
    """Return a short digest of what may change a model's answers: versions, processor, threads."""
    named = ("packages", "python", "implementation", "machine", "libc", "cpu", "threads")
    facts = {name: environment.get(name) for name in named}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs between two environments: ``scikit-learn 1.2.1 -> 1.9.1``."""
    before, after = old.get("packages", {}), new.get("packages", {})
    words = [
        f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    words += [
        f"{name} {old.get(name)} -> {new.get(name)}"
        for name in ("python", "machine", "libc", "cpu")
        if name in old and old.get(name) != new.get(name)
    ]
    return words + _changed_facts(old, new)


def _changed_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs in facts that both sides have: kernels of linear algebra, CPU features."""
    words = []
    kernels = [_kernels(facts.get("blas")) for facts in (old, new)]
    if all(kernels) and kernels[0] != kernels[1]:
        words.append(f"BLAS {', '.join(kernels[0])} -> {', '.join(kernels[1])}")
    features = [_texts(facts.get("cpu_features")) for facts in (old, new)]
    lost = sorted(features[0] - features[1]) if all(features) else []
    if lost:
        words.append(f"CPU without {', '.join(lost[:_SHOWN])}")
    return words


def _kernels(blas: Any) -> list[str]:
    listed = [each for each in blas if isinstance(each, dict)] if isinstance(blas, list) else []
    found = {
        f"{each.get('name')!s:.20} {each['kernel']!s:.20}" for each in listed if "kernel" in each
    }
    return sorted(found)[:_SHOWN]


def _texts(listed: Any) -> set[str]:
    return {str(each)[:20] for each in listed} if isinstance(listed, list) else set()


def author() -> str:
    """Return who is at work: git's ``user.name`` as first asked here, else the login name."""
    try:
        return _user_name(str(Path.cwd())) or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


@functools.lru_cache(maxsize=8)
def _user_name(folder: str) -> str | None:  # noqa: ARG001 - git's answer depends on it
    return _git("config", "--get", "user.name")


class GitSource:
    """Asks git for commit, branch and dirtiness, and lets it work while the block does.

    Remote URLs are not recorded: they may hold credentials.
    """

    def __init__(self) -> None:
        self._asked = _started("status", "--porcelain=v2", "--branch", "--untracked-files=no")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._asked is not None and self._asked.returncode is None:
            self._asked.kill()
            self._asked.communicate()

    def answer(self) -> dict[str, Any] | None:
        """Return ``commit``, ``dirty`` and ``branch``; None outside a repository."""
        lines = (_answer(self._asked) or "").splitlines()
        said = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
        if said.get("branch.oid", "(initial)") == "(initial)":
            return None
        dirty = any(not line.startswith("#") for line in lines)
        source: dict[str, Any] = {"commit": said["branch.oid"], "dirty": dirty}
        if said.get("branch.head", "(detached)") != "(detached)":
            source["branch"] = said["branch.head"]
        return source


def _git(*words: str) -> str | None:
    return _answer(_started(*words))


def _started(*words: str) -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(  # noqa: S603 - constant words, no shell
            ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *words],  # noqa: S607 - the user's own git
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None


def _answer(asked: subprocess.Popen[str] | None) -> str | None:
    if asked is None:
        return None
    with asked:
        try:
            said, _ = asked.communicate(timeout=_GIT_SECONDS)
        except (subprocess.SubprocessError, UnicodeDecodeError):
            asked.kill()
            return None
    return said.strip() if asked.returncode == 0 else None
