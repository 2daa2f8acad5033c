"""Numbers from bytes as other libraries read them, and what counts as the same."""

from __future__ import annotations

import math
import re

import ml_dtypes
import numpy as np
import pytest

from holdfast.archive.compare import TOLERANCE, Held, _numbers, difference
from holdfast.codec.tensors import TensorView
from holdfast.record import Structure

NARROW = {
    "BF16": (ml_dtypes.bfloat16, "<u2"),
    "F16": (np.float16, "<u2"),
    "F8_E4M3": (ml_dtypes.float8_e4m3fn, "u1"),
    "F8_E5M2": (ml_dtypes.float8_e5m2, "u1"),
}
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
NOTHING = Structure(nodes=(("none",),))


def view(dtype, array):
    array = np.ascontiguousarray(array)
    return TensorView(dtype, array.shape, memoryview(array.tobytes()))


def held(structure=NOTHING, **tensors):
    return Held(structure, {name: view(*item) for name, item in tensors.items()})


def apart(dtype, one, two, rows=None, tolerance=TOLERANCE):
    one, two = np.asarray(one), np.asarray(two)
    count = one.shape[0] if rows is None else rows
    return difference(held(y=(dtype, one)), held(y=(dtype, two)), tolerance, count)


@pytest.mark.parametrize("dtype", NARROW)
def test_every_value_of_a_narrow_float_is_read_as_ml_dtypes_reads_it(dtype):
    kind, bits = NARROW[dtype]
    codes = np.arange(2 ** (8 * np.dtype(bits).itemsize), dtype=bits)
    with np.errstate(invalid="ignore"):  # some of the codes are signalling NaN
        ours = _numbers(view(dtype, codes)).astype("f8")
        theirs = codes.view(kind).astype("f8")
    assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.array_equal(np.signbit(ours[~np.isnan(ours)]), np.signbit(theirs[~np.isnan(theirs)]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_dtypes_are_read_little_endian(dtype):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, (3, 4)).astype(DTYPES[dtype])
    assert np.array_equal(_numbers(view(dtype, array)), array)
    assert apart(dtype, array, array).differing == 0
    assert apart(dtype, array, 1 - array if dtype != "BOOL" else ~array).differing == 3


@pytest.mark.parametrize("dtype", NARROW)
def test_a_narrow_float_is_compared_with_its_own_tolerance(dtype):
    kind, bits = NARROW[dtype]
    one = np.ones(4, kind)
    relative, absolute = TOLERANCE[dtype]
    near, far = 1 + (relative + absolute) * 0.6, 1 + (relative + absolute) * 3
    for value, differing in ((near, 0), (far, 4)):
        two = np.full(4, value, kind).view(bits)
        assert apart(dtype, one.view(bits), two).differing == differing


def test_bounds_are_kept_to_the_last_digit():
    relative, absolute = 0.25, 0.5
    close = {"F64": (relative, absolute)}
    bound = absolute + relative * 2.0
    for value, differing in ((2 + bound, 0), (2 - bound, 0), (math.nextafter(2 + bound, 9), 1)):
        assert apart("F64", [2.0], [value], tolerance=close).differing == differing


@pytest.mark.parametrize("dtype", ["F64", "F32"])
def test_nan_equals_nan_and_nothing_else(dtype):
    one = np.array([np.nan, np.nan, 1.0, np.inf], DTYPES[dtype])
    same = apart(dtype, one, one.copy())
    assert (same.differing, same.largest) == (0, 0.0)
    other = np.array([np.nan, 1.0, np.nan, -np.inf], DTYPES[dtype])
    found = apart(dtype, one, other)
    assert (found.differing, found.largest) == (3, math.inf)


@pytest.mark.parametrize("dtype", ["F64", "F32"])
def test_infinity_is_near_to_no_number(dtype):
    one = np.array([np.inf, -np.inf, 1.0], DTYPES[dtype])
    other = np.array([np.finfo(DTYPES[dtype]).max, np.inf, np.inf], DTYPES[dtype])
    assert apart(dtype, one, other).differing == 3


def test_the_zeros_are_the_same():
    assert apart("F64", [0.0, -0.0], [-0.0, 0.0]).differing == 0


def test_integers_and_truths_have_no_tolerance_even_when_one_is_listed():
    wide = {"I64": (1.0, 1.0), "BOOL": (1.0, 1.0)}
    assert apart("I64", np.array([10**15]), np.array([10**15 + 1]), tolerance=wide).differing == 1
    assert apart("BOOL", np.array([True]), np.array([False]), tolerance=wide).differing == 1
    big = np.array([2**63, 5], "u8")
    assert apart("U64", big, big + np.uint64(1)).differing == 2


def test_an_unlisted_float_must_be_equal():
    assert apart("F64", [1.0], [math.nextafter(1.0, 2.0)], tolerance={}).differing == 1
    assert apart("F64", [1.0, math.nan], [1.0, math.nan], tolerance={}).differing == 0


@pytest.mark.parametrize("tolerance", [TOLERANCE, {}], ids=["listed", "unlisted"])
def test_comparing_warns_of_nothing(tolerance):
    codes = np.arange(2**16, dtype="<u2")
    for dtype in ("BF16", "F16"):
        apart(dtype, codes, codes[::-1].copy(), tolerance=tolerance)
    infinite = np.array([np.inf, np.nan, -np.inf])
    assert apart("F64", infinite, -infinite, tolerance=tolerance).differing >= 2


def test_rows_are_counted_once_over_all_tensors():
    one = held(p=("F64", np.zeros((5, 2))), label=("I64", np.arange(5)))
    two = held(
        p=("F64", np.array([[0, 1], [0, 0], [3, 4], [0, 0], [0, 0.0]])),
        label=("I64", np.array([9, 1, 9, 3, 4])),
    )
    found = difference(one, two, TOLERANCE, 5)
    assert (found.differing, found.largest) == (2, 9.0)


def test_a_tensor_without_rows_concerns_every_row():
    one, two = held(total=("F64", np.array(1.0))), held(total=("F64", np.array(2.0)))
    assert difference(one, two, TOLERANCE, 7).differing == 7


def test_empty_tensors_are_equal():
    assert apart("F64", np.zeros((0, 3)), np.zeros((0, 3)), rows=1).differing == 0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"y": ("F64", np.zeros((4, 1)))}, r"output 'y' was F64\[4, 2\] and is F64\[4, 1\]"),
        ({"y": ("F32", np.zeros((4, 2), "f4"))}, r"and is F32\[4, 2\]"),
        ({}, r"output 'y' was F64\[4, 2\] and is absent"),
        ({"y": ("F64", np.zeros((4, 2))), "z": ("U8", np.zeros(1, "u1"))}, "output 'z' was absent"),
    ],
    ids=["shape", "dtype", "absent", "more"],
)
@pytest.mark.parametrize("shapes_only", [True, False])
def test_other_shapes_are_told_and_never_tolerated(other, words, shapes_only):
    one = held(y=("F64", np.zeros((4, 2))))
    found = difference(one, held(**other), TOLERANCE, 4, shapes_only=shapes_only)
    assert (found.differing, found.largest) == (4, math.inf)
    assert re.search(words, found.reason)


def test_shapes_only_looks_at_no_value():
    one, two = held(y=("F64", np.zeros(3))), held(y=("F64", np.ones(3)))
    assert difference(one, two, TOLERANCE, 3, shapes_only=True).differing == 0


def nodes(*items):
    return held(Structure(nodes=items))


def test_plain_floats_have_the_tolerance_of_float64():
    one = nodes(("float", "1.0"))
    for text, differing in (("1.00000001", 0), ("1.001", 3), ("nan", 3), ("inf", 3)):
        assert difference(one, nodes(("float", text)), TOLERANCE, 3).differing == differing
    for text in ("nan", "inf", "-inf"):
        same = nodes(("float", text))
        assert difference(same, nodes(("float", text)), TOLERANCE, 3).differing == 0


@pytest.mark.parametrize(
    "other",
    [
        nodes(("str", "b")),
        nodes(("int", 1)),
        nodes(("str", "a"), ("str", "a")),
        held(Structure(nodes=(("str", "a"),), types=("x",))),
    ],
    ids=["text", "kind", "more", "types"],
)
def test_other_structures_are_told(other):
    found = difference(nodes(("str", "a")), other, TOLERANCE, 2)
    assert found.differing == 2
    assert "structure or plain values" in found.reason
