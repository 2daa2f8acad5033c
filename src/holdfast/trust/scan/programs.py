"""Reports on graphs of operators: ONNX, TensorFlow's GraphDef and SavedModel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import onnx_graph, protobuf
from holdfast.trust.protobuf import LENGTH, Field
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import Source

__all__ = ["look_at_graph", "look_at_onnx"]

_SHOWN: Final = 30


def look_at_onnx(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on an ONNX model: a program of operators, judged one by one."""
    del scanner, depth
    draft.framework = "ONNX"
    try:
        found = onnx_graph.describe(source.view())
    except Corrupt as error:
        if "not inside the folder" not in error.message:
            raise
        draft.unsafe(error.message)
        return
    if found.producer:
        draft.framework, draft.written_by = found.producer, found.producer_version or None
    draft.facts = {
        "ir_version": found.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in found.opsets.items()},
        "operators": dict(found.operators.most_common(_SHOWN)),
        "inputs": [value.name for value in found.inputs[:_SHOWN]],
        "outputs": [value.name for value in found.outputs[:_SHOWN]],
    }
    for tensor in found.tensors:
        draft.tensor(tensor.name, tensor.dtype, tensor.shape)
    for operator in found.reaching:
        draft.unsafe(f"the operator {operator:.100} reaches out of the graph")
    for what in found.unknown:
        draft.note(f"not known: {what:.200}")
    places = dict.fromkeys(external.location for external in found.externals)
    for place in list(places)[:_SHOWN]:
        draft.note(f"tensors are kept beside it, in {place!r:.100}")
    draft.take_as_data()
    if found.unknown:
        draft.takes = None


# Operators of TensorFlow that call Python, load libraries or touch files (its op definitions in
# tensorflow/core/ops: script_ops, io_ops, dataset_ops, debug_ops). Those that restore variables
# are part of every SavedModel, and read the folder of variables beside it.
_REACHING: Final = frozenset(
    {
        "PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction", "LoadLibrary", "ReadFile",
        "WriteFile", "MatchingFiles", "Save", "SaveSlices", "DeleteFile", "CopyFile", "RenameFile",
        "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset",
        "FixedLengthRecordDatasetV2", "TextLineReader", "TextLineReaderV2", "TFRecordReader",
        "TFRecordReaderV2", "WholeFileReader", "WholeFileReaderV2", "IdentityReader",
        "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "PrintV2", "WriteAudioSummary",
        "CreateSummaryFileWriter", "CreateSummaryDbWriter", "SqlDataset", "ImmutableConst",
        "SaveDataset", "SaveDatasetV2", "LoadDataset", "DatasetFromGraph", "RpcCall",
        "DistributedSave", "GeneratorDataset", "BigQueryReader", "LMDBReader", "LMDBDataset",
    }
)  # fmt: skip


def look_at_graph(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a GraphDef or on the graphs of a SavedModel, by their operators."""
    del scanner, depth
    draft.framework = "TensorFlow"
    operators: Counter[str] = Counter()
    try:
        for operator in _operators(source, draft):
            operators[operator] += 1
    except Corrupt as error:
        draft.broken(error.message)
    for operator in sorted(operators.keys() & _REACHING):
        draft.unsafe(f"the operator {operator} calls Python or touches files")
    draft.facts["operators"] = dict(operators.most_common(_SHOWN))
    draft.note("a program of operators, which TensorFlow runs")
    draft.take_as_data()


def _operators(source: Source, draft: Draft) -> Iterator[str]:
    """Yield the operators of all graphs and of the functions in them."""
    if draft.kind == "graphdef":
        yield from _of_graph(protobuf.fields(source.view()))
        return
    for model in protobuf.fields(source.view()):
        if model.number != 2 or model.wire != LENGTH:
            continue
        for part in model.message():  # a MetaGraphDef
            if part.number == 1 and part.wire == LENGTH:
                version = part.table().text(5)
                draft.written_by = draft.written_by or version[:40] or None
            elif part.number == 2 and part.wire == LENGTH:
                yield from _of_graph(part.message())


def _of_graph(graph: Iterator[Field]) -> Iterator[str]:
    for part in graph:
        if part.number == 1 and part.wire == LENGTH:
            yield part.table().text(2)
        elif part.number == 2 and part.wire == LENGTH:  # a FunctionDefLibrary
            for function in part.message():
                if function.number == 1 and function.wire == LENGTH:
                    for inner in function.message():
                        if inner.number == 3 and inner.wire == LENGTH:
                            yield inner.table().text(2)
