import typing

import numpy as np
import pytest

import holdfast
from holdfast import frameworks
from holdfast.errors import EnvironmentMismatch, PartialLoad, Unsupported, UsageError
from holdfast.testing.adapters import AdapterConformance

jax = pytest.importorskip("jax", reason="jax is not installed")
flax = pytest.importorskip("flax", reason="flax is not installed")
import jax.numpy as jnp  # noqa: E402 - after the check above
import optax  # noqa: E402 - same
from flax import linen, nnx  # noqa: E402 - same
from flax.core import FrozenDict  # noqa: E402 - same
from flax.training.dynamic_scale import DynamicScale  # noqa: E402 - same
from flax.training.early_stopping import EarlyStopping  # noqa: E402 - same
from flax.training.train_state import TrainState  # noqa: E402 - same

from holdfast.frameworks import jax as adapter  # noqa: E402 - same

ROWS = np.random.default_rng(0).standard_normal((20, 3), dtype=np.float32)


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(linen.relu(linen.Dense(8)(x)))


class Net(nnx.Module):
    """A class of the user's own: normalisation, dropout, a list of layers, a raw setting."""

    def __init__(self, width, rngs, rate=0.25):
        self.first = nnx.Linear(3, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.deep = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.last = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        x = self.drop(nnx.relu(self.norm(self.first(x))))
        for layer in self.deep:
            x = nnx.gelu(layer(x))
        return self.last(x)


class Own(nnx.Variable):
    pass


def rngs(seed=0):
    return nnx.Rngs(seed)


def equal(one, other):
    """Compare trees leaf by leaf; dictionaries may be in another order."""
    again, live = jax.tree.flatten(one), jax.tree.flatten(other)
    return again[1] == live[1] and same(again[0], live[0])


def same(one, other):
    return adapter.difference(one, other, frameworks.registry()) is None


def answers(model, inputs=ROWS):
    return np.asarray(adapter.predict(model, "call", inputs))


@pytest.fixture
def save(tmp_path):
    return lambda model, **options: holdfast.save(model, "m", store=tmp_path / "store", **options)


@pytest.fixture
def load(tmp_path):
    return lambda **options: holdfast.load("m", store=tmp_path / "store", **options)


def trained(model):
    """Take a few steps, so that statistics and random counts are not the first ones."""
    model.train()
    for _ in range(3):
        model(jnp.asarray(ROWS))
    return model


class TestLinen:
    @pytest.fixture
    def variables(self):
        return Dense().init(jax.random.key(0), jnp.ones((1, 3)))

    @pytest.mark.keeps("Flax", "linen parameters and TrainState", "flax")
    def test_parameters_come_back_as_they_are(self, save, load, variables):
        save(variables)
        again = load()
        assert same(variables, again)
        out = [Dense().apply(each, ROWS) for each in (variables, again)]
        assert np.array_equal(*out)

    def test_frozen_dictionaries_stay_frozen(self, save, load, variables):
        frozen = FrozenDict(variables)
        save({"v": frozen, "none": None})
        again = load()["v"]
        assert type(again) is FrozenDict
        assert same(frozen, again)
        assert hash(jax.tree.structure(again)) == hash(jax.tree.structure(frozen))

    def test_boxed_parameters_keep_their_axes(self, save, load):
        box = linen.Partitioned(jnp.ones((2, 3)), names=("x", None))
        save({"w": box})
        again = load()["w"]
        assert (type(again), again.names, again.mesh) == (linen.Partitioned, ("x", None), None)
        assert same(box, again)

    def test_scales_and_early_stopping_come_back(self, save, load):
        tree = {
            "scale": DynamicScale(scale=jnp.float32(2.0), growth_factor=3.0),
            "stop": EarlyStopping(patience=3).update(0.5),
        }
        save(tree)
        again = load()
        assert same(tree, again)
        assert again["stop"].update(0.7).patience_count == 1

    def test_a_module_is_code_and_refused_with_what_to_save(self, save):
        with pytest.raises(Unsupported) as caught:
            save({"model": Dense()})
        assert "tree['model']" in str(caught.value)
        assert "variables" in caught.value.hint

    def test_a_training_state_needs_one_to_fill(self, save, load, variables):
        def state(seed):
            params = Dense().init(jax.random.key(seed), jnp.ones((1, 3)))["params"]
            return TrainState.create(apply_fn=Dense().apply, params=params, tx=optax.adam(0.1))

        live = jax.jit(lambda s: s.apply_gradients(grads=s.params))(state(0))
        assert save(live).proof == "state only"
        with pytest.raises(EnvironmentMismatch) as caught:
            load()
        assert "into=TrainState.create(" in caught.value.hint
        fresh = state(1)
        again = load(into=fresh)
        assert again.tx is fresh.tx
        assert equal((live.params, live.opt_state), (again.params, again.opt_state))
        assert int(again.step) == 1
        assert fresh.step == 0

    def test_the_parts_of_a_training_state_fill_one_too(self, save, load, variables):
        tx = optax.adam(0.1)
        parts = {"params": variables["params"], "opt_state": tx.init(variables["params"])}
        save({**parts, "step": 5})
        other = jax.tree.map(jnp.zeros_like, variables["params"])
        again = load(into=TrainState.create(apply_fn=None, params=other, tx=tx))
        assert again.step == 5
        assert equal(parts, {"params": again.params, "opt_state": again.opt_state})
        with pytest.raises(PartialLoad, match=r"Stored but not in the target: opt_state"):
            load(into={"params": other})


LIBRARY = {
    "linear": lambda: nnx.Linear(3, 4, rngs=rngs()),
    "half": lambda: nnx.Linear(
        3, 4, use_bias=False, param_dtype=jnp.bfloat16, dtype=np.dtype("float32"), rngs=rngs()
    ),
    "mlp": lambda: nnx.Sequential(
        nnx.Linear(3, 8, rngs=rngs()),
        nnx.BatchNorm(8, rngs=rngs()),
        nnx.relu,
        nnx.Dropout(0.5, rngs=rngs(4)),
        nnx.Linear(8, 2, precision=jax.lax.Precision.HIGH, rngs=rngs(1)),
        jnp.tanh,
    ),
    "streams": lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(params=1, dropout=2)),
    "norms": lambda: nnx.Sequential(
        nnx.LayerNorm(3, epsilon=0.5, rngs=rngs()),
        nnx.RMSNorm(3, rngs=rngs()),
        nnx.GroupNorm(3, num_groups=3, rngs=rngs()),
    ),
    "attention": lambda: nnx.MultiHeadAttention(2, 3, 8, decode=False, rngs=rngs()),
    "lstm": lambda: nnx.RNN(nnx.LSTMCell(3, 4, rngs=rngs())),
    "gru": lambda: nnx.Bidirectional(
        nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs())), nnx.RNN(nnx.SimpleCell(3, 4, rngs=rngs()))
    ),
    "lora": lambda: nnx.LoRALinear(3, 4, lora_rank=2, rngs=rngs()),
}


class TestModules:
    @pytest.mark.parametrize("name", LIBRARY)
    @pytest.mark.keeps("Flax", "nnx modules and optimisers, states and variables", "flax")
    def test_modules_of_flax_itself_come_back_by_themselves(self, save, load, name):
        model = LIBRARY[name]()
        inputs = ROWS if name not in ("attention", "lstm", "gru") else ROWS[:, None, :].repeat(5, 1)
        version = save(model, inputs=inputs)
        assert version.proof == "replayed"
        again = load(replay="always")
        assert type(again) is type(model)
        assert nnx.graphdef(again) == nnx.graphdef(model)
        assert same(model, again)
        assert np.array_equal(answers(model, inputs), answers(again, inputs))
        assert save(again, inputs=inputs).content_id == version.content_id

    def test_made_up_rows_prove_a_module_that_tells_its_width(self, save):
        assert save(LIBRARY["mlp"]()).proof == "replayed on synthetic inputs"
        assert save(nnx.Embed(5, 3, rngs=rngs())).proof == "replayed on synthetic inputs"
        image = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=rngs()), nnx.relu)
        assert save(image).proof == "replayed on synthetic inputs"

    def test_loading_goes_on_with_the_random_numbers(self, save, load):
        model = trained(LIBRARY["mlp"]())
        save(model)
        again = load()
        again.train()
        one, other = (np.asarray(each(jnp.asarray(ROWS))) for each in (model, again))
        assert np.array_equal(one, other)

    def test_calling_changes_neither_mode_nor_state(self, save):
        model = trained(LIBRARY["mlp"]())
        before = nnx.state(nnx.clone(model))
        save(model, inputs=ROWS)
        assert model.layers[3].deterministic is False
        assert same(before, nnx.state(model))
        cells = LIBRARY["lstm"]()
        before = nnx.state(nnx.clone(cells))
        save(cells, inputs=ROWS[:, None, :])
        assert same(before, nnx.state(cells))

    def test_a_lambda_or_a_new_attribute_makes_it_a_module_to_fill(self, save, load):
        for changed in (
            nnx.Sequential(nnx.Linear(3, 4, rngs=rngs()), lambda x: x * 2),
            Net(4, rngs()),
        ):
            save(changed)
            with pytest.raises(EnvironmentMismatch, match="no code"):
                load()
        linear = nnx.Linear(3, 4, rngs=rngs())
        linear.remark = "mine"
        save(linear)
        with pytest.raises(EnvironmentMismatch):
            load()

    def test_a_module_of_the_user_is_filled_in_place(self, save, load):
        live = trained(Net(8, rngs()))
        save(live, inputs=ROWS)
        fresh = Net(8, rngs(9))
        again = load(into=fresh)
        assert again is fresh
        assert same(nnx.state(live), nnx.state(again))
        assert np.array_equal(answers(live), answers(again))

    def test_a_wrong_behaviour_is_refused_though_the_state_fits(self, save, load):
        class Wrong(Net):
            def __call__(self, x):
                return super().__call__(x) + 1

        save(Net(8, rngs()), inputs=ROWS)
        with pytest.raises(holdfast.errors.BehaviourMismatch):
            load(into=Wrong(8, rngs(1)))

    @pytest.mark.parametrize(
        "other", [lambda: Net(9, rngs(1)), lambda: nnx.Linear(3, 8, rngs=rngs())]
    )
    def test_nothing_changes_when_it_does_not_fit(self, save, load, other):
        save(Net(8, rngs()))
        target = other()
        before = nnx.state(nnx.clone(target))
        with pytest.raises(PartialLoad, match=r"Nothing was changed"):
            load(into=target)
        assert same(before, nnx.state(target))

    def test_settings_that_differ_are_told(self, save, load, caplog):
        save(Net(8, rngs(), rate=0.25))
        load(into=Net(8, rngs(1), rate=0.75))
        assert "drop.rate=0.25" in caplog.text
        assert "0.75" in caplog.text

    def test_tied_weights_do_not_load_into_weights_of_their_own(self, save, load):
        class Tied(nnx.Module):
            def __init__(self, *, tied):
                self.one = nnx.Linear(3, 3, rngs=rngs())
                self.two = self.one if tied else nnx.Linear(3, 3, rngs=rngs(1))

        save(Tied(tied=True))
        assert same(nnx.state(load(into=Tied(tied=True))), nnx.state(Tied(tied=True)))
        with pytest.raises(PartialLoad, match=r"Not stored: two\.bias, two\.kernel"):
            load(into=Tied(tied=False))

    def test_a_state_alone_fills_a_module(self, save, load):
        live = Net(4, rngs())
        save(nnx.state(live))
        again = load()
        assert type(again) is nnx.State
        assert same(nnx.state(live), again)
        assert same(nnx.state(load(into=Net(4, rngs(3)))), nnx.state(live))

    def test_a_pure_dictionary_fills_a_module(self, save, load):
        live = Net(4, rngs())
        save(nnx.to_pure_dict(nnx.state(live)))
        assert same(nnx.state(load(into=Net(4, rngs(3)))), nnx.state(live))

    def test_variables_keep_their_class_metadata_and_sharing(self, save, load):
        shared = nnx.Param(jnp.ones(2), tag="mine")
        tree = {"a": shared, "b": [shared], "c": nnx.BatchStat(jnp.zeros(1)), "d": nnx.Cache(3)}
        save(tree)
        again = load()
        assert again["a"] is again["b"][0]
        assert again["a"].tag == "mine"
        assert [type(again[name]) for name in "acd"] == [nnx.Param, nnx.BatchStat, nnx.Cache]
        assert same(tree, again)

    def test_a_variable_class_of_the_user_loads_into_one(self, save, load):
        save({"v": Own(jnp.ones(2))})
        with pytest.raises(EnvironmentMismatch):
            load()
        again = load(into={"v": Own(jnp.zeros(2))})
        assert type(again["v"]) is Own
        assert np.array_equal(again["v"].get_value(), np.ones(2))

    def test_random_streams_come_back(self, save, load):
        streams = nnx.Rngs(3, dropout=4)
        streams.dropout()
        save({"rngs": streams, "w": jnp.ones(1)})
        again = load()["rngs"]
        drawn = [jax.random.key_data(each.dropout()) for each in (streams, again)]
        assert np.array_equal(*drawn)

    def test_code_apart_from_state_is_refused(self, save):
        with pytest.raises(Unsupported, match="GraphDef is"):
            save({"graph": nnx.graphdef(Net(4, rngs())), "w": jnp.ones(1)})

    def test_a_predictor_answers(self, save, tmp_path):
        model = LIBRARY["mlp"]()
        save(model, inputs=ROWS)
        predictor = holdfast.get("m", store=tmp_path / "store").predictor()
        assert np.array_equal(predictor.predict(ROWS[:5]), answers(model, ROWS[:5]))
        with pytest.raises(holdfast.errors.SignatureMismatch):
            predictor.predict(ROWS[:, :2])

    def test_several_inputs_go_by_place_or_by_name(self, save, load):
        class Two(nnx.Module):
            def __init__(self):
                self.layer = nnx.Linear(3, 2, rngs=rngs())

            def __call__(self, x, y):
                return {"sum": self.layer(x + y), "both": (x, y)}

        assert save(Two(), inputs=(ROWS, ROWS * 2)).proof == "state only"
        assert same(nnx.state(load(into=Two())), nnx.state(Two()))
        save(Two(), inputs={"y": ROWS, "x": jnp.asarray(ROWS)})
        load(into=Two(), replay="always")


STATES = {
    "adam": lambda: optax.adam(0.1),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
    "every": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(
        learning_rate=optax.cosine_decay_schedule(0.1, 10)
    ),
    "lbfgs": lambda: optax.lbfgs(memory_size=2),
    "masked": lambda: optax.masked(optax.adam(0.1), {"w": True, "b": False}),
    "several": lambda: optax.multi_transform(
        {"a": optax.adam(0.1), "b": optax.set_to_zero()}, {"w": "a", "b": "b"}
    ),
    "factored": lambda: optax.adafactor(0.1),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, 3), optax.ema(0.9)),
    "lion": lambda: optax.lion(0.1),
    "finite": lambda: optax.apply_if_finite(optax.rmsprop(0.1), 3),
    "plateau": optax.contrib.reduce_on_plateau,
    "free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "muon": lambda: optax.contrib.muon(0.1),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.keeps("optax", "states of its optimisers", "optax")
def test_a_state_of_optax_comes_back_as_its_class(save, load, name):
    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    state = STATES[name]().init(params)
    save(state)
    again = load()
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert same(state, again)


def test_an_optimiser_is_code_and_refused_with_what_to_save(save):
    with pytest.raises(Unsupported, match="its state is data") as caught:
        save({"tx": optax.adam(0.1), "w": jnp.ones(1)})
    assert "opt_state" in caught.value.hint


def test_every_state_in_the_table_is_found_in_this_optax():
    """Those that only older releases have are named, so that a move of one cannot go unseen."""
    gone = set()
    for spec in adapter.optax_states.SPECS:
        try:
            kind = spec.locate()
        except EnvironmentMismatch:
            gone.add(spec.id)
            continue
        assert set(kind._fields) <= spec.fields
    assert gone == {
        "optax.BacktrackingSearchState",
        "optax.MaybeUpdateState",
    }


class TestConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self) -> typing.Any:
        return adapter

    @pytest.fixture
    def model(self) -> typing.Any:
        return LIBRARY["mlp"]()

    @pytest.fixture
    def inputs(self) -> typing.Any:
        return ROWS

    @pytest.fixture
    def other(self) -> typing.Any:
        model = LIBRARY["mlp"]()
        model.layers[0].kernel[...] = model.layers[0].kernel[...] * 2
        return model


class TestTreeConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self) -> typing.Any:
        return adapter

    @pytest.fixture
    def model(self) -> typing.Any:
        params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
        return {"params": params, "state": optax.adam(0.1).init(params), "key": jax.random.key(1)}

    @pytest.fixture
    def other(self) -> typing.Any:
        params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
        return {"params": params, "state": optax.adam(0.1).init(params), "key": jax.random.key(2)}


def test_a_method_that_is_not_there_is_refused():
    with pytest.raises(UsageError):
        adapter.predict({"w": jnp.ones(1)}, "call", ROWS)
