"""What goes into a graph and what comes out, through onnxruntime."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import holdfast
from holdfast.errors import UsageError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
from onnx import TensorProto, helper  # noqa: E402 - after the check above

from holdfast.frameworks import onnx as adapter  # noqa: E402 - same
from holdfast.frameworks.onnx import run  # noqa: E402 - same

IRIS = Path(onnxruntime.__file__).parent / "datasets" / "logreg_iris.onnx"
ROWS = np.random.default_rng(0).standard_normal((20, 2), dtype=np.float32)
FLOAT, INT64, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def tensor(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def graph_of(nodes, inputs, outputs, opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made


def added(first=("n", 2), second=("n", 2)):
    return graph_of(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Abs", ["a"], ["size"])],
        [tensor("a", first), tensor("b", second)],
        [tensor("sum", first), tensor("size", first)],
    )


def call(model, inputs):
    return adapter.predict(model, "run", inputs)


def test_a_classifier_with_maps_answers_with_an_array_per_class(tmp_path):
    version = holdfast.save(IRIS, "m", inputs=ROWS, store=tmp_path / "s")
    assert version.proof == "replayed"
    answers = holdfast.get("m", store=tmp_path / "s").predictor().predict(ROWS)
    classes = answers["probabilities"]
    assert list(classes) == [0, 1, 2]
    assert {each.dtype for each in classes.values()} == {np.dtype(np.float32)}
    assert np.array_equal(answers["label"], np.argmax([*classes.values()], axis=0))


def test_a_graph_of_a_fixed_number_of_rows_takes_any_number():
    model = onnx.load(str(IRIS))  # three rows
    session = onnxruntime.InferenceSession(str(IRIS), providers=["CPUExecutionProvider"])
    for rows in (1, 2, 3, 7):
        label = call(model, ROWS[:rows])["label"]
        padded = np.concatenate([ROWS[:rows], ROWS[rows - 1 : rows].repeat(3, 0)])
        want = [session.run(None, {"float_input": padded[at : at + 3]})[0] for at in (0, 3, 6)
                if at + 3 <= len(padded)]  # fmt: skip
        assert np.array_equal(label, np.concatenate(want)[:rows])
    with pytest.raises(UsageError):
        call(model, ROWS[:0])


def test_inputs_go_by_name_by_place_and_as_columns(tmp_path):
    model, other = added(), ROWS * 2
    want = call(model, {"a": ROWS, "b": other})
    assert list(want) == ["sum", "size"]
    assert np.array_equal(want["sum"], ROWS + other)
    again = call(model, (ROWS, other))
    assert np.array_equal(again["sum"], want["sum"])
    columns = added(("n", 1), ("n", 1))
    frame = pd.DataFrame({"b": [3.0, 4.0], "a": [1.0, 2.0]})
    assert call(columns, frame)["sum"].tolist() == [[4.0], [6.0]]
    holdfast.save(model, "m", inputs={"a": ROWS, "b": other}, store=tmp_path / "s")
    predictor = holdfast.get("m", store=tmp_path / "s").predictor()
    assert np.array_equal(predictor.predict({"b": other, "a": ROWS})["sum"], want["sum"])
    with pytest.raises(holdfast.errors.SignatureMismatch, match="b"):
        predictor.predict({"a": ROWS})


def test_a_table_goes_into_a_single_input_as_its_values(tmp_path):
    model = graph_of([helper.make_node("Abs", ["a"], ["y"])], [tensor("a", ("n", 2))],
                     [tensor("y", ("n", 2))])  # fmt: skip
    frame = pd.DataFrame(ROWS, columns=["left", "right"])
    holdfast.save(model, "m", inputs=frame, store=tmp_path / "s")
    predictor = holdfast.get("m", store=tmp_path / "s").predictor()
    assert np.array_equal(predictor.predict(frame[["right", "left"]]), np.abs(ROWS))


@pytest.mark.parametrize(
    "inputs",
    [{"a": ROWS}, {"a": ROWS, "c": ROWS}, ROWS, (ROWS,), {"a": ROWS, "b": ROWS[:, :1, None, None]},
     {"a": "text", "b": ROWS}, {"a": ROWS, "b": [[1], [1, 2]]}, {"a": None, "b": None}],
)  # fmt: skip
def test_inputs_that_are_not_the_graph_s_are_refused(inputs):
    with pytest.raises(UsageError):
        call(added(), inputs)


def test_numbers_are_brought_to_the_declared_type_but_not_to_another_kind():
    model = graph_of([helper.make_node("Abs", ["a"], ["y"])], [tensor("a", ("n",))],
                     [tensor("y", ("n",))])  # fmt: skip
    for given in ([1.0, -2.0], [1, -2], np.array([1.0, -2.0]), np.array([1.0, -2.0], object)):
        assert call(model, given).tolist() == [1.0, 2.0]
    whole = graph_of([helper.make_node("Abs", ["a"], ["y"])], [tensor("a", ("n",), INT64)],
                     [tensor("y", ("n",), INT64)])  # fmt: skip
    assert call(whole, np.array([-1], np.int32)).tolist() == [1]
    with pytest.raises(UsageError):
        call(whole, np.array([1.5]))


def test_texts_go_in_and_out(tmp_path):
    model = graph_of([helper.make_node("Identity", ["a"], ["y"])], [tensor("a", ("n",), TEXT)],
                     [tensor("y", ("n",), TEXT)])  # fmt: skip
    version = holdfast.save(model, "m", inputs=["one", "two"], store=tmp_path / "s")
    assert version.proof == "replayed"
    assert call(model, ["one", "two"]).tolist() == ["one", "two"]


class TestMadeUpInputs:
    def test_they_follow_the_declared_types_and_shapes(self):
        made = adapter.synthetic(added(("n", 2), ("n", 1)), 64, 1)
        assert {name: value.shape for name, value in made.items()} == {"a": (64, 2), "b": (64, 1)}
        again = adapter.synthetic(added(("n", 2), ("n", 1)), 64, 1)
        assert all(np.array_equal(made[name], again[name]) for name in made)
        texts = graph_of([helper.make_node("Identity", ["a"], ["y"])],
                         [tensor("a", ("n",), TEXT)], [tensor("y", ("n",), TEXT)])  # fmt: skip
        assert adapter.synthetic(texts, 3, 1).tolist() == ["a", "a", "a"]

    def test_they_stay_small(self):
        model = graph_of([helper.make_node("Abs", ["a"], ["y"])],
                         [tensor("a", ("n", "m", "k", 2))], [tensor("y", None)])  # fmt: skip
        assert adapter.synthetic(model, 64, 1).shape == (8, 8, 8, 2)
        huge = graph_of([helper.make_node("Abs", ["a"], ["y"])],
                        [tensor("a", (2**31, 2**31))], [tensor("y", None)])  # fmt: skip
        assert adapter.synthetic(huge, 64, 1) is None

    def test_where_they_do_not_go_through_nothing_is_recorded(self, tmp_path):
        model = graph_of(
            [helper.make_node("Gather", ["t", "i"], ["y"])],
            [tensor("t", (1, 2)), tensor("i", ("n",), INT64)],
            [tensor("y", None)],
        )  # made-up indices are 0 and 1, and 1 is beyond the table
        assert adapter.synthetic(model, 64, 1) is None
        assert holdfast.save(model, "m", store=tmp_path / "s").proof == "state only"


def test_a_loop_without_end_is_stopped(monkeypatch):
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "v"], ["v2"])],
        "body",
        [tensor("i", (), INT64), tensor("c", (), TensorProto.BOOL), tensor("v", ("n",))],
        [tensor("c2", (), TensorProto.BOOL), tensor("v2", ("n",))],
    )
    model = graph_of(
        [helper.make_node("Loop", ["", "", "a"], ["y"], body=body)],
        [tensor("a", ("n",))],
        [tensor("y", ("n",))],
    )
    monkeypatch.setattr(run, "_LONGEST", 0.5)
    with pytest.raises(UsageError, match="terminate"):
        call(model, np.ones(4, np.float32))


def test_a_changed_weight_is_seen_by_the_replay(tmp_path, monkeypatch):
    store = tmp_path / "s"
    weights = helper.make_tensor("w", FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    node = helper.make_node("MatMul", ["a", "w"], ["y"])
    sides = [tensor("a", ("n", 2))], [tensor("y", ("n", 2))]
    graph = helper.make_graph([node], "g", *sides, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    holdfast.save(model, "m", inputs=ROWS, store=store)
    real = adapter.run.call
    monkeypatch.setattr(adapter.run, "call", lambda m, x: real(m, x) * 1.01)
    with pytest.raises(holdfast.errors.BehaviourMismatch):
        holdfast.load("m", store=store, replay="always")


def test_a_predictor_makes_one_session_for_many_calls(tmp_path, monkeypatch):
    holdfast.save(added(), "m", inputs={"a": ROWS, "b": ROWS}, store=tmp_path / "s")
    predictor = holdfast.get("m", store=tmp_path / "s").predictor()
    predictor.predict({"a": ROWS, "b": ROWS})
    monkeypatch.setattr(run, "open_session", None)  # another would need it
    for _ in range(3):
        predictor.predict({"a": ROWS, "b": ROWS})


def test_calls_from_many_threads_agree():
    from concurrent.futures import ThreadPoolExecutor

    model, want = added(), ROWS * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: call(model, (ROWS, ROWS * 2))["sum"], range(16)))
    assert all(np.array_equal(each, ROWS + ROWS * 2) for each in found)
    assert np.allclose(found[0], want)
