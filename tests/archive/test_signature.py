"""What goes into a model and comes out of it, described as plain JSON."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from holdfast.archive.signature import classes_of, describe, require_sound, without_dtypes
from holdfast.errors import Corrupt
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


def test_a_frame_is_its_columns_with_dtypes_and_categories():
    described = describe(FRAME)
    assert [column["name"] for column in described["columns"]] == list(FRAME.columns)
    assert described["columns"][0] == {"name": "age", "dtype": "int64", "missing": False}
    assert described["columns"][2]["categories"] == ["basic", "plus", "pro"]
    assert described["columns"][2]["ordered"] is False
    assert described["columns"][4]["holds"] == "text"


def array(dtype, shape, **more):
    return {"kind": "array", "dtype": dtype, "shape": shape, **more}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.zeros((5, 3), "f4"), array("float32", [None, 3], missing=False)),
        (np.array([[1.0, np.nan]]), array("float64", [None, 2], missing=True)),
        (np.float64(1), array("float64", [], missing=False)),
        (np.zeros(3, "M8[D]"), array("datetime64[D]", [None], missing=False)),
        (np.array(["a", None], object), array("object", [None], holds="text", missing=True)),
        (np.array([["a", 1]], object), array("object", [None, 2], holds="mixed", missing=False)),
        (np.array(["a"]), array("<U1", [None])),
        (pd.Series([1.0, None]), array("float64", [None], missing=True)),
        (pd.Series(["a"], dtype=object), array("object", [None], holds="text", missing=False)),
        (sparse.eye(3, format="dia"), array("float64", [None, 3], sparse="dia", missing=False)),
        (sparse.csr_matrix([[np.nan]]), array("float64", [None, 1], sparse="csr", missing=True)),
        (["a", "b"], {"kind": "rows", "type": "str"}),
        (["a", 1], {"kind": "rows", "type": "object"}),
        ([], {"kind": "rows", "type": "object"}),
        (3, {"kind": "value", "type": "int"}),
        (
            {"x": np.zeros((2, 1)), 7: ["a"]},
            {
                "kind": "mapping",
                "items": {
                    "x": array("float64", [None, 1], missing=False),
                    "7": {"kind": "rows", "type": "str"},
                },
            },
        ),
        (
            (np.zeros(2, "i4"), None),
            {
                "kind": "sequence",
                "items": [
                    array("int32", [None]),
                    {"kind": "value", "type": "NoneType"},
                ],
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
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


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1, 2]), {"dtype": "int64", "missing": False}),
        (pd.Series([1, None]), {"dtype": "float64", "missing": True}),
        (pd.Series([1, None], dtype="Int64"), {"dtype": "Int64", "missing": True}),
        (
            pd.Series(["a", None], dtype=object),
            {"dtype": "object", "holds": "text", "missing": True, "missing_as": "None"},
        ),
        (
            pd.Series(["a", np.nan], dtype=object),
            {"dtype": "object", "holds": "text", "missing": True, "missing_as": "nan"},
        ),
        (
            pd.Series(["a", np.nan, None], dtype=object),
            {"dtype": "object", "holds": "text", "missing": True},
        ),
        (
            pd.Series([True, None], dtype=object),
            {"dtype": "object", "holds": "number", "missing": True},
        ),
        (pd.Series([None], dtype=object), {"dtype": "object", "holds": "nothing", "missing": True}),
        (pd.Series([[1], "a"]), {"dtype": "object", "holds": "mixed", "missing": False}),
        (
            pd.Series([3, 1, None], dtype=pd.CategoricalDtype([3, 1], ordered=True)),
            {
                "dtype": "category",
                "categories": [3, 1],
                "categories_dtype": "int64",
                "ordered": True,
                "missing": True,
            },
        ),
        (
            pd.Series(pd.Categorical(["b"], pd.Index(["b", "a"], dtype=object))),
            {
                "dtype": "category",
                "categories": ["b", "a"],
                "categories_dtype": "object",
                "holds": "text",
                "ordered": False,
                "missing": False,
            },
        ),
    ],
    ids=lambda value: str(value.dtype) if hasattr(value, "dtype") else "",
)
def test_a_column_tells_its_kind_of_values_and_how_missing_ones_are_marked(column, expected):
    (described,) = describe(pd.DataFrame({"c": column}))["columns"]
    assert described == {"name": "c", **expected}
    assert json.loads(canonical(described)) == described


def test_categories_that_json_lacks_are_their_texts():
    (described,) = describe(pd.DataFrame({"c": pd.cut([1.0, 2.0], [0, 1, 2])}))["columns"]
    assert described["categories"] == ["(0, 1]", "(1, 2]"]
    assert described["categories_dtype"] == "interval[int64, right]"


def test_names_that_are_not_texts_are_marked():
    assert describe(pd.DataFrame({0: [1]}))["columns"][0]["integer_name"] is True
    assert "integer_name" not in describe(pd.DataFrame({"0": [1]}))["columns"][0]
    frame = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "x")]))
    assert describe(frame)["columns"][0]["name"] == "('a', 'x')"


def test_a_plain_array_carries_the_names_its_model_was_fitted_on():
    model = SimpleNamespace(feature_names_in_=np.array(["a", "b"], object))
    assert describe(np.zeros((2, 2)), model)["names"] == ["a", "b"]
    assert "names" not in describe(np.zeros((2, 3)), model)
    assert "names" not in describe(np.zeros(2), model)
    assert without_dtypes(describe(np.zeros((2, 2)), model))["names"] == ["a", "b"]
    assert "names" not in describe(np.zeros((2, 2)), SimpleNamespace())


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (np.array([0, 1]), [0, 1]),
        (np.array(["no", "yes"]), ["no", "yes"]),
        (np.array(["no", "yes"], object), ["no", "yes"]),
        (np.array([False, True]), [False, True]),
        (np.array([0.0, 0.5]), [0.0, 0.5]),
        ([np.array([0, 1]), np.array(["a"])], [[0, 1], ["a"]]),
        (np.arange(1000), list(range(1000))),
        (np.arange(1001), None),
        (np.array([2**60, 1]), None),
        (np.array([np.nan, 1.0]), None),
        (np.array([b"a"]), None),
        (np.array(["\ud800"]), None),
        (np.zeros((2, 2)), None),
        ([np.array([0, 1]), "no"], None),
        ("no", None),
        ([], None),
        (None, None),
    ],
    ids=repr,
)
def test_classes_are_told_where_json_holds_them(classes, told):
    assert classes_of(SimpleNamespace(classes_=classes)) == told
    assert classes_of(object()) is None


def test_a_tensor_is_described_without_numpy():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    described = describe(torch.tensor([[1.0, float("nan")]], dtype=torch.bfloat16))
    assert described == array("bfloat16", [None, 2], missing=True)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        {"columns": []},
        {"kind": "frame"},
        {"kind": "frame", "columns": [{"dtype": "int64"}]},
        {"kind": "frame", "columns": [{"name": 1}]},
        {"kind": "frame", "columns": [{"name": "a", "dtype": "category"}]},
        {"kind": "frame", "columns": [{"name": "a", "dtype": "category", "categories": [None]}]},
        {"kind": "array", "shape": "wide"},
        {"kind": "array", "shape": [None, 3], "names": [1]},
        {"kind": "mapping", "items": []},
    ],
    ids=str,
)
def test_a_damaged_signature_is_refused_before_inputs_are_fitted_to_it(inputs):
    with pytest.raises(Corrupt, match="the signature of m@v1 is damaged"):
        require_sound({"inputs": inputs}, "m@v1")


def test_what_describe_writes_is_sound():
    frame = pd.DataFrame({"a": [1.0, None], "c": pd.Categorical(["x", "y"])})
    for value in (frame, frame.to_numpy(dtype=object), ["a"], {"x": frame}, (frame,), 1.0):
        require_sound({"inputs": describe(value)}, "m@v1")
    require_sound({}, "m@v1")
