"""statsmodels results: attributes by name from a reviewed table, formulas judged, filters rerun.

Results hold the data that they were fitted on (``endog``, ``exog``, the frame of a formula), and
so does what is kept of them; ``results.remove_data()`` before a save leaves it out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from holdfast import codec
from holdfast.codec.registry import Registry
from holdfast.errors import Unsupported, UsageError
from holdfast.frameworks.base import LoadOptions, Opened, Payload
from holdfast.frameworks.statsmodels import formulas, spaces, table, values
from holdfast.plugins import import_extra

__all__ = [
    "ID",
    "READS",
    "TYPES",
    "WRITES",
    "difference",
    "methods",
    "owns",
    "pack",
    "predict",
    "requires",
    "steady",
    "synthetic",
    "unpack",
]

ID: Final = "statsmodels"
TYPES: Final = (*table.TYPES, *values.TYPES, *formulas.TYPES, *spaces.TYPES)
READS: Final[Mapping[str, Callable[[Path], Any]]] = {}
WRITES: Final[Mapping[str, Callable[[Any, Path], None]]] = {}

_STEPS: Final = 8
_SERIES: Final = ("statsmodels.tsa.",)
_MUTE: Final = ("statsmodels.discrete.conditional_models",)  # their predict only raises
_FEW: Final = 20  # values of a column are drawn from those seen where there are no more than this


def owns(model: object) -> bool:
    """Say whether ``model`` is results or another object of statsmodels or of a class from it."""
    return any(base.__module__.partition(".")[0] == "statsmodels" for base in type(model).__mro__)


def pack(model: Any, registry: Registry) -> Payload:
    """Encode results; of the live object only remembered column names may be filled in.

    Raises:
        Unsupported: Something in it cannot be kept; the message names the attribute's path.
    """
    if spaces.holds_filters(model) and not spaces.is_space(model):
        raise Unsupported(
            f"{type(model).__qualname__} of statsmodels holds compiled filters and is not kept.",
            hint="results = model.fit()  # of SARIMAX, ARIMA, VARMAX or UnobservedComponents",
        )
    encoded = codec.encode(model, registry)
    return Payload(structure=encoded.structure, tensors=encoded.tensors, files=encoded.files)


def unpack(opened: Opened, registry: Registry, options: LoadOptions) -> Any:
    """Build the results.

    Raises:
        MissingExtra: statsmodels is not installed.
        Corrupt: Values contradict their type, or a formula holds what no saved one does.
        UsageError: ``into=`` or ``rename=`` was given, which are for tensors by name.
    """
    if options.into is not None or options.rename is not None:
        raise UsageError(
            "into= and rename= are for PyTorch modules; results are built whole.",
            hint='results = holdfast.load("REF")',
        )
    import_extra("statsmodels", needed_for="loading results of statsmodels")
    return codec.decode(opened.structure, opened.tensors, registry, opened.audit, opened.files)


def difference(model: Any, built: Any, registry: Registry) -> str | None:
    """Compare attributes with the live object's; see ``codec.first_difference``."""
    return codec.first_difference(model, built, registry, label="results")


def requires(model: Any) -> tuple[str, ...]:
    """Return the packages that change the answers."""
    made_by_formula = _design(model) is not None
    return ("statsmodels", "scipy", "pandas", *(("patsy",) if made_by_formula else ()))


def methods(model: Any) -> tuple[str, ...]:
    """Return ``forecast`` for time series and ``predict`` for the rest, where there is one."""
    inner = getattr(model, "model", None)
    if inner is None:
        return ()
    if type(inner).__module__.startswith(_SERIES):
        return ("forecast",) if callable(getattr(model, "forecast", None)) else ()
    if type(inner).__module__ in _MUTE:
        return ()
    return ("predict",) if callable(getattr(model, "predict", None)) else ()


def predict(model: Any, method: str, inputs: Any) -> Any:
    """Call ``predict`` with rows, or ``forecast`` with steps.

    Args:
        model: The results.
        method: ``"predict"`` or ``"forecast"``.
        inputs: Rows of ``exog`` (for a formula: a DataFrame of its columns); for a forecast the
            number of steps, or the ``exog`` of the steps.

    Raises:
        UsageError: The results have no such method.
    """
    if method not in methods(model):
        raise UsageError(f"a {type(model).__name__} has no output method {method!r} here.")
    if method == "predict":
        answer = model.predict(inputs)
        return getattr(answer, "predicted_values", answer)  # of hazards, a bunch with errors
    steps = inputs if isinstance(inputs, int) else len(inputs)
    options = {} if isinstance(inputs, int) else {"exog": inputs}
    if type(model.model).__module__.startswith("statsmodels.tsa.vector_ar."):
        recent = model.model.endog[-model.k_ar :]
        given = {} if isinstance(inputs, int) else {"exog_future": inputs}
        return model.forecast(recent, steps, **given)
    return model.forecast(steps, **options)


def synthetic(model: Any, rows: int, seed: int) -> Any | None:
    """Draw inputs within the ranges of the data that the model holds, else return None.

    Returns:
        An array or DataFrame of as many columns as ``exog``; for a formula a DataFrame of the
        columns that it reads; for time series without ``exog`` a number of steps.
    """
    if "forecast" in methods(model):
        return (
            None
            if getattr(model.model, "exog", None) is not None and _wants_exog(model)
            else (min(rows, _STEPS))
        )
    random = np.random.default_rng(seed)
    data = getattr(model.model, "data", None)
    design = _design(model)
    if design is not None:
        frame = getattr(data, "frame", None)
        names = sorted(formulas.columns(design))
        if frame is None or not set(names) <= set(frame.columns):
            return None
        return _frame({name: _column(frame[name], rows, random) for name in names})
    exog = getattr(model.model, "exog", None)
    if not isinstance(exog, np.ndarray) or exog.ndim != 2 or exog.dtype.kind != "f":
        return None
    low, high = exog.min(axis=0), exog.max(axis=0)
    drawn = low + (high - low) * random.random((rows, exog.shape[1]))
    labels = getattr(getattr(data, "orig_exog", None), "columns", None)
    return drawn if labels is None else _frame(drawn, labels)


def _wants_exog(model: Any) -> bool:
    """Say whether a forecast needs regressors of the caller; trends are made by the model."""
    return getattr(model.model.data, "orig_exog", None) is not None


def _design(model: Any) -> Any | None:
    data = getattr(getattr(model, "model", None), "data", None)
    return getattr(data, "model_spec", None) or getattr(data, "design_info", None)


def _frame(values: Any, columns: Any = None) -> Any:
    pandas = import_extra("pandas", needed_for="named inputs")
    return pandas.DataFrame(values, columns=columns)


def _column(series: Any, rows: int, random: np.random.Generator) -> Any:
    """Draw values like those of a column: numbers within its range, else values it has."""
    known = series.dropna()
    numbers = known.dtype.kind == "f" if hasattr(known.dtype, "kind") else False
    if numbers and known.nunique() > _FEW:
        return random.uniform(known.min(), known.max(), rows)
    seen = known.unique()
    return seen[random.integers(0, len(seen), rows)]


@contextmanager
def steady(model: Any) -> Iterator[None]:  # noqa: ARG001 - the adapter's contract
    """Silence warnings; predictions draw nothing at random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
