"""Loading: bytes verified, structure audited, model built, golden set replayed, in this order."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from holdfast import codec, frameworks
from holdfast.api.store import Store
from holdfast.archive import golden as goldens, read
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorData
from holdfast.environment import capture
from holdfast.environment.facts import facts
from holdfast.errors import BehaviourMismatch, HoldfastError, UsageError
from holdfast.frameworks import Adapter, LoadOptions, Opened
from holdfast.record import Content, Digest, Record

__all__ = [
    "LEVELS",
    "REFUSED",
    "Loaded",
    "OpenVersion",
    "behaviour_of",
    "load_model",
    "mismatch",
    "open_for",
    "require_known",
]

_log = logging.getLogger("holdfast")

# Ends the key under which a refusal by replay is remembered, for preflight.
REFUSED: Final = "-refused"
_HERE: Final = LoadOptions(device="cpu")
LEVELS: Final = {"inputs": "replayed", "synthetic": "replayed on synthetic inputs"}


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """A version whose bytes are verified and whose structure is audited; nothing is built.

    Attributes:
        content: What the model is.
        record: What is said of it.
        parts: For the adapter.
        golden: The golden set, or None.
        golden_blob: Its verified bytes, or None.
        checked: ``hashed``, ``stamped`` or ``unchecked``.
        verify_rest: Verifies what the adapter has not looked up; raises ``Corrupt``.
    """

    content: Content
    record: Record
    parts: Opened
    golden: goldens.Golden | None
    golden_blob: memoryview | None
    checked: str
    verify_rest: Callable[[], None]

    def replay(self, behaviour: goldens.Behaviour, registry: Registry) -> goldens.Replay:
        """Run the golden set on a built model; raises ``Corrupt`` without one."""
        assert self.golden is not None  # noqa: S101 - callers ask only when there is one
        return goldens.replay(self.golden, self.golden_blob, behaviour, registry)

    def level(self, result: goldens.Replay) -> str:
        """Return the proof level a passed replay gives."""
        level = LEVELS[result.level]
        return f"{level}, shapes only (nondeterministic)" if result.shapes_only else level


@dataclass(frozen=True, slots=True)
class Loaded:
    """A built model and how far it is proven.

    Attributes:
        model: The user's own object type.
        proof: ``replayed``, ``replayed on synthetic inputs``, ``state only`` or ``unproved``.
        replay: What the replay found; None when a stamp or nothing stood for it.
        stamped: True when an earlier replay in this very environment stood for this one.
        rung: ``native``; ``migrated`` where attributes of another release of a library were made
            those of the installed one; ``portable``; ``worker``.
    """

    model: Any
    proof: str
    replay: goldens.Replay | None = None
    stamped: bool = False
    rung: str = "native"


def behaviour_of(adapter: Adapter, model: Any) -> goldens.Behaviour:
    """Bind an adapter's calls to one model."""
    return goldens.Behaviour(
        methods=adapter.methods(model),
        call=lambda method, inputs: adapter.predict(model, method, inputs),
        steady=lambda: adapter.steady(model),
        synthetic=lambda rows, seed: adapter.synthetic(model, rows, seed),
    )


def open_for(
    store: Store,
    manifest: Digest,
    registry: Registry,
    *,
    verify: str,
    options: LoadOptions = _HERE,
    live: Mapping[str, TensorData] | None = None,
) -> OpenVersion:
    """Open a version for building: everything checked that can be checked without building.

    Large tensors that go to another device are checked when the adapter looks them up, a few at a
    time, so that the host's memory never holds them all; those that it does not look up are for
    ``OpenVersion.verify_rest``.

    Args:
        store: Where it is.
        manifest: Its manifest's digest.
        registry: The closed registry.
        verify: ``"auto"`` (hash unless a stamp stands for it), ``"always"`` or ``"never"``.
        options: What the caller asked of the load.
        live: What this process just wrote as this version; see ``read.open_version``.

    Raises:
        Corrupt: Bytes, documents or structure are not what was saved.
        EnvironmentMismatch: A type id is not known here.
    """
    opened = read.open_version(store.blobs, manifest, verify=verify, stamps=store.stamps, live=live)
    entries = {entry.name: entry for entry in opened.content.tensors}
    audit = codec.audit(opened.content.structure, entries, registry, opened.files)
    record = opened.record
    adapter = frameworks.adapter_named(opened.content.framework)
    if frameworks.takes_away(adapter, options, record.environment):
        opened.tensors.pass_on()
    else:
        opened.tensors.open_all()
    golden = None if record.golden is None else goldens.Golden.parse(record.golden)
    blob = None
    if golden is not None and golden.blob is not None:
        blob = memoryview(store.blobs.read(Digest(golden.blob)))
    parts = Opened(
        structure=opened.content.structure,
        audit=audit,
        tensors=opened.tensors,
        files=opened.files,
        facts=record.environment,
    )
    rest = opened.tensors.verify_rest
    return OpenVersion(opened.content, record, parts, golden, blob, opened.checked, rest)


def require_known(ref: str, *, verify: str, replay: str) -> None:
    """Raise ``UsageError`` where one of the two is none of the choices."""
    for given, name in ((verify, "verify"), (replay, "replay")):
        if given not in ("auto", "always", "never"):
            raise UsageError(
                f"{name}={given!r} is not known; use 'auto', 'always' or 'never'.",
                hint=f"holdfast.load({ref!r})",
            )


def load_model(
    store: Store,
    manifest: Digest,
    *,
    ref: str,
    options: LoadOptions,
    verify: str = "auto",
    replay: str = "auto",
) -> Loaded:
    """Build a version's model and prove it.

    Raises:
        BehaviourMismatch: The golden outputs differ in this environment.
        Corrupt, EnvironmentMismatch, PartialLoad, MissingExtra: See ``holdfast.load``.
    """
    require_known(ref, verify=verify, replay=replay)
    registry = frameworks.registry()
    try:
        opened = open_for(store, manifest, registry, verify=verify, options=options)
        adapter = frameworks.adapter_named(opened.content.framework)
        reading = _reading(registry, opened)
        model = adapter.unpack(opened.parts, reading, options)
        opened.verify_rest()
    except HoldfastError as error:
        error.hint = error.hint.replace('"REF"', f'"{ref}"')
        raise
    loaded = _proven(store, opened, adapter, model, registry, ref=ref, replay=replay)
    proof = "unproved" if opened.checked == "unchecked" else loaded.proof
    rung = "native" if reading is registry else "migrated"
    _log.info("%s loaded: %s, %s", ref, proof, rung)
    return replace(loaded, proof=proof, rung=rung)


def _reading(registry: Registry, opened: OpenVersion) -> Registry:
    """Return the registry whose types migrate, or the same one where nothing of the model does."""
    reading = frameworks.registry(_written(opened.record))
    types = opened.content.structure.types
    differ = any(reading.by_id.get(name) is not registry.by_id.get(name) for name in types)
    return reading if differ else registry


def _written(record: Record) -> dict[str, str]:
    """Return the distributions that wrote a version, with their releases."""
    packages = record.environment.get("packages")
    return packages if isinstance(packages, dict) else {}


def _proven(  # noqa: PLR0913 - one value per input of the proof
    store: Store,
    opened: OpenVersion,
    adapter: Adapter,
    model: Any,
    registry: Registry,
    *,
    ref: str,
    replay: str,
) -> Loaded:
    golden = opened.golden
    if golden is None:
        return Loaded(model, "state only")
    if replay == "never":
        return Loaded(model, "unproved")
    needs = frameworks.packages_of(adapter, model, opened.content.structure)
    here = capture.environment_key(capture.same_packages(opened.record.environment, needs))
    proof_key = (opened.record.content, goldens.golden_digest(golden), here)
    stamped = store.stamps.proof(*proof_key) if replay == "auto" else None
    if stamped is not None:
        return Loaded(model, stamped, stamped=True)
    try:
        behaviour = behaviour_of(adapter, model)
    except HoldfastError:
        raise
    except Exception as error:
        reason = f"asking for its output methods raised {type(error).__name__}: {error!s:.200}"
        raise _unanswered(ref, reason, opened.record, needs) from error
    if golden.method not in behaviour.methods:
        reason = f"it has no output method {golden.method!r:.60} here"
        raise _unanswered(ref, reason, opened.record, needs)
    result = opened.replay(behaviour, registry)
    if not result.passed:
        store.stamps.add_proof(*proof_key[:2], here + REFUSED, "refused")
        raise mismatch(ref, result, opened.record, requires=needs)
    level = opened.level(result)
    store.stamps.add_proof(*proof_key, level)
    return Loaded(model, level, replay=result)


def _unanswered(
    ref: str, reason: str, record: Record, requires: tuple[str, ...]
) -> BehaviourMismatch:
    return BehaviourMismatch(
        f"REFUSED: {ref} cannot be replayed: {reason}. {_causes(record, requires)}",
        hint=f"hold show {ref}",
        ref=ref,
    )


def _causes(record: Record, requires: tuple[str, ...]) -> str:
    here = capture.capture(requires)
    changed = capture.changed(record.environment, {**here, **facts(here["packages"])})
    causes = "; ".join(changed) if changed else "the libraries are the same: processor or threads"
    return f"Cause candidates: {causes}."


def mismatch(
    ref: str,
    result: goldens.Replay,
    record: Record,
    *,
    requires: tuple[str, ...] = (),
    at_save: bool = False,
    steady: bool = True,
) -> BehaviourMismatch:
    """Word the refusal of a model that answers otherwise than recorded."""
    rows = "row" if result.rows == 1 else "rows"
    found = (
        result.reason
        if result.reason is not None
        else f"max {result.largest:.2g} > {result.allowed:.2g}"
    )
    message = (
        f"REFUSED: {result.differing} of {result.rows} golden {rows} differ ({found}) for {ref}."
    )
    if at_save:
        why = (
            "The model read back from the store answers otherwise than the one given."
            if steady
            else "The model does not repeat its own answers: it changes when it is called."
        )
        return BehaviourMismatch(
            f"{message} {why} Nothing became visible.",
            hint="holdfast.save(model, name, golden=None)  # keeps it without a proof",
            ref=ref,
        )
    return BehaviourMismatch(
        f"{message} {_causes(record, requires)}", hint=f"hold show {ref}", ref=ref
    )


def options(into: Any, device: str | os.PathLike[str], rename: str | None) -> LoadOptions:
    """Check and gather what the caller asked of a load."""
    if rename is not None and "->" not in rename:
        raise UsageError(
            f"rename={rename!r} is not of the form 'old->new'.", hint="rename='module.->'"
        )
    return LoadOptions(into=into, device=str(device), rename=rename)
