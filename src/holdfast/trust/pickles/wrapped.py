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
_MOST: Final = 1 << 62
_MOST_AXES: Final = 64


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
    """Return the attributes of an object that is made and described as Python's pickling does it.

    Raises:
        Unknown: It is made or described in another way, so that its attributes are not certain.
    """
    made = call.arguments == () if call.new else _is_reconstructed(call)
    if not made or call.keywords is not None or len(call.states) != 1:
        raise Unknown
    state = call.states[0]
    if type(state) is not Pairs or not all(type(key) is str for key, _ in state.items):
        raise Unknown
    return dict(state.items)


def _is_reconstructed(call: Call) -> bool:
    """Say whether protocol 0 or 1 made the object: from nothing but its class."""
    if not isinstance(call.function, Global) or call.function.key != "copyreg:_reconstructor":
        return False
    arguments = call.arguments
    return (
        type(arguments) is tuple
        and len(arguments) == 3
        and isinstance(arguments[1], Global)
        and arguments[1].key == "builtins:object"
        and arguments[2] is None
    )


def size_of(facts: dict[str, Any]) -> int | None:
    """Return how many bytes the array's items take; None for objects, which are a pickle.

    Raises:
        Unknown: The description is not one that joblib writes.
    """
    shape = facts.get("shape")
    if type(shape) is not tuple or not all(type(n) is int and 0 <= n < _MOST for n in shape):
        raise Unknown
    if len(shape) > _MOST_AXES or not _is_aligned(facts):
        raise Unknown
    size = item_size(facts.get("dtype"))
    if size is None:
        if facts.get("allow_mmap") is not False:  # a map of pointers to objects
            raise Unknown
        return None
    return math.prod(shape) * size


def _is_aligned(facts: dict[str, Any]) -> bool:
    """Say whether it is certain that padding comes before the array, or that none does."""
    return type(facts.get("numpy_array_alignment_bytes")) in (int, type(None))
