from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402 - after the skip

from holdfast import codec  # noqa: E402
from holdfast.codec.tensors import TensorView  # noqa: E402
from holdfast.errors import HoldfastError  # noqa: E402
from holdfast.frameworks import torch as adapter  # noqa: E402
from holdfast.frameworks.base import LoadOptions  # noqa: E402
from holdfast.record import Structure  # noqa: E402


class Tiny(nn.Module):
    def __init__(self, width=2, names=("a",)):
        super().__init__()
        self.width, self.names = width, names
        self.layer = nn.Linear(width, 1)


MODELS = {
    "mixed": lambda: nn.Sequential(
        nn.Embedding(5, 4),
        nn.LSTM(4, 4),
        nn.ModuleDict({"n": nn.BatchNorm1d(4)}),
        nn.ParameterList([torch.zeros(1)]),
    ),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 4, batch_first=True), 1
    ),
    "own": lambda: nn.Sequential(Tiny()),
    "state": lambda: {**nn.Linear(2, 2).state_dict(), "c": torch.zeros(1, dtype=torch.complex64)},
}

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 60),
    st.sampled_from([2**53, "weight", "forward", "float64", "0", "", "tuple", "dict", [], [0], {}]),
)


@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
def test_a_forged_structure_gives_a_clear_error_or_a_model(torch_keeper, name, data):
    adapter.register(Tiny)
    opened = torch_keeper.opened(torch_keeper.pack(MODELS[name]()))
    plain = msgspec.to_builtins(opened.structure)
    nodes = [list(node) for node in plain["nodes"]]
    for _ in range(data.draw(st.integers(1, 3))):
        node = nodes[data.draw(st.integers(0, len(nodes) - 1))]
        place = data.draw(st.integers(0, len(node) - 1))
        inside = node[place]
        if isinstance(inside, list) and inside and data.draw(st.booleans()):
            inside = list(inside)
            inside[data.draw(st.integers(0, len(inside) - 1))] = data.draw(odd)
            node[place] = inside
        elif isinstance(inside, dict) and inside and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(sorted(inside)))
            node[place] = {**inside, key: data.draw(odd)}
        else:
            node[place] = data.draw(odd)
    structure = Structure(types=opened.structure.types, nodes=tuple(map(tuple, nodes)))
    for into in (None, Tiny()):
        with suppress(HoldfastError):
            forged = torch_keeper.forged(structure, opened.tensors, {})
            adapter.unpack(forged, torch_keeper.registry, LoadOptions(into=into))


@settings(max_examples=40, deadline=None)
@given(dtype=st.sampled_from(["F32", "U8", "F64", "BF16"]), shape=st.lists(st.integers(0, 3)))
@pytest.mark.filterwarnings("ignore:ComplexHalf support")
def test_a_forged_tensor_entry_gives_a_clear_error_or_a_tensor(torch_keeper, dtype, shape):
    opened = torch_keeper.opened(torch_keeper.pack({"w": torch.zeros(2, 3)}))
    view = TensorView(dtype, tuple(shape), opened.tensors["w"].data)
    try:
        forged = torch_keeper.forged(opened.structure, {"w": view}, {})
        loaded = adapter.unpack(forged, torch_keeper.registry, LoadOptions())
    except HoldfastError:
        return
    assert loaded["w"].numel() == 6


def test_the_audit_needs_no_torch_class(torch_keeper):
    opened = torch_keeper.opened(torch_keeper.pack(MODELS["own"]()))
    audit = codec.audit(opened.structure, opened.tensors, torch_keeper.registry)
    assert {"torch.nn.Sequential", "torch.Module", "torch.Parameter"} <= audit.type_ids
