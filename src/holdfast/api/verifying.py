"""Proving one version now: its log's chain, every byte, its golden set; the result is kept."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from holdfast.api.attachments import verify_attached
from holdfast.api.history import get
from holdfast.api.store import Store
from holdfast.api.version import Version
from holdfast.archive import checks, read
from holdfast.archive.checks import Check
from holdfast.environment import capture
from holdfast.errors import (
    Corrupt,
    EnvironmentMismatch,
    HoldfastError,
    MissingExtra,
    VerificationError,
)

__all__ = ["Verified", "failure", "hashed", "keep", "replayed", "verify"]

NOT_REPLAYED: Final = ("unproved", "replay skipped")
# Folders of this machine, which are nobody else's business and mean nothing elsewhere.
_PLACE: Final = re.compile(r"(?<![\w/.])(?:~?/[^\s/'\":,]+){2,}/")


class Verified(NamedTuple):
    """What a check found of one version.

    Attributes:
        ref: ``name@vN``.
        blobs: Blobs hashed.
        size: Bytes hashed.
        proof: ``replayed``, ``replayed on synthetic inputs``, ``state only`` or ``unproved``. Of
            versions that a run over a whole store found bad: ``refused``, ``damaged`` or
            ``failed``.
        detail: The outcome in words.
        rung: ``native`` or ``migrated``; empty where nothing was built.
        error: Code of the error that says the same, empty where there is none.
        unrecorded: Why the store does not keep the result; empty where it does.
    """

    ref: str
    blobs: int
    size: int
    proof: str
    detail: str
    rung: str = ""
    error: str = ""
    unrecorded: str = ""


def verify(
    ref: str, *, replay: bool = True, store: Store | str | os.PathLike[str] | None = None
) -> Verified:
    """Hash every blob of a version, check its log's chain and replay its golden set, now.

    What was found is kept in the store, with the libraries it was found with; see
    ``Store.ageing``. ``Store.verify`` does it for all versions.

    Args:
        ref: The version.
        replay: False only hashes.
        store: Store or path; default: the store in force.

    Raises:
        Corrupt: A blob, a document or the chain is damaged.
        BehaviourMismatch: The golden outputs differ in this environment.
        MissingExtra: The framework is not installed here; ``replay=False`` needs none.
    """
    version = get(ref, store=store)
    sizes = read.Checked(0, 0)
    try:
        version.store.catalogue.check_chain(version.name)
        sizes = hashed(version)
        proof, detail, rung = replayed(version) if replay else (*NOT_REPLAYED, "")
    except HoldfastError as error:
        unrecorded = keep(version, failure(version.ref, sizes, error))
        if unrecorded:
            error.message += f" That was not recorded: {unrecorded}"
        raise
    found = Verified(version.ref, sizes.blobs, sizes.size, proof, detail, rung)
    return found._replace(unrecorded=keep(version, found))


def hashed(version: Version, seen: read.Seen | None = None) -> read.Checked:
    """Hash every blob of a version, what was attached to it later among them.

    Args:
        version: Which.
        seen: What this run has hashed already; see ``read.verify_version``.

    Raises:
        Corrupt: A blob or a document is missing or damaged.
    """
    store = version.store
    sizes = read.verify_version(store.blobs, version.manifest_id, stamps=store.stamps, seen=seen)
    beside, size = verify_attached(version)
    return read.Checked(sizes.blobs + beside, sizes.size + size)


def replayed(version: Version) -> tuple[str, str, str]:
    """Build a version here and replay it: its proof, the words for it, and the rung.

    Raises:
        BehaviourMismatch: The golden outputs differ.
        MissingExtra: The framework is not installed here.
        Corrupt: Its structure is damaged or forged.
    """
    if version.record.golden is None:
        return "state only", "bytes verified, behaviour not recorded", ""
    try:
        loaded = version.load_proven(replay="always", environment="here")
    except MissingExtra:
        raise
    except EnvironmentMismatch as error:
        return "unproved", f"bytes verified, not built: {error.message}", ""
    result = loaded.replay
    if result is None:
        return loaded.proof, "bytes verified, behaviour not recorded", loaded.rung
    rows = "synthetic golden rows" if result.level == "synthetic" else "golden rows"
    if result.shapes_only:
        words = f"{rows} {result.rows}, shapes and dtypes only (nondeterministic)"
        return loaded.proof, words, loaded.rung
    good = result.rows - result.differing
    words = f"{rows} {good}/{result.rows}, max difference {result.largest:.2g}"
    return loaded.proof, words, loaded.rung


def failure(ref: str, sizes: read.Checked, error: HoldfastError) -> Verified:
    """Say as a result what an error says."""
    if isinstance(error, Corrupt):
        outcome = "damaged"
    elif isinstance(error, VerificationError):
        outcome = "refused"
    else:
        outcome = "unproved" if isinstance(error, EnvironmentMismatch) else "failed"
    return Verified(ref, sizes.blobs, sizes.size, outcome, error.message, error=error.code)


def keep(version: Version, found: Verified) -> str:
    """Keep a result in the store; returns why it is not kept, empty where it is.

    That the bytes are sound does not take the place of a replay in the same environment: the check
    then says anew when its bytes were hashed.
    """
    environment = checks.here(_recorded_environment(version))
    now = capture.now()
    fresh = Check(
        record=version.record_id,
        manifest=version.info.manifest,
        at=now,
        hashed=now,
        by=capture.author()[:200],
        environment=environment,
        blobs=found.blobs,
        size=found.size,
        outcome=found.proof,
        detail=_PLACE.sub("\N{HORIZONTAL ELLIPSIS}/", found.detail)[:1000],
        rung=found.rung or None,
    )
    try:
        if (found.proof, found.detail) == NOT_REPLAYED:
            fresh = _with_replay_before(version, fresh)
        version.store.checks.add(fresh)
    except HoldfastError as error:
        return error.message
    except ValueError as error:
        return f"the record's environment is not JSON: {error}"
    return ""


def _with_replay_before(version: Version, fresh: Check) -> Check:
    from msgspec.structs import replace

    before = version.store.checks.of(version.record_id).checks.get(fresh.key)
    if before is None or before.manifest != fresh.manifest or before.kind == "damaged":
        return fresh
    return replace(before, hashed=fresh.hashed, blobs=fresh.blobs, size=fresh.size)


def _recorded_environment(version: Version) -> dict[str, object]:
    try:
        return version.record.environment
    except HoldfastError:
        return {}
