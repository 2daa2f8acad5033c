"""The cuts of model.safetensors: a real safetensors file, aligned, and stable under changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings, strategies as st

from holdfast.archive.layout import BIG, GROUP_MAX, nbytes, plan
from holdfast.codec.tensors import ITEMSIZE
from holdfast.errors import Corrupt

DTYPES = {"F64": "<f8", "F32": "<f4", "I16": "<i2", "U8": "u1", "BOOL": "?"}


class Tensor(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)
small = st.lists(st.integers(0, 9), max_size=3).map(tuple)
large = st.sampled_from([(BIG,), (BIG // 4, 3), (300_001,), (1 << 17,)])
tensors = st.lists(
    st.builds(Tensor, names, st.sampled_from(sorted(DTYPES)), st.one_of(small, large)),
    max_size=12,
    unique_by=lambda tensor: tensor.name,
).filter(lambda items: all(item.name != "__metadata__" for item in items))


def content(tensor):
    """Bytes that follow from the name, so that a changed place would show."""
    seed = sum(tensor.name.encode())
    if tensor.dtype == "BOOL":
        return bytes(seed % 2 for _ in range(nbytes(tensor)))
    return bytes([seed % 250]) * nbytes(tensor)


def pieces_of(items):
    planned = plan(items)
    return planned, [b"".join(map(content, piece)) for piece in planned.pieces]


@settings(max_examples=25, deadline=None)
@given(tensors)
def test_the_pieces_in_order_are_a_safetensors_file(items):
    planned, pieces = pieces_of(items)
    assert len(planned.header) % 64 == 0
    assert [len(piece) for piece in pieces] == list(planned.sizes)
    if not items:
        assert planned.header == b""
        return
    loaded = safetensors.numpy.load(planned.header + b"".join(pieces))
    assert loaded.keys() == {item.name for item in items}
    for item in items:
        want = np.frombuffer(content(item), DTYPES[item.dtype]).reshape(item.shape)
        assert loaded[item.name].tobytes() == want.tobytes()
        assert loaded[item.name].shape == item.shape


@settings(max_examples=25, deadline=None)
@given(tensors)
def test_every_tensor_starts_at_a_multiple_of_its_item_size(items):
    planned = plan(items)
    offset = len(planned.header)
    for entry in planned.entries:
        assert nbytes(entry) == 0 or offset % ITEMSIZE[entry.dtype] == 0
        offset += nbytes(entry)
    assert offset == planned.total


@settings(max_examples=20, deadline=None)
@given(tensors, st.integers(0, 10**6))
def test_order_of_arrival_does_not_matter(items, seed):
    shuffled = [items[i] for i in np.random.default_rng(seed).permutation(len(items))]
    assert plan(items) == plan(shuffled)


def test_a_new_tensor_moves_only_its_own_group():
    items = [Tensor(f"layer{i}.bias", "F32", (40_000,)) for i in range(300)]
    before = set(pieces_of(items)[1])
    after = set(pieces_of([*items, Tensor("layer5.extra", "F32", (10,))])[1])
    assert len(before) > 10
    assert len(after - before) <= 2
    assert max(map(len, before)) <= GROUP_MAX


@pytest.mark.parametrize(
    "items",
    [
        [Tensor("a", "F32", (1,)), Tensor("a", "F32", (1,))],
        [Tensor("__metadata__", "F32", (1,))],
        [Tensor("", "F32", (1,))],
        [Tensor("a\nb", "F32", (1,))],
        [Tensor("a", "F12", (1,))],
        [Tensor("a", "F32", (-1,))],
        [Tensor("a", "F32", (True,))],
        [Tensor("a", "F64", (2**61,))],
        [Tensor("x" * 600, "F32", (1,))],
    ],
    ids=["twice", "metadata", "empty", "control", "dtype", "negative", "bool", "huge", "long"],
)
def test_what_cannot_stand_in_a_file_is_refused(items):
    with pytest.raises(Corrupt):
        plan(items)
