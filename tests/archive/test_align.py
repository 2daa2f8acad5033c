"""Inputs fitted to a signature: put in order by name, recoded, or refused; never guessed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from holdfast.archive.align import align
from holdfast.archive.frames import native
from holdfast.archive.signature import describe, without_dtypes
from holdfast.errors import Corrupt, MissingExtra, SignatureMismatch, UsageError

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


def column(values, **frame):
    return describe(pd.DataFrame({"c": values, **frame}))


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
        ("age", np.array([Decimal(1), None], object), True),
        ("age", pd.Categorical([1, 2]), True),
        ("age", pd.array([1, None], dtype="Int64"), True),
        ("age", np.array(["a", "b"], object), False),
        ("age", np.array(["1", 2], object), False),
        ("age", [[1], [2]], False),
        ("age", np.array([1j, 2]), False),
        ("since", np.array([dt.date(2026, 1, 1)] * 2, object), True),
        ("since", pd.to_datetime(["2026-01-01"] * 2).tz_localize("UTC"), True),
        ("plan", np.array(["pro", "basic"]), True),
        ("plan", np.array([1, 2]), False),
        ("plan", pd.Categorical([1, 2]), False),
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


def test_a_frame_for_an_array_is_told_that_names_were_not_checked():
    signature = describe(np.zeros((9, 2), "f4"))
    found = aligned(signature, pl.DataFrame({"b": [1, 2], "a": [3, None]}))
    assert found.inputs.dtype == np.float32
    assert found.notes == (
        "The model was saved with an array: names were not checked.",
        "Missing values in the input; there were none at save.",
    )
    nullable = pd.DataFrame({"b": pd.array([1, None], "Int64"), "a": pd.array([1, 2], "Int64")})
    assert aligned(signature, nullable).inputs.dtype == np.float32
    assert "has shape (1, 3)" in refusal(signature, pd.DataFrame(np.zeros((1, 3)))).message
    assert "number; the input is of text" in refusal(signature, FRAME[["city", "plan"]]).message


def test_a_frame_for_an_array_is_put_in_order_where_the_names_are_known():
    signature = {**describe(np.zeros((9, 2))), "names": ["a", "b"]}
    found = aligned(signature, pl.DataFrame({"b": [1.0], "a": [2.0]}))
    assert found.inputs.tolist() == [[2.0, 1.0]]
    assert found.notes == ("Columns reordered to match training (2 moved).",)
    assert "missing 'b'" in refusal(signature, pl.DataFrame({"a": [1.0], "c": [1.0]})).message


@pytest.mark.parametrize(
    ("saved", "given", "fits"),
    [
        (np.zeros((2, 2), "f4"), np.zeros((1, 2), bool), True),
        (np.zeros((2, 2)), np.zeros((1, 2), object), True),
        (np.zeros((2, 2)), [[1, 2]], True),
        (np.zeros((2, 2)), [["a", "b"]], False),
        (np.zeros((2, 2)), np.array([["a", "b"]]), False),
        (np.zeros((2, 2)), np.array([["1", "2"]], object), False),
        (np.zeros((2, 2)), np.zeros((1, 2), "M8[s]"), False),
        (np.zeros((2, 2)), np.zeros((1, 2), complex), False),
        (np.zeros((2, 2)), [[1], [1, 2]], False),
        (np.array(["a"]), np.array(["b", None], object), True),
        (np.array(["a"]), ["b"], True),
        (np.array(["a"]), pd.Series(["b"]), True),
        (np.array(["a"]), pd.Series(["b"], dtype="category"), True),
        (np.array(["a"]), pl.Series(["b"]), True),
        (np.array(["a"], object), np.array([1.0]), False),
        (np.array(["a"]), "b", False),
        (np.array([["a", 1]], object), np.array([[1, 2]]), True),
        (np.array([["a", 1]], object), np.array([["b", None]], object), True),
        (["a"], ["b", "c"], True),
        (["a"], np.array(["b"], object), True),
        (["a"], pd.Series(["b"]), True),
        (["a"], pa.array(["b"]), True),
        (["a"], [1, 2], False),
        (["a"], "b", False),
        (["a"], np.array([["b"]]), False),
        (["a"], pd.DataFrame({"t": ["b"]}), False),
        (["a"], pl.DataFrame({"t": ["b"]}), False),
        ([{"a": 1}], [{"b": 2}], True),
        ([{"a": 1}], pd.DataFrame({"a": [1]}), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arrays_and_rows_of_another_kind_are_refused(saved, given, fits):
    if fits:
        assert aligned(describe(saved), given)
    else:
        assert refusal(describe(saved), given)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "dia", "bsr", "lil", "dok"])
def test_sparse_and_dense_rows_become_what_they_were_at_save(kind):
    dense = np.array([[0.0, 1.0], [2.0, 0.0]])
    rows = sparse.csr_array(dense).asformat(kind)
    assert aligned(describe(rows), rows).inputs is rows
    found = aligned(describe(rows), dense)
    assert found.inputs.format == "csr"
    assert (found.inputs.toarray() == dense).all()
    assert found.notes == ("Rows made sparse, as at save.",)
    found = aligned(describe(dense), rows)
    assert (found.inputs == dense).all()
    assert found.notes == ("Sparse rows made dense, as at save.",)
    assert refusal(describe(rows), sparse.eye(3))


# --- tables of other libraries


class Stranger:
    """A table that speaks the dataframe interchange protocol only, as older libraries do."""

    def __init__(self, frame):
        self.frame = frame

    def __dataframe__(self, nan_as_null=False, allow_copy=True):
        from pandas.core.interchange.dataframe import PandasDataFrameXchg

        return PandasDataFrameXchg(self.frame, allow_copy)


TABLES = {
    "polars": pl.from_pandas,
    "arrow": pa.Table.from_pandas,
    "batch": lambda frame: pa.Table.from_pandas(frame).to_batches()[0],
    "stranger": Stranger,
}


@pytest.mark.parametrize("made", TABLES.values(), ids=TABLES)
def test_tables_of_other_libraries_are_put_in_order_and_become_pandas(made):
    found = aligned(describe(FRAME), made(FRAME[["city", "plan", "age", "since", "income"]]))
    assert list(found.inputs.columns) == list(FRAME.columns)
    assert found.notes == ("Columns reordered to match training (4 moved).",)
    assert found.inputs["plan"].cat.codes.tolist() == [0, 2]
    assert found.inputs["plan"].cat.categories.tolist() == ["basic", "plus", "pro"]
    assert found.inputs["city"].tolist() == ["Oslo", "Rome"]
    assert found.inputs[["age", "income"]].equals(FRAME[["age", "income"]])


def test_columns_of_arrow_become_what_a_model_takes():
    table = pl.DataFrame(
        {
            "whole": [1, None],
            "truth": [True, None],
            "exact": [Decimal("1.5"), None],
            "text": ["a", None],
            "none": [None, None],
            "date": [dt.date(2026, 1, 1)] * 2,
        }
    )
    frame = native(table)
    assert frame.dtypes.astype(str).tolist()[:3] == ["float64"] * 3
    assert frame["truth"].tolist()[0] == 1.0
    assert frame["exact"].tolist()[0] == 1.5
    assert [c.get("holds") for c in describe(frame)["columns"][4:]] == ["nothing", "time"]
    assert native(FRAME) is FRAME
    assert isinstance(native(FRAME["age"]), pd.Series)
    assert native(pa.chunked_array([["a"], ["b"]])).tolist() == ["a", "b"]


WRONG = {
    "missing": (pl.DataFrame({"a": [1]}), "missing 'b'"),
    "renamed": (pl.DataFrame({"A": [1], "b": [1]}), "missing 'a'"),
    "twice": (pa.Table.from_arrays([pa.array([1])] * 3, names=["a", "b", "a"]), "given twice 'a'"),
    "list": (pl.DataFrame({"a": [[1]], "b": [1]}), "'a' is object (other)"),
    "struct": (pl.DataFrame({"a": [{"x": 1}], "b": [1]}), "'a' is object (other)"),
    "object": (
        pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object), "b": [1]}),
        "'a' is object (other)",
    ),
    "text": (pl.DataFrame({"a": ["1"], "b": [1]}), "'a' is str (text)"),
    "no rows": (pl.DataFrame({"a": [1], "b": [1]})[:0], "no rows"),
    "no columns": (pl.DataFrame(), "no rows"),
    "series": (pl.Series([1, 2]), "without names"),
    "integer names": (pd.DataFrame({0: [1], 1: [1]}), "missing 'a', 'b'; not known '0', '1'"),
    "multi": (
        pd.DataFrame([[1, 1]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")])),
        "missing 'a', 'b'",
    ),
}


@pytest.mark.parametrize(("table", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_table_is_refused_in_words(table, words):
    assert (
        words
        in refusal(column([1, 2]) | describe(pd.DataFrame({"a": [1], "b": [1]})), table).message
    )


def test_a_query_is_not_yet_rows():
    with pytest.raises(UsageError, match="is a query") as caught:
        aligned(describe(FRAME), pl.from_pandas(FRAME).lazy())
    assert caught.value.hint == "X = X.collect()"


def test_what_arrow_cannot_hold_is_refused():
    class Broken:
        shape = (1, 1)

        def __arrow_c_stream__(self, requested_schema=None):
            raise TypeError("no such column type")

    with pytest.raises(UsageError, match="Broken cannot become a pandas DataFrame: no such"):
        native(Broken())


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_a_missing_package_is_named_with_what_installs_it(package, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtra, match=f"a DataFrame as input needs the package '{package}'"):
        native(pl.DataFrame({"a": [1]}))


# --- names


def test_whole_numbers_as_names_are_given_back():
    frame = pd.DataFrame(np.zeros((2, 2)))
    found = aligned(describe(frame), frame.rename(columns=str)[["1", "0"]])
    assert found.inputs.columns.tolist() == [0, 1]
    assert aligned(describe(frame), frame).inputs is frame


def test_names_of_several_levels_are_reordered():
    names = pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")])
    frame = pd.DataFrame([[1, 2]], columns=names)
    assert aligned(describe(frame), frame.iloc[:, ::-1]).inputs.equals(frame)


def test_names_that_were_twice_at_save_fit_only_as_they_were():
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])
    assert aligned(describe(frame), frame).inputs is frame
    assert refusal(describe(frame), frame.iloc[:, ::-1])
    error = refusal(describe(frame), frame.iloc[:, 1:])
    assert "saved with a name twice" in error.message


# --- categories


@pytest.mark.parametrize(
    "given",
    [
        pd.Series(["pro", "basic", None]),
        pd.Series(["pro", "basic", None], dtype=object),
        pd.Series(pd.Categorical(["pro", "basic", None], categories=["pro", "basic"])),
        pd.Series(pd.Categorical(["pro", "basic", None], categories=["x", "pro", "basic"])),
        pd.Series(pd.Categorical(["pro", "basic", None], ["basic", "pro"], ordered=True)),
        pl.Series(["pro", "basic", None]),
        pl.Series(["pro", "basic", None], dtype=pl.Categorical),
        pl.Series(["pro", "basic", None], dtype=pl.Enum(["pro", "plus", "basic"])),
        pa.array(["pro", "basic", None]).dictionary_encode(),
    ],
    ids=lambda value: f"{type(value).__module__.partition('.')[0]}-{getattr(value, 'dtype', '')}",
)
def test_codes_mean_what_they_meant(given):
    table = (
        pd.DataFrame({"c": given})
        if isinstance(given, pd.Series)
        else pl.DataFrame({"c": given})
        if isinstance(given, pl.Series)
        else pa.table({"c": given})
    )
    found = aligned(column(FRAME["plan"]), table)
    assert found.inputs["c"].cat.categories.tolist() == ["basic", "plus", "pro"]
    assert found.inputs["c"].cat.codes.tolist() == [2, 0, -1]
    assert not found.inputs["c"].cat.ordered
    assert found.notes == ("Missing values in 'c'; there were none at save.",)


def test_unknown_categories_come_after_the_known_and_are_told():
    found = aligned(column(FRAME["plan"]), pl.DataFrame({"c": ["gold", "pro", "tin", "gold"]}))
    assert found.inputs["c"].cat.categories.tolist() == ["basic", "plus", "pro", "gold", "tin"]
    assert found.inputs["c"].cat.codes.tolist() == [3, 2, 4, 3]
    assert found.notes == ("Not among the categories of 'c' at save: 'gold', 'tin'.",)


@pytest.mark.parametrize(
    ("categories", "given", "codes", "told"),
    [
        ([3, 1], [1, 3, 3], [1, 0, 0], ()),
        ([3, 1], [1.0, np.nan, 7.0], [1, -1, 2], "7"),
        ([0.5, 1.0], [1, 1, 1], [1, 1, 1], ()),
        ([True, False], [False, True, True], [1, 0, 0], ()),
        ([True, False], pd.Series([False, None, True], dtype=object), [1, -1, 0], "None"),
        ([3, 1], pd.Categorical([1, 3, 3]), [1, 0, 0], ()),
    ],
)
def test_categories_that_are_not_texts(categories, given, codes, told):
    signature = column(pd.Categorical(categories, categories))
    found = aligned(signature, pd.DataFrame({"c": given}))
    assert found.inputs["c"].cat.codes.tolist() == codes
    assert found.inputs["c"].cat.categories[:2].tolist() == categories
    if told == "7":
        assert "at save: 7." in found.notes[0]
        assert found.inputs["c"].cat.categories.dtype == np.int64


def test_the_order_of_categories_is_part_of_them():
    ordered = pd.Series(pd.Categorical(["lo", "hi"], ["lo", "hi"], ordered=True))
    found = aligned(column(ordered), pd.DataFrame({"c": ["hi", "lo"]}))
    assert found.inputs["c"].cat.ordered
    assert found.inputs["c"].max() == "hi"


def test_categories_for_plain_values_become_plain_values():
    found = aligned(column(["a", "b"]), pd.DataFrame({"c": pd.Categorical(["b", None])}))
    assert found.inputs["c"].isna().tolist() == [False, True]
    assert str(found.inputs["c"].dtype) == "str"
    found = aligned(column([1, 2]), pd.DataFrame({"c": pd.Categorical([2, 1])}))
    assert str(found.inputs["c"].dtype) == "int64"
    found = aligned(column([1, 2]), pd.DataFrame({"c": pd.Categorical([2, None])}))
    assert str(found.inputs["c"].dtype) == "float64"


def test_categories_that_json_lacks_fit_only_as_they_were():
    intervals = pd.DataFrame({"c": pd.cut([1.0, 2.0], [0, 1, 2])})
    assert aligned(describe(intervals), intervals).inputs is intervals
    other = pd.DataFrame({"c": pd.cut([1.0, 2.0], [0, 1, 5])})
    assert "cannot be recoded" in refusal(describe(intervals), other).message


@pytest.mark.parametrize(
    ("dtype", "categories"), [("int64", ["a"]), ("str", ["a", "a"]), ("int8", [1000])]
)
def test_recorded_categories_that_contradict_themselves_are_damage(dtype, categories):
    described = {"name": "c", "dtype": "category", "categories": categories}
    signature = {"kind": "frame", "columns": [{**described, "categories_dtype": dtype}]}
    values = ["x"] if dtype == "str" else [1]
    with pytest.raises(Corrupt, match="recorded categories"):
        aligned(signature, pd.DataFrame({"c": values}))


# --- missing values


def test_missing_values_where_there_were_none_are_told_not_refused():
    given = FRAME.assign(income=[None, 1.0], city=[None, "Rome"])
    assert aligned(describe(FRAME), given).notes == (
        "Missing values in 'income', 'city'; there were none at save.",
    )
    assert aligned(describe(given), given).notes == ()


@pytest.mark.parametrize("name", FRAME.columns)
def test_a_column_without_any_value_is_of_every_kind(name):
    given = FRAME.assign(**{name: pd.Series([None, None], dtype=object)})
    for inputs in (given, given.assign(**{name: [np.nan, np.nan]}), pl.from_pandas(given)):
        found = aligned(describe(FRAME), inputs)
        assert found.inputs[name].isna().all()
        assert found.notes == (f"Missing values in {name!r}; there were none at save.",)


@pytest.mark.parametrize("mark", [None, np.nan])
def test_missing_texts_are_marked_as_at_save(mark):
    signature = column(pd.Series(["a", mark], dtype=object))
    for given in (pd.Series(["a", None]), pd.Series(["a", np.nan], dtype=object), None):
        table = pl.DataFrame({"c": ["a", None]}) if given is None else pd.DataFrame({"c": given})
        value = aligned(signature, table).inputs["c"].tolist()[1]
        assert value is None if mark is None else np.isnan(value)


def test_the_callers_frame_is_never_changed():
    given = pd.DataFrame({"c": ["pro", None], "n": pd.Series([True, None], dtype=object)})
    before = given.copy(deep=True)
    signature = column(FRAME["plan"], n=[1, 2])
    assert aligned(signature, given).inputs["n"].tolist()[0] == 1.0
    pd.testing.assert_frame_equal(given, before)


def test_wide_frames_are_fitted():
    wide = pd.DataFrame(np.zeros((1, 5_000)), columns=[f"c{i}" for i in range(5_000)])
    signature, given = describe(wide), wide[wide.columns[::-1]]
    assert list(aligned(signature, given).inputs.columns) == list(wide.columns)


@pytest.mark.parametrize(("saved", "given"), [("ns", "us"), ("us", "ns"), ("s", "ns")])
def test_times_are_counted_in_the_unit_that_they_had_at_save(saved, given):
    times = pd.to_datetime(["2026-01-01 10:00", None])
    frame = pd.DataFrame({"when": times.as_unit(saved), "took": (times - times[0]).as_unit(saved)})
    other = frame.assign(when=times.as_unit(given), took=(times - times[0]).as_unit(given))
    told = aligned(describe(frame), other).inputs
    assert [str(d) for d in told.dtypes] == [f"datetime64[{saved}]", f"timedelta64[{saved}]"]
    pd.testing.assert_frame_equal(told, frame)
    array = frame["when"].to_numpy()
    told = aligned(describe(array), other["when"].to_numpy()).inputs
    assert told.dtype == array.dtype
    assert told.tobytes() == array.tobytes()
    zoned = pd.DataFrame({"when": times.as_unit(saved).tz_localize("UTC")})
    told = aligned(describe(zoned), pd.DataFrame({"when": times.as_unit(given).tz_localize("UTC")}))
    pd.testing.assert_frame_equal(told.inputs, zoned)


def test_times_beyond_the_recorded_unit_are_refused():
    frame = pd.DataFrame({"when": pd.to_datetime(["2026-01-01"]).as_unit("ns")})
    far = np.array(["3026-01-01"], dtype="M8[s]")
    assert "beyond what" in refusal(describe(frame), pd.DataFrame({"when": far})).message
    assert "beyond what" in refusal(describe(frame["when"].to_numpy()), far).message
