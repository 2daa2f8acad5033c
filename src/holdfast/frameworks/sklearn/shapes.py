"""What judges of estimators ask of attributes: arrays of a shape, whole numbers within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["array", "finite", "places", "rows_of", "whole", "width_of"]

Fields = Mapping[str, Any]


def array(value: Any, what: str, *, kinds: str, shape: tuple[int | None, ...]) -> Any:
    """Return an array once its kind of numbers and its shape are judged.

    Args:
        value: What ought to be an array.
        what: How a message calls it.
        kinds: The kinds of dtype that it may have, as in ``numpy.dtype.kind``.
        shape: Its shape; None stands for any size.

    Raises:
        Corrupt: It is something else.
    """
    if type(value) is not np.ndarray or value.dtype.kind not in kinds:
        raise Corrupt(f"{what} are no array of numbers of the right kind")
    if value.ndim != len(shape) or any(
        size not in (None, own) for size, own in zip(shape, value.shape, strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise Corrupt(f"{what} have the shape {value.shape}, not ({wanted})")
    return value


def whole(value: Any, what: str, low: int, high: int) -> int:
    """Return a whole number once it is judged to lie within bounds, both included.

    Raises:
        Corrupt: It is no whole number, or beyond them.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise Corrupt(f"{what} is no whole number")
    if not low <= value <= high:
        raise Corrupt(f"{what} is {value:.0f}, beyond {low} to {high}")
    return int(value)


def width_of(fields: Fields, what: str) -> int:
    """Return the number of features that inputs are checked against; absent, nothing is checked.

    Raises:
        Corrupt: It is absent or impossible.
    """
    return whole(fields.get("n_features_in_"), f"the width of the inputs of {what}", 1, 2**31 - 1)


def rows_of(value: Any, what: str, width: int) -> int:
    """Return the number of rows of a matrix of numbers, dense or sparse by rows.

    Raises:
        Corrupt: It is no such matrix, or of another width.
    """
    if type(value).__name__ in ("csr_matrix", "csr_array") and value.ndim == 2:
        if value.shape[1] != width:
            raise Corrupt(f"{what} have another width than the inputs")
        return int(value.shape[0])
    return len(array(value, what, kinds="fiub", shape=(None, width)))


def places(value: Any, what: str, below: int) -> int:
    """Return how many indices there are, once each is judged to lie below a bound.

    Raises:
        Corrupt: They are no whole numbers, or one is out of range.
    """
    array(value, what, kinds="iu", shape=(None,))
    if len(value) and (value.min() < 0 or value.max() >= below):
        raise Corrupt(f"one of the {what} is out of range")
    return len(value)


def finite(value: Any, what: str) -> None:
    """Refuse numbers that are none: LAPACK may never come to an end with them.

    Raises:
        Corrupt: One is infinite or not a number.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
        raise Corrupt(f"{what} are not finite")
