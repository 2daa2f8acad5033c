"""How torch tensors, parameters and their small companions are kept.

A tensor is an object node with its bytes as a raw buffer and its torch dtype by name. dtypes that
safetensors does not know are stored by a stand-in: complex as floats with a last axis of 2
(real, imaginary), the exotic 8-bit floats as U8.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from holdfast.codec.registry import TypeSpec
from holdfast.codec.tensors import TensorData
from holdfast.errors import Corrupt, Unsupported

__all__ = ["DTYPES", "SPECS", "build_tensor", "refuse_unreadable"]


class StoredDtype(NamedTuple):
    """How a torch dtype lies in the file.

    Attributes:
        dtype: safetensors dtype.
        parts: 2 when each item is a (real, imaginary) pair in an extra last axis, else 0.
    """

    dtype: str
    parts: int = 0


# torch dtype name to its form in the file. Names that this torch lacks are never looked up.
DTYPES: Final[dict[str, StoredDtype]] = {
    "bool": StoredDtype("BOOL"),
    "uint8": StoredDtype("U8"),
    "uint16": StoredDtype("U16"),
    "uint32": StoredDtype("U32"),
    "uint64": StoredDtype("U64"),
    "int8": StoredDtype("I8"),
    "int16": StoredDtype("I16"),
    "int32": StoredDtype("I32"),
    "int64": StoredDtype("I64"),
    "float16": StoredDtype("F16"),
    "bfloat16": StoredDtype("BF16"),
    "float32": StoredDtype("F32"),
    "float64": StoredDtype("F64"),
    "float8_e4m3fn": StoredDtype("F8_E4M3"),
    "float8_e5m2": StoredDtype("F8_E5M2"),
    "float8_e4m3fnuz": StoredDtype("U8"),
    "float8_e5m2fnuz": StoredDtype("U8"),
    "float8_e8m0fnu": StoredDtype("U8"),
    "complex32": StoredDtype("F16", 2),
    "complex64": StoredDtype("F32", 2),
    "complex128": StoredDtype("F64", 2),
}


def dtype_name(dtype: Any) -> str:
    """Return a torch dtype's name without the package: ``float32``."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: Any) -> Any:
    """Return the torch dtype of a stored name.

    Raises:
        Corrupt: The name is not in our table, or this torch does not have it.
    """
    import torch

    if not isinstance(name, str) or name not in DTYPES:
        raise Corrupt(f"unknown torch dtype {name!r:.60}")
    dtype = getattr(torch, name, None)
    if dtype is None:
        raise Corrupt(f"torch {torch.__version__} has no dtype {name!r}; a newer torch reads it.")
    return dtype


def refuse_unreadable(tensor: Any) -> None:
    """Raise ``Unsupported`` for tensors whose values are not a plain block of one dtype."""
    import torch

    fix = None
    if tensor.is_nested:
        kind, fix = "nested", "tensor.to_padded_tensor(0.0)"
    elif tensor.is_quantized:
        kind, fix = "quantized", "tensor.dequantize()"
    elif tensor.layout is not torch.strided:
        kind, fix = dtype_name(tensor.layout), "tensor.to_dense()"
    elif tensor.is_meta:
        kind, fix = "meta (it has no values)", "model.to_empty(device='cpu')"
    elif dtype_name(tensor.dtype) not in DTYPES:
        kind, fix = f"of dtype {tensor.dtype}", "tensor.view(torch.uint8)"
    else:
        return
    raise Unsupported(
        f"a tensor is {kind}; only dense tensors with values can be kept.",
        hint=fix,
    )


def tensor_data(tensor: Any) -> TensorData:
    """Describe a tensor's bytes without touching them; ``load`` copies at most this tensor."""
    stored = DTYPES[dtype_name(tensor.dtype)]
    shape = (*tensor.shape, 2) if stored.parts else tuple(tensor.shape)
    return TensorData(stored.dtype, shape, partial(_load, tensor.detach()))


def _load(tensor: Any) -> memoryview:
    import torch

    if tensor.numel() == 0:
        return memoryview(b"")
    plain = tensor.to("cpu").resolve_conj().resolve_neg().contiguous()
    # One item with a stride of 2 counts as contiguous but has no view as bytes; hence as_strided.
    return memoryview(plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy())


def tensor_identity(tensor: Any) -> Hashable:
    """Return a key that is equal for two views of the same items of one storage."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_nested:
        return id(tensor)
    storage = tensor.untyped_storage()
    place = storage.data_ptr() if storage.nbytes() and not tensor.is_meta else storage._cdata  # noqa: SLF001 - the only identity an empty storage has
    return (
        "torch.Tensor",
        str(tensor.device),
        place,
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        tensor.is_conj(),
        tensor.is_neg(),
        tensor.is_leaf and tensor.requires_grad,
    )


def _encode_tensor(tensor: Any) -> dict[str, Any]:
    refuse_unreadable(tensor)
    fields: dict[str, Any] = {"data": tensor_data(tensor), "dtype": dtype_name(tensor.dtype)}
    if tensor.is_leaf and tensor.requires_grad:
        fields["requires_grad"] = True
    return fields


def _check_tensor(fields: Mapping[str, Any]) -> None:
    """Judge a tensor node's summaries; see ``TypeSpec.check``."""
    data, name = fields["data"], fields["dtype"].value
    stored = DTYPES.get(name) if isinstance(name, str) else None
    if stored is None:
        raise Corrupt(f"unknown torch dtype {name!r:.60}")
    if data.kind != "buffer" or data.dtype != stored.dtype:
        raise Corrupt(f"a tensor of dtype {name} is not stored as {stored.dtype}")
    if stored.parts and data.shape[-1:] != (stored.parts,):
        raise Corrupt(f"a complex tensor has the stored shape {data.shape}")


def build_tensor(fields: Mapping[str, Any], device: str = "cpu") -> Any:
    """Make a tensor from its fields, on the CPU without copying where the buffer is writable.

    Args:
        fields: ``data`` (TensorView), ``dtype`` (name) and maybe ``requires_grad`` (bool).
        device: Where the tensor shall live.

    Raises:
        Corrupt: The buffer's dtype, shape or size is not what the torch dtype asks for.
    """
    view, name = fields["data"], fields["dtype"]
    dtype = torch_dtype(name)
    shape = tuple(view.shape)[:-1] if DTYPES[name].parts else tuple(view.shape)
    data = view.data  # may be read from the disk at each look, and is dropped on return
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise Corrupt(f"a tensor of dtype {name} and shape {shape} has {len(data)} bytes")
    tensor = _from_buffer(data, dtype, shape).to(device)
    if fields.get("requires_grad", False):
        _require_grad(tensor, name)
    return tensor


def _from_buffer(data: memoryview, dtype: Any, shape: tuple[int, ...]) -> Any:
    import torch

    if len(data) == 0:
        return torch.empty(shape, dtype=dtype)
    buffer = bytearray(data) if data.readonly else data
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)


def _require_grad(tensor: Any, name: str) -> None:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise Corrupt(f"a tensor of dtype {name} cannot require gradients")
    tensor.requires_grad_()


def _encode_parameter(parameter: Any) -> dict[str, Any]:
    from torch.nn.parameter import is_lazy

    if is_lazy(parameter):
        raise Unsupported(
            "a lazy layer has no parameters yet; run one batch through the model first.",
            hint="model(first_batch)",
        )
    # The values are a tensor node of their own, so a tensor that shares them stays shared.
    return {"tensor": parameter.detach(), "requires_grad": parameter.requires_grad}


def _build_parameter(fields: Mapping[str, Any]) -> Any:
    import torch

    tensor, requires_grad = fields["tensor"], fields["requires_grad"]
    if type(tensor) is not torch.Tensor or not isinstance(requires_grad, bool):
        raise Corrupt("a parameter is not made of a tensor and a flag")
    if requires_grad and not (tensor.is_floating_point() or tensor.is_complex()):
        raise Corrupt(f"a parameter of dtype {tensor.dtype} cannot require gradients")
    return torch.nn.Parameter(tensor, requires_grad=requires_grad)


def _build_size(fields: Mapping[str, Any]) -> Any:
    import torch

    sizes = fields["sizes"]
    if not isinstance(sizes, tuple) or not all(type(size) is int for size in sizes):
        raise Corrupt("a torch.Size is not a tuple of integers")
    return torch.Size(sizes)


def _build_device(fields: Mapping[str, Any]) -> Any:
    import torch

    try:
        return torch.device(fields["name"])
    except (RuntimeError, TypeError) as error:
        raise Corrupt(f"unknown torch device {fields['name']!r:.60}") from error


def _class(name: str) -> Any:
    """Return ``torch.<name>``; the name comes from the specs below."""
    import torch

    return torch.nn.Parameter if name == "Parameter" else getattr(torch, name)


def _encode_dtype(dtype: Any) -> dict[str, Any]:
    if dtype_name(dtype) not in DTYPES:
        raise Unsupported(f"the dtype {dtype} cannot be kept")
    return {"name": dtype_name(dtype)}


def _one_field(name: str, field: str, encode: Any, build: Any) -> TypeSpec:
    """Return the spec of a small value class that is kept by one field."""
    return TypeSpec(
        id=f"torch.{name}",
        locate=partial(_class, name),
        classes=(f"torch:{name}",),
        encode=encode,
        build=build,
        fields=frozenset({field}),
        required=frozenset({field}),
    )


SPECS: Final[tuple[TypeSpec, ...]] = (
    TypeSpec(
        id="torch.Tensor",
        locate=partial(_class, "Tensor"),
        classes=("torch:Tensor",),
        encode=_encode_tensor,
        check=_check_tensor,
        build=build_tensor,
        fields=frozenset({"data", "dtype", "requires_grad"}),
        required=frozenset({"data", "dtype"}),
        transparent=frozenset({"data"}),
        identity=tensor_identity,
    ),
    TypeSpec(
        id="torch.Parameter",
        locate=partial(_class, "Parameter"),
        classes=("torch.nn.parameter:Parameter",),
        encode=_encode_parameter,
        build=_build_parameter,
        fields=frozenset({"tensor", "requires_grad"}),
        required=frozenset({"tensor", "requires_grad"}),
        transparent=frozenset({"tensor"}),
    ),
    _one_field("Size", "sizes", lambda size: {"sizes": tuple(size)}, _build_size),
    _one_field("dtype", "name", _encode_dtype, lambda fields: torch_dtype(fields["name"])),
    _one_field("device", "name", lambda device: {"name": str(device)}, _build_device),
)
