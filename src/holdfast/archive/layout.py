"""Where each tensor lies in ``model.safetensors``, and where that file is cut into pieces.

Pure functions: the same tensors always give the same bytes and the same cuts. Boundaries follow
tensor names, never positions, so that adding or changing a tensor moves nothing else. Source of
the file format: the safetensors README, section "Format".
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from holdfast.codec.tensors import ITEMSIZE
from holdfast.errors import Corrupt

__all__ = ["BIG", "MAX_TENSORS", "Plan", "TensorLike", "nbytes", "plan"]

MAX_TENSORS: Final = 200_000

# A tensor of this many bytes is a piece of its own.
BIG: Final = 1 << 20
# A group of small tensors closes at a name that hashes so once it holds GROUP_MIN bytes, and
# before it would exceed GROUP_MAX.
GROUP_MIN: Final = 1 << 20
GROUP_MAX: Final = 8 << 20
_ALIGN: Final = 64
_NAME_BYTES: Final = 512
_TOTAL: Final = 1 << 60


class TensorLike(Protocol):
    """What the layout needs to know of a tensor."""

    @property
    def name(self) -> str:
        """Its name in the header."""

    @property
    def dtype(self) -> str:
        """Its safetensors dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""


class Plan(NamedTuple):
    """The layout of a safetensors file.

    Attributes:
        header: Piece 0: length, JSON and padding, a multiple of 64 bytes.
        entries: Tensors in file order.
        pieces: The same tensors cut into pieces, in file order; empty tensors ride along.
        sizes: Bytes of each of these pieces.
        total: Bytes of the whole file.
    """

    header: bytes
    entries: tuple[TensorLike, ...]
    pieces: tuple[tuple[TensorLike, ...], ...]
    sizes: tuple[int, ...]
    total: int


def nbytes(tensor: TensorLike) -> int:
    """Return a tensor's size in bytes."""
    return math.prod(tensor.shape) * ITEMSIZE[tensor.dtype]


def plan(tensors: Iterable[TensorLike]) -> Plan:
    """Lay out tensors.

    Raises:
        Corrupt: A name, dtype or shape cannot stand in a safetensors file, or there are too many.
    """
    tensors = list(tensors)
    _check(tensors)
    ordered = sorted(tensors, key=_order)
    pieces = _cut(ordered)
    header = _header(ordered)
    sizes = tuple(sum(map(nbytes, piece)) for piece in pieces)
    return Plan(header, tuple(ordered), pieces, sizes, len(header) + sum(sizes))


def _order(tensor: TensorLike) -> tuple[bool, int, bool, bytes]:
    """Sort so that each tensor starts at a multiple of its item size.

    Big tensors whose size is a multiple of 8 come first: whatever follows them is aligned. The
    rest is in order of falling item size, so every start is a sum of multiples of it.
    """
    size = nbytes(tensor)
    steady = size >= BIG and size % 8 == 0
    return (not steady, -ITEMSIZE[tensor.dtype], size < BIG, tensor.name.encode())


def _check(tensors: Sequence[TensorLike]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise Corrupt(f"{len(tensors)} tensors are more than the limit of {MAX_TENSORS}")
    seen: set[str] = set()
    total = 0
    for tensor in tensors:
        name = tensor.name
        if name in seen:
            raise Corrupt(f"the tensor {name!r:.100} is there twice")
        seen.add(name)
        if not _is_name(name):
            raise Corrupt(f"{name!r:.100} cannot be a tensor's name")
        if tensor.dtype not in ITEMSIZE:
            raise Corrupt(f"tensor {name!r:.100} has the unknown dtype {tensor.dtype!r:.40}")
        if any(type(n) is not int or n < 0 for n in tensor.shape) or len(tensor.shape) > 64:
            raise Corrupt(f"tensor {name!r:.100} has an impossible shape")
        total += nbytes(tensor)
    if total > _TOTAL:
        raise Corrupt(f"the tensors claim {total} bytes, which no file holds")


def _is_name(name: str) -> bool:
    if name in ("", "__metadata__") or not name.isprintable():
        return False
    try:
        return len(name.encode()) <= _NAME_BYTES
    except UnicodeEncodeError:
        return False


def _cut(ordered: Sequence[TensorLike]) -> tuple[tuple[TensorLike, ...], ...]:
    pieces: list[list[TensorLike]] = []
    group: list[TensorLike] = []
    held = 0

    def close() -> None:
        nonlocal group, held
        if held:
            pieces.append(group)
            group, held = [], 0

    for tensor in ordered:
        size = nbytes(tensor)
        if size >= BIG:
            close()
            pieces.append([*group, tensor])
            group = []
            continue
        if held + size > GROUP_MAX:
            close()
        group.append(tensor)
        held += size
        if held >= GROUP_MIN and hashlib.sha256(tensor.name.encode()).digest()[0] % 4 == 0:
            close()
    close()
    if group and pieces:  # only empty tensors are left
        pieces[-1].extend(group)
    return tuple(map(tuple, pieces))


def _header(ordered: Sequence[TensorLike]) -> bytes:
    if not ordered:
        return b""
    table, offset = {}, 0
    for tensor in ordered:
        end = offset + nbytes(tensor)
        table[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    padding = -(8 + len(text)) % _ALIGN
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding
