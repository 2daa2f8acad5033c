"""A portable form: an ONNX graph in another model's place, and how rows become its inputs.

The graph computes with float32. Which inputs it takes, which of its outputs is the answer of which
method and of what type, and how far answers were from the model's own are said beside it, in the
record. Running it needs numpy and onnxruntime.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Self

import msgspec
import numpy as np

from holdfast.errors import Corrupt, UsageError
from holdfast.frameworks.forms import PortableForm
from holdfast.frameworks.onnx import run
from holdfast.frameworks.onnx.files import OnnxFile

__all__ = ["FORMAT", "METHODS", "TAKES", "Answer", "Fed", "Form", "Graph", "is_missing", "taken"]

FORMAT: Final = "onnx"
# What a form may answer, best first.
METHODS: Final = ("predict_proba", "decision_function", "predict", "transform")
# How an output becomes an answer: as it is, its only column, the second of two, its only row.
TAKES: Final = ("whole", "flat", "second", "row")

_METHODS: Final = frozenset(METHODS)
_CUTS: Final = {"flat": (1, 1), "second": (1, 2), "row": (0, 1)}  # axis, and its size
_DTYPES: Final = {"float32": np.float32, "int64": np.int64, "string": np.object_}
_ANSWERS: Final = re.compile(r"\|b1|[|<][iu][1248]|<f[248]|<U[1-9][0-9]{0,3}|\|O")
_MOST_INPUTS: Final = 10_000
# Objects that stand for a missing value beside None and NaN; pandas need not be imported.
_MISSING: Final = frozenset({"NAType", "NaTType"})


class Fed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input of the graph.

    Attributes:
        name: Its name in the graph.
        dtype: ``float32``, ``int64`` or ``string``.
        width: Its columns; None where a row is one text, which the graph takes as one column.
        columns: Names of the columns that it takes from a table; None where rows had no names.
        missing: ``nan`` or, of texts, ``None``: which missing values are let through, texts as
            that word; None where the form was proven with neither.
    """

    name: str
    dtype: str
    width: int | None = None
    columns: tuple[str, ...] | None = None
    missing: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a method's answer is.

    Attributes:
        output: Output of the graph.
        take: One of ``TAKES``.
        dtype: numpy's name of the type of the model's own answer.
        absolute: Largest difference from it that was measured; 0 where answers must be equal.
        relative: The same over the largest value of the answer.
    """

    output: str
    take: str
    dtype: str
    absolute: float = 0.0
    relative: float = 0.0


class Form(PortableForm, frozen=True, kw_only=True, omit_defaults=True):
    """A graph of ONNX as the record describes it.

    Attributes, beside those of every form:
        ir_version: Of the graph.
        opsets: Version of the operators by domain.
        inputs: In the order of the columns.
        outputs: Method to where its answer is, best first.
    """

    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[Fed, ...]
    outputs: dict[str, Answer]

    @property
    def errors(self) -> dict[str, float]:
        """Method to the largest difference of its answers from the model's, best first."""
        known = (method for method in METHODS if method in self.outputs)
        return {method: self.outputs[method].absolute for method in known}

    def fault(self) -> str | None:
        """Return what of it cannot be, or None."""
        names = {each.name for each in self.inputs}
        faults = {
            "it has no inputs, or too many": not 0 < len(self.inputs) <= _MOST_INPUTS,
            "two of its inputs have one name": len(names) < len(self.inputs),
            "its inputs contradict themselves": not all(map(_is_fed, self.inputs)),
            "it answers what no model does": not _METHODS.issuperset(self.outputs),
            "its outputs contradict themselves": not all(map(_is_answer, self.outputs.values())),
        }
        return next((what for what, true in faults.items() if true), None)


def _is_fed(fed: Fed) -> bool:
    if fed.dtype not in _DTYPES:
        return False
    if fed.columns is not None:
        return fed.width == len(fed.columns)
    return fed.width is None or fed.width > 0


def _is_answer(answer: Answer) -> bool:
    errors = (answer.absolute, answer.relative)
    sound = all(math.isfinite(error) and error >= 0 for error in errors)
    return sound and answer.take in TAKES and _ANSWERS.fullmatch(answer.dtype) is not None


class Graph:
    """A form that runs.

    Attributes:
        form: What the record says of it.
    """

    def __init__(self, form: Form, data: bytes | memoryview) -> None:
        """Judge and open a graph, of which nothing is run yet.

        Raises:
            Corrupt: It is damaged, or has not the inputs and outputs that the form says.
            UnsafeContent: An operator reaches out of the graph.
            Unsupported: Nothing is known of an operator.
            MissingExtra: onnxruntime is not installed.
            UsageError: The runtime refuses it.
        """
        self.form = form
        self._session = run.open_session(OnnxFile(data))
        self._outputs = [each.name for each in self._session.runtime.get_outputs()]
        inputs = {each.name for each in self._session.runtime.get_inputs()}
        wanted = {each.name for each in form.inputs}
        if inputs != wanted:
            raise Corrupt(
                f"the portable form's graph has the inputs {sorted(inputs)!r:.200}, "
                f"and the record says {sorted(wanted)!r:.200}"
            )
        lacking = {each.output for each in form.outputs.values()} - {*self._outputs}
        if lacking:
            raise Corrupt(f"the portable form's graph has no output {min(lacking)!r:.100}")

    def with_form(self, form: Form) -> Self:
        """Return the same graph with other words about it."""
        other = copy.copy(self)
        other.form = form
        return other

    def steady(self) -> AbstractContextManager[None]:
        """Fix what answers depend on: nothing, for a graph answers the same each time."""
        return nullcontext()

    def outputs(self, inputs: Any) -> dict[str, Any]:
        """Run the graph; returns all of its outputs by name.

        Raises:
            UsageError: The inputs are not the form's, or the graph does not run on them.
        """
        given = feed(self.form.inputs, inputs)
        return dict(zip(self._outputs, run.run(self._session, given), strict=True))

    def answer(self, method: str, inputs: Any) -> Any:
        """Answer as the model's method does.

        Raises:
            UsageError: As ``outputs``.
            Corrupt: The graph answers something of another kind than the form says.
        """
        answers = self.outputs(inputs)
        rows = _rows(inputs)
        wanted = self.form.outputs[method]
        found = taken(answers[wanted.output], wanted.take, wanted.dtype)
        if found is None or len(found) != rows:
            raise Corrupt(f"the portable form's {method}() is not {wanted.dtype} for {rows} rows")
        return found


def taken(output: Any, take: str, dtype: str) -> Any | None:
    """Return an output as an answer of a type, None where it cannot be one."""
    if not isinstance(output, np.ndarray) or output.ndim not in (1, 2):
        return None
    if take != "whole":
        axis, size = _CUTS[take]
        if output.ndim != 2 or output.shape[axis] != size:
            return None
        output = output.take(size - 1, axis)
    wanted = np.dtype(dtype)
    texts = output.dtype.kind in "OUS"
    if texts != (wanted.kind in "OU"):
        return None
    return np.ascontiguousarray(output).astype(wanted)


def _rows(inputs: Any) -> int:
    shape = getattr(inputs, "shape", None)
    return int(shape[0]) if shape else len(inputs)


def feed(wanted: Sequence[Fed], inputs: Any) -> dict[str, Any]:
    """Return arrays for the graph's inputs.

    Args:
        wanted: The inputs.
        inputs: A table, an array, a list of rows or of texts.

    Raises:
        UsageError: They are not rows of the model, or hold what the form was not proven with.
    """
    if hasattr(inputs, "columns") and hasattr(inputs, "iloc"):
        return _from_table(wanted, inputs)
    if hasattr(inputs, "tocsr"):
        raise _refused("it takes dense rows, and these are sparse", "X.toarray()")
    if len(wanted) > 1 and any(each.columns is not None for each in wanted):
        names = [name for each in wanted for name in each.columns or ()]
        raise _refused(
            f"it takes a table with the columns {', '.join(names[:5])}",
            f"pandas.DataFrame(X, columns={names[:3]!r})",
        )
    (fed,) = wanted
    array = _array(inputs, fed)
    if array.shape[1:] != (() if fed.width is None else (fed.width,)):
        raise _refused(f"it takes rows of {fed.width or 1}, and these have shape {array.shape}")
    made = _column(array, fed, "the input")
    return {fed.name: made[:, None] if fed.width is None else made}


def _array(inputs: Any, fed: Fed) -> Any:
    if fed.dtype == "string" and isinstance(inputs, list | tuple):
        one = fed.width is None
        if one and all(isinstance(each, str) or is_missing(each) for each in inputs):
            made = np.empty(len(inputs), object)
            made[:] = inputs
            return made
        return np.array(inputs, dtype=object)
    try:
        return np.asarray(inputs)
    except ValueError as error:
        raise _refused("its rows have one length each") from error


def _from_table(wanted: Sequence[Fed], table: Any) -> dict[str, Any]:
    places = {str(name): place for place, name in enumerate(table.columns)}
    if len(places) != len(table.columns):
        raise _refused("two columns of the table have one name")
    given: dict[str, Any] = {}
    for fed in wanted:
        names = [*places] if fed.columns is None else fed.columns
        missing = [name for name in names if name not in places]
        if missing or len(names) != fed.width:
            raise _refused(
                f"the table lacks the columns {missing[:5]!r:.200}"
                if missing
                else f"the table has {len(names)} columns and not {fed.width}",
                "X.columns",
            )
        given[fed.name] = _gathered(table.iloc[:, [places[name] for name in names]], fed)
    return given


def _gathered(columns: Any, fed: Fed) -> Any:
    """Return the columns of one input, side by side."""
    numbers = columns.to_numpy() if fed.dtype == "float32" else None
    if numbers is not None and numbers.dtype.kind in "biuf":
        return _column(numbers, fed, "the table")
    made = [
        _column(_values(columns.iloc[:, place]), fed, f"the column {str(name)!r:.60}")
        for place, name in enumerate(columns.columns)
    ]
    return np.column_stack(made)


def _values(column: Any) -> Any:
    """Return a column's values; those of nullable and Arrow types as numpy's, gaps as they are."""
    array = np.asarray(column)
    if array.dtype.kind in "biufOUT":
        return array.astype(object) if array.dtype.kind in "UT" else array
    return np.asarray(column, dtype=object)


def _column(values: Any, fed: Fed, what: str) -> Any:
    if fed.dtype == "string":
        return _texts(values, fed, what)
    if values.dtype.kind == "O":
        values = _numbers(values, what)
    if values.dtype.kind not in "biuf":
        raise _refused(f"{what} holds {values.dtype}, not numbers")
    if fed.dtype == "int64":
        return _whole(values, what)
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values, dtype=np.float32)
    whole = values.dtype.kind in "iu"
    if np.isinf(narrow).any() or (whole and (narrow.astype(np.float64) != values).any()):
        raise _refused(f"{what} holds numbers that float32 does not hold")
    if fed.missing is None and np.isnan(narrow).any():
        raise _refused(f"{what} has missing values, with which it was not proven")
    return narrow


def _numbers(values: Any, what: str) -> Any:
    """Read objects as numbers, gaps as NaN; texts are never read as numbers."""
    made = [
        math.nan
        if is_missing(each)
        else float(each)
        if isinstance(each, int | float | np.number | np.bool_)
        else None
        for each in values.ravel().tolist()
    ]
    if None in made:
        raise _refused(f"{what} holds objects that are no numbers")
    return np.array(made, dtype=np.float64).reshape(values.shape)


def _whole(values: Any, what: str) -> Any:
    if values.dtype.kind == "f":
        sound = np.isfinite(values) & (np.abs(values) < 2.0**53)
        if not (sound.all() and (values == np.floor(values)).all()):
            raise _refused(f"{what} takes whole numbers")
    elif values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any():
        raise _refused(f"{what} holds numbers that int64 does not hold")
    return np.ascontiguousarray(values, dtype=np.int64)


def _texts(values: Any, fed: Fed, what: str) -> Any:
    made = np.empty(values.shape, dtype=object)
    for place, value in zip(np.ndindex(values.shape), values.ravel().tolist(), strict=True):
        if isinstance(value, str):
            if value == fed.missing:
                raise _refused(f"{what} holds {value!r:.40}, which stands for a missing value")
            made[place] = str(value)
        elif not is_missing(value):
            raise _refused(f"{what} holds a {type(value).__name__} among texts")
        elif fed.missing != (marker := "None" if value is None else "nan"):
            raise _refused(f"{what} has missing values ({marker}), with which it was not proven")
        else:
            made[place] = marker
    return made


def is_missing(value: object) -> bool:
    """Say whether a value stands for a gap, whichever library made it."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in _MISSING
    )


def _refused(what: str, hint: str | None = None) -> UsageError:
    return UsageError(
        f"The portable form does not answer for these inputs: {what}.",
        hint=hint or 'holdfast.load("REF", environment="recorded")  # takes what the model takes',
    )
