"""The names in pickles that are known to be data: a closed list, never a list of what is bad.

What stands here is read by Holdfast itself, as numbers and containers; nothing of it is imported
or called. A name that is not here is one that would run something unknown.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DATA", "FAMILIES"]

_NUMPY: Final = tuple(
    f"numpy.{core}.{name}"
    for core in ("core", "_core")
    for name in ("multiarray:_reconstruct", "multiarray:scalar", "numeric:_frombuffer")
)
_STORAGES: Final = tuple(
    f"torch:{name}Storage"
    for name in (
        "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
        "ComplexDouble", "ComplexFloat", "Untyped",
    )
)  # fmt: skip
_TORCH_DTYPES: Final = tuple(
    f"torch:{name}"
    for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
        "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "uint16", "uint32",
        "uint64",
    )
)  # fmt: skip

DATA: Final[frozenset[str]] = frozenset(
    {
        *_NUMPY,
        *_STORAGES,
        *_TORCH_DTYPES,
        "numpy:dtype",
        "numpy:ndarray",
        "numpy.ma.core:_mareconstruct",
        "numpy.ma.core:MaskedArray",
        "numpy.ma:MaskedArray",
        "joblib.numpy_pickle:NumpyArrayWrapper",
        "numpy.random._pickle:__randomstate_ctor",
        "numpy.random._pickle:__generator_ctor",
        "numpy.random._pickle:__bit_generator_ctor",
        "numpy.random.mtrand:RandomState",
        "numpy.random._mt19937:MT19937",
        "numpy.random._pcg64:PCG64",
        "numpy.random.bit_generator:SeedSequence",
        "numpy.random.bit_generator:__pyx_unpickle_SeedSequence",
        "_codecs:encode",
        "codecs:encode",
        "collections:OrderedDict",
        "collections:defaultdict",
        "collections:deque",
        "collections:Counter",
        "builtins:set",
        "builtins:frozenset",
        "builtins:slice",
        "builtins:range",
        "builtins:complex",
        "builtins:bytearray",
        "builtins:bytes",
        "builtins:list",
        "builtins:dict",
        "builtins:tuple",
        "builtins:int",
        "builtins:float",
        "builtins:str",
        "builtins:bool",
        "torch:Size",
        "torch:device",
        "torch._utils:_rebuild_tensor",
        "torch._utils:_rebuild_tensor_v2",
        "torch._utils:_rebuild_parameter",
        "torch.nn.parameter:Parameter",
        "torch.storage:UntypedStorage",
        "torch.storage:TypedStorage",
        "torch.serialization:_get_layout",
    }
)

# Top-level module to the framework that writes it, for naming what a pickle comes from.
FAMILIES: Final[dict[str, str]] = {
    "catboost": "CatBoost",
    "dill": "dill",
    "cloudpickle": "cloudpickle",
    "lightgbm": "LightGBM",
    "keras": "Keras",
    "pandas": "pandas",
    "pytorch_lightning": "PyTorch Lightning",
    "lightning": "PyTorch Lightning",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "transformers": "transformers",
    "xgboost": "XGBoost",
    "numpy": "NumPy",
}
