"""Models read as data, against what the onnx package makes and says of them."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from holdfast.archive.paths import is_file_name
from holdfast.trust import onnx_graph
from holdfast.trust.onnx_operators import Judgement, judge, minimum_runtime

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check above

FLOAT = TensorProto.FLOAT
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def described(nodes=(), inputs=(), outputs=(), tensors=(), **more):
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(tensors))
    model = helper.make_model(graph, **more)
    return onnx_graph.describe(model.SerializeToString())


@pytest.mark.slow
def test_every_model_that_onnx_tests_backends_with_is_read():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case.model for case in collect_testcases(None) if case.model is not None]
    assert len(cases) > 1000
    for model in cases:
        found = onnx_graph.describe(model.SerializeToString())
        assert not found.unknown
        assert not found.reaching
        assert found.ir_version == model.ir_version
        assert [value.name for value in found.inputs] == [each.name for each in model.graph.input]
        assert sum(found.operators.values()) >= len(model.graph.node)


def test_names_types_shapes_and_counts_are_told():
    found = described(
        [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "w"], ["z"])],
        [
            helper.make_tensor_value_info("x", FLOAT, ["n", 3, None]),
            helper.make_tensor_value_info("w", FLOAT, [3]),
            helper.make_tensor_sequence_value_info("s", FLOAT, None),
        ],
        [helper.make_tensor_value_info("z", TensorProto.BFLOAT16, None)],
        [numpy_helper.from_array(np.zeros((3, 2), np.int64), "w")],
        producer_name="me",
        producer_version="2",
        opset_imports=[helper.make_opsetid("ai.onnx", 17), helper.make_opsetid("acme", 2)],
    )
    assert found.inputs == (
        onnx_graph.Value("x", "float32", ("n", 3, None)),
        onnx_graph.Value("s", "sequence", None),
    )  # w has a value, so it is not asked for
    assert found.outputs == (onnx_graph.Value("z", "bfloat16", None),)
    assert (found.producer, found.producer_version) == ("me", "2")
    assert found.opsets == {"": 17, "acme": 2}
    assert found.operators == {"Add": 2}
    assert [(each.name, each.dtype, each.shape) for each in found.tensors] == [
        ("w", "int64", (3, 2))
    ]
    assert (found.tensor_count, found.tensor_bytes) == (1, 48)


def test_tensors_of_every_type_are_measured_raw_and_typed():
    for name, code in TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING"):
            continue
        dtype = helper.tensor_dtype_to_np_dtype(code)
        for count in (0, 1, 3, 4, 5):
            values = np.ones(count).astype(dtype)
            raw = numpy_helper.from_array(values, "raw")
            typed = helper.make_tensor("typed", code, [count], values.tolist())
            found = described(tensors=[raw, typed])
            assert found.tensor_bytes == 2 * len(raw.raw_data), name
    texts = helper.make_tensor("t", TensorProto.STRING, [2], [b"ab", b"cde"])
    assert described(tensors=[texts]).tensor_bytes == 5


def test_metadata_is_shortened_and_locales_are_told():
    normalise = helper.make_node("StringNormalizer", ["x"], ["y"], locale="de_DE.UTF-8")
    graph = helper.make_graph([normalise], "g", [], [])
    model = helper.make_model(graph)
    for number in range(200):
        model.metadata_props.add(key=f"k{number}", value="ä" * (1 << 20 if number == 0 else 5))
    found = onnx_graph.describe(model.SerializeToString())
    assert found.locales == {"de_DE.UTF-8"}
    assert len(found.metadata) == 100
    assert set(map(len, found.metadata.values())) == {1000, 5}


def test_the_operators_of_onnx_and_its_runtime_are_known_but_those_that_reach_out():
    for schema in onnx.defs.get_all_schemas_with_history():
        assert judge(schema.domain, schema.name) is Judgement.PURE
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    schemas = runtime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    apart = {
        f"{each.domain}::{each.name}"
        for each in schemas
        if judge(each.domain, each.name) is not Judgement.PURE
    }
    assert apart <= {"com.microsoft::EPContext", "com.microsoft::Snpe"}
    assert judge("ai.onnx", "Relu") is Judgement.PURE
    assert judge("", "ATen") is Judgement.UNKNOWN


@pytest.mark.parametrize(
    ("ir", "opsets", "want"),
    [
        (3, {}, "1.0"),
        (8, {"": 17, "ai.onnx.ml": 3}, "1.12"),
        (8, {"": 13}, "1.9"),
        (9, {"": 13}, "1.15"),
        (7, {"ai.onnx.ml": 5}, "1.18"),
        (14, {"": 1}, "1.32"),
        (8, {"": 17, "com.microsoft": 1}, "1.12"),
        (99, {}, None),
        (8, {"": 99}, None),
    ],
)
def test_the_first_runtime_that_has_a_model_s_versions_is_told(ir, opsets, want):
    assert minimum_runtime(ir, opsets) == want


def test_the_table_of_runtimes_is_true_of_the_one_installed():
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    here = tuple(map(int, runtime.__version__.split(".")[:2]))

    def runs(ir, opset):
        value = [helper.make_tensor_value_info(name, FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph(
            [helper.make_node("Abs", ["x"], ["y"])], "g", value[:1], value[1:]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = ir
        try:
            runtime.InferenceSession(model.SerializeToString(), options, enable_fallback=0)
        except Exception:  # noqa: BLE001 - the runtime has many
            return False
        return True

    for ir, opset in ((8, 17), (9, 19), (10, 21), (11, 23), (13, 25), (14, 28)):
        needed = minimum_runtime(ir, {"": opset})
        assert needed is not None
        assert runs(ir, opset) == (here >= tuple(map(int, needed.split("."))))


@settings(max_examples=500)
@given(st.text(max_size=30) | st.text("./\\:~a ", max_size=8))
def test_a_place_that_is_taken_is_a_name_that_a_record_takes(text):
    if onnx_graph.is_location(text):
        assert is_file_name(text)
