"""What is beside a version in a registry: its attachments, and the results of its checks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from holdfast.api.attachments import attach, attached
from holdfast.api.version import Version
from holdfast.archive.checks import LONGEST_REPORT
from holdfast.catalogue.catalogue import ROLES
from holdfast.errors import Corrupt, HoldfastError
from holdfast.record import Digest
from holdfast.remote.oci.referrers import Beside, Listed, put_beside, read_beside, those_beside
from holdfast.remote.oci.registry import Part, Repository, Stored

__all__ = ["ATTACHMENT", "CHECKS", "CREATED", "ROLE", "Put", "Taken", "put_all", "take_all"]

# What is beside a version after it was saved refers to its manifest, with its role and its time.
ATTACHMENT: Final = "application/vnd.holdfast.attachment.v1"
CHECKS: Final = "application/vnd.holdfast.checks.v1+json"
ROLE: Final = "vnd.holdfast.role"
CREATED: Final = "org.opencontainers.image.created"

_LONGEST_ATTACHMENT: Final = 64 << 20
_MOST_REPORTS: Final = 16


class Put(NamedTuple):
    """What was put beside a version, and was not there before.

    Attributes:
        sizes: Bytes of each blob.
        checks: Results of checks that are in one of them.
    """

    sizes: list[int]
    checks: int


def put_all(repository: Repository, subject: Stored, version: Version) -> Put:
    """Put a version's attachments and the results of its checks beside its manifest.

    Raises:
        RemoteError: The registry refuses.
        Corrupt: An attachment is damaged here.
    """
    sizes = []
    for role, state in version.info.attachments.items():
        data = attached(version, role, most=_LONGEST_ATTACHMENT)
        assert data is not None  # noqa: S101 - the log has just named it
        beside = Beside(ATTACHMENT, {ROLE: role, CREATED: state.at}, data)
        if put_beside(repository, subject, beside):
            sizes.append(len(data))
    report = version.store.checks.report(version.record_id)
    if report is None or not put_beside(
        repository, subject, Beside(CHECKS, {CREATED: report.at}, report.data)
    ):
        return Put(sizes, 0)
    return Put([*sizes, len(report.data)], report.checks)


class Taken(NamedTuple):
    """What came from beside a version.

    Attributes:
        failed: Why an attachment did not, by what it is.
        checks: Results of checks that are kept of what the registry told.
        notes: Why reports of checks were passed over, in words.
    """

    failed: dict[str, str]
    checks: int
    notes: tuple[str, ...]


def take_all(
    repository: Repository,
    subject: Digest,
    version: Version,
    layers: Mapping[str, tuple[Digest, int]],
) -> Taken:
    """Attach here what is beside a version there, and keep what is told of its checks.

    What is here in the same role stays. A report is not vital: a bad one is passed over.

    Args:
        repository: Where it is.
        subject: Digest of the manifest there.
        version: The version here.
        layers: Attachments that are layers of the manifest, by role.

    Raises:
        RemoteError: The registry refuses to say what is there.
        Corrupt: What it says is no list.
    """
    listed = those_beside(repository, subject)
    failed: dict[str, str] = {}
    absent = set(ROLES) - version.info.attachments.keys()
    beside = _newest(listed, absent)
    for role in sorted(absent):
        try:
            data = _attachment(repository, subject, layers.get(role), beside.get(role), role)
            if data is not None:
                attach(version, role, data)
        except HoldfastError as error:
            failed[f"the {role} of {repository.shown}"] = error.message
    return Taken(failed, *_heard(repository, subject, version, listed))


def _attachment(
    repository: Repository,
    subject: Digest,
    layer: tuple[Digest, int] | None,
    listed: Listed | None,
    role: str,
) -> bytes | None:
    if layer is not None:
        digest, size = layer
        if size > _LONGEST_ATTACHMENT:
            raise Corrupt(f"it is said to have {size} bytes", ref=digest)
        return repository.read(digest, Part(0, size, size))
    if listed is None:
        return None
    found = read_beside(repository, subject, listed, most=_LONGEST_ATTACHMENT)
    return found.data if found.notes.get(ROLE) == role else None


def _created(entry: Listed) -> str:
    return (entry.annotations or {}).get(CREATED, "")


def _newest(listed: Collection[Listed], roles: Collection[str]) -> dict[str, Listed]:
    """Return the newest attachment of each role, by what the list says of them."""
    newest: dict[str, Listed] = {}
    for entry in sorted(listed, key=_created):
        role = (entry.annotations or {}).get(ROLE)
        if entry.artifact_type == ATTACHMENT and role in roles and role is not None:
            newest[role] = entry
    return newest


def _heard(
    repository: Repository, subject: Digest, version: Version, listed: Collection[Listed]
) -> tuple[int, tuple[str, ...]]:
    """Keep what the newest reports tell, as hearsay of the registry."""
    reports = [entry for entry in listed if entry.artifact_type == CHECKS]
    reports.sort(key=_created, reverse=True)
    kept = ignored = 0
    bad: list[str] = []
    for entry in reports[:_MOST_REPORTS]:
        try:
            found = read_beside(repository, subject, entry, most=LONGEST_REPORT)
            kept, odd = version.store.checks.hear(version.record_id, found.data, repository.shown)
            ignored += odd
        except HoldfastError as error:
            bad.append(error.message)
    return kept, tuple(_notes(repository.shown, bad, ignored))


def _notes(where: str, bad: list[str], ignored: int) -> Iterator[str]:
    if bad:
        yield f"{len(bad)} reports of checks in {where} were passed over; the first: {bad[0]}"
    if ignored:
        yield (
            f"{ignored} results of checks that {where} tells were passed over: they are damaged, "
            "forged, or of another version."
        )
