"""The golden set: stored inputs, the outputs they gave, and replaying them.

Two calls are recorded, an 8-row probe and the full set, because a model may answer differently
by batch size. Outputs come from the caller's own object before anything is encoded, so that a
mistake of the codec cannot prove itself. Outputs are compared as encoded (node table and
tensors), which needs no framework here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from holdfast import codec
from holdfast.archive import layout
from holdfast.archive.compare import TOLERANCE, Difference, Held, difference
from holdfast.archive.frames import is_frame, is_sparse
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorData, TensorView
from holdfast.errors import Corrupt, Unsupported, UsageError
from holdfast.record import Digest, Structure, TensorEntry, digest_of

__all__ = [
    "Behaviour",
    "Captured",
    "Golden",
    "Replay",
    "capture",
    "golden_digest",
    "inputs_of",
    "outputs_apart",
    "replay",
    "take_rows",
]

MAX_ROWS: Final = 64
MAX_BYTES: Final = 1_000_000
PROBE_ROWS: Final = 8
_MOST_ROWS: Final = 1 << 20  # a later release may keep more than this one does
SEED: Final = 20_260_301


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How to make a model answer; adapters provide it, the archive does not know frameworks.

    Attributes:
        methods: Output methods, best first; empty when the object has no behaviour.
        call: ``(method, inputs) -> outputs``.
        steady: Context in which a call is repeatable and leaves no trace.
        synthetic: ``(rows, seed) -> inputs`` or None when the input width is not known.
    """

    methods: tuple[str, ...]
    call: Callable[[str, Any], Any]
    steady: Callable[[], AbstractContextManager[None]]
    synthetic: Callable[[int, int], Any | None]


class GoldenPart(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs or outputs in encoded form; its tensors are named with the part's prefix."""

    structure: Structure
    tensors: tuple[TensorEntry, ...] = ()


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """The golden set as the record holds it.

    Attributes:
        level: ``inputs`` (the caller's rows) or ``synthetic``.
        method: The method that was called.
        rows: Rows of the full call; None when inputs have no row dimension.
        blob: Digest of the safetensors file with all tensors; None when there are none.
        parts: ``inputs``, ``probe`` and ``full``.
        tolerance: safetensors dtype to ``[relative, absolute]``; unlisted dtypes must be equal.
        nondeterministic: Two calls at save disagreed: only shapes and dtypes are compared.
    """

    level: str
    method: str
    rows: int | None
    blob: str | None
    parts: dict[str, GoldenPart]
    tolerance: dict[str, tuple[float, float]]
    nondeterministic: bool = False

    def document(self) -> dict[str, Any]:
        """Return the JSON-like form for the record."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Golden:
        """Read the record's field; raises ``Corrupt``."""
        try:
            golden = msgspec.convert(document, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Corrupt(f"the record's golden set is damaged: {error!s:.200}") from error
        limits = [bound for pair in golden.tolerance.values() for bound in pair]
        if {"inputs", "probe", "full"} != golden.parts.keys() or not all(
            math.isfinite(bound) and 0 <= bound <= 1 for bound in limits
        ):
            raise Corrupt("the record's golden set is damaged: parts or tolerances are wrong")
        if golden.level not in ("inputs", "synthetic"):
            raise Corrupt(f"the record's golden set has the unknown level {golden.level!r:.40}")
        if golden.rows is not None and not 0 < golden.rows <= _MOST_ROWS:
            raise Corrupt(f"the record's golden set claims {golden.rows} rows")
        return golden


class Captured(NamedTuple):
    """A golden set just recorded, and the bytes of its blob (None without tensors)."""

    golden: Golden
    blob: bytes | None
    inputs: Any
    outputs: Any
    seconds: float


class Replay(NamedTuple):
    """What a replay found.

    Attributes:
        level: ``inputs`` or ``synthetic``.
        rows: Rows compared; 1 where outputs have no row dimension.
        differing: Rows outside the tolerance.
        largest: Largest absolute difference seen, inside the tolerance or not.
        allowed: The absolute tolerance at the largest difference's dtype; 0 for exact dtypes.
        reason: What differs when it is not a number: shape, dtype, structure.
        shapes_only: The model was marked nondeterministic at save.
        seconds: Time of the calls.
    """

    level: str
    rows: int
    differing: int
    largest: float
    allowed: float
    reason: str | None
    shapes_only: bool
    seconds: float

    @property
    def passed(self) -> bool:
        """True when every row is within the tolerance."""
        return self.differing == 0


def row_count(value: Any) -> int | None:
    """Return the number of rows of model inputs, None when they have no common row dimension."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, tuple | Mapping) and not is_sparse(value):  # one format is a dict
        items = list(value.values()) if isinstance(value, Mapping) else list(value)
        counts = {row_count(item) for item in items}
        return counts.pop() if len(counts) == 1 else None
    shape = getattr(value, "shape", None)
    return int(shape[0]) if shape is not None and len(shape) > 0 else None


def take_rows(value: Any, count: int) -> Any:
    """Return the first ``count`` rows of inputs of any supported kind."""
    if is_sparse(value):  # several formats cannot be sliced, one is a dict
        return value.tocsr()[:count].asformat(value.format)
    if isinstance(value, Mapping):
        return {key: take_rows(item, count) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(take_rows(item, count) for item in value)
    if hasattr(value, "iloc"):
        return value.iloc[:count]
    return value[:count] if row_count(value) is not None else value


def _kept(inputs: Any, registry: Registry) -> Any:
    """Cut the caller's inputs to what a golden set keeps: 64 rows, fewer above 1 MB, at least 1."""
    rows = row_count(inputs)
    if rows is None:
        return inputs
    if rows == 0:
        raise UsageError(
            "inputs= has no rows; the golden set needs at least one.",
            hint="holdfast.save(model, name, inputs=X_train)",
        )
    kept = take_rows(inputs, MAX_ROWS)
    size = sum(data.nbytes for data in codec.encode(kept, registry).tensors.values())
    if size > MAX_BYTES:
        kept = take_rows(kept, max(1, min(rows, MAX_ROWS) * MAX_BYTES // size))
    return kept


def capture(
    behaviour: Behaviour, inputs: Any, registry: Registry, *, mode: str | None
) -> Captured | None:
    """Record the golden set of a live model.

    Args:
        behaviour: How to call the model.
        inputs: The caller's inputs, or None.
        registry: For encoding inputs and outputs.
        mode: ``"inputs"`` (the caller's rows when given, else synthetic), ``"synthetic"``
            (never the caller's rows) or None (record nothing).

    Returns:
        None when nothing could or should be recorded.

    Raises:
        UsageError: The caller's own inputs do not go through the model, or mode is unknown.
    """
    if mode not in ("inputs", "synthetic", None):
        raise UsageError(
            f"golden={mode!r} is not known; use 'inputs', 'synthetic' or None.",
            hint='holdfast.save(model, name, golden="synthetic")',
        )
    if mode is None or not behaviour.methods:
        return None
    if mode == "inputs" and inputs is not None:
        kept, level = _kept(inputs, registry), "inputs"
    else:
        kept, level = behaviour.synthetic(MAX_ROWS, SEED), "synthetic"
        if kept is None:
            return None
    try:
        return _record(behaviour, kept, level, registry)
    except (Unsupported, UsageError):
        raise
    except Exception as error:
        if level == "synthetic":  # made-up rows need not suit every model; nothing is recorded
            return None
        method = behaviour.methods[0]
        raise UsageError(
            f"The model does not answer {method}() on the first rows of inputs=: "
            f"{type(error).__name__}: {error!s:.300}",
            hint="holdfast.save(model, name, inputs=X_the_model_accepts)",
        ) from error


def _record(behaviour: Behaviour, kept: Any, level: str, registry: Registry) -> Captured:
    method, rows = behaviour.methods[0], row_count(kept)
    stored = codec.encode(kept, registry, label="inputs")
    views = {name: _view(data) for name, data in stored.tensors.items()}
    inputs = _Inputs(stored.structure, views, registry)
    encoded, seconds, output = {"inputs": stored}, 0.0, None
    for part, count in (("probe", PROBE_ROWS), ("full", rows)):
        given = inputs.rows(count if rows is not None else None)
        started = time.perf_counter()
        output = _call(behaviour, method, given)
        seconds += time.perf_counter() - started
        encoded[part] = _settled(codec.encode(output, registry, label=part))
    probe = _call(behaviour, method, inputs.rows(PROBE_ROWS if rows is not None else None))
    again = codec.encode(probe, registry, label="probe")
    steady = difference(_held(encoded["probe"]), _held(again), TOLERANCE, 1).differing == 0
    blob, parts = _blob(encoded)
    golden = Golden(
        level=level,
        method=method,
        rows=rows,
        blob=None if blob is None else digest_of(blob),
        parts=parts,
        tolerance=TOLERANCE,
        nondeterministic=not steady,
    )
    return Captured(golden, blob, inputs.rows(None), output, seconds)


class _Inputs:
    """Stored inputs, built anew for each call: a model may write into what it is given.

    At save they are built as a replay will build them, in the memory layout of the file: matrix
    products differ in the last bit with the layout, and this way a replay can be exact.
    """

    def __init__(
        self, structure: Structure, views: Mapping[str, TensorView], registry: Registry
    ) -> None:
        self._structure = structure
        self._views = views
        self._registry = registry
        self._audit = codec.audit(structure, views, registry)
        self._frame: Any = None

    def rows(self, count: int | None) -> Any:
        """Return the first rows, or all."""
        if self._frame is None:
            inputs = self._built()
            self._frame = inputs if is_frame(inputs) else None
        else:
            inputs = self._frame
        if self._frame is not None:  # putting a table together takes longer than copying it
            inputs = inputs.copy()
        return inputs if count is None else take_rows(inputs, count)

    def _built(self) -> Any:
        views = {
            name: TensorView(view.dtype, view.shape, memoryview(bytearray(view.data)))
            for name, view in self._views.items()
        }
        return codec.decode(self._structure, views, self._registry, self._audit)


def _settled(encoded: codec.Encoded) -> codec.Encoded:
    """Copy an answer's bytes, for a model may use the memory again in its next call."""
    return codec.Encoded(
        encoded.structure, {name: _copied(data) for name, data in encoded.tensors.items()}, {}
    )


def _copied(data: TensorData) -> TensorData:
    copy = memoryview(bytes(data.load()))
    return TensorData(data.dtype, data.shape, lambda: copy)


def _call(behaviour: Behaviour, method: str, inputs: Any) -> Any:
    with behaviour.steady():
        return behaviour.call(method, inputs)


def _blob(encoded: Mapping[str, codec.Encoded]) -> tuple[bytes | None, dict[str, GoldenPart]]:
    tensors = {
        f"{part}/{name}": data
        for part, value in encoded.items()
        for name, data in value.tensors.items()
    }
    loaded = {name: bytes(data.load()) for name, data in tensors.items()}
    entries = {
        name: TensorEntry(
            name=name, dtype=data.dtype, shape=data.shape, digest=digest_of(loaded[name])
        )
        for name, data in tensors.items()
    }
    parts = {
        part: GoldenPart(
            structure=value.structure,
            tensors=tuple(entries[f"{part}/{name}"] for name in sorted(value.tensors)),
        )
        for part, value in encoded.items()
    }
    if not tensors:
        return None, parts
    plan = layout.plan(entries.values())
    return plan.header + b"".join(loaded[entry.name] for entry in plan.entries), parts


def _held(encoded: codec.Encoded) -> Held:
    views = {name: _view(data) for name, data in encoded.tensors.items()}
    return Held(encoded.structure, views)


def _view(data: TensorData) -> TensorView:
    return TensorView(data.dtype, data.shape, data.load())


def _opened(golden: Golden, blob: memoryview | None) -> dict[str, Held]:
    """Read the parts back from the blob, which the caller has hashed."""
    entries = [entry for part in golden.parts.values() for entry in part.tensors]
    if entries and blob is None:
        raise Corrupt("the golden set names tensors but has no blob")
    plan = layout.plan(entries)
    data = memoryview(b"" if blob is None else blob)
    if entries and (len(data) != plan.total or bytes(data[: len(plan.header)]) != plan.header):
        raise Corrupt("the golden set's tensors are not those the record describes")
    views: dict[str, TensorView] = {}
    offset = len(plan.header) if entries else 0
    for entry in plan.entries:
        size = layout.nbytes(entry)
        views[entry.name] = TensorView(entry.dtype, entry.shape, data[offset : offset + size])
        offset += size
    return {
        part: Held(
            value.structure,
            {entry.name.removeprefix(f"{part}/"): views[entry.name] for entry in value.tensors},
        )
        for part, value in golden.parts.items()
    }


def replay(
    golden: Golden, blob: memoryview | None, behaviour: Behaviour, registry: Registry
) -> Replay:
    """Run the golden calls on a model and compare with what was recorded.

    Args:
        golden: From the record.
        blob: The golden blob, already hashed and compared; None when the set has no tensors.
        behaviour: How to call the loaded model.
        registry: For decoding inputs and encoding outputs.

    Raises:
        Corrupt: The golden set itself is damaged.
    """
    held = _opened(golden, blob)
    inputs = _Inputs(held["inputs"].structure, held["inputs"].tensors, registry)
    found = row_count(inputs.rows(None))
    if found != golden.rows:
        raise Corrupt(f"the golden inputs have {found} rows, not {golden.rows}")
    rows = golden.rows or 1
    started = time.perf_counter()
    results = []
    for part, count in (("probe", min(PROBE_ROWS, rows)), ("full", rows)):
        part_inputs = inputs.rows(count if golden.rows is not None else None)
        try:
            output = _call(behaviour, golden.method, part_inputs)
        except Exception as error:  # noqa: BLE001 - whatever a wrong model raises is the finding
            reason = f"{golden.method}() raised {type(error).__name__}: {error!s:.200}"
            return _summary(golden, [Difference(rows, math.inf, 0.0, reason)], started)
        encoded = _held(codec.encode(output, registry, label=part))
        results.append(
            difference(
                held[part],
                encoded,
                golden.tolerance,
                count,
                shapes_only=golden.nondeterministic,
            )
        )
    return _summary(golden, results, started)


def _summary(golden: Golden, results: list[Difference], started: float) -> Replay:
    worst = max(results, key=lambda result: (result.differing, result.largest))
    return Replay(
        level=golden.level,
        rows=golden.rows or 1,
        differing=worst.differing,
        largest=worst.largest,
        allowed=worst.allowed,
        reason=worst.reason,
        shapes_only=golden.nondeterministic,
        seconds=time.perf_counter() - started,
    )


def inputs_of(golden: Golden, blob: memoryview | None, registry: Registry) -> Any:
    """Return the inputs of a golden set; raises ``Corrupt`` where it is damaged."""
    held = _opened(golden, blob)["inputs"]
    return _Inputs(held.structure, held.tensors, registry).rows(None)


def golden_digest(golden: Golden) -> Digest:
    """Return a digest that names this golden set, for proof stamps."""
    return digest_of(msgspec.json.encode(golden, order="deterministic"))


def outputs_apart(
    one: Golden, one_blob: memoryview | None, two: Golden, two_blob: memoryview | None
) -> Difference:
    """Compare the recorded full outputs of two golden sets that share their inputs.

    Raises:
        Corrupt: A golden set is damaged.
    """
    before, after = _opened(one, one_blob)["full"], _opened(two, two_blob)["full"]
    return difference(before, after, one.tolerance, one.rows or 1)
