"""The golden set: what is kept, what is compared, and how a difference is worded."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest

from holdfast import frameworks
from holdfast.archive import golden as goldens
from holdfast.archive.compare import TOLERANCE
from holdfast.errors import UsageError

REGISTRY = frameworks.registry()


def behaviour(call, synthetic=None):
    return goldens.Behaviour(
        methods=("predict",),
        call=lambda _, inputs: call(inputs),
        steady=contextlib.nullcontext,
        synthetic=synthetic or (lambda rows, seed: None),
    )


def record(call, inputs, mode="inputs", synthetic=None):
    return goldens.capture(behaviour(call, synthetic), inputs, REGISTRY, mode=mode)


def again(captured, call):
    golden = goldens.Golden.parse(captured.golden.document())
    blob = None if captured.blob is None else memoryview(captured.blob)
    return goldens.replay(golden, blob, behaviour(call), REGISTRY)


def double(inputs):
    return inputs * 2.0


@pytest.mark.parametrize(("rows", "width", "kept"), [(10, 3, 10), (500, 3, 64), (500, 5000, 25)])
def test_at_most_64_rows_and_a_megabyte_are_kept(rows, width, kept):
    captured = record(double, np.ones((rows, width)))
    assert captured.golden.rows == kept
    assert again(captured, double).passed


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": np.ones((9, 2)), "b": np.zeros((9, 3))},
        (np.ones((9, 2)), np.zeros(9)),
        ["one", "two", "three"],
    ],
    ids=["mapping", "tuple", "texts"],
)
def test_inputs_of_every_kind(inputs):
    def answer(given):
        return np.arange(float(goldens.row_count(given)))

    captured = record(answer, inputs)
    assert captured.golden.level == "inputs"
    assert again(captured, answer).passed


def test_synthetic_keeps_none_of_the_callers_rows():
    secret = np.full((20, 2), 1234.5)
    captured = record(double, secret, "synthetic", lambda rows, seed: np.zeros((rows, 2)))
    assert captured.golden.level == "synthetic"
    assert np.float64(1234.5).tobytes() not in captured.blob


def test_nothing_is_kept_when_nothing_is_asked_or_known():
    assert record(double, np.ones((3, 2)), None) is None
    assert record(double, None) is None
    with pytest.raises(UsageError, match="golden='inptus' is not known"):
        record(double, np.ones((3, 2)), "inptus")
    with pytest.raises(UsageError, match="no rows"):
        record(double, np.ones((0, 2)))


def test_a_model_that_refuses_the_callers_rows_is_the_callers_mistake():
    def fails(inputs):
        raise ValueError("wrong width")

    with pytest.raises(UsageError, match="wrong width"):
        record(fails, np.ones((3, 2)))
    assert record(fails, None, "inputs", lambda rows, seed: np.ones((rows, 2))) is None


def test_a_difference_is_counted_in_rows_with_its_size():
    captured = record(double, np.arange(20.0).reshape(10, 2))

    def off(inputs):
        answer = inputs * 2.0
        answer[3:, 0] += 0.25
        return answer

    found = again(captured, off)
    assert (found.differing, found.rows) == (7, 10)
    assert found.largest == pytest.approx(0.25)
    assert not found.passed


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda x: (x * 2.0)[:, :1], "was F64"),
        (lambda x: (x * 2.0).astype("f4"), "is F32"),
        (lambda x: {"y": x * 2.0}, "output"),
        (lambda x: 1 / 0, "predict\\(\\) raised ZeroDivisionError"),
    ],
    ids=["shape", "dtype", "structure", "raises"],
)
def test_what_is_not_a_number_is_told_in_words(answer, reason):
    import re

    found = again(record(double, np.ones((4, 2))), answer)
    assert found.differing == 4
    assert re.search(reason, found.reason)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_the_tolerance_of_each_dtype_is_kept_to(dtype):
    inputs = np.ones((4, 1), dtype)
    captured = record(lambda x: x, inputs)
    relative, absolute = TOLERANCE[f"F{np.dtype(dtype).itemsize * 8}"]
    allowed = relative + absolute

    def off(factor):
        return again(captured, lambda x: (x + np.asarray(allowed * factor, dtype)).astype(dtype))

    assert off(0.4).passed
    assert not off(4).passed


def test_a_model_that_does_not_repeat_itself_is_compared_by_shapes():
    rng = np.random.default_rng(0)
    captured = record(lambda x: rng.normal(size=x.shape), np.ones((4, 2)))
    assert captured.golden.nondeterministic
    assert again(captured, double).passed
    assert not again(captured, lambda x: x[:, :1]).passed


def test_nan_equals_nan_and_the_sign_of_zero_does_not_matter():
    captured = record(lambda x: np.array([np.nan, 0.0, np.inf, -np.inf]), np.ones((4, 1)))
    assert again(captured, lambda x: np.array([np.nan, -0.0, np.inf, -np.inf])).passed
    assert again(captured, lambda x: np.array([0.0, 0.0, np.inf, np.inf])).differing == 2


def test_a_model_may_write_into_what_it_is_given():
    def in_place(inputs):
        inputs *= 2.0
        return inputs

    rows = np.arange(40.0).reshape(20, 2)
    captured = record(in_place, rows)
    assert not captured.golden.nondeterministic
    assert np.array_equal(rows, np.arange(40.0).reshape(20, 2))
    assert np.array_equal(captured.inputs, rows)
    found = again(captured, in_place)
    assert (found.passed, found.largest) == (True, 0.0)
    assert again(captured, double).passed


def test_a_model_may_use_its_answers_memory_again():
    answer = np.zeros((20, 2))

    def reuses(inputs):
        answer[: len(inputs)] = inputs * 3.0
        answer[0] = len(inputs)
        return answer[: len(inputs)]

    captured = record(reuses, np.ones((20, 2)))
    assert not captured.golden.nondeterministic
    assert again(captured, reuses).largest == 0.0
    assert not again(captured, double).passed


def test_a_frame_is_replayed_as_a_frame():
    frame = pd.DataFrame({"b": np.arange(90.0), "a": ["x", "y", "z"] * 30})

    def answer(given):
        assert list(given.columns) == ["b", "a"]
        return given["b"].to_numpy() + (given["a"] == "y").to_numpy()

    captured = record(answer, frame)
    assert captured.golden.rows == 64
    assert again(captured, answer).largest == 0.0
