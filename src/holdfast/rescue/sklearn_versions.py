"""Which scikit-learn an estimator's state may be of: the one that is installed, to the minor."""

from __future__ import annotations

import functools
import importlib.metadata

from holdfast.errors import EnvironmentMismatch
from holdfast.plugins import import_extra

__all__ = ["installed", "require"]


@functools.cache
def installed() -> str:
    """Return the version of scikit-learn that is installed, without importing it.

    Raises:
        MissingExtra: There is none.
    """
    try:
        return importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError:
        import_extra("sklearn", needed_for="reading an estimator out of a pickle")
        return ""


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def require(version: object) -> None:
    """Refuse the state of an estimator of another minor release.

    Raises:
        EnvironmentMismatch: Attributes mean other things there; they are not guessed.
        MissingExtra: scikit-learn is not installed.
    """
    here = installed()
    if type(version) is not str or _minor(version) != _minor(here):
        raise EnvironmentMismatch(
            f"It was written by scikit-learn {version!s:.20} and {here} is installed here, whose "
            "estimators have other attributes. The next release of Holdfast migrates them.",
            hint=f'python -m pip install "scikit-learn=={".".join(_minor(str(version)[:20]))}.*"'
            "  # then convert again",
        )
