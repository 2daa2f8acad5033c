"""Round trips of the codec, and an equality of object graphs that sees types and sharing."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from holdfast.api.version import Version
from holdfast.codec import TYPES, Encoded, audit, decode, encode
from holdfast.codec.registry import Registry
from holdfast.codec.tensors import TensorData, TensorView
from holdfast.record import Content, Digest, Structure, digest_hex

# What Python itself shares or copies as it likes: the identity of these means nothing.
LEAVES = (bool, int, float, complex, str, type(None), type(...), type, range)
LEAVES = (*LEAVES, np.generic, np.dtype)
INTERNED = (tuple, frozenset, bytes)


class DifferenceError(AssertionError):
    """Two graphs differ; the message says where."""


class _Pairs:
    """Walks two graphs side by side; an object must always meet the same partner."""

    def __init__(self) -> None:
        self.partner: dict[int, int] = {}
        self.back: dict[int, int] = {}
        self.queue: deque[tuple[str, Any, Any]] = deque()
        self.alive: list[Any] = []

    def run(self, left: Any, right: Any) -> None:
        self.queue.append(("root", left, right))
        while self.queue:
            where, one, two = self.queue.popleft()
            if type(one) is not type(two):
                raise DifferenceError(f"{where}: {type(one)} and {type(two)}")
            if self.met(where, one, two):
                continue
            if not self.same(where, one, two):
                raise DifferenceError(f"{where}: {one!r:.200} and {two!r:.200}")

    def met(self, where: str, one: Any, two: Any) -> bool:
        if isinstance(one, LEAVES) or (isinstance(one, INTERNED) and len(one) < 2):
            return False
        if self.partner.get(id(one), id(two)) != id(two):
            raise DifferenceError(f"{where}: shared on one side only")
        if self.back.get(id(two), id(one)) != id(one):
            raise DifferenceError(f"{where}: shared on the other side only")
        known = id(one) in self.partner
        self.partner[id(one)], self.back[id(two)] = id(two), id(one)
        self.alive += (one, two)
        return known

    def push(self, where: str, ones: Any, twos: Any) -> bool:
        ones, twos = list(ones), list(twos)
        self.queue.extend(
            (f"{where[-200:]}[{i}]", a, b) for i, (a, b) in enumerate(zip(ones, twos, strict=False))
        )
        return len(ones) == len(twos)

    def same(self, where: str, one: Any, two: Any) -> bool:
        if isinstance(one, np.ndarray):
            return self.arrays(where, one, two)
        if isinstance(one, (np.generic, float, complex)):
            return bits(one) == bits(two)
        if isinstance(one, list | tuple | dict | set | frozenset):
            return self.push(where, *members(one, two))
        if isinstance(one, slice):
            return self.push(where, *((part.start, part.stop, part.step) for part in (one, two)))
        return self.special(where, one, two)

    def arrays(self, where: str, one: Any, two: Any) -> bool:
        flags = all(
            getattr(one.flags, name) == getattr(two.flags, name)
            for name in ("writeable", "f_contiguous")
        )
        if one.dtype != two.dtype or one.shape != two.shape or not (flags or one.ndim < 2):
            return False
        if one.dtype == object:
            return self.push(where, one.ravel(), two.ravel())
        return one.flags.writeable == two.flags.writeable and packed(one) == packed(two)

    def special(self, where: str, one: Any, two: Any) -> bool:
        if isinstance(one, np.random.Generator):
            return self.push(where, [one.bit_generator.state], [two.bit_generator.state])
        if isinstance(one, np.random.RandomState):
            states = [item.get_state(legacy=False) for item in (one, two)]
            return self.push(where, states[:1], states[1:])
        if type(one).__module__.startswith("pandas"):
            import pandas as pd

            check = (
                pd.testing.assert_frame_equal if one.ndim == 2 else pd.testing.assert_series_equal
            )
            check(one, two, check_freq=False, check_exact=True)
            return True
        return bool(one == two)


def bits(number: Any) -> Any:
    """Return what makes a number the same number."""
    if isinstance(number, np.generic):
        return number.dtype, number.tobytes()
    return struct.pack("<2d", number.real, number.imag)


def members(one: Any, two: Any) -> tuple[list[Any], list[Any]]:
    """Return the members of two containers, in the order in which they must agree."""
    if isinstance(one, dict):
        return [*one, *one.values()], [*two, *two.values()]
    if isinstance(one, set | frozenset):
        mates = {item: item for item in two}
        rest = [item for item in two if item not in one]
        return list(one), [mates.get(item) for item in one] + rest
    return list(one), list(two)


def packed(array: Any) -> bytes:
    """Return the values' bytes; padding of records is not a value."""
    if array.dtype.fields is None:
        return array.tobytes()
    return b"".join(packed(np.ascontiguousarray(array[name])) for name in array.dtype.names)


@pytest.fixture(scope="session")
def assert_same_graph() -> Callable[[Any, Any], None]:
    """Raise unless two graphs have the same types, values, order and sharing."""

    def check(left: Any, right: Any) -> None:
        _Pairs().run(left, right)

    return check


def views_of(encoded: Encoded) -> dict[str, TensorView]:
    """Return the tensors as a read-only store would hand them out."""
    return {name: _view(data) for name, data in encoded.tensors.items()}


def _view(data: TensorData) -> TensorView:
    content = bytes(data.load())
    assert len(content) == data.nbytes
    return TensorView(data.dtype, data.shape, memoryview(content))


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.of(TYPES)


@pytest.fixture(scope="session")
def views() -> Callable[[Encoded], dict[str, TensorView]]:
    return views_of


@pytest.fixture(scope="session")
def build(registry: Registry) -> Callable[..., Any]:
    """Audit and decode a node table."""

    def run(structure: Structure, tensors: dict[str, TensorView]) -> Any:
        return decode(structure, tensors, registry, audit(structure, tensors, registry))

    return run


@pytest.fixture(scope="session")
def round_trip(registry: Registry, build: Callable[..., Any]) -> Callable[[Any], Any]:
    """Encode, write the table as a document, read it, audit and decode."""

    def run(obj: Any) -> Any:
        encoded = encode(obj, registry)
        content = Content(framework="python", structure=encoded.structure)
        structure = Content.decode(content.encode()).structure
        assert encode(obj, registry).structure == encoded.structure  # the same each time
        return build(structure, views_of(encoded))

    return run


@pytest.fixture
def damage() -> Callable[[Version], None]:
    """Change the last byte of a version's tensors behind the store's back."""

    def flip(version: Version) -> None:
        piece = version.manifest.pieces[-1].digest
        path = version.store.path / "blobs" / "sha256" / digest_hex(Digest(piece))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.unlink()
        path.write_bytes(data)

    return flip
