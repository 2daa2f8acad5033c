"""Finding what a round trip lost: two object graphs walked side by side.

The comparison looks at the live objects and not at what was encoded of them, so that a mistake of
an encoder cannot vouch for itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from holdfast.codec.encode import Path, key_order, key_text
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import FileData

__all__ = ["first_difference", "same_bytes"]

_PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, bytearray, type(None)})
# Equal values of these, of the same type, are the same; comparing them does not recurse.
_EXACT: Final = frozenset({bool, int, str})
_MUTABLE: Final = frozenset({list, dict, OrderedDict, set, np.ndarray, np.memmap})
_NOBODY: Final = (None, object())


def first_difference(live: Any, built: Any, registry: Registry, *, label: str) -> str | None:
    """Return where two graphs first differ and how, or None when they are the same.

    Types, values bit for bit, order, dtypes, memory order and the read-only flag of arrays, and
    which mutable parts are one object are compared, and of objects every attribute, also those
    their type's encoder leaves out unless it names them ``derived``.

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
        # Partners by id, each way; they are held, so that no other object takes their place.
        self.built: dict[int, tuple[Any, Any]] = {}
        self.live: dict[int, tuple[Any, Any]] = {}

    def run(self, live: Any, built: Any, label: str) -> str | None:
        self.queue.append((live, built, Path(None, "", label)))
        while self.queue:
            one, other, path = self.queue.popleft()
            found = self._compare(one, other, path)
            if found is not None:
                return f"{path} {found}"
        return None

    def _compare(  # noqa: PLR0911 - one answer for each way to differ
        self, one: Any, other: Any, path: Path
    ) -> str | None:
        """Return how two values differ by themselves; queue what hangs below them."""
        if one is other:
            return None
        if _kind(one) is not _kind(other) and not self._of_one_type(one, other):
            return f"was a {type(one).__name__} and comes back as a {type(other).__name__}"
        if type(one) in _PLAIN:
            return None if _alike(one, other) else _was(one, other)
        if self.built.get(id(one), _NOBODY)[1] is other:
            return None
        if type(one) in _MUTABLE or hasattr(one, "__dict__"):
            if id(one) in self.built:
                return "was one object in two places and comes back as two"
            if id(other) in self.live:
                return "was an object of its own and comes back as one with another"
        self.built[id(one)] = self.live[id(other)] = (one, other)
        return self._apart(one, other, path)

    def _of_one_type(self, one: Any, other: Any) -> bool:
        """Say whether a type of files stands for both classes by what it accepts."""
        spec = self.registry.spec_for(one)
        chosen = spec is not None and spec.accepts is not None
        return chosen and spec is self.registry.spec_for(other)

    def _apart(self, one: Any, other: Any, path: Path) -> str | None:
        if _kind(one) in (np.ndarray, np.matrix):
            return self._arrays(one, other, path)
        if type(one) in (dict, OrderedDict):
            return self._mappings(one, other, path)
        if type(one) in (list, tuple):
            return self._sequences(one, other, path)
        if type(one) in (set, frozenset):
            return self._members(one, other, path)
        if type(one) in (slice, range):
            self._queue(((name, getattr(one, name), getattr(other, name)) for name in _STEPS), path)
            return None
        return self._objects(one, other, path)

    def _objects(self, one: Any, other: Any, path: Path) -> str | None:
        if isinstance(one, FileData):
            return None if same_bytes(one.data, other.data) else "comes back with other bytes"
        if isinstance(one, np.generic | np.dtype | type):
            return None if _same_scalar(one, other) else _was(one, other)
        spec = self.registry.spec_for(one)
        derived = frozenset() if spec is None else spec.derived
        if hasattr(one, "__dict__") and (spec is None or spec.attributes):
            parts = (vars(one), vars(other))
        elif spec is not None:
            state = spec.state or spec.encode
            parts = (state(one), state(other))
        else:
            return None if repr(one) == repr(other) else _was(one, other)
        mine, theirs = ({k: v for k, v in part.items() if k not in derived} for part in parts)
        lost = mine.keys() ^ theirs.keys()
        if lost:
            return f"loses or gains the attribute {min(lost, key=str)!r}"
        self._queue(((name, value, theirs[name]) for name, value in mine.items()), path)
        return None

    def _queue(self, parts: Iterable[tuple[str, Any, Any]], path: Path) -> None:
        for name, one, other in parts:
            if one is not other and not _exact((one,), (other,)):
                self.queue.append((one, other, Path(path, name, f".{name}")))

    def _sequences(self, one: Any, other: Any, path: Path) -> str | None:
        if len(one) != len(other):
            return f"had {len(one)} items and comes back with {len(other)}"
        if _exact(one, other):
            return None
        for place, pair in enumerate(zip(one, other, strict=True)):
            self.queue.append((*pair, Path(path, str(place), f"[{place}]")))
        return None

    def _mappings(self, one: Any, other: Any, path: Path) -> str | None:
        keys, others = list(one), list(other)
        if len(keys) != len(others):
            return "has other keys"
        if not _exact(keys, others):
            if {*map(type, (*keys, *others))} <= _EXACT:
                return "has other keys, or in another order"
            for place, pair in enumerate(zip(keys, others, strict=True)):
                self.queue.append((*pair, Path(path, "", f".keys()[{place}]")))
        for key, left, right in zip(keys, one.values(), other.values(), strict=True):
            if type(left) is int and type(right) is int and left == right:
                continue
            self.queue.append((left, right, Path(path, "", f"[{key_text(key)[:60]}]")))
        return None

    def _members(self, one: Any, other: Any, path: Path) -> str | None:
        """Pair equal members; then those equal to nothing, such as NaN, by their text."""
        mates = {item: item for item in other}
        pairs = [(item, mates.pop(item)) for item in one if item in mates]
        paired = {id(item) for item, _ in pairs}
        lone = sorted((item for item in one if id(item) not in paired), key=key_order)
        rest = sorted(mates, key=key_order)
        orders = [*map(key_order, lone)]
        if orders != [*map(key_order, rest)]:
            return "has other members"
        if len(set(orders)) == len(orders):  # else nothing says which belong together
            pairs += zip(lone, rest, strict=True)
        for item, mate in pairs:
            self.queue.append((item, mate, Path(path, "", f"[{key_text(item)[:60]}]")))
        return None

    def _arrays(self, one: Any, other: Any, path: Path) -> str | None:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return f"was {one.dtype}{list(one.shape)}, is {other.dtype}{list(other.shape)}"
        if one.flags.writeable != other.flags.writeable:
            return "can be written to before or after, but not both"
        if any(one.flags[flag] and not other.flags[flag] for flag in _orders(one)):
            return "comes back in another memory order"
        if one.dtype.hasobject:
            return self._sequences(one.ravel().tolist(), other.ravel().tolist(), path)
        same = _same_bytes(one, other) or _same_bytes(_clean(one), _clean(other))
        return None if same else "comes back with other numbers"


_BLOCK: Final = 1 << 17  # words of eight bytes
_STEPS: Final = ("start", "stop", "step")


def _kind(value: Any) -> type:
    return np.ndarray if type(value) is np.memmap else type(value)


def _orders(array: Any) -> tuple[str, ...]:
    """Return the memory order that must be kept; a view with gaps has none."""
    return ("C_CONTIGUOUS",) if array.flags.c_contiguous else ("F_CONTIGUOUS",)


def _same_bytes(one: Any, other: Any) -> bool:
    """Compare the bytes of two arrays of one dtype and shape, without a copy of large ones."""
    if one.flags.f_contiguous and other.flags.f_contiguous:
        one, other = one.T, other.T
    left, right = _words(one), _words(other)
    return all(
        np.array_equal(left[start : start + _BLOCK], right[start : start + _BLOCK])
        for start in range(0, len(left), _BLOCK)
    )


def same_bytes(one: bytes | memoryview, other: bytes | memoryview) -> bool:
    """Compare bytes at the speed of memory; comparing views themselves goes byte by byte."""
    left, right = (np.frombuffer(data, np.uint8) for data in (one, other))
    return left.size == right.size and _same_bytes(left, right)


def _words(array: Any) -> Any:
    """View an array's bytes, eight at a time where they are whole eights."""
    if not array.nbytes:
        return np.empty(0, np.uint8)
    # Bytes first: an item of three characters is no number of eights, two of them are.
    plain = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return plain if array.nbytes % 8 else plain.view(np.uint64)


def _clean(array: Any) -> Any:
    """Return an array without what is no value: bytes between fields, truths other than 1."""
    if array.dtype.fields is not None:
        clean = np.zeros(array.shape, array.dtype)
        clean[...] = array
        return clean
    return np.ascontiguousarray(array).view(np.uint8) != 0 if array.dtype.kind == "b" else array


def _exact(ones: Any, others: Any) -> bool:
    """Say at once, where it can be said, that two lists of plain values are the same."""
    kinds = [*map(type, ones)]
    return {*kinds} <= _EXACT and [*map(type, others)] == kinds and list(ones) == list(others)


def _same_scalar(one: Any, other: Any) -> bool:
    if isinstance(one, np.dtype | type):
        return bool(one == other)
    if isinstance(one, str | bytes):  # numpy overlooks zeros at their end
        return bool(one[:] == other[:])
    return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())


def _alike(one: Any, other: Any) -> bool:
    """Compare plain values; of numbers with a point also NaN and the sign of zero."""
    return repr(one) == repr(other) if type(one) in (float, complex) else bool(one == other)


def _was(one: Any, other: Any) -> str:
    return f"was {key_text(one)[:60]} and comes back as {key_text(other)[:60]}"
