import random
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402 - after the skip

from holdfast.errors import Unsupported, UsageError  # noqa: E402
from holdfast.frameworks.torch import methods, predict, requires, steady, synthetic  # noqa: E402


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple


class Echo(nn.Module):
    """Returns what it was given, in the shape asked for."""

    def __init__(self, make=lambda *a, **k: (a, k)):
        super().__init__()
        self.make = make
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *args, **keywords):
        return self.make(*args, **keywords)


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))
        self.linear = nn.Linear(2, 2)
        self.seen = 0

    def forward(self, x):
        self.calls += 1
        self.last = x.sum()
        self.seen += 1
        self.cache = x
        return self.linear(x) + self.calls + self.seen


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (nn.Linear(2, 2), ("forward",)),
        (nn.Sequential(), ("forward",)),
        (Echo(), ("forward",)),
        (nn.ModuleList([nn.Linear(2, 2)]), ()),
        (nn.ModuleDict(), ()),
        (nn.Module(), ()),
        (nn.LazyLinear(3), ()),
        ({"w": torch.ones(1)}, ()),
        (torch.ones(1), ()),
    ],
)
def test_methods(model, answer):
    assert methods(model) == answer
    assert requires(model)[0] == "torch"
    assert {*requires(model)[1:]} <= {__name__.partition(".")[0]}


def test_prediction_is_inference_and_leaves_the_flags():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), nn.BatchNorm1d(2))
    model[2].eval()
    flags = [m.training for m in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(4, 2)
    first = predict(model, "forward", x)
    assert torch.equal(first, predict(model, "forward", x))
    assert not first.requires_grad
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_flags_are_restored_when_the_model_raises():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError):
        predict(model, "forward", torch.ones(1, 5))
    assert model.training
    assert model[0].training


def test_only_forward_exists():
    with pytest.raises(UsageError, match="predict_proba"):
        predict(nn.Linear(2, 2), "predict_proba", torch.ones(1, 2))


@pytest.mark.parametrize(
    "inputs",
    [
        np.ones((3, 2)),
        np.ones((3, 2), dtype=np.float32)[::-1],
        [[1.0, 1.0]] * 3,
        torch.ones(3, 2),
        (np.ones((3, 2)),),
        [torch.ones(3, 2)],
        {"input": np.ones((3, 2))},
    ],
)
def test_inputs_of_many_kinds(inputs):
    model = nn.Linear(2, 4)
    expected = predict(model, "forward", torch.ones(3, 2))
    assert torch.equal(predict(model, "forward", inputs), expected)


def test_integer_arrays_stay_integers_and_floats_take_the_models_dtype():
    model = Echo().to(torch.float64)
    (ints, floats, text), named = predict(
        model, "forward", (np.ones(2, dtype=np.int32), np.ones(2, dtype=np.float32), "x")
    )
    assert ints.dtype == torch.int32
    assert floats.dtype == torch.float64
    assert (text, named) == ("x", {})


def test_a_data_frame_is_an_array():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    model = nn.Linear(2, 1)
    assert torch.equal(
        predict(model, "forward", frame), predict(model, "forward", frame.to_numpy())
    )


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - what models return


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (lambda x: Pair(x, [x]), (1.0, [1.0])),
        (lambda x: OrderedDict(a=x), {"a": 1.0}),
        (lambda x: Output(x, (x, None)), {"logits": 1.0, "hidden": (1.0, None)}),
        (lambda x: {"a": {"b": x}, "n": 3}, {"a": {"b": 1.0}, "n": 3}),
        (nn.Parameter, 1.0),
        (lambda x: x.reshape(1).to_sparse(), [1.0]),
    ],
)
def test_outputs_become_plain_data(made, plain):
    def values(value):
        if isinstance(value, torch.Tensor):
            assert type(value) is torch.Tensor
            assert not value.requires_grad
            return value.tolist()
        if isinstance(value, dict):
            assert type(value) is dict
            return {key: values(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            assert type(value) in (tuple, list)
            return type(value)(values(item) for item in value)
        return value

    assert values(predict(Echo(made), "forward", torch.tensor(1.0))) == plain


def test_steady_fixes_and_restores_all_generators():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)

    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with steady({}):
        first = draw()
    with steady({}):
        assert draw() == first
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_steady_restores_after_an_error():
    model = nn.Linear(1, 1)
    before, flag = torch.get_rng_state(), torch.backends.cudnn.deterministic
    with pytest.raises(ZeroDivisionError), steady(model):
        _ = torch.rand(3).sum().item() / 0
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.cudnn.deterministic is flag


def test_buffers_and_attributes_that_a_call_changes_are_restored():
    model = Counter()
    calls, last = model.calls, model.last
    answers = []
    for _ in range(2):
        with steady(model):
            answers.append(predict(model, "forward", torch.ones(1, 2)))
    assert torch.equal(*answers)
    assert model.calls is calls
    assert model.last is last
    assert (calls.item(), last.item(), model.seen) == (0, 0, 0)
    assert not hasattr(model, "cache")


def test_running_statistics_changed_in_training_mode_are_restored():
    model = nn.BatchNorm1d(2)
    with steady(model):
        model(torch.randn(4, 2))
    assert model.num_batches_tracked.item() == 0
    assert model.running_mean.tolist() == [0, 0]


def test_a_call_that_changes_a_parameter_is_refused():
    model = nn.Linear(2, 2)
    with pytest.raises(Unsupported, match="'weight'") as caught, steady(model), torch.no_grad():
        model.weight.add_(1)
    assert "golden=None" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (64, 784)),
        (nn.Conv2d(3, 4, 3), (40, 3, 32, 32)),
        (nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(1152, 2)), (64, 1, 28, 28)),
        (nn.LSTM(5, 3, batch_first=True), (64, 8, 5)),
        (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), (64, 8)),
        (nn.Sequential(nn.BatchNorm1d(6)), (64, 6)),
        (nn.Linear(200_000, 1), (1, 200_000)),
    ],
)
def test_synthetic_inputs_fit_the_first_layer(model, shape):
    inputs = synthetic(model, 64, 3)
    assert tuple(inputs.shape) == shape
    assert torch.equal(inputs, synthetic(model, 64, 3))
    assert not torch.equal(inputs, synthetic(model, 64, 4))
    assert len(predict(model, "forward", inputs)) > 0


def test_synthetic_indices_are_in_range():
    inputs = synthetic(nn.Embedding(5, 2), 64, 1)
    assert inputs.dtype == torch.int64
    assert inputs.max() < 5


def test_synthetic_inputs_for_several_arguments():
    inputs = synthetic(nn.Transformer(8, 2, 1, 1, 16, batch_first=True), 4, 1)
    assert [tuple(t.shape) for t in inputs] == [(4, 8, 8), (4, 8, 8)]


@pytest.mark.parametrize(
    "model",
    [
        nn.ReLU(),
        nn.CrossEntropyLoss(),
        Echo(lambda x: 1 / 0),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6)),
        nn.ModuleList([nn.Linear(2, 2)]),
        {"w": torch.ones(2)},
    ],
)
def test_no_synthetic_inputs_where_none_are_known_to_fit(model):
    assert synthetic(model, 8, 1) is None
