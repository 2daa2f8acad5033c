"""scipy's splines and interpolators: knots and coefficients, judged as scipy's constructors do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

_MAX_ORDER: Final = 64
_KINDS: Final = frozenset({"linear", "nearest", "nearest-up", "previous", "next"})


def _class(name: str) -> Any:
    return getattr(import_extra("scipy.interpolate", needed_for=f"a {name}"), name)


def _numbers(values: Any, kinds: str, what: str) -> Any:
    if type(values) is not np.ndarray or values.dtype.kind not in kinds or values.ndim < 1:
        raise Corrupt(f"the {what} of an interpolator are not numbers")
    if not values.dtype.isnative:
        raise Corrupt(f"the {what} of an interpolator have a foreign byte order")
    return values


def _double(values: Any, what: str) -> Any:
    """Take what scipy's compiled evaluation takes: double precision, in C order for knots."""
    if _numbers(values, "fc", what).dtype.itemsize not in (8, 16) or values.dtype.char == "F":
        raise Corrupt(f"the {what} of an interpolator are not of double precision")
    return values


def _extrapolation(value: Any) -> Any:
    return "periodic" if isinstance(value, str) and value == "periodic" else bool(value)


def _manner(fields: Mapping[str, Any], dimensions: int) -> tuple[Any, int]:
    extrapolate, axis = fields["extrapolate"], fields["axis"]
    if extrapolate != "periodic" and type(extrapolate) is not bool:
        raise Corrupt("an interpolator extrapolates in an unknown manner")
    if type(axis) is not int or not 0 <= axis < dimensions:
        raise Corrupt("an interpolator has an axis that its coefficients lack")
    return extrapolate, axis


def _bare(interpolator: Any, own: frozenset[str]) -> None:
    extra = vars(interpolator).keys() - own if hasattr(interpolator, "__dict__") else set()
    if extra:
        raise Unsupported(
            f"a {type(interpolator).__name__} has the attribute {min(extra)!r} of its own.",
            hint=f"del interpolator.{min(extra)}",
        )


_SPLINE: Final = frozenset({"t", "c", "k", "_t", "_c", "extrapolate", "axis", "_asarray"})


def _encode_spline(spline: Any) -> dict[str, Any]:
    _bare(spline, _SPLINE)
    return {
        "t": spline.t,
        "c": spline.c,
        "k": int(spline.k),
        "extrapolate": _extrapolation(spline.extrapolate),
        "axis": int(spline.axis),
    }


def _build_spline(fields: Mapping[str, Any]) -> Any:
    knots, coefficients = _double(fields["t"], "knots"), _double(fields["c"], "coefficients")
    if knots.dtype.kind != "f" or type(fields["k"]) is not int or fields["k"] < 0:
        raise Corrupt("a BSpline has knots or a degree of an impossible type")
    extrapolate, axis = _manner(fields, coefficients.ndim)
    kind = _class("BSpline")
    kind(knots, coefficients, fields["k"])  # raises for knots that do not fit
    return kind.construct_fast(knots, coefficients, fields["k"], extrapolate, axis)


_PIECEWISE: Final = frozenset({"c", "x", "_c", "_x", "extrapolate", "axis", "_asarray"})


def _encode_piecewise(polynomial: Any) -> dict[str, Any]:
    _bare(polynomial, _PIECEWISE)
    return {
        "c": polynomial.c,
        "x": polynomial.x,
        "extrapolate": _extrapolation(polynomial.extrapolate),
        "axis": int(polynomial.axis),
    }


def _build_piecewise(name: str, fields: Mapping[str, Any]) -> Any:
    places, coefficients = _double(fields["x"], "breakpoints"), _double(fields["c"], "coefficients")
    if places.dtype.kind != "f":
        raise Corrupt("the breakpoints of an interpolator are not real numbers")
    extrapolate, axis = _manner(fields, max(coefficients.ndim - 1, 0))
    _class("PPoly")(coefficients, places)  # raises for breakpoints that do not fit
    return _class(name).construct_fast(coefficients, places, extrapolate, axis)


def _encode_line(line: Any) -> dict[str, Any]:
    kind = int(line._spline.k) if line._kind == "spline" else line._kind  # noqa: SLF001 - no public way
    fill = line.fill_value
    return {
        "x": line.x,
        "y": line.y,
        "kind": kind,
        "axis": int(line.axis),
        "copy": bool(line.copy),
        "bounds_error": bool(line.bounds_error),
        "fill": fill if isinstance(fill, str) else _fill(fill),
    }


def _fill(fill: Any) -> Any:
    return tuple(map(np.asarray, fill)) if isinstance(fill, tuple) else np.asarray(fill)


def _build_line(fields: Mapping[str, Any]) -> Any:
    places, values = _numbers(fields["x"], "iuf", "places"), _numbers(fields["y"], "fc", "values")
    kind, axis, fill = fields["kind"], fields["axis"], fields["fill"]
    order = type(kind) is int and 0 <= kind <= _MAX_ORDER
    if not order and (type(kind) is not str or kind not in _KINDS):
        raise Corrupt("an interp1d is of an unknown kind")
    if type(axis) is not int or not 0 <= axis < values.ndim:
        raise Corrupt("an interp1d has an axis that its values lack")
    if type(fields["bounds_error"]) is not bool or type(fields["copy"]) is not bool:
        raise Corrupt("an interp1d has options of an unknown type")
    if fill != "extrapolate" if isinstance(fill, str) else not _fits(fill):
        raise Corrupt("an interp1d is filled with something that is not a number")
    return _class("interp1d")(
        places,
        values,
        kind=kind,
        axis=axis,
        copy=fields["copy"],
        bounds_error=fields["bounds_error"],
        fill_value=fill,
        assume_sorted=True,
    )


def _fits(fill: Any) -> bool:
    parts = fill if type(fill) is tuple else (fill,)
    return len(parts) in (1, 2) and all(
        type(part) is np.ndarray and part.dtype.kind in "biufc" for part in parts
    )


def _spec(name: str, module: str, fields: str, **codings: Any) -> TypeSpec:
    return TypeSpec(
        id=f"scipy.interpolate.{name}",
        locate=partial(_class, name),
        classes=(f"scipy.interpolate.{module}:{name}",),
        fields=frozenset(fields.split()),
        required=frozenset(fields.split()),
        **codings,
    )


_POLYNOMIALS: Final = {
    "PPoly": "_interpolate",
    "BPoly": "_interpolate",
    "CubicSpline": "_cubic",
    "CubicHermiteSpline": "_cubic",
    "PchipInterpolator": "_cubic",
    "Akima1DInterpolator": "_cubic",
}

TYPES: Final = (
    _spec(
        "BSpline",
        "_bsplines",
        "t c k extrapolate axis",
        encode=_encode_spline,
        build=_build_spline,
    ),
    *(
        _spec(
            name,
            module,
            "c x extrapolate axis",
            encode=_encode_piecewise,
            build=partial(_build_piecewise, name),
        )
        for name, module in _POLYNOMIALS.items()
    ),
    _spec(
        "interp1d",
        "_interpolate",
        "x y kind axis copy bounds_error fill",
        encode=_encode_line,
        build=_build_line,
    ),
)
