"""Frozen distributions of scipy.stats: by the name in scipy's own list, with their parameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

_FIELDS: Final = frozenset({"name", "args", "kwds", "random_state"})
_NUMBERS: Final = (int, float, bool, np.generic, np.ndarray)
_RANDOM: Final = (type(None), np.random.RandomState, np.random.Generator)


@functools.cache
def _distributions() -> dict[str, Any]:
    """Return scipy's public distributions by name."""
    stats = import_extra("scipy.stats", needed_for="a frozen distribution")
    public = {name: getattr(stats, name) for name in stats.__all__}
    kinds = (stats.rv_continuous, stats.rv_discrete)
    return {name: item for name, item in public.items() if isinstance(item, kinds)}


def _made_of(distribution: Any) -> dict[str, Any]:
    parts: dict[str, Any] = dict(distribution._updated_ctor_param())  # noqa: SLF001 - what freezing itself copies
    parts.pop("seed", None)
    return parts


def _encode(frozen: Any) -> dict[str, Any]:
    own = frozen.dist
    known = _distributions().get(own.name)
    if (
        known is None
        or type(known) is not type(own)
        or repr(_made_of(known)) != repr(_made_of(own))
    ):
        raise Unsupported(
            f"the distribution {own.name!r:.60} is not one of scipy's own.",
            hint="scipy.stats.norm(loc=0, scale=1)",
        )
    for value in (*frozen.args, *frozen.kwds.values()):
        if not isinstance(value, _NUMBERS):
            raise Unsupported(
                f"a parameter of the distribution {own.name!r} is a {type(value).__name__}.",
                hint="numpy.asarray(parameter)",
            )
    state = frozen.random_state
    shared = state is np.random.mtrand._rand  # noqa: SLF001 - the global one belongs to no model
    return {
        "name": own.name,
        "args": tuple(frozen.args),
        "kwds": dict(frozen.kwds),
        "random_state": None if shared else state,
    }


def _build(discrete: bool, fields: Mapping[str, Any]) -> Any:  # noqa: FBT001 - bound by a partial below
    name, args, kwds, state = (fields[key] for key in ("name", "args", "kwds", "random_state"))
    if type(name) is not str or type(args) is not tuple or type(kwds) is not dict:
        raise Corrupt("a frozen distribution is not a name with parameters")
    if type(state) not in _RANDOM or not all(
        isinstance(value, _NUMBERS) and np.asarray(value).dtype.kind in "biuf"
        for value in (*args, *kwds.values())
    ):
        raise Corrupt("a parameter of a frozen distribution is not a number")
    known = _distributions().get(name)
    if known is None:
        raise EnvironmentMismatch(
            f"The file holds the distribution {name!r:.60}, which the scipy installed here lacks.",
            hint="python -m pip install --upgrade scipy",
        )
    stats = import_extra("scipy.stats", needed_for="a frozen distribution")
    if isinstance(known, stats.rv_discrete) is not discrete:
        raise Corrupt(f"the distribution {name!r} is not of the kind that the file says")
    frozen = known(*args, **kwds)
    if state is not None:
        frozen.random_state = state
    return frozen


def _class(name: str) -> type:
    module = import_extra("scipy.stats._distn_infrastructure", needed_for="a distribution")
    kind: type = getattr(module, name)
    return kind


def _spec(name: str, *, discrete: bool) -> TypeSpec:
    return TypeSpec(
        id=f"scipy.stats.{name}",
        locate=functools.partial(_class, name),
        classes=(f"scipy.stats._distn_infrastructure:{name}",),
        encode=_encode,
        build=functools.partial(_build, discrete),
        fields=_FIELDS,
        required=_FIELDS,
    )


TYPES: Final = (
    _spec("rv_continuous_frozen", discrete=False),
    _spec("rv_discrete_frozen", discrete=True),
)
