"""Reports on graphs of operators: ONNX, TensorFlow's GraphDef and SavedModel."""

from __future__ import annotations

import re
from typing import Final

from holdfast.errors import Corrupt
from holdfast.trust import onnx_graph, tf_graph
from holdfast.trust.keras_config import judge
from holdfast.trust.scan.draft import Draft
from holdfast.trust.scan.json_files import add_config, read_json
from holdfast.trust.scan.scanner import Scanner
from holdfast.trust.source import Data, Source
from holdfast.trust.zips import escapes

__all__ = ["look_at_graph", "look_at_keras_metadata", "look_at_onnx"]

_SHOWN: Final = 30
_NUMBERED: Final = re.compile(r"(?<![\w.])v?(\d+(?:\.\w+)+\S*)")


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
        draft.framework, draft.written_by = found.producer, _version(found.producer_version)
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
        said = f"the operator {operator:.100} reaches out of the graph"
        draft.unsafe(said, found.places[operator])
    for what in found.unknown:
        draft.note(f"not known: {what:.200}")
    places = dict.fromkeys(external.location for external in found.externals)
    for place in list(places)[:_SHOWN]:
        draft.note(f"tensors are kept beside it, in {place!r:.100}")
    draft.take_as_data()
    if found.unknown:
        draft.takes = None


def _version(text: str) -> str | None:
    """Return the version in what a producer says of its own, which may be a page."""
    numbered = _NUMBERED.search(text)
    return (numbered[1] if numbered else text.strip().partition("\n")[0])[:40] or None


def look_at_graph(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on a GraphDef or on the graphs of a SavedModel, by their operators."""
    del scanner, depth
    draft.framework = "TensorFlow"
    whole = draft.kind == "savedmodel"
    found = (tf_graph.describe_saved_model if whole else tf_graph.describe_graph)(source.view())
    draft.written_by = found.version
    draft.facts["operators"] = dict(found.operators.most_common(_SHOWN))
    if whole:
        draft.facts |= {"tags": found.tags, "signatures": found.signatures, "assets": found.assets}
    else:
        draft.facts["inputs"] = found.placeholders[:_SHOWN]
    draft.note(f"a program of operators in {len(found.functions)} functions, which TensorFlow runs")
    if whole and not found.whole:
        draft.note("it is one of TensorFlow 1, or does not hold one graph")
    _add_findings(draft, found)
    draft.take_as_data()
    if not found.kept:
        draft.takes = None


def _add_findings(draft: Draft, found: tf_graph.Described) -> None:
    for name, words in sorted(found.reaching.items()):
        draft.unsafe(f"the operator {name:.100} {words}", found.places[name])
    for name, words in sorted(found.unknown.items()):
        draft.note(f"the operator {name:.100} {words}", found.places[name])
    for operator, path in found.paths:
        draft.unsafe(f"the operator {operator} opens {path!r:.100}, which the graph itself names")
    for name in found.assets:
        if escapes(name):
            draft.unsafe(f"it would read {name!r:.100} as a file of its own")
    for document in found.keras:
        _keras_document(draft, document)
    for what in found.fields:
        draft.note(f"not known: {what}")
    for fault in found.faults:
        draft.broken(fault)


def look_at_keras_metadata(scanner: Scanner, source: Source, draft: Draft, depth: int) -> None:
    """Report on what Keras 2 kept beside a SavedModel: it builds layers by it, code and all."""
    del scanner, depth
    draft.framework = "Keras"
    for document in tf_graph.keras_documents(source.view()):
        _keras_document(draft, document)


def _keras_document(draft: Draft, document: str) -> None:
    try:
        config = read_json(Data(document.encode("utf-8", "surrogatepass")))
    except Corrupt as error:
        draft.broken(f"what it says of Keras' objects: {error.message}")
        return
    add_config(draft, judge(config))
