"""Rows drawn at random for models that were saved without any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.plugins import import_extra

__all__ = ["standard_normal"]


def standard_normal(rows: int, width: int, names: Sequence[str] | None, seed: int) -> Any | None:
    """Draw inputs, as a frame where features have names.

    Returns:
        float64 of shape (rows, width): an array, or a DataFrame; None where features have names
        and pandas is not installed.
    """
    values = np.random.default_rng(seed).standard_normal((rows, width))
    if names is None:
        return values
    try:
        pandas = import_extra("pandas", needed_for="named inputs")
    except ImportError:
        return None
    return pandas.DataFrame(values, columns=list(names))
