"""What is put beside a version after it was saved: blobs that its log names by their role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.environment import capture
from holdfast.errors import Corrupt, NotFound
from holdfast.record import Digest, digest_of

if TYPE_CHECKING:
    from holdfast.api.version import Version

__all__ = ["attach", "attached", "verify_attached"]


def attach(version: Version, role: str, data: bytes) -> bool:
    """Put bytes beside a version; the newest of a role counts.

    Returns:
        False when these very bytes were there before.

    Raises:
        UsageError: ``role`` is none that this release knows.
        NoSpace: The store is full; nothing became visible.
        Corrupt: Something deleted the blob meanwhile.
    """
    store, info = version.store, version.info
    digest = digest_of(data)
    before = info.attachments.get(role)
    store.blobs.drop_damaged(digest)  # so that what went bad is written anew
    store.blobs.put(lambda: [data], expect=digest)
    if before is not None and before.blob == digest:
        return False
    store.blobs.flush()
    catalogue = store.catalogue
    _require(version, role, digest)
    catalogue.attach(info.name, info.number, role, blob=digest, size=len(data), by=capture.author())
    _require(version, role, digest)
    version.info = catalogue.resolve(info.name, info.number)
    return True


def _require(version: Version, role: str, digest: Digest) -> None:
    """Refuse an entry whose blob is not there, before it is written and after."""
    blobs = version.store.blobs
    if not (blobs.freshen(digest) or blobs.has(digest)):
        raise Corrupt(
            f"The {role} of {version.ref} vanished while it was written; was something deleting "
            "files in the store?",
            hint=f"hold verify {version.ref} --no-replay",
            ref=version.ref,
        )


def attached(version: Version, role: str, *, most: int) -> bytes | None:
    """Return the newest attachment of a role, hashed; None where there is none.

    Args:
        version: Which.
        role: What it is.
        most: Bytes that it may have; a longer one is not read.

    Raises:
        Corrupt: It is missing, damaged, too long, or of another size than the log says.
    """
    found = version.info.attachments.get(role)
    if found is None:
        return None
    blobs = version.store.blobs
    try:
        size = blobs.size(found.blob)
        if size != found.size or size > most:
            raise Corrupt(
                f"The {role} of {version.ref} has {size} bytes; its log says {found.size}, and at "
                f"most {most} are read.",
                hint=f"hold log {version.name}",
                ref=version.ref,
            )
        return blobs.read(found.blob)
    except NotFound as error:
        raise Corrupt(error.message, hint=error.hint, ref=version.ref) from error


def verify_attached(version: Version) -> tuple[int, int]:
    """Hash every attachment and return how many there are, and their bytes.

    Raises:
        Corrupt: One is missing, damaged, or of another size than the log says.
    """
    found = version.info.attachments
    for role, state in found.items():
        attached(version, role, most=state.size)
    return len(found), sum(state.size for state in found.values())
