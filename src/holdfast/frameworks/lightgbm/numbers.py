"""Numbers in LightGBM's text, judged by the thousand.

Two bytes are looked at together: nearly all that is no number has two that cannot follow each
other. What is left is harmless, as 1.2.3, of which the native reader takes the beginning.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from holdfast.errors import Corrupt

__all__ = ["require_numbers", "require_representable", "whole", "whole_numbers"]

# Kinds of bytes inside and between numbers, by their place here; 7 is whatever else there is.
_KINDS: Final = (b"0123456789", b" ", b"-", b"+", b".", b"e")
_KIND: Final = bytes(
    next((kind for kind, members in enumerate(_KINDS) if byte in members), 7) for byte in range(256)
)


def _pairs(followers: dict[int, tuple[int, ...]]) -> bytes:
    """Return what may follow what: eight times the kind of the first and that of the second."""
    return bytes(8 * one + other for one, others in followers.items() for other in others)


_WHOLE: Final = _pairs({0: (0, 1), 1: (0, 2), 2: (0,)})
_FLOAT: Final = _pairs({0: (0, 1, 4, 5), 1: (0, 2), 2: (0,), 3: (0,), 4: (0,), 5: (0, 2, 3)})
_WORD: Final = re.compile(rb"[0-9]{1,18}")
_DECIMAL: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?")
_LARGEST: Final = 2**31 - 1
_NOT_FINITE: Final = (b"nan", b"-nan", b"inf", b"-inf")


def _only(joined: bytes, pairs: bytes) -> bool:
    """Say whether numbers with one space between them have no other pairs of bytes."""
    kinds = np.frombuffer((b" " + joined + b" 0").translate(_KIND), np.uint8)
    return not (kinds[:-1] * 8 + kinds[1:]).tobytes().translate(None, pairs)


def whole(text: bytes, low: int, high: int) -> int:
    """Read a number of nothing but digits.

    Raises:
        Corrupt: It is something else, or outside the bounds.
    """
    if not _WORD.fullmatch(text) or not low <= int(text) <= high:
        raise Corrupt(f"the LightGBM model has {text!r:.40} where a number belongs")
    return int(text)


def whole_numbers(lines: Sequence[bytes]) -> Any:
    """Read lines of whole numbers, between which there is one space each.

    Raises:
        Corrupt: Something else is there.
    """
    joined = b" ".join(lines)
    if not joined:
        return np.zeros(0, np.int64)
    if not _only(joined, _WHOLE):
        raise Corrupt("the LightGBM model has something else where whole numbers belong")
    found = np.fromstring(joined, dtype=np.int64, sep=" ")
    if found.max() > _LARGEST or found.min() < -_LARGEST:
        # Native code keeps the last bits of what is too large, and this reader the largest number.
        raise Corrupt("the LightGBM model has an impossibly large number")
    return found


def require_numbers(lines: Sequence[bytes]) -> None:
    """Require that lines hold numbers, between which there is one space each.

    Raises:
        Corrupt: Something else is there.
    """
    joined = b" ".join([line.removesuffix(b" ") for line in lines if line])
    if not joined or _only(joined, _FLOAT):
        return
    for word in joined.split(b" "):  # infinities, and what is no number
        if not _DECIMAL.fullmatch(word) and word not in _NOT_FINITE:
            raise Corrupt(f"the LightGBM model has {word!r:.40} where a number belongs")


def require_representable(word: bytes) -> None:
    """Require a number that C++ can read into a double, neither too large nor too small.

    Raises:
        Corrupt: It is something else.
    """
    if word in _NOT_FINITE:
        return
    number = float(word) if _DECIMAL.fullmatch(word) else math.inf
    tiny = abs(number) < sys.float_info.min and word.strip(b"-0.")
    if math.isinf(number) or tiny:
        raise Corrupt(f"the LightGBM model has the impossible number {word!r:.40}")
