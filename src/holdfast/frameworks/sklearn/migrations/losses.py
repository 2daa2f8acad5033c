"""Losses and scorers whose classes were replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from holdfast.codec.functions import function_named
from holdfast.errors import Corrupt
from holdfast.frameworks.sklearn.migrations.base import Fields, Migration
from holdfast.plugins import import_extra

__all__ = ["MIGRATIONS", "Unbound"]

_SEARCHES: Final = (
    "sklearn.GridSearchCV",
    "sklearn.HalvingGridSearchCV",
    "sklearn.HalvingRandomSearchCV",
    "sklearn.RandomizedSearchCV",
)


class Unbound:
    """A scorer that calls ``estimator.score``, before it is known which estimator."""


def _loss(name: str, *, parameters: tuple[tuple[str, str], ...] = ()) -> Callable[..., Any]:
    def build(fields: Mapping[str, Any]) -> Any:
        kind = getattr(import_extra("sklearn._loss.loss", needed_for="a loss"), name)
        return kind(**{new: fields[old] for new, old in parameters})

    return build


def _multinomial(fields: Mapping[str, Any]) -> Any:
    classes = fields.get("K")
    if not isinstance(classes, int) or not 1 <= int(classes) <= 2**31:
        raise Corrupt(f"a loss has the impossible number of classes {classes!r:.60}")
    module = import_extra("sklearn._loss.loss", needed_for="a loss")
    return module.HalfMultinomialLoss(n_classes=int(classes))


def _huber(fields: Mapping[str, Any]) -> Any:
    module = import_extra("sklearn._loss.loss", needed_for="a loss")
    made = module.HuberLoss(quantile=float(fields["alpha"]))
    if fields.get("gamma") is not None:
        made.closs.delta = float(fields["gamma"])
    return made


def _stochastic(name: str, fields: Mapping[str, Any]) -> Any:
    module = import_extra("sklearn._loss._loss", needed_for="a loss")
    return getattr(module, name)(*map(float, fields.values()))


def _scorer(method: Any, fields: Mapping[str, Any]) -> Any:
    module = import_extra("sklearn.metrics._scorer", needed_for="a scorer")
    scorer = module._Scorer.__new__(module._Scorer)  # noqa: SLF001 - make_scorer looks functions up
    vars(scorer).update(fields, _response_method=method)
    return scorer


def _old_scorer(fields: Mapping[str, Any]) -> Any:
    """Make a scorer of before 1.4, whose class says what it calls."""
    module: Any = import_extra("sklearn.metrics._scorer", needed_for="a scorer")
    method = fields.get("_response_method")
    name = {"predict": "_PredictScorer", "predict_proba": "_ProbaScorer"}.get(str(method))
    kind = getattr(module, name or "_ThresholdScorer")
    scorer = kind.__new__(kind)
    vars(scorer).update({k: v for k, v in fields.items() if k != "_response_method"})
    return scorer


def _bound(fields: Fields) -> None:
    """Bind the scorer of a search to its estimator."""
    module = import_extra("sklearn.metrics._scorer", needed_for="a scorer")
    for name in ("scorer_", "scoring"):
        if isinstance(fields.get(name), Unbound):
            fields[name] = module._PassthroughScorer(fields.get("estimator"))  # noqa: SLF001 - no public name


_GONE: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], Any]], ...]] = (
    ("sklearn.gb_losses.LeastSquaresError", _loss("HalfSquaredError")),
    ("sklearn.gb_losses.LeastAbsoluteError", _loss("AbsoluteError")),
    ("sklearn.gb_losses.HuberLossFunction", _huber),
    (
        "sklearn.gb_losses.QuantileLossFunction",
        _loss("PinballLoss", parameters=(("quantile", "alpha"),)),
    ),
    ("sklearn.gb_losses.BinomialDeviance", _loss("HalfBinomialLoss")),
    ("sklearn.gb_losses.MultinomialDeviance", _multinomial),
    ("sklearn.gb_losses.ExponentialLoss", _loss("ExponentialLoss")),
)

MIGRATIONS: Final = (
    *(
        Migration(
            types=(id_,),
            since="1.4",
            change="Gradient boosting computes with the losses of sklearn._loss.",
            harm="The class of the loss is gone, so the model cannot be built.",
            build=build,
        )
        for id_, build in _GONE
    ),
    *(
        Migration(
            types=(id_,),
            since="1.6",
            change="SGD shares its compiled losses with the other linear models.",
            harm="The class of the loss is gone, so the model cannot be built.",
            build=partial(_stochastic, name),
        )
        for id_, name in (
            ("sklearn.Log", "CyHalfBinomialLoss"),
            ("sklearn.SquaredLoss", "CyHalfSquaredError"),
            ("sklearn.Huber", "CyHuberLoss"),
        )
    ),
    *(
        Migration(
            types=(id_,),
            since="1.4",
            change="One class of scorer names the method that it calls.",
            harm="The class of the scorer is gone, so the model cannot be built.",
            build=partial(_scorer, method),
        )
        for id_, method in (
            ("sklearn._PredictScorer", "predict"),
            ("sklearn._ProbaScorer", "predict_proba"),
            ("sklearn._ThresholdScorer", ("decision_function", "predict_proba")),
        )
    ),
    Migration(
        types=("sklearn._Scorer",),
        since="1.4",
        change="One class of scorer names the method that it calls.",
        harm="Older releases lack the class.",
        restore=_old_scorer,
    ),
    Migration(
        types=("sklearn._PassthroughScorer",),
        since="1.3",
        change="The scorer that calls an estimator's own score is an object, not a function.",
        harm="Older releases lack the class.",
        restore=lambda _: function_named("sklearn.passthrough_scorer"),
    ),
    Migration(
        types=_SEARCHES,
        since="1.3",
        change="The scorer that calls an estimator's own score is an object, not a function.",
        harm="The function is gone, so the search cannot be built.",
        forward=_bound,
    ),
)
