"""Reports on files of tensors: safetensors, GGUF, NumPy arrays."""

from __future__ import annotations

from typing import Any, Final

from holdfast.trust.gguf import read_gguf
from holdfast.trust.npy import read_npy_header
from holdfast.trust.safetensors import read_safetensors_header
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.pickle_files import add_pickle
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.scan.texts import add_template
from holdfast.trust.source import Source
from holdfast.trust.tf_checkpoint import read_checkpoint

__all__ = ["look_at_checkpoint", "look_at_gguf", "look_at_npy", "look_at_safetensors"]

_FORMATS: Final = {
    "pt": "PyTorch", "tf": "TensorFlow", "flax": "Flax", "mlx": "MLX", "np": "NumPy",
}  # fmt: skip
_MOST_FACTS: Final = 100
_GGUF_FACTS: Final = (
    "general.architecture", "general.name", "general.file_type", "general.license",
    "general.quantization_version", "general.size_label", "tokenizer.ggml.model",
)  # fmt: skip


def look_at_safetensors(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a safetensors file."""
    del scanner, depth
    file = read_safetensors_header(source)
    draft.faults(file.faults)
    for tensor in file.tensors:
        draft.tensor(tensor.name, tensor.dtype, tensor.shape)
    shown = list(file.metadata.items())[:_MOST_FACTS]
    draft.facts = {key[:200]: value[:1000] for key, value in shown}
    draft.framework = _FORMATS.get(file.metadata.get("format", ""))
    draft.take_as_data()


def look_at_gguf(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a GGUF file; the templates in it are judged."""
    del scanner, depth
    file = read_gguf(source)
    draft.faults(file.faults)
    for tensor in file.tensors:
        draft.tensor(tensor.name, tensor.dtype, tensor.shape)
    draft.framework = "GGUF"
    draft.facts = {"version": file.version, "keys": len(file.metadata)}
    draft.facts |= {key: _plain(file.metadata[key]) for key in _GGUF_FACTS if key in file.metadata}
    for key, value in file.metadata.items():
        if isinstance(value, str) and "chat_template" in key:
            add_template(draft, value, key, file.places.get(key, 0))
    draft.take_as_data()


def _plain(value: Any) -> Any:
    return value[:200] if isinstance(value, str | list) else value


def look_at_checkpoint(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on the index of a TensorFlow checkpoint; the tensors' bytes are beside it."""
    del scanner, depth
    draft.framework = "TensorFlow"
    found = read_checkpoint(source)
    draft.faults(found.faults[:_MOST_FACTS])
    for tensor in found.tensors:
        draft.tensor(tensor.name, tensor.dtype, tensor.shape)
    for what in found.unread[:_MOST_FACTS]:
        draft.note(what)
    draft.facts["shards"] = found.shards
    if not found.faults and not found.unread:
        draft.facts["bytes"] = found.needs()


def look_at_npy(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on an array; one of objects is a pickle after its header."""
    del depth
    header = read_npy_header(source)
    if header.objects:
        draft.note("an array of objects, which is a pickle", header.start)
        add_pickle(scanner, source, draft, start=header.start)
        draft.framework = draft.framework or "NumPy"
        return
    draft.framework = "NumPy"
    name = draft.path.rpartition("/")[2].removesuffix(".npy")
    draft.tensor(name, header.dtype, header.shape)
    if header.size is not None and source.size - header.start != header.size:
        short = source.size - header.start < header.size
        draft.broken("the array is cut short" if short else "more bytes follow the array")
    draft.take_as_data()
