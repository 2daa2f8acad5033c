"""A script: reads forged versions of one group of values and uses what comes of them.

``python forgery.py GROUP`` forges every field of every node and every tensor of the group's values
and prints how many versions were refused and how many were harmless. A crash ends the process; so
does a version that takes more than 2 s of CPU time or 4 GiB of memory.
"""

# ruff: noqa: PLW0108 - what an action looks up belongs to the action, which may fail

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import fractions
import functools
import json
import re
import resource
import signal
import sys
import types
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from holdfast.codec import TYPES, audit, decode, encode
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorView
from holdfast.errors import HoldfastError
from holdfast.record import Structure

REGISTRY = Registry.of(TYPES)
WRONG = [None, True, 0, -1, 1, 2**31, 2**53 - 1, 0.5, "", "x", "0x0", "-0x1", "1e999", "nan", "ff"]
CHOICES = [["none"], ["bool", True], ["int", -1], ["int", 3], ["int", "0x7fffffffffffffff"]]
CHOICES += [["float", "nan"], ["float", "-1.5"], ["str", "x"], ["list", []], ["tuple", []]]
CHOICES += [["dict", []], ["strings", ["a"]], ["builtin", "list"], ["scalar", "<f8", "00" * 8]]
CHOICES += [["str", "numpy.add"], ["str", "1e999999999"], ["int", 2**31], ["dtype", "<i4"]]


class TooSlow(BaseException):
    """A version took more CPU time than any honest one."""


def bark(*_: object) -> None:
    raise TooSlow


def mutations(value: Any) -> Iterator[Any]:
    """Yield versions of a part of a node that differ from it in one place."""
    if isinstance(value, list | tuple):
        items = list(value)
        for i, item in enumerate(items[:6]):
            yield [*items[:i], *items[i + 1 :]]
            yield [*items[:i], item, *items[i:]]
            yield from ([*items[:i], new, *items[i + 1 :]] for new in mutations(item))
        yield items[::-1]
    elif isinstance(value, dict):
        for key, item in value.items():
            rest = {name: part for name, part in value.items() if name != key}
            yield rest
            yield from ({**rest, key: new} for new in mutations(item))
            yield from ({**rest, key: other} for other in value.values())
    yield from (new for new in WRONG if type(new) is not type(value) or new != value)


def forged_tensors(view: TensorView) -> Iterator[TensorView]:
    """Yield versions of a tensor: other bytes of the same size, other shapes, other types."""
    size = len(view.data)
    for filler in (0x00, 0x01, 0x7F, 0x80, 0xFF):
        yield TensorView(view.dtype, view.shape, memoryview(bytes([filler]) * size))
    for place in {0, size // 2, max(size - 8, 0), max(size - 4, 0), max(size - 1, 0)}:
        for change in (0x01, 0x40, 0x80, 0xFF):
            data = bytearray(view.data)
            if data:
                data[place] ^= change
            yield TensorView(view.dtype, view.shape, memoryview(bytes(data)))
    yield TensorView(view.dtype, (*view.shape, 1), view.data)
    yield TensorView(view.dtype, (0,), memoryview(b""))
    for cut in (size // 2, size // 4 * 3):
        if len(view.shape) == 1 and view.shape[0] and cut % (size // view.shape[0]) == 0:
            yield TensorView(view.dtype, (cut // (size // view.shape[0]),), view.data[:cut])
    for same in {"I64": ["U64", "F64"], "I32": ["U32", "F32"], "F64": ["I64"]}.get(view.dtype, []):
        yield TensorView(same, view.shape, view.data)


def versions(value: Any) -> Iterator[tuple[Any, dict[str, TensorView]]]:
    """Yield forged tables of one value, with their tensors."""
    encoded = encode(value, REGISTRY)
    views = {
        name: TensorView(data.dtype, data.shape, memoryview(bytes(data.load())))
        for name, data in encoded.tensors.items()
    }
    plain = msgspec.to_builtins(encoded.structure)
    for index, node in enumerate(plain["nodes"]):
        for new in [*mutations(node), *CHOICES]:
            nodes = list(plain["nodes"])
            nodes[index] = new
            yield {**plain, "nodes": nodes}, views
    for name, view in views.items():
        for lie in forged_tensors(view):
            yield plain, {**views, name: lie}


def outcome(plain: Any, views: dict[str, TensorView], use: Callable[[Any], object]) -> str:
    """Read one version as a load does, use it, and say whether it was refused."""
    try:
        structure = msgspec.convert(plain, Structure)
        value = decode(structure, views, REGISTRY, audit(structure, views, REGISTRY))
    except (HoldfastError, msgspec.ValidationError):
        return "refused"
    for action in (repr, hash, lambda value: encode(value, REGISTRY), use):
        with contextlib.suppress(Exception):
            action(value)
    return "harmless"


def functions() -> list[Any]:
    return [
        np.add, np.mean, len, str.split,
        functools.partial(np.percentile, q=50), functools.partial(np.clip, (1, 2), a_max=3),
    ]  # fmt: skip


def standard() -> list[Any]:
    return [
        collections.deque([1, "a", [2]], maxlen=5),
        collections.defaultdict(list, {1: [2], "a": "b"}),
        collections.Counter("abracadabra"),
        re.compile(r"(?i)\b\w\w+\b"),
        re.compile(b"a+"),
        dt.datetime(2026, 3, 3, 4, 5, 6, 7, tzinfo=dt.timezone(dt.timedelta(hours=1), "x"), fold=1),
        [dt.date(2026, 3, 3), dt.time(1, 2, 3, tzinfo=dt.UTC), dt.timedelta(-1, 2, 3)],
        {decimal.Decimal("-1.50"): fractions.Fraction(2, 3)},
        {uuid.UUID(int=5)},
        types.SimpleNamespace(a=1, b=[2]),
    ]


def numbers() -> list[Any]:
    masked = np.ma.MaskedArray([1.5, 2, 3], mask=[True, False, False], fill_value=7)
    return [
        np.random.SeedSequence(5, spawn_key=(1, 2)),
        np.random.default_rng(3),
        masked,
        np.ma.MaskedArray([[1, 2]], hard_mask=True),
        np.ma.masked,
        np.arange(6.0).reshape(2, 3).view(np.matrix),
        *texts(),
    ]


def texts() -> list[Any]:
    kind = getattr(np.dtypes, "StringDType", None) if hasattr(np, "dtypes") else None
    if kind is None:
        return []
    holed = np.array([["a", None], ["long " * 9, ""]], dtype=kind(na_object=None))
    return [holed, np.asfortranarray(holed), kind(coerce=False)]


def sparse() -> list[Any]:
    from scipy import sparse

    dense = np.array([[1.0, 0, 2, 0], [0, 0, 3, 0], [4, 5, 0, 0], [0, 0, 0, 6]])
    kinds = [f"{name}_{kind}" for name in FORMATS for kind in ("array", "matrix")]
    found = [getattr(sparse, kind)(dense) for kind in kinds]
    found += [sparse.bsr_array(dense, blocksize=(2, 2)), sparse.coo_array(dense[0])]
    return [*found, sparse.csr_array(dense.astype("i4")), sparse.csr_array((0, 3))]


FORMATS = ("csr", "csc", "bsr", "coo", "dia", "lil", "dok")


def use_sparse(matrix: Any) -> None:
    """Go through scipy's compiled code in every way that indexes by stored numbers."""
    if max(matrix.shape) > 10_000 or matrix.nnz > 10_000:
        return
    ones = np.ones((matrix.shape[-1], 2))
    actions: list[Callable[[], object]] = [
        matrix.toarray,
        lambda: matrix @ ones,
        lambda: matrix @ ones[:, 0],
        lambda: matrix @ matrix,
        lambda: (matrix + matrix).toarray(),
        lambda: matrix.multiply(matrix).toarray(),
        lambda: (matrix != matrix).toarray(),  # noqa: PLR0124 - comparing is the point
        lambda: matrix[1:3],
        lambda: matrix[:, [0, 1]],
        lambda: matrix[[1, 0]],
        lambda: matrix[0, 1],
        lambda: matrix.sum(axis=0),
        lambda: matrix.max(axis=1),
        matrix.diagonal,
        matrix.copy,
        lambda: matrix.copy().sum_duplicates(),
        lambda: matrix.copy().eliminate_zeros(),
        lambda: matrix.copy().sort_indices(),
        lambda: matrix.T.toarray(),
        *(getattr(matrix, f"to{name}") for name in FORMATS),
        lambda: matrix.tocsr() @ ones,
        lambda: matrix.copy().__setitem__((0, 1), 7),
        lambda: matrix.copy().resize((2, 2)),
    ]
    for action in actions:
        with contextlib.suppress(Exception):
            action()


def interpolators() -> list[Any]:
    from scipy import interpolate, stats

    x = np.arange(6.0)
    return [
        interpolate.BSpline(np.arange(10.0), x, 3),
        interpolate.PPoly(np.ones((3, 5)), x),
        interpolate.CubicSpline(x, np.stack([x, x**2], axis=1)),
        interpolate.interp1d(x, x**2),
        interpolate.interp1d(x, x**2, kind="cubic", bounds_error=False, fill_value=(0, 1)),
        interpolate.interp1d(x, x**2, kind="nearest", fill_value="extrapolate"),
        stats.norm(1, scale=np.array([2.0])),
        stats.randint(1, 4),
    ]


def use_interpolator(value: Any) -> None:
    """Evaluate inside, outside and at what is no number."""
    at = np.array([-1e300, -1, 0, 0.5, 2, 4.9, 5, 6, 1e300, np.nan, np.inf])
    actions: list[Callable[[], object]] = [
        lambda: value(at),
        lambda: value(at, 2),
        lambda: value.derivative()(at),
        lambda: value.antiderivative(2)(at),
        lambda: value.integrate(0, 3),
        lambda: value.roots(),
        lambda: value.pdf(at),
        lambda: value.rvs(3),
        lambda: value.mean(),
    ]
    for action in actions:
        with contextlib.suppress(Exception):
            action()


def frames() -> list[Any]:
    import pandas as pd

    columns = {
        "category": pd.cut([1, 5, 9], 3),
        "masked": pd.array([1, None, 3], dtype="Int64"),
        "boolean": pd.array([True, None, False], dtype="boolean"),
        "text": pd.array(["a", None, "c"], dtype="string"),
        "zoned": pd.date_range("2026", periods=3, tz="Europe/Berlin"),
        "period": pd.period_range("2026", periods=3, freq="M"),
        "interval": pd.IntervalIndex.from_breaks([0, 1, 2, 3]),
        "sparse": pd.arrays.SparseArray([0.0, 1.5, 0.0], fill_value=0.0),
    }
    rows = pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, None)], names=["x", "y"])
    found = [pd.Index(value, name="n") for value in columns.values()]
    found += [pd.Series(columns[name], index=rows) for name in ("category", "text", "sparse")]
    return [*found, pd.DataFrame(np.eye(3), columns=rows), pd.date_range("2026", periods=3)]


def marks() -> list[Any]:
    import pandas as pd

    return [
        pd.Timestamp("2026-03-03 04:05", tz="Europe/Berlin"),
        pd.Timedelta(5, "s"),
        pd.Interval(0, 1.5),
        pd.Period("2026-03", "M"),
        [pd.NaT, pd.NA],
        pd.CategoricalDtype(["a", "b"]),
        [pd.IntervalDtype("int64", "left"), pd.SparseDtype("float64", 0.0), pd.Int8Dtype()],
        [pd.DatetimeTZDtype("ns", "UTC"), pd.PeriodDtype("M"), pd.StringDtype("python")],
        pd.Categorical(["a", None, "b"]),
        pd.arrays.SparseArray([0, 5, 0, 6], kind="block"),
    ]


def use_frame(value: Any) -> None:
    """Go through pandas' compiled code in the ways that trust codes, masks and levels."""
    import pandas as pd

    if hasattr(value, "__len__") and len(value) > 1000:
        return
    actions: list[Callable[[], object]] = [
        lambda: list(value),
        lambda: value.to_numpy(),
        lambda: np.asarray(value),
        lambda: value.sort_index(),
        lambda: value.sort_values(),
        lambda: value.value_counts(),
        lambda: value.isna().sum(),
        lambda: value.unique(),
        lambda: value.reset_index(),
        lambda: value.groupby(level=0).count(),
        lambda: value.loc[(1, "a")],
        lambda: value.get_loc(value[0]),
        lambda: value.get_indexer(value),
        lambda: value.take([0, -1]),
        lambda: value.astype(object),
        lambda: value.astype(str),
        lambda: value.index.to_frame(),
        lambda: value.sum(),
        lambda: value + value,
        lambda: value.start_time,
        lambda: value.strftime("%Y-%m-%d %H:%M:%S"),
        lambda: value.isoformat(),
        lambda: value.sparse.to_dense(),
        lambda: pd.Series([None, None], dtype=value),
        lambda: pd.Series([1, 2]).astype(value),
        lambda: 1 in value,
    ]
    for action in actions:
        with contextlib.suppress(Exception):
            action()


def use_plainly(value: Any) -> None:
    """Do with a value what any reader might."""
    actions: list[Callable[[Any], object]] = [
        list,
        len,
        str,
        lambda v: v == v,  # noqa: PLR0124 - comparing is the point
        lambda v: v([1.0, 2.0]),
        lambda v: v("a b"),
        lambda v: v.spawn(2),
        lambda v: v.generate_state(8),
        lambda v: v.filled().sum(),
        lambda v: v["new"],
        lambda v: v.search("text"),
        lambda v: v.search(b"text"),
        lambda v: v.isoformat(),
        lambda v: v + v,
    ]
    for action in actions:
        with contextlib.suppress(Exception):
            action(value)
        if type(value) in (list, dict, set):
            for item in value:
                with contextlib.suppress(Exception):
                    action(item)


GROUPS: dict[str, tuple[Callable[[], list[Any]], Callable[[Any], None]]] = {
    "functions": (functions, use_plainly),
    "standard": (standard, use_plainly),
    "numbers": (numbers, use_plainly),
    "sparse": (sparse, use_sparse),
    "interpolators": (interpolators, use_interpolator),
    "frames": (frames, use_frame),
    "marks": (marks, use_frame),
}


def main(group: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.signal(signal.SIGVTALRM, bark)
    warnings.simplefilter("ignore")
    make, use = GROUPS[group]
    counts: collections.Counter[str] = collections.Counter()
    for value in make():
        for plain, views in versions(value):
            signal.setitimer(signal.ITIMER_VIRTUAL, 2.0)
            try:
                counts[outcome(plain, views, use)] += 1
            except BaseException:
                sys.stderr.write(f"{type(value)}: {plain}\n")
                raise
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
