"""A folder of wheels that takes the place of a package index where there is no network."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from packaging.utils import canonicalize_name, parse_wheel_filename

from holdfast.environment.lock import compiled, workplace
from holdfast.environment.plan import Plan
from holdfast.environment.recreate import beside
from holdfast.errors import EnvironmentMismatch

__all__ = ["SUMS", "Bundled", "fetch", "listed"]

SUMS: Final = "SHA256SUMS"
_SECONDS: Final = 60
_CHUNK: Final = 1 << 20
_NETWORK: Final = (
    urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError,
)  # fmt: skip
_SCHEMES: Final = ("https", "http", "file")


class Bundled(NamedTuple):
    """What a wheelhouse holds.

    Attributes:
        wheels: Names of the files, sorted.
        size: Their bytes.
    """

    wheels: tuple[str, ...]
    size: int


class _Wheel(NamedTuple):
    file: str
    url: str
    sha256: str


def fetch(wanted: Plan, to: Path, cache: Path) -> None:
    """Put the wheels of an environment into a folder, those for this kind of machine.

    uv says where the user's own package index has them; the lock says which bytes they are.

    Args:
        wanted: What the environment consists of, narrowed by a lock.
        to: An existing folder; wheels that are in it and are right stay.
        cache: Folder of disposable files.

    Raises:
        EnvironmentMismatch: One cannot be had, or is another than the lock says.
    """
    with workplace(cache) as place:
        for wheel in _within_lock(wanted, place):
            _place(wheel, to)
        for wheel in _resolved(beside(), wanted.python, place, "--no-deps"):
            _place(wheel, to)
    _write_sums(to)


def listed(folder: Path) -> Bundled:
    """Return what a wheelhouse holds."""
    found = sorted(folder.glob("*.whl"))
    return Bundled(tuple(file.name for file in found), sum(file.stat().st_size for file in found))


def _within_lock(wanted: Plan, place: Path) -> Iterator[_Wheel]:
    """Resolve an environment for this machine, within its lock."""
    allowed = {word.removeprefix("--hash=sha256:") for pin in wanted.pins for word in pin.split()}
    constraints = place / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in wanted.pins), "utf-8")
    words = ("--constraints", str(constraints))
    for wheel in _resolved(wanted.requirements, wanted.python, place, *words):
        if wheel.sha256 not in allowed:
            raise EnvironmentMismatch(
                f"The package index offers {wheel.file:.200} with other bytes than its lock says, "
                "or the lock lacks it.",
                hint="hold env lock REF  # makes a new one, if the index is to be trusted",
            )
        yield wheel


def _resolved(requirements: Collection[str], python: str, place: Path, *words: str) -> list[_Wheel]:
    document = tomllib.loads(compiled(requirements, python, place, words=words).decode())
    return [_wheel(package, place) for package in document["packages"]]


def _wheel(package: dict[str, Any], folder: Path) -> _Wheel:
    """Read one package of a lock that uv has just made for one kind of machine."""
    try:
        found = package["wheels"][0]
        place = (folder / found["path"]).resolve().as_uri() if "path" in found else found["url"]
        address = urllib.parse.urlsplit(place)
        file = urllib.parse.unquote(address.path).rpartition("/")[2]
        fits = parse_wheel_filename(file)[0] == canonicalize_name(package["name"])
        if not fits or address.scheme not in _SCHEMES:
            raise ValueError(place)  # noqa: TRY301 - told as the others are
        return _Wheel(file, place, found["hashes"]["sha256"])
    except (KeyError, IndexError, ValueError) as error:  # a wheel's odd name is a ValueError
        raise EnvironmentMismatch(
            f"The package index has {package.get('name')!s:.60} at a place, or under a name, that "
            f"is none of a wheel: {error!s:.200}"
        ) from error


def _place(wheel: _Wheel, to: Path) -> None:
    target, part = to / wheel.file, to / f"{wheel.file}.part"
    if target.is_file() and _sha256(target) == wheel.sha256:
        return
    try:
        with urllib.request.urlopen(wheel.url, timeout=_SECONDS) as source, part.open("wb") as file:  # noqa: S310 - a scheme of ours
            found = _copied(source, file)
        if found != wheel.sha256:
            raise EnvironmentMismatch(
                f"{wheel.file} arrived with other bytes than the package index says.",
                hint="hold env bundle REF --to FOLDER  # again",
            )
        part.replace(target)
    except _NETWORK as error:
        raise EnvironmentMismatch(
            f"{wheel.file} cannot be fetched: {error!s:.200}",
            hint=f"put {wheel.file} into {to}, then run it again",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _copied(source: IO[bytes], file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _write_sums(folder: Path) -> None:
    """Write what ``sha256sum --check`` reads."""
    lines = [f"{_sha256(file)}  {file.name}\n" for file in sorted(folder.glob("*.whl"))]
    (folder / SUMS).write_text("".join(lines), "utf-8")
