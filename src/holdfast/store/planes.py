"""Numbers into byte planes and back, alone or as differences to a base; nothing is lost.

A float's sign is turned from its highest bit to its lowest, so that the exponent lies whole in the
highest bytes, which are what compresses. A difference is taken between bit patterns mapped to the
order of the numbers: ``v ^ ((v >> w-1) & MAX)`` for a signed ``v`` of ``w`` bits, its own inverse,
so that -0.0 and every NaN come back; then it is folded to an unsigned number (zigzag), as in
Protocol Buffers, section "Signed Integers". How large a difference is, and where to, depends on the
base's number: training moves small weights by more of their last places than large ones, and decay
moves all towards zero. So ``sorted`` counts outwards and puts differences in the order of the
base's leading bits, which gives each block of a frame numbers that are alike. A difference outwards
is one to the base without its sign, if the number's own sign is turned where the base has one.

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

KINDS: Final = {"bytes": 0, "float": 1, "difference": 2, "sorted": 3}
_KEY_BITS: Final = {1: 7, 2: 8, 4: 10, 8: 12}
_CALLS: Final = 2  # what an extension that was built earlier, and is called otherwise, has not


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
        kind: ``bytes``, ``float``, ``difference`` or ``sorted``.
        base: What differences are to, as many bytes.
    """
    if native is not None:
        made = np.empty((width, data.size // width), np.uint8)
        native.split(data, width, KINDS[kind], base, made)
        return list(made)
    numbers: np.ndarray[Any, Any]
    if base is not None:
        numbers = _difference(data, base, width, outward=kind == "sorted")
        if kind == "sorted":
            numbers = numbers[_order(base, width)]
    else:
        numbers = data.view(f"<u{width}")
        if kind == "float":
            numbers = _turned(numbers)
    table = numbers.view(np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(table[:, place]) for place in range(width)]


def join(planes: Sequence[Bytes | int], kind: str, out: Bytes, base: Bytes | None = None) -> None:
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
    numbers = out.view(f"<u{width}")
    if base is not None:
        if kind == "sorted":
            numbers[_order(base, width)] = numbers.copy()
        _add(numbers, base, outward=kind == "sorted")
    elif kind == "float":
        sign = np.left_shift(numbers, 8 * width - 1)
        np.right_shift(numbers, 1, out=numbers)
        np.bitwise_or(numbers, sign, out=numbers)


def _difference(data: Bytes, base: Bytes, width: int, *, outward: bool) -> np.ndarray[Any, Any]:
    below = base.view(f"<i{width}")
    found = data.view(below.dtype).copy()
    if outward:
        found ^= below & np.iinfo(below.dtype).min
        _turn_order(found)
        found -= below & np.iinfo(below.dtype).max
    else:
        _turn_order(found)
        found -= _turn_order(below.copy())
    sign = np.right_shift(found, 8 * width - 1)
    np.left_shift(found, 1, out=found)
    np.bitwise_xor(found, sign, out=found)
    return found


def _add(folded: np.ndarray[Any, Any], base: Bytes, *, outward: bool) -> None:
    """Put numbers in the place of their differences to a base."""
    numbers = folded.view(f"<i{folded.itemsize}")
    below = base.view(numbers.dtype)
    other = np.bitwise_and(numbers, 1)
    np.negative(other, out=other)
    np.right_shift(folded, 1, out=folded)
    np.bitwise_xor(numbers, other, out=numbers)
    if outward:
        numbers += np.bitwise_and(below, np.iinfo(below.dtype).max, out=other)
        _turn_order(numbers)
        numbers ^= np.bitwise_and(below, np.iinfo(below.dtype).min, out=other)
    else:
        numbers += _turn_order(below.copy())
        _turn_order(numbers)


def _order(base: Bytes, width: int) -> np.ndarray[Any, Any]:
    """Return the places of a base's numbers in the order of the bits behind their signs."""
    bits = _KEY_BITS[width]
    keys = np.right_shift(base.view(f"<u{width}"), 8 * width - 1 - bits)
    np.bitwise_and(keys, (1 << bits) - 1, out=keys)
    return np.argsort(keys.astype(np.uint8 if bits <= 8 else np.uint16), kind="stable")


def _turned(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    turned: np.ndarray[Any, Any] = np.left_shift(numbers, 1)
    np.bitwise_or(turned, np.right_shift(numbers, 8 * numbers.itemsize - 1), out=turned)
    return turned


def _turn_order(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Map bit patterns of floats to integers in the floats' order, in place; its own inverse."""
    mask: np.ndarray[Any, Any] = np.right_shift(numbers, 8 * numbers.itemsize - 1)
    np.bitwise_and(mask, np.iinfo(numbers.dtype).max, out=mask)
    np.bitwise_xor(numbers, mask, out=numbers)
    return numbers
