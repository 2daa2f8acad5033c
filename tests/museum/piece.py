"""What every family of models in the museum shares: a piece of it, and what a model answers.

Runs under every library of the museum, so it may use nothing new.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")


class Piece(NamedTuple):
    """One model of the museum.

    Attributes:
        name: Its name in the store.
        model: The fitted model, or a plain value.
        golden: Rows for the golden set, of the data it was fitted on; None for a plain value.
        held_out: Rows that nothing else has seen.
        native: Ending of a file of the library's own to what writes one; kept beside the store.
    """

    name: str
    model: Any
    golden: Any
    held_out: Any
    native: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


def drawn(seed: int, rows: int) -> Any:
    """Return four columns of numbers, a tenth of them missing, that tell three classes apart."""
    import numpy as np

    random = np.random.RandomState(seed)
    values = random.normal(size=(rows, 4)) + (np.arange(rows) % 3)[:, None]
    return np.where(random.random_sample(values.shape) < 0.1, np.nan, values)


def framed(seed: int, rows: int, cities: list[str]) -> Any:
    """Return a frame of numbers with gaps, whole numbers and a category."""
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame(drawn(seed, rows)[:, :2], columns=["age", "income"])
    frame["visits"] = np.arange(rows) % 5
    frame["city"] = pd.Categorical.from_codes(np.arange(rows) * 7 % len(cities), categories=cities)
    return frame


def answers(model: Any, rows: Any, methods: Iterable[str] = METHODS) -> dict[str, Any]:
    """Return what the output methods that the model has say of the rows."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in methods:
            call = getattr(model, method, None)
            if callable(call):
                found[method] = call(rows)
    return found
