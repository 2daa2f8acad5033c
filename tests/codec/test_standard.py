"""Values of the standard library and numpy's further classes come back the same."""

from __future__ import annotations

import datetime as dt
import enum
import pickle
import re
import uuid
from argparse import Namespace
from collections import Counter, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from holdfast.codec import TYPES, audit, decode, encode
from holdfast.codec.registry import Registry
from holdfast.codec.standard import enum_spec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.record import Structure

EAST = dt.timezone(dt.timedelta(hours=5, minutes=30, microseconds=1))
VALUES = [
    re.compile(r"(?u)\b\w\w+\b"),
    re.compile(rb"[a-z]+", re.IGNORECASE | re.DOTALL),
    re.compile(r"(?i)x  # said", re.VERBOSE | re.ASCII),
    re.compile("\ud800"),
    dt.date.min,
    dt.date.max,
    dt.datetime.max,  # noqa: DTZ901 - naive is the point
    dt.datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 3, 3, 4, 5, 6, 7, tzinfo=EAST),
    dt.time(23, 59, 59, 999_999, tzinfo=EAST, fold=1),
    dt.time(),
    dt.timedelta.min,
    dt.timedelta.max,
    dt.timedelta(microseconds=-1),
    dt.timezone(-dt.timedelta(hours=5), "EST"),
    dt.timezone(dt.timedelta(0), "Z"),
    *map(Decimal, ["0", "-0", "1.50", "-1E+400", "1E-999999", "NaN", "-Infinity"]),
    Fraction(-2, 3),
    Fraction(10**40, 7),
    uuid.UUID(int=2**127),
    uuid.UUID("538c2830-e882-11f1-8cbe-02fc00000001"),
    PurePosixPath("/a/b/.."),
    PurePosixPath(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!r:.50}")
def test_a_value_comes_back_the_same(value, round_trip) -> None:
    (again, key) = round_trip([value, {value: None}])
    assert type(again) is type(value)
    assert (repr(again), again.__reduce__()) == (repr(value), value.__reduce__())
    assert list(map(repr, key)) == [repr(value)]


def test_what_equality_does_not_see_is_kept_too(round_trip) -> None:
    moment = round_trip(dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1))
    assert moment.fold == 1
    assert moment.tzinfo is ZoneInfo("Europe/Berlin")
    assert round_trip(dt.UTC) is dt.UTC
    known = uuid.uuid1()
    assert round_trip(known).is_safe is known.is_safe
    for text in ("1.500", "-sNaN123"):
        assert str(round_trip(Decimal(text))) == text


def test_containers_keep_kind_order_members_and_sharing(round_trip) -> None:
    shared = [1]
    graph = {
        "deque": deque([shared, 2, 3], maxlen=3),
        "open": deque(range(20)),
        "empty": deque(maxlen=0),
        "lists": defaultdict(list, {2: shared, "1": [], None: [3]}),
        "plain": defaultdict(None, {True: 1}),
        "nested": defaultdict(dict, {(1, 2): defaultdict(int, a=1)}),
        "counts": Counter({"b": 2, "a": -1, 5: 0.5}),
        "space": SimpleNamespace(a=shared, b=SimpleNamespace()),
        "arguments": Namespace(a=shared, depth=2),
    }
    again = round_trip(graph)
    assert again == graph
    attributes = {"space", "arguments"}
    for name, value in graph.items():
        assert type(again[name]) is type(value)
        assert list(map(repr, vars(value) if name in attributes else value)) == list(
            map(repr, vars(again[name]) if name in attributes else again[name])
        )
    assert [again[name].maxlen for name in ("deque", "open", "empty")] == [3, None, 0]
    again["deque"].append(4)
    assert list(again["deque"]) == [2, 3, 4]
    assert again["lists"]["new"] == []
    assert again["plain"].default_factory is None
    assert again["nested"][1, 2].default_factory is int
    assert again["lists"][2] is again["space"].a


def test_a_namespace_may_hold_itself(round_trip) -> None:
    space = SimpleNamespace(name="x")
    space.me = [space]
    again = round_trip(space)
    assert again.me[0] is again


def test_attributes_that_a_container_gained_are_refused(registry) -> None:
    counter = Counter("ab")
    counter.note = 1
    with pytest.raises(Unsupported, match=r"^dict\['x'\]: a Counter has the attribute 'note'"):
        encode({"x": counter}, registry)


def test_paths_go_through_containers_as_one_would_write_them(registry) -> None:
    with pytest.raises(Unsupported) as caught:
        encode({"x": defaultdict(list, {"k": deque([1, print])})}, registry, label="model")
    assert str(caught.value).startswith("model['x']['k'][1] is the function print")


@pytest.mark.parametrize("parents", [0, 3])
def test_seeds_keep_their_state_and_what_they_gave_out(parents, round_trip) -> None:
    seed = np.random.SeedSequence([3, 2**40], pool_size=6)
    for _ in range(parents):
        (_, seed) = seed.spawn(2)
    seed.spawn(5)
    again = round_trip(seed)
    assert again.state == seed.state
    assert again.n_children_spawned == 5
    assert again.generate_state(9).tolist() == seed.generate_state(9).tolist()
    assert [child.spawn_key for child in again.spawn(2)] == [
        child.spawn_key for child in seed.spawn(2)
    ]
    fresh = np.random.SeedSequence()
    assert round_trip(fresh).entropy == fresh.entropy


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.Philox, np.random.MT19937])
def test_generators_spawn_what_the_original_would(kind, round_trip) -> None:
    generator = np.random.Generator(kind(np.random.SeedSequence(7)))
    generator.spawn(2)
    generator.random(3)
    again = round_trip(generator)
    assert again.bit_generator.state["state"] is not generator.bit_generator.state["state"]
    ours, theirs = (item.spawn(1)[0].random(5).tolist() for item in (again, generator))
    assert ours == theirs
    assert again.random(5).tolist() == generator.random(5).tolist()


MASKED = [
    np.ma.MaskedArray([1.5, np.nan, 3], mask=[True, False, False], fill_value=-1),
    np.ma.MaskedArray(np.arange(6).reshape(2, 3).T, mask=False, hard_mask=True),
    np.ma.MaskedArray(5),
    np.ma.MaskedArray([], dtype="U3"),
    np.ma.MaskedArray(["a", "b"], mask=[0, 1], fill_value="?"),
    np.ma.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")], mask=[(True, False)]),
    np.ma.array([None, [1]], dtype=object, mask=[1, 0]),
    np.ma.masked_where([True, False], [1, 2]),
]


@pytest.mark.parametrize("array", MASKED, ids=lambda array: f"{array.dtype}{array.shape}")
def test_masked_arrays(array, round_trip) -> None:
    again, twice = round_trip([array, array])
    assert again is twice
    assert type(again) is np.ma.MaskedArray
    assert (again.dtype, again.shape, again.hardmask) == (array.dtype, array.shape, array.hardmask)
    assert again.flags.f_contiguous == array.flags.f_contiguous
    assert repr(again) == repr(array)
    assert again.data.tolist() == array.data.tolist() or np.isnan(array.data).any()
    assert (again.mask is np.ma.nomask) == (array.mask is np.ma.nomask)
    assert np.array_equal(again.mask, array.mask)
    assert (again._fill_value is None) == (array._fill_value is None)
    assert pickle.dumps(again.filled()) == pickle.dumps(array.filled()) or array.dtype == object


def test_the_masked_constant_stays_the_constant(round_trip) -> None:
    assert round_trip([np.ma.masked])[0] is np.ma.masked


def test_matrices(round_trip) -> None:
    matrix = np.arange(6.0).reshape(2, 3).T.view(np.matrix)
    again = round_trip(matrix)
    assert type(again) is np.matrix
    assert again.flags.f_contiguous
    assert again.tolist() == matrix.tolist()


class Shade(enum.Enum):
    DARK = 1
    BLACK = 1  # noqa: PIE796 - an alias is the point
    LIGHT = "x"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


def test_members_of_a_described_enumeration_are_kept_by_name() -> None:
    specs = [enum_spec(kind, f"user.{kind.__name__}") for kind in (Shade, Level, Mode)]
    registry = Registry.of([*TYPES, *specs])
    graph = [Shade.DARK, Shade.BLACK, Shade.LIGHT, Level.LOW, Mode.READ, {Shade.DARK: 1}]
    structure = encode(graph, registry).structure
    again = decode(structure, {}, registry, audit(structure, {}, registry))
    assert all(one is two for one, two in zip(again[:5], graph, strict=False))
    assert again == graph
    with pytest.raises(Unsupported, match="combination of flags"):
        encode([Mode.READ | Mode.WRITE], registry)
    nodes = [["object", 0, {"name": 1}], ["str", "mro"]]
    forged = Structure(types=("user.Shade",), nodes=nodes, root=0)
    with pytest.raises(Corrupt, match="no member 'mro'"):
        decode(forged, {}, registry, audit(forged, {}, registry))


@pytest.mark.parametrize(
    ("type_id", "fields", "error"),
    [
        ("re.Pattern", {"pattern": ["str", "("], "flags": ["int", 32]}, Corrupt),
        ("re.Pattern", {"pattern": ["str", "(" * 5000], "flags": ["int", 32]}, Corrupt),
        ("re.Pattern", {"pattern": ["str", "x" * 10_001], "flags": ["int", 32]}, Corrupt),
        ("re.Pattern", {"pattern": ["str", "x"], "flags": ["int", 128]}, Corrupt),
        ("zoneinfo.ZoneInfo", {"key": ["str", "../../etc/passwd"]}, Corrupt),
        ("zoneinfo.ZoneInfo", {"key": ["str", "/etc/localtime"]}, Corrupt),
        ("zoneinfo.ZoneInfo", {"key": ["str", "Atlantis/Port"]}, EnvironmentMismatch),
        ("decimal.Decimal", {"value": ["str", "1_0"]}, Corrupt),
        ("collections.deque", {"items": ["strings", ["a"]], "maxlen": ["int", 0]}, Corrupt),
        ("collections.deque", {"items": ["str", "abc"], "maxlen": ["none"]}, Corrupt),
    ],
)
def test_forged_values_are_refused(type_id, fields, error, build) -> None:
    refs = {name: position + 1 for position, name in enumerate(fields)}
    nodes = [["object", 0, refs], *fields.values()]
    with pytest.raises(error):
        build(Structure(types=(type_id,), nodes=nodes, root=0), {})
