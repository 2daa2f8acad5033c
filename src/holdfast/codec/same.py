"""Finding what a round trip lost: two object graphs walked side by side.

The comparison looks at the live objects and not at what was encoded of them, so that a mistake of
an encoder cannot vouch for itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final

import numpy as np

from holdfast.codec.encode import Path
from holdfast.codec.registry import Registry

__all__ = ["first_difference"]

_PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, bytearray, type(None), range})


def first_difference(live: Any, built: Any, registry: Registry, *, label: str) -> str | None:
    """Return where two graphs first differ and how, or None when they are the same.

    Types, values bit for bit, order and dtypes are compared, and of objects every attribute, also
    those their type's encoder leaves out unless it names them ``derived``.

    Args:
        live: The caller's object.
        built: What was read back.
        registry: How objects that are no plain values are taken apart.
        label: How the root is called.
    """
    return _Walk(registry).run(live, built, label)


class _Walk:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.queue: deque[tuple[Any, Any, Path]] = deque()
        self.seen: dict[int, Any] = {}

    def run(self, live: Any, built: Any, label: str) -> str | None:
        self.queue.append((live, built, Path(None, "", label)))
        while self.queue:
            one, other, path = self.queue.popleft()
            found = self._compare(one, other, path)
            if found is not None:
                return f"{path} {found}"
        return None

    def _compare(self, one: Any, other: Any, path: Path) -> str | None:
        """Return how two values differ by themselves; queue what hangs below them."""
        if one is other:
            return None
        arrays = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)  # a memmap is one
        if type(one) is not type(other) and not arrays:
            return f"was a {type(one).__name__} and comes back as a {type(other).__name__}"
        if type(one) in _PLAIN:
            return (
                None if _alike(one, other) else f"was {one!r:.60} and comes back as {other!r:.60}"
            )
        if id(one) not in self.seen:
            self.seen[id(one)] = one  # held, so that no other object takes its place
            return self._apart(one, other, path)
        return None

    def _apart(self, one: Any, other: Any, path: Path) -> str | None:
        if isinstance(one, np.ndarray):
            return self._arrays(one, other, path)
        if type(one) in (dict, OrderedDict):
            return self._mappings(one, other, path)
        if type(one) in (list, tuple):
            return self._sequences(one, other, path)
        if isinstance(one, set | frozenset):
            return None if one == other else "has other members"
        return self._objects(one, other, path)

    def _objects(self, one: Any, other: Any, path: Path) -> str | None:
        spec = self.registry.spec_for(one)
        derived = frozenset() if spec is None else spec.derived
        if hasattr(one, "__dict__") and (spec is None or spec.attributes):
            parts = (vars(one), vars(other))
        elif spec is not None:
            parts = (spec.encode(one), spec.encode(other))
        else:
            return None if repr(one) == repr(other) else f"was {one!r:.60}, is {other!r:.60}"
        mine, theirs = ({k: v for k, v in part.items() if k not in derived} for part in parts)
        lost = mine.keys() ^ theirs.keys()
        if lost:
            return f"loses or gains the attribute {min(lost)!r}"
        for name, value in mine.items():
            self.queue.append((value, theirs[name], Path(path, name, f".{name}")))
        return None

    def _sequences(self, one: Any, other: Any, path: Path) -> str | None:
        if len(one) != len(other):
            return f"had {len(one)} items and comes back with {len(other)}"
        if type(one) is list and one and {*map(type, one)} <= {int, str, bool} and one == other:
            return None if [*map(type, one)] == [*map(type, other)] else "has items of other types"
        for place, pair in enumerate(zip(one, other, strict=True)):
            self.queue.append((*pair, Path(path, str(place), f"[{place}]")))
        return None

    def _mappings(self, one: Any, other: Any, path: Path) -> str | None:
        keys, others = list(one), list(other)
        if keys != others or [*map(type, keys)] != [*map(type, others)]:
            return "has other keys, or in another order"
        for key, left, right in zip(keys, one.values(), other.values(), strict=True):
            if type(left) is int and type(right) is int and left == right:
                continue
            self.queue.append((left, right, Path(path, str(key), f"[{key!r:.60}]")))
        return None

    def _arrays(self, one: Any, other: Any, path: Path) -> str | None:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return f"was {one.dtype}{list(one.shape)}, is {other.dtype}{list(other.shape)}"
        if one.dtype.hasobject:
            return self._sequences(one.ravel().tolist(), other.ravel().tolist(), path)
        return None if _bytes(one) == _bytes(other) else "comes back with other numbers"


def _bytes(array: Any) -> Any:
    """Return the values' bytes; records without padding between their fields."""
    if array.dtype.fields is not None:
        packed = np.dtype([(name, array.dtype[name]) for name in array.dtype.names])
        array = array.astype(packed)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _alike(one: Any, other: Any) -> bool:
    """Compare plain values; of numbers with a point also NaN and the sign of zero."""
    return repr(one) == repr(other) if type(one) in (float, complex) else bool(one == other)
