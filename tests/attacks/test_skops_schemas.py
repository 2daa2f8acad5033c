"""skops files whose nodes are not what they say: every kind of hole that skops had."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from holdfast.api.scanning import known_names
from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.skops_schema import judge
from holdfast.trust.source import Data


def look(schema):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    report = scanner(known_names()).look(Data(file.getvalue()), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def node(loader, name, **more):
    module, _, name = name.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader, "__id__": 1, **more}


def whole(inner, protocol=2):
    return node("ListNode", "builtins.list", content=[inner]) | {
        "protocol": protocol,
        "_skops_version": "0.16.0",
    }


PLAIN = [
    node("JsonNode", "builtins.str", content='"text"', is_json=True),
    node("DictNode", "builtins.dict", content={}, key_types=node("ListNode", "builtins.list")),
    node("TupleNode", "builtins.tuple", content=[]),
    node("NdArrayNode", "numpy.ndarray", type="numpy", file="1.npy"),
    node("NdArrayNode", "numpy.float64", type="numpy", file="1.npy"),
    node("ObjectNode", "sklearn.linear_model._base.LinearRegression", content={}),
    node("FunctionNode", "numpy.log1p"),
    node("SparseMatrixNode", "scipy.sparse._csr.csr_matrix", file="1.npz"),
    node("TypeNode", "builtins.float"),
    node("SliceNode", "builtins.slice", content={}),
]
LIES = [
    node("FunctionNode", "os.system"),
    node("FunctionNode", "builtins.eval"),
    node("ObjectNode", "subprocess.Popen", content={}),
    node("TypeNode", "os.system"),
    node("PartialNode", "os.system", content={}),
    node("OperatorFuncNode", "operator.methodcaller", attrs={}),
    node("OperatorFuncNode", "builtins.list", attrs={}),
    node("MethodNode", "sklearn.pipeline.Pipeline", content={"func": "predict"}),
    node("ConstructorFromReduceNode", "builtins.list", content={}),
    node("ListNode", "os.system", content=[]),
    node("TupleNode", "builtins.list", content=[]),
    node("TreeNode", "builtins.dict", content={}),
    node("NdArrayNode", "builtins.bytes", type="numpy"),
    node("SparseMatrixNode", "builtins.dict", file="1.npz"),
    node("LossNode", "numpy.ndarray", content={}),
    node("RandomGeneratorNode", "builtins.dict", content={}),
    node("EvilNode", "builtins.list", content=[]),
    node("listnode", "builtins.list", content=[]),
]


@pytest.mark.parametrize("inner", PLAIN)
def test_what_skops_itself_writes_is_not_called_unsafe(inner):
    report = look(whole(inner))
    assert (report.kind, report.worst, report.takes) == ("skops", None, "data")


@pytest.mark.parametrize("inner", LIES)
@pytest.mark.parametrize("place", ["content", "attrs", "deeper"])
def test_nodes_that_are_not_what_they_say_are_unsafe(inner, place):
    nested = whole(node("DictNode", "builtins.dict", **{place: {"a": [inner]}}))
    report = look(nested)
    assert report.unsafe
    assert report.takes is None


def test_types_are_named():
    report = look(whole(node("FunctionNode", "os.system")))
    assert report.imports == ("builtins.list", "os.system")
    assert [f.what for _, f in report.all_findings()] == ["would build os.system"]


@pytest.mark.parametrize("protocol", [None, "2", -1, 3, 2.5, [2], 10**30])
def test_protocols_that_there_are_not_are_told(protocol):
    assert look(whole(PLAIN[0], protocol)).worst is Severity.BROKEN


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_request_for_older_readers_is_told(protocol):
    report = look(whole(PLAIN[0], protocol))
    assert any("older protocol" in finding.what for _, finding in report.all_findings())


@pytest.mark.parametrize(
    "schema",
    [None, [], 3, {}, {"__class__": 3, "__module__": [], "__loader__": {}, "protocol": 2},
     {"__class__": "list", "protocol": 2}],
)  # fmt: skip
def test_schemas_that_are_none_are_told(schema):
    assert look(schema).worst is Severity.BROKEN


def test_files_that_skops_writes_are_described_with_the_writer():
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    import sklearn

    x = np.random.default_rng(0).normal(size=(9, 2))
    model = make_pipeline(StandardScaler()).fit(x)
    report = scanner(known_names()).look(Data(skops.dumps(model)), "file")
    assert (report.kind, report.takes) == ("skops", "data")
    assert (report.framework, report.written_by) == ("scikit-learn", sklearn.__version__)
    assert "sklearn.preprocessing._data.StandardScaler" in report.imports
    report = scanner(known_names()).look(Data(skops.dumps([model.transform])), "file")
    assert report.unsafe


def test_a_node_that_is_known_by_another_name_only_is_unknown():
    assert list(judge(whole(node("ObjectNode", "mine.Thing")), frozenset()).unknown) == [
        "mine.Thing"
    ]


def generator(name):
    told = node("JsonNode", "builtins.str", content=json.dumps(name), is_str=True)
    inner = node("DictNode", "builtins.dict", content={"bit_generator": told})
    content = {"bit_generator": inner, "seed_seq": node("DictNode", "builtins.dict", content={})}
    return node("RandomGeneratorNode", "numpy.random._generator.Generator", content=content)


@pytest.mark.parametrize(("name", "unsafe"), [("PCG64", False), ("seed", True), (["x"], True)])
def test_a_bit_generator_is_one_of_numpys(name, unsafe):
    report = look(whole(generator(name)))
    assert report.unsafe == unsafe
    assert unsafe == ("as a bit generator" in report.verdict)


def test_a_function_of_the_oldest_protocol_is_the_one_in_its_content():
    content = {"module_path": "os", "function": "system"}
    report = look(whole(node("FunctionNode", "numpy.log1p", content=content), protocol=0))
    assert "os.system" in report.imports
    assert report.verdict == "UNSAFE: would build os.system"


def test_a_type_behind_very_many_is_judged():
    names = [node("TypeNode", f"numpy.x{n}") for n in range(2_500)]
    harmless = node("ListNode", "builtins.list", content=[node("TypeNode", "builtins.int")] * 5_000)
    for before in (harmless, node("ListNode", "builtins.list", content=names)):
        pair = node("TupleNode", "builtins.tuple", content=[before, LIES[10]])
        assert judge(whole(pair), known_names()).lies
