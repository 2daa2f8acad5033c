"""The layers of ``torch.nn`` as data: constructor arguments and where each is read from.

One line per class. A word of the line is one constructor argument:

- ``stride``      read from the attribute of the same name
- ``p=norm``      argument ``p`` read from the attribute ``norm`` (dots go through children)
- ``bias?``       True when the attribute is not None; ``bias?=bias_k`` reads another attribute
- ``bias+``       like ``bias?``, but left out unless ``weight`` is there and ``bias`` is not,
  because releases before the argument existed do not know it
- ``weight@``     a tensor argument that becomes the buffer of that name
- ``activation*`` a child module, or a function of ``torch.nn.functional`` by its name
- ``cutoffs:``    all but the last item of the attribute

The children given to ``TransformerEncoder`` and its like are made in ``modules``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FUNCTIONS", "LAYERS", "MARKS", "OPEN", "Argument", "Layer"]


class Argument(NamedTuple):
    """One constructor argument.

    Attributes:
        name: Its name.
        source: Dotted path of the attribute that tells its value.
        mark: How the value is read: one of `MARKS` or empty.
    """

    name: str
    source: str
    mark: str


class Layer(NamedTuple):
    """One class of ``torch.nn``.

    Attributes:
        name: Its name in ``torch.nn``.
        module: The module under ``torch.nn.modules`` that defines it.
        arguments: Its constructor arguments.
    """

    name: str
    module: str
    arguments: tuple[Argument, ...]


MARKS: Final = "?+@*:"

# Containers whose children, parameters or buffers have names of the user's choice.
OPEN: Final = frozenset(
    {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}
)

# Functions that a layer may hold, by the name kept in the file.
FUNCTIONS: Final = (
    "celu",
    "elu",
    "gelu",
    "hardswish",
    "leaky_relu",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
)

_NORM: Final = "num_features eps momentum affine track_running_stats bias+"
_CONV: Final = (
    "in_channels out_channels kernel_size stride padding dilation groups bias? padding_mode"
)
_UPCONV: Final = f"{_CONV} output_padding"
_RNN: Final = "input_size hidden_size num_layers bias batch_first dropout bidirectional"
_AVGPOOL: Final = "kernel_size stride padding ceil_mode count_include_pad"
_MAXPOOL: Final = "kernel_size stride padding dilation return_indices ceil_mode"
_FRACTIONAL: Final = "kernel_size output_size output_ratio return_indices _random_samples@"
_ENCODER: Final = (
    "d_model=self_attn.embed_dim nhead=self_attn.num_heads dim_feedforward=linear1.out_features "
    "dropout=dropout.p activation* layer_norm_eps=norm1.eps batch_first=self_attn.batch_first "
    "norm_first bias?=linear1.bias"
)

_TABLE: Final[dict[str, dict[str, str]]] = {
    "activation": {
        "CELU": "alpha inplace",
        "ELU": "alpha inplace",
        "GELU": "approximate",
        "GLU": "dim",
        "Hardshrink": "lambd",
        "Hardsigmoid": "inplace",
        "Hardswish": "inplace",
        "Hardtanh": "min_val max_val inplace",
        "LeakyReLU": "negative_slope inplace",
        "LogSigmoid": "",
        "LogSoftmax": "dim",
        "Mish": "inplace",
        "MultiheadAttention": (
            "embed_dim num_heads dropout bias?=in_proj_bias add_bias_kv?=bias_k "
            "add_zero_attn kdim vdim batch_first"
        ),
        "PReLU": "num_parameters init",
        "RReLU": "lower upper inplace",
        "ReLU": "inplace",
        "ReLU6": "inplace",
        "SELU": "inplace",
        "SiLU": "inplace",
        "Sigmoid": "",
        "Softmax": "dim",
        "Softmax2d": "",
        "Softmin": "dim",
        "Softplus": "beta threshold",
        "Softshrink": "lambd",
        "Softsign": "",
        "Tanh": "",
        "Tanhshrink": "",
        "Threshold": "threshold value inplace",
    },
    "adaptive": {
        "AdaptiveLogSoftmaxWithLoss": "in_features n_classes cutoffs: div_value head_bias",
    },
    "batchnorm": {
        "BatchNorm1d": _NORM,
        "BatchNorm2d": _NORM,
        "BatchNorm3d": _NORM,
        "SyncBatchNorm": _NORM,
    },
    "channelshuffle": {"ChannelShuffle": "groups"},
    "container": {
        "ModuleDict": "",
        "ModuleList": "",
        "ParameterDict": "",
        "ParameterList": "",
        "Sequential": "",
    },
    "conv": {
        "Conv1d": _CONV,
        "Conv2d": _CONV,
        "Conv3d": _CONV,
        "ConvTranspose1d": _UPCONV,
        "ConvTranspose2d": _UPCONV,
        "ConvTranspose3d": _UPCONV,
    },
    "distance": {"CosineSimilarity": "dim eps", "PairwiseDistance": "p=norm eps keepdim"},
    "dropout": {
        "AlphaDropout": "p inplace",
        "Dropout": "p inplace",
        "Dropout1d": "p inplace",
        "Dropout2d": "p inplace",
        "Dropout3d": "p inplace",
        "FeatureAlphaDropout": "p inplace",
    },
    "flatten": {"Flatten": "start_dim end_dim", "Unflatten": "dim unflattened_size"},
    "fold": {
        "Fold": "output_size kernel_size dilation padding stride",
        "Unfold": "kernel_size dilation padding stride",
    },
    "instancenorm": {"InstanceNorm1d": _NORM, "InstanceNorm2d": _NORM, "InstanceNorm3d": _NORM},
    "linear": {
        "Bilinear": "in1_features in2_features out_features bias?",
        "Identity": "",
        "Linear": "in_features out_features bias?",
        "NonDynamicallyQuantizableLinear": "in_features out_features bias?",
    },
    "loss": {
        "BCELoss": "weight@ reduction",
        "BCEWithLogitsLoss": "weight@ reduction pos_weight@",
        "CTCLoss": "blank reduction zero_infinity",
        "CosineEmbeddingLoss": "margin reduction",
        "CrossEntropyLoss": "weight@ ignore_index reduction label_smoothing",
        "GaussianNLLLoss": "full eps reduction",
        "HingeEmbeddingLoss": "margin reduction",
        "HuberLoss": "reduction delta",
        "KLDivLoss": "reduction log_target",
        "L1Loss": "reduction",
        "LinearCrossEntropyLoss": (
            "in_features=linear.in_features num_classes out_features bias?=linear.bias "
            "reduction weight@ ignore_index label_smoothing options"
        ),
        "MSELoss": "reduction",
        "MarginRankingLoss": "margin reduction",
        "MultiLabelMarginLoss": "reduction",
        "MultiLabelSoftMarginLoss": "weight@ reduction",
        "MultiMarginLoss": "p margin weight@ reduction",
        "NLLLoss": "weight@ ignore_index reduction",
        "NLLLoss2d": "weight@ ignore_index reduction",
        "PoissonNLLLoss": "log_input full eps reduction",
        "SmoothL1Loss": "reduction beta",
        "SoftMarginLoss": "reduction",
        "TripletMarginLoss": "margin p eps swap reduction",
        "TripletMarginWithDistanceLoss": "distance_function* margin swap reduction",
    },
    "module": {"Module": ""},
    "normalization": {
        "CrossMapLRN2d": "size alpha beta k",
        "GroupNorm": "num_groups num_channels eps affine bias+",
        "LayerNorm": "normalized_shape eps elementwise_affine bias?",
        "LocalResponseNorm": "size alpha beta k",
        "RMSNorm": "normalized_shape eps elementwise_affine",
    },
    "padding": {
        "CircularPad1d": "padding",
        "CircularPad2d": "padding",
        "CircularPad3d": "padding",
        "ConstantPad1d": "padding value",
        "ConstantPad2d": "padding value",
        "ConstantPad3d": "padding value",
        "ReflectionPad1d": "padding",
        "ReflectionPad2d": "padding",
        "ReflectionPad3d": "padding",
        "ReplicationPad1d": "padding",
        "ReplicationPad2d": "padding",
        "ReplicationPad3d": "padding",
        "ZeroPad1d": "padding",
        "ZeroPad2d": "padding",
        "ZeroPad3d": "padding",
    },
    "pixelshuffle": {"PixelShuffle": "upscale_factor", "PixelUnshuffle": "downscale_factor"},
    "pooling": {
        "AdaptiveAvgPool1d": "output_size",
        "AdaptiveAvgPool2d": "output_size",
        "AdaptiveAvgPool3d": "output_size",
        "AdaptiveMaxPool1d": "output_size return_indices",
        "AdaptiveMaxPool2d": "output_size return_indices",
        "AdaptiveMaxPool3d": "output_size return_indices",
        "AvgPool1d": _AVGPOOL,
        "AvgPool2d": f"{_AVGPOOL} divisor_override",
        "AvgPool3d": f"{_AVGPOOL} divisor_override",
        "FractionalMaxPool2d": _FRACTIONAL,
        "FractionalMaxPool3d": _FRACTIONAL,
        "LPPool1d": "norm_type kernel_size stride ceil_mode",
        "LPPool2d": "norm_type kernel_size stride ceil_mode",
        "LPPool3d": "norm_type kernel_size stride ceil_mode",
        "MaxPool1d": _MAXPOOL,
        "MaxPool2d": _MAXPOOL,
        "MaxPool3d": _MAXPOOL,
        "MaxUnpool1d": "kernel_size stride padding",
        "MaxUnpool2d": "kernel_size stride padding",
        "MaxUnpool3d": "kernel_size stride padding",
    },
    "rnn": {
        "GRU": _RNN,
        "GRUCell": "input_size hidden_size bias",
        "LSTM": f"{_RNN} proj_size",
        "LSTMCell": "input_size hidden_size bias",
        "RNN": f"{_RNN} nonlinearity",
        "RNNCell": "input_size hidden_size bias nonlinearity",
    },
    "sparse": {
        "Embedding": (
            "num_embeddings embedding_dim padding_idx max_norm norm_type scale_grad_by_freq sparse"
        ),
        "EmbeddingBag": (
            "num_embeddings embedding_dim max_norm norm_type scale_grad_by_freq mode sparse "
            "include_last_offset padding_idx"
        ),
    },
    "transformer": {
        "Transformer": "d_model nhead batch_first",
        "TransformerDecoder": "num_layers",
        "TransformerDecoderLayer": _ENCODER,
        "TransformerEncoder": "num_layers enable_nested_tensor mask_check",
        "TransformerEncoderLayer": _ENCODER,
    },
    "upsampling": {
        "Upsample": "size scale_factor mode align_corners recompute_scale_factor",
        "UpsamplingBilinear2d": "size scale_factor",
        "UpsamplingNearest2d": "size scale_factor",
    },
}


def _argument(word: str) -> Argument:
    name, _, source = word.partition("=")
    mark = name[-1] if name[-1] in MARKS else ""
    name = name.removesuffix(mark)
    return Argument(name, source or name, mark)


LAYERS: Final[dict[str, Layer]] = {
    name: Layer(name, module, tuple(map(_argument, line.split())))
    for module, lines in _TABLE.items()
    for name, line in lines.items()
}
