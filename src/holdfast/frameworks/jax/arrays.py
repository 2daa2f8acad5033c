"""How jax arrays and typed random keys are kept.

An array is an object node with its bytes as a raw buffer and its dtype by name, wherever its
devices were. dtypes that safetensors does not know are stored by a stand-in: complex as floats
with a last axis of 2 (real, imaginary), the exotic small numbers as U8, one byte each, which is
how numpy holds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

import numpy as np

from holdfast.codec.registry import TypeSpec
from holdfast.codec.tensors import TensorData
from holdfast.errors import Corrupt, EnvironmentMismatch, Unsupported
from holdfast.plugins import import_extra

__all__ = ["DTYPES", "SPECS", "WIDE", "build_array", "build_keys", "imported", "is_keys", "placed"]


class StoredDtype(NamedTuple):
    """How a jax dtype lies in the file.

    Attributes:
        dtype: safetensors dtype.
        parts: 2 when each item is a (real, imaginary) pair in an extra last axis, else 0.
    """

    dtype: str
    parts: int = 0


# jax dtype name to its form in the file; source: jax.numpy's scalar types and ml_dtypes.
DTYPES: Final[dict[str, StoredDtype]] = {
    "bool": StoredDtype("BOOL"),
    **{f"{kind}int{bits}": StoredDtype(f"{(kind or 'i').upper()}{bits}")
       for kind in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": StoredDtype("F16"),
    "bfloat16": StoredDtype("BF16"),
    "float32": StoredDtype("F32"),
    "float64": StoredDtype("F64"),
    "complex64": StoredDtype("F32", 2),
    "complex128": StoredDtype("F64", 2),
    "float8_e4m3fn": StoredDtype("F8_E4M3"),
    "float8_e5m2": StoredDtype("F8_E5M2"),
    **dict.fromkeys(
        (
            "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fnuz",
            "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn", "int2", "int4", "uint2", "uint4",
        ),
        StoredDtype("U8"),
    ),
}  # fmt: skip

# dtypes that jax makes only while 64-bit numbers are enabled.
WIDE: Final = frozenset({"int64", "uint64", "float64", "complex128"})

# Random bit generators of jax; source: the documentation of jax.random, "PRNG implementations".
_IMPLEMENTATIONS: Final = {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}


def imported() -> ModuleType:
    """Return the jax package; raises ``MissingExtra``."""
    return import_extra("jax", needed_for="A JAX model")


def is_keys(array: Any) -> bool:
    """Say whether an array holds typed random keys (``jax.random.key``) and not numbers."""
    jax = imported()
    return bool(jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key))


def _is_array(value: Any, *, keys: bool) -> bool:
    """Say whether a value is a jax array with values, of keys or of numbers."""
    jax = imported()
    real = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    return real and is_keys(value) == keys


def _numpy_dtype(name: Any) -> np.dtype[Any]:
    """Return the numpy dtype of a stored name, from the closed table.

    Raises:
        Corrupt: The name is not in the table.
        EnvironmentMismatch: This ml_dtypes does not have it.
    """
    if not isinstance(name, str) or name not in DTYPES:
        raise Corrupt(f"unknown jax dtype {name!r:.60}")
    kind = getattr(import_extra("ml_dtypes", needed_for=f"an array of {name}"), name, name)
    try:
        dtype: np.dtype[Any] = np.dtype(kind)
    except TypeError as error:
        raise EnvironmentMismatch(
            f"This ml_dtypes has no dtype {name}.",
            hint='python -m pip install --upgrade "ml_dtypes>=0.5" jax',
        ) from error
    return dtype


def _refuse_unreadable(array: Any) -> None:
    """Raise ``Unsupported`` for an array whose values this process does not have."""
    if array.is_deleted():
        raise Unsupported(
            "an array was deleted: a jitted function that it was donated to has its memory now.",
            hint="jax.jit(step)  # without donate_argnums, or keep what step returns",
        )
    if not array.is_fully_addressable:
        raise Unsupported(
            "an array lies on devices of other processes, so this one does not have its values.",
            hint="jax.experimental.multihost_utils.process_allgather(tree, tiled=True)",
        )


def _host(array: Any) -> np.ndarray[Any, Any]:
    """Return an array's values in this machine's memory, without a copy where they are there."""
    jax = imported()
    if any(device.platform != "cpu" for device in array.devices()):
        try:  # numpy.asarray would leave a copy of every tensor with its array
            array = jax.device_put(array, jax.devices("cpu")[0])
        except RuntimeError:  # the program runs without jax's CPU backend
            return np.array(array)
    return np.asarray(array)


def _bytes(array: Any) -> memoryview:
    """Return little-endian, C-ordered bytes; called when the tensor is written."""
    host = _host(array)
    if host.nbytes == 0:
        return memoryview(b"")
    return np.ascontiguousarray(host).reshape(-1).view(np.uint8).data


def _encode_array(array: Any) -> dict[str, Any]:
    _refuse_unreadable(array)
    name = str(array.dtype)
    stored = DTYPES.get(name)
    if stored is None:
        raise Unsupported(
            f"an array has the dtype {name}, which this release cannot keep.",
            hint="array.astype(jax.numpy.float32)",
        )
    shape = (*array.shape, 2) if stored.parts else tuple(array.shape)
    data = TensorData(stored.dtype, shape, partial(_bytes, array))
    return {"data": data, "dtype": name} | ({"weak": True} if array.weak_type else {})


def _array_state(array: Any) -> dict[str, Any]:
    return {"data": _host(array), "weak": bool(array.weak_type)}


def _check_array(fields: Mapping[str, Any]) -> None:
    """Judge an array node's summaries; see ``TypeSpec.check``."""
    data, name = fields["data"], fields["dtype"].value
    stored = DTYPES.get(name) if isinstance(name, str) else None
    if stored is None:
        raise Corrupt(f"unknown jax dtype {name!r:.60}")
    if data.kind != "buffer" or data.dtype != stored.dtype:
        raise Corrupt(f"an array of dtype {name} is not stored as {stored.dtype}")
    if stored.parts and data.shape[-1:] != (stored.parts,):
        raise Corrupt(f"a complex array has the stored shape {data.shape}")
    if "weak" in fields and fields["weak"].value is not True:
        raise Corrupt("an array's mark of a weak type is not true")


def build_array(fields: Mapping[str, Any], device: Any = None) -> Any:
    """Make a jax array from its fields; on the CPU it is the file's memory and no copy.

    Args:
        fields: ``data`` (TensorView), ``dtype`` (name) and maybe ``weak`` (True).
        device: Where it shall live; None for jax's default device.

    Raises:
        Corrupt: The buffer's size or values are not what the dtype asks for.
    """
    view, name = fields["data"], fields["dtype"]
    dtype = _numpy_dtype(name)
    shape = tuple(view.shape)[:-1] if DTYPES[name].parts else tuple(view.shape)
    if len(view.data) != math.prod(shape) * dtype.itemsize:
        raise Corrupt(f"an array of dtype {name} and shape {shape} has {len(view.data)} bytes")
    plain = np.frombuffer(view.data, np.uint8) if len(view.data) else np.empty(0, np.uint8)
    if name == "bool" and plain.size and plain.max() > 1:
        raise Corrupt("an array of booleans holds other bytes than 0 and 1")
    host = plain.view(dtype).reshape(shape)
    if not fields.get("weak", False):
        return placed(host, device)
    with _enabled(wide=name in WIDE):
        return _weakened(imported().device_put(host, device))


def placed(values: Any, where: Any) -> Any:
    """Return values as a jax array of their own dtype.

    Args:
        values: numpy or jax array.
        where: Device or sharding; None for jax's default device.
    """
    with _enabled(wide=True) if str(values.dtype) in WIDE else nullcontext():
        return imported().device_put(values, where)


def _enabled(*, wide: bool) -> AbstractContextManager[Any]:
    """Let jax make 64-bit arrays, which it otherwise cuts to 32 bits without a word, or not."""
    jax = imported()
    enable = getattr(jax, "enable_x64", None)
    if enable is None:
        enable = import_extra("jax.experimental", needed_for="64-bit arrays").enable_x64
    manager: AbstractContextManager[Any] = enable(wide)
    return manager


def _weakened(array: Any) -> Any:
    """Return the same values with jax's mark that their dtype gives way to others.

    Raises:
        Corrupt: No array of this dtype can have the mark.
    """
    jax = imported()
    plain = {"i": 0, "f": 0.0, "c": 0j}.get(array.dtype.kind)
    like = None if plain is None else jax.numpy.asarray(plain)
    if like is None or like.dtype != array.dtype:
        raise Corrupt(f"an array of dtype {array.dtype} cannot have a weak type")
    if not array.size:
        return jax.lax.full_like(like, plain, shape=array.shape)
    return jax.vmap(partial(jax.lax.full_like, like))(array.reshape(-1)).reshape(array.shape)


def _encode_keys(keys: Any) -> dict[str, Any]:
    _refuse_unreadable(keys)
    random = imported().random
    name = str(random.key_impl(keys))
    if name not in _IMPLEMENTATIONS:
        raise Unsupported(
            f"random keys of the implementation {name!r:.60} cannot be kept, since it is code.",
            hint="jax.random.key_data(keys)  # the numbers alone",
        )
    return {"data": random.key_data(keys), "impl": name}


def _check_keys(fields: Mapping[str, Any]) -> None:
    if fields["data"].type_id != "jax.Array" or fields["impl"].value not in _IMPLEMENTATIONS:
        raise Corrupt(f"random keys of the unknown kind {fields['impl'].value!r:.60}")


def build_keys(fields: Mapping[str, Any]) -> Any:
    """Make typed random keys of their numbers; raises ``Corrupt``."""
    data, name = fields["data"], fields["impl"]
    if str(data.dtype) != "uint32" or data.shape[-1:] != (_IMPLEMENTATIONS[name],):
        raise Corrupt(f"random keys of {name} are not made of {data.dtype}{list(data.shape)}")
    return imported().random.wrap_key_data(data, impl=name)


# Where the classes were over the supported releases; the newest last.
_ARRAYS: Final = ("jaxlib.xla_extension:ArrayImpl", "jaxlib._jax:ArrayImpl")
_KEYS: Final = ("jax._src.prng:PRNGKeyArray", "jax._src.random.prng:PRNGKeyArray")


def _array_class() -> Any:
    return imported().Array


SPECS: Final[tuple[TypeSpec, ...]] = (
    TypeSpec(
        id="jax.Array",
        locate=_array_class,
        classes=_ARRAYS,
        encode=_encode_array,
        check=_check_array,
        build=build_array,
        fields=frozenset({"data", "dtype", "weak"}),
        required=frozenset({"data", "dtype"}),
        transparent=frozenset({"data"}),
        state=_array_state,
        accepts=partial(_is_array, keys=False),
    ),
    TypeSpec(
        id="jax.random.key",
        locate=_array_class,
        classes=_KEYS,
        encode=_encode_keys,
        check=_check_keys,
        build=build_keys,
        fields=frozenset({"data", "impl"}),
        required=frozenset({"data", "impl"}),
        transparent=frozenset({"data"}),
        accepts=partial(_is_array, keys=True),
    ),
)
