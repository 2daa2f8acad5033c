"""Splines, interpolators and frozen distributions give the same numbers, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.codec import encode
from holdfast.codec.distributions import _distributions
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported

interpolate = pytest.importorskip("scipy.interpolate")
stats = pytest.importorskip("scipy.stats")

X = np.array([0.0, 1, 2.5, 4, 5, 7])
Y = np.stack([X**2, np.sin(X)], axis=1)
AT = np.array([-1.0, 0, 0.3, 2.5, 6.9, 7, 9, np.nan])
SPLINES = {
    "BSpline": interpolate.BSpline(np.arange(10.0), np.arange(6.0), 3),
    "BSpline, not beyond": interpolate.BSpline(np.arange(10.0), np.eye(6), 3, extrapolate=False),
    "BSpline, periodic": interpolate.BSpline(np.arange(10.0), X, 3, extrapolate="periodic"),
    "BSpline, complex": interpolate.BSpline(np.arange(10.0), X * 1j, 3),
    "BSpline, made": interpolate.make_interp_spline(X, Y, k=5),
    "PPoly": interpolate.PPoly(np.ones((3, 5)), X, extrapolate=False),
    "PPoly, falling": interpolate.PPoly(np.ones((3, 5, 2)), X[::-1].copy()),
    "BPoly": interpolate.BPoly(np.ones((3, 5)), X),
    "CubicSpline": interpolate.CubicSpline(X, Y.T, axis=1),
    "CubicHermiteSpline": interpolate.CubicHermiteSpline(X, Y, Y),
    "PchipInterpolator": interpolate.PchipInterpolator(X, Y),
    "Akima1DInterpolator": interpolate.Akima1DInterpolator(X, Y),
}
LINES = {
    **{
        kind: interpolate.interp1d(X, Y, kind=kind, axis=0, bounds_error=False)
        for kind in ("linear", "nearest", "nearest-up", "previous", "next", "zero", "slinear")
    },
    "quadratic": interpolate.interp1d(X, Y.T, kind="quadratic", bounds_error=False),
    "cubic": interpolate.interp1d(X, X**3, kind="cubic", fill_value=(0, 1), bounds_error=False),
    "order 5": interpolate.interp1d(X, X**3, kind=5, fill_value="extrapolate"),
    "beyond": interpolate.interp1d(X, X**3, fill_value="extrapolate"),
    "previous, beyond": interpolate.interp1d(X, Y.T, kind="previous", fill_value="extrapolate"),
    "of whole numbers": interpolate.interp1d(np.arange(3), [1, 2, 3], bounds_error=False),
    "unsorted": interpolate.interp1d(X[::-1], Y, axis=0, fill_value=[1, 2], bounds_error=False),
    "with gaps": interpolate.interp1d(
        X, np.where(X == 4, np.nan, X), kind="cubic", bounds_error=False
    ),
    "of one point": interpolate.interp1d([1.0], [2.0], kind="nearest", fill_value="extrapolate"),
}


@pytest.mark.parametrize("name", SPLINES)
def test_splines(name: str, round_trip) -> None:
    spline = SPLINES[name]
    again, twice, knots = round_trip([spline, spline, spline.c])
    assert again is twice
    assert again.c is knots
    assert type(again) is type(spline)
    assert (again.axis, again.extrapolate) == (spline.axis, spline.extrapolate)
    for order in (0, 1):
        assert again(AT, order).tobytes() == spline(AT, order).tobytes()
    assert again.antiderivative()(AT).tobytes() == spline.antiderivative()(AT).tobytes()


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str, round_trip) -> None:
    line = LINES[name]
    again = round_trip({"line": line})["line"]
    assert type(again) is type(line)
    assert vars(again).keys() == vars(line).keys()
    assert again(AT).tobytes() == line(AT).tobytes()
    assert again(AT).shape == line(AT).shape
    assert (again.bounds_error, again.axis, again._kind) == (
        line.bounds_error,
        line.axis,
        line._kind,
    )
    assert again.x.dtype == line.x.dtype


def test_bounds_are_still_an_error(round_trip) -> None:
    again = round_trip(interpolate.interp1d(X, X))
    with pytest.raises(ValueError, match="above the interpolation range"):
        again(8)


def test_a_spline_with_an_attribute_of_its_own_is_refused(registry) -> None:
    spline = interpolate.BSpline(np.arange(10.0), np.arange(6.0), 3)
    spline.note = 1
    with pytest.raises(Unsupported, match=r"^list\[0\]: a BSpline has the attribute 'note'"):
        encode([spline], registry)


FROZEN = [
    stats.norm(),
    stats.norm(1, scale=2),
    stats.loguniform(1e-4, 1e2),
    stats.uniform(loc=-1, scale=np.float32(3)),
    stats.gamma(np.array([1.5, 2])),
    stats.t(3.5),
    stats.randint(1, 40),
    stats.poisson(mu=3, loc=1),
    stats.binom(10, 0.3),
]


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda item: f"{item.dist.name}{item.args}")
def test_frozen_distributions(frozen, round_trip) -> None:
    again = round_trip(frozen)
    assert type(again) is type(frozen)
    assert type(again.dist) is type(frozen.dist)
    assert again.random_state is frozen.random_state is np.random.mtrand._rand
    assert list(map(repr, again.args)) == list(map(repr, frozen.args))
    assert again.kwds == frozen.kwds
    assert again.cdf(1.5).tobytes() == frozen.cdf(1.5).tobytes()
    draws = [item.rvs(size=2, random_state=3).tolist() for item in (again, frozen)]
    assert draws[0] == draws[1]


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_random_state_that_was_given_is_kept_and_shared(make, round_trip) -> None:
    one, two = stats.norm(), stats.randint(1, 9)
    one.random_state = two.random_state = make(5)
    one.rvs(3)
    first, second = round_trip([one, two])
    assert first.random_state is second.random_state
    assert [first.rvs(2).tolist(), second.rvs(2).tolist()] == [
        one.rvs(2).tolist(),
        two.rvs(2).tolist(),
    ]


def test_every_distribution_of_scipy_is_known_by_its_name() -> None:
    table = _distributions()
    assert len(table) > 100
    own = {item.name for item in table.values()}
    assert {name for name in own if name not in table} == set()


class Own(stats.rv_continuous):
    """A user's distribution under one of scipy's names."""

    def _pdf(self, x):
        return x * 0 + 1


@pytest.mark.parametrize(
    ("frozen", "words"),
    [
        (Own(name="norm", a=0, b=1)(), "not one of scipy's own"),
        (Own(name="mine", a=0, b=1)(), "not one of scipy's own"),
        (type(stats.norm)(name="norm", a=-1.0)(), "not one of scipy's own"),
        (stats.norm([1, 2]), "parameter of the distribution 'norm' is a list"),
    ],
    ids=range(4),
)
def test_other_distributions_are_refused(frozen, words: str, registry) -> None:
    with pytest.raises(Unsupported, match=words) as caught:
        encode({"c": frozen}, registry, label="search")
    assert str(caught.value).startswith("search['c']: ")
    assert "\nTry: " in str(caught.value)


@pytest.mark.parametrize(
    ("type_id", "changes", "error"),
    [
        ("scipy.interpolate.BSpline", {"k": -1}, Corrupt),
        ("scipy.interpolate.BSpline", {"k": 5}, ValueError),
        ("scipy.interpolate.BSpline", {"t": np.arange(10.0)[::-1].copy()}, ValueError),
        ("scipy.interpolate.BSpline", {"t": np.full(10, np.nan)}, ValueError),
        ("scipy.interpolate.BSpline", {"c": np.arange(5.0)}, ValueError),
        ("scipy.interpolate.BSpline", {"c": np.arange(6)}, Corrupt),
        ("scipy.interpolate.BSpline", {"c": np.arange(6.0, dtype="f4")}, Corrupt),
        ("scipy.interpolate.BSpline", {"axis": 1}, Corrupt),
        ("scipy.interpolate.BSpline", {"extrapolate": "always"}, Corrupt),
    ],
)
def test_forged_splines_are_refused(type_id, changes, error, registry) -> None:
    spec = registry.by_id[type_id]
    spline = SPLINES["BSpline"]
    fields = {"t": spline.t, "c": spline.c, "k": 3, "extrapolate": True, "axis": 0}
    assert spec.build(fields)(2.5) == spline(2.5)
    with pytest.raises(error):
        spec.build({**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "rv_histogram"}, EnvironmentMismatch),
        ({"name": "randint"}, Corrupt),
        ({"args": ("1",)}, Corrupt),
        ({"args": (1, 2, 3)}, TypeError),
        ({"kwds": {"shape": 1}}, TypeError),
        ({"random_state": 5}, Corrupt),
    ],
)
def test_forged_distributions_are_refused(changes, error, registry) -> None:
    fields = {"name": "norm", "args": (), "kwds": {}, "random_state": None}
    with pytest.raises(error):
        registry.by_id["scipy.stats.rv_continuous_frozen"].build({**fields, **changes})
