"""Credentials for registries, from docker's configuration, which ``docker login`` writes.

``skopeo login``, ``oras login`` and ``podman login --authfile`` write the same file. A credential
helper that the user's own configuration names is run as docker would run it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from holdfast.errors import RemoteError

__all__ = ["Credentials", "credentials_for"]

_MOST: Final = 4 << 20
_HELPER: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_HELPER_SECONDS: Final = 30.0
# Docker Hub is configured under the address that it had first.
_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_KEY: Final = "https://index.docker.io/v1/"
_TOKEN: Final = "<token>"  # noqa: S105 - what docker writes in place of a user's name


class Credentials(NamedTuple):
    """A user's name and password, or a token that stands for both.

    Attributes:
        user: The name; empty with a token.
        secret: Password or token.
    """

    user: str
    secret: str

    @property
    def is_token(self) -> bool:
        """Whether the secret is an identity token, to be exchanged for an access token."""
        return not self.user

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()

    def __repr__(self) -> str:
        return "Credentials(…)"


def credentials_for(host: str) -> Credentials | None:
    """Return what docker's configuration holds for a registry; None without.

    Raises:
        RemoteError: The configuration cannot be read, or its credential helper fails.
    """
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    config = _read(path)
    key = _HUB_KEY if host in _HUB else host
    helpers = _table(config, "credHelpers")
    helper = helpers.get(host) or config.get("credsStore")
    if isinstance(helper, str) and helper:
        found = _helped(helper, key, path)
        if found is not None:
            return found
    entries = _table(config, "auths")
    for spelling in (key, f"https://{key}", f"https://{key}/v1/", f"https://{key}/v2/"):
        entry = entries.get(spelling)
        if isinstance(entry, Mapping) and (found := _written(entry)) is not None:
            return found
    return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
        config = json.loads(data) if len(data) <= _MOST else None
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RemoteError(
            f"Docker's configuration {path} cannot be read: {type(error).__name__}.",
            hint=f"ls -l {path}",
        ) from None
    if not isinstance(config, dict):
        raise RemoteError(f"Docker's configuration {path} is no JSON object.", hint=f"ls -l {path}")
    return config


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = config.get(name)
    return table if isinstance(table, Mapping) else {}


def _written(entry: Mapping[str, Any]) -> Credentials | None:
    """Read an entry of ``auths``."""
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials("", token)
    user, secret = entry.get("username"), entry.get("password")
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            user, _, secret = base64.b64decode(packed, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
    if isinstance(user, str) and isinstance(secret, str) and user and secret:
        return Credentials(user, secret.rstrip("\0"))
    return None


def _helped(helper: str, key: str, path: Path) -> Credentials | None:
    """Ask a credential helper; None where it knows nothing of the registry."""
    if not _HELPER.fullmatch(helper):
        raise RemoteError(
            f"{path} names a credential helper that is no program's name.", hint=f"ls -l {path}"
        )
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(  # noqa: S603 - the user's own configuration names it
            [program, "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemoteError(
            f"The credential helper {program}, which {path} names, does not answer: "
            f"{type(error).__name__}.",
            hint=f"echo {key} | {program} get > /dev/null",
        ) from None
    if done.returncode:
        if b"not found" in done.stdout + done.stderr:
            return None
        raise RemoteError(
            f"The credential helper {program}, which {path} names, failed with status "
            f"{done.returncode}.",
            hint=f"echo {key} | {program} get > /dev/null",
        )
    try:
        said = json.loads(done.stdout)
        user, secret = said["Username"], said["Secret"]
    except (ValueError, RecursionError, TypeError, KeyError):
        user = secret = None
    if not (isinstance(user, str) and isinstance(secret, str)):
        raise RemoteError(
            f"The credential helper {program} answers nothing that is known.",
            hint=f"echo {key} | {program} get > /dev/null",
        )
    if not secret:
        return None
    return Credentials("" if user == _TOKEN else user, secret)
