"""Forged portable forms: refused by name, soon, in little memory, and the next rung is named.

The records are in order but for the lie: whoever can write the store can make them.
"""

import resource

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.archive import write
from holdfast.errors import Corrupt, HoldfastError, MissingExtra, UnsafeContent
from holdfast.frameworks.onnx.forms import Form
from holdfast.record import digest_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ROWS = np.random.default_rng(0).normal(size=(40, 3))
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


@pytest.fixture(scope="module", name="honest")
def an_honest_version(tmp_path_factory):
    store = holdfast.Store.create(tmp_path_factory.mktemp("lies") / "store")
    model = LogisticRegression().fit(ROWS, ROWS[:, 0] > 0)
    return holdfast.save(model, "m", inputs=ROWS, store=store)


def with_graph(forged, version, nodes, outputs, **extra):
    """Publish a version whose form is another graph."""
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("X", FLOAT, [None, 3])],
        [onnx.helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        **extra,
    )
    opsets = [
        onnx.helper.make_opsetid(domain, number)
        for domain, number in (("", 17), ("ai.onnx.contrib", 1))
    ]
    data = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    digest = write.write_document(version.store.blobs, data)
    return forged(version, lambda form: form.update(blob=digest, size=len(data)))


def refused(version, kind, match):
    with pytest.raises(kind, match=match) as raised:
        version.load(environment="portable")
    assert raised.value.hint
    assert (
        version.load_proven(environment="here").rung == "native"
    )  # what is beside the model does not harm it
    return raised.value


FIELDS = {
    "another format": (lambda f: f.update(format="pickle"), "does not run 'pickle'"),
    "no inputs": (lambda f: f.update(inputs=[]), "no inputs"),
    "an input twice": (lambda f: f.update(inputs=[*f["inputs"], *f["inputs"]]), "one name"),
    "an unknown dtype": (lambda f: f["inputs"][0].update(dtype="complex64"), "contradict"),
    "a width below zero": (lambda f: f["inputs"][0].update(width=-3), "contradict"),
    "another width": (lambda f: f["inputs"][0].update(columns=["a", "b"]), "contradict"),
    "another input": (lambda f: f["inputs"][0].update(name="Y"), "has the inputs"),
    "a method that runs": (
        lambda f: f["outputs"].update(__class__=f["outputs"]["predict"]),
        "what no model does",
    ),
    "no outputs": (lambda f: f.update(outputs={}), "does not answer"),
    "an output that is not": (
        lambda f: f["outputs"]["predict"].update(output="secret"),
        "no output 'secret'",
    ),
    "another take": (lambda f: f["outputs"]["predict"].update(take="eval"), "contradict"),
    "records": (lambda f: f["outputs"]["predict"].update(dtype="V9"), "contradict"),
    "a wide text": (lambda f: f["outputs"]["predict"].update(dtype="<U999999999"), "contradict"),
    "an error below zero": (lambda f: f["outputs"]["predict"].update(absolute=-1), "contradict"),
    "a text as a size": (lambda f: f.update(size="9"), "damaged"),
    "another size": (lambda f: f.update(size=7), "bytes, not 7"),
    "no digest": (lambda f: f.update(blob="../../etc/passwd"), "not a digest"),
    "a digest of nothing": (lambda f: f.update(blob=digest_of(b"not here")), "portable form"),
    "a number as a digest": (lambda f: f.update(blob=7), "damaged"),
    "deep": (lambda f: f.update(by={"a": [[[[]]]]}), "damaged"),
}


@pytest.mark.parametrize("lie", FIELDS)
def test_a_field_that_cannot_be_is_refused(lie, honest, forged):
    change, match = FIELDS[lie]
    refused(forged(honest, change), Corrupt, match)


def test_a_graph_that_reaches_out_is_refused_before_it_runs(honest, forged):
    node = onnx.helper.make_node("PyOp", ["X"], ["probabilities"], domain="ai.onnx.contrib")
    version = with_graph(
        forged, honest, [node], [("probabilities", FLOAT, None), ("label", INT, None)]
    )
    refused(version, UnsafeContent, "reaches out of the graph")


def test_tensors_in_other_files_are_refused(honest, forged):
    weights = onnx.helper.make_tensor(
        "w", FLOAT, [3, 2], np.zeros(24, np.uint8).tobytes(), raw=True
    )
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "passwd"), ("offset", "0"), ("length", "24")):
        weights.external_data.add(key=key, value=value)
    node = onnx.helper.make_node("MatMul", ["X", "w"], ["probabilities"])
    label = onnx.helper.make_node("ArgMax", ["probabilities"], ["label"], keepdims=0, axis=1)
    outputs = [("probabilities", FLOAT, [None, 2]), ("label", INT, [None])]
    version = with_graph(forged, honest, [node, label], outputs, initializer=[weights])
    refused(version, Corrupt, "is missing")


@pytest.mark.parametrize("kind", [FLOAT, onnx.TensorProto.STRING])
def test_answers_of_another_kind_or_size_are_refused(honest, kind, forged):
    shape = onnx.helper.make_tensor("s", INT, [2], [7, 2])
    value = onnx.helper.make_tensor("v", FLOAT, [1], [0.5])
    nodes = [
        onnx.helper.make_node("Identity", ["X"], ["unused"]),
        onnx.helper.make_node("ConstantOfShape", ["s"], ["numbers"], value=value),
        onnx.helper.make_node("Cast", ["numbers"], ["probabilities"], to=kind),
        onnx.helper.make_node("Cast", ["numbers"], ["label"], to=INT),
    ]
    outputs = [("probabilities", kind, None), ("label", INT, None), ("unused", FLOAT, None)]
    version = with_graph(forged, honest, nodes, outputs, initializer=[shape])
    with pytest.raises(HoldfastError, match="golden rows otherwise"):
        version.load(environment="portable")
    model = version.load(environment="portable", replay="never")
    with pytest.raises(Corrupt, match="is not <f8 for 40 rows"):
        model.predict_proba(ROWS)


def test_a_graph_that_asks_for_all_memory_is_stopped(honest, forged):
    huge = onnx.helper.make_tensor("s", INT, [2], [1 << 21, 1 << 20])
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        onnx.helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        onnx.helper.make_node("Add", ["X", "sum"], ["probabilities"]),
        onnx.helper.make_node("ArgMax", ["X"], ["label"], keepdims=0, axis=1),
    ]
    outputs = [("probabilities", FLOAT, [None, 3]), ("label", INT, [None])]
    version = with_graph(forged, honest, nodes, outputs, initializer=[huge])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(version, HoldfastError, "onnxruntime")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_damaged_graphs_are_refused(honest, forged):
    data = bytes(honest.store.blobs.read(honest.record.portable["blob"]))
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        digest = write.write_document(honest.store.blobs, data[:cut])
        version = forged(honest, lambda f, d=digest, n=cut: f.update(blob=d, size=n))
        with pytest.raises(HoldfastError):
            version.load(environment="portable")


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_graph_with_a_byte_changed_is_refused_or_answers(honest, forged, data):
    graph = bytearray(honest.store.blobs.read(honest.record.portable["blob"]))
    place = data.draw(st.integers(0, len(graph) - 1))
    graph[place] ^= data.draw(st.integers(1, 255))
    digest = write.write_document(honest.store.blobs, bytes(graph))
    version = forged(honest, lambda form: form.update(blob=digest))
    try:
        found = version.load_proven(environment="portable")
    except HoldfastError:
        return
    assert found.proof == "replayed"


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_document_parses_or_is_corrupt(honest, data):
    form = dict(honest.record.portable)
    for key in data.draw(st.lists(st.sampled_from(sorted(form)), min_size=1, max_size=3)):
        form[key] = data.draw(_JSON)
    try:
        parsed = Form.parse(form)
    except Corrupt:
        return
    assert parsed.document().keys() <= form.keys()


def test_the_next_rung_is_named_where_a_forged_form_was_to_help(honest, monkeypatch, forged):
    version = forged(honest, lambda form: form.update(size=7))

    def absent(*_, **__):
        raise MissingExtra("no scikit-learn here", hint="pip")

    monkeypatch.setattr("holdfast.api.load.load_model", absent)
    monkeypatch.setattr("holdfast.api.worker.would_help", lambda *_: False)
    with pytest.raises(MissingExtra, match=r"Its portable form does not help: .* bytes, not 7"):
        version.load()
