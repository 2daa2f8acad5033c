"""Types of Python and numpy that need more than a node kind: random states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.frames import TYPES as FRAME_TYPES
from holdfast.codec.functions import TYPES as FUNCTION_TYPES
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
    generator = kind(0)
    position = fields["state"]["state"].get("pos", 0) if name == "MT19937" else 0
    if not 0 <= position <= 624:  # numpy indexes its key with it, unchecked
        raise Corrupt("the position of an MT19937 generator is out of range")
    if name == "Philox" and not 0 <= fields["state"]["buffer_pos"] <= 4:
        raise Corrupt("the buffer position of a Philox generator is out of range")
    generator.state = {"bit_generator": name, **fields["state"]}
    return generator


def _encode_random_state(random: Any) -> dict[str, Any]:
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
    random = np.random.RandomState(_bit_generator(fields))
    if fields["bit_generator"] == "MT19937":
        state = {**fields["state"], "bit_generator": "MT19937"}
        random.set_state({**state, "has_gauss": fields["has_gauss"], "gauss": fields["gauss"]})
    return random


_STATE: Final = frozenset({"bit_generator", "state"})

TYPES: Final = (
    TypeSpec(
        id="numpy.RandomState",
        locate=lambda: np.random.RandomState,
        classes=("numpy.random.mtrand:RandomState",),
        encode=_encode_random_state,
        build=_build_random_state,
        fields=_STATE | {"has_gauss", "gauss"},
        required=_STATE | {"has_gauss", "gauss"},
    ),
    TypeSpec(
        id="numpy.Generator",
        locate=lambda: np.random.Generator,
        classes=("numpy.random._generator:Generator",),
        encode=lambda generator: _state_of(generator.bit_generator),
        build=lambda fields: np.random.Generator(_bit_generator(fields)),
        fields=_STATE,
        required=_STATE,
    ),
    *FUNCTION_TYPES,
    *FRAME_TYPES,
)
