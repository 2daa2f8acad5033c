"""Reports on what is in a source: which look is for which kind."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from holdfast.trust.boosters import look as look_into_booster
from holdfast.trust.scan.archives import look_at_compressed, look_at_tar, look_at_zip
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.json_files import look_at_json
from holdfast.trust.scan.keras_files import look_at_hdf5
from holdfast.trust.scan.pickle_files import look_at_pickle
from holdfast.trust.scan.programs import look_at_graph, look_at_keras_metadata, look_at_onnx
from holdfast.trust.scan.scanner import Look, Scanner
from holdfast.trust.scan.tensor_files import (
    look_at_checkpoint,
    look_at_gguf,
    look_at_npy,
    look_at_safetensors,
)
from holdfast.trust.scan.texts import look_at_unknown
from holdfast.trust.source import Source

__all__ = ["scanner"]


def scanner(known: Container[str]) -> Scanner:
    """Return a new scan.

    Args:
        known: Names in pickles that are data beside the vocabulary, ``module:qualname``.
    """
    return Scanner(known, _LOOKS)


def _booster(scan: Scanner, source: Source, draft: Draft, depth: int) -> None:
    del scan, depth
    found = look_into_booster(source, draft.kind)
    draft.faults(found.faults)
    draft.framework, draft.written_by = found.framework, found.version
    draft.facts = found.facts
    draft.take_as_data()


def _seven_zip(scan: Scanner, source: Source, draft: Draft, depth: int) -> None:
    del scan, source, depth
    draft.unread("a 7z archive")


_LOOKS: Final[dict[str, Look]] = {
    "7z": _seven_zip,
    "catboost": _booster,
    "compressed": look_at_compressed,
    "gguf": look_at_gguf,
    "graphdef": look_at_graph,
    "hdf5": look_at_hdf5,
    "joblib": look_at_pickle,
    "json": look_at_json,
    "keras-metadata": look_at_keras_metadata,
    "lightgbm": _booster,
    "npy": look_at_npy,
    "onnx": look_at_onnx,
    "pickle": look_at_pickle,
    "safetensors": look_at_safetensors,
    "savedmodel": look_at_graph,
    "tar": look_at_tar,
    "tf-checkpoint": look_at_checkpoint,
    "torch-legacy": look_at_pickle,
    "unknown": look_at_unknown,
    "xgboost-binary": _booster,
    "xgboost-json": _booster,
    "xgboost-ubj": _booster,
    "zip": look_at_zip,
}
