"""Values of Python, numpy and pandas, and models that are fitted on frames.

Written under pandas 2.0 with numpy 1.24, pandas 2.2 with numpy 2.0, and the newest. What is asked
of a value is all that can be said of it; a model is asked about rows from a CSV file, which each
pandas reads in its own manner: texts as objects or as ``str``, times in ns or us.
"""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import fractions
import io
import math
import uuid
import warnings
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from piece import METHODS, Piece, answers as _answers
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

_UNITS = {
    "years": "Y", "months": "M", "weeks": "W", "days": "D", "hours": "h", "minutes": "m",
    "seconds": "s", "ms": "ms", "us": "us", "ns": "ns", "ps": "ps", "steps": "25s",
}  # fmt: skip
_LONG_ALIASES = tuple(map(int, pd.__version__.split(".")[:2])) >= (2, 2)


def _arrays() -> Iterator[tuple[str, Any]]:
    for code in ("?", "i1", "u1", "<i2", "u2", "i4", "<u4", "i8", "u8", "f2", "f4", "f8", "c8"):
        yield f"array-{np.dtype(code).name}", np.array([[0, 1, 1], [1, 0, 1]]).astype(code)
    yield "array-complex128", np.array([1 + 2j, complex("nan")])
    yield "array-big-endian", np.arange(6, dtype=">f8").reshape(2, 3)
    yield "array-columns", np.asfortranarray(np.arange(12.0).reshape(3, 4))
    yield "array-empty", np.zeros((0, 3), "f4")
    yield "array-number", np.array(3.5)
    frozen = np.arange(4)
    frozen.flags.writeable = False
    yield "array-readonly", frozen
    for name, unit in _UNITS.items():
        yield f"array-times-{name}", np.array([0, 1, "NaT"], dtype=f"M8[{unit}]")
        yield f"array-spans-{name}", np.array([0, -1, "NaT"], dtype=f"m8[{unit}]")
    yield "array-texts", np.array(["", "é", "a\U0001f600"])
    yield "array-bytes", np.array([b"", b"ab", b"\xff"])
    yield "array-raw", np.array([b"ab", b"cd"], dtype="V2")
    yield "array-objects", np.array([1, "a", None, 2.5, ("x", 1)], dtype=object)
    inner = np.dtype([("x", "f4"), ("t", "M8[ns]")])
    rows = np.zeros(2, np.dtype([("name", "U4"), ("in", inner, (2,)), ("n", "u1")], align=True))
    rows["name"], rows["n"] = ["a", "b"], [1, 2]
    yield "array-records", rows
    yield "masked", np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1.0)
    yield "masked-times", np.ma.array(np.array(["2020-01-01", "NaT"], "M8[D]"), mask=[1, 0])
    yield "matrix", np.matrix([[1, 2], [3, 4]])
    yield "sparse-rows", sparse.csr_matrix(np.eye(3))
    yield "sparse-columns", sparse.csc_array(np.eye(3, dtype="f4"))


def _scalars() -> Iterator[tuple[str, Any]]:
    yield "scalars", [
        np.bool_(True), np.int8(-3), np.uint64(2**63), np.float16(1.5), np.float32(0.1),
        np.float64(0.1), np.complex64(1j), np.str_("é"), np.bytes_(b"x"), np.datetime64("NaT"),
        np.datetime64("2020-02-29", "D"), np.timedelta64(5, "ms"), float("nan"), -0.0, 10**30,
    ]  # fmt: skip
    yield "python", {
        "none": None, "text": "é", "bytes": b"\x00", "range": range(1, 9, 2), "slice": slice(1, 2),
        "set": {1, 2}, "frozen": frozenset({"a"}), "complex": 1 + 2j, (1, "a"): [1, [2, (3,)]],
        "decimal": decimal.Decimal("1.10"), "fraction": fractions.Fraction(1, 3),
        "date": dt.date(2020, 1, 2), "time": dt.datetime(2020, 1, 2, 3, tzinfo=dt.UTC),
        "zone": zoneinfo.ZoneInfo("Europe/Rome"), "span": dt.timedelta(days=1, microseconds=2),
        "uuid": uuid.UUID(int=7),
    }  # fmt: skip


def _random() -> Iterator[tuple[str, Any]]:
    for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        generator = np.random.Generator(getattr(np.random, name)(7))
        generator.integers(9, size=3, dtype="u1")  # a half-used word is part of the state
        yield f"random-{name}", generator
    state = np.random.RandomState(3)
    state.normal()  # leaves a number drawn ahead
    yield "random-state", state
    spawned = np.random.SeedSequence(5)
    spawned.spawn(2)
    yield "random-seed", spawned
    yield "random-spawned", np.random.Generator(np.random.PCG64(spawned.spawn(1)[0]))


def _columns() -> Iterator[tuple[str, Any]]:
    times = pd.to_datetime(["2020-01-31 10:00:00", None, "2021-03-04 05:06:07"])
    yield "text", pd.Series(["a", "é", "a"], name="t")
    yield "text-gaps", pd.Series(["a", None, "b"])
    yield "text-nan", pd.Series(["a", np.nan, "b"])
    yield "text-string", pd.Series(["a", None, "b"], dtype="string")
    yield "mixed-objects", pd.Series([1, "a", None, 2.5], dtype=object)
    yield "category-texts", pd.Series(pd.Categorical(["b", "a", None], categories=["b", "a", "c"]))
    yield "category-ordered", pd.Series(pd.Categorical([2, 1, 3], ordered=True))
    yield "category-times", pd.Series(pd.Categorical(times))
    for name in ("Int8", "Int64", "UInt32", "Float32", "Float64", "boolean"):
        yield f"nullable-{name}", pd.Series([1, None, 0], dtype=name)
    for unit in ("s", "ms", "us", "ns"):
        yield f"times-{unit}", pd.Series(np.array(times.to_numpy(), dtype=f"M8[{unit}]"))
        yield f"spans-{unit}", pd.Series(np.array([1, "NaT", -5], dtype=f"m8[{unit}]"))
    yield "times-native", pd.Series(times)
    for place, zone in (("rome", "Europe/Rome"), ("utc", "UTC"), ("offset", "+05:30")):
        yield f"times-{place}", pd.Series(times.tz_localize("UTC").tz_convert(zone))
    for freq in ("M", "Q-NOV", "Y-DEC" if _LONG_ALIASES else "A-DEC", "D", "W-SUN"):
        yield f"periods-{freq[0]}", pd.Series(pd.PeriodIndex(["2020-01-05", None], freq=freq))
    yield "intervals", pd.Series(pd.interval_range(0.0, 3.0, closed="left"))
    yield "intervals-times", pd.Series(pd.interval_range(times[0], periods=2, freq="D"))
    yield "sparse", pd.Series(pd.arrays.SparseArray([0.0, 0.0, 1.5]))
    yield "sparse-blocks", pd.Series(pd.arrays.SparseArray([0, 0, 1, 2], kind="block"))
    yield "sparse-nan", pd.Series(pd.arrays.SparseArray([np.nan, 1.0]))


def _indexes() -> Iterator[tuple[str, Any]]:
    yield "index-range", pd.RangeIndex(2, 20, 3, name="r")
    yield "index-texts", pd.Index(["b", "a"], name="n")
    yield "index-gaps", pd.Index(["b", None])
    yield "index-numbers", pd.Index([3, 1], dtype="i4")
    yield "index-categories", pd.CategoricalIndex(["x", "y", "x"])
    yield "index-days", pd.date_range("2020-01-01", periods=3, freq="D")
    long = ("ME", "QE-NOV", "YE-DEC", "h", "min", "s", "B", "W-SUN")
    short = ("M", "Q-NOV", "A-DEC", "H", "T", "S", "B", "W-SUN")
    for name, freq in zip(long, long if _LONG_ALIASES else short, strict=True):
        yield f"index-every-{name}", pd.date_range("2020-01-31 10:00", periods=3, freq=freq)
    yield "index-spans", pd.timedelta_range("1D", periods=3, freq="h" if _LONG_ALIASES else "H")
    yield "index-zoned", pd.date_range("2020-03-28", periods=3, freq="D", tz="Europe/Rome")
    yield "index-periods", pd.period_range("2020-01", periods=3, freq="M")
    yield "index-levels", pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None])
    index = pd.date_range("2020-01-01", periods=2, freq="D")
    yield "index-levels-times", pd.MultiIndex.from_product([index, ["a"]])


def _frames() -> Iterator[tuple[str, Any]]:
    whole = _rows(6, ["lima", "oslo"])
    yield "table", whole
    yield "table-indexed", whole.set_index("city")
    yield "table-levels", whole.set_index(["city", "when"]).unstack(0)  # noqa: PD010 - as it was
    yield "table-empty", whole.iloc[:0]
    yield "table-twice", pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])
    yield "table-numbers", pd.DataFrame(np.eye(2))


def _text(rows: int, cities: list[str], first: int = 0) -> str:
    """Write rows as CSV, the same text under every pandas."""
    lines = ["age,income,city,plan,when,member"]
    for i in range(first, first + rows):
        income = "" if i % 7 == 3 else 20 + i * 13 % 31
        city = "" if i % 11 == 5 else cities[i % len(cities)]
        day = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=i * 17 % 400, hours=i)
        when = day.strftime("%Y-%m-%d %H:%M:%S")
        plan = "gold" if i % 3 else "basic"
        lines.append(f"{18 + i % 40},{income},{city},{plan},{when},{i % 2 == 0}")
    return "\n".join(lines) + "\n"


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), parse_dates=["when"])


def _rows(rows: int, cities: list[str], first: int = 0) -> pd.DataFrame:
    return _read(_text(rows, cities, first))


HELD = _text(30, ["lima", "oslo", "rome", "quito"], 100)


def _encoded(last: Any, **options: Any) -> Any:
    columns = ColumnTransformer(
        [
            ("fill", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            ("city", OneHotEncoder(handle_unknown="ignore", **options), ["city", "plan"]),
        ],
        remainder="drop",
    )
    return make_pipeline(columns, last)


def _models() -> Iterator[tuple[str, Any, Any]]:
    """Yield estimators for frames: name, estimator, frame."""
    frame = _rows(60, ["lima", "oslo", "rome"])
    yield "model-mixed", _encoded(LogisticRegression(max_iter=300)), frame
    yield "model-forest", _encoded(RandomForestClassifier(4, max_depth=4, random_state=0)), frame
    yield "model-numbers", _column(StandardScaler(), "age"), frame
    yield "model-times", _column(StandardScaler(), "when"), frame
    yield "model-times-hot", _column(OneHotEncoder(handle_unknown="ignore"), "when"), frame
    unknown = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    yield "model-plan", _column(unknown, "plan"), frame
    fill = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    yield "model-fill", _column(fill, "city"), frame
    yield "model-member", _column(OneHotEncoder(), "member"), frame
    labelled = frame.assign(plan=frame["plan"].astype("category"))
    yield "model-category", _column(unknown, "plan"), labelled
    whole = frame.assign(age=frame["age"].astype("Int64"))
    yield "model-nullable", _column(StandardScaler(), "age"), whole
    texts = frame.assign(plan=frame["plan"].astype("string"))
    yield "model-string", _column(unknown, "plan"), texts


def _column(transformer: Any, *names: str) -> Any:
    return make_pipeline(ColumnTransformer([("only", transformer, [*names])]), Ridge())


def pieces() -> Iterator[Piece]:
    """Yield every value, then every model, fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in (_arrays, _scalars, _random, _columns, _indexes, _frames):
            for name, value in kind():
                yield Piece(f"value.{name.lower()}", value, None, None)
        for name, model, frame in _models():
            labels = hasattr(model[-1], "predict_proba")
            target = frame["plan"] if labels else frame["age"].astype(float)
            yield Piece(name, model.fit(frame, target), frame.iloc[:20], HELD)


def loaded(version: Any) -> Any:
    """Load a value as it is, a model as a predictor, which brings a frame to what it expects."""
    if version.name.startswith("value."):
        return version.load(environment="here")
    return version.predictor(environment="here")


def answers(model: Any, rows: Any, methods: Any = METHODS) -> dict[str, Any]:
    """Return what a model says of a CSV file's rows, or all that can be said of a value."""
    if isinstance(rows, str):
        return _answers(model, _read(rows), methods)
    return {"described": described(copy.deepcopy(model))}


def described(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind
    """Say all of a value in texts, numbers and lists that mean the same in every release.

    Of columns of texts that pandas 3 calls ``str`` and pandas 2 ``object``, the dtype is not said.
    """
    kind = type(value).__name__
    if isinstance(value, pd.DataFrame):
        columns = [described(value.iloc[:, place]) for place in range(value.shape[1])]
        return [kind, described(value.columns), described(value.index), columns]
    if isinstance(value, pd.Series):
        return [kind, value.name, described(value.index), _column_of(value.array)]
    if isinstance(value, pd.MultiIndex):
        return [kind, list(value.names), list(map(described, value.levels)),
                [list(map(int, codes)) for codes in value.codes]]  # fmt: skip
    if isinstance(value, pd.Index):
        freq = getattr(value, "freq", None)
        paced = None if freq is None else [type(freq).__name__, freq.n]
        return [kind, value.name, paced, _column_of(value.array)]
    if isinstance(value, np.random.Generator):
        return [kind, value.integers(9, size=5, dtype="u1").tolist(), value.random(3).tolist()]
    if isinstance(value, np.random.RandomState):
        return [kind, value.normal(size=3).tolist(), value.randint(9, size=3).tolist()]
    if isinstance(value, np.random.SeedSequence):
        return [kind, value.generate_state(3).tolist(), value.spawn(1)[0].spawn_key[0]]
    if hasattr(value, "tocoo"):
        return [kind, described(value.toarray())]
    return _plain(value)


def _column_of(array: Any) -> Any:
    dtype = str(array.dtype)
    if isinstance(array.dtype, pd.CategoricalDtype):
        codes = [int(code) for code in array.codes]
        return ["category", bool(array.ordered), codes, described(array.categories)]
    if isinstance(array.dtype, pd.PeriodDtype):
        return ["period", [str(each) for each in array], [int(each) for each in array.asi8]]
    if isinstance(array.dtype, pd.IntervalDtype):
        return ["interval", array.closed, *(_column_of(s.array) for s in (array.left, array.right))]
    values = [_plain(each) for each in array.astype(object)]
    texts = dtype in ("object", "str") and all(v is None or isinstance(v, str) for v in values)
    return ["texts" if texts else dtype, values]


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind
    kind = type(value).__name__
    if value is pd.NaT or value is pd.NA or value is None or value is np.ma.masked:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, np.ma.MaskedArray):
        return [kind, described(value.data), value.mask.tolist(), repr(value.fill_value.item())]
    if isinstance(value, np.ndarray):
        flags = [value.flags.writeable, value.flags.f_contiguous]
        return [kind, str(value.dtype.descr), list(value.shape), flags, repr(value.tolist())]
    if isinstance(value, np.generic):
        return [value.dtype.str, value.tobytes().hex()]
    if isinstance(value, (list, tuple)):
        return [kind, [_plain(each) for each in value]]
    if isinstance(value, dict):
        return [kind, [[_plain(key), _plain(each)] for key, each in value.items()]]
    if isinstance(value, (set, frozenset)):
        return [kind, sorted(map(repr, value))]
    return value if isinstance(value, str) else [kind, repr(value)]
