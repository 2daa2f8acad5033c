"""Bytes that are one thing to a scanner and another to the reader that opens them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile

import pytest
from onnx import TensorProto, helper

from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data

LAMBDA = json.dumps({"class_name": "Lambda", "module": "keras.layers", "config": {}})
EVIL = b"cos\nsystem\n(S'x'\ntR."
PADDED = b"X" + struct.pack("<I", 9_000) + b"a" * 9_000 + b"0" + EVIL


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def said(report):
    return " ; ".join(f.what for _, f in report.all_findings() if f.severity is Severity.UNSAFE)


def zipped(*members):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # a name that is there twice
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


ABOUT = ("metadata.json", '{"keras_version": "3.9.0"}')
PLAIN = ("config.json", json.dumps({"class_name": "Sequential", "module": "keras", "config": {}}))
CODE = ("config.json", LAMBDA)
CHECKPOINT = [("m/data.pkl", pickle.dumps({})), ("m/version", "3")]


@pytest.mark.parametrize(
    "members",
    [
        [CODE, ABOUT],
        [CODE, ("model.weights.h5", b"")],
        [CODE, ABOUT, *CHECKPOINT],
        [CODE, ABOUT, ("schema.json", json.dumps({"protocol": 2, "__loader__": "JsonNode"}))],
        [CODE, ABOUT, ("m/constants.pkl", b"\x80\x02)."), ("m/code/a.py", "")],
        [PLAIN, CODE, ABOUT],
        [CODE, PLAIN, ABOUT],
        [CODE],
        [("deep/config.json", LAMBDA)],
        [("config.json", LAMBDA.encode("utf-16")), ABOUT],
        [
            ("config.json", LAMBDA.replace("{", '{"__loader__": "JsonNode", "protocol": 2,', 1)),
            ABOUT,
        ],
        [("config.json", " " * 5_000 + LAMBDA), ABOUT],
        [("config.json", json.dumps({"a": [{"b": json.loads(LAMBDA)}]})), ABOUT],
    ],
)
def test_a_configuration_is_judged_whatever_else_the_archive_is(members):
    report = look(zipped(*members))
    assert "holds Python code (Lambda)" in said(report)
    assert report.takes != "data"


@pytest.mark.parametrize(
    "schema", [{"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}]
)
def test_a_schema_is_judged_whatever_else_the_archive_is(schema):
    schema = ("schema.json", json.dumps({**schema, "protocol": 2}))
    for more in ([], CHECKPOINT, [PLAIN, ABOUT]):
        assert "would build os.system" in said(look(zipped(schema, *more)))


@pytest.mark.parametrize(
    "front",
    [
        b"GGUF" + b"\x03\0\0\0\0" + b"0",  # a float, thrown away
        b"CBM1".ljust(2 + 66, b"a") + b"0",  # bytes of the length "B"
        b"I1\n0",
        b"(1",
    ],
)
def test_a_pickle_under_another_kind_is_told_however_late_it_calls(front):
    for tail in (EVIL, PADDED):
        assert "would call" in said(look(front + tail))


def field(number, data):
    size = len(data)
    length = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([number << 3 | 2]) + length + data


def test_fields_of_a_graph_in_another_order_are_the_same_graph():
    node = field(1, field(1, b"x") + field(2, b"PyFunc"))
    for data in (node, field(2, b"") + node, b"\x18\x05" + node, field(4, b"\x08\x01") + node):
        report = look(data)
        assert report.kind == "graphdef"
        assert "PyFunc calls Python" in said(report)
    inside = field(2, field(1, field(1, field(1, b"f")) + field(3, node[2:])))
    report = look(inside + field(1, field(1, b"y") + field(2, b"NoOp")))
    assert "PyFunc calls Python" in said(report)


def test_fields_of_a_saved_model_in_another_order_are_the_same_model():
    node = field(1, field(1, b"x") + field(2, b"ReadFile"))
    meta = field(2, field(2, node))
    for data in (b"\x08\x01" + meta, meta + b"\x08\x01"):
        report = look(data)
        assert report.kind == "savedmodel"
        assert "ReadFile reads or writes files" in said(report)


def test_fields_of_an_onnx_model_in_another_order_are_the_same_model():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("PyOp", ["x"], ["y"])], "g", ends[:1], ends[1:])
    whole = helper.make_model(graph)
    inner = graph.SerializeToString()
    first = field(7, inner)
    rest = whole.SerializeToString().replace(first, b"")
    assert len(rest) + len(first) == whole.ByteSize()
    report = look(first + rest)
    assert report.kind == "onnx"
    (found,) = [f for f in report.findings if f.severity is Severity.UNSAFE]
    assert found.what == "the operator PyOp reaches out of the graph"
    assert b"PyOp" in (first + rest)[found.position : found.position + 20]


@pytest.mark.parametrize(
    "text", ["B2: a title\n", '"a","b"\n1,2\n', "(see below)\n", "*bold*\n", "2024-01-01 words\n"]
)
def test_texts_are_no_graphs(text):
    assert look(text.encode()).kind == "unknown"


def test_a_file_that_is_two_kinds_is_never_taken_over():
    evil = pickle.dumps(os.system)
    for data in (EVIL + zipped(("a.npy", b"")), zipped(("a", b"x")) + evil):
        assert look(data).takes != "data"
