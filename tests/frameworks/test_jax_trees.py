import collections
import dataclasses
import subprocess
import sys
import typing

import numpy as np
import pytest

import holdfast
from holdfast import frameworks
from holdfast.errors import (
    EnvironmentMismatch,
    PartialLoad,
    Unsupported,
    UsageError,
)

jax = pytest.importorskip("jax", reason="jax is not installed")
jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
from holdfast.frameworks import jax as adapter  # noqa: E402 - after the check above
from holdfast.frameworks.jax import arrays as jax_arrays  # noqa: E402 - same


class Point(typing.NamedTuple):
    x: typing.Any
    y: typing.Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Weights:
    w: typing.Any
    name: str = dataclasses.field(metadata={"static": True}, default="w")


@dataclasses.dataclass
class Registered:
    w: typing.Any


@pytest.fixture
def keep(tmp_path):
    """Save and load again."""

    def run(model, load=None, **options):
        version = holdfast.save(model, "m", store=tmp_path / "store", **options)
        return version, holdfast.load("m", store=tmp_path / "store", **(load or {}))

    return run


@pytest.fixture
def load(tmp_path):
    return lambda **options: holdfast.load("m", store=tmp_path / "store", **options)


def same(one, other):
    return adapter.difference(one, other, frameworks.registry()) is None


@pytest.mark.keeps("JAX", "pytrees of arrays and typed random keys", "jax")
def test_a_tree_comes_back_bit_by_bit_with_its_containers(keep):
    tree = {
        "layers": [{"w": jnp.arange(6.0).reshape(2, 3)}, (jnp.ones(3, jnp.bfloat16), None)],
        "ordered": collections.OrderedDict(b=jnp.zeros((0, 3)), a=jnp.asarray(True)),
        "numpy": np.arange(3),
        "step": 7,
        "name": "run",
        "numbered": {0: jnp.float32(1.5)},
    }
    _, again = keep(tree)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert same(tree, again)
    assert list(again) == list(tree)
    assert type(again["numpy"]) is np.ndarray
    assert isinstance(again["layers"][0]["w"], jax.Array)


@pytest.mark.parametrize("name", sorted(jax_arrays.DTYPES))
def test_every_dtype_of_jax_comes_back(keep, name):
    kind = getattr(jnp, name, None)
    if kind is None or name in jax_arrays.WIDE:  # the wide ones: see the test in a process apart
        return
    array = jnp.asarray(np.array([[0, 1], [1, 0]]), dtype=name)
    _, again = keep([array])
    assert (again[0].dtype, again[0].shape) == (array.dtype, (2, 2))
    assert np.asarray(again[0]).tobytes() == np.asarray(array).tobytes()


@pytest.mark.parametrize("value", [1, 2.5, 1 + 2j])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_a_weak_type_stays_weak(keep, value, shape):
    array = jnp.full(shape, value)
    assert array.weak_type
    _, again = keep([array, jnp.asarray(array, array.dtype)])
    assert [item.weak_type for item in again] == [True, False]
    assert again[0].dtype == array.dtype
    assert np.array_equal(again[0], array)


def test_weak_numbers_keep_every_bit(keep):
    bits = np.array([0x7FC00005, 0x80000000, 0x7F800000, 0x00000001], np.uint32).view(np.float32)
    like = jnp.asarray(1.0)
    weak = jax.vmap(lambda number: jax.lax.full_like(like, number))(jnp.asarray(bits))
    assert weak.weak_type
    _, again = keep([weak])
    assert np.asarray(again[0]).tobytes() == bits.tobytes()


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_random_keys_go_on_where_they_were(keep, impl):
    keys = jax.random.split(jax.random.key(7, impl=impl), (2, 3))
    _, again = keep({"keys": keys})
    assert again["keys"].dtype == keys.dtype
    assert again["keys"].shape == (2, 3)
    drawn = [jax.random.normal(each[0, 0], (4,)) for each in (keys, again["keys"])]
    assert np.array_equal(*drawn)


def test_one_array_in_two_places_stays_one(keep):
    shared = jnp.ones(3)
    _, again = keep({"a": shared, "b": shared, "c": jnp.ones(3)})
    assert again["a"] is again["b"]
    assert again["a"] is not again["c"]


def test_a_tree_is_kept_as_state_only_and_says_so(keep):
    version, _ = keep({"w": jnp.ones(3)})
    assert version.proof == "state only"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: {"f": lambda x: x, "w": jnp.ones(1)}, "tree['f'] is a lambda"),
        (lambda: jax.eval_shape(lambda: {"w": jnp.ones(1)}), "tree['w']: ShapeDtypeStruct is"),
        (lambda: [jnp.ones(1), object()], "tree[1] is"),
        (lambda: [jnp.zeros(1, "int1")], "tree[0]: an array has the dtype int1"),
    ],
)
def test_what_has_no_values_is_refused_with_its_place(keep, make, words):
    with pytest.raises(Unsupported) as caught:
        keep(make())
    assert words in str(caught.value)


def test_an_array_that_jax_traces_is_refused(keep):
    def step(x):
        keep({"w": x})
        return x

    with pytest.raises(Unsupported, match="traces"):
        jax.jit(step)(jnp.ones(2))


def test_an_array_whose_memory_was_given_away_is_refused(keep):
    array = jnp.ones(4)
    jax.jit(lambda x: x + 1, donate_argnums=0)(array)
    with pytest.raises(Unsupported, match="deleted"):
        keep({"w": array})


def test_what_is_loaded_can_be_donated_and_the_store_stays_whole(keep, load):
    _, again = keep({"w": jnp.arange(1 << 18, dtype=jnp.float32)})
    jax.jit(lambda x: x * 2 + 1, donate_argnums=0)(again["w"]).block_until_ready()
    third = load(verify="always")
    assert np.array_equal(third["w"], np.arange(1 << 18))


class TestInto:
    def test_named_tuples_and_dataclasses_of_the_user_load_into_a_tree(self, keep, load):
        with pytest.raises(EnvironmentMismatch, match=r"Point.*no code"):
            keep({"p": Point(jnp.arange(2.0), 3)})
        again = load(into={"p": Point(jnp.zeros(2), 0)})
        assert type(again["p"]) is Point
        assert same(again["p"].x, jnp.arange(2.0))
        assert again["p"].y == 3

    def test_the_same_names_are_enough(self, keep, load):
        with pytest.raises(EnvironmentMismatch):
            keep({"p": Point(jnp.arange(2.0), jnp.ones(1))})
        again = load(into={"p": {"x": jnp.zeros(2), "y": jax.ShapeDtypeStruct((1,), jnp.float32)}})
        assert same(again, {"p": {"x": jnp.arange(2.0), "y": jnp.ones(1)}})

    def test_settings_that_differ_are_told(self, keep, load, caplog):
        with pytest.raises(EnvironmentMismatch):
            keep(Weights(jnp.ones(2), name="first"))
        again = load(into=Weights(jnp.zeros(2), name="second"))
        assert again.name == "second"
        assert "name='first'" in caplog.text

    def test_a_registered_class_needs_no_into(self, keep):
        holdfast.register(Registered)
        _, again = keep({"r": Registered(jnp.ones(2))})
        assert type(again["r"]) is Registered
        assert same(again["r"].w, jnp.ones(2))

    def test_every_leaf_is_accounted_for(self, keep, load):
        keep({"a": jnp.ones(2), "b": jnp.ones((2, 3)), "c": jnp.ones(1)})
        target = {"a": jnp.zeros(2), "b": jnp.zeros((3, 2)), "d": jnp.zeros(1)}
        with pytest.raises(PartialLoad) as caught:
            load(into=target)
        said = str(caught.value)
        for words in (
            "1 of 3 leaves matched. Nothing was changed.",
            "Not stored: d.",
            "Stored but not in the target: c.",
            "Different: b (stored float32[2,3], target float32[3,2]).",
        ):
            assert words in said
        assert same(target, {"a": jnp.zeros(2), "b": jnp.zeros((3, 2)), "d": jnp.zeros(1)})

    @pytest.mark.parametrize(
        "target",
        [
            {"a": jnp.zeros(2, jnp.int32)},
            {"a": None},
            {"a": "text"},
            {"a": 1.0},
            {"a": jax.random.key(0)},
            jnp.zeros(2),
            {},
        ],
        ids=["dtype", "none", "text", "number", "keys", "array", "empty"],
    )
    def test_a_leaf_of_another_kind_is_refused(self, keep, load, target):
        keep({"a": jnp.ones(2)})
        with pytest.raises(PartialLoad):
            load(into=target)

    def test_a_count_may_be_a_number_or_an_array(self, keep, load):
        keep({"step": jnp.asarray(5, jnp.int32), "epoch": 2})
        again = load(into={"step": 0, "epoch": jnp.asarray(0)})
        assert isinstance(again["step"], jax.Array)
        assert (int(again["step"]), int(again["epoch"])) == (5, 2)
        with pytest.raises(PartialLoad, match="step"):
            load(into={"step": 0.5, "epoch": 0})

    def test_numpy_targets_get_numpy_arrays(self, keep, load):
        keep({"a": jnp.ones(2), "b": np.ones(2)})
        again = load(into={"a": np.zeros(2, np.float32), "b": np.zeros(2)})
        assert type(again["a"]) is np.ndarray
        assert again["b"].dtype == np.float64

    def test_a_prefix_is_found_and_renamed(self, keep, load):
        keep({"params": {"dense": {"w": jnp.ones(2), "b": jnp.ones(1)}}})
        target = {"dense": {"w": jnp.zeros(2), "b": jnp.zeros(1)}}
        with pytest.raises(PartialLoad) as caught:
            load(into=target)
        assert 'rename="params.->"' in caught.value.hint
        again = load(into=target, rename="params.->")
        assert same(again, {"dense": {"w": jnp.ones(2), "b": jnp.ones(1)}})
        with pytest.raises(UsageError, match="no stored name"):
            load(into=target, rename="model.->")
        with pytest.raises(UsageError, match="into="):
            load(rename="params.->")

    def test_two_leaves_of_one_name_are_refused(self, keep, load):
        keep({"a": {"b": jnp.ones(1)}, "c": jnp.ones(1)})
        with pytest.raises(UsageError, match=r"name 'a\.b'"):
            load(into={"a": {"b": jnp.zeros(1)}, "a.b": jnp.zeros(1)})


def test_a_device_is_chosen_by_name_or_refused(keep, load):
    _, again = keep({"w": jnp.ones(3)}, load={"device": "cpu"})
    assert {device.platform for device in again["w"].devices()} == {"cpu"}
    for name in ("tpu:3", "cpu:99", "cpu:x", "nothing"):
        with pytest.raises(UsageError, match="no device"):
            load(device=name)


SHARDED = """
import sys, jax, jax.numpy as jnp, numpy as np, holdfast
mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
over = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
array = jax.device_put(jnp.arange(8.0), over)
version = holdfast.save({"w": array}, "m", store=sys.argv[1])
assert version.record.environment["sharded_over"] == 4
again = holdfast.load("m", store=sys.argv[1])["w"]
assert len(again.devices()) == 1 and np.array_equal(again, array)
into = {"w": jax.device_put(jnp.zeros(8), over)}
again = holdfast.load("m", store=sys.argv[1], into=into)["w"]
assert again.sharding == over and np.array_equal(again, array)
into = {"w": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=over)}
assert holdfast.load("m", store=sys.argv[1], into=into)["w"].sharding == over
second = holdfast.load("m", store=sys.argv[1], device="cpu:2")["w"]
assert next(iter(second.devices())).id == 2
"""

WIDE = """
import sys, jax, jax.numpy as jnp, numpy as np, holdfast
jax.config.update("jax_enable_x64", True)
tree = {"d": jnp.asarray(np.array([1 / 3])), "n": jnp.asarray(2**40), "weak": jnp.asarray(0.1),
        "c": jnp.asarray([1j / 3]), "u": jnp.asarray(np.uint64(2**63)), "f": jnp.ones(2, "float32")}
holdfast.save(tree, "m", store=sys.argv[1])
holdfast.save({"f": jnp.ones(2, "float32")}, "narrow", store=sys.argv[1])
again = holdfast.load("m", store=sys.argv[1])
for name, array in tree.items():
    assert again[name].dtype == array.dtype and again[name].weak_type == array.weak_type, name
    assert np.asarray(again[name]).tobytes() == np.asarray(array).tobytes()
"""

NARROW = """
import sys, jax, jax.numpy as jnp, numpy as np, holdfast
holdfast.load("narrow", store=sys.argv[1])
try:
    holdfast.load("m", store=sys.argv[1])
except holdfast.errors.EnvironmentMismatch as error:
    assert "jax_enable_x64" in error.hint
else:
    raise SystemExit("it loaded")
with jax.enable_x64(True):
    wide = jnp.asarray(np.array([1 / 3]))
holdfast.save({"w": wide}, "apart", store=sys.argv[1])
again = holdfast.load("apart", store=sys.argv[1])["w"]
assert again.dtype == np.float64 and float(again[0]) == 1 / 3
"""


def python(code, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**__import__("os").environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_sharded_array_is_kept_whole_and_spread_again_where_the_target_is(tmp_path):
    flags = "--xla_force_host_platform_device_count=4"
    python(SHARDED, tmp_path / "store", XLA_FLAGS=flags)


def test_64_bit_numbers_are_never_cut(tmp_path):
    python(WIDE, tmp_path / "store")
    python(NARROW, tmp_path / "store")


def test_owning_needs_a_jax_array_or_something_of_flax():
    assert adapter.owns([{"a": jnp.ones(1)}])
    for value in (None, 1, {}, [np.ones(1)], {"a": {"b": "c"}}, object(), {1: 2, "a": 3}):
        assert not adapter.owns(value)
