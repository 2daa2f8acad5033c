"""Where something is in a registry: ``oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]``.

Source of the spellings: OCI distribution specification 1.1, "Pulling manifests".
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from holdfast.errors import UsageError
from holdfast.record import Digest

__all__ = ["SCHEMES", "Place", "is_place", "parse_place"]

# The second one is for a registry on a network that is trusted: nothing is encrypted.
SCHEMES: Final = ("oci", "oci+http")

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_URL: Final = re.compile(
    rf"(?P<scheme>oci(?:\+http)?)://"
    r"(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LONGEST: Final = 1024


class Place(NamedTuple):
    """A place in a registry.

    Attributes:
        host: Its name, with the port where one is given.
        repository: Path of the repository.
        tag: The tag, or None.
        digest: The manifest's digest, or None.
        plain: Whether it is spoken to without TLS.
    """

    host: str
    repository: str
    tag: str | None
    digest: Digest | None
    plain: bool

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.of_repository}{tag}{digest}"

    @property
    def of_repository(self) -> str:
        """The URL without tag and digest."""
        scheme = SCHEMES[self.plain and not is_loopback(self.host)]
        return f"{scheme}://{self.host}/{self.repository}"

    @property
    def reference(self) -> str:
        """What its manifest is asked for by: the digest, else the tag."""
        return self.digest or self.tag or ""


def is_place(text: object) -> bool:
    """Say whether a text means a place in a registry, well spelled or not."""
    return isinstance(text, str) and text.partition("://")[0] in SCHEMES and "://" in text


def parse_place(text: str) -> Place:
    """Read a place; the registry on this machine itself is spoken to without TLS.

    Raises:
        UsageError: It is none. It is not repeated when it could hold a password.
    """
    found = _URL.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        before, at, _ = text.partition("://")[2].partition("@")
        hidden = bool(at) and "/" not in before
        raise UsageError(
            f"{'this URL' if hidden else f'{text!r:.120}'} is not a place in a registry: "
            "oci://HOST[:PORT]/REPOSITORY:TAG, in lower-case letters. Credentials come from "
            "docker's configuration, never from the URL.",
            hint="hold push NAME oci://registry.example.org/team/name:v1",
        )
    if found["tag"] is None and found["digest"] is None:
        raise UsageError(
            f"{text} names no tag.", hint=f"hold push NAME {text}:v1  # or :prod", ref=text
        )
    host = found["host"].lower()
    plain = found["scheme"] == SCHEMES[1] or is_loopback(host)
    digest = None if found["digest"] is None else Digest(found["digest"])
    return Place(host, found["repository"], found["tag"], digest, plain)


def is_loopback(host: str) -> bool:
    """Say whether a host, with or without a port, is this very machine by its spelling."""
    name = host.rpartition(":")[0] if re.fullmatch(r".*:[0-9]{1,5}", host) else host
    name = name.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
