"""What a round trip lost is found and named by its path, and nothing else is."""

from __future__ import annotations

import copy
import math
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from holdfast.codec import TYPES, first_difference
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.same import _same_bytes


class Own:
    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


REGISTRY = Registry.of(
    [
        *TYPES,
        TypeSpec(
            id="test.Own",
            locate=lambda: Own,
            classes=(f"{__name__}:Own",),
            encode=lambda own: {"kept": own.kept},  # an encoder that forgets the rest
            attributes=True,
            derived=frozenset({"cache"}),
        ),
    ]
)


def difference(live: object, built: object) -> str | None:
    return first_difference(live, built, REGISTRY, label="model")


def locked(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def cells(*items: object) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def generator(seed: int, drawn: int) -> np.random.Generator:
    random = np.random.default_rng(seed)
    random.random(drawn)
    return random


FRAME = pd.DataFrame({"a": [1.5, math.nan], "b": pd.Categorical(["x", "y"])})
MATRIX = scipy.sparse.csr_matrix(np.eye(3))
RECORD = [("a", "i1"), ("b", "f8")]
NAN_BITS = np.array([0x7FF8000000000001], "u8").view("f8")

DIFFERENT = [
    (1, 2, "model was 1 and comes back as 2"),
    (1, True, "model was a int and comes back as a bool"),
    (1, 1.0, "model was a int and comes back as a float"),
    (0.0, -0.0, "model was 0.0 and comes back as -0.0"),
    (math.nan, 1.0, "model was nan and comes back as 1.0"),
    (complex(0.0, 0.0), complex(0.0, -0.0), "model was 0j and comes back as -0j"),
    ("a", "b", "model was 'a' and comes back as 'b'"),
    (b"a", bytearray(b"a"), "model was a bytes and comes back as a bytearray"),
    (2**20_000, 2**20_000 + 1, "model was 0x1000"),
    (None, False, "model was a NoneType and comes back as a bool"),
    ([1, 2], [1], "model had 2 items and comes back with 1"),
    ([1, 2], (1, 2), "model was a list and comes back as a tuple"),
    ([[0], [1, [2]]], [[0], [1, [3]]], "model[1][1][0] was 2 and comes back as 3"),
    ([1, "a"], [True, "a"], "model[0] was a int and comes back as a bool"),
    ({"a": 1}, {"b": 1}, "model has other keys, or in another order"),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "model has other keys, or in another order"),
    ({"a": 1}, {}, "model has other keys"),
    ({1: 0}, {True: 0}, "model has other keys, or in another order"),
    ({0.0: 1}, {-0.0: 1}, "model.keys()[0] was 0.0 and comes back as -0.0"),
    ({(1,): 1}, {(True,): 1}, "model.keys()[0][0] was a int and comes back as a bool"),
    ({np.int8(1): 0}, {1: 0}, "model.keys()[0] was a int8 and comes back as a int"),
    ({"a": {"b c": 1.5}}, {"a": {"b c": 2.5}}, "model['a']['b c'] was 1.5"),
    ({2**20_000: 1.5}, {2**20_000: 2.5}, "model[0x1000"),
    ({"a": 1}, OrderedDict(a=1), "model was a dict and comes back as a OrderedDict"),
    ({1, 2}, {1, 3}, "model has other members"),
    ({1, 2}, {1}, "model has other members"),
    ({1}, {True}, "model[1] was a int and comes back as a bool"),
    ({math.nan}, {1.0}, "model has other members"),
    ({(0.0,)}, {(-0.0,)}, "model[(0.0,)][0] was 0.0 and comes back as -0.0"),
    ({1}, frozenset({1}), "model was a set and comes back as a frozenset"),
    (slice(1, [2]), slice(1, [3]), "model.stop[0] was 2 and comes back as 3"),
    (slice(None, np.zeros(5000)), slice(None, np.r_[1, np.zeros(4999)]), "model.stop comes back"),
    (range(3), range(0, 3, 2), "model.step was 1 and comes back as 2"),
    (np.float32(1), np.float64(1), "model was a float32 and comes back as a float64"),
    (np.float64(0.0), np.float64(-0.0), "model was np.float64(0.0)"),
    (np.datetime64(1, "s"), np.datetime64(1000, "ms"), "model was np.datetime64("),
    (np.bytes_(b"a\0"), np.bytes_(b"a"), "model was np.bytes_(b'a"),
    (np.dtype("f4"), np.dtype(">f4"), "model was dtype('float32')"),
    (np.zeros(2), np.zeros(3), "model was float64[2], is float64[3]"),
    (np.zeros(2, "f4"), np.zeros(2), "model was float32[2], is float64[2]"),
    (np.zeros(2), np.array([0.0, -0.0]), "model comes back with other numbers"),
    (np.array([math.nan]), NAN_BITS, "model comes back with other numbers"),
    (np.zeros(2), locked(np.zeros(2)), "model can be written to before or after"),
    (np.zeros((2, 3), order="F"), np.zeros((2, 3)), "model comes back in another memory order"),
    (np.zeros((2, 3)), np.zeros((2, 3), order="F"), "model comes back in another memory order"),
    (np.array([True]), np.array([False]), "model comes back with other numbers"),
    (np.array([(1, 2.0)], RECORD), np.array([(1, 3.0)], RECORD), "model comes back with other"),
    (cells(1, [2]), cells(1, [3]), "model[1][0] was 2 and comes back as 3"),
    (
        np.array([[1]]).view(np.matrix),
        np.array([[1]]),
        "model was a matrix and comes back as a ndarray",
    ),
    (np.ma.array([1.0]), np.array([1.0]), "model was a MaskedArray and comes back as a ndarray"),
    (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 1]), "model.mask comes back"),
    (np.ma.array([1], fill_value=1), np.ma.array([1], fill_value=2), "model.fill comes back"),
    (deque([1], 3), deque([1], 4), "model.maxlen was 3 and comes back as 4"),
    (
        defaultdict(list),
        defaultdict(dict),
        "model.factory was <class 'list'> and comes back as <class 'dict'>",
    ),
    (re.compile("a"), re.compile("a", re.IGNORECASE), "model.flags was 32 and comes back as 34"),
    (Decimal("1.0"), Decimal("1.00"), "model.value was '1.0' and comes back as '1.00'"),
    (generator(1, 2), generator(1, 3), "model.state['state']['state'] was"),
    (generator(1, 2), generator(2, 2), "model.seed.entropy was 1 and comes back as 2"),
    (np.random.RandomState(1), np.random.RandomState(2), "model.state['state']['key'] comes back"),
    (np.random.mtrand._rand, np.random.RandomState(2), "model loses or gains the attribute"),
    (np.add, np.subtract, "model.name was 'numpy.add' and comes back as 'numpy.subtract'"),
    (FRAME, FRAME.assign(a=[1.5, 2.0]), "model."),
    (FRAME, FRAME[["b", "a"]], "model."),
    (FRAME["b"], FRAME["b"].cat.reorder_categories(["y", "x"]), "model."),
    (MATRIX, MATRIX * 2, "model.data comes back with other numbers"),
    (MATRIX, MATRIX.tocsc(), "model was a csr_matrix and comes back as a csc_matrix"),
    (Own(kept=1, lost=[2]), Own(kept=1), "model loses or gains the attribute 'lost'"),
    (Own(kept=1), Own(kept=1, new=2), "model loses or gains the attribute 'new'"),
    ([Own(kept=1, more={"a": 1.5})], [Own(kept=1, more={"a": 2})], "model[0].more['a'] was a fl"),
]


@pytest.mark.parametrize(("live", "built", "words"), DIFFERENT, ids=lambda v: type(v).__name__)
def test_a_difference_is_named_by_its_path(live, built, words) -> None:
    found = difference(live, built)
    assert found is not None
    assert found.startswith(words)
    assert "\n" not in found
    nested = first_difference({"x": [live]}, {"x": [built]}, REGISTRY, label="")
    assert nested is not None
    assert nested.startswith(words.replace("model", "['x'][0]", 1))


SAME = [
    *(pair[0] for pair in DIFFERENT if pair[0] is not np.random.mtrand._rand),
    [math.nan, -0.0, complex(math.nan, -0.0), 2**20_000, "\ud800"],
    {math.nan: 1, (math.nan, 1): 2, np.float64("nan"): 3},
    {math.nan, frozenset({frozenset({math.nan})}), Decimal("NaN")},
    {Own(kept=1), Own(kept=2)},
    {Own(kept=1): [1]},
    cells(None, cells(1, "a")),
    np.frombuffer(b"\x00\x02\xff\x01", dtype=bool).copy(),
    np.zeros((4, 6))[::2, 1:5],
    np.array([1 + 2j, math.nan]),
    np.array(["2026", "NaT"], "M8[Y]"),
    pd.Index(["a", None]),
    pd.array([1, None], "Int64"),
    scipy.sparse.coo_array(np.eye(2)),
    np.random.RandomState(np.random.PCG64(1)),
    Own(kept=math.nan, cache=object()),
]


@pytest.mark.parametrize("value", SAME, ids=lambda v: type(v).__name__)
def test_nothing_is_found_in_a_copy(value) -> None:
    assert difference(value, copy.deepcopy(value)) is None
    assert difference([value, value], copy.deepcopy([value, value])) is None


def test_padding_of_records_is_no_value() -> None:
    inner = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    dtype = np.dtype([("x", inner, (2,)), ("y", inner)], align=True)
    clean = np.zeros(2, dtype)
    dirty = np.frombuffer(b"\x3f" * dtype.itemsize * 2, dtype)
    for name in ("a", "b"):
        for place in ("x", "y"):
            clean[place][name] = dirty[place][name]
    assert dirty.tobytes() != clean.tobytes()
    assert difference(dirty.copy(), clean) is None


def test_a_map_is_an_array(tmp_path) -> None:
    mapped = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(3, 2))
    assert difference(mapped, np.zeros((3, 2), "f4")) is None
    assert difference([mapped], [np.ones((3, 2), "f4")]) == "model[0] comes back with other numbers"


@pytest.mark.parametrize("make", [list, dict, set, lambda: np.zeros(1), lambda: Own(kept=1)])
def test_sharing_that_is_lost_or_gained_is_found(make) -> None:
    shared = make()
    assert difference([shared, shared], [make(), make()]) == (
        "model[1] was one object in two places and comes back as two"
    )
    assert difference([make(), make()], [shared, shared]) == (
        "model[1] was an object of its own and comes back as one with another"
    )


def copy_of(items: tuple[object, ...]) -> tuple[object, ...]:
    return (*items, None)[:-1]


def test_whether_tuples_are_one_object_means_nothing() -> None:
    one = (1, "a" * 3)
    assert difference([one, one], [copy_of(one), copy_of(one)]) is None


def test_what_is_shared_on_one_side_is_compared_all_the_same() -> None:
    pair = (1, [2])
    assert difference([pair, pair], [(1, [2]), (1, [3])]) == (
        "model[1][1] was one object in two places and comes back as two"
    )
    numbers = (1, 2.5)
    assert difference([numbers, numbers], [(1, 2.5), (1, 3.5)]) == (
        "model[1][1] was 2.5 and comes back as 3.5"
    )


def ring(last: object) -> list[object]:
    items: list[object] = [1, {}]
    items[1] = {"up": items, "own": Own(kept=items, last=last)}
    return items


def test_cycles_end() -> None:
    assert difference(ring(1), ring(1)) is None
    assert difference(ring(1), ring(2)) == "model[1]['own'].last was 1 and comes back as 2"


def deep(levels: int, bottom: object) -> object:
    for level in range(levels):
        bottom = ([bottom], {"k": bottom}, (bottom,), slice(bottom), Own(kept=bottom))[level % 5]
    return bottom


def test_no_depth_needs_the_stack() -> None:
    left, same, other = (deep(50_000, [bottom]) for bottom in (1, 1, 2))
    before = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + 50)
    try:
        assert first_difference(left, same, REGISTRY, label="model") is None
        found = first_difference(left, other, REGISTRY, label="model")
    finally:
        sys.setrecursionlimit(before)
    assert found is not None
    assert found.endswith("was 1 and comes back as 2")
    assert len(found) < 10_000


def graph(size: int) -> object:
    shared = [Own(kept=i, more=[i, str(i)]) for i in range(size)]
    ladder: object = [0]
    for _ in range(size):
        ladder = [ladder, ladder]  # as a tree it would have 2 ** size parts
    sets = [{float(i), (i, str(i))} for i in range(size)]
    return [shared, shared[::-1], ladder, {(i, str(i)): i for i in range(size)}, sets]


def calls(size: int) -> int:
    """Return how many functions a comparison of two graphs calls."""
    left, right = graph(size), graph(size)
    events: Counter[str] = Counter()
    sys.setprofile(lambda _frame, event, _what: events.update((event,)))
    try:
        found = difference(left, right)
    finally:
        sys.setprofile(None)
    assert found is None
    return events["call"] + events["c_call"]


def test_work_grows_with_the_graph_and_not_faster() -> None:
    small, large = calls(300), calls(2_400)
    assert small > 300
    assert large < 8 * 1.2 * small


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.arange(12.0).reshape(3, 4)),
        (np.arange(24.0).reshape(4, 6)[::2, ::2], np.arange(24.0).reshape(4, 6)[::2, ::2].copy()),
        (np.zeros(3, "V0"), np.zeros(3, "V0")),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.arange(7, dtype="i1"), np.arange(7, dtype="i1")),
        (np.arange(2**20 + 3), np.arange(2**20 + 3)),
    ],
    ids=["order", "gaps", "no width", "no rows", "odd bytes", "several blocks"],
)
def test_bytes_are_compared_whatever_their_layout(one, other) -> None:
    assert _same_bytes(one, other)
    if one.nbytes:
        changed = other.copy()
        changed.reshape(-1)[-1] += 1
        assert not _same_bytes(one, changed)


@pytest.mark.parametrize("texts", [["no", "yes"], ["a"], ["abc"] * 4, ["abcdefg"] * 2])
def test_texts_whose_bytes_are_whole_eights_only_together(texts):
    one = np.array(texts)
    other = np.array([*texts[:-1], texts[-1][::-1] + "x"])[:, None].astype(one.dtype)[:, 0]
    assert _same_bytes(one, one.copy())
    assert _same_bytes(one, other) == (texts[-1][::-1] == texts[-1])
