"""State-space results: the model is made anew from its arguments and filtered at the same params.

Such objects hold compiled filters, which are not data. Kept are the class, the arguments of its
constructor, the series and the parameters; ``smooth`` or ``filter`` then gives the same numbers,
and nothing is fitted. Source: ``MLEModel.smooth`` and ``clone`` in
statsmodels/tsa/statespace/mlemodel.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.statsmodels.table import locate

__all__ = ["TYPES", "holds_filters", "is_space"]


class _Kind(NamedTuple):
    """A model class and the wrapper of its results, as ``module:qualname``."""

    model: str
    results: str


def _kind(module: str, name: str) -> _Kind:
    place = f"statsmodels.tsa.{module}:{name}"
    return _Kind(place, f"{place}ResultsWrapper")


_KINDS: Final = {
    "ARIMA": _kind("arima.model", "ARIMA"),
    "DynamicFactor": _kind("statespace.dynamic_factor", "DynamicFactor"),
    "ExponentialSmoothing": _kind("statespace.exponential_smoothing", "ExponentialSmoothing"),
    "SARIMAX": _kind("statespace.sarimax", "SARIMAX"),
    "UnobservedComponents": _kind("statespace.structural", "UnobservedComponents"),
    "VARMAX": _kind("statespace.varmax", "VARMAX"),
}
_FIELDS: Final = frozenset(
    {
        "endog", "exog", "arguments", "params", "fixed", "smoothed", "cov_type", "cov_kwds",
        "retvals", "settings",
    }
)  # fmt: skip
_STARTS: Final = ("approximate_diffuse", "diffuse", "stationary")
# Arrays that must come back; the rest is computed from them.
_SHOWN: Final = ("params", "llf", "fittedvalues", "resid", "cov_params_default", "forecasts")
# A larger model of this kind is not fitted by anybody, and its matrices grow with the square.
_STATES: Final = 1_000
_FEW: Final = 64


def is_space(model: object) -> bool:
    """Say whether a model is the results of a state-space model that is kept here."""
    kind = type(model)
    place = f"{kind.__module__}:{kind.__qualname__}"
    return any(place == known.results for known in _KINDS.values())


def holds_filters(model: object) -> bool:
    """Say whether a model is state-space results, or a model of that kind that was not fitted."""
    names = {"MLEResultsWrapper", "MLEResults", "MLEModel"}
    return any(
        base.__name__ in names and base.__module__ == "statsmodels.tsa.statespace.mlemodel"
        for base in type(model).__mro__
    )


def _encode(results: Any) -> dict[str, Any]:
    inner, model = results._results, results.model  # noqa: SLF001 - statsmodels' own layers
    if f"{type(model).__module__}:{type(model).__qualname__}" not in {
        kind.model for kind in _KINDS.values()
    }:
        raise Unsupported(
            f"the state-space model {type(model).__qualname__} is a class of its own.",
            hint="sm.tsa.SARIMAX(series, order=(1, 0, 0)).fit()",
        )
    if hasattr(model, "formula"):
        raise Unsupported("a state-space model made by a formula is not kept.", hint="exog=matrix")
    asked = model._get_init_kwds()  # noqa: SLF001 - what clone() uses
    start = getattr(asked.get("initialization"), "initialization_type", None)
    if start is not None:  # an object made of the word that the constructor was given
        asked["initialization"] = start if start in _STARTS else None
    arguments = {name: _plain_numbers(value) for name, value in asked.items() if value is not None}
    _judge_arguments(arguments, Unsupported)
    names = list(model.param_names)
    return {
        "endog": model.data.orig_endog,
        "exog": model.data.orig_exog,
        "arguments": arguments,
        "params": np.array(inner.params),
        "fixed": {name: float(inner.params[names.index(name)]) for name in inner.fixed_params},
        "smoothed": inner.smoother_results is not None,
        "cov_type": inner.cov_type,
        "cov_kwds": {
            "approx_complex_step": bool(inner._cov_approx_complex_step),  # noqa: SLF001 - same
            "approx_centered": bool(inner._cov_approx_centered),  # noqa: SLF001 - same
        },
        "retvals": _told(getattr(inner, "mle_retvals", None)),
        "settings": _told(getattr(inner, "mle_settings", None)),
    }


def _told(report: Any) -> dict[str, Any] | None:
    """Keep what a fit told of itself: numbers and texts, no functions."""
    if report is None:
        return None
    plain = (bool, int, float, str, type(None), np.ndarray, np.generic)
    return {str(name): value for name, value in report.items() if isinstance(value, plain)}


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if isinstance(value, list | tuple):
        return type(value)(map(_plain_numbers, value))
    return value


def _state(results: Any) -> dict[str, Any]:
    """Return what must come back: the arguments, and numbers computed from them."""
    inner = results._results  # noqa: SLF001 - as above
    numbers = {name: getattr(inner, name, None) for name in _SHOWN}
    return {**_encode(results), **{f"{name} computed": value for name, value in numbers.items()}}


def _judge_arguments(arguments: Mapping[str, Any], error: type[Corrupt | Unsupported]) -> None:
    """Bound what a constructor makes of its arguments: matrices as large as their numbers."""
    total = 1
    for name, value in arguments.items():
        sizes = list(_numbers(value))
        if any(not abs(size) <= _STATES for size in sizes):
            raise error(f"the argument {name!s:.40} of a state-space model is beyond {_STATES}")
        if name == "seasonal_order":
            total += int(np.prod([max(1, abs(int(size))) for size in sizes[-1:]])) * sum(
                abs(int(size)) for size in sizes[:3]
            )
        elif name in ("order", "seasonal", "k_factors", "factor_order", "error_order"):
            total += int(sum(abs(size) for size in sizes))
    if total > _STATES:
        raise error(f"a state-space model asks for {total} states; {_STATES} are kept")


def _numbers(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) > _FEW * _FEW or depth > 3:
            raise Corrupt("the arguments of a state-space model are nested or too many")
        for item in value:
            yield from _numbers(item, depth + 1)
    elif type(value) in (int, float):
        yield value


def _build(name: str, fields: Mapping[str, Any]) -> Any:
    arguments = fields["arguments"]
    if type(arguments) is not dict or type(fields["params"]) is not np.ndarray:
        raise Corrupt("a state-space model lacks its arguments or parameters")
    _judge_arguments(arguments, Corrupt)
    kind: Any = locate((_KINDS[name].model,))
    given = dict(arguments) if fields["exog"] is None else {**arguments, "exog": fields["exog"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the caller was warned of when fitting
        model = kind(fields["endog"], **given)
        fixed = model.fix_params(fields["fixed"]) if fields["fixed"] else nullcontext()
        with fixed:
            run = model.smooth if fields["smoothed"] is True else model.filter
            results = run(
                fields["params"],
                transformed=True,
                includes_fixed=True,
                cov_type=fields["cov_type"],
                cov_kwds=dict(fields["cov_kwds"]),
            )
    inner = results._results  # noqa: SLF001 - as above
    if fields["retvals"] is not None:
        inner.mle_retvals = dict(fields["retvals"])
    if fields["settings"] is not None:
        inner.mle_settings = dict(fields["settings"])
    return results


TYPES: Final = tuple(
    TypeSpec(
        id=f"statsmodels.space.{name}",
        locate=partial(locate, (kind.results,)),
        classes=(kind.results,),
        encode=_encode,
        build=partial(_build, name),
        fields=_FIELDS,
        required=_FIELDS,
        state=_state,
    )
    for name, kind in _KINDS.items()
)
