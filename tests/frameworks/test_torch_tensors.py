import tracemalloc
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from holdfast.codec.tensors import TensorView  # noqa: E402 - after the skip
from holdfast.errors import Corrupt, Unsupported  # noqa: E402
from holdfast.frameworks.torch import (  # noqa: E402
    TYPES,
    owns,
    tensors as torch_tensors,
)

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support")

ZOO = [name for name in torch_tensors.DTYPES if hasattr(torch, name)]


def bits(tensor):
    plain = (
        tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    )
    flat = torch.empty(plain.numel(), dtype=plain.dtype).copy_(plain.reshape(-1))
    return tensor.shape, tensor.dtype, flat.view(torch.uint8).tolist()


def filled(name, shape):
    dtype = getattr(torch, name)
    generator = torch.Generator().manual_seed(7)
    raw = torch.randint(0, 2, (*shape, dtype.itemsize), dtype=torch.uint8, generator=generator)
    if name != "bool":
        raw = raw * 97 + 11
    return raw.view(dtype).reshape(shape) if raw.numel() else torch.empty(shape, dtype=dtype)


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 3), (1,)])
@pytest.mark.parametrize("name", ZOO)
def test_every_dtype_comes_back_bit_for_bit(torch_keeper, name, shape):
    tensor = filled(name, shape)
    loaded = torch_keeper.roundtrip({"w": tensor})["w"]
    assert bits(loaded) == bits(tensor)
    assert type(loaded) is torch.Tensor


def test_the_zoo_is_all_of_torchs_plain_dtypes():
    plain = {
        str(value).removeprefix("torch.")
        for value in vars(torch).values()
        if isinstance(value, torch.dtype)
    }
    odd = {
        n for n in plain if n.startswith(("q", "bits", "float4", "int", "uint")) and n not in ZOO
    }
    assert plain - odd == set(ZOO)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("bfloat16", "BF16"),
        ("float8_e4m3fn", "F8_E4M3"),
        ("float8_e5m2", "F8_E5M2"),
        ("float8_e4m3fnuz", "U8"),
        ("complex64", "F32"),
        ("complex128", "F64"),
    ],
)
def test_stored_dtypes_are_those_of_safetensors(torch_keeper, name, stored):
    payload = torch_keeper.pack({"w": filled(name, (3, 4))})
    shape = (3, 4, 2) if name.startswith("complex") else (3, 4)
    assert (payload.tensors["w"].dtype, payload.tensors["w"].shape) == (stored, shape)


def test_ten_items_of_a_big_tensor_take_forty_bytes(torch_keeper):
    big = torch.zeros(10_000_000)
    payload = torch_keeper.pack({"slice": big[5:15]})
    assert payload.tensors["slice"].nbytes == 40
    assert len(payload.tensors["slice"].load()) == 40


def test_contiguous_bytes_are_the_callers_own_memory(torch_keeper):
    tensor = torch.zeros(1000)
    payload = torch_keeper.pack({"w": tensor})
    view = np.frombuffer(payload.tensors["w"].load(), dtype=np.float32)
    tensor[3] = 5
    assert view[3] == 5


def test_packing_copies_nothing(torch_keeper):
    state = {f"w{i}": torch.zeros(512, 512).t() for i in range(8)}
    tracemalloc.start()
    torch_keeper.pack(state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_load_is_a_view_of_the_mapping(torch_keeper):
    opened = torch_keeper.opened(torch_keeper.pack({"w": torch.ones(8)}))
    from holdfast.frameworks import torch as adapter
    from holdfast.frameworks.base import LoadOptions

    loaded = adapter.unpack(opened, torch_keeper.registry, LoadOptions())["w"]
    loaded[0] = 9
    assert np.frombuffer(opened.tensors["w"].data, dtype=np.float32)[0] == 9


def test_read_only_buffers_are_copied_without_a_warning(torch_keeper):
    payload = torch_keeper.pack({"w": torch.arange(4.0)})
    loaded = torch_keeper.unpack(payload, readonly=True)["w"]
    loaded.add_(1)
    assert loaded.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 6).t(),
        lambda: torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last),
        lambda: torch.randn(3, 1).expand(3, 7),
        lambda: torch.randn(20)[::3],
        lambda: torch.randn(4, dtype=torch.complex64).conj(),
        lambda: torch.randn(4, dtype=torch.complex64).conj().imag,
    ],
)
def test_strange_layouts_keep_their_values(torch_keeper, make):
    tensor = make()
    assert bits(torch_keeper.roundtrip([tensor])[0]) == bits(tensor)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(ZOO),
    shape=st.lists(st.integers(0, 4), max_size=4),
    order=st.randoms(use_true_random=False),
    step=st.integers(1, 3),
    start=st.integers(0, 2),
)
def test_any_strides_of_any_dtype(torch_keeper, name, shape, order, step, start):
    tensor = filled(name, tuple(shape))
    axes = list(range(tensor.dim()))
    order.shuffle(axes)
    tensor = tensor.permute(axes)
    if tensor.dim():
        tensor = tensor[start::step]
    payload = torch_keeper.pack({"w": tensor})
    (data,) = payload.tensors.values()
    assert data.nbytes == tensor.numel() * tensor.element_size()
    assert bits(torch_keeper.unpack(payload)["w"]) == bits(tensor)


@pytest.mark.parametrize(
    ("make", "word", "fix"),
    [
        (lambda: torch.zeros(2, 2).to_sparse(), "sparse_coo", "to_dense"),
        (lambda: torch.zeros(2, 2, device="meta"), "meta", "to_empty"),
        (
            lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
            "quantized",
            "dequantize",
        ),
        (
            lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            "nested",
            "padded",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensors_without_plain_values_are_refused_with_the_fix(torch_keeper, make, word, fix):
    with pytest.raises(Unsupported, match=word) as caught:
        torch_keeper.pack({"w": make()})
    assert fix in caught.value.hint


def test_tied_tensors_are_stored_once_and_come_back_as_one(torch_keeper):
    weight = torch.randn(4, 3)
    payload = torch_keeper.pack({"a": weight, "b": weight.detach(), "c": weight.clone()})
    assert len(payload.tensors) == 2
    loaded = torch_keeper.unpack(payload)
    assert loaded["a"] is loaded["b"]
    assert loaded["c"] is not loaded["a"]


def test_overlapping_views_are_not_one(torch_keeper):
    weight = torch.arange(6.0)
    state = {"all": weight, "head": weight[:2], "square": weight.view(2, 3), "odd": weight[1::2]}
    loaded = torch_keeper.roundtrip(state)
    assert {k: v.tolist() for k, v in loaded.items()} == {k: v.tolist() for k, v in state.items()}


def test_conjugate_views_of_one_storage_are_not_one(torch_keeper):
    value = torch.tensor([1 + 2j])
    loaded = torch_keeper.roundtrip([value, value.conj()])
    assert [t.item() for t in loaded] == [1 + 2j, 1 - 2j]


def test_empty_tensors_are_not_one(torch_keeper):
    loaded = torch_keeper.roundtrip([torch.empty(0), torch.empty(0)])
    assert loaded[0] is not loaded[1]


def test_a_parameter_and_a_tensor_of_its_values_still_share(torch_keeper):
    parameter = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    payload = torch_keeper.pack({"p": parameter, "view": parameter.detach()})
    assert len(payload.tensors) == 1
    loaded = torch_keeper.unpack(payload)
    assert type(loaded["p"]) is torch.nn.Parameter
    assert not loaded["p"].requires_grad
    loaded["view"][0] = 7
    assert loaded["p"][0] == 7


def test_requires_grad_of_a_plain_tensor_is_kept(torch_keeper):
    leaf = torch.ones(2, requires_grad=True)
    loaded = torch_keeper.roundtrip({"leaf": leaf, "made": leaf * 2, "plain": torch.ones(2)})
    assert [t.requires_grad for t in loaded.values()] == [True, False, False]


@pytest.mark.keeps("PyTorch", "state_dicts", "torch")
def test_state_dict_keeps_type_order_and_names(torch_keeper):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = model.state_dict()
    payload = torch_keeper.pack(state)
    assert set(payload.tensors) == set(state)
    loaded = torch_keeper.unpack(payload)
    assert type(loaded) is OrderedDict
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_checkpoint_with_optimizer_state(torch_keeper):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {"model": model.state_dict(), "optim": optimizer.state_dict(), "epoch": 3}
    loaded = torch_keeper.roundtrip(checkpoint)
    again = torch.optim.Adam(torch.nn.Linear(3, 2).parameters())
    again.load_state_dict(loaded["optim"])
    assert loaded["epoch"] == 3
    assert torch.equal(
        again.state_dict()["state"][0]["exp_avg"], optimizer.state[model.weight]["exp_avg"]
    )
    assert loaded["optim"]["param_groups"] == checkpoint["optim"]["param_groups"]


def test_dtypes_sizes_and_devices_are_values_too(torch_keeper):
    value = [torch.ones(1), torch.bfloat16, torch.Size([2, 3]), torch.device("cuda", 1)]
    loaded = torch_keeper.roundtrip(value)
    assert loaded[1:] == value[1:]
    assert type(loaded[2]) is torch.Size


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (torch.ones(1), True),
        ({"a": [{"b": (torch.ones(1),)}]}, True),
        (torch.nn.ReLU(), True),
        ({"a": np.ones(1)}, False),
        ({}, False),
        (5, False),
    ],
)
def test_owns(model, answer):
    assert owns(model) is answer


def test_owns_survives_a_cycle():
    loop = []
    loop.append(loop)
    assert not owns(loop)


def node(kind, **fields):
    return SimpleNamespace(kind=kind, **fields)


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (node("buffer", dtype="F32", shape=(2,)), "float64"),
        (node("buffer", dtype="F32", shape=(2,)), "qint8"),
        (node("buffer", dtype="F32", shape=(2,)), "__class__"),
        (node("buffer", dtype="F32", shape=(2,)), None),
        (node("buffer", dtype="F32", shape=(2,)), "complex128"),
        (node("buffer", dtype="F32", shape=()), "complex64"),
        (node("buffer", dtype="F32", shape=(1,)), "complex64"),
        (node("array", dtype="F32", shape=(1,)), "float32"),
    ],
)
def test_forged_tensors_are_refused_before_anything_is_built(data, dtype):
    (spec,) = (spec for spec in TYPES if spec.id == "torch.Tensor")
    with pytest.raises(Corrupt):
        spec.check({"data": data, "dtype": node("str", value=dtype)})


def test_a_buffer_of_another_size_is_refused():
    view = TensorView("F32", (3,), memoryview(bytearray(8)))
    with pytest.raises(Corrupt, match="8 bytes"):
        torch_tensors.build_tensor({"data": view, "dtype": "float32"})


def test_an_integer_tensor_cannot_be_made_to_require_gradients():
    view = TensorView("I64", (1,), memoryview(bytearray(8)))
    with pytest.raises(Corrupt, match="gradients"):
        torch_tensors.build_tensor({"data": view, "dtype": "int64", "requires_grad": True})


def test_type_ids_are_unique_and_ours():
    ids = [spec.id for spec in TYPES]
    assert len(set(ids)) == len(ids)
    assert all(id_.startswith("torch.") for id_ in ids)
