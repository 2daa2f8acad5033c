"""Formulas of patsy: designs kept as texts that were judged, and what their transforms learned.

A design is put together anew by patsy itself; the names that its texts may use come from here and
never from a file. Source of the objects: https://patsy.readthedocs.io/en/latest/API-reference.html
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.statsmodels.grammar import CONSTANTS, NUMPY, PATSY, columns_of, judge
from holdfast.plugins import import_extra

__all__ = ["TYPES", "columns"]

_FIELDS: Final = frozenset({"columns", "factors", "terms"})
_MOST: Final = 10_000
_DEGREE: Final = 5  # what FITPACK, which evaluates the splines, is made for


def columns(design: Any) -> frozenset[str]:
    """Return the names of the columns that a design reads."""
    factors = design.factor_infos or {}
    return frozenset().union(*(columns_of(factor.code) for factor in factors))


def _offered(name: str) -> Any:
    """Return what a name means in a kept formula."""
    if name in PATSY:
        return getattr(import_extra("patsy.builtins", needed_for="a formula"), name)
    if name in ("np", "numpy"):
        return SimpleNamespace(**{part: getattr(np, part) for part in NUMPY | CONSTANTS})
    return getattr(np, name)


def _refuse_foreign_names(state: Mapping[str, Any], code: str) -> None:
    """Refuse a factor that uses a variable or a function of the caller's own program."""
    for space in state["eval_env"]._namespaces:  # noqa: SLF001 - patsy offers no other way
        for name, value in space.items():
            if name in ("np", "numpy"):
                same = value is np or isinstance(value, SimpleNamespace)
            else:
                same = (name in PATSY or name in NUMPY) and value is _offered(name)
            if not same:
                raise Unsupported(
                    f"the formula's factor {code!r:.80} uses {name!r:.60} of the program around "
                    "it, which is not kept.",
                    hint=f"df[{name!r}] = {name}  # before the fit; or its number in the formula",
                )


def _encode(design: Any) -> dict[str, Any]:
    if design.factor_infos is None:
        return {"columns": design.column_names, "factors": None, "terms": None}
    infos = list(design.factor_infos.values())
    places = {info.factor: place for place, info in enumerate(infos)}
    terms = [
        {
            "factors": [places[factor] for factor in term.factors],
            "parts": [_part(part, places) for part in parts],
        }
        for term, parts in design.term_codings.items()
    ]
    return {"columns": design.column_names, "factors": [_factor(i) for i in infos], "terms": terms}


def _part(part: Any, places: Mapping[Any, int]) -> dict[str, Any]:
    return {
        "factors": [places[factor] for factor in part.factors],
        "contrasts": {
            places[factor]: [contrast.matrix, list(contrast.column_suffixes)]
            for factor, contrast in part.contrast_matrices.items()
        },
        "columns": int(part.num_columns),
    }


def _factor(info: Any) -> dict[str, Any]:
    code = getattr(info.factor, "code", None)
    if type(info.factor).__module__ != "patsy.eval" or not isinstance(code, str):
        raise Unsupported(
            f"a factor of the formula is a {type(info.factor).__qualname__}, not a text.",
            hint="smf.ols('y ~ a + b', df).fit()",
        )
    judge(code)
    _refuse_foreign_names(info.state, code)
    learned = {}
    for name, transform in info.state["transforms"].items():
        kind = type(transform).__name__
        if kind not in _LEARNED or type(transform).__module__.partition(".")[0] != "patsy":
            raise Unsupported(
                f"the transform {kind} of the factor {code!r:.80} is not one of patsy's own.",
                hint="df['x2'] = your_transform(df['x'])  # before the fit",
            )
        state = {key: item for key, item in vars(transform).items() if key != "_tmp"}
        _LEARNED[kind](kind, state)
        learned[name] = {key: _halved(item) for key, item in state.items()}
    return {
        "code": code,
        "categories": info.categories,
        "columns": None if info.num_columns is None else int(info.num_columns),
        "learned": learned,
    }


def _build(fields: Mapping[str, Any]) -> Any:
    patsy = import_extra("patsy", needed_for="a model made by a formula")
    if fields["factors"] is None:
        return patsy.DesignInfo(fields["columns"])
    infos = [_built_factor(patsy, part) for part in fields["factors"]]
    factors = [info.factor for info in infos]
    terms = OrderedDict(
        (
            patsy.Term([factors[place] for place in term["factors"]]),
            [_built_part(patsy, part, factors) for part in term["parts"]],
        )
        for term in fields["terms"]
    )
    if len(terms) != len(fields["terms"]) or len(set(factors)) != len(factors):
        raise Corrupt("a formula has the same term or factor twice")
    by_factor = dict(zip(factors, infos, strict=True))
    return patsy.DesignInfo(fields["columns"], by_factor, terms)


def _built_part(patsy: Any, part: Mapping[str, Any], factors: list[Any]) -> Any:
    contrasts = {}
    for place, (matrix, suffixes) in part["contrasts"].items():
        if type(matrix) is not np.ndarray or matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
            raise Corrupt("a contrast of a formula is no matrix of numbers")
        contrasts[factors[place]] = patsy.ContrastMatrix(matrix, suffixes)
    own = [factors[place] for place in part["factors"]]
    return patsy.SubtermInfo(own, contrasts, part["columns"])


def _built_factor(patsy: Any, part: Mapping[str, Any]) -> Any:
    code = part["code"]
    if not isinstance(code, str):
        raise Corrupt("the code of a factor is not a text")
    try:
        judge(code)
        factor = patsy.EvalFactor(code)
        judge(factor.code)  # patsy writes spaces anew
    except Unsupported as error:
        raise Corrupt(error.message) from error
    names = (*PATSY, *NUMPY, "np", "numpy")
    state: dict[str, Any] = {}
    space = patsy.EvalEnvironment([{name: _offered(name) for name in names}])
    factor.memorize_passes_needed(state, space)
    if state["transforms"].keys() != part["learned"].keys():
        raise Corrupt("the transforms of a factor are not those of its code")
    for name, transform in state["transforms"].items():
        kind = type(transform).__name__
        learned = {key: _whole(item) for key, item in part["learned"][name].items()}
        _LEARNED[kind](kind, learned)
        vars(transform).pop("_tmp", None)
        vars(transform).update(learned)
    if part["categories"] is None:
        return patsy.FactorInfo(factor, "numerical", state, num_columns=part["columns"])
    if type(part["categories"]) is not tuple:
        raise Corrupt("the categories of a factor are no tuple")
    return patsy.FactorInfo(factor, "categorical", state, categories=part["categories"])


def _halved(value: Any) -> Any:
    """Give a long double, whose width depends on the machine, as the sum of two doubles."""
    if getattr(value, "dtype", None) != np.longdouble or np.dtype(np.longdouble).itemsize == 8:
        return value
    high = np.asarray(value).astype(np.float64)
    return {"high": high, "low": np.asarray(value - high.astype(np.longdouble)).astype(np.float64)}


def _whole(value: Any) -> Any:
    if type(value) is not dict:
        return value
    whole: Any = 0
    for name in ("high", "low"):
        part = value.get(name)
        if type(part) is not np.ndarray or part.dtype != np.float64:
            raise Corrupt("a transform of a formula learned no numbers")
        whole = whole + part.astype(np.longdouble)
    return whole


def _fail(kind: str, what: str) -> Corrupt:
    return Corrupt(f"the transform {kind} of a formula {what}")


def _numeric(kind: str, value: Any, most: int) -> None:
    array = isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind in "fiu"
    if type(value) not in (int, float) and not (array and np.ndim(value) <= most):
        raise _fail(kind, "learned no numbers")


def _moments(*names: str) -> Callable[[str, Mapping[str, Any]], None]:
    def check(kind: str, state: Mapping[str, Any]) -> None:
        if state.keys() != {*names}:
            raise _fail(kind, "has other attributes than it learns")
        for value in state.values():
            _numeric(kind, value, 1)

    return check


def _knots(kind: str, knots: Any, least: int) -> None:
    sound = (
        type(knots) is np.ndarray
        and knots.ndim == 1
        and knots.dtype == np.float64
        and least <= len(knots) <= _MOST
        and bool(np.isfinite(knots).all())
        and bool((np.diff(knots) >= 0).all())
    )
    if not sound:
        raise _fail(kind, "has knots that are no rising numbers")


def _b_spline(kind: str, state: Mapping[str, Any]) -> None:
    if state.keys() != {"_degree", "_all_knots"} or type(state["_degree"]) is not int:
        raise _fail(kind, "has other attributes than it learns")
    if not 0 <= state["_degree"] <= _DEGREE:
        raise _fail(kind, f"is of a degree beyond {_DEGREE}")
    _knots(kind, state["_all_knots"], 2 * (state["_degree"] + 1))


def _cubic(kind: str, state: Mapping[str, Any]) -> None:
    same = {"_name": kind.lower(), "_cyclic": kind == "CC"}
    if state.keys() != {"_name", "_cyclic", "_all_knots", "_constraints"}:
        raise _fail(kind, "has other attributes than it learns")
    if any(state[name] != value for name, value in same.items()):
        raise _fail(kind, "says that it is another one")
    _knots(kind, state["_all_knots"], 2)
    if state["_constraints"] is not None:
        _numeric(kind, state["_constraints"], 2)


def _tensor(kind: str, state: Mapping[str, Any]) -> None:
    if state.keys() != {"_constraints"}:
        raise _fail(kind, "has other attributes than it learns")
    if state["_constraints"] is not None:
        _numeric(kind, state["_constraints"], 2)


# Transform to what judges what it learned; see patsy/state.py, splines.py, mgcv_cubic_splines.py.
_LEARNED: Final[dict[str, Callable[[str, Mapping[str, Any]], None]]] = {
    "Center": _moments("_sum", "_count"),
    "Standardize": _moments("current_n", "current_mean", "current_M2"),
    "BS": _b_spline,
    "CR": _cubic,
    "CC": _cubic,
    "TE": _tensor,
}


def _design_class() -> type:
    kind: type = import_extra("patsy", needed_for="a model made by a formula").DesignInfo
    return kind


TYPES: Final = (
    TypeSpec(
        id="patsy.DesignInfo",
        locate=_design_class,
        classes=("patsy.design_info:DesignInfo",),
        encode=_encode,
        build=_build,
        fields=_FIELDS,
        required=_FIELDS,
    ),
)
