"""TensorFlow graphs, which are programs: operators that reach out, paths of their own choice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from holdfast.errors import Corrupt
from holdfast.trust.report import Severity
from holdfast.trust.scan import scan_path
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data
from holdfast.trust.tf_checkpoint import read_checkpoint
from holdfast.trust.tf_operators import does

SAMPLES = Path(__file__).parents[1] / "trust/samples"


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def words(report, severity=Severity.UNSAFE):
    return " ; ".join(f.what for _, f in report.all_findings() if f.severity is severity)


def field(number, *parts):
    data = b"".join(parts)
    size, length = len(data), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def node(name, operator, *inputs, value=None, calls=None):
    parts = [field(1, name.encode()), field(2, operator.encode())]
    parts += [field(3, each.encode()) for each in inputs]
    if value is not None:
        tensor = b"\x08\x07" + field(8, value.encode())
        parts.append(field(5, field(1, b"value"), field(2, field(8, tensor))))
    if calls is not None:
        parts.append(field(5, field(1, b"f"), field(2, field(10, field(1, calls.encode())))))
    return field(1, *parts)


def function(name, *nodes):
    inner = [b"\x1a" + each[1:] for each in nodes]
    return field(1, field(1, field(1, name.encode())), *inner)


OBJECTS = field(7)


def saved_model(*nodes, functions=(), assets=(), more=OBJECTS):
    graph = [*nodes, field(2, *functions)]
    given_ = [field(6, field(1, field(1, n.encode())), field(2, p.encode())) for n, p in assets]
    meta = [field(1, field(5, b"2.21.0")), field(2, *graph), *given_, more]
    return b"\x08\x01" + field(2, *meta)


REACHING = {
    "PyFunc": "calls Python", "PyFuncStateless": "calls Python", "EagerPyFunc": "calls Python",
    "ReadFile": "files", "WriteFile": "files", "MatchingFiles": "files", "Save": "files",
    "SaveSlices": "files", "Restore": "files", "TFRecordDatasetV2": "files",
    "TextLineDataset": "files", "WholeFileReaderV2": "files", "LMDBDataset": "files",
    "CSVDatasetV2": "files", "SqlDataset": "files", "ImmutableConst": "files",
    "LoadAndRemapMatrix": "files", "FixedUnigramCandidateSampler": "files",
    "CacheDatasetV2": "files", "SnapshotDatasetV2": "files", "DebugIdentityV3": "files",
    "SaveDatasetV2": "files", "GenerateVocabRemapping": "files", "DumpTensor": "files",
    "CreateSummaryFileWriter": "files", "WriteRawProtoSummary": "files",
    "RpcCall": "other programs", "RpcServerStart": "other programs", "Send": "other programs",
    "_Recv": "other programs", "CollectiveReduceV2": "other programs",
    "DataServiceDatasetV4": "other programs", "RemoteCall": "other programs",
    "WorkerHeartbeat": "other programs", "XlaCustomCallV2": "native code",
    "Abort": "stops the program", "SleepOp": "stops the program",
}  # fmt: skip


@pytest.mark.parametrize("operator", REACHING)
def test_operators_that_reach_out_are_named_with_their_byte(operator):
    data = saved_model(node("x", "Placeholder"), node("y", operator, "x"))
    inside = saved_model(functions=[function("f", node("y", operator))])
    for each in (data, inside):
        report = look(each)
        (found,) = [f for f in report.findings if f.severity is Severity.UNSAFE]
        assert found.what.startswith(f"the operator {operator} ")
        assert REACHING[operator] in found.what
        assert operator.encode() in each[found.position : found.position + 60]


@pytest.mark.parametrize("operator", ["MyOwnOp", "MapDataset", "XlaCallModule", "TPUExecute"])
def test_operators_of_which_too_little_is_known_keep_a_graph_from_being_taken_over(operator):
    report = look(saved_model(node("y", operator)))
    assert not report.unsafe
    assert report.takes is None
    assert operator in words(report, Severity.NOTE)


def test_only_operators_of_the_list_are_taken_for_computing():
    assert does("MatMul") is None
    assert does("matmul") is not None
    assert does("") is not None


CHOSEN = ["/etc/passwd", "../../x", "C:\\x", "gs://bucket/x", "\\\\host\\x"]


@pytest.mark.parametrize("path", [*CHOSEN, "plain"])
@pytest.mark.parametrize("operator", ["RestoreV2", "SaveV2", "MergeV2Checkpoints"])
def test_a_path_that_the_graph_itself_writes_is_told(operator, path):
    through = [node("c", "Const", value=path), node("i", "Identity", "c")]
    report = look(saved_model(*through, node("r", operator, "i:0", "names")))
    assert f"the operator {operator} opens {path!r}" in words(report)


@pytest.mark.parametrize("path", CHOSEN)
def test_a_path_put_together_of_what_is_handed_over_and_a_root_is_told(path):
    parts = [node("p", "Placeholder"), node("c", "Const", value=path)]
    report = look(saved_model(*parts, node("j", "StringJoin", "c", "p"), node("s", "SaveV2", "j")))
    assert "which the graph itself names" in words(report)


def test_a_path_that_is_handed_over_is_the_readers():
    parts = [node("p", "Placeholder"), node("c", "Const", value="_temp/part")]
    report = look(saved_model(*parts, node("j", "StringJoin", "p", "c"), node("s", "SaveV2", "j")))
    assert not report.unsafe
    assert report.takes == "data"


@pytest.mark.parametrize("depth", [1, 2, 30])
def test_a_path_handed_to_a_function_that_opens_it_is_told(depth):
    bodies = [function("f0", node("s", "SaveV2", "path"))]
    bodies += [
        function(f"f{n}", node("c", "PartitionedCall", "p", calls=f"f{n - 1}"))
        for n in range(1, depth)
    ]
    call = node("z", "StatefulPartitionedCall", "c", calls=f"f{depth - 1}")
    report = look(saved_model(node("c", "Const", value="/etc/x"), call, functions=bodies))
    assert "opens '/etc/x'" in words(report)


def test_functions_that_call_each_other_end():
    bodies = [
        function("f", node("c", "PartitionedCall", calls="g"), node("s", "SaveV2", "p")),
        function("g", node("c", "PartitionedCall", calls="f")),
    ]
    assert not look(saved_model(functions=bodies)).unsafe
    loop = [node("a", "Identity", "b"), node("b", "Identity", "a"), node("s", "SaveV2", "a")]
    look(saved_model(*loop))


@pytest.mark.parametrize(
    ("asset", "unsafe"),
    [("words.txt", False), ("../../etc/passwd", True), ("/etc/passwd", True), ("a\\..\\b", True)],
)
def test_assets_stay_in_their_folder(asset, unsafe):
    table = node("t", "InitializeTableFromTextFileV2", "h", "c")
    constant = node("c", "Const", value="/where/it/was.txt")
    report = look(saved_model(constant, table, assets=[("c:0", asset)]))
    assert report.unsafe == unsafe
    assert look(saved_model(constant, table)).unsafe


def test_a_model_of_keras_that_holds_code_is_told_beside_its_graph(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(saved_model(node("x", "Placeholder")))
    assert scan_path(tmp_path, frozenset()).takes == "data"
    lambda_ = (SAMPLES / "lambda_keras_metadata.pb").read_bytes()
    (tmp_path / "keras_metadata.pb").write_bytes(lambda_)
    report = scan_path(tmp_path, frozenset())
    assert report.unsafe
    assert report.takes is None


REFUSED = {
    "no objects": b"",
    "objects twice": OBJECTS * 2,
    "a second graph in the same place": OBJECTS + field(2, node("x", "ReadFile")),
    "a field that nobody knows": OBJECTS + field(9, b"x"),
    "a constant of more than it holds": OBJECTS
    + field(
        2,
        node("c", "Const", value="x" * 9).replace(
            b"\x08\x07", b"\x08\x07\x12\x0a\x12\x08\x08" + b"\xff" * 6 + b"\x01"
        ),
    ),
    "a saver that an object hands out": field(7, field(1, field(8, field(1, b"f")))),
    "a saver that a function of an object calls": field(7, field(1, field(8, field(1, b"g")))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_loading_refuses_is_not_offered(name, tmp_path):
    saver = function("f", node("s", "SaveV2", "path"))
    caller = function("g", node("c", "f", "path"))
    parts = {"functions": [saver, caller]}
    for more in (OBJECTS, REFUSED[name]):
        (tmp_path / "saved_model.pb").write_bytes(saved_model(**parts, more=more))
        report = scan_path(tmp_path, frozenset())
        assert (report.takes == "data") == (more == OBJECTS)
        assert report.kind == "savedmodel"
        assert report.findings or report.members[0].findings
    assert ("ReadFile" in words(report)) == (name == "a second graph in the same place")
    assert ("SaveV2" in words(report)) == name.startswith("a saver")


def test_a_folder_with_other_files_or_links_or_without_its_variables_is_not_offered(tmp_path):
    def takes():
        return scan_path(tmp_path, frozenset()).takes

    index, data = tmp_path / "variables/variables.index", ".data-00000-of-00001"
    index.parent.mkdir()
    (tmp_path / "saved_model.pb").write_bytes(saved_model(node("x", "Placeholder")))
    index.write_bytes(INDEX)
    assert takes() is None
    whole = (SAMPLES / f"saved_model/variables/variables{data}").read_bytes()
    index.with_suffix(data).write_bytes(whole[:-1])
    assert takes() is None
    index.with_suffix(data).write_bytes(whole)
    assert takes() == "data"
    assert scan_path(tmp_path / "saved_model.pb", frozenset()).takes is None
    (tmp_path / "more.txt").write_bytes(b"x")
    assert takes() is None
    (tmp_path / "more.txt").unlink()
    index.unlink()
    assert takes() is None
    index.symlink_to(SAMPLES / "saved_model/variables/variables.index")
    assert takes() is None


INDEX = (SAMPLES / "saved_model/variables/variables.index").read_bytes()


def test_an_index_that_lies_is_told():
    honest = read_checkpoint(Data(INDEX))
    assert honest.faults == []
    place = INDEX.index(b"\x12\x08\x12\x02\x08\x03\x12\x02\x08\x02")  # the shape 3, 2
    wider = INDEX[: place + 5] + b"\x04" + INDEX[place + 6 :]
    assert look(wider).worst is Severity.BROKEN


def test_any_damage_of_an_index_is_told_or_harmless():
    for place in range(len(INDEX)):
        look(INDEX[:place])
        for bit in range(8):
            forged = bytearray(INDEX)
            forged[place] ^= 1 << bit
            look(bytes(forged))


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_before_a_footer_are_an_index_or_none(data):
    for tail in (INDEX[-48:], bytes([1, 2, len(data) % 128, 3]) + INDEX[-44:]):
        try:
            read_checkpoint(Data(data + tail))
        except Corrupt:
            continue
