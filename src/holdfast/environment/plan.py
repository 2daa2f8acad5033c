"""What an environment like the recorded one consists of: judged, and nothing looked at outside."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from holdfast.errors import EnvironmentMismatch
from holdfast.plugins import REQUIREMENTS

__all__ = ["OURS", "Plan", "plan"]

OURS: Final = "holdfast-ml"
_LISTED: Final = frozenset(
    {canonicalize_name(text.partition(">")[0]) for text in REQUIREMENTS.values()}
    | {"numpy", "thinc", "tensorflow-cpu", "xgboost-cpu"}
)
_OLDEST: Final = (3, 11)
_MONTH: Final = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])-\d{2}T")


@dataclass(frozen=True, slots=True)
class Plan:
    """An environment to be made.

    Attributes:
        requirements: Distributions with their exact versions, and those of which none is recorded.
        python: ``3.11``.
        as_of: End of the month in which the version was saved: nothing that the index got later
            is installed, and what was saved in the same month shares an environment. None where a
            lock says more.
        pins: Of a lock: all that may be installed, each with the digests of its wheels.
    """

    requirements: tuple[str, ...]
    python: str
    as_of: str | None
    pins: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Digest of what determines the environment; versions with the same key share one."""
        facts = [self.requirements, self.python, self.as_of, sys.platform, platform.machine()]
        facts += [self.pins] if self.pins else []
        facts.append(" ".join(platform.libc_ver()))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


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
