from __future__ import annotations

import copy
import math
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest

from holdfast.codec import encode
from holdfast.codec.nodes import BUILTINS, NUMPY_TYPES
from holdfast.errors import Unsupported

VALUES = [
    None,
    True,
    ...,
    0,
    -1,
    2**53 - 1,
    2**53,
    -(2**53),
    2**63,
    -(2**200_000),
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    1e16,
    complex(-0.0, math.inf),
    complex(math.nan, -0.0),
    "",
    "nan",
    "\x00\ud800 lone",
    "\U0001f991\uffff",
    b"",
    b"\x00\xff",
    bytearray(b"abc"),
    slice(None, 5, -1),
    slice("a", (1, 2), None),
    range(3, -(10**30), -7),
    range(0),
    (),
    [],
    {},
    set(),
    frozenset(),
    frozenset({1, "a", None, (2, frozenset({3}))}),
    {1, 1.5, "x", b"y", (1,)},
    OrderedDict([("b", 1), ("a", [])]),
    OrderedDict(),
    {True: 1, 2: "two", None: 3, (1, 2): 4, np.float32(1.25): 5, "True": 6, 2.5: 7, b"k": 8},
    {frozenset({1}): {(): {...: 1}}, int: 2, np.float32: 3},
    [True, 1, 1.0, np.float64(1), np.int64(1), np.bool_(1), "1", b"1", 1 + 0j],
    list(range(-5, 5)),
    [2**63 - 1, -(2**63), *range(10)],
    [2**63, *range(10)],
    [0.5, -0.0, math.inf] * 5,
    [0.5, math.nan] * 5,
    [1, 2.0] * 5,
    [True, False] * 5,
    ["a", "", "\x00"] * 5,
    ["a", "\ud800"] * 5,
    np.dtype("float32"),
    np.dtype(">i8"),
    np.dtype(object),
    np.dtype([("a", "<f4", (2, 3)), ("b", "U5")]),
    np.dtype("M8[25s]"),
    list(BUILTINS.values()),
    list(NUMPY_TYPES.values()),
    np.random.RandomState(7),
    *(np.random.Generator(kind(5)) for kind in (np.random.PCG64, np.random.PCG64DXSM)),
    *(np.random.Generator(kind(5)) for kind in (np.random.Philox, np.random.SFC64)),
    np.random.Generator(np.random.MT19937(5)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_a_value_comes_back_the_same(value, round_trip, assert_same_graph) -> None:
    assert_same_graph(value, round_trip(value))
    assert_same_graph([value, {"k": (value,)}], round_trip([value, {"k": (value,)}]))


SCALARS = [
    np.bool_(True),
    np.int8(-5),
    np.uint64(2**64 - 1),
    np.float16(-0.0),
    np.float32(math.nan),
    np.float64(5e-324),
    np.complex64(1 - 2j),
    np.complex128(complex(-0.0, math.inf)),
    np.str_("\x00é\x00"),
    np.str_(""),
    np.str_("\ud800"),
    np.bytes_(b"\x00a\x00\x00"),
    np.bytes_(b""),
    np.datetime64("NaT"),
    np.datetime64("2026-03-03", "D"),
    np.datetime64(7, "25s"),
    np.timedelta64(-3, "us"),
    np.timedelta64("NaT"),
    np.array([1.5], ">f8")[0],
]


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{value.dtype}{value!r}")
def test_a_numpy_scalar_comes_back_the_same(value, round_trip, assert_same_graph) -> None:
    again = round_trip({"value": value})["value"]
    assert_same_graph(value, again)
    assert len(np.asarray(again).tobytes()) == len(np.asarray(value).tobytes())
    if isinstance(value, str | bytes):
        assert str.__eq__(value, again) if isinstance(value, str) else bytes(value) == bytes(again)


DTYPES = [
    *"?bBhHiIlLqQefdFD",
    ">i2",
    ">u8",
    ">f2",
    ">f8",
    ">c16",
    "M8",
    "M8[ns]",
    ">M8[D]",
    "m8[15us]",
    "U1",
    ">U7",
    "S3",
    "V5",
    [("a", "i1"), ("b", ">f8"), ("c", "U3"), ("d", "S2"), ("e", "M8[s]", (2,))],
    np.dtype([("a", "i1"), ("b", [("c", "i1"), ("d", "f8")])], align=True),
    {"names": ["x", "é"], "formats": ["u2", "?"], "offsets": [5, 1], "itemsize": 9},
    [("empty", "S0"), ("x", "i4")],
]
SHAPES = [(), (0,), (1,), (7,), (3, 4), (0, 3), (2, 0, 2), (2, 3, 4)]


def filled(dtype, shape, order="C"):
    """Return an array of that dtype from fixed bytes that are valid for it."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    plain = np.random.default_rng(5).integers(33, 127, size=count * dtype.itemsize, dtype=np.uint8)
    if dtype.kind == "b":
        plain %= 2
    if dtype.kind == "U":
        plain[:] = np.frombuffer(
            (plain.view("<u4") % 0x7F).astype(f"{dtype.byteorder}u4").tobytes(), "u1"
        )
    if dtype.itemsize == 0:
        return np.ndarray(shape, dtype)
    if dtype.fields is None:
        array = np.frombuffer(plain.tobytes(), dtype, count=count).reshape(shape)
        return np.array(array, order=order, copy=True)
    array = np.zeros(shape, dtype, order=order)
    for name in dtype.names:
        inner = array[name]
        inner[...] = filled(inner.dtype, inner.shape)
    return array


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_dtype_and_order(dtype, shape, order, round_trip, assert_same_graph):
    array = filled(dtype, shape, order)
    locked = array.copy(order="K")
    locked.flags.writeable = False
    graph = {"open": array, "locked": locked, "again": [array]}
    assert_same_graph(graph, round_trip(graph))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats(name, round_trip, assert_same_graph) -> None:
    dtype = getattr(pytest.importorskip("ml_dtypes"), name)
    array = np.array([[1.5, -0.0], [math.inf, 448]], dtype=dtype, order="F")
    assert_same_graph([array, array[0, 0]], round_trip([array, array[0, 0]]))


def test_bits_of_floats_in_arrays_are_kept(round_trip) -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF0DEADBEEF0001, 1 << 63, 1], dtype=np.uint64)
    again = round_trip(bits.view(np.float64))
    assert again.view(np.uint64).tolist() == bits.tolist()


def test_views_keep_their_values_and_not_their_memory(round_trip) -> None:
    base = np.arange(24).reshape(4, 6)
    for view in (base[::2, 1:5], base[::-1], base.T[1:], np.broadcast_to(base[0], (3, 6))):
        again = round_trip(view)
        assert again.tolist() == view.tolist()
        assert again.nbytes == view.size * 8


def test_memmaps_come_back_as_plain_arrays(tmp_path, round_trip) -> None:
    mapped = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(3, 2))
    mapped[:] = 1.5
    again = round_trip(mapped)
    assert type(again) is np.ndarray
    assert again.tolist() == mapped.tolist()


def objects(shape, order="C"):
    array = np.empty(shape, dtype=object, order=order)
    for position, index in enumerate(np.ndindex(*shape)):
        array[index] = [None, "text", [1, 2], (3,), np.float32(2), {"k": position}][position % 6]
    return array


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (0, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("writeable", [True, False])
def test_object_arrays(shape, order, writeable, round_trip, assert_same_graph) -> None:
    array = objects(shape, order)
    array.flags.writeable = writeable
    assert_same_graph([array, array], round_trip([array, array]))


def test_padding_of_records_never_reaches_the_file(registry) -> None:
    inner = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    dtype = np.dtype([("x", inner, (2,)), ("y", inner)], align=True)
    dirty = np.frombuffer(b"\xff" * dtype.itemsize * 2, dtype)
    clean = np.zeros(2, dtype)
    for outer in ("x", "y"):
        for name in ("a", "b"):
            clean[outer][name] = dirty[outer][name]
    tensors = [encode(array, registry).tensors for array in (dirty, clean)]
    one, two = (bytes(next(iter(found.values())).load()) for found in tensors)
    assert one == two


def test_bools_are_stored_as_zero_and_one(registry) -> None:
    odd = np.frombuffer(b"\x00\x02\xff\x01", dtype=bool)
    (tensor,) = encode(odd, registry).tensors.values()
    assert bytes(tensor.load()) == b"\x00\x01\x01\x01"


def test_shared_and_circular_references(round_trip, assert_same_graph) -> None:
    shared = [1]
    graph = {"a": shared, "b": (shared, shared), "arrays": [np.arange(3.0)] * 2}
    graph["self"] = graph
    ring = [graph]
    ring.append((ring, {"ring": ring}))
    graph["ring"] = ring
    table = np.empty(2, dtype=object)
    table[:] = [table, graph]
    again = round_trip(table)
    assert_same_graph(table, again)
    assert again[0] is again
    assert again[1]["arrays"][0] is again[1]["arrays"][1]


def test_keys_that_hold_what_holds_them_later(round_trip, assert_same_graph) -> None:
    key = (1, frozenset({(2, "x")}))
    graph = {key: None, "keys": [key, {key}]}
    graph[key] = graph
    assert_same_graph(graph, round_trip(graph))


def test_thirty_thousand_levels(round_trip) -> None:
    deep: object = "bottom"
    for level in range(30_000):
        deep = ([deep], {"k": deep}, (deep, 1))[level % 3]
    again, depth = round_trip(deep), 0
    while again != "bottom" if isinstance(again, str) else True:
        again = again["k"] if isinstance(again, dict) else again[0]
        depth += 1
    assert depth == 30_000


def test_encoding_does_not_change_the_object(registry, assert_same_graph) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    state = np.random.RandomState(3)
    state.standard_normal()  # keeps a second number for the next call
    graph = [objects((2, 3)), filled(">f8", (3, 2), "F"), frame, state, {1: {2, 3}}, slice(1, 2)]
    graph.append(graph)
    before = copy.deepcopy(graph)
    for tensor in encode(graph, registry).tensors.values():
        tensor.load()
    assert_same_graph(before, graph)


@pytest.mark.parametrize(
    "make",
    [
        np.random.RandomState,
        lambda seed: np.random.RandomState(np.random.PCG64(seed)),
        np.random.default_rng,
        lambda seed: np.random.Generator(np.random.MT19937(seed)),
    ],
)
def test_random_states_go_on_where_they_were(make, round_trip) -> None:
    random = make(11)
    random.standard_normal(2)
    random.bytes(3)
    again = round_trip(random)
    assert again.standard_normal(1000).tolist() == random.standard_normal(1000).tolist()
    assert again.bytes(700) == random.bytes(700)


def test_a_number_drawn_ahead_is_kept_or_refused(round_trip, registry) -> None:
    random = np.random.RandomState(1)
    random.standard_normal()
    assert round_trip(random).standard_normal() == random.standard_normal()
    other = np.random.RandomState(np.random.PCG64(1))
    other.standard_normal()
    with pytest.raises(Unsupported, match=r"^randomstate: .* drawn ahead"):
        encode(other, registry)


def test_the_same_sets_give_the_same_table_whatever_their_history(registry) -> None:
    names = [f"name{i}" for i in range(50)]
    forwards, backwards = set(names), set()
    backwards.update(names[::-1])
    assert encode(forwards, registry).structure == encode(backwards, registry).structure
    nested = [frozenset({frozenset(order), 1}) for order in (names, names[::-1])]
    assert encode(nested[0], registry).structure == encode(nested[1], registry).structure
