"""numpy's random states: bit generators by enumerated name, their state and their seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.random import SeedSequence

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported

__all__ = ["TYPES"]

# The bit generators that may be built, by the name numpy itself gives them.
_BIT_GENERATORS: Final = {
    name: getattr(np.random, name) for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
}


def _state_of(bit_generator: Any) -> dict[str, Any]:
    name = type(bit_generator).__name__
    if _BIT_GENERATORS.get(name) is not type(bit_generator):
        raise Unsupported(
            f"the bit generator {type(bit_generator).__qualname__} is not one of numpy's own.",
            hint="numpy.random.default_rng(seed)",
        )
    state: dict[str, Any] = dict(bit_generator.state)
    return {"bit_generator": state.pop("bit_generator"), "state": state}


def _bit_generator(fields: Mapping[str, Any]) -> Any:
    name = fields["bit_generator"]
    kind = _BIT_GENERATORS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Corrupt(f"unknown bit generator {name!r:.60}")
    seed = fields.get("seed", 0)
    if seed != 0 and type(seed) is not SeedSequence:
        raise Corrupt("the seed of a bit generator is not a SeedSequence")
    generator = kind(seed)
    position = fields["state"]["state"].get("pos", 0) if name == "MT19937" else 0
    if not 0 <= position <= 624:  # numpy indexes its key with it, unchecked
        raise Corrupt("the position of an MT19937 generator is out of range")
    if name == "Philox" and not 0 <= fields["state"]["buffer_pos"] <= 4:
        raise Corrupt("the buffer position of a Philox generator is out of range")
    generator.state = {"bit_generator": name, **fields["state"]}
    return generator


def _encode_generator(generator: Any) -> dict[str, Any]:
    fields = _state_of(generator.bit_generator)
    seed = generator.bit_generator._seed_seq  # noqa: SLF001 - public only since numpy 1.25
    return {**fields, "seed": seed} if type(seed) is SeedSequence else fields


def _global() -> Any:
    """Return the generator behind ``numpy.random.seed``, which estimators hold by default."""
    return np.random.mtrand._rand  # noqa: SLF001 - numpy has no public name for it


def _encode_random_state(random: Any) -> dict[str, Any]:
    if random is _global():  # its state is the process's, not the model's
        return {"shared": True}
    legacy = random.get_state(legacy=False)
    own = _state_of(random._bit_generator)  # noqa: SLF001 - numpy offers no public way to it
    if legacy["has_gauss"] and own["bit_generator"] != "MT19937":
        raise Unsupported(
            "a RandomState over another generator than MT19937 holds a number drawn ahead, which "
            "numpy lets nobody restore.",
            hint="numpy.random.RandomState(seed)",
        )
    return {**own, "has_gauss": int(legacy["has_gauss"]), "gauss": float(legacy["gauss"])}


def _build_random_state(fields: Mapping[str, Any]) -> Any:
    if "shared" in fields:
        if fields != {"shared": True}:
            raise Corrupt("the shared generator of numpy has a state of its own")
        return _global()
    if _RANDOM_STATE - fields.keys():
        raise Corrupt("a RandomState lacks a part of its state")
    random = np.random.RandomState(_bit_generator(fields))
    if fields["bit_generator"] == "MT19937":
        state = {**fields["state"], "bit_generator": "MT19937"}
        random.set_state({**state, "has_gauss": fields["has_gauss"], "gauss": fields["gauss"]})
    return random


def _encode_seed(seed: Any) -> dict[str, Any]:
    entropy = seed.entropy
    return {
        "entropy": int(entropy)
        if isinstance(entropy, int | np.integer)
        else [int(word) for word in entropy],
        "spawn_key": tuple(map(int, seed.spawn_key)),
        "pool_size": int(seed.pool_size),
        "spawned": int(seed.n_children_spawned),
    }


def _build_seed(fields: Mapping[str, Any]) -> Any:
    entropy, key = fields["entropy"], fields["spawn_key"]
    numbers = [*(entropy if type(entropy) is list else [entropy]), fields["spawned"]]
    if type(key) is not tuple or any(type(n) is not int or n < 0 for n in (*numbers, *key)):
        raise Corrupt("a SeedSequence is not made of whole numbers")
    size = fields["pool_size"]
    if type(size) is not int or not 4 <= size <= _MAX_POOL:
        raise Corrupt("a SeedSequence has a pool of an impossible size")
    return SeedSequence(
        entropy, spawn_key=key, pool_size=size, n_children_spawned=fields["spawned"]
    )


_MAX_POOL: Final = 1024
_SEED: Final = frozenset({"entropy", "spawn_key", "pool_size", "spawned"})
_STATE: Final = frozenset({"bit_generator", "state"})
_RANDOM_STATE: Final = _STATE | {"has_gauss", "gauss"}

TYPES: Final = (
    TypeSpec(
        id="numpy.RandomState",
        locate=lambda: np.random.RandomState,
        classes=("numpy.random.mtrand:RandomState",),
        encode=_encode_random_state,
        build=_build_random_state,
        fields=_RANDOM_STATE | {"shared"},
    ),
    TypeSpec(
        id="numpy.Generator",
        locate=lambda: np.random.Generator,
        classes=("numpy.random._generator:Generator",),
        encode=_encode_generator,
        build=lambda fields: np.random.Generator(_bit_generator(fields)),
        fields=_STATE | {"seed"},
        required=_STATE,
    ),
    TypeSpec(
        id="numpy.SeedSequence",
        locate=lambda: SeedSequence,
        classes=("numpy.random.bit_generator:SeedSequence", "numpy.random:SeedSequence"),
        encode=_encode_seed,
        build=_build_seed,
        fields=_SEED,
        required=_SEED,
    ),
)
