"""Comparing encoded outputs: node tables exactly, tensors by a tolerance per dtype.

Memory order, whether whole numbers have 32 or 64 bits, whether scipy calls a result a matrix or an
array, and in which order a sparse row lists its entries differ between releases and platforms and
are no part of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from holdfast.codec.tensors import TensorView
from holdfast.record import Structure

__all__ = ["TOLERANCE", "Difference", "Held", "difference"]

# safetensors dtype to (relative, absolute) tolerance; other dtypes must be equal. Wide enough
# for another BLAS or processor, narrow enough that a wrong weight or a lost step shows.
TOLERANCE: Final[dict[str, tuple[float, float]]] = {
    "F64": (1e-7, 1e-9),
    "F32": (1e-4, 1e-5),
    "F16": (1e-2, 1e-3),
    "BF16": (2e-2, 1e-2),
    "F8_E4M3": (1.3e-1, 2e-2),
    "F8_E5M2": (2.5e-1, 2e-2),
}


class Held(NamedTuple):
    """An encoded value with its tensors in memory."""

    structure: Structure
    tensors: Mapping[str, TensorView]


class Difference(NamedTuple):
    """How far two outputs are apart.

    Attributes:
        differing: Rows outside the tolerance.
        largest: Largest absolute difference; infinite when values cannot be compared.
        allowed: Absolute tolerance of the dtype with the largest difference.
        reason: What differs when it is not a number.
    """

    differing: int
    largest: float
    allowed: float
    reason: str | None = None


def difference(
    want: Held,
    have: Held,
    tolerance: Mapping[str, tuple[float, float]],
    rows: int,
    *,
    shapes_only: bool = False,
) -> Difference:
    """Compare recorded outputs with new ones.

    Args:
        want: What was recorded.
        have: What the model answers now.
        tolerance: safetensors dtype to (relative, absolute); unlisted dtypes must be equal.
        rows: Rows of the call.
        shapes_only: Compare shapes and dtypes, not values.
    """
    shapes = [
        {name: (_kind(view.dtype), tuple(view.shape)) for name, view in held.tensors.items()}
        for held in (want, have)
    ]
    if shapes[0] != shapes[1]:
        return Difference(rows, math.inf, 0.0, _shape_reason(*shapes))
    if shapes_only:
        return Difference(0, 0.0, 0.0)
    if not _same_nodes(want.structure, have.structure, tolerance.get("F64", (0.0, 0.0))):
        return Difference(rows, math.inf, 0.0, "the outputs' structure or plain values differ")
    want, have = _sorted(want), _sorted(have)
    wrong = np.zeros(rows, dtype=bool)
    largest, allowed = 0.0, 0.0
    for name, view in want.tensors.items():
        bad, gap = _compare(view, have.tensors[name], tolerance.get(view.dtype))
        if gap >= largest:
            largest, allowed = gap, tolerance.get(view.dtype, (0.0, 0.0))[1]
        if bad.shape[:1] == (rows,):
            wrong |= bad.reshape(rows, -1).any(axis=1)
        elif bad.any():
            wrong[:] = True
    return Difference(int(wrong.sum()), largest, allowed)


def _kind(dtype: str) -> str:
    return "I64" if dtype == "I32" else dtype


def _sorted(held: Held) -> Held:
    """Return a value whose sparse matrices list each row's entries by column."""
    nodes, tensors = held.structure.nodes, dict(held.tensors)
    for node in nodes:
        if node[0] != "object" or held.structure.types[node[1]] not in _COMPRESSED:
            continue
        parts = [nodes[node[2][name]] for name in ("data", "indices", "indptr")]
        if any(part[0] != "array" for part in parts):
            continue
        data, indices, ends = (tensors[part[1]] for part in parts)
        columns, counts = _numbers(indices), np.diff(_numbers(ends))
        if data.dtype not in _NUMPY or counts.min(initial=0) < 0 or counts.sum() != len(columns):
            continue
        order = np.lexsort((columns, np.repeat(np.arange(len(counts)), counts)))
        for part, view in zip(parts, (data, indices), strict=False):
            moved = memoryview(_numbers(view)[order].tobytes())
            tensors[part[1]] = TensorView(view.dtype, tuple(view.shape), moved)
    return Held(held.structure, tensors)


def _shape_reason(want: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    for name in sorted(want.keys() | have.keys()):
        if want.get(name) != have.get(name):
            return f"output {name!r} was {_said(want.get(name))} and is {_said(have.get(name))}"
    return "the outputs' shapes differ"


def _said(shape: tuple[str, tuple[int, ...]] | None) -> str:
    return "absent" if shape is None else f"{shape[0]}{list(shape[1])}"


def _same_nodes(want: Structure, have: Structure, close: tuple[float, float]) -> bool:
    forms = [
        [name.replace("_array", "_matrix") if name in _COMPRESSED else name for name in each.types]
        for each in (want, have)
    ]
    if forms[0] != forms[1] or len(want.nodes) != len(have.nodes) or want.root != have.root:
        return False
    return all(
        _same_node(list(one), list(other), close)
        for one, other in zip(want.nodes, have.nodes, strict=True)
    )


def _same_node(want: list[Any], have: list[Any], close: tuple[float, float]) -> bool:
    if want[:1] == have[:1] == ["float"]:
        return math.isclose(float(want[1]), float(have[1]), rel_tol=close[0], abs_tol=close[1]) or (
            want[1] == have[1]
        )
    if want[:2] == have[:2] and want[:1] == ["array"]:
        want, have = ([*node[:2], {**node[2], "order": None}] for node in (want, have))
    # A document sorts the fields of an object, a fresh node has them in the encoder's order.
    texts = [msgspec.json.encode(node, order="sorted") for node in (want, have)]
    return texts[0] == texts[1]


def _compare(
    want: TensorView, have: TensorView, close: tuple[float, float] | None
) -> tuple[np.ndarray[Any, Any], float]:
    """Return which elements differ, and the largest absolute difference."""
    one, other = _numbers(want), _numbers(have)
    with np.errstate(invalid="ignore", over="ignore"):
        one64, other64 = one.astype(np.float64), other.astype(np.float64)
        same = (one == other) | (np.isnan(one64) & np.isnan(other64))
        gap = np.abs(one64 - other64)
        gap = np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))
        bad = ~same
        if close is not None and want.dtype in TOLERANCE:
            # An infinite gap is never near, though the bound is infinite too where one side is.
            bad &= ~(np.isfinite(gap) & (gap <= close[1] + close[0] * np.abs(one64)))
    return bad, float(gap.max(initial=0.0))


_COMPRESSED: Final = frozenset(
    f"scipy.sparse.{kind}_{form}" for kind in ("csr", "csc") for form in ("matrix", "array")
)
_NUMPY: Final = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}


def _numbers(view: TensorView) -> np.ndarray[Any, Any]:
    """View tensor bytes as numbers; the narrow floats are widened by their bit layout."""
    if view.dtype in _NUMPY:
        return np.frombuffer(view.data, dtype=_NUMPY[view.dtype]).reshape(view.shape)
    if view.dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(view.data, dtype="<u2").astype("<u4") << 16
        return wide.view("<f4").reshape(view.shape)
    bits = np.frombuffer(view.data, dtype="u1")
    if view.dtype == "F8_E5M2":  # the upper half of a float16
        return (bits.astype("<u2") << 8).view("<f2").reshape(view.shape)
    numbers: np.ndarray[Any, Any] = _e4m3()[bits].reshape(view.shape)
    return numbers


def _e4m3() -> np.ndarray[Any, Any]:
    """All 256 values of float8 E4M3FN: bias 7, no infinity, NaN at 0x7f and 0xff.

    Source: Micikevicius et al., "FP8 Formats for Deep Learning", arXiv 2209.05433, table 1.
    """
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    value = np.where(
        exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0)
    )
    value[(code & 127) == 127] = np.nan
    return np.where(code & 128, -value, value).astype(np.float32)
