from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as arrays_of

from holdfast.codec import encode

LEAVES = (
    st.none()
    | st.just(...)
    | st.booleans()
    | st.integers()
    | st.integers(2**53 - 3, 2**64 + 3)
    | st.floats().filter(lambda x: x == x).map(float)  # noqa: PLR0124 - Python has one NaN
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
)
SCALARS = st.sampled_from(["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"]).flatmap(
    lambda code: arrays_of.arrays(code, ()).map(lambda array: array[()])
)
HASHABLE = st.recursive(
    LEAVES | SCALARS.filter(lambda x: x == x),  # noqa: PLR0124
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
DTYPES = st.one_of(
    arrays_of.scalar_dtypes(),
    arrays_of.datetime64_dtypes(),
    arrays_of.timedelta64_dtypes(),
    arrays_of.unicode_string_dtypes(max_len=5),
    arrays_of.byte_string_dtypes(max_len=5),
    arrays_of.nested_dtypes(max_itemsize=60),
).filter(lambda dtype: dtype.char not in "gG" and dtype.subdtype is None and not has_titles(dtype))


def has_titles(dtype: np.dtype) -> bool:
    inner = dtype.base
    fields = [inner.fields[name] for name in inner.names or ()]
    return any(len(field) > 2 or has_titles(field[0]) for field in fields)


@st.composite
def any_array(draw: st.DrawFn) -> np.ndarray:
    array = draw(arrays_of.arrays(draw(DTYPES), arrays_of.array_shapes(min_dims=0, min_side=0)))
    array = np.array(array, order=draw(st.sampled_from("CF")))
    array.flags.writeable = draw(st.booleans())
    return array


VALUES = st.recursive(
    HASHABLE | any_array(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=5)
        | st.sets(HASHABLE, max_size=5)
    ),
    max_leaves=15,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(value=VALUES)
def test_any_value_comes_back_the_same(value, round_trip, assert_same_graph) -> None:
    assert_same_graph(value, round_trip(value))


@settings(max_examples=60, deadline=None)
@given(array=any_array())
def test_any_array_comes_back_the_same(array, round_trip, assert_same_graph) -> None:
    assert_same_graph(array, round_trip(array))


@settings(max_examples=50, deadline=None)
@given(items=st.lists(st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans()))
def test_long_lists_of_plain_items_keep_every_type(items, round_trip, assert_same_graph) -> None:
    for kind in (int, float, str, bool):
        alike = [item for item in items if type(item) is kind] * 9
        assert_same_graph(alike, round_trip(alike))
    assert_same_graph(items, round_trip(items))


@st.composite
def graphs(draw: st.DrawFn) -> object:
    """Containers made first and wired afterwards: any sharing and any cycle may occur."""
    makers = st.sampled_from([list, dict, lambda: np.empty(3, dtype=object)])
    shells = [draw(makers)() for _ in range(draw(st.integers(1, 8)))]
    parts: list[object] = [*shells, 1, "x", (shells[0], shells[-1]), slice(None, shells[0])]
    chosen = st.sampled_from(parts)
    for shell in shells:
        if isinstance(shell, list):
            shell.extend(draw(st.lists(chosen, max_size=10)))
        elif isinstance(shell, dict):
            shell.update(draw(st.dictionaries(HASHABLE, chosen, max_size=4)))
        else:
            shell[:] = [draw(chosen) for _ in range(3)]
    return [*shells, *parts[-2:]]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs())
def test_cycles_and_sharing_come_back_as_they_were(graph, round_trip, assert_same_graph) -> None:
    again = round_trip(graph)
    assert_same_graph(graph, again)


@settings(max_examples=50, deadline=None)
@given(members=st.sets(HASHABLE, max_size=12), data=st.data())
def test_sets_are_written_in_one_order(members, data, registry) -> None:
    shuffled: set[object] = set()
    shuffled.update(data.draw(st.permutations(list(members))))
    assert encode(shuffled, registry).structure == encode(members, registry).structure


def test_the_equality_can_fail(assert_same_graph) -> None:
    shared = [1]
    unequal = [
        (1, True),
        (0.0, -0.0),
        ([shared, shared], [[1], [1]]),
        ([[1], [1]], [shared, shared]),
        ({1: 2, 3: 4}, {3: 4, 1: 2}),
        ({1}, {1, 2}),
        ({1}, {True}),
        (np.zeros((2, 2)), np.zeros((2, 2), order="F")),
        (np.zeros(2), np.zeros(2, "f4")),
        (np.zeros(2, ">f8"), np.zeros(2)),
        (np.array([None, [1]], dtype=object), np.array([None, [2]], dtype=object)),
        (np.float32(1), np.float64(1)),
        (np.random.RandomState(1), np.random.RandomState(2)),
        ((1, 2), [1, 2]),
    ]
    for left, right in unequal:
        with pytest.raises(AssertionError):
            assert_same_graph(left, right)
