"""Training that stops, is saved, and goes on in a new state as if it had not stopped."""

import numpy as np
import pytest

import holdfast
from holdfast.errors import EnvironmentMismatch

jax = pytest.importorskip("jax", reason="jax is not installed")
flax = pytest.importorskip("flax", reason="flax is not installed")
import jax.numpy as jnp  # noqa: E402 - after the check above
import optax  # noqa: E402 - same
from flax import linen, nnx  # noqa: E402 - same
from flax.training.train_state import TrainState  # noqa: E402 - same

STEPS, STOP = 12, 5


def batches():
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((STEPS, 16, 4), dtype=np.float32)
    return [(jnp.asarray(each), jnp.asarray(each.sum(axis=1, keepdims=True))) for each in rows]


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, *, train=True):
        x = linen.relu(linen.Dense(16)(x))
        x = linen.Dropout(0.3, deterministic=not train)(x)
        return linen.Dense(1)(x)


def optimiser():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.05, 3, STEPS)
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(schedule))


@jax.jit
def linen_step(state, key, batch):
    x, y = batch
    key, drop = jax.random.split(key)

    def loss(params):
        out = state.apply_fn({"params": params}, x, rngs={"dropout": drop})
        return jnp.mean((out - y) ** 2)

    value, grads = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=grads), key, value


def linen_state(tx):
    params = Net().init(jax.random.key(0), jnp.ones((1, 4)), train=False)["params"]
    return TrainState.create(apply_fn=Net().apply, params=params, tx=tx)


def run(state, key, data):
    losses = []
    for batch in data:
        state, key, loss = linen_step(state, key, batch)
        losses.append(np.asarray(loss).tobytes())
    return state, key, losses


def bits(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        .tobytes()
        for x in map(jnp.asarray, leaves)
    ]  # fmt: skip


@pytest.mark.parametrize("whole", [True, False], ids=["state", "parts"])
@pytest.mark.keeps("JAX", "training resumed bit by bit (parameters, optax state, keys)", "jax")
def test_training_goes_on_bit_by_bit(tmp_path, whole):
    data, tx = batches(), optimiser()
    _, _, curve = run(linen_state(tx), jax.random.key(5), data)
    state, key, first = run(linen_state(tx), jax.random.key(5), data[:STOP])
    if whole:
        tree = {"train": state, "key": key}
        into = {"train": linen_state(tx), "key": jax.random.key(0)}
    else:
        tree = {
            "train": {"params": state.params, "opt_state": state.opt_state, "step": state.step},
            "key": key,
        }
        into = {"train": linen_state(tx), "key": jax.random.key(0)}
    holdfast.save(tree, "run", store=tmp_path / "s")
    again = holdfast.load("run", store=tmp_path / "s", into=into)
    assert type(again["train"]) is TrainState
    _, _, rest = run(again["train"], again["key"], data[STOP:])
    assert first + rest == curve


class Model(nnx.Module):
    def __init__(self, rngs):
        self.one = nnx.Linear(4, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.two = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.two(self.drop(nnx.relu(self.norm(self.one(x)))))


@nnx.jit
def nnx_step(model, tx, batch):
    x, y = batch
    loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
    tx.update(model, grads)
    return loss


def nnx_pair(seed):
    model = Model(nnx.Rngs(seed))
    return {"model": model, "tx": nnx.Optimizer(model, optimiser(), wrt=nnx.Param)}


def nnx_run(pair, data):
    return [np.asarray(nnx_step(pair["model"], pair["tx"], batch)).tobytes() for batch in data]


def test_modules_and_their_optimiser_go_on_bit_by_bit(tmp_path):
    data = batches()
    curve = nnx_run(nnx_pair(0), data)
    pair = nnx_pair(0)
    first = nnx_run(pair, data[:STOP])
    holdfast.save(pair, "run", store=tmp_path / "s")
    with pytest.raises(EnvironmentMismatch):
        holdfast.load("run", store=tmp_path / "s")
    fresh = nnx_pair(9)
    again = holdfast.load("run", store=tmp_path / "s", into=fresh)
    assert again["model"] is fresh["model"]
    assert first + nnx_run(again, data[STOP:]) == curve


def test_a_checkpoint_restored_by_orbax_is_a_tree_like_any_other(tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint", reason="orbax is not installed")
    tx = optimiser()
    state = linen_state(tx)
    tree = {"params": state.params, "opt_state": state.opt_state, "step": 3}
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", tree)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "orbax")
    holdfast.save(restored, "m", store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    assert bits(again) == bits(restored)
    filled = holdfast.load("m", store=tmp_path / "s", into=linen_state(tx))
    assert bits((filled.params, filled.opt_state)) == bits((state.params, state.opt_state))
    assert int(filled.step) == 3
