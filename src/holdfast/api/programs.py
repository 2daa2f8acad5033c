"""Making the portable form of a module: a program that does not prove itself is not kept.

Module and program are asked for the golden rows, for one row and for many, for other sizes of the
inputs where the program takes them, and for values far away; they must agree within the tolerance
of a golden set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from holdfast.api.portable import behaviour
from holdfast.archive import golden as goldens
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorData
from holdfast.errors import HoldfastError, Unsupported
from holdfast.frameworks.torch import forms, tracing
from holdfast.frameworks.torch.forms import ROWS, Given, Program, ProgramForm, Range
from holdfast.frameworks.transformers import run as transformers_run
from holdfast.record import digest_of

if TYPE_CHECKING:
    from holdfast.api.forming import Subject

__all__ = ["SAMPLED", "formed"]

# Adapters whose modules get programs; how many numbers of each row their ``forward`` answers.
SAMPLED: Final[dict[str, int | None]] = {"torch": None, "transformers": transformers_run.PER_ROW}
_FAR: Final = 7.0
_MOST_ROWS: Final = 48  # a golden set of more is cut, so more would prove nothing
_LONGEST: Final = 300


class _Call(NamedTuple):
    """Inputs that are unlike those given.

    Attributes:
        words: What they are.
        given: They.
        size: The size that is smaller than torch traced it for; it need not be answered.
    """

    words: str
    given: Given
    size: str | None = None


def formed(subject: Subject, registry: Registry) -> tuple[ProgramForm, bytes, Program]:
    """Make the program of a module and prove it; returns what is kept of it beside.

    Raises:
        Unsupported: There is none to be had; the message says why.
    """
    given = _given(subject)
    reasons = []
    for loose in (True, False):
        try:
            return _proven(subject, given, registry, loose=loose)
        except HoldfastError as error:
            reasons.append(error.message[:_LONGEST])
    raise Unsupported(reasons[-1] if reasons[0] == reasons[-1] else "; ".join(reasons))


def _given(subject: Subject) -> Given:
    import torch

    captured, model = subject.captured, subject.model
    callable_ = "forward" in subject.adapter.methods(model)
    if not isinstance(model, torch.nn.Module) or not callable_:
        kind = type(model).__name__
        raise Unsupported(f"programs are made of modules with a forward(), not of a {kind:.60}")
    if captured is None or captured.golden.nondeterministic:
        raise Unsupported("without a golden set that repeats itself nothing would prove it")
    tensors = [*model.parameters(), *model.buffers()]
    if any(each.device.type != "cpu" for each in tensors):
        raise Unsupported("its tensors are not on the CPU, and a program names where they are")
    given = Given.to(model, captured.inputs)
    if not given.tensors or not all(isinstance(each, torch.Tensor) for each in given.tensors):
        raise Unsupported("its inputs are not all tensors")
    if captured.golden.rows is None or any(each.dim() == 0 for each in given.tensors):
        raise Unsupported("its inputs have no rows in common")
    return given


def _proven(
    subject: Subject, given: Given, registry: Registry, *, loose: bool
) -> tuple[ProgramForm, bytes, Program]:
    adapter, model = subject.adapter, subject.model
    few = Given(given.names, tuple(_taken(each, 0, 2) for each in given.tensors))
    with adapter.steady(model):
        traced = tracing.trace(model, few, loose=loose)
    tensors = (subject.payload or adapter.pack(model, registry)).tensors
    blob, weights = tracing.split(traced.data, tensors)
    captured = subject.captured
    assert captured is not None  # noqa: S101 - _given has refused it
    form = ProgramForm(
        format=forms.FORMAT,
        blob=digest_of(blob),
        size=len(blob),
        weights=weights,
        inputs=tuple(
            msgspec.structs.replace(taken, name=name)
            for taken, name in zip(traced.inputs, given.names, strict=True)
        ),
        sizes={name: _from_one(size) for name, size in traced.sizes.items()},
        rows=captured.golden.rows or 1,
        absolute=0.0,
        by=tracing.made_by(),
        sampled=SAMPLED[adapter.ID],
    )
    program = Program(form, forms.whole(form, blob, lambda name: _bytes(tensors[name])))
    proof = _Proof(subject, program, registry)
    for call in _calls(form, given):
        proof.require(call)
    form = proof.form()
    return form, blob, program.with_form(form)


def _from_one(size: Range) -> Range:
    """Let a size be one where torch says none or two; the proof tries it."""
    return size._replace(least=1) if size.least in (0, 2) else size


def _bytes(tensor: TensorData) -> memoryview:
    return memoryview(tensor.load()).cast("B")


class _Proof:
    """Compares a program with the module; keeps the largest difference seen."""

    def __init__(self, subject: Subject, program: Program, registry: Registry) -> None:
        adapter, model = subject.adapter, subject.model
        self._live = goldens.Behaviour(
            methods=tuple(program.form.errors),
            call=partial(adapter.predict, model),
            steady=lambda: adapter.steady(model),
            synthetic=lambda rows, seed: None,  # noqa: ARG005 - inputs are given
        )
        self._program = program
        self._registry = registry
        self._sizes = dict(program.form.sizes)
        self._largest = 0.0

    def form(self) -> ProgramForm:
        """Return the form with what was found out."""
        return msgspec.structs.replace(
            self._program.form, sizes=self._sizes, absolute=self._largest
        )

    def require(self, call: _Call) -> None:
        """Raise ``Unsupported`` where the two differ; a program that refuses is never wrong."""
        found = self._compared(call.given)
        if found == "agrees" or (found == "the program refuses" and call.size != ROWS):
            return
        if call.size not in (None, ROWS):
            self._sizes[str(call.size)] = Range(2, self._sizes[str(call.size)].most)
            return
        raise Unsupported(f"its graph does not answer {call.words} as the model does: {found}")

    def _compared(self, given: Given) -> str:
        inputs = given.inputs()
        try:
            wanted = goldens.capture(self._live, inputs, self._registry, mode="inputs")
        except HoldfastError:
            wanted = None
        if wanted is None:
            try:
                self._program.answer("forward", inputs)
            except HoldfastError:
                return "agrees"
            return "the model refuses them"
        try:
            self._program.answer(wanted.golden.method, wanted.inputs)
        except HoldfastError:
            return "the program refuses"
        blob = None if wanted.blob is None else memoryview(wanted.blob)
        result = goldens.replay(wanted.golden, blob, behaviour(self._program), self._registry)
        if not result.passed:
            return result.reason or f"it is off by {result.largest:.2g}"
        self._largest = max(self._largest, result.largest)
        return "agrees"


def _calls(form: ProgramForm, given: Given) -> Iterator[_Call]:
    rows = min(given.tensors[0].shape[0], _MOST_ROWS)
    yield _Call("a single row", _resized(form, given, ROWS, 1), ROWS)
    for count in sorted({2, 3, rows, rows + 1}):
        yield _Call(f"{count} rows", _resized(form, given, ROWS, count), ROWS)
    usual = _resized(form, given, ROWS, min(rows, 3))
    yield _Call("values far away from those given", _mapped(usual, _moved))
    yield _Call("values in another order", _mapped(usual, _turned))
    for name, (least, most) in form.sizes.items():
        if name == ROWS:
            continue
        size = _size_of(form, given, name)
        for other in sorted({1, 2, size - 1, size + 1, 2 * size + 1} - {size}):
            if other >= max(least, 1) and (most is None or other <= most):
                shown = f"inputs of {other} instead of {size}"
                small = name if other == 1 else None
                yield _Call(shown, _resized(form, usual, name, other), small)


def _size_of(form: ProgramForm, given: Given, name: str) -> int:
    return next(
        int(tensor.shape[taken.shape.index(name)])
        for taken, tensor in zip(form.inputs, given.tensors, strict=True)
        if name in taken.shape
    )


def _resized(form: ProgramForm, given: Given, name: str, size: int) -> Given:
    """Return inputs with one size cut, or made longer by beginning anew."""
    tensors = []
    for taken, tensor in zip(form.inputs, given.tensors, strict=True):
        for axis, axis_name in enumerate(taken.shape):
            if axis_name == name:
                tensor = _taken(tensor, axis, size)  # noqa: PLW2901 - one axis after the other
        tensors.append(tensor)
    return Given(given.names, tuple(tensors))


def _taken(tensor: Any, axis: int, size: int) -> Any:
    import torch

    return tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])


def _mapped(given: Given, change: Callable[[Any], Any]) -> Given:
    return Given(given.names, tuple(map(change, given.tensors)))


def _moved(tensor: Any) -> Any:
    return tensor * -_FAR if tensor.is_floating_point() else tensor.flip(0)


def _turned(tensor: Any) -> Any:
    return tensor.flip(tensor.dim() - 1)
