"""What goes in and comes out, described; inputs put in order by name, or refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from holdfast.archive.signature import align, describe, without_dtypes
from holdfast.errors import SignatureMismatch
from holdfast.record import canonical

FRAME = pd.DataFrame(
    {
        "age": np.array([30, 40], "i8"),
        "income": [1.5, 2.5],
        "plan": pd.Categorical(["basic", "pro"], categories=["basic", "plus", "pro"]),
        "since": pd.to_datetime(["2026-01-01", "2026-02-01"]),
        "city": pd.Series(["Oslo", "Rome"], dtype=object),
    }
)


def aligned(signature, inputs):
    return align(signature, inputs, ref="m@v1")


def refusal(signature, inputs):
    with pytest.raises(SignatureMismatch) as caught:
        aligned(signature, inputs)
    assert caught.value.exit_code == 2
    assert "m@v1" in str(caught.value)
    return caught.value


def test_a_frame_is_its_columns_with_dtypes_and_categories():
    described = describe(FRAME)
    assert [column["name"] for column in described["columns"]] == list(FRAME.columns)
    assert described["columns"][0] == {"name": "age", "dtype": "int64"}
    assert described["columns"][2]["categories"] == ["basic", "plus", "pro"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.zeros((5, 3), "f4"), {"kind": "array", "dtype": "float32", "shape": [None, 3]}),
        (np.float64(1), {"kind": "array", "dtype": "float64", "shape": []}),
        (["a", "b"], {"kind": "rows", "type": "str"}),
        (["a", 1], {"kind": "rows", "type": "object"}),
        ([], {"kind": "rows", "type": "object"}),
        (3, {"kind": "value", "type": "int"}),
        (
            {"x": np.zeros((2, 1)), 7: ["a"]},
            {
                "kind": "mapping",
                "items": {
                    "x": {"kind": "array", "dtype": "float64", "shape": [None, 1]},
                    "7": {"kind": "rows", "type": "str"},
                },
            },
        ),
        (
            (np.zeros(2, "i4"), None),
            {
                "kind": "sequence",
                "items": [
                    {"kind": "array", "dtype": "int32", "shape": [None]},
                    {"kind": "value", "type": "NoneType"},
                ],
            },
        ),
    ],
    ids=["matrix", "scalar", "texts", "mixed", "empty", "value", "mapping", "tuple"],
)
def test_every_kind_is_described_as_plain_json(value, kind):
    assert describe(value) == kind
    assert json.loads(canonical(describe(value))) == kind


def test_a_description_holds_no_value():
    frame = pd.DataFrame({"a": [123456789.125], "b": ["a private name"]})
    text = json.dumps(describe(frame))
    assert "123456789" not in text
    assert "private" not in text


def test_what_synthetic_inputs_cannot_say_is_left_out():
    assert without_dtypes(describe(FRAME))["columns"] == [{"name": n} for n in FRAME.columns]
    assert without_dtypes(describe(np.zeros((2, 3)))) == {"kind": "array", "shape": [None, 3]}
    assert without_dtypes({"kind": "value", "type": "int"}) == {"kind": "value", "type": "int"}


def test_columns_in_another_order_are_put_right_and_told():
    shuffled = FRAME[["city", "income", "age", "since", "plan"]]
    found = aligned(describe(FRAME), shuffled)
    assert found.inputs.equals(FRAME)
    assert found.notes == ("Columns reordered to match training (3 moved).",)


def test_unknown_columns_are_left_out_and_told():
    found = aligned(describe(FRAME), FRAME.assign(extra=1))
    assert found.inputs.equals(FRAME)
    assert found.notes == ("1 columns the model does not know were left out.",)


def test_inputs_in_order_are_handed_on_untouched():
    found = aligned(describe(FRAME), FRAME)
    assert found.inputs is FRAME
    assert found.notes == ()


def test_missing_columns_are_refused_by_name():
    message = refusal(describe(FRAME), FRAME.drop(columns=["age", "city"])).message
    assert "missing 'age', 'city'" in message
    assert "Nothing was predicted" in message


def test_names_that_differ_in_spelling_come_with_the_line_that_renames_them():
    other = FRAME.rename(columns={"age": "Age", "income": "In_Come"})
    hint = refusal(describe(FRAME), other).hint
    assert hint == "X = X.rename(columns={'Age': 'age', 'In_Come': 'income'})"
    assert aligned(describe(FRAME), other.rename(columns={"Age": "age", "In_Come": "income"}))


def test_a_column_given_twice_is_refused():
    twice = pd.concat([FRAME, FRAME[["age"]]], axis=1)
    assert "given twice 'age'" in refusal(describe(FRAME), twice).message


def test_names_are_needed_where_there_were_names():
    error = refusal(describe(FRAME[["age", "income"]]), np.zeros((2, 2)))
    assert "2 named columns ('age', 'income')" in error.message
    assert error.hint == "pandas.DataFrame(X, columns=['age', 'income'])"


def test_many_names_are_cut_short():
    wide = pd.DataFrame(np.zeros((1, 900)), columns=[f"c{i}" for i in range(900)])
    error = refusal(describe(wide), np.zeros((1, 900)))
    assert "and 895 more" in error.message
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("column", "values", "fits"),
    [
        ("age", np.array([1.0, 2.0]), True),
        ("age", np.array([True, False]), True),
        ("age", np.array(["a", "b"], object), False),
        ("age", pd.to_datetime(["2026-01-01"] * 2), False),
        ("city", pd.Categorical(["Oslo", "Rome"]), True),
        ("city", np.array([1, 2]), False),
        ("since", np.array([1, 2]), False),
    ],
)
def test_numbers_and_texts_are_not_exchanged(column, values, fits):
    inputs = FRAME.assign(**{column: values})
    if fits:
        assert aligned(describe(FRAME), inputs).inputs.shape == FRAME.shape
    else:
        assert f"Column {column!r} is" in refusal(describe(FRAME), inputs).message


def test_dtypes_are_not_compared_when_none_were_recorded():
    inputs = FRAME.assign(age=["a", "b"])
    assert aligned(without_dtypes(describe(FRAME)), inputs).inputs is inputs


@pytest.mark.parametrize("shape", [(4, 2), (4, 4), (3,), (4, 3, 1), ()])
def test_an_array_of_another_width_is_refused(shape):
    error = refusal(describe(np.zeros((9, 3))), np.zeros(shape))
    assert f"takes an array of shape (rows, 3); the input has shape {shape}" in error.message


def test_an_array_takes_any_number_of_rows_and_a_frame_as_values():
    signature = describe(np.zeros((9, 2)))
    assert aligned(signature, np.zeros((1, 2))).inputs.shape == (1, 2)
    assert aligned(signature, [[1, 2], [3, 4]]).inputs == [[1, 2], [3, 4]]
    frame = pd.DataFrame({"b": [1.0], "a": [2.0]})
    assert aligned(signature, frame).inputs.tolist() == [[1.0, 2.0]]


def test_a_mapping_needs_its_keys():
    signature = describe({"ids": np.zeros((2, 4)), "mask": np.zeros((2, 4))})
    assert "missing: 'mask'" in refusal(signature, {"ids": np.zeros((2, 4))}).message
    more = {"ids": 1, "mask": 2, "extra": 3}
    assert aligned(signature, more).inputs is more


def test_an_unknown_kind_of_a_later_release_is_handed_on():
    assert aligned({"kind": "graph"}, "anything").inputs == "anything"
