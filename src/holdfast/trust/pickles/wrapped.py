"""Arrays that joblib writes into the stream, right after the pickle of their description.

Source: joblib's ``joblib/numpy_pickle.py`` (``NumpyArrayWrapper`` and ``NumpyUnpickler``).
"""

from __future__ import annotations

import math
from typing import Any, Final

from holdfast.trust.pickles.dtypes import Unknown, item_size
from holdfast.trust.pickles.values import Call, Global, Pairs

__all__ = ["facts_of", "is_old_wrapper", "is_wrapper", "size_of"]

_MODULES: Final = ("joblib", "sklearn.externals.joblib")
_WRAPPERS: Final = frozenset(f"{m}.numpy_pickle:NumpyArrayWrapper" for m in _MODULES)
# Before joblib 0.10: arrays in files beside the pickle.
_OLD: Final = frozenset(
    f"{m}.{place}:{name}"
    for m in _MODULES
    for place in ("numpy_pickle", "numpy_pickle_compat")
    for name in ("NDArrayWrapper", "ZNDArrayWrapper")
)
_MAKERS: Final = frozenset({"copyreg:_reconstructor", "copyreg:__newobj__"})
_PARAMETERS: Final = (
    "subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes",
)  # fmt: skip
_MOST: Final = 1 << 62


def is_wrapper(call: Call) -> bool:
    """Say whether a call makes the description of an array that follows in the stream."""
    return _class_of(call) in _WRAPPERS


def is_old_wrapper(call: Call) -> bool:
    """Say whether a call makes the description of an array in a file beside the pickle."""
    return _class_of(call) in _OLD


def _class_of(call: Call) -> str | None:
    function = call.function
    if not isinstance(function, Global):
        return None
    if function.key in _MAKERS and isinstance(call.arguments, (tuple, list)) and call.arguments:
        function = call.arguments[0]
    return function.key if isinstance(function, Global) else None


def facts_of(call: Call) -> dict[str, Any]:
    """Return an object's attributes as far as BUILD and the constructor's arguments set them."""
    facts: dict[str, Any] = {}
    if not call.new and type(call.arguments) is tuple and _class_of(call) == _key(call.function):
        facts.update(zip(_PARAMETERS, call.arguments, strict=False))
    for state in call.states:
        parts = state if type(state) is tuple and len(state) == 2 else (state,)
        for part in parts:
            if type(part) is Pairs:
                facts.update((key, value) for key, value in part.items if type(key) is str)
    return facts


def _key(function: Any) -> str | None:
    return function.key if isinstance(function, Global) else None


def size_of(facts: dict[str, Any]) -> int | None:
    """Return how many bytes the array's items take; None for objects, which are a pickle.

    Raises:
        Unknown: The description is not one that joblib writes.
    """
    shape = facts.get("shape")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise Unknown
    size = item_size(facts.get("dtype"))
    if size is None:
        return None
    # Longer products than an address space have no array.
    if len(shape) > 64 or any(n > _MOST for n in shape):
        raise Unknown
    return math.prod(shape) * size
