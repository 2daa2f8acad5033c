"""Where settings come from: argument, environment, the nearest ``holdfast.toml``, default."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

import platformdirs

from holdfast.errors import UsageError

__all__ = [
    "PROJECT_FILE",
    "Setting",
    "cache_folder",
    "cache_limit",
    "settings",
    "store_setting",
    "wheelhouse_setting",
]

PROJECT_FILE: Final = "holdfast.toml"

_SIZE: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,3}))? ?([kMGT]?)B?")
_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Setting(NamedTuple):
    """A setting in force.

    Attributes:
        name: ``store``, ``cache``, ``cache_size`` or ``wheelhouse``.
        value: A path or URL.
        origin: Where it was set, in words.
    """

    name: str
    value: str
    origin: str


def project_file(start: Path | None = None) -> Path | None:
    """Return the nearest ``holdfast.toml`` in ``start`` (default: here) or a folder above."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        candidate = folder / PROJECT_FILE
        if candidate.is_file():
            return candidate
    return None


def store_setting(argument: str | os.PathLike[str] | None = None) -> Setting:
    """Return the store in force: argument > HOLDFAST_STORE > holdfast.toml > user data folder.

    Raises:
        UsageError: The project file cannot be read or its ``store`` is not a text.
    """
    if argument is not None:
        if not os.fspath(argument):
            raise UsageError("The place of the store is an empty text.", hint="hold where")
        return Setting("store", os.fspath(argument), "argument")
    variable = os.environ.get("HOLDFAST_STORE")
    if variable:
        return Setting("store", variable, "environment variable HOLDFAST_STORE")
    file = project_file()
    if file is not None:
        value = _read(file).get("store")
        if value is not None:
            if not isinstance(value, str):
                raise UsageError(
                    f"{file}: store must be a text, not {type(value).__name__}.",
                    hint=f"edit {file}",
                )
            return Setting("store", _relative_to(file, value), str(file))
    default = platformdirs.user_data_path("holdfast", appauthor=False) / "store"
    return Setting("store", str(default), "default: the user's data folder")


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", hint=f"edit {file}") from error


def _relative_to(file: Path, value: str) -> str:
    return value if "://" in value else str(file.parent / Path(value).expanduser())


def cache_folder() -> Path:
    """Return the folder of disposable files: indexes and stamps. Deleting it loses nothing."""
    return Path(cache_setting().value)


def cache_setting() -> Setting:
    """Return the cache folder in force: HOLDFAST_CACHE > the user's cache folder."""
    variable = os.environ.get("HOLDFAST_CACHE")
    if variable:
        return Setting("cache", variable, "environment variable HOLDFAST_CACHE")
    default = platformdirs.user_cache_path("holdfast", appauthor=False)
    return Setting("cache", str(default), "default: the user's cache folder")


def wheelhouse_setting() -> Setting | None:
    """Return the folder of wheels that takes the place of the package index: HOLDFAST_WHEELHOUSE.

    No file sets it, since what is in it is run.
    """
    variable = os.environ.get("HOLDFAST_WHEELHOUSE")
    if not variable:
        return None
    return Setting("wheelhouse", variable, "environment variable HOLDFAST_WHEELHOUSE")


def cache_size_setting() -> Setting:
    """Return how much of remote stores may be kept in the cache folder, in words as it was set.

    Raises:
        UsageError: The project file cannot be read or its ``cache_size`` is not a text.
    """
    variable = os.environ.get("HOLDFAST_CACHE_SIZE")
    if variable:
        return Setting("cache_size", variable, "environment variable HOLDFAST_CACHE_SIZE")
    file = project_file()
    value = None if file is None else _read(file).get("cache_size")
    if value is not None:
        if not isinstance(value, str):
            raise UsageError(
                f'{file}: cache_size must be a text like "10 GB".', hint=f"edit {file}"
            )
        return Setting("cache_size", value, str(file))
    return Setting("cache_size", "10 GB", "default")


def cache_limit() -> int:
    """Return how many bytes of remote stores may be kept in the cache folder.

    Raises:
        UsageError: The setting is not a size.
    """
    setting = cache_size_setting()
    found = _SIZE.fullmatch(setting.value.strip())
    if found is None:
        raise UsageError(
            f"{setting.value!r:.40} ({setting.origin}) is not a size like 500 MB or 10 GB.",
            hint='export HOLDFAST_CACHE_SIZE="10 GB"',
        )
    whole, part, unit = found.groups()
    return int(float(f"{whole}.{part or 0}") * _UNITS[unit])


def settings() -> list[Setting]:
    """Return every setting with its origin."""
    wheelhouse = wheelhouse_setting()
    usual = [store_setting(), cache_setting(), cache_size_setting()]
    return [*usual, *([] if wheelhouse is None else [wheelhouse])]
