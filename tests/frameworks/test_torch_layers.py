import inspect
import logging

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import nn  # noqa: E402 - after the skip

from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported  # noqa: E402
from holdfast.frameworks.torch import (  # noqa: E402
    methods,
    modules as torch_modules,
    predict,
    steady,
    synthetic,
)
from holdfast.frameworks.torch.layers import LAYERS  # noqa: E402

ENCODER = {"d_model": 8, "nhead": 2, "dim_feedforward": 16}

# At least one instance of every class, with arguments that are not the defaults.
ZOO = {
    "AdaptiveAvgPool1d": lambda: nn.AdaptiveAvgPool1d(3),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d([3, None]),
    "AdaptiveAvgPool3d": lambda: nn.AdaptiveAvgPool3d(2),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 9], 2.0, True),
    "AdaptiveMaxPool1d": lambda: nn.AdaptiveMaxPool1d(3, True),
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(3),
    "AdaptiveMaxPool3d": lambda: nn.AdaptiveMaxPool3d(3),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3),
    "AvgPool1d": lambda: nn.AvgPool1d(3, 2, 1),
    "AvgPool2d": lambda: nn.AvgPool2d((3, 2), divisor_override=2),
    "AvgPool3d": lambda: nn.AvgPool3d(3, ceil_mode=True),
    "BCELoss": lambda: nn.BCELoss(torch.rand(3)),
    "BCEWithLogitsLoss": lambda: nn.BCEWithLogitsLoss(pos_weight=torch.rand(3), reduction="sum"),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3, eps=1e-3, momentum=None),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3, affine=False),
    "BatchNorm3d": lambda: nn.BatchNorm3d(3, track_running_stats=False),
    "Bilinear": lambda: nn.Bilinear(2, 3, 4, bias=False),
    "CELU": lambda: nn.CELU(0.5, True),
    "CTCLoss": lambda: nn.CTCLoss(1, zero_infinity=True),
    "ChannelShuffle": lambda: nn.ChannelShuffle(2),
    "CircularPad1d": lambda: nn.CircularPad1d(1),
    "CircularPad2d": lambda: nn.CircularPad2d((1, 0, 2, 0)),
    "CircularPad3d": lambda: nn.CircularPad3d(1),
    "ConstantPad1d": lambda: nn.ConstantPad1d(1, 2.5),
    "ConstantPad2d": lambda: nn.ConstantPad2d(1, 2.5),
    "ConstantPad3d": lambda: nn.ConstantPad3d(1, 2.5),
    "Conv1d": lambda: nn.Conv1d(2, 4, 3, 2, 1, 2, 2, False),
    "Conv2d": lambda: nn.Conv2d(2, 4, (3, 5), padding="same", padding_mode="reflect"),
    "Conv3d": lambda: nn.Conv3d(2, 4, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(2, 4, 3, 2, output_padding=1),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(2, 4, 3, bias=False),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(2, 4, 3, groups=2),
    "CosineEmbeddingLoss": lambda: nn.CosineEmbeddingLoss(0.2),
    "CosineSimilarity": lambda: nn.CosineSimilarity(0, 1e-6),
    "CrossEntropyLoss": lambda: nn.CrossEntropyLoss(torch.rand(4), label_smoothing=0.1),
    "CrossMapLRN2d": lambda: nn.CrossMapLRN2d(2, k=2),
    "Dropout": lambda: nn.Dropout(0.2),
    "Dropout1d": lambda: nn.Dropout1d(0.2),
    "Dropout2d": lambda: nn.Dropout2d(0.2, True),
    "Dropout3d": lambda: nn.Dropout3d(0.2),
    "ELU": lambda: nn.ELU(0.3),
    "Embedding": lambda: nn.Embedding(7, 3, padding_idx=-1, max_norm=1.0, scale_grad_by_freq=True),
    "EmbeddingBag": lambda: nn.EmbeddingBag(7, 3, mode="sum", padding_idx=2),
    "FeatureAlphaDropout": lambda: nn.FeatureAlphaDropout(0.2),
    "Flatten": lambda: nn.Flatten(0, 1),
    "Fold": lambda: nn.Fold((4, 5), 2),
    "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(
        2, output_ratio=0.5, _random_samples=torch.rand(2, 3, 2)
    ),
    "FractionalMaxPool3d": lambda: nn.FractionalMaxPool3d(2, output_size=3),
    "GELU": lambda: nn.GELU("tanh"),
    "GLU": lambda: nn.GLU(1),
    "GRU": lambda: nn.GRU(3, 4, bias=False),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "GaussianNLLLoss": lambda: nn.GaussianNLLLoss(full=True, eps=1e-5),
    "GroupNorm": lambda: nn.GroupNorm(2, 4, 1e-4),
    "HingeEmbeddingLoss": lambda: nn.HingeEmbeddingLoss(2.0),
    "Hardshrink": lambda: nn.Hardshrink(0.2),
    "Hardsigmoid": lambda: nn.Hardsigmoid(True),
    "Hardswish": nn.Hardswish,
    "Hardtanh": lambda: nn.Hardtanh(-2, 3),
    "HuberLoss": lambda: nn.HuberLoss("sum", 0.5),
    "Identity": lambda: nn.Identity(5, unused=3),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(3, affine=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(3),
    "KLDivLoss": lambda: nn.KLDivLoss(reduction="batchmean", log_target=True),
    "L1Loss": lambda: nn.L1Loss(reduction="none"),
    "LPPool1d": lambda: nn.LPPool1d(2, 3),
    "LPPool2d": lambda: nn.LPPool2d(1.5, (3, 2), 2),
    "LPPool3d": lambda: nn.LPPool3d(2, 3),
    "LSTM": lambda: nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2),
    "LSTMCell": lambda: nn.LSTMCell(3, 4, bias=False),
    "LayerNorm": lambda: nn.LayerNorm((2, 3), bias=False),
    "LeakyReLU": lambda: nn.LeakyReLU(0.3),
    "Linear": lambda: nn.Linear(3, 4, bias=False),
    "LinearCrossEntropyLoss": lambda: nn.LinearCrossEntropyLoss(3, 4, bias=True),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(2, beta=0.5),
    "LogSigmoid": nn.LogSigmoid,
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "MSELoss": lambda: nn.MSELoss(reduction="sum"),
    "MarginRankingLoss": lambda: nn.MarginRankingLoss(0.5),
    "MaxPool1d": lambda: nn.MaxPool1d(3),
    "MaxPool2d": lambda: nn.MaxPool2d((3, 2), 2, 1, return_indices=True),
    "MaxPool3d": lambda: nn.MaxPool3d(3, dilation=2),
    "MaxUnpool1d": lambda: nn.MaxUnpool1d(3),
    "MaxUnpool2d": lambda: nn.MaxUnpool2d(3, 2),
    "MaxUnpool3d": lambda: nn.MaxUnpool3d(3),
    "Mish": nn.Mish,
    "Module": nn.Module,
    "ModuleDict": lambda: nn.ModuleDict({"b": nn.Linear(2, 2), "a": nn.ReLU()}),
    "ModuleList": lambda: nn.ModuleList([nn.Linear(2, 2), nn.ReLU()]),
    "MultiLabelMarginLoss": nn.MultiLabelMarginLoss,
    "MultiLabelSoftMarginLoss": lambda: nn.MultiLabelSoftMarginLoss(torch.rand(3)),
    "MultiMarginLoss": lambda: nn.MultiMarginLoss(2, 0.5, torch.rand(3)),
    "MultiheadAttention": lambda: nn.MultiheadAttention(
        8, 2, 0.1, add_bias_kv=True, add_zero_attn=True, kdim=3, vdim=5, batch_first=True
    ),
    "NLLLoss": lambda: nn.NLLLoss(torch.rand(3), ignore_index=2),
    "NonDynamicallyQuantizableLinear": lambda: nn.MultiheadAttention(4, 2).out_proj,
    "PReLU": lambda: nn.PReLU(3, 0.1),
    "PairwiseDistance": lambda: nn.PairwiseDistance(1.0, keepdim=True),
    "ParameterDict": lambda: nn.ParameterDict({"b": torch.rand(2), "a": torch.rand(3)}),
    "ParameterList": lambda: nn.ParameterList([torch.rand(2), torch.rand(3)]),
    "PixelShuffle": lambda: nn.PixelShuffle(2),
    "PixelUnshuffle": lambda: nn.PixelUnshuffle(2),
    "PoissonNLLLoss": lambda: nn.PoissonNLLLoss(False, True),
    "RMSNorm": lambda: nn.RMSNorm(4, 1e-5),
    "RNN": lambda: nn.RNN(3, 4, 2, "relu", dropout=0.1),
    "RNNCell": lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
    "RReLU": lambda: nn.RReLU(0.2, 0.3),
    "ReLU": lambda: nn.ReLU(True),
    "ReLU6": nn.ReLU6,
    "ReflectionPad1d": lambda: nn.ReflectionPad1d(1),
    "ReflectionPad2d": lambda: nn.ReflectionPad2d(1),
    "ReflectionPad3d": lambda: nn.ReflectionPad3d(1),
    "ReplicationPad1d": lambda: nn.ReplicationPad1d(1),
    "ReplicationPad2d": lambda: nn.ReplicationPad2d(1),
    "ReplicationPad3d": lambda: nn.ReplicationPad3d(1),
    "SELU": nn.SELU,
    "Sequential": lambda: nn.Sequential(nn.Linear(2, 3), nn.Sequential(), nn.ReLU()),
    "SiLU": nn.SiLU,
    "Sigmoid": nn.Sigmoid,
    "SmoothL1Loss": lambda: nn.SmoothL1Loss(beta=0.5),
    "SoftMarginLoss": nn.SoftMarginLoss,
    "Softmax": lambda: nn.Softmax(0),
    "Softmax2d": nn.Softmax2d,
    "Softmin": lambda: nn.Softmin(1),
    "Softplus": lambda: nn.Softplus(2.0, 10),
    "Softshrink": lambda: nn.Softshrink(0.2),
    "Softsign": nn.Softsign,
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
    "Tanh": nn.Tanh,
    "Tanhshrink": nn.Tanhshrink,
    "Threshold": lambda: nn.Threshold(0.1, 20),
    "Transformer": lambda: nn.Transformer(8, 2, 1, 2, 16, activation="gelu", bias=False),
    "TransformerDecoder": lambda: nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**ENCODER), 2, nn.LayerNorm(8)
    ),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(**ENCODER, norm_first=True),
    "TransformerEncoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**ENCODER, batch_first=True), 2, mask_check=False
    ),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(**ENCODER, activation=nn.ELU()),
    "TripletMarginLoss": lambda: nn.TripletMarginLoss(2.0, swap=True),
    "TripletMarginWithDistanceLoss": lambda: nn.TripletMarginWithDistanceLoss(margin=0.5),
    "Unflatten": lambda: nn.Unflatten(1, (2, 3)),
    "Unfold": lambda: nn.Unfold(2, stride=2),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "UpsamplingBilinear2d": lambda: nn.UpsamplingBilinear2d(scale_factor=3),
    "UpsamplingNearest2d": lambda: nn.UpsamplingNearest2d(4),
    "ZeroPad1d": lambda: nn.ZeroPad1d(1),
    "ZeroPad2d": lambda: nn.ZeroPad2d((1, 2, 0, 0)),
    "ZeroPad3d": lambda: nn.ZeroPad3d(1),
}
DEPRECATED = {"NLLLoss2d"}


def plain_attributes(module):
    skipped = {"_parameters", "_buffers", "_modules", "_flat_weights", "_flat_weight_refs"}
    return {key: repr(value) for key, value in vars(module).items() if key not in skipped}


def assert_same(loaded, model):
    assert repr(loaded) == repr(model)
    mine, theirs = dict(loaded.named_modules()), dict(model.named_modules())
    assert list(mine) == list(theirs)
    for path, module in theirs.items():
        assert type(mine[path]) is type(module)
        assert plain_attributes(mine[path]) == plain_attributes(module)
    left, right = loaded.state_dict(), model.state_dict()
    assert list(left) == list(right)
    assert all(torch.equal(left[k], right[k]) and left[k].dtype == right[k].dtype for k in right)
    assert [p.requires_grad for p in loaded.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in value for tensor in flat(item)]


def answers(model, inputs):
    with steady(model):
        return flat(predict(model, "forward", inputs))


@pytest.mark.keeps("PyTorch", "modules built from `torch.nn`, of every layer", "torch")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_layer_comes_back(torch_keeper, name):
    if name not in DEPRECATED and not hasattr(nn.modules, LAYERS[name].module):
        pytest.skip("this torch does not have it")
    model = ZOO[name]().eval()
    loaded = torch_keeper.roundtrip(model)
    assert_same(loaded, model)
    inputs = synthetic(model, 4, 1)
    if inputs is not None:
        for mine, theirs in zip(answers(loaded, inputs), answers(model, inputs), strict=True):
            assert torch.equal(mine, theirs)


def test_every_layer_of_torch_is_in_the_table_or_refused_on_purpose():
    concrete = {
        name
        for name, kind in vars(nn).items()
        if inspect.isclass(kind) and issubclass(kind, nn.Module)
    }
    on_purpose = {n for n in concrete if n.startswith("Lazy")} | {
        "Container",
        "DataParallel",
        "RNNBase",
        "RNNCellBase",
    }
    assert concrete - on_purpose <= set(LAYERS)
    assert set(LAYERS) == set(ZOO) | DEPRECATED


def test_small_cnn_answers_bit_for_bit(torch_keeper):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
    model(torch.randn(4, 3, 32, 32))
    payload = torch_keeper.pack(model)
    assert set(payload.tensors) == set(model.state_dict())
    loaded = torch_keeper.unpack(payload)
    assert_same(loaded, model)
    x = torch.randn(5, 3, 32, 32)
    assert torch.equal(predict(loaded, "forward", x), predict(model, "forward", x))


def test_loaded_recurrent_layer_uses_the_stored_weights_after_training(torch_keeper):
    loaded = torch_keeper.roundtrip(nn.LSTM(3, 4, 2))
    assert all(a is b for a, b in zip(loaded._flat_weights, loaded.parameters(), strict=True))
    before = loaded(torch.ones(2, 3))[0]
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.5)
    loaded(torch.ones(2, 3))[0].sum().backward()
    optimizer.step()
    assert not torch.equal(loaded(torch.ones(2, 3))[0], before)


def test_tied_embedding_and_head(torch_keeper):
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 11, bias=False))
    model[1].weight = model[0].weight
    payload = torch_keeper.pack(model)
    assert len(payload.tensors) == 1
    loaded = torch_keeper.unpack(payload)
    assert loaded[0].weight is loaded[1].weight
    x = torch.tensor([[1, 2]])
    assert torch.equal(loaded(x), model(x))


def test_a_shared_child_stays_shared(torch_keeper):
    layer = nn.Linear(2, 2)
    loaded = torch_keeper.roundtrip(nn.Sequential(layer, nn.ReLU(), layer))
    assert loaded[0] is loaded[2]


def test_flags_and_dtypes_are_kept(torch_keeper):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).to(torch.bfloat16)
    model[0].requires_grad_(requires_grad=False)
    model[1].eval()
    loaded = torch_keeper.roundtrip(model)
    assert_same(loaded, model)
    assert [m.training for m in loaded.modules()] == [True, True, False, True]


def test_an_empty_module_as_a_container_keeps_all(torch_keeper):
    model = nn.Module()
    model.layer = nn.Linear(2, 2)
    model.scale = nn.Parameter(torch.ones(1))
    model.register_buffer("seen", torch.zeros(1))
    model.register_buffer("cache", torch.ones(2), persistent=False)
    model.register_parameter("nothing", None)
    loaded = torch_keeper.roundtrip(model)
    assert_same(loaded, model)
    assert torch.equal(loaded.cache, torch.ones(2))
    assert "nothing" in loaded._parameters


def test_loading_uses_no_random_numbers(torch_keeper):
    payload = torch_keeper.pack(nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3), nn.Embedding(4, 3)))
    before = torch.get_rng_state()
    torch_keeper.unpack(payload)
    assert torch.equal(torch.get_rng_state(), before)


def hook(*_):
    return None


def with_attribute(model):
    model[0].note = 5


def with_method(model):
    model[0].forward = hook


def with_hook(model):
    model[0].register_forward_hook(hook)


def with_pre_hook(model):
    model[0].register_forward_pre_hook(hook)


def with_backward_hook(model):
    model[0].register_full_backward_hook(hook)


def with_parametrization(model):
    nn.utils.parametrizations.weight_norm(model[0])


def with_buffer(model):
    model[0].register_buffer("extra", torch.zeros(1))


def with_parameter(model):
    model[0].extra = nn.Parameter(torch.zeros(1))


def with_child(model):
    model[0].extra = nn.Linear(1, 1)


def with_other_shape(model):
    model[0].weight = nn.Parameter(torch.zeros(7, 7))


def with_tensor(model):
    model[0].cache = torch.zeros(1)


def with_changed_norm(model):
    model[1].affine = False


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (with_attribute, "model.0.note"),
        (with_method, "model.0.forward"),
        (with_hook, "model.0._forward_hooks"),
        (with_pre_hook, "model.0._forward_pre_hooks"),
        (with_backward_hook, "model.0._backward_hooks"),
        (with_parametrization, "model.0"),
        (with_buffer, "'extra'"),
        (with_parameter, "'extra'"),
        (with_child, "extra"),
        (with_other_shape, r"shape \(7, 7\), not \(4, 3\)"),
        (with_tensor, "model.0.cache"),
        (with_changed_norm, "model.1"),
    ],
)
def test_what_a_twin_does_not_have_is_refused_with_its_path(torch_keeper, change, word):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    torch_keeper.pack(model)
    change(model)
    with pytest.raises(Unsupported, match=word) as caught:
        torch_keeper.pack(model)
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_norm_by_hook_is_refused_with_what_takes_it_off(torch_keeper):
    model = nn.Sequential(nn.Linear(2, 2))
    nn.utils.weight_norm(model[0])
    with pytest.raises(Unsupported, match="WeightNorm") as caught:
        torch_keeper.pack(model)
    exec(caught.value.hint, {"model": model, "torch": torch})
    torch_keeper.pack(model)


def test_a_deep_change_is_named_by_its_whole_path(torch_keeper):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(**ENCODER, batch_first=True), 2)
    model.layers[1].self_attn.note = 1
    with pytest.raises(Unsupported, match=r"model\.layers\.1\.self_attn\.note"):
        torch_keeper.pack(model)


def test_the_hint_of_an_extra_attribute_runs(torch_keeper):
    model = nn.Sequential(nn.Linear(3, 4))
    model[0].note = 1
    with pytest.raises(Unsupported) as caught:
        torch_keeper.pack(model)
    exec(caught.value.hint, {"model": model})
    torch_keeper.pack(model)


def test_a_changed_layer_inside_a_table_is_refused(torch_keeper):
    layer = nn.Linear(2, 2)
    layer.note = 1
    with pytest.raises(Unsupported, match="note"):
        torch_keeper.pack({"a": {"b": layer}})


def test_an_activation_that_is_not_torchs_is_refused(torch_keeper):
    layer = nn.TransformerEncoderLayer(**ENCODER, activation=lambda x: x)
    with pytest.raises(Unsupported, match="not torch's own"):
        torch_keeper.pack(layer)


def test_an_activation_function_of_torch_is_kept(torch_keeper):
    layer = nn.TransformerEncoderLayer(**ENCODER, activation=nn.functional.silu)
    assert torch_keeper.roundtrip(layer).activation is nn.functional.silu


def test_lazy_layers_are_refused_until_they_know_their_shape(torch_keeper):
    model = nn.Sequential(nn.LazyLinear(3))
    assert methods(model) == ()
    with pytest.raises(Unsupported, match="lazy"):
        torch_keeper.pack(model)
    model(torch.ones(1, 2))
    assert_same(torch_keeper.roundtrip(model), model)


def fields(**changes):
    parameter = nn.Parameter(torch.zeros(4, 3))
    return {
        "training": True,
        "in_features": 3,
        "out_features": 4,
        "bias": False,
        "parameters": {"weight": parameter, "bias": None},
    } | changes


def build(name, values):
    return torch_modules._build(LAYERS[name], values)


def test_the_forgeries_start_from_a_good_layer():
    assert build("Linear", fields()).weight.shape == (4, 3)


@pytest.mark.parametrize(
    "forged",
    [
        fields(parameters={"weight": nn.Parameter(torch.zeros(3, 4)), "bias": None}),
        fields(parameters={"bias": None}),
        fields(parameters={}),
        fields(parameters={"weight": torch.zeros(4, 3), "bias": None}),
        fields(parameters={"weight": 5, "bias": None}),
        fields(parameters=[1]),
        fields(parameters={"weight": nn.Parameter(torch.zeros(4, 3)), "forward": None}),
        fields(buffers={"weight": torch.zeros(1)}),
        fields(modules={"x": nn.ReLU()}),
        fields(modules={"x": 5}),
        fields(training=1),
        fields(in_features="3"),
        fields(in_features=-3),
        fields(in_features=10**30),
        fields(in_features=[3]),
        {"training": True},
        fields(transient=["weight"]),
        fields(transient=5),
    ],
)
def test_forged_layers_are_refused(forged):
    with pytest.raises(Corrupt):
        build("Linear", forged)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_a_forged_depth_costs_no_time(name):
    arguments = {"input_size": 3, "hidden_size": 4, "num_layers": 10**12}
    with pytest.raises(Corrupt, match="num_layers"):
        build(name, {"training": True, **arguments})


@pytest.mark.parametrize("count", [10**12, 2, -1, "3", None, [1]])
def test_a_forged_number_of_encoder_layers_is_refused(count):
    layers = nn.ModuleList([nn.TransformerEncoderLayer(**ENCODER, batch_first=True)])
    arguments = {"num_layers": count, "enable_nested_tensor": True, "mask_check": True}
    with pytest.raises(Corrupt):
        build(
            "TransformerEncoder",
            {"training": True, **arguments, "modules": {"layers": layers}},
        )


@pytest.mark.parametrize("name", ["forward", "a.b", "", "__dict__", "_parameters"])
def test_children_cannot_replace_what_a_container_is(name):
    child = {"training": True, "modules": {name: nn.ReLU()}}
    with pytest.raises(Corrupt):
        build("Sequential", child)
    with pytest.raises(Corrupt):
        build("Module", {"training": True, "buffers": {name: torch.zeros(1)}})


def test_children_of_a_list_are_numbered():
    with pytest.raises(Corrupt, match="numbered"):
        build("ModuleList", {"training": True, "modules": {"1": nn.ReLU()}})


def test_an_argument_of_a_newer_torch_names_the_upgrade(monkeypatch):
    class Linear(nn.Module):
        def __init__(self, in_features):
            super().__init__()

    monkeypatch.setattr(nn.modules.linear, "Linear", Linear)
    with pytest.raises(EnvironmentMismatch, match="out_features="):
        build("Linear", fields())


def test_a_layer_of_a_newer_torch_names_the_upgrade(monkeypatch):
    monkeypatch.delattr(nn.modules.normalization, "RMSNorm")
    with pytest.raises(EnvironmentMismatch, match="RMSNorm"):
        build("RMSNorm", {"training": True})


def test_saved_on_a_device_that_is_not_here(torch_keeper, caplog):
    payload = torch_keeper.pack(nn.Linear(2, 2))
    payload.facts["device"] = "xpu:1"
    with caplog.at_level(logging.INFO, "holdfast"):
        loaded = torch_keeper.unpack(payload)
    assert loaded.weight.device.type == "cpu"
    assert caplog.messages == ["saved on xpu:1; none here: loaded on cpu"]


def test_a_device_can_be_chosen(torch_keeper):
    payload = torch_keeper.pack({"w": torch.zeros(2), "m": nn.Linear(2, 2)})
    loaded = torch_keeper.unpack(payload, device="meta")
    assert loaded["w"].is_meta
    assert loaded["m"].weight.is_meta


@pytest.mark.parametrize("device", ["xpu", "abacus", "cpu:cpu"])
def test_a_device_that_does_not_exist_is_a_usage_error(torch_keeper, device):
    from holdfast.errors import UsageError

    with pytest.raises(UsageError, match=device):
        torch_keeper.unpack(torch_keeper.pack(nn.Linear(2, 2)), device=device)
