"""Between ``onnx.ModelProto`` and bytes; what exceeds a protobuf's 2 GB goes through a file."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from typing import Any, Final

from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks.onnx import files as onnx_files
from holdfast.frameworks.onnx.files import OnnxFile
from holdfast.plugins import import_extra
from holdfast.trust.onnx_graph import size_of

__all__ = ["complaint", "file_of", "is_proto", "proto_of", "same"]

# Smaller tensors stay in the model when the others leave it.
_SMALL: Final = 1024
_ALIGNMENT: Final = 4096  # so that a runtime can map a tensor
_EXTERNAL: Final = 1


def is_proto(model: object) -> bool:
    """Say whether a value is an ``onnx.ModelProto``; imports nothing."""
    kind = type(model)
    return kind.__name__ == "ModelProto" and kind.__module__.partition(".")[0] == "onnx"


def file_of(model: Any, place: str = "model.onnx.data") -> OnnxFile:
    """Return a model as bytes.

    Args:
        model: A ``ModelProto`` or an ``OnnxFile``.
        place: Where the larger tensors lie of a model beyond 2 GB.

    Raises:
        Unsupported: It cannot be serialised.
    """
    if isinstance(model, OnnxFile):
        return model
    size = model.ByteSize()
    if size <= onnx_files.MOST_BYTES:
        return OnnxFile(model.SerializeToString(deterministic=True))
    return _spooled(model, place)


def _spooled(model: Any, place: str) -> OnnxFile:
    """Write the larger tensors of a model to a file without a name, one at a time, and map it."""
    slim = _without_tensors(model)
    with tempfile.TemporaryFile() as file:
        for tensor in model.graph.initializer:
            slimmer = slim.graph.initializer.add()
            if not tensor.HasField("raw_data") or tensor.ByteSize() < _SMALL:
                slimmer.CopyFrom(tensor)
                continue
            file.write(bytes(-file.tell() % _ALIGNMENT))
            offset, length = file.tell(), file.write(tensor.raw_data)
            _copy(tensor, slimmer, apart="raw_data")
            slimmer.data_location = _EXTERNAL
            for key, value in (("location", place), ("offset", offset), ("length", length)):
                slimmer.external_data.add(key=key, value=str(value))
        if slim.ByteSize() > onnx_files.MOST_BYTES or not file.tell():
            raise Unsupported(
                "The ONNX model has more than 2 GB outside of its initializers.",
                hint="onnx.save(model, 'm.onnx', save_as_external_data=True, "
                "convert_attribute=True)\nholdfast.save(pathlib.Path('m.onnx'), name)",
            )
        file.flush()
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return OnnxFile(slim.SerializeToString(deterministic=True), {place: data})


def _without_tensors(model: Any) -> Any:
    """Copy a model but for the initializers of its graph."""
    slim = type(model)()
    _copy(model, slim, apart="graph")
    _copy(model.graph, slim.graph, apart="initializer")
    return slim


def _copy(source: Any, target: Any, *, apart: str) -> None:
    """Copy the fields of a message but for one."""
    for described, value in source.ListFields():
        if described.name == apart:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(target, described.name, value)
        else:
            getattr(target, described.name).MergeFrom(value)


def proto_of(model: OnnxFile) -> Any:
    """Parse a model, with the tensors of its other files in it.

    The bytes must have been judged before: see ``files.describe`` and ``files.neighbours``.

    Raises:
        MissingExtra: The onnx package is not installed.
        Corrupt: The parser refuses what was judged sound.
    """
    proto = _parsed(model.data)
    for tensor in _external_tensors(proto):
        told = {entry.key: entry.value for entry in tensor.external_data}
        offset, data = int(told.get("offset", 0)), memoryview(model.files[told["location"]])
        size = size_of(tensor.data_type, tensor.dims)
        tensor.raw_data = bytes(data[offset : offset + size])
        tensor.data_location = 0
        del tensor.external_data[:]
    return proto


def _parsed(data: bytes | memoryview) -> Any:
    onnx = import_extra("onnx", needed_for="An ONNX model")
    try:
        return onnx.load_model_from_string(bytes(data))
    except Exception as error:
        raise Corrupt(f"model.onnx is not an ONNX model: {error!s:.200}") from error


def _external_tensors(proto: Any) -> Iterator[Any]:
    return (tensor for tensor in _tensors(proto) if tensor.data_location == _EXTERNAL)


def _tensors(proto: Any) -> Iterator[Any]:
    """Walk every tensor of a model: of graphs, attributes, functions and training."""
    todo: list[Any] = [proto]
    while todo:
        message = todo.pop()
        if message.DESCRIPTOR.name == "TensorProto":
            yield message
            continue
        for described, value in message.ListFields():
            if described.message_type is None:
                continue
            todo.extend([value] if hasattr(value, "DESCRIPTOR") else value)


def complaint(model: OnnxFile) -> str | None:
    """Return what onnx's own checker has against a model, no file being opened by it.

    The checker would look for tensors of other files in the working directory, so it gets them
    as empty ones.

    Returns:
        None where there is nothing, or no onnx package.

    Raises:
        Corrupt: The bytes do not parse.
    """
    try:
        onnx = import_extra("onnx", needed_for="An ONNX model")
    except ImportError:
        return None
    proto = _parsed(model.data)
    for tensor in _external_tensors(proto):
        tensor.data_location = 0
        tensor.dims[:] = [0]
        del tensor.external_data[:]
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return f"{error!s:.300}"
    return None


def same(model: Any, built: Any) -> bool:
    """Say whether two models are one, whichever of the two kinds each is."""
    if is_proto(built):
        proto = model if is_proto(model) else proto_of(model)
        # Not a number is unequal to itself, but its bytes are the same.
        return bool(proto == built) or _bytes(proto) == _bytes(built)
    one = file_of(model)
    return (
        memoryview(one.data) == memoryview(built.data)
        and one.files.keys() == built.files.keys()
        and all(memoryview(one.files[n]) == memoryview(built.files[n]) for n in one.files)
    )


def _bytes(proto: Any) -> bytes:
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
