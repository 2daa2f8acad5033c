"""Numbers into byte planes and back, alone or as differences to a base; nothing is lost.

A float's sign is turned from its highest bit to its lowest, so that the exponent lies whole in the
highest bytes, which are what compresses. A difference is taken between bit patterns mapped to the
order of the numbers: ``v ^ ((v >> w-1) & MAX)`` for a signed ``v`` of ``w`` bits, its own inverse,
so that -0.0 and every NaN come back; then it is folded to an unsigned number (zigzag), as in
Protocol Buffers, section "Signed Integers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Bytes", "join", "join_difference", "split", "split_difference"]

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]


def split(data: Bytes, width: int, *, turn: bool) -> list[Bytes]:
    """Return the byte planes of little-endian numbers, lowest first.

    Args:
        data: Bytes, one axis, a multiple of ``width`` of them.
        width: Bytes of a number: 1, 2, 4 or 8.
        turn: Whether the sign goes to the lowest bit, as is best for floats.
    """
    numbers = data.view(f"<u{width}")
    if turn:
        turned = np.left_shift(numbers, 1)
        numbers = np.bitwise_or(turned, np.right_shift(numbers, 8 * width - 1), out=turned)
    return _planes(numbers)


def join(planes: Sequence[Bytes | int], out: Bytes, *, turn: bool) -> None:
    """Write numbers from their planes; the reverse of ``split``.

    Args:
        planes: Lowest first; a plane of equal bytes may be given as that byte.
        out: Where to, one axis.
        turn: As given to ``split``.
    """
    width = len(planes)
    _gather(planes, out)
    if turn:
        numbers = out.view(f"<u{width}")
        sign = np.left_shift(numbers, 8 * width - 1)
        np.right_shift(numbers, 1, out=numbers)
        np.bitwise_or(numbers, sign, out=numbers)


def split_difference(data: Bytes, base: Bytes, width: int) -> list[Bytes]:
    """Return the byte planes of how numbers differ from a base's, lowest first.

    Args:
        data: Bytes, one axis.
        base: As many bytes.
        width: Bytes of a number.
    """
    ordered = _ordered(data.view(f"<i{width}"))
    ordered -= _ordered(base.view(f"<i{width}"))
    sign = np.right_shift(ordered, 8 * width - 1)
    np.left_shift(ordered, 1, out=ordered)
    np.bitwise_xor(ordered, sign, out=ordered)
    return _planes(ordered)


def join_difference(planes: Sequence[Bytes | int], base: Bytes, out: Bytes) -> None:
    """Write numbers from the planes of their differences; the reverse of ``split_difference``."""
    width = len(planes)
    _gather(planes, out)
    folded = out.view(f"<u{width}")
    sign = np.bitwise_and(folded, 1).view(f"<i{width}")
    np.negative(sign, out=sign)
    np.right_shift(folded, 1, out=folded)
    numbers = out.view(f"<i{width}")
    np.bitwise_xor(numbers, sign, out=numbers)
    numbers += _ordered(base.view(f"<i{width}"))
    numbers[...] = _ordered(numbers)


def _ordered(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Map bit patterns of floats to integers in the floats' order; its own inverse."""
    mask: np.ndarray[Any, Any] = np.right_shift(numbers, 8 * numbers.itemsize - 1)
    np.bitwise_and(mask, np.iinfo(numbers.dtype).max, out=mask)
    np.bitwise_xor(numbers, mask, out=mask)
    return mask


def _planes(numbers: np.ndarray[Any, Any]) -> list[Bytes]:
    width = numbers.itemsize
    if width == 1:
        return [numbers.view(np.uint8)]
    table = numbers.view(np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(table[:, place]) for place in range(width)]


def _gather(planes: Sequence[Bytes | int], out: Bytes) -> None:
    table = out.reshape(-1, len(planes))
    for place, plane in enumerate(planes):
        table[:, place] = plane
