"""Loss functions by name and parameters: their compiled halves and links are made anew.

Sources: ``sklearn/_loss/loss.py``, ``sklearn/_loss/_loss.pyx`` and
``sklearn/linear_model/_sgd_fast.pyx``, whose ``__reduce__`` methods return the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from holdfast.codec.registry import TypeSpec
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["TYPES"]

_LOSSES: Final = "sklearn._loss.loss"
_COMPILED: Final = "sklearn._loss._loss"
_STOCHASTIC: Final = "sklearn.linear_model._sgd_fast"

# Class to its numeric parameters, in the order of its constructor.
_PARAMETERS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    _LOSSES: {
        "HalfSquaredError": (),
        "AbsoluteError": (),
        "PinballLoss": ("quantile",),
        "HuberLoss": ("delta",),
        "HalfPoissonLoss": (),
        "HalfGammaLoss": (),
        "HalfTweedieLoss": ("power",),
        "HalfTweedieLossIdentity": ("power",),
        "HalfBinomialLoss": (),
        "HalfMultinomialLoss": (),
        "ExponentialLoss": (),
    },
    _COMPILED: {
        "CyHalfSquaredError": (),
        "CyAbsoluteError": (),
        "CyPinballLoss": ("quantile",),
        "CyHuberLoss": ("delta",),
        "CyHalfPoissonLoss": (),
        "CyHalfGammaLoss": (),
        "CyHalfTweedieLoss": ("power",),
        "CyHalfTweedieLossIdentity": ("power",),
        "CyHalfBinomialLoss": (),
        "CyHalfMultinomialLoss": (),
        "CyExponentialLoss": (),
    },
    _STOCHASTIC: {
        "Hinge": ("threshold",),
        "SquaredHinge": ("threshold",),
        "ModifiedHuber": (),
        "Log": (),
        "SquaredLoss": (),
        "Huber": ("c",),
        "EpsilonInsensitive": ("epsilon",),
        "SquaredEpsilonInsensitive": ("epsilon",),
    },
}
# What a loss of a fitted model has beside the numbers of its compiled half.
_EXTRA: Final = {"HuberLoss": "quantile", "HalfMultinomialLoss": "n_classes"}


def _locate(module: str, name: str) -> type:
    kind: type | None = getattr(import_extra(module, needed_for=f"a {name}"), name, None)
    if kind is None:
        raise EnvironmentMismatch(
            f"The file holds the loss {name}, which the scikit-learn installed here lacks.",
            hint="python -m pip install --upgrade scikit-learn",
        )
    return kind


def _numbers(loss: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the parameters: ``__reduce__`` gives them alone, or after the class and a checksum."""
    made_by, arguments = loss.__reduce__()[:2]
    values = arguments if made_by is type(loss) else arguments[2] or ()
    return dict(zip(names, map(float, values), strict=True))


def _encode_compiled(names: tuple[str, ...], loss: Any) -> dict[str, Any]:
    return _numbers(loss, names)


def _build_compiled(module: str, name: str, fields: Mapping[str, Any]) -> Any:
    kind: Any = _locate(module, name)
    return kind(*_finite(name, fields).values())


def _encode(names: tuple[str, ...], loss: Any) -> dict[str, Any]:
    name = type(loss).__name__
    if getattr(loss, "xp", None) is not None:
        raise Unsupported(
            f"a {name} computes with another array library than numpy.",
            hint="fit the model with numpy arrays before saving it",
        )
    fields = {
        "constant_hessian": bool(loss.constant_hessian),
        **_numbers(loss.closs, names),
    }
    extra = _EXTRA.get(name)
    return fields if extra is None else {**fields, extra: getattr(loss, extra)}


def _build(name: str, fields: Mapping[str, Any]) -> Any:
    kind: Any = _locate(_LOSSES, name)
    constant = fields["constant_hessian"]
    if type(constant) is not bool:
        raise Corrupt(f"a {name} does not say whether its hessian is constant")
    numbers = {key: value for key, value in fields.items() if key != "constant_hessian"}
    loss = kind(**_finite(name, numbers))
    loss.constant_hessian = constant
    return loss


def _finite(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers once they are judged: floats are finite, a count of classes is a count."""
    for key, value in numbers.items():
        if key == "n_classes":
            sound = isinstance(value, int) and 1 <= int(value) <= 2**31
        else:
            sound = type(value) is float and math.isfinite(value)
        if not sound:
            raise Corrupt(f"a {name} has the impossible {key} {value!r:.60}")
    return dict(numbers)


def _spec(module: str, name: str, names: tuple[str, ...]) -> TypeSpec:
    fields = frozenset(names)
    if module == _LOSSES:
        fields |= {"constant_hessian", *filter(None, [_EXTRA.get(name)])}
    whole = module == _LOSSES
    return TypeSpec(  # releases 1.6 to 1.8 say "_loss" where they mean sklearn._loss._loss
        id=f"sklearn.{name}",
        locate=partial(_locate, module, name),
        classes=(f"{module}:{name}", *([f"_loss:{name}"] if module == _COMPILED else [])),
        encode=partial(_encode if whole else _encode_compiled, names),
        build=partial(_build, name) if whole else partial(_build_compiled, module, name),
        fields=fields,
        required=fields,
    )


TYPES: Final = tuple(
    _spec(module, name, names)
    for module, losses in _PARAMETERS.items()
    for name, names in losses.items()
)
