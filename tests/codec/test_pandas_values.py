"""Single values, dtypes, indexes and arrays of pandas come back as what they were."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from holdfast.codec import encode, zones
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported

BERLIN = "Europe/Berlin"
VALUES = [
    pd.NaT,
    pd.NA,
    pd.Timestamp("2026-03-03 04:05:06.000000007"),
    pd.Timestamp("2026-03-03").as_unit("s"),
    pd.Timestamp("2026-03-03", tz="UTC"),
    pd.Timestamp("2026-03-29 01:59:59", tz=BERLIN),
    pd.Timestamp("2026-10-25 02:30", tz="UTC").tz_convert(BERLIN),
    pd.Timestamp("2026-10-25 00:30", tz="UTC").tz_convert(ZoneInfo(BERLIN)),
    pd.Timestamp("2026-03-03T00:00-03:30"),
    pd.Timestamp(dt.datetime(2026, 3, 3, tzinfo=dt.UTC)),
    pd.Timestamp.min,
    pd.Timestamp.max,
    pd.Timedelta(-1, "ns"),
    pd.Timedelta(days=5).as_unit("ms"),
    pd.Interval(0, 1.5, closed="both"),
    pd.Interval(pd.Timestamp("2026"), pd.Timestamp("2027"), closed="neither"),
    pd.Interval(pd.Timedelta(1), pd.Timedelta(2)),
    pd.Interval(np.float32(1), np.float32(2), closed="left"),
    pd.Period("2026-03", "M"),
    pd.Period("2026Q3", "Q-FEB"),
    pd.Period("1965-01-03", "W-SUN"),
    pd.Period("2026-03-03 04:05", "15min"),
    pd.CategoricalDtype(["b", "a"], ordered=True),
    pd.CategoricalDtype(),
    pd.CategoricalDtype(pd.interval_range(0, 3)),
    pd.StringDtype("python"),
    pd.StringDtype("python", na_value=np.nan),
    *(getattr(pd, f"{sign}Int{bits}Dtype")() for sign in ("", "U") for bits in (8, 16, 32, 64)),
    pd.Float32Dtype(),
    pd.Float64Dtype(),
    pd.BooleanDtype(),
    pd.DatetimeTZDtype("ms", BERLIN),
    pd.PeriodDtype("Q-OCT"),
    pd.IntervalDtype("float32", "left"),
    pd.IntervalDtype(),
    pd.IntervalDtype(pd.DatetimeTZDtype("ns", "UTC"), "right"),
    pd.SparseDtype("int64", 3),
    pd.SparseDtype("float64"),
]


def unit_of(value: object) -> object:
    return getattr(value, "unit", None), str(getattr(value, "tz", None))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__} {value}")
def test_values_and_dtypes(value, round_trip) -> None:
    again, (key,) = round_trip([value, {value: 1}])
    assert type(again) is type(value)
    assert repr(again) == repr(value)
    assert hash(key) == hash(value)
    assert unit_of(again) == unit_of(value)
    if value is pd.NaT or value is pd.NA:
        assert again is value
    else:
        assert again == value
    if isinstance(value, pd.Timestamp):
        assert again.fold == value.fold


def test_dtypes_are_as_exact_as_their_names_do_not_say(round_trip) -> None:
    kept = round_trip(pd.IntervalDtype("float32", "left"))
    assert (kept.subtype, kept.closed) == (np.dtype("float32"), "left")
    kept = round_trip(pd.CategoricalDtype(["b", "a"], ordered=True))
    assert (list(kept.categories), kept.ordered) == (["b", "a"], True)
    assert round_trip(pd.CategoricalDtype()).categories is None
    kept = round_trip(pd.CategoricalDtype(pd.Index(["b"], dtype=object)))
    assert kept.categories.dtype == object


INDEXES = [
    pd.Index([3, 1, 3], name=("a", 1)),
    pd.Index([], dtype=object),
    pd.Index(["a", None]),
    pd.Index([1.5, np.nan], dtype="f4"),
    pd.Index([True, False]),
    pd.Index([1, pd.NA], dtype="Int8"),
    pd.RangeIndex(10**15, 0, -7, name="r"),
    pd.MultiIndex.from_tuples([(1, "a"), (2, None)], names=["n", "t"]),
    pd.MultiIndex(levels=[["unused", "a"], [1]], codes=[[1, -1], [0, 0]]),
    pd.MultiIndex.from_arrays([pd.Categorical(["x"]), pd.date_range("2026", periods=1, tz=BERLIN)]),
    pd.date_range("2026", periods=3, freq="2ME"),
    pd.date_range("2026-03-28", periods=3, freq="D", tz=BERLIN),
    pd.DatetimeIndex(["2026", None]),
    pd.timedelta_range("1h", periods=3, freq="30min"),
    pd.CategoricalIndex(["b", None], categories=["b", "a"], ordered=True),
    pd.IntervalIndex.from_tuples([(0, 1), (3, 9), np.nan], closed="both"),
    pd.PeriodIndex(["2026", None], freq="Y-MAR"),
]


@pytest.mark.parametrize(
    "index", INDEXES, ids=lambda index: f"{type(index).__name__} {index.dtype}"
)
def test_indexes(index, round_trip) -> None:
    again, twice = round_trip([index, index])
    assert again is twice
    assert type(again) is type(index)
    pd.testing.assert_index_equal(again, index, exact=True)
    assert again.names == index.names
    assert getattr(again, "freq", None) == getattr(index, "freq", None)
    if isinstance(index, pd.MultiIndex):
        assert [list(level) for level in again.levels] == [list(level) for level in index.levels]
        assert [codes.tolist() for codes in again.codes] == [
            codes.tolist() for codes in index.codes
        ]


ARRAYS = [
    pd.Categorical(["b", None, "a"], categories=["b", "a", "z"], ordered=True),
    pd.Categorical.from_codes([0, -1], categories=pd.interval_range(0, 2)),
    pd.array([1, None], dtype="UInt16"),
    pd.arrays.FloatingArray(np.array([np.nan, 1.5]), np.array([False, True])),
    pd.array([True, None], dtype="boolean"),
    pd.array(["a", None], dtype=pd.StringDtype("python")),
    pd.array(["a", None], dtype=pd.StringDtype("python", na_value=np.nan)),
    pd.array([1, 2], dtype=np.dtype("i2")),
    pd.array(["a", [1]], dtype=np.dtype("O")),
    pd.date_range("2026", periods=3, freq="W-SUN").array,
    pd.to_datetime(["2026", None]).tz_localize(BERLIN).array,
    pd.to_timedelta([1, None], unit="s").array,
    pd.period_range("2026", periods=2, freq="W-SAT").array,
    pd.IntervalIndex.from_breaks([1, 2, 4], closed="neither").array,
    pd.arrays.SparseArray([0, 5, 0, 6]),
    pd.arrays.SparseArray([True, False], kind="block", fill_value=True),
    pd.arrays.SparseArray([], dtype="Sparse[float32]"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{type(array).__name__} {array.dtype}")
def test_extension_arrays(array, round_trip) -> None:
    again, twice = round_trip([array, array])
    assert again is twice
    assert type(again) is type(array)
    assert repr(again.dtype) == repr(array.dtype)
    assert again.dtype == array.dtype
    pd.testing.assert_extension_array_equal(again, array, check_exact=True)
    assert getattr(again, "kind", None) == getattr(array, "kind", None)
    assert repr(list(again)) == repr(list(array))


def test_a_categorical_can_be_used_after_a_load(round_trip) -> None:
    again = round_trip(pd.Categorical(["b", "a", "b"]))
    assert list(again) == ["b", "a", "b"]
    assert again.value_counts().tolist() == [1, 2]


OWN_ZONE = dt.timezone(dt.timedelta(hours=1), "mine")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pd.Timestamp("2026", tz=OWN_ZONE), "the time zone 'mine' has no name"),
        (pd.tseries.offsets.MonthEnd(), "MonthEnd"),
        (pd.Index([print], dtype=object), "the function print"),
        (pd.Series([1]).groupby(level=0), "SeriesGroupBy"),
        (pd.api.extensions.no_default, "_NoDefault"),
    ],
    ids=range(5),
)
def test_what_cannot_be_kept(value, words: str, registry) -> None:
    with pytest.raises(Unsupported, match=words) as caught:
        encode({"x": [value]}, registry, label="model")
    assert str(caught.value).startswith("model['x'][0]")
    assert "\nTry: " in str(caught.value)


def test_a_class_of_the_same_name_is_another_type(registry) -> None:
    for name in ("Timestamp", "Index", "Int64Dtype"):
        twin = type(name, (), {"__module__": "pandas"})
        with pytest.raises(Unsupported, match=rf"^list\[0\] is a pandas.{name}"):
            encode([twin()], registry)


def text(values, **rest):
    return {"kind": "text", "dtype": "str", "storage": "python", "values": values, **rest}


OUTSIDE = {"kind": "plain", "values": np.array([1.0])}
FORGED = [
    ({"kind": "category", "codes": np.array([5])}, "codes need to be between"),
    ({"kind": "category", "codes": np.array([-2])}, "codes need to be between"),
    ({"kind": "category", "codes": np.array([0.5])}, "codes of a pandas column"),
    ({"kind": "masked", "dtype": "Int64", "values": np.zeros(2)}, "another type than it says"),
    ({"kind": "masked", "dtype": "Int128", "values": np.zeros(2)}, "unknown kind"),
    ({"kind": "sparse", "places": np.array([1, 0])}, "out of order"),
    ({"kind": "sparse", "places": np.array([0, 9])}, "out of order or range"),
    ({"kind": "sparse", "places": np.array([-1, 0])}, "out of order or range"),
    ({"kind": "sparse", "length": 2**40}, "impossible length"),
    ({"kind": "period", "freq": "import os"}, "not a frequency"),
    ({"kind": "zoned", "zone": "dateutil//etc/passwd"}, "not the name of a time zone"),
    (text(["a"]), "mask of a pandas column"),
    (text([1, 2]), "holds something else"),
    (text(["a", "b"], storage="elsewhere"), "unknown kind"),
    ({"kind": "eval"}, "unknown kind"),
    ({"kind": ["plain"]}, "unknown kind"),
]
LABELS = {"kind": "index", "values": OUTSIDE, "name": None, "freq": None}
REST = {
    "category": {"categories": LABELS, "ordered": False},
    "masked": {"mask": np.array([True, False])},
    "sparse": {"length": 3, "places": np.array([0, 1]), "values": np.ones(2), "fill": 0.0}
    | {"blocks": False},
    "period": {"values": np.array([1])},
    "zoned": {"values": np.array([1], "M8[ns]")},
    "text": {"mask": np.array([True, False])},
}


@pytest.mark.parametrize(("parts", "words"), FORGED, ids=range(len(FORGED)))
def test_forged_columns_are_refused(parts, words: str, registry) -> None:
    rest = REST.get(parts["kind"], {}) if isinstance(parts["kind"], str) else {}
    with pytest.raises((Corrupt, ValueError), match=words):
        registry.by_id["pandas.ExtensionArray"].build({"parts": {**rest, **parts}})


def test_zones_that_are_paths_or_unknown_are_refused(registry) -> None:
    build = registry.by_id["pandas.Timestamp"].build
    value = np.datetime64("2026-01-01", "ns")
    with pytest.raises(EnvironmentMismatch, match="dateutil/Europe/Berlin"):
        build({"value": value, "zone": "dateutil/Europe/Berlin"})
    for zone in ("/etc/localtime", "tzlocal()", "", 5):
        with pytest.raises(Corrupt):
            build({"value": value, "zone": zone})


def test_labels_are_not_spelled_out_without_end(registry) -> None:
    endless = {"kind": "range", "bounds": [0, 2**60, 1], "name": None}
    level = {"kind": "multi", "levels": [endless], "codes": [np.array([0])], "names": [None]}
    with pytest.raises(Corrupt, match="more labels than can be meant"):
        registry.by_id["pandas.Index"].build({"parts": level})
    assert len(registry.by_id["pandas.Index"].build({"parts": endless})) == 2**60


@pytest.mark.parametrize(
    ("older", "newer"),
    [("M", "ME"), ("2H", "2h"), ("15T", "15min"), ("Q-NOV", "QE-NOV"), ("A-DEC", "YE-DEC"),
     ("AS-JAN", "YS-JAN"), ("BM", "BME"), ("L", "ms"), ("D", "D"), ("W-SUN", "W-SUN")],
)  # fmt: skip
def test_steps_are_read_under_the_names_that_each_release_has(older, newer, monkeypatch):
    assert zones.freq_of(older) == zones.freq_of(newer)
    assert str(zones.freq_of(older).freqstr) == newer
    monkeypatch.setattr(pd, "__version__", "2.1.4")
    assert zones._spelled(newer, zones._STEPS) == older


@pytest.mark.parametrize(("older", "newer"), [("A-DEC", "Y-DEC"), ("H", "h"), ("M", "M")])
def test_periods_are_read_under_the_names_that_each_release_has(older, newer, monkeypatch):
    assert zones.period_dtype(older) == pd.PeriodDtype(newer)
    monkeypatch.setattr(pd, "__version__", "2.1.4")
    assert zones._spelled(newer, zones._PERIODS) == older
