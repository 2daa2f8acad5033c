"""Making a portable form at save: a graph that does not prove itself is not kept."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.api import programs
from holdfast.api.portable import replayed
from holdfast.api.proving import Live, prove
from holdfast.archive import golden as goldens
from holdfast.archive.frames import is_frame, is_sparse
from holdfast.codec.registry import Registry
from holdfast.errors import HoldfastError, Unsupported, UsageError
from holdfast.frameworks import Adapter, Payload
from holdfast.frameworks.onnx.forms import FORMAT, Fed, Form, Graph, is_missing
from holdfast.frameworks.sklearn import portable as sklearn_portable
from holdfast.frameworks.torch import forms as torch_forms
from holdfast.frameworks.torch.forms import Program
from holdfast.record import digest_of
from holdfast.trust import onnx_graph

__all__ = ["Formed", "Subject", "formed"]

_log = logging.getLogger("holdfast")

_CHOICES: Final = ("auto", FORMAT, torch_forms.FORMAT, None)
_ROWS: Final = 256
_LONGEST: Final = 300


class Subject(NamedTuple):
    """What is to be converted.

    Attributes:
        adapter: The model's adapter.
        model: The live model.
        captured: Its golden set.
        rows: The caller's rows, more of which are compared than a golden set keeps; None where
            it is made of none of theirs.
        payload: What was packed of it, by which ``"auto"`` judges how long a conversion takes.
    """

    adapter: Adapter
    model: Any
    captured: goldens.Captured | None
    rows: Any = None
    payload: Payload | None = None


class Formed(NamedTuple):
    """What was found: what the record says, and the graph's bytes where a form is kept."""

    document: dict[str, Any]
    blob: bytes | None


def formed(wanted: str | None, subject: Subject, registry: Registry) -> Formed | None:
    """Make the portable form of a model, if there is one to be had.

    Args:
        wanted: ``"auto"``, ``"onnx"``, ``"torch.export"`` or None.
        subject: The model.
        registry: For the replay.

    Returns:
        None where none was asked for, or none is made of such models here.

    Raises:
        UsageError: ``wanted`` is none of these.
        Unsupported: It was asked for by name and is not to be had; the message says why.
    """
    if wanted not in _CHOICES:
        raise UsageError(
            f"portable={wanted!r:.40} is not known; use 'auto', 'onnx', 'torch.export' or None.",
            hint="holdfast.save(model, name, inputs=X)",
        )
    if wanted is None or (wanted == "auto" and not _is_usual(subject.adapter)):
        return None
    cause: Exception
    try:
        return _formed(wanted, subject, registry)
    except HoldfastError as error:
        reason, cause = error.message, error
    except Exception as error:  # noqa: BLE001 - a converter's own faults must not stop a save
        reason, cause = f"making it raised {type(error).__name__}: {error!s:.100}", error
    if wanted != "auto":
        raise Unsupported(
            f"It has no portable form: {reason}. Nothing became visible.",
            hint='holdfast.save(model, name, portable="auto")  # keeps it without one',
        ) from cause
    _log.info("no portable form: %s", reason)
    return Formed({"reason": reason}, None)


def _is_usual(adapter: Adapter) -> bool:
    return adapter.ID == "sklearn" and sklearn_portable.is_installed()


def _formed(wanted: str, subject: Subject, registry: Registry) -> Formed:
    adapter, captured = subject.adapter, subject.captured
    if wanted == torch_forms.FORMAT:
        return _program(subject, registry)
    if adapter.ID != "sklearn":
        raise Unsupported(f"graphs are made of scikit-learn's estimators, and this is {adapter.ID}")
    if captured is None or captured.golden.nondeterministic:
        raise Unsupported("without a golden set that repeats itself nothing would prove it")
    if wanted == "auto" and subject.payload is not None:
        sklearn_portable.refuse_slow(subject.payload)
    rows = captured.inputs
    if subject.rows is not None and captured.golden.level == "inputs":
        rows = goldens.take_rows(subject.rows, _ROWS)
    live = Live(_asking(adapter, subject.model), adapter.methods(subject.model), rows)
    reasons: list[str] = []
    for fed in _candidates(rows):
        try:
            form, data = _proven(live, subject.model, fed)
            _require_replay(Graph(form, data), captured, registry)
        except HoldfastError as error:
            reasons.append(error.message.partition(": [ONNXRuntimeError]")[0][:_LONGEST])
            continue
        return Formed(form.document(), data)
    raise Unsupported(reasons[0] if reasons else "its inputs are no table, array or texts")


def _program(subject: Subject, registry: Registry) -> Formed:
    if subject.adapter.ID not in programs.SAMPLED:
        raise Unsupported(f"programs are made of modules of PyTorch; this is {subject.adapter.ID}")
    form, blob, program = programs.formed(subject, registry)
    assert subject.captured is not None  # noqa: S101 - a program is proven with it
    _require_replay(program, subject.captured, registry)
    return Formed(form.document(), blob)


def _require_replay(graph: Graph | Program, captured: goldens.Captured, registry: Registry) -> None:
    """Replay as every load will; raises ``Unsupported`` where that is not passed."""
    blob = None if captured.blob is None else memoryview(captured.blob)
    result = replayed(graph, captured.golden, blob, registry)
    if not result.passed:
        why = result.reason or f"off by {result.largest:.2g}"
        raise Unsupported(f"its graph does not replay the golden set: {why}")


def _asking(adapter: Adapter, model: Any) -> Callable[[str, Any], Any]:
    """Return what asks a model without changing it or the rows."""

    def ask(method: str, rows: Any) -> Any:
        with adapter.steady(model):
            return copy.deepcopy(adapter.predict(model, method, copy.deepcopy(rows)))

    return ask


def _candidates(rows: Any) -> Iterator[tuple[Fed, ...]]:
    """Yield ways in which rows may be fed."""
    if is_frame(rows):
        yield from _of_table(rows)
    elif not is_sparse(rows):
        yield from _of_array(_listed(rows) if isinstance(rows, list) else np.asarray(rows))


def _of_table(table: Any) -> Iterator[tuple[Fed, ...]]:
    """Yield a table as one matrix, where it is of one kind, then a column at a time.

    Whole numbers are floats first: so a gap or a fraction among them is no surprise, as it is none
    to most models.
    """
    known = {str(name): _kind(table.iloc[:, i]) for i, name in enumerate(table.columns)}
    names = [name for name, kind in known.items() if kind]  # the model may not need the others
    exact = [known[name] for name in names]
    if not names or len(known) < len(table.columns):
        return
    loose = ["string" if kind == "string" else "float32" for kind in exact]
    if len(names) > 1 and len(set(loose)) == 1:
        yield (Fed(name="X", dtype=loose[0], width=len(names), columns=tuple(names)),)
    for kinds in (loose, exact) if "int64" in exact else (loose,):
        yield tuple(
            Fed(name=name, dtype=str(kind), width=1, columns=(name,))
            for name, kind in zip(names, kinds, strict=True)
        )


def _of_array(array: Any) -> Iterator[tuple[Fed, ...]]:
    """Yield an array as floats, then as whole numbers where it holds such; or as texts."""
    kind = _kind(array)
    texts = kind == "string"
    if kind is None or array.ndim not in ((1, 2) if texts else (2,)):
        return
    width = None if array.ndim == 1 else int(array.shape[1])
    yield (Fed(name="X", dtype="string" if texts else "float32", width=width),)
    if kind == "int64":
        yield (Fed(name="X", dtype="int64", width=width),)


def _listed(rows: list[Any]) -> Any:
    if all(isinstance(row, str) for row in rows):
        return np.array(rows, dtype=object)
    try:
        return np.asarray(rows)
    except ValueError:
        return np.empty(0, dtype="V1")


def _kind(values: Any) -> str | None:
    """Return how a column is fed, None where it cannot be."""
    array = np.asarray(values)
    if array.dtype.kind in "bf":
        return "float32"
    if array.dtype.kind in "iu":
        return "int64"
    held = {type(each) for each in array.ravel().tolist() if not is_missing(each)}
    if array.dtype.kind in "OUT" and held and held <= {str, np.str_}:
        return "string"
    numbers = held <= {int, float, bool}
    return "float32" if array.dtype.kind == "O" and numbers else None


def _proven(live: Live, model: Any, fed: tuple[Fed, ...]) -> tuple[Form, bytes]:
    """Convert a model for one way of feeding it; raises ``Unsupported`` with the reason."""
    scores = "predict_proba" not in live.methods
    data = sklearn_portable.convert(model, fed, scores=scores)
    described = onnx_graph.describe(data)
    used = {value.name for value in described.inputs}
    form = Form(
        format=FORMAT,
        blob=digest_of(data),
        size=len(data),
        ir_version=described.ir_version,
        opsets={domain or "ai.onnx": n for domain, n in sorted(described.opsets.items())},
        inputs=tuple(each for each in fed if each.name in used),
        outputs={},
        rows=0,
        by=sklearn_portable.made_by(),
    )
    return prove(live, Graph(form, data)), data
