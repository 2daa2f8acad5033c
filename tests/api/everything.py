"""One value of every kind that is kept, and a comparison that owes nothing to Holdfast.

As a program: ``python everything.py save|load STORE``. ``load`` makes the values anew and prints
the names of those that came back otherwise, and of those that do after it changed some.
"""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import decimal
import enum
import fractions
import functools
import inspect
import json
import math
import pathlib
import re
import struct
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from scipy import interpolate, special, stats
from sklearn import feature_selection, metrics
from sklearn.metrics import pairwise
from sklearn.utils import Bunch

import holdfast


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Own:
    def __init__(self, value: object) -> None:
        self.value = value
        self.parts = [np.arange(3), None]


OWN = {Colour: "colour", Level: "level", Mode: "mode", Own: "own"}


def keys() -> dict[str, Any]:
    words = [f"word{i}" for i in range(20)]
    return {
        "bools as keys": {True: 1, False: 2},
        "None as key": {None: 1, "None": 2},
        "tuples as keys": {(1, (2, "x")): 1, (): 2, (True,): 3},
        "frozensets as keys": {frozenset({1, "a"}): 1},
        "bytes as keys": {b"\x00": 1},
        "floats as keys": {-0.0: 1, math.inf: 2, math.nan: 3, 1j: 4},
        "large ints as keys": {2**53: 1, -(2**5000): 2},
        "numpy scalars as keys": {
            np.int64(1): 1, np.float32(1.25): 2, np.bool_(False): 3, np.str_("s"): 4,
            np.bytes_(b"b"): 5, np.datetime64("2026-03-03"): 6, np.complex64(2j): 7,
        },
        "enums as keys": {Colour.RED: 1, Level.LOW: 2},
        "dates as keys": {dt.date(2026, 3, 3): 1, pd.Timestamp("2026-03-03"): 2},
        "vocabulary": {word: place for place, word in enumerate(words)},
        "texts by text": dict(zip(words, words[::-1], strict=True)),
        "floats by text": {word: place / 3 for place, word in enumerate(words)},
    }  # fmt: skip


def arrays() -> dict[str, Any]:
    cells = np.empty((2, 3), dtype=object, order="F")
    cells[...] = [[1, "x", None], [[1, 2], {"k": (3,)}, np.float32(2)]]
    locked = np.arange(4.0)
    locked.flags.writeable = False
    record = np.dtype([("a", "i1"), ("b", ">f8"), ("c", "U3"), ("d", "M8[s]", (2,))], align=True)
    return {
        "object array": np.array([None, "x", [1]], dtype=object),
        "object array in F order": cells,
        "F order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "read only": locked,
        "structured": np.array([(1, 2.5, "xyz", ["2026-01-01", "NaT"])], dtype=record),
        "datetime64": np.array(["2026-03-03", "NaT"], "M8[ns]"),
        "timedelta64": np.array([1, -2], "m8[15us]"),
        "complex array": np.array([complex(-0.0, math.nan)]),
        "texts": np.array(["é", "\ud800", ""]),
        "bytes": np.array([b"a", b""]),
        "big endian": np.arange(3, dtype=">i2"),
        "no rows": np.zeros((0, 3), "f4"),
        "no axes": np.array(3.5),
        "masked": np.ma.MaskedArray([1.5, 2.5], mask=[True, False], fill_value=-1),
        "matrix": np.matrix([[1, 2]]),
        "scalars": [np.float32(-0.0), np.int8(-3), np.bool_(True), np.timedelta64(5, "D")],
        "classes and dtypes": [int, dict, np.float64, np.dtype(">f8"), np.dtype(object), record],
    }


def randoms() -> dict[str, Any]:
    kinds = [getattr(np.random, n) for n in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")]
    generators = {f"Generator of {kind.__name__}": np.random.Generator(kind(5)) for kind in kinds}
    legacy = np.random.RandomState(3)
    legacy.standard_normal(3)
    seed = np.random.SeedSequence([1, 2**70])
    seed.spawn(2)
    for generator in generators.values():
        generator.random(3)
        generator.integers(9, dtype=np.uint8)
    return {**generators, "RandomState": legacy, "SeedSequence": seed}


def standard() -> dict[str, Any]:
    return {
        "deque": collections.deque([1, [2]], maxlen=4),
        "defaultdict": collections.defaultdict(list, {2: [1], "x": []}),
        "defaultdict of counts": collections.defaultdict(int, {f"w{i}": i for i in range(20)}),
        "OrderedDict": collections.OrderedDict([("b", 1), ("a", 2)]),
        "Counter": collections.Counter("abca"),
        "regex": re.compile(r"(?u)\b\w\w+\b", re.IGNORECASE),
        "regex of bytes": re.compile(rb"[a-z]+", re.DOTALL),
        "complex": complex(-0.0, math.nan),
        "ranges": [range(3, -7, -2), range(0), range(2**70)],
        "slices": [slice(None), slice("a", (1, 2), np.int64(3)), slice(None, np.arange(2000))],
        "enums": [Colour.RED, Level.LOW, Mode.WRITE],
        "Bunch": Bunch(a=1, data=np.arange(3)),
        "numbers": [2**200, -0.0, 5e-324, math.inf, math.nan, True, 1, 1.0],
        "long lists": [[*range(-5, 300)], [0.5, -0.0] * 9, ["a", "\x00"] * 9, [True, False] * 9],
        "texts": ["", "\x00", "\ud800", "\U0001f991"],
        "bytes": [b"", b"\x00\xff", bytearray(b"x"), ...],
        "sets": [{1, "a", None, (2,)}, frozenset({b"x"}), {math.nan}, set()],
        "times": [
            dt.datetime(2026, 3, 3, 4, tzinfo=dt.UTC), dt.time(1, fold=1), dt.timedelta(-1),
        ],
        "decimals": [decimal.Decimal("-1.50"), fractions.Fraction(-1, 3)],
        "names": [uuid.UUID(int=3), pathlib.PurePosixPath("/a/b")],
        "namespace": types.SimpleNamespace(a=[1]),
        "own class": Own({"deep": Own(1)}),
    }  # fmt: skip


def scipys() -> dict[str, Any]:
    matrix = scipy.sparse.random(6, 8, 0.4, random_state=1)
    found: dict[str, Any] = {}
    for name in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil"):
        found[f"{name}_matrix"] = matrix.asformat(name)
        found[f"{name}_array"] = getattr(scipy.sparse, f"{name}_array")(matrix)
    x = np.linspace(0, 1, 9)
    return found | {
        "BSpline": interpolate.make_interp_spline(x, np.sin(x)),
        "CubicSpline": interpolate.CubicSpline(x, np.sin(x)),
        "CubicHermiteSpline": interpolate.CubicHermiteSpline(x, np.sin(x), np.cos(x)),
        "PchipInterpolator": interpolate.PchipInterpolator(x, np.sin(x)),
        "Akima1DInterpolator": interpolate.Akima1DInterpolator(x, np.sin(x)),
        "PPoly": interpolate.PPoly(np.ones((2, 2)), [0, 1, 2]),
        "interp1d": interpolate.interp1d(x, np.sin(x)),
        "normal": stats.norm(1, 2),
        "beta": stats.beta(a=1, b=2.5, loc=3),
        "poisson": stats.poisson(mu=3),
    }


def frames() -> dict[str, Any]:
    days = pd.to_datetime(["2026-01-01", None])
    frame = pd.DataFrame(
        {
            "number": [1.5, math.nan], "text": ["x", None], "mixed": [1, "a"],
            "category": pd.Categorical(["u", None], categories=["v", "u"], ordered=True),
            "day": days, "zoned": days.tz_localize("Europe/Berlin"),
            "Int8": pd.array([1, None], "Int8"), "boolean": pd.array([True, None], "boolean"),
            "Float32": pd.array([1.5, None], "Float32"), "string": pd.array(["a", None], "string"),
            "period": pd.PeriodIndex(["2026-01", "2026-02"], freq="M"),
            "interval": pd.arrays.IntervalArray.from_breaks([0, 1, 2]),
            "sparse": pd.arrays.SparseArray([0, 1]), 7: [b"x", b"y"],
        },
        index=pd.Index([5, 6], name="id"),
    )  # fmt: skip
    frame.attrs["unit"] = "m"
    return {
        "DataFrame": frame,
        "Series": frame["number"],
        "Index": pd.Index(["a", "b"], name="n"),
        "RangeIndex": pd.RangeIndex(2, 9, 3),
        "MultiIndex": pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"]),
        "DatetimeIndex": pd.date_range("2026", periods=3, freq="D", tz="UTC"),
        "Categorical": frame["category"].array,
        "IntegerArray": frame["Int8"].array,
        "StringArray": frame["string"].array,
        "dtypes": [*frame.dtypes, pd.CategoricalDtype(["a"], ordered=True)],
        "single values": [pd.NA, pd.NaT, pd.Timedelta(1), pd.Period("2026-01"), pd.Interval(0, 1)],
    }


def functions() -> dict[str, Any]:
    return {
        "ufuncs": [np.add, np.log1p, special.expit],
        "selection": [feature_selection.f_classif, feature_selection.mutual_info_regression],
        "scores and kernels": [metrics.accuracy_score, pairwise.rbf_kernel, stats.zscore],
        "of numpy and Python": [np.mean, np.linalg.norm, len, sorted, str.lower, math.sqrt],
        "partial": functools.partial(feature_selection.f_regression, center=False),
    }


def everything() -> dict[str, Any]:
    groups: list[Callable[[], dict[str, Any]]] = [
        keys, arrays, randoms, standard, scipys, frames, functions,
    ]  # fmt: skip
    return {group.__name__: group() for group in groups}


def facts(value: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - one line for each kind of value
    """Take a value apart, as pickle would, into what compares with ``==`` bit for bit."""
    kind = type(value)
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type | np.ufunc):
        return id(value)
    if kind is types.MethodType:
        return kind, value.__name__  # of the object in which it was met
    if kind in (float, complex):
        return kind, struct.pack("<2d", value.real, value.imag)
    if value is None or kind in (bool, int, str, bytes, bytearray, type(...)):
        return kind, value
    if kind is dict:
        return kind, [(facts(key), facts(item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [facts(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(facts(item)) for item in value)
    if kind is np.ndarray:
        flags = value.flags.writeable, value.flags.f_contiguous
        cells = facts(value.ravel().tolist()) if value.dtype == object else packed(value)
        return value.dtype, value.shape, flags, cells
    if isinstance(value, np.generic):
        return kind, value.dtype, value.tobytes(), repr(value)
    if isinstance(value, np.dtype):
        return value.str, str(value.fields)
    if isinstance(value, pd.api.extensions.ExtensionDtype):
        return kind, repr(value), value  # what it has cached means nothing
    if isinstance(value, np.random.RandomState):  # the seed it forgot is another each time
        return kind, facts(value.get_state(legacy=False))
    if kind is Own:
        return kind, facts(dict(sorted(vars(value).items())))
    if isinstance(value, scipy.sparse.spmatrix | scipy.sparse.sparray):
        shown = value.tocoo()
        return kind, value.shape, value.dtype, facts([shown.coords, shown.data]), stored(value)
    return kind, facts(tuple(part(value)))


def packed(array: Any) -> Any:
    if array.dtype.fields is None:
        return array.tobytes()
    return [packed(array[name]) for name in array.dtype.names]


def stored(matrix: Any) -> Any:
    """Return the arrays that a sparse matrix is made of."""
    names = ("data", "indices", "indptr", "row", "col", "rows", "offsets")
    return [facts(getattr(matrix, name)) for name in names if hasattr(matrix, name)]


def part(value: Any) -> Iterator[Any]:
    """Yield what an object would be rebuilt from; iterators of it as lists."""
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(2) if reducer is None else reducer(value)
    for item in [reduced] if isinstance(reduced, str) else reduced:
        yield list(item) if isinstance(item, collections.abc.Iterator) else item


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and len(one) == len(other) and type(other) is list:
        return all(map(same, one, other))
    if type(one).__module__.startswith("pandas") and hasattr(one, "__len__"):
        return same_pandas(one, other)
    return bool(facts(one) == facts(other))


# It is compared below: that pandas does is new.
FREQ: Any = (
    {"check_freq": False}
    if "check_freq" in inspect.signature(pd.testing.assert_index_equal).parameters
    else {}
)


def same_pandas(one: Any, other: Any) -> bool:
    testing = pd.testing
    if isinstance(one, pd.DataFrame):
        testing.assert_frame_equal(one, other, check_exact=True, check_column_type=True)
    elif isinstance(one, pd.Series):
        testing.assert_series_equal(one, other, check_exact=True)
    elif isinstance(one, pd.Index):
        testing.assert_index_equal(one, other, exact=True, **FREQ)
    else:
        testing.assert_extension_array_equal(one, other, check_exact=True)
    told = ("freq", "attrs", "name", "names")
    return type(one) is type(other) and all(
        getattr(one, name, None) == getattr(other, name, None) for name in told
    )


def differences(loaded: Any) -> list[str]:
    found = []
    for group, fresh in everything().items():
        if list(fresh) != list(loaded[group]):
            found.append(f"{group}: {sorted(map(str, fresh.keys() ^ loaded[group].keys()))}")
        for name, value in fresh.items():
            try:
                kept = same(value, loaded[group][name])
            except AssertionError:
                kept = False
            if not kept:
                found.append(f"{group}: {name}")
    return found


def spoiled(loaded: Any) -> Any:
    """Change one thing in some values, each another that is easily lost."""
    loaded["keys"]["bools as keys"] = {1: 1, 0: 2}
    loaded["arrays"]["F order"] = np.ascontiguousarray(loaded["arrays"]["F order"])
    loaded["arrays"]["read only"] = loaded["arrays"]["read only"].copy()
    loaded["randoms"]["SeedSequence"].spawn(1)
    loaded["standard"]["own class"].value["deep"].parts[1] = False
    loaded["scipys"]["csr_matrix"].data[0] = np.nextafter(loaded["scipys"]["csr_matrix"].data[0], 1)
    loaded["scipys"]["normal"] = stats.norm(1, np.float32(2))
    loaded["frames"]["DatetimeIndex"].freq = None
    loaded["functions"]["ufuncs"][0] = np.subtract
    return loaded


def main(verb: str, store: str) -> None:
    for kind, name in OWN.items():
        holdfast.register(kind, name=name)
    if verb == "save":
        holdfast.save(everything(), "everything", store=store)
    else:
        loaded = holdfast.load("everything", store=store)
        sys.stdout.write(json.dumps([differences(loaded), differences(spoiled(loaded))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
