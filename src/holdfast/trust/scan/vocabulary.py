"""The names in pickles that are known to be data: a closed list, never a list of what is bad.

What stands in ``DATA`` is read by Holdfast itself, as numbers and containers; nothing of it is
imported or called. What stands in ``UNREAD`` is data too, of values that Holdfast does not take
over from pickles. A name that is in neither is one that would run something unknown.

The names are those that the libraries' own pickling writes.
"""

from __future__ import annotations

from collections.abc import Container
from importlib.resources import files
from typing import Final

__all__ = ["DATA", "FAMILIES", "UNREAD", "AnyOf"]

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

_NUMPY_SCALARS: Final = tuple(
    f"numpy:{name}"
    for name in (
        "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128", "str_", "bytes_", "object_",
        "datetime64", "timedelta64", "number", "integer", "floating", "generic",
    )
)  # fmt: skip
_RANDOM: Final = tuple(
    f"numpy.random.{name}"
    for name in (
        "_pickle:__randomstate_ctor", "_pickle:__generator_ctor", "_pickle:__bit_generator_ctor",
        "mtrand:RandomState", "bit_generator:SeedSequence", "_mt19937:MT19937", "_pcg64:PCG64",
        "bit_generator:__pyx_unpickle_SeedSequence", "_pcg64:PCG64DXSM", "_philox:Philox",
        "_sfc64:SFC64",
    )
)  # fmt: skip

# Distances of scikit-learn's neighbours' trees: numbers and arrays. PyFuncDistance, which calls a
# function, is none of them.
_DISTANCES: Final = tuple(
    f"sklearn.{home}._dist_metrics:{name}Distance{width}"
    for home in ("metrics", "neighbors")
    for name in (
        "Euclidean", "SEuclidean", "Manhattan", "Chebyshev", "Minkowski", "WMinkowski",
        "Mahalanobis", "Hamming", "Canberra", "BrayCurtis", "Jaccard", "Matching", "Dice",
        "Kulsinski",
        "RogersTanimoto", "RussellRao", "SokalMichener", "SokalSneath", "Haversine",
    )
    for width in ("", "32", "64")
)  # fmt: skip

DATA: Final[frozenset[str]] = frozenset(
    {
        *_DISTANCES,
        *_NUMPY_SCALARS,
        *_RANDOM,
        *_NUMPY,
        *_STORAGES,
        *_TORCH_DTYPES,
        "numpy:dtype",
        "numpy:ndarray",
        "numpy.ma.core:_mareconstruct",
        "numpy.ma.core:MaskedArray",
        "numpy.ma:MaskedArray",
        "joblib.numpy_pickle:NumpyArrayWrapper",
        "sklearn.externals.joblib.numpy_pickle:NumpyArrayWrapper",
        "_codecs:encode",
        "codecs:encode",
        "collections:OrderedDict",
        "collections:defaultdict",
        "collections:deque",
        "collections:Counter",
        # How protocols 0 and 1 make an object of a class; the class is a name of its own.
        "copyreg:_reconstructor",
        "builtins:object",
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
        "builtins:Ellipsis",
        # A pattern, compiled from its text and flags.
        "re:_compile",
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

# Data that Holdfast does not read out of pickles, or not all of it.
UNREAD: Final[frozenset[str]] = frozenset(
    f"{module}:{name}"
    for line in files(__package__).joinpath("unread_names.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
    for module, _, names in (line.partition(":"),)
    for name in names.split()
)


class AnyOf(Container[str]):
    """The names that are in one of several vocabularies."""

    def __init__(self, *parts: Container[str]) -> None:
        self._parts = parts

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self._parts)


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
