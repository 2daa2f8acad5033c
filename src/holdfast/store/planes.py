"""Numbers into byte planes and back, alone or as differences to a base; nothing is lost.

A float's sign is turned from its highest bit to its lowest, so that the exponent lies whole in the
highest bytes, which are what compresses. A difference is taken between bit patterns mapped to the
order of the numbers: ``v ^ ((v >> w-1) & MAX)`` for a signed ``v`` of ``w`` bits, its own inverse,
so that -0.0 and every NaN come back; then it is folded to an unsigned number (zigzag), as in
Protocol Buffers, section "Signed Integers".

``native`` does the same in one pass where it was built, without the GIL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np

__all__ = ["KINDS", "Bytes", "join", "native", "split"]

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

KINDS: Final = {"bytes": 0, "float": 1, "difference": 2}
_CALLS: Final = 1  # what an extension that was built earlier, and is called otherwise, has not


def _found() -> ModuleType | None:
    with contextlib.suppress(ImportError):
        from holdfast.store import _native

        return _native if _native.CALLS == _CALLS else None
    return None


native = _found()


def split(data: Bytes, width: int, kind: str, base: Bytes | None = None) -> list[Bytes]:
    """Return the byte planes of little-endian numbers, lowest first.

    Args:
        data: Bytes, one axis, a multiple of ``width`` of them.
        width: Bytes of a number: 1, 2, 4 or 8.
        kind: ``bytes``, ``float`` or ``difference``.
        base: What differences are to, as many bytes.
    """
    if native is not None:
        made = np.empty((width, data.size // width), np.uint8)
        native.split(data, width, KINDS[kind], base, made)
        return list(made)
    if kind == "difference" and base is not None:
        return _planes(_difference(data.view(f"<i{width}"), base.view(f"<i{width}")))
    numbers = data.view(f"<u{width}")
    if kind == "float":
        turned = np.left_shift(numbers, 1)
        numbers = np.bitwise_or(turned, np.right_shift(numbers, 8 * width - 1), out=turned)
    return _planes(numbers)


def join(
    planes: Sequence[Bytes | int], kind: str, out: Bytes, base: Bytes | None = None
) -> None:
    """Write numbers from their planes; the reverse of ``split``.

    Args:
        planes: Lowest first; a plane of equal bytes may be given as that byte.
        kind: As given to ``split``.
        out: Where to, one axis.
        base: As given to ``split``.
    """
    if native is not None:
        lengths = tuple(-1 - plane if isinstance(plane, int) else 0 for plane in planes)
        held = b"".join(plane.data for plane in planes if not isinstance(plane, int))
        native.join(held, lengths, KINDS[kind], base, out)
        return
    width = len(planes)
    table = out.reshape(-1, width)
    for place, plane in enumerate(planes):
        table[:, place] = plane
    if kind == "float":
        numbers = out.view(f"<u{width}")
        sign = np.left_shift(numbers, 8 * width - 1)
        np.right_shift(numbers, 1, out=numbers)
        np.bitwise_or(numbers, sign, out=numbers)
    elif kind == "difference" and base is not None:
        _add(out, base, width)


def _difference(numbers: np.ndarray[Any, Any], base: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    ordered = _ordered(numbers)
    ordered -= _ordered(base)
    sign = np.right_shift(ordered, 8 * ordered.itemsize - 1)
    np.left_shift(ordered, 1, out=ordered)
    np.bitwise_xor(ordered, sign, out=ordered)
    return ordered


def _add(out: Bytes, base: Bytes, width: int) -> None:
    """Put numbers in the place of their differences to a base."""
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
