"""Comparing a converted graph with the model it was made of, on more rows than those given.

Both are asked for the rows, for rows far away from them, for rows with gaps and for texts that were
never seen. Where the model refuses and the graph would answer, the form has to refuse as well, or
is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from holdfast.archive.frames import is_frame
from holdfast.archive.golden import row_count, take_rows
from holdfast.errors import HoldfastError, Unsupported
from holdfast.frameworks.onnx.forms import TAKES, Answer, Fed, Form, Graph, is_missing, taken

__all__ = ["MOST_RELATIVE", "Live", "prove"]

# Largest difference over the largest value of an answer. float32 holds seven digits, and sums of
# products lose some of them.
MOST_RELATIVE: Final = 1e-5
# Answers whose columns share one scale.
_ONE_SCALE: Final = ("predict_proba", "decision_function")
_FAR: Final = 7.0
_MOST_TRIED: Final = 32  # columns that are tried one at a time
_UNSEEN: Final = "zzyzx É 七"
_MARKERS: Final = ("nan", "None")
_TEXTS: Final = ("", " ", "É", "ǅ", "x", "7", "_", "a-b_c", "don't", "naïve", "日本語 テキスト")


@dataclass(frozen=True, slots=True)
class Live:
    """The model whose answers are right, and rows that it takes.

    Attributes:
        ask: ``(method, rows) -> answer``; changes neither model nor rows.
        methods: Its output methods; the first is the one that its golden set recorded.
        rows: Rows of the caller.
    """

    ask: Callable[[str, Any], Any]
    methods: tuple[str, ...]
    rows: Any


class _Error(NamedTuple):
    """How far two answers are apart, absolutely and over the largest value."""

    absolute: float
    relative: float


_APART: Final = _Error(np.inf, np.inf)


def prove(live: Live, graph: Graph) -> Form:
    """Return the form of a graph with what was found out: its answers, their errors, its limits.

    Raises:
        Unsupported: It does not answer as the model does; the message says where.
    """
    texts = [fed for fed in graph.form.inputs if fed.dtype == "string"]
    if len(texts) > _MOST_TRIED:
        raise Unsupported(f"it has more than {_MOST_TRIED} columns of text")
    graph, wanted = _fed_as_proven(live, graph)
    proof = _Proof(live, {method: _scale(method, answer) for method, answer in wanted.items()})
    proof.require(graph, "a single row", take_rows(live.rows, 1))
    for words, rows in _unusual(graph.form, live.rows):
        proof.require(graph, words, rows)
    return proof.with_gaps(graph).form


def _fed_as_proven(live: Live, graph: Graph) -> tuple[Graph, dict[str, Any]]:
    """Find which output is which answer; where texts have gaps, also what stands for a gap."""
    wanted = _wanted(live)
    refusal: HoldfastError | None = None
    for inputs in _markings(graph.form.inputs, live.rows):
        candidate = graph.with_form(msgspec.structs.replace(graph.form, inputs=inputs))
        try:
            outputs = _answers(wanted, candidate.outputs(live.rows))
        except HoldfastError as error:
            refusal = refusal or error
            continue
        rows = row_count(live.rows) or 1
        form = msgspec.structs.replace(candidate.form, outputs=outputs, rows=rows)
        return graph.with_form(form), {method: wanted[method] for method in outputs}
    raise refusal or Unsupported("its inputs cannot be fed to a graph")


def _markings(inputs: tuple[Fed, ...], rows: Any) -> Iterator[tuple[Fed, ...]]:
    holey = [_has_gaps(fed, rows) for fed in inputs]
    texts = any(gap and fed.dtype == "string" for gap, fed in zip(holey, inputs, strict=True))
    for marker in _MARKERS if texts else _MARKERS[:1]:
        yield tuple(
            msgspec.structs.replace(fed, missing=marker if fed.dtype == "string" else "nan")
            if gap
            else fed
            for gap, fed in zip(holey, inputs, strict=True)
        )


def _has_gaps(fed: Fed, rows: Any) -> bool:
    values = rows[[*_named(fed, rows)]].to_numpy() if is_frame(rows) else rows
    array = values if isinstance(values, np.ndarray) else _plain(values)
    if array.dtype.kind == "f":
        return bool(np.isnan(array).any())
    return array.dtype.kind == "O" and any(map(is_missing, array.ravel().tolist()))


def _named(fed: Fed, frame: Any) -> Iterator[Any]:
    """Yield the table's own names of the columns that an input takes."""
    own = {str(name): name for name in frame.columns}
    return (own[name] for name in fed.columns or ())


def _plain(rows: Any) -> Any:
    if isinstance(rows, list) and all(isinstance(row, str) for row in rows):
        return np.array(rows, dtype=object)
    return np.asarray(rows)


def _wanted(live: Live) -> dict[str, Any]:
    """Return what the model answers; a method but the first may be one that it refuses."""
    found: dict[str, Any] = {}
    for method in live.methods:
        try:
            found[method] = live.ask(method, live.rows)
        except Exception as error:
            if method == live.methods[0]:
                raise Unsupported(f"its {method}() raises {type(error).__name__}") from error
    return found


def _answers(wanted: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Answer]:
    """Find each method's answer among the outputs of the graph.

    Raises:
        Unsupported: That of ``predict`` or of the first method, which golden sets record, is none.
    """
    found: dict[str, Answer] = {}
    for method, want in wanted.items():
        best = _best(method, want, outputs)
        if isinstance(best, Answer):
            found[method] = best
        elif not found or method == "predict":
            raise Unsupported(f"its graph does not answer {method}() as the model does: {best}")
    return found


def _best(method: str, want: Any, outputs: dict[str, Any]) -> Answer | str:
    """Return the output nearest to an answer, or in words why none is near."""
    if not isinstance(want, np.ndarray) or want.ndim not in (1, 2):
        kind = type(want).__name__
        return f"an answer is a {kind}" if kind != "ndarray" else f"an answer has {want.ndim} axes"
    errors: list[tuple[float, Answer]] = []
    for name, output in outputs.items():
        for take in TAKES:
            have = taken(output, take, want.dtype.str)
            if have is None or have.shape != want.shape:
                continue
            error = _error(want, have, _scale(method, want))
            answer = Answer(
                output=name,
                take=take,
                dtype=want.dtype.str,
                absolute=error.absolute if np.isfinite(error.absolute) else 0.0,
                relative=error.relative if np.isfinite(error.relative) else 0.0,
            )
            errors.append((error.relative, answer))
    if not errors:
        return "no output has its shape"
    relative, answer = min(errors, key=lambda pair: pair[0])
    if relative <= MOST_RELATIVE:
        return answer
    if not np.isfinite(relative):
        return "labels or gaps differ"
    return f"it is off by {answer.absolute:.2g}, {relative:.2g} of the largest value"


def _scale(method: str, want: Any) -> Any:
    """Return the largest finite value of an answer, by column where columns have no common unit."""
    if want.dtype.kind != "f":
        return np.zeros(())
    sizes = np.where(np.isfinite(want), np.abs(want.astype(np.float64)), 0.0)
    return sizes.max(axis=None if method in _ONE_SCALE else 0, initial=0.0)


def _error(want: Any, have: Any, scale: Any) -> _Error:
    """Measure two answers of one shape; what is no float must be equal."""
    if want.dtype.kind != "f":
        return _Error(0.0, 0.0) if np.array_equal(want, have) else _APART
    same = (want == have) | (np.isnan(want) & np.isnan(have))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gaps = np.where(same, 0.0, np.abs(want.astype(np.float64) - have))
        relative = np.where(gaps == 0, 0.0, gaps / scale)
    if not np.isfinite(gaps).all():
        return _APART
    return _Error(float(gaps.max(initial=0.0)), float(relative.max(initial=0.0)))


class _Proof:
    """Compares a graph with the model on other rows, by the scale of its usual answers."""

    def __init__(self, live: Live, scales: dict[str, Any]) -> None:
        self._live = live
        self._scales = scales

    def require(self, graph: Graph, words: str, rows: Any) -> None:
        """Raise ``Unsupported`` where the graph answers rows that the model answers otherwise."""
        found = self._compared(graph, rows)
        if found == "differs":
            raise Unsupported(f"its graph answers {words} otherwise than the model")
        if found == "only the graph answers":
            raise Unsupported(f"its graph answers {words}, which the model refuses")

    def _compared(self, graph: Graph, rows: Any) -> str:
        """Ask both and say how they compare; a graph that refuses is never wrong."""
        try:
            outputs = graph.outputs(rows)
        except HoldfastError:
            return "the graph refuses"
        for method, answer in graph.form.outputs.items():
            try:
                want = np.asarray(self._live.ask(method, rows))
            except Exception:  # noqa: BLE001 - whatever a model raises is its refusal
                return "only the graph answers"
            have = taken(outputs[answer.output], answer.take, answer.dtype)
            if have is None or have.shape != want.shape:
                return "differs"
            scale = np.maximum(self._scales[method], _scale(method, want))
            if _error(want, have, scale).relative > MOST_RELATIVE:
                return "differs"
        return "agrees"

    def with_gaps(self, graph: Graph) -> Graph:
        """Let through the gaps that the graph answers as the model does; others stay refused."""
        closed = [
            place
            for place, fed in enumerate(graph.form.inputs)
            if fed.dtype == "float32" and fed.missing is None
        ]
        if not closed:
            return graph
        every = self._if_it_agrees(graph, closed)
        if every is not None:
            return every
        for place in closed if 1 < len(closed) <= _MOST_TRIED else ():
            graph = self._if_it_agrees(graph, [place]) or graph
        return graph

    def _if_it_agrees(self, graph: Graph, places: list[int]) -> Graph | None:
        """Return the graph with some inputs open for gaps, None where it answers them otherwise."""
        inputs = list(graph.form.inputs)
        for place in places:
            inputs[place] = msgspec.structs.replace(inputs[place], missing="nan")
        opened = graph.with_form(msgspec.structs.replace(graph.form, inputs=tuple(inputs)))
        rows = _holed([inputs[place] for place in places], self._live.rows)
        return opened if self._compared(opened, rows) == "agrees" else None


def _unusual(form: Form, rows: Any) -> Iterator[tuple[str, Any]]:
    """Yield rows that are unlike those given, each with what they are."""
    yield "rows far away from those given", _far(rows)
    if not is_frame(rows):
        if form.inputs[0].dtype == "string":
            yield "texts unlike those given", _odd_texts(rows)
        return
    for fed in form.inputs:
        if fed.dtype == "string":
            for name in _named(fed, rows):
                changed = take_rows(rows, 4).copy()
                changed[name] = np.full(len(changed), _UNSEEN, dtype=object)
                yield f"a text that it never saw in {str(name)!r:.40}", changed


def _far(rows: Any) -> Any:
    """Move numbers away from their middle, far enough to leave what a model has seen."""
    if is_frame(rows):
        changed = rows.copy()
        for name in rows.columns:
            values = np.asarray(rows[name])
            if values.dtype.kind in "iuf":
                changed[name] = _stretched(values)
        return changed
    array = _plain(rows)
    return _stretched(array) if array.dtype.kind in "iuf" else rows


def _stretched(values: Any) -> Any:
    with np.errstate(all="ignore"):
        middle = np.nan_to_num(np.nanmedian(values, axis=0))
        moved = middle + _FAR * (values - middle)
    if values.dtype.kind == "f":
        return moved.astype(values.dtype)
    limits = np.iinfo(values.dtype)
    return np.clip(np.round(moved), limits.min, limits.max).astype(values.dtype)


def _odd_texts(rows: Any) -> Any:
    """Return texts of other letters, without letters, in capitals, glued and cut."""
    given = [row for row in _plain(rows).ravel().tolist() if isinstance(row, str)][:16]
    made = [
        *_TEXTS,
        *(text.upper() for text in given),
        *(text.replace(" ", "é ") for text in given),
        *(text.replace(" ", " x ") for text in given),
        *(text.replace(" ", "_") for text in given),
        *(text.title()[::-1] for text in given),
    ]
    if isinstance(rows, list):
        return made
    width = 1 if rows.ndim == 1 else rows.shape[1]
    made = made[: len(made) // width * width]
    array = np.empty(len(made), dtype=object)
    array[:] = made
    return array if rows.ndim == 1 else array.reshape(-1, width)


def _holed(fed: Sequence[Fed], rows: Any) -> Any:
    """Make gaps: in every column that these inputs take at some row, and in one row everywhere."""
    some = take_rows(rows, 64)
    if not is_frame(some):
        array = np.array(some, dtype=np.float64)
        places = np.arange(max(array.shape))
        array[places % array.shape[0], places % array.shape[1]] = np.nan
        array[-1:] = np.nan
        return array
    some = some.copy()
    names = [name for each in fed for name in _named(each, some)]
    for place, name in enumerate(names):
        values = np.array(some[name], dtype=np.float64)
        values[place % len(values)] = values[-1] = np.nan
        some[name] = values
    return some
