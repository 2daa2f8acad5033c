"""Forged node tables: always an error of ours or a harmless value, never a crash or a bomb."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from holdfast.codec import TYPES, audit, decode, encode
from holdfast.codec.nodes import CONTAINERS, LEAVES, TENSOR_KINDS
from holdfast.codec.registry import Registry, TypeSpec
from holdfast.codec.tensors import ITEMSIZE, TensorData, TensorView
from holdfast.errors import Corrupt, EnvironmentMismatch, HoldfastError
from holdfast.record import Content, Structure

KINDS = sorted(LEAVES | TENSOR_KINDS | CONTAINERS)


class Model:
    """Stands for an estimator: filled by ``__dict__``, so cycles may pass through it."""


REGISTRY = Registry.of(
    [
        *TYPES,
        TypeSpec(
            id="test.Model",
            locate=lambda: Model,
            classes=(f"{__name__}:Model",),
            encode=vars,
            fields=frozenset({"a", "b"}),
            required=frozenset({"a"}),
        ),
    ]
)


def rich_example() -> Any:
    model = Model()
    table = np.empty((2, 2), dtype=object, order="F")
    table[...] = [[None, "x"], [[1], model]]
    frame = pd.DataFrame({"n": [1.5, 2], "s": ["a", None], "c": pd.Categorical(["u", "v"])})
    frame["i"] = pd.array([1, None], dtype="Int64")
    frame["t"] = pd.to_datetime(["2026-01-01", "2026-01-02"]).tz_localize("UTC")
    vars(model)["a"] = [model, table, frame]
    vars(model)["b"] = {
        1: True, "k": ..., None: 2**70, (1, 2.5): "\ud800", b"b": bytearray(b"c"),
        np.float32(1): {1, "m", frozenset({2})}, 1j: slice(1, None, 2), 9: range(1, 9, 2),
        "kinds": (int, np.float64, np.dtype("M8[s]"), np.str_("u"), np.bytes_(b"s\0")),
        "columns": [[*range(9)], [0.5] * 9, ["t"] * 9], "order": OrderedDict(z=1, a=[]),
        "vocabulary": dict(zip("abcdefghi", range(9), strict=True)),
        "arrays": [
            np.arange(6.0).reshape(2, 3).T, np.array(["ab", "c"]), np.array([True, False]),
            np.zeros(2, [("x", "i1"), ("y", "?"), ("z", "U2", (2,))]), np.array(["2026"], "M8[D]"),
            np.array([1 + 2j]), np.zeros((0, 3), ">i2"), np.array(b"x"),
        ],
        "random": [
            np.random.RandomState(1), np.random.default_rng(2),
            *(np.random.Generator(kind(3)) for kind in (np.random.Philox, np.random.SFC64)),
            np.random.Generator(np.random.MT19937(4)),
        ],
        "raw": TensorData("BF16", (2,), lambda: memoryview(b"abcd")), "series": frame["n"],
    }  # fmt: skip
    return model


def views_of(tensors: dict[str, TensorData]) -> dict[str, TensorView]:
    return {
        name: TensorView(data.dtype, data.shape, memoryview(bytes(data.load())))
        for name, data in tensors.items()
    }


ENCODED = encode(rich_example(), REGISTRY)
VIEWS = views_of(ENCODED.tensors)
PLAIN = msgspec.to_builtins(ENCODED.structure)
COUNT = len(PLAIN["nodes"])


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """Fail what takes 2 s of CPU time: a bomb, since every table here is small."""

    def bark(*_: object) -> None:
        pytest.fail("a small table took 2 s")

    before = signal.signal(signal.SIGVTALRM, bark)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def attempt(plain: Any, views: dict[str, TensorView]) -> HoldfastError | None:
    """Read a table as a load does; return the refusal, or None for a value that can be kept."""
    with watchdog():
        try:
            structure = msgspec.convert(plain, Structure)
            value = decode(structure, views, REGISTRY, audit(structure, views, REGISTRY))
        except msgspec.ValidationError as error:
            return Corrupt(str(error))  # as Document.decode says it
        except (Corrupt, EnvironmentMismatch) as error:
            return error
        with contextlib.suppress(HoldfastError):
            encode(value, REGISTRY)
        return None


def refused(
    nodes: list[Any], views: dict[str, TensorView] | None = None, **rest: Any
) -> HoldfastError:
    error = attempt({"nodes": nodes, **rest}, views or {})
    assert error is not None, "it was built"
    return error


def with_node(index: int, node: Any) -> Any:
    nodes = list(PLAIN["nodes"])
    nodes[index] = node
    return {**PLAIN, "nodes": nodes}


def mutations(value: Any, own: int) -> Iterator[Any]:
    """Yield versions of a part of a node that differ from it in one place."""
    wrong = [None, True, 0, -1, own, COUNT, 2**53 - 1, 0.5, "", "x", "0x0", "1e999", "ff"]
    wrong += [[], [0], {}, {"dtype": 1}]
    if isinstance(value, list | tuple):
        items = list(value)
        for i, item in enumerate(items[:4]):
            yield [*items[:i], *items[i + 1 :]]
            yield [*items[:i], item, *items[i:]]
            yield from ([*items[:i], new, *items[i + 1 :]] for new in mutations(item, own))
        yield [*items, *items]
        yield items[::-1]
    elif isinstance(value, dict):
        for key, item in value.items():
            rest = {name: part for name, part in value.items() if name != key}
            yield rest
            yield {**rest, "__class__": item}
            yield {**rest, "a b": item}
            yield from ({**rest, key: new} for new in mutations(item, own))
    yield from (new for new in wrong if type(new) is not type(value) or new != value)


def test_the_example_has_every_kind_and_reads_back() -> None:
    kinds = {node[0] for node in PLAIN["nodes"]}
    assert set(KINDS) == kinds
    structure = msgspec.convert(PLAIN, Structure)
    model = decode(structure, VIEWS, REGISTRY, audit(structure, VIEWS, REGISTRY))
    assert model.a[0] is model
    assert model.a[1][1, 1] is model
    assert bytes(model.b["raw"].data) == b"abcd"


def every_node() -> Iterator[Any]:
    """Yield all places; those of nodes with the fields of two before them are slow."""
    met: Counter[Any] = Counter()
    for index, node in enumerate(PLAIN["nodes"]):
        like = (node[0], node[1] if node[0] == "object" else tuple(map(type, node[1:])))
        met[like] += 1
        marks = [pytest.mark.slow] if met[like] > 2 else []
        yield pytest.param(index, marks=marks, id=f"{index}-{node[0]}")


@pytest.mark.parametrize("index", list(every_node()))
def test_every_field_of_every_node_forged(index: int) -> None:
    node = PLAIN["nodes"][index]
    outcomes = [attempt(with_node(index, new), VIEWS) for new in mutations(node, index)]
    outcomes += [attempt(with_node(index, [kind, *node[1:]]), VIEWS) for kind in KINDS]
    refusals = [error for error in outcomes if error is not None]
    assert len(refusals) > 20
    assert all(error.message for error in refusals)


@pytest.mark.parametrize("field", ["types", "nodes", "root"])
def test_the_table_itself_forged(field: str) -> None:
    short = PLAIN[field] if field != "nodes" else [["none"]]
    for new in mutations(short, COUNT):
        attempt({**PLAIN, field: new}, VIEWS)
    for new in (-1, COUNT, True, 0.0, None, "0"):
        assert attempt({**PLAIN, "root": new}, VIEWS) is not None


@pytest.mark.parametrize("name", VIEWS)
def test_every_tensor_forged(name: str) -> None:
    view = VIEWS[name]
    size = len(view.data)
    lies = [
        TensorView(dtype, (size // width,), view.data)
        for dtype, width in ITEMSIZE.items()
        if dtype != view.dtype and size % width == 0
    ]
    lies += [TensorView(view.dtype, shape, view.data) for shape in ((*view.shape, 1), (2**40, 0))]
    lies += [TensorView(view.dtype, (2**40,), view.data), TensorView(view.dtype, (), view.data)]
    for filler in (0x00, 0x7F, 0x80, 0xFF):
        lies.append(TensorView(view.dtype, view.shape, memoryview(bytes([filler]) * size)))
    outcomes = [attempt(PLAIN, {**VIEWS, name: lie}) for lie in lies]
    assert any(outcomes) or name == "b.raw"  # any tensor may be a buffer for an object to judge
    assert attempt(PLAIN, {key: item for key, item in VIEWS.items() if key != name})


def test_what_belongs_to_nothing_is_refused() -> None:
    extra = next(iter(VIEWS.values()))
    assert "belongs to nothing" in attempt(PLAIN, {**VIEWS, "spare": extra}).message
    spare = {**PLAIN, "nodes": [*PLAIN["nodes"], ["none"]]}
    assert "not reachable" in attempt(spare, VIEWS).message
    island = {**PLAIN, "nodes": [*PLAIN["nodes"], ["list", [COUNT]]]}
    assert "not reachable" in attempt(island, VIEWS).message
    unused = {**PLAIN, "types": [*PLAIN["types"], "pandas.Series"]}
    assert "listed twice" in attempt(unused, VIEWS).message


def test_one_tensor_in_two_places_is_refused() -> None:
    view = TensorView("U8", (2,), memoryview(b"ab"))
    error = refused([["list", [1, 2]], ["bytes", "t"], ["array", "t", {}]], {"t": view})
    assert "used twice" in error.message


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "user.Thing", "", "pandas.DataFrame ", "pandas.Dat\u0430Frame"],
)
def test_unknown_types_are_another_environment_and_never_imported(name: str) -> None:
    error = refused([["object", 0, {}]], types=[name])
    assert isinstance(error, EnvironmentMismatch)
    assert error.hint


def tower(kind: str, levels: int, *, width: int = 1) -> list[Any]:
    """Return nodes 0 to ``levels``, each holding the next ``width`` times, above one None."""
    return [*([kind, [i + 1] * width] for i in range(levels)), ["none"]]


@pytest.mark.parametrize("kind", ["tuple", "frozenset", "slice"])
@pytest.mark.parametrize("levels", [101, 20_000])
@pytest.mark.parametrize("holder", ["set", "frozenset", "dict"])
def test_keys_deeper_than_the_stack(kind: str, levels: int, holder: str) -> None:
    width = 3 if kind == "slice" else 1
    nodes = tower(kind, levels, width=width)
    top = len(nodes)
    nodes.append([holder, [0, top - 1] if holder == "dict" else [0]])
    assert "nested too deeply" in refused(nodes, root=top).message


@pytest.mark.parametrize("kind", ["tuple", "frozenset"])
def test_keys_that_unroll_to_two_to_the_n(kind: str) -> None:
    nodes = tower("tuple", 60, width=2)
    if kind == "frozenset":
        for i in range(0, 60, 2):
            nodes[i] = ["frozenset", [i + 1]]
    for holder in ("set", "frozenset"):
        nodes = [*nodes[:61], [holder, [0]]]
        assert "nested too deeply" in refused(nodes, root=61).message


def test_many_keys_that_share_one_big_part() -> None:
    big = ["tuple", [1] * 100_000]
    keys = [["tuple", [0, i]] for i in range(2, 402)]
    nodes = [big, ["none"], *([["int", i] for i in range(400)]), *keys]
    nodes.append(["set", list(range(402, 802))])
    assert "nested too deeply" in refused(nodes, root=802).message


def test_two_equal_keys_of_different_nodes() -> None:
    pair = [["dict", [1, 3, 2, 3]], ["str", "k"], ["str", "k"], ["none"]]
    assert "same key twice" in refused(pair).message
    for one, two in ((["int", 1], ["bool", True]), (["float", "1.0"], ["int", 1])):
        assert "same member twice" in refused([["set", [1, 2]], one, two]).message


@pytest.mark.parametrize("kind", ["tuple", "frozenset", "slice", "range"])
def test_a_thing_that_cannot_hold_itself(kind: str) -> None:
    refs = [0, 0, 0] if kind in ("slice", "range") else [0]
    refused([[kind, refs]])
    refused([["tuple", [1]], [kind, [0] * len(refs)]])
    refused([["set", [1]], [kind, [1] * len(refs)]])
    refused([["dict", [1, 0]], [kind, [0, 1, 1][-len(refs) :]]])
    assert attempt({"nodes": [["tuple", [1]], ["list", [0]]]}, {}) is None


@pytest.mark.parametrize(
    "holder", [["set", [1]], ["dict", [1, 2]], ["frozenset", [1]], ["ordereddict", [1, 2]]]
)
@pytest.mark.parametrize("key", [["list", []], ["dict", []], ["set", []], ["objects", [0], [], {}]])
def test_a_mutable_key(holder: list[Any], key: list[Any]) -> None:
    nodes = [holder, key, ["none"]] if "dict" in holder[0] else [holder, key]
    assert "unhashable" in refused(nodes).message


def test_an_object_built_of_itself() -> None:
    refused([["object", 0, {"index": 0, "values": 0, "name": 0}]], types=["pandas.Series"])
    fields = {"bit_generator": 1, "state": 0}
    refused([["object", 0, fields], ["str", "PCG64"]], types=["numpy.Generator"])


def column(dtype: str, count: int) -> dict[str, TensorView]:
    return {"T": TensorView(dtype, (count,), memoryview(bytes(count * ITEMSIZE[dtype])))}


WORDS = ["strings", ["a", "b", "c"]]
TEXT_DICTS = {
    "the same key twice": ([["textdict", [1, 2]], ["strings", ["a", "b", "a"]], WORDS], None),
    "is longer than argument": ([["textdict", [1, 2]], WORDS, ["strings", ["a"] * 4]], None),
    "is shorter than argument": ([["textdict", [1, 2]], WORDS, ["ints", "T"]], column("I8", 2)),
    "(textdict) is malformed": ([["textdict", [1, 2]], ["ints", "T"], WORDS], column("I8", 3)),
}


@pytest.mark.parametrize("words", TEXT_DICTS)
def test_a_text_dictionary_that_contradicts_itself(words: str) -> None:
    nodes, views = TEXT_DICTS[words]
    assert words in refused(nodes, views).message


@pytest.mark.parametrize(
    "values",
    [
        ["list", []], ["tuple", []], ["dict", []], ["set", []], ["str", "abc"], ["none"],
        ["textdict", [1, 1]], ["textdict", [0, 2]], ["object", 0, {"a": 1}],
        ["objects", [0], [], {}],
    ],
    ids=lambda node: node[0],
)  # fmt: skip
def test_a_text_dictionary_of_anything_else(values: list[Any]) -> None:
    types = ["test.Model"] if values[0] == "object" else []
    for nodes in (
        [["textdict", [1, 2]], WORDS, values],
        [["textdict", [2, 1]], WORDS, values],
    ):
        assert "node 0 (textdict) is malformed" in refused(nodes, types=types).message


def test_a_text_dictionary_of_itself_or_of_too_much() -> None:
    for refs in (
        [0, 0],
        [0, 1],
        [1, 0],
        [1],
        [1, 1, 1],
        [],
        [1, 2],
        [1, -1],
        [1, True],
        "11",
        None,
    ):
        assert "(textdict) is malformed" in refused([["textdict", refs], WORDS]).message
    assert refused([["textdict", [1, 1], {}], WORDS])
    assert refused([["textdict", [1, 2]], WORDS, ["ints", "T"]], column("U64", 3))
    assert refused([["textdict", [1, 2]], WORDS, ["floats", "T"]], column("F32", 3))


def test_a_text_dictionary_is_no_key_and_may_share_its_parts() -> None:
    nodes = [["dict", [1, 3]], ["textdict", [2, 2]], WORDS, ["none"]]
    assert "unhashable" in refused(nodes).message
    shared = [["list", [1, 2, 1]], ["textdict", [2, 2]], WORDS]
    structure = msgspec.convert({"nodes": shared}, Structure)
    first, words, again = decode(structure, {}, REGISTRY, audit(structure, {}, REGISTRY))
    assert first is again
    assert (first, words) == ({"a": "a", "b": "b", "c": "c"}, ["a", "b", "c"])
    words.append("d")
    assert list(first) == ["a", "b", "c"]


HUGE = [
    [["objects", [2**40], [], {}]],
    [["objects", [2**62, 0, 2**62], [], {}]],
    [["objects", [1] * 33, [1], {}], ["none"]],
    [["objects", [-1, -1], [1], {}], ["none"]],
    [["objects", [True], [1], {}], ["none"]],
    [["range", [1, 1, 2]], ["int", 1], ["int", 0]],
    [["range", [1, 1, 2]], ["int", 1], ["str", "1"]],
    [["scalar", "<U999999999", "00"]],
    [["scalar", "|V999999999", ""]],
    [["scalar", "<U1", "ffffff7f"]],
    [["scalar", "<M8[9999999999D]", "0" * 16]],
    [["scalar", {"names": [], "formats": [], "offsets": [], "itemsize": 0}, ""]],
    [["dtype", "O"]],
    [["dtype", {"base": "<f8", "shape": [2**31, 2**31]}]],
    [["dtype", {"base": "<f8", "shape": [True]}]],
    [["dtype", {"names": ["a"], "formats": ["<f8"], "offsets": [2**40], "itemsize": 2**41}]],
    [["dtype", {"names": ["a", "a"], "formats": ["|u1"] * 2, "offsets": [0, 1], "itemsize": 2}]],
    [["dtype", {"names": [1], "formats": ["|u1"], "offsets": [0], "itemsize": 1}]],
    [["dtype", {"names": "a", "formats": ["|u1"], "offsets": [0], "itemsize": 1}]],
    [["dtype", {"names": ["a"], "formats": ["|u1"], "offsets": ["0"], "itemsize": 1}]],
    [["dtype", {"names": ["a"], "formats": ["|u1"], "offsets": [0], "itemsize": -1}]],
    [["dtype", {"names": ["a"], "formats": ["<f8"], "offsets": [-8], "itemsize": 8}]],
    [["int", "0x" + "0" * 10]],
    [["int", "9" * 5000]],
    [["float", "1_0"]],
    [["complex", "1"]],
    [["wtf8", "ff"]],
    [["nptype", "record"]],
    [["builtin", "eval"]],
    [["builtin", ["int"]]],
    [["eval", "1"]],
    [[["none"]]],
    [[]],
]


@pytest.mark.parametrize("nodes", HUGE, ids=lambda nodes: f"{nodes[0]!r:.60}")
def test_impossible_leaves(nodes: list[Any]) -> None:
    assert refused(nodes).message


def test_a_dtype_within_a_dtype_within_a_dtype() -> None:
    text: Any = "|u1"
    for _ in range(400):
        text = {"base": text, "shape": [1]}
    assert "unknown dtype" in refused([["dtype", text]]).message


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "options"),
    [
        ("U32", (1, 1), b"\xff\xff\xff\x7f", {"dtype": "<U1"}),
        ("U32", (1, 1), b"\x7f\xff\xff\xff", {"dtype": ">U1"}),
        ("U8", (1, 4), b"\xff\xff\xff\x7f", {"dtype": {
            "names": ["u"], "formats": ["<U1"], "offsets": [0], "itemsize": 4}}),
        ("U8", (1, 2), b"\x02\x00", {"dtype": {
            "names": ["u"], "formats": [{"base": "|b1", "shape": [2]}], "offsets": [0],
            "itemsize": 2}}),
        ("BOOL", (2,), b"\x00\xff", {}),
        ("F32", (3,), b"", {}),
        ("F32", (2**53,), b"1234", {}),
        ("F64", (2**40, 0, 2**40), b"", {}),
        ("F32", (1,) * 65, b"1234", {}),
        ("F32", (1,), b"1234", {"dtype": "<f8"}),
        ("F32", (1,), b"1234", {"order": "C"}),
        ("F32", (1,), b"1234", {"readonly": 1}),
        ("F32", (1,), b"1234", {"readonly": False}),
        ("F32", (1,), b"1234", {"allow_pickle": True}),
        ("F32", (3,), b"123412341234", {"dtype": "<c8"}),
        ("U8", (8,), b"12345678", {"dtype": "|O"}),
        ("BF16", (2,), b"1234", {}),
    ],
    ids=lambda value: f"{value!r:.30}",
)  # fmt: skip
def test_arrays_that_lie(dtype: str, shape: tuple[int, ...], data: bytes, options: Any) -> None:
    view = TensorView(dtype, shape, memoryview(data))
    assert isinstance(refused([["array", "t", options]], {"t": view}), Corrupt)


class Forged:
    """Encoded as if it were a random generator."""

    def __init__(self, name: str, state: Any) -> None:
        self.bit_generator = name
        self.state = state


FORGER = Registry.of(
    [
        TypeSpec(
            id="numpy.Generator",
            locate=lambda: Forged,
            classes=(f"{__name__}:Forged",),
            encode=vars,
        )
    ]
)
STATES = [
    *(("MT19937", "pos", pos) for pos in (625, -1, 2**31, 2**63, 2**70, None, [1], "0")),
    *(("MT19937", "key", key) for key in (None, [], np.zeros(623, "u4"), 5)),
    *(("Philox", "buffer_pos", position) for position in (5, -1, 2**40, None, "1")),
    *(("Philox", "uinteger", value) for value in (-1, 2**80, None)),
    *(("Philox", "buffer", value) for value in (None, "x", np.zeros(3, "u8"))),
    *(("PCG64", "has_uint32", value) for value in (2**40, "x", None)),
    *(("PCG64", "state", value) for value in (None, {}, 1, {"state": -1, "inc": 2**130})),
    *(("SFC64", "state", value) for value in (None, {}, {"state": np.zeros(3, "u8")})),
    ("SFC64", "bit_generator", "PCG64"),
]


@pytest.mark.parametrize(("name", "key", "value"), STATES)
def test_random_states_out_of_range(name: str, key: str, value: Any) -> None:
    state = np.random.Generator(getattr(np.random, name)(1)).bit_generator.state
    del state["bit_generator"]
    if key in state["state"] and key != "state":
        state["state"] = {**state["state"], key: value}
    else:
        state[key] = value
    encoded = encode(Forged(name, state), FORGER)
    plain = msgspec.to_builtins(encoded.structure)
    assert isinstance(attempt(plain, views_of(encoded.tensors)), Corrupt)


@pytest.mark.parametrize("name", ["os", "PCG64 ", "BitGenerator", 5, None, ["PCG64"]])
def test_bit_generators_come_from_a_closed_list(name: Any) -> None:
    encoded = encode(Forged(name, {}), FORGER)
    error = attempt(msgspec.to_builtins(encoded.structure), {})
    assert "unknown bit generator" in str(error)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([*KINDS, "t", "<f8", "0x1f"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "dtype", "order", "names"]), inner, max_size=3)
    ),
    max_leaves=6,
)
REFS = st.lists(st.integers(0, 7), max_size=4)
NODES = (
    st.tuples(st.sampled_from(KINDS), JUNK, JUNK)
    | st.tuples(st.sampled_from(KINDS), JUNK)
    | st.tuples(st.sampled_from(KINDS), REFS)
    | st.tuples(st.just("objects"), REFS, REFS, JUNK)
    | st.just(("none",))
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=st.lists(NODES, min_size=1, max_size=8), root=st.integers(-1, 8))
def test_any_table_at_all(nodes: list[Any], root: int) -> None:
    types = ["test.Model"] if any(node[0] == "object" for node in nodes) else []
    view = TensorView("F64", (2,), memoryview(bytes(16)))
    attempt({"nodes": nodes, "root": root, "types": types}, {"t": view})
    attempt({"nodes": nodes, "root": root, "types": types}, {})


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_several_nodes_forged_at_once(data: st.DataObject) -> None:
    plain = {**PLAIN, "nodes": list(PLAIN["nodes"])}
    for _ in range(data.draw(st.integers(1, 3))):
        one, two = (data.draw(st.integers(0, COUNT - 1)) for _ in range(2))
        nodes = plain["nodes"]
        how = data.draw(st.sampled_from(["swap", "copy", "refs", "junk"]))
        if how == "swap":
            nodes[one], nodes[two] = nodes[two], nodes[one]
        elif how == "copy":
            nodes[one] = nodes[two]
        elif how == "junk":
            nodes[one] = data.draw(NODES)
        elif isinstance(nodes[one][-1], list):
            nodes[one] = [*nodes[one][:-1], [two] * len(nodes[one][-1])]
    attempt(plain, VIEWS)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_content_document_with_changed_bytes(data: st.DataObject) -> None:
    text = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b'0129,[]"{}a-'))
    try:
        structure = Content.decode(bytes(text)).structure
    except Corrupt:
        return
    attempt(msgspec.to_builtins(structure), VIEWS)


CONTENT = Content(framework="python", structure=ENCODED.structure).encode()


@pytest.mark.parametrize("depth", [10, 500, 5_000, 500_000])
def test_a_document_that_is_only_depth(depth: int) -> None:
    nodes = b"[" * depth + b"]" * depth
    text = b'{"format":"holdfast/1","framework":"x","structure":{"nodes":[[%b]]}}' % nodes
    with watchdog():
        try:
            structure = Content.decode(text).structure
        except Corrupt:
            return
        with pytest.raises(Corrupt):
            audit(structure, {}, REGISTRY)
