"""The reviewed table of statsmodels types, and classes and methods as values by their names in it.

``types.json`` is written by ``tools/list_statsmodels_types.py``: which classes and which
attributes a file may name.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module, resources
from typing import Any, Final, NamedTuple

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch
from holdfast.plugins import import_extra

__all__ = ["TABLE", "TYPES", "Entry", "Named", "fields_of", "locate"]


class Entry(NamedTuple):
    """One type.

    Attributes:
        classes: ``module:qualname`` over the supported releases, the newest last.
        fields: Attributes that an instance may have.
    """

    classes: tuple[str, ...]
    fields: frozenset[str]


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function where a model holds it itself, such as its ``result_class``."""

    name: str


def _read() -> dict[str, Entry]:
    place = resources.files("holdfast.frameworks.statsmodels").joinpath("types.json")
    return {
        id_: Entry(tuple(entry["classes"]), frozenset(entry["fields"].split()))
        for id_, entry in json.loads(place.read_text("utf-8")).items()
    }


TABLE: Final = _read()
_IDS: Final = {name: id_ for id_, entry in TABLE.items() for name in entry.classes}

# Attributes that mean nothing elsewhere: a text of the class, and values computed from the rest.
_LEFT_OUT: Final = frozenset({"__doc__", "_cache", "_summary_cache"})
# What is remembered of the names; statsmodels appends the names of further parameters to it.
_NAMES: Final = ("xnames", "ynames")
# Weights of robust covariances, which ``cov_kwds`` may hold.
_WEIGHTS: Final = ("weights_bartlett", "weights_uniform")
_SANDWICH: Final = "statsmodels.stats.sandwich_covariance"
# Type to attributes that are bound methods of the model itself, each with the methods it may be.
_METHODS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "statsmodels.discrete_model.NegativeBinomial": {
        "hessian": ("_hessian_nb2", "_hessian_nb1", "_hessian_geom"),
        "score": ("_score_nbin", "_score_nb1", "_score_geom"),
        "loglikeobs": ("_ll_nb2", "_ll_nb1", "_ll_geometric"),
    },
    **{
        f"statsmodels.count_model.ZeroInflated{kind}": {
            "_hessian_inflate": ("_hessian_logit", "_hessian_probit")
        }
        for kind in ("Poisson", "GeneralizedPoisson", "NegativeBinomialP")
    },
}


def locate(classes: tuple[str, ...]) -> type:
    """Return the class where the installed statsmodels has it.

    Raises:
        MissingExtra: statsmodels is not installed.
        EnvironmentMismatch: The installed release has no such class.
    """
    name = classes[-1].rpartition(":")[2]
    import_extra("statsmodels", needed_for=f"a {name}")
    for place in reversed(classes):
        module, _, name = place.partition(":")
        try:
            kind: type = getattr(import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
        return kind
    raise EnvironmentMismatch(
        f"The file holds a {name}, which the statsmodels installed here does not have.",
        hint='hold show "REF"  # tells the statsmodels that it was saved with',
    )


def fields_of(owner: Any) -> dict[str, Any]:
    """Return the attributes worth keeping of an instance; the instance stays as it is.

    Cached values are left out, for they are computed from the rest, unless ``remove_data`` took
    the rest away. Functions in ``mle_settings`` were for the fit: None stands for them, as
    statsmodels' own ``__getstate__`` has it.
    """
    id_ = _IDS.get(_place(type(owner)), "")
    methods = _METHODS.get(id_, {})
    kept = {name: value for name, value in vars(owner).items() if name not in _LEFT_OUT}
    for name, value in kept.items():
        if isinstance(value, type) and _place(value) in _IDS:
            kept[name] = Named(_IDS[_place(value)])
        elif name in methods and getattr(value, "__self__", None) is owner:
            kept[name] = value.__name__
        elif name == "cov_kwds" and type(value) is dict:
            kept[name] = {key: _named_weights(item) for key, item in value.items()}
        elif name == "mle_settings" and type(value) is dict:
            kept[name] = {key: _without_code(item) for key, item in value.items()}
    for name in _LEFT_OUT & vars(owner).keys():
        if isinstance(vars(owner)[name], dict):
            kept[name] = _remembered(owner, vars(owner)[name])
    return kept


def _remembered(owner: Any, cache: Mapping[str, Any]) -> dict[str, Any]:
    if "orig_endog" in vars(owner):
        removed = owner.orig_endog is None
        names = cache.keys() & {*_NAMES} if removed else _NAMES
        return {name: getattr(owner, name) for name in sorted(names)}
    model = vars(owner).get("model")
    removed = model is not None and getattr(model, "endog", True) is None
    return {name: _as_tuple(value) for name, value in cache.items()} if removed else {}


def _as_tuple(value: Any) -> Any:
    """Give a test's outcome, a tuple with names that scipy makes, as the tuple it is."""
    return tuple(value) if isinstance(value, tuple) else value


def _named_weights(value: Any) -> Any:
    name = getattr(value, "__name__", "")
    known = name in _WEIGHTS and getattr(value, "__module__", "") == _SANDWICH
    return Named(name) if known else value


def _without_code(value: Any) -> Any:
    inner = value.values() if isinstance(value, dict) else (value,)
    return None if any(inspect.isroutine(item) for item in inner) else value


def _place(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _made(id_: str, fields: Mapping[str, Any]) -> Any:
    """Make an instance whose attributes are these, methods bound by their names in the table."""
    kind: Any = locate(TABLE[id_].classes)
    made = kind.__new__(kind)
    vars(made).update(fields)
    for attribute, allowed in _METHODS.get(id_, {}).items():
        name = fields.get(attribute)
        if name is None:
            continue
        if name not in allowed:
            raise Corrupt(f"{attribute} of a {kind.__name__} is no method that it may be")
        vars(made)[attribute] = getattr(made, name)
    return made


def _held(fields: Mapping[str, Any]) -> Any:
    name = fields["name"]
    if name in _WEIGHTS:
        return getattr(import_extra(_SANDWICH, needed_for="a robust covariance"), name)
    if not isinstance(name, str) or name not in TABLE:
        raise Corrupt("a class that a model holds is none of the table of statsmodels types")
    return locate(TABLE[name].classes)


def _spec(id_: str, entry: Entry) -> TypeSpec:
    return TypeSpec(
        id=id_,
        locate=partial(locate, entry.classes),
        classes=entry.classes,
        encode=fields_of,
        build=partial(_made, id_) if id_ in _METHODS else None,
        fields=entry.fields,
        required=frozenset({"_results"}) if id_.endswith("Wrapper") else frozenset(),
    )


TYPES: Final = (
    TypeSpec(
        id="statsmodels.named",
        locate=lambda: Named,
        classes=(_place(Named),),
        encode=lambda held: {"name": held.name},
        build=_held,
        fields=frozenset({"name"}),
        required=frozenset({"name"}),
    ),
    *(_spec(id_, entry) for id_, entry in TABLE.items()),
)
