"""What points in time are counted in: pandas 2 reads files in ns, pandas 3 in us.

To a model a time is a number, so one that was fitted on ns answers wrongly, and without a word, for
the same times in us.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from holdfast.errors import SignatureMismatch

__all__ = ["in_recorded_unit"]

_UNITS: Final = ("s", "ms", "us", "ns")
_COUNTED: Final = re.compile(rf"(datetime64|timedelta64)\[({'|'.join(_UNITS)})(?:, .*)?\]")


def in_recorded_unit(values: Any, dtype: str, ref: str) -> Any:
    """Count times or spans in the unit that they had at save; what is none comes back as it is.

    Args:
        values: Array or Series; never changed.
        dtype: The recorded one.
        ref: The version, for messages.

    Raises:
        SignatureMismatch: A time does not fit into the unit.
    """
    want, have = _COUNTED.fullmatch(dtype), _COUNTED.fullmatch(str(values.dtype))
    if want is None or have is None or want[2] == have[2]:
        return values
    try:
        if hasattr(values, "dt"):
            return values.dt.as_unit(want[2])
        counted = values.astype(f"{have[1]}[{want[2]}]")
    except ValueError as error:  # OutOfBoundsDatetime
        raise _beyond(dtype, ref) from error
    finer = _UNITS.index(want[2]) > _UNITS.index(have[2])
    if finer and ((counted.astype(values.dtype) != values) & ~np.isnat(values)).any():
        raise _beyond(dtype, ref)  # numpy wraps around without a word
    return counted


def _beyond(dtype: str, ref: str) -> SignatureMismatch:
    return SignatureMismatch(
        f"A time of the input is beyond what {dtype} holds, with which {ref} was saved.",
        hint=f"hold show {ref}",
        ref=ref,
    )
