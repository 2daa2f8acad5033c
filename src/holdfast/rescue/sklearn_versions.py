"""Which scikit-learn an estimator's state may be of: any whose states migrate to the installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Final

from holdfast.errors import EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["one_of", "require"]

_OLDEST: Final = (1, 2)


def require(version: object) -> str:
    """Return the release of a state, once it is known that it can be read.

    Raises:
        EnvironmentMismatch: It is older than what is known, or newer than what is installed.
        MissingExtra: scikit-learn is not installed.
    """
    here = _installed()
    release = _minor(version)
    if release is None or not _OLDEST <= release <= (_minor(here) or release):
        said = f"{version!s:.20}"
        wanted = said if release is None else ".".join(map(str, release)) + ".*"
        raise EnvironmentMismatch(
            f"It was written by scikit-learn {said} and {here} is installed here. States of 1.2 up "
            "to the installed release are read, for others nobody has said what changed.",
            hint=f'python -m pip install "scikit-learn=={wanted}"  # then convert again',
        )
    return str(version)


def one_of(versions: Iterable[str]) -> dict[str, str]:
    """Return what wrote a file, as ``frameworks.registry`` takes it.

    Raises:
        Unsupported: Its estimators are of several minor releases.
    """
    found = sorted(versions)
    if len({_minor(version) for version in found}) > 1:
        raise Unsupported(f"its estimators are of several releases of scikit-learn: {found}")
    return {"scikit-learn": found[0]} if found else {}


def _installed() -> str:
    try:
        return importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError:
        import_extra("sklearn", needed_for="reading an estimator out of a pickle")
        return ""


def _minor(version: object) -> tuple[int, int] | None:
    parts = version.split(".")[:2] if isinstance(version, str) and len(version) < 40 else []
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() for part in parts):
        return None
    return (int(parts[0]), int(parts[1]))
