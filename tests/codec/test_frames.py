from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from holdfast.codec import encode
from holdfast.errors import Unsupported

COLUMNS = {
    "bool": [True, False, True],
    "int8": np.array([1, -1, 127], "i1"),
    "uint64": np.array([0, 1, 2**64 - 1], "u8"),
    "float32": np.array([1.5, np.nan, -0.0], "f4"),
    "complex128": [1j, 2, -0.0],
    "objects": np.array(["a", None, 3], dtype=object),
    "texts as objects": pd.Series(["a", "b", "c"], dtype=object),
    "numbers as objects": pd.Series([1, 2, 3], dtype=object),
    "str": pd.Series(["a", None, "\U0001f991"], dtype="str"),
    "string": pd.Series(["a", pd.NA, ""], dtype="string"),
    "Int64": pd.array([1, pd.NA, -(2**63)], dtype="Int64"),
    "UInt8": pd.array([1, pd.NA, 255], dtype="UInt8"),
    "Float32": pd.array([1.5, pd.NA, 0.1], dtype="Float32"),
    "boolean": pd.array([True, pd.NA, False], dtype="boolean"),
    "category": pd.Categorical(["b", None, "a"], categories=["b", "a", "z"], ordered=True),
    "category of ints": pd.Categorical([3, 1, 3]),
    "category of objects": pd.Categorical([1, "x", 1], categories=pd.Index([1, "x"], dtype=object)),
    "datetime64[ns]": pd.to_datetime(["2026-03-03", None, "1970-01-01"]).astype("M8[ns]"),
    "datetime64[s]": np.array(["2026-03-03", "NaT", "1970-01-01"], "M8[s]"),
    "timedelta64[us]": np.array([1, 2, -3], "m8[us]"),
    "zoned": pd.to_datetime(["2026-03-29 00:30", None, "2026-07-01 12:00"]).tz_localize("UTC"),
    "period": pd.period_range("2026", periods=3, freq="Q-OCT"),
    "interval": pd.IntervalIndex.from_breaks([0.5, 1, 2, 3], closed="left"),
    "interval of times": pd.IntervalIndex.from_breaks(pd.date_range("2026", periods=4, tz="UTC")),
    "sparse": pd.arrays.SparseArray([0.0, 1.5, 0.0], fill_value=0.0),
    "sparse of blocks": pd.arrays.SparseArray([1, 2, 0], kind="block", fill_value=2),
    "sparse of nan": pd.arrays.SparseArray([np.nan, 1.5, np.nan]),
    "cut": pd.cut([1, 5, 9], 3),
    "marks": pd.Series([pd.NA, pd.NaT, pd.Timestamp(1, tz="UTC")], dtype=object),
    "offset": pd.to_datetime(["2026-03-29 00:30+05:30"] * 3),
    "Europe/Berlin": pd.to_datetime(["2026-03-29 00:30", None, "2026-07-01 12:00"])
    .tz_localize("UTC")
    .tz_convert("Europe/Berlin"),
}
INDEXES = {
    "range": pd.RangeIndex(5, 11, 2, name="n"),
    "ints": pd.Index([3, 1, 3], name=("a", 1)),
    "texts": pd.Index(["x", "y", "z"]),
    "objects": pd.Index(["x", "y", "z"], dtype=object),
    "mixed": pd.Index([1, "y", None], dtype=object),
    "dates": pd.DatetimeIndex(["2026-01-01", "2026-01-05", "2026-01-02"]),
    "categories": pd.CategoricalIndex(["a", "b", "a"]),
    "steps": pd.TimedeltaIndex([1, 2, 4]),
    "intervals": pd.IntervalIndex.from_breaks([1, 2, 3, 4]),
    "periods": pd.period_range("2026", periods=3, freq="M"),
    "levels": pd.MultiIndex.from_arrays([[1, 1, 2], ["a", "b", None]]),
    "zoned": pd.date_range("2026-03-28", periods=3, tz="Europe/Berlin"),
    "masked": pd.Index([1, pd.NA, 3], dtype="Int64"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_keep_dtype_and_values(name: str, round_trip, assert_same_graph) -> None:
    frame = pd.DataFrame({name: COLUMNS[name], "other": [1, 2, 3]})
    for graph in (frame, frame[name], frame.iloc[:0]):
        again = round_trip(graph)
        assert_same_graph(graph, again)
        assert again.index.dtype == graph.index.dtype


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_keep_dtype_name_and_kind(name: str, round_trip, assert_same_graph) -> None:
    rows = pd.DataFrame({"a": [1.5, 2, 3]}, index=INDEXES[name])
    columns = pd.DataFrame(np.arange(6).reshape(2, 3), columns=INDEXES[name])
    for graph in (rows, columns, rows["a"]):
        again = round_trip(graph)
        assert_same_graph(graph, again)
        assert type(again.index) is type(graph.index)
    assert round_trip(columns).columns.equals(columns.columns)
    assert round_trip(columns).columns.dtype == columns.columns.dtype


def test_empty_frames_and_columns_of_one_name(round_trip, assert_same_graph) -> None:
    twice = pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])
    for graph in (pd.DataFrame(), pd.DataFrame(index=[1, 2]), twice, pd.Series(dtype="f8")):
        assert_same_graph(graph, round_trip(graph))


WORKDAYS = pd.tseries.offsets.CustomBusinessDay(holidays=["2026-01-02"])
OWN_ZONE = dt.timezone(dt.timedelta(hours=1), "mine")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pd.Series([1, print], dtype=object), "print"),
        (pd.Series([1, 2], index=pd.date_range("2026", periods=2, freq=WORKDAYS)), "frequency 'C'"),
        (pd.Series(pd.date_range("2026", periods=2, tz=OWN_ZONE)), "time zone 'mine'"),
    ],
    ids=range(3),
)
def test_what_cannot_be_kept_is_refused_by_name(values, words: str, registry) -> None:
    for graph in (values, pd.DataFrame({"col": values})):
        with pytest.raises(Unsupported, match=words) as caught:
            encode({"data": graph}, registry, label="model")
        assert str(caught.value).startswith("model['data']")
        assert "\nTry: " in str(caught.value)


def test_levels_in_rows_and_columns(round_trip, assert_same_graph) -> None:
    rows = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None])
    columns = pd.MultiIndex.from_tuples([("u", 1), ("u", 2), ("v", np.nan)], names=["k", ("t", 1)])
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3), index=rows, columns=columns)
    for graph in (frame, frame["u"], frame.iloc[:0], frame["u"][1]):
        again = round_trip(graph)
        assert_same_graph(graph, again)
        assert again.index.names == graph.index.names
        assert [level.dtype for level in again.index.levels] == [
            level.dtype for level in graph.index.levels
        ]


def test_the_step_of_an_index_is_kept(round_trip) -> None:
    for freq in ("B", "-3h", "QS-OCT", "W-SUN", None):
        index = pd.date_range("2026-01-01", periods=4, freq=freq or "D")
        index = index if freq else index[[0, 1, 3]]
        frame = pd.DataFrame({"a": range(len(index))}, index=index)
        again = round_trip(frame).index
        assert again.freq == index.freq
        assert again.equals(index)


def test_attributes_and_flags_are_kept(round_trip) -> None:
    frame = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    frame.attrs["unit"] = {"a": "kg"}
    for graph in (frame, frame["a"]):
        again = round_trip(graph)
        assert again.attrs == graph.attrs
        assert again.flags.allows_duplicate_labels is graph.flags.allows_duplicate_labels


def test_texts_that_pyarrow_kept_are_read_without_it(registry):
    pytest.importorskip("pyarrow")
    from holdfast.codec.messages import to_message

    kinds = ["string[pyarrow]", "string[python]", pd.StringDtype("pyarrow", na_value=np.nan)]
    columns = [pd.array(["sea", None, "weed"], dtype=kind) for kind in kinds]
    frame = pd.DataFrame(dict(zip("abc", columns, strict=True)))
    document, runs = to_message(frame, registry, label="rows")
    code = (
        "import json, sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from holdfast.codec import TYPES\n"
        "from holdfast.codec.messages import from_message\n"
        "from holdfast.codec.registry import Registry\n"
        "document, runs = json.load(sys.stdin)\n"
        "runs = [memoryview(bytearray.fromhex(run)) for run in runs]\n"
        "frame = from_message(document, runs, Registry.of(TYPES))\n"
        "print(frame.isna().values.tolist(), frame.dropna().values.tolist(),\n"
        "      {dtype.storage for dtype in frame.dtypes})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([document, [bytes(run).hex() for run in runs]]),
        capture_output=True,
        text=True,
        check=True,
    )
    gone = [[False] * 3, [True] * 3, [False] * 3]
    assert done.stdout.strip() == f"{gone} {[['sea'] * 3, ['weed'] * 3]} {{'python'}}"
