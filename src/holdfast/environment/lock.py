"""A lock: which wheels, by their digests, an environment consists of, in the form of PEP 751.

A lock that lies beside a version is untrusted. It is handed to uv as constraints: uv resolves what
the record names, and may install nothing of which the lock has no digest. So a lock only narrows
what would be installed without it; its addresses, paths and archives of source are not looked at.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from holdfast.environment.plan import Plan
from holdfast.environment.recreate import run, torch_index
from holdfast.errors import EnvironmentMismatch

__all__ = ["MOST", "Pin", "compiled", "judged", "locked", "published", "workplace"]

MOST: Final = 1 << 20
_MOST_PACKAGES: Final = 2000
_MOST_WHEELS: Final = 1000
_LONGEST: Final = 1000
_MOST_DOTS: Final = 16
# One that does not end is taken as well: to try again within it would take time in its square.
_STRING: Final = re.compile(
    r"""  "(?:[^"\\\n]|\\.)*+\\?(?:"|$) | '[^'\n]*+(?:'|$)  """, re.MULTILINE | re.VERBOSE
)
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_MARKER: Final = re.compile(r"[\w .,*()<>=!~'\"-]{1,1000}", re.ASCII)
_FILE: Final = re.compile(r'\b(?:url = "file:|path = ")[^"]*?([^"/\\]+)"')
_CREDENTIALS: Final = re.compile(r'(\b(?:url|index) = "[a-z]+://)[^"/@]*@')
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_HINT: Final = "hold env lock REF  # makes a new one"


class Pin(NamedTuple):
    """A distribution that a lock allows.

    Attributes:
        name: Canonical.
        version: Exact.
        marker: Where it is meant; None everywhere.
        hashes: SHA-256 of its wheels, sorted.
    """

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        where = "" if self.marker is None else f" ; {self.marker}"
        hashes = "".join(f" --hash=sha256:{digest}" for digest in self.hashes)
        return f"{self.name}=={self.version}{where}{hashes}"


@contextlib.contextmanager
def workplace(cache: Path) -> Iterator[Path]:
    """Make a folder to run uv in: below one of the user's, since uv obeys settings of those above.

    Args:
        cache: Folder of disposable files.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lock-", dir=cache) as name:
        yield Path(name)


def compiled(
    requirements: Iterable[str], python: str, folder: Path, *, words: Iterable[str] = ()
) -> bytes:
    """Have uv resolve requirements to a ``pylock.toml`` of wheels only.

    Args:
        requirements: What was judged before.
        python: ``3.11``.
        folder: Of ``workplace``.
        words: More words for uv.

    Raises:
        EnvironmentMismatch: No uv, no network, or no such wheels.
    """
    requirements = tuple(requirements)
    (folder / "pylock.toml").unlink(missing_ok=True)  # uv would keep to what is in it
    (folder / "asked.in").write_text("".join(f"{each}\n" for each in requirements), "utf-8")
    command = ["pip", "compile", "--quiet", "--format", "pylock.toml", "--generate-hashes"]
    command += ["--no-header", "--only-binary", ":all:", "--python-version", python, *words]
    command += [*torch_index(requirements), "--output-file", "pylock.toml", "asked.in"]
    hint = f"python -m uv pip install --dry-run --python {python} {' '.join(requirements)}"
    run(command, folder, python=python, hint=hint)
    return (folder / "pylock.toml").read_bytes()


def published(data: bytes) -> bytes:
    """Return a lock that uv has just made without what is this machine's own.

    A file of a folder of the user's becomes its bare name, and no address holds credentials.
    """
    text = _FILE.sub(r'path = "\1"', data.decode("utf-8"))
    return _CREDENTIALS.sub(r"\1", text).encode()


def locked(wanted: Plan, data: bytes) -> Plan:
    """Narrow a plan by a lock; see ``judged``.

    What the record names without a version gets the lock's, for uv compares digests only of what
    is asked for by its exact version.
    """
    pins = judged(data, wanted.requirements, wanted.python)
    exact = tuple(_pinned(text, pins, wanted.python) for text in wanted.requirements)
    return replace(wanted, requirements=exact, as_of=None, pins=tuple(map(str, pins)))


def _pinned(text: str, pins: Iterable[Pin], python: str) -> str:
    asked = Requirement(text)
    if asked.specifier:
        return text
    here = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for pin in pins:
        meant = pin.marker is None or Marker(pin.marker).evaluate(here)
        if pin.name == canonicalize_name(asked.name) and meant:
            return f"{pin.name}=={pin.version}"
    raise _refused(f"it lacks {asked.name} for this kind of machine")


def judged(data: bytes, requirements: Iterable[str], python: str) -> tuple[Pin, ...]:
    """Return what a lock allows.

    Args:
        data: Its bytes: untrusted.
        requirements: What the record asks for, judged.
        python: Of the record, ``3.11``.

    Raises:
        EnvironmentMismatch: It is no lock, or not one of this record.
    """
    document = _parsed(data)
    if not str(document.get("lock-version")).startswith("1."):
        raise _refused(f"it is of the version {document.get('lock-version')!r:.40}")
    _require_python(document.get("requires-python"), python)
    listed = document.get("packages")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_PACKAGES:
        raise _refused("it lists no packages, or too many")
    pins = tuple(sorted(_pins(listed), key=str))
    for text in requirements:
        _require_met(Requirement(text), pins)
    return pins


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MOST:
        raise _refused(f"it has {len(data)} bytes, and at most {MOST} are read")
    try:
        text = data.decode("utf-8")
        # Long dotted keys cost the parser time in the square of their length.
        bare = _STRING.sub("", text)
        if '"' * 3 in text or "'" * 3 in text or max(map(_dots, bare.split("\n"))) > _MOST_DOTS:
            raise _refused("it has texts of several lines, or keys of many parts")
        return tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise _refused(f"it is not TOML: {error!s:.100}") from error


def _dots(line: str) -> int:
    return line.count(".")


def _require_python(wanted: object, python: str) -> None:
    if wanted is None:
        return
    try:
        admits = isinstance(wanted, str) and len(wanted) < 100 and SpecifierSet(wanted)
    except InvalidSpecifier:
        admits = False
    if not admits or not any(f"{python}.{patch}" in admits for patch in (0, 99)):
        raise _refused(f"it is for Python {wanted!r:.60}, and the record says {python}")


def _pins(listed: list[Any]) -> Iterator[Pin]:
    for package in listed:
        if not isinstance(package, dict):
            raise _refused("a package is no table")
        name, wheels = package.get("name"), package.get("wheels")
        try:
            version = str(Version(_short(package.get("version"))))
            marker = package.get("marker")
            marker = None if marker is None else str(Marker(_plain(marker)))
        except (InvalidVersion, InvalidMarker, RecursionError) as error:
            raise _refused(f"the package {name!r:.60} is not described as it must be") from error
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _refused(f"{name!r:.60} is no package's name")
        checked = canonicalize_name(name)
        if not isinstance(wheels, list) or not 0 < len(wheels) <= _MOST_WHEELS:
            raise _refused(f"it has no wheels of {checked:.60}, or too many")
        yield Pin(checked, version, marker, tuple(sorted({_sha256(checked, w) for w in wheels})))


def _short(text: object) -> str:
    return text if isinstance(text, str) and len(text) < _LONGEST else ""


def _plain(marker: object) -> str:
    """Return a marker that is one line of a file of requirements, and nothing else in it."""
    return marker if isinstance(marker, str) and _MARKER.fullmatch(marker) else ""


def _sha256(name: str, wheel: object) -> str:
    hashes = wheel.get("hashes") if isinstance(wheel, dict) else None
    found = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(found, str) or not _SHA256.fullmatch(found):
        raise _refused(f"a wheel of {name:.60} has no SHA-256")
    return found


def _require_met(wanted: Requirement, pins: Iterable[Pin]) -> None:
    name = canonicalize_name(wanted.name)
    found = [pin.version for pin in pins if pin.name == name]
    if not any(wanted.specifier.contains(version, prereleases=True) for version in found):
        says = f"it has {name} {', '.join(found):.60}" if found else f"it lacks {name}"
        raise _refused(f"{says}, and the record says {wanted}")


def _refused(why: str) -> EnvironmentMismatch:
    return EnvironmentMismatch(f"Its lock cannot be used: {why}.", hint=_HINT)
