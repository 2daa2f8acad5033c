"""Values of scipy and numpy that results of statsmodels hold beside plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.codec.zones import freq_of
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

# Distributions that a link or an ordered model refers to: the one object of each in its module.
_SCIPY: Final = (
    "cauchy", "expon", "gumbel_l", "gumbel_r", "laplace", "logistic", "lognorm", "norm", "t",
    "uniform",
)  # fmt: skip
_OWN: Final = (
    "truncatednegbin", "truncatedpoisson", "zigenpoisson", "zinegbin", "zipoisson",
)  # fmt: skip
_MODULES: Final = {
    **dict.fromkeys(_SCIPY, "scipy.stats"),
    **dict.fromkeys(_OWN, "statsmodels.distributions.discrete"),
}
_CLASSES: Final = (
    *(f"scipy.stats._continuous_distns:{name}_gen" for name in _SCIPY),
    *(f"statsmodels.distributions.discrete:{name}_gen" for name in _OWN),
)
# Frequencies that the index of a series may have; each is what pandas makes of its own text.
_OFFSETS: Final = (
    "BQuarterBegin", "BQuarterEnd", "BYearBegin", "BYearEnd", "BusinessDay", "BusinessMonthBegin",
    "BusinessMonthEnd", "Day", "Hour", "Milli", "Minute", "MonthBegin", "MonthEnd", "QuarterBegin",
    "QuarterEnd", "Second", "SemiMonthBegin", "SemiMonthEnd", "Week", "YearBegin", "YearEnd",
)  # fmt: skip
# The memory of a quasi-Newton fit; https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.LbfgsInvHessProduct.html
_LBFGS: Final = frozenset({"sk", "yk", "n_corrs", "rho", "dtype", "shape", "args"})


def _distribution(name: str) -> Any:
    module = import_extra(_MODULES[name], needed_for=f"the distribution {name}")
    return getattr(module, name, None)


def _is_known(value: Any) -> bool:
    name = type(value).__name__.removesuffix("_gen")
    return name in _MODULES and _distribution(name) is value


def _named(fields: Mapping[str, Any]) -> Any:
    name = fields["name"]
    if not isinstance(name, str) or name not in _MODULES:
        raise Corrupt("a distribution is none of those that statsmodels refers to")
    return _distribution(name)


def _flat_iterator(value: Any) -> dict[str, Any]:
    if value.index:
        raise Unsupported("a flat iterator that was partly used cannot be kept.", hint="array.flat")
    return {"base": value.base}


def _flat(fields: Mapping[str, Any]) -> Any:
    if type(fields["base"]) is not np.ndarray:
        raise Corrupt("a flat iterator is not of an array")
    return fields["base"].flat


def _offset(value: Any) -> dict[str, Any]:
    if freq_of(value.freqstr) != value:
        raise Unsupported(
            f"the frequency {value!r} has options of its own.", hint="series.asfreq('MS')"
        )
    return {"freq": value.freqstr}


def _paced(fields: Mapping[str, Any]) -> Any:
    if not isinstance(fields["freq"], str):
        raise Corrupt("a frequency is not a text")
    return freq_of(fields["freq"])


def _outcome(fields: Mapping[str, Any]) -> Any:
    if type(fields["items"]) is not dict:
        raise Corrupt("the outcome of an optimization is no dictionary")
    return _optimize().OptimizeResult(fields["items"])


def _optimize() -> Any:
    return import_extra("scipy.optimize", needed_for="what a fit remembers")


def _lbfgs_class() -> type:
    kind: type = _optimize().LbfgsInvHessProduct
    return kind


TYPES: Final = (
    TypeSpec(
        id="statsmodels.distribution",
        locate=lambda: object,
        classes=_CLASSES,
        accepts=_is_known,
        encode=lambda value: {"name": type(value).__name__.removesuffix("_gen")},
        build=_named,
        fields=frozenset({"name"}),
        required=frozenset({"name"}),
    ),
    TypeSpec(
        id="numpy.flatiter",
        locate=lambda: np.flatiter,
        classes=("numpy:flatiter",),
        encode=_flat_iterator,
        build=_flat,
        fields=frozenset({"base"}),
        required=frozenset({"base"}),
    ),
    TypeSpec(
        id="pandas.offset",
        locate=lambda: object,
        classes=tuple(f"pandas._libs.tslibs.offsets:{name}" for name in _OFFSETS),
        accepts=lambda _: True,
        encode=_offset,
        build=_paced,
        fields=frozenset({"freq"}),
        required=frozenset({"freq"}),
    ),
    TypeSpec(
        id="scipy.OptimizeResult",
        locate=lambda: _optimize().OptimizeResult,
        classes=(
            "scipy.optimize.optimize:OptimizeResult",
            "scipy.optimize._optimize:OptimizeResult",
        ),
        encode=lambda outcome: {"items": dict(outcome)},
        build=_outcome,
        fields=frozenset({"items"}),
        required=frozenset({"items"}),
    ),
    TypeSpec(
        id="scipy.LbfgsInvHessProduct",
        locate=_lbfgs_class,
        classes=(
            "scipy.optimize.lbfgsb:LbfgsInvHessProduct",
            "scipy.optimize._lbfgsb_py:LbfgsInvHessProduct",
        ),
        encode=vars,
        fields=_LBFGS,
        attributes=True,
    ),
)
