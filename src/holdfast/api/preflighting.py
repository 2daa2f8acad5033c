"""Whether a version loads here, asked without importing its framework: ``preflight``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from holdfast import frameworks
from holdfast.api.history import get
from holdfast.api.load import REFUSED
from holdfast.api.refs import in_bundle
from holdfast.api.store import Store
from holdfast.api.version import Version
from holdfast.archive import checks, read
from holdfast.environment import capture, preflight as environments
from holdfast.environment.preflight import Finding
from holdfast.errors import HoldfastError

__all__ = ["Preflight", "preflight"]

_SHOWN: Final = 5
# The type of modules of the saver's own classes.
_STATE: Final = "torch.Module"


class Preflight(NamedTuple):
    """What a load would meet.

    Attributes:
        ref: The version.
        verdict: ``loads here``, ``loads migrated``, ``loads portable``, ``needs its worker`` or
            ``cannot``.
        tested: What stands behind the verdict.
        findings: All of them, those that block first.
    """

    ref: str
    verdict: str
    tested: str
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON-like values."""
        findings = [finding._asdict() for finding in self.findings]
        return {**self._asdict(), "findings": findings}


def preflight(ref: str, *, store: Store | str | os.PathLike[str] | None = None) -> Preflight:
    """Say whether a version loads in this environment; nothing of it is run.

    Args:
        ref: The version.
        store: Store or path; default: the store in force.

    Returns:
        The verdict, what stands behind it, and every finding with its fix. That a version "loads"
        means that nothing known is in the way; whether it answers as it did, the replay says.

    Raises:
        NotFound: There is no such version.
        Corrupt: Its documents are damaged.
    """
    version = get(ref, store=store)
    written = version.record.environment.get("packages")
    steps = frameworks.steps_of(
        version.content.structure, written if isinstance(written, dict) else {}
    )
    findings = sorted(_findings(version, steps), key=lambda each: each.kind != "blocks")
    blocking = {finding for finding in findings if finding.kind == "blocks"}
    verdict = "loads migrated" if steps else "loads here"
    if _lacks_class(version) and _form_serves(version):
        verdict = "loads portable"
    if blocking:
        environment = version.record.environment
        of_libraries = {*environments.libraries(environment), *environments.runtime(environment)}
        missing = blocking <= {*of_libraries, *_refused(version)}
        verdict = "needs its worker" if missing and _worker_serves(version) else "cannot"
        if missing and _form_serves(version):
            verdict = "loads portable"
    return Preflight(version.ref, verdict, _tested(version), tuple(findings))


def _findings(version: Version, steps: tuple[str, ...] | None) -> Iterator[Finding]:
    environment = version.record.environment
    yield from _stored(version)
    yield from _types(version)
    yield from environments.libraries(environment)
    yield from environments.runtime(environment)
    yield from environments.processor(environment)
    yield from environments.dtypes(_narrow(version))
    yield from _refused(version)
    for step in (steps or ())[:_SHOWN]:
        yield Finding("note", f"migrates: {step}")
    if steps and len(steps) > _SHOWN:
        yield Finding("note", f"migrates: {len(steps) - _SHOWN} more steps")
    yield from environments.devices(environment)
    yield from environments.memory(version.size)


def _form_serves(version: Version) -> bool:
    """Say whether a portable form is kept and what runs it installed; it is not run."""
    from holdfast.api import load, portable, worker

    other = _lacks_class(version) or worker.differs(version.record.environment)
    return other and portable.is_there(version, load.options(None, "auto", None))


def _worker_serves(version: Version) -> bool:
    """Say whether uv may build the recorded environment; the package index is not asked."""
    from holdfast.api import load, worker
    from holdfast.environment import recreate

    asked = load.options(None, "auto", None)
    return recreate.uv() is not None and worker.would_help(version, asked)


def _stored(version: Version) -> Iterator[Finding]:
    blobs = version.store.blobs
    for digest in read.blobs_of(blobs, version.manifest_id):
        try:
            blobs.size(digest)
        except HoldfastError as error:
            yield Finding("blocks", error.message, f"hold verify {_named(version)}")


def _narrow(version: Version) -> set[str]:
    """Return the dtypes of arrays that numpy lacks; tensors of frameworks bring their own."""
    from holdfast.codec.arrays import NARROW

    options = (
        node[2] for node in version.content.structure.nodes if node[0] == "array" and len(node) == 3
    )
    named = (each.get("dtype") for each in options if isinstance(each, dict))
    return {name for name in named if isinstance(name, str) and name in NARROW}


def _types(version: Version) -> Iterator[Finding]:
    """Find types that no table here knows: of a newer release, or registered by a program."""
    registry = frameworks.registry()
    wanted = set(version.content.structure.types)
    if wanted - registry.by_id.keys():
        registry.grow()
    for cls in filter(_unregistered, _own_classes(version)):
        yield Finding(
            "note",
            f"its class {cls:.100} must be given to fill, or registered in the program that loads",
            f"holdfast.load({version.ref!r}, into=model)",
        )
    for name in sorted(wanted - registry.by_id.keys()):
        if name.startswith("user."):
            cls = name.removeprefix("user.")
            yield Finding(
                "note",
                f"its class {cls:.100} must be registered in the program that loads",
                f"holdfast.register({cls.rpartition('.')[2]:.60})",
            )
        else:
            yield Finding(
                "blocks",
                f"this release does not know the type {name:.100}",
                "python -m pip install --upgrade holdfast-ml",
            )


def _lacks_class(version: Version) -> bool:
    """Say whether a module's class is the saver's own, and nobody registered it here."""
    return any(map(_unregistered, _own_classes(version)))


def _own_classes(version: Version) -> list[str]:
    if _STATE not in version.content.structure.types:
        return []
    told = version.record.environment.get("classes")
    named = [each.get("class") for each in told or () if isinstance(each, dict)]
    return [name for name in named if isinstance(name, str)]


def _unregistered(name: str) -> bool:
    from holdfast.frameworks.torch.classes import registered_as

    try:
        return registered_as(name) is None
    except HoldfastError:
        return True


def _refused(version: Version) -> Iterator[Finding]:
    """Remember a replay in this very environment that the version did not pass."""
    proof, refusal = _remembered(version)
    if refusal is not None and proof is None:
        yield Finding(
            "blocks",
            "it answered otherwise than recorded when it was replayed in this very environment",
            f"hold predict {_named(version)} rows.csv --environment recorded",
        )


def _remembered(version: Version) -> tuple[str | None, str | None]:
    """Return how far a version was proven in this environment, and whether it was refused."""
    golden = version.record.golden
    if golden is None:
        return None, None
    from holdfast.archive import golden as goldens

    here = capture.environment_key(capture.same_packages(version.record.environment))
    digest = goldens.golden_digest(goldens.Golden.parse(golden))
    stamps = version.store.stamps
    proof = stamps.proof(version.content_id, digest, here)
    return proof, stamps.proof(version.content_id, digest, here + REFUSED)


def _tested(version: Version) -> str:
    if version.record.golden is None:
        return "no golden set: its answers cannot be compared"
    proof, refusal = _remembered(version)
    if proof is not None:
        return f"{proof} in this very environment before"
    if refusal is not None:
        return "refused in this very environment before"
    told = _told(version)
    return told or f"not replayed in this environment yet: hold verify {_named(version)}"


def _named(version: Version) -> str:
    """Return what the command line finds a version by, the bundle that it lies in before it."""
    inside = f"{version.store.url}:{version.ref}"
    return inside if in_bundle(inside) else version.ref


def _told(version: Version) -> str:
    """Return what the store's checks tell of this environment, else of the one checked last.

    What a registry told counts where this store knows of no replay, and is said to be that.
    """
    kept = version.store.checks.of(version.record_id)
    here = checks.here(version.record.environment)
    key = capture.environment_key(here)
    made = {key: check for key, check in kept.checks.items() if check.rung is not None}
    if key in made:
        return f"{made[key].outcome} in such an environment on {made[key].at[:10]}"
    heard = {key: check for key, check in kept.heard.items() if check.rung is not None}
    replays = made or heard
    if not replays:
        return ""
    last = replays.get(key) or next(iter(replays.values()))
    other = ", ".join(capture.changed(here, last.environment)[:2]) or "such an environment"
    where = "elsewhere" if last.heard is None else f"{last.heard:.200} says"
    what = last.outcome if last.heard is None else last.kind
    return (
        f"not replayed in this environment yet: hold verify {_named(version)}; {where} "
        f"{what} on {last.at[:10]} ({other})"
    )
