import os
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast import frameworks
from holdfast.errors import (
    Conflict,
    Corrupt,
    UnsafeContent,
    Unsupported,
    UsageError,
)
from holdfast.testing.adapters import AdapterConformance

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check above

from holdfast.frameworks import onnx as adapter  # noqa: E402 - same
from holdfast.frameworks.onnx import OnnxFile, files as onnx_files, run  # noqa: E402 - same

WEIGHTS = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
ROWS = np.random.default_rng(1).standard_normal((20, 3), dtype=np.float32)


def model(weights=WEIGHTS, rows="n", opset=17, **options):
    value = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, weights.shape[0]]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, weights.shape[1]]),
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        value[:1],
        value[1:],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="tests", **options
    )
    made.ir_version = 8
    return made


def graph_of(nodes, inputs, outputs, tensors=(), domains=("",), **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(tensors))
    sets = [helper.make_opsetid(name, 17 if name in ("", "ai.onnx") else 1) for name in domains]
    made = helper.make_model(graph, opset_imports=sets, **more)
    made.ir_version = 8
    return made


def tensor(name, kind=TensorProto.FLOAT, shape=("n",)):
    return helper.make_tensor_value_info(name, kind, list(shape))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def external(tmp_path):
    """Return a model's path; its weights lie in a folder beside it."""
    folder = tmp_path / "external"
    (folder / "weights").mkdir(parents=True)
    path = folder / "model.onnx"
    onnx.save(
        model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (folder / "weights.bin").rename(folder / "weights" / "w.bin")
    proto = _external_proto(path)
    proto.graph.initializer[0].external_data[0].value = "weights/w.bin"
    path.write_bytes(proto.SerializeToString())
    return path


def _external_proto(path):
    return onnx.load(str(path), load_external_data=False)


@pytest.mark.keeps("ONNX", "files with external data, ModelProto; answers replayed", "onnx")
def test_a_model_comes_back_as_it_was(store):
    live = model()
    version = holdfast.save(live, "m", inputs=ROWS, store=store)
    assert version.proof == "replayed"
    again = holdfast.load("m", store=store, replay="always")
    assert again == live
    assert np.allclose(adapter.predict(again, "run", ROWS), ROWS @ WEIGHTS, atol=1e-6)
    assert holdfast.save(again, "m", inputs=ROWS, store=store).content_id == version.content_id


def test_a_file_is_mapped_and_kept_as_it_is(store, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    version = holdfast.save(path, "m", store=store)
    assert version.proof == "replayed on synthetic inputs"
    assert holdfast.load("m", store=store) == model()
    kept = holdfast.get("m", store=store).content.files
    assert [(each.name, each.size) for each in kept] == [("model.onnx", path.stat().st_size)]


def test_files_may_lie_beside_the_model(store):
    holdfast.save(model(), "m", store=store, files={"notes.txt": b"kept", "labels.json": b"[]"})
    assert holdfast.load("m", store=store) == model()


def test_a_version_without_external_data_has_the_layout_it_always_had(store):
    holdfast.save(model(), "m", golden=None, store=store)
    content = holdfast.get("m", store=store).content
    assert content.structure.nodes == (("none",),)
    assert [each.name for each in content.files] == ["model.onnx"]


def test_what_a_later_environment_must_know_is_recorded(store):
    text = graph_of(
        [helper.make_node("StringNormalizer", ["x"], ["y"], is_case_sensitive=0)],
        [tensor("x", TensorProto.STRING)],
        [tensor("y", TensorProto.STRING)],
    )
    gelu = graph_of(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")],
        [tensor("x")],
        [tensor("y")],
        domains=("", "com.microsoft"),
    )
    facts = {}
    for name, each in (("plain", model()), ("text", text), ("gelu", gelu)):
        version = holdfast.save(each, name, golden=None, store=store)
        facts[name] = version.record.environment["onnx"]
    assert facts["plain"] == {
        "ir_version": 8,
        "opsets": {"ai.onnx": 17},
        "producer": "tests",
        "minimum_onnxruntime": "1.12",
    }
    assert facts["text"]["locales"] == [""]
    assert facts["gelu"]["onnxruntime_operators"] == ["com.microsoft::Gelu"]


class TestExternal:
    def test_files_beside_the_model_go_into_the_record(self, store, external):
        version = holdfast.save(external, "m", inputs=ROWS, store=store)
        assert version.proof == "replayed"
        names = [each.name for each in holdfast.get("m", store=store).content.files]
        assert names == ["model.onnx", "weights/w.bin"]

    def test_it_comes_back_mapped_and_runs_when_the_folder_is_gone(self, store, external):
        live = adapter.open_file(external)
        holdfast.save(live, "m", inputs=ROWS, store=store, files={"notes.txt": b"kept"})
        whole = onnx.load(str(external))
        for path in (external, external.parent / "weights" / "w.bin"):
            path.unlink()
        again = holdfast.load("m", store=store, replay="always")
        assert type(again) is OnnxFile
        assert list(again.files) == ["weights/w.bin"]
        assert again.proto() == whole
        answers = holdfast.get("m", store=store).predictor().predict(ROWS)
        assert np.allclose(answers, ROWS @ WEIGHTS, atol=1e-6)
        second = holdfast.save(again, "m", inputs=ROWS, store=store)
        assert [each.name for each in second.content.files] == ["model.onnx", "weights/w.bin"]

    def test_a_model_in_memory_cannot_say_where_its_files_are(self, store, external):
        with pytest.raises(Unsupported, match="which folder") as caught:
            holdfast.save(_external_proto(external), "m", store=store)
        assert "pathlib.Path" in caught.value.hint

    def test_a_missing_file_is_named(self, store, external):
        (external.parent / "weights" / "w.bin").unlink()
        with pytest.raises(Corrupt, match=r"weights/w\.bin"):
            holdfast.save(external, "m", store=store)

    def test_it_runs_where_onnxruntime_takes_no_files_from_memory(
        self, store, external, monkeypatch
    ):
        monkeypatch.setattr(run, "_takes_files", lambda: False)
        assert holdfast.save(external, "m", inputs=ROWS, store=store).proof == "replayed"

    def test_the_saver_s_file_of_the_same_name_is_refused(self, store, external):
        with pytest.raises(UsageError, match="model itself needs"):
            holdfast.save(external, "m", store=store, files={"weights/w.bin": b"mine"})

    def test_an_export_writes_all_files_and_overwrites_none(self, external, tmp_path):
        live = adapter.open_file(external)
        target = tmp_path / "out" / "copy.onnx"
        target.parent.mkdir()
        adapter.WRITES["onnx"](live, target)
        assert onnx.load(str(target)) == onnx.load(str(external))
        with pytest.raises(Conflict):
            adapter.WRITES["onnx"](live, target)
        target.unlink()
        before = (target.parent / "weights" / "w.bin").read_bytes()
        with pytest.raises(Conflict, match=r"w\.bin"):
            adapter.WRITES["onnx"](live, target)
        assert (target.parent / "weights" / "w.bin").read_bytes() == before
        assert not target.exists()


class TestBeyondAProtobuf:
    """The bound of 2 GB set low, since nothing else is special about it."""

    @pytest.fixture(autouse=True)
    def low(self, monkeypatch):
        monkeypatch.setattr(onnx_files, "MOST_BYTES", 20_000)

    @pytest.fixture
    def large(self):
        return model(np.random.default_rng(2).standard_normal((100, 300), dtype=np.float32))

    def test_its_tensors_leave_the_file_and_it_comes_back_mapped(self, store, large):
        before = large.SerializeToString()
        rows = ROWS[:, :1].repeat(100, 1)
        version = holdfast.save(large, "m", inputs=rows, golden=None, store=store)
        assert large.SerializeToString() == before
        assert [each.name for each in version.content.files] == ["model.onnx", "model.onnx.data"]
        again = holdfast.load("m", store=store)
        assert type(again) is OnnxFile
        assert adapter.difference(large, again, frameworks.registry()) is None
        weights = numpy_helper.to_array(large.graph.initializer[0])
        assert np.allclose(adapter.predict(again, "run", rows), rows @ weights, atol=1e-3)
        with pytest.raises(UsageError, match="2 GB"):
            again.proto()

    def test_an_export_has_a_file_beside_it(self, large, tmp_path):
        adapter.WRITES["onnx"](large, tmp_path / "big.onnx")
        assert (tmp_path / "big.onnx").stat().st_size < 20_000
        assert (tmp_path / "big.onnx.data").stat().st_size == 100 * 300 * 4
        again = onnx.load(str(tmp_path / "big.onnx"))
        again.graph.initializer[0].ClearField("data_location")  # which onnx sets to its default
        assert again == large

    def test_what_is_large_elsewhere_is_refused_with_the_way_out(self, store):
        weights = numpy_helper.from_array(np.zeros((100, 300), np.float32))
        constant = graph_of(
            [helper.make_node("Constant", [], ["y"], value=weights)], [], [tensor("y")]
        )
        with pytest.raises(Unsupported, match="outside of its initializers") as caught:
            holdfast.save(constant, "m", store=store)
        assert "convert_attribute" in caught.value.hint

    def test_a_file_beyond_it_is_refused(self, store, large, tmp_path):
        path = tmp_path / "m.onnx"
        path.write_bytes(large.SerializeToString())
        with pytest.raises(Corrupt, match="2 GB") as caught:
            holdfast.save(path, "m", store=store)
        assert "save_as_external_data" in caught.value.hint


def test_numbers_that_are_none_and_fields_out_of_use_survive(store):
    live = model(np.array([[np.nan, -0.0], [np.inf, 1e-45]], np.float32))
    live.graph.node[0].doc_string = "why"
    live.metadata_props.add(key="author", value="ä" * 3000)
    live.graph.node[0].attribute.extend([helper.make_attribute("custom", [1.0, float("nan")])])
    del live.graph.node[0].attribute[:]
    holdfast.save(live, "m", golden=None, store=store)
    again = holdfast.load("m", store=store)
    assert again.SerializeToString() == live.SerializeToString()


def test_a_model_that_differs_is_told_apart():
    registry = frameworks.registry()
    assert adapter.difference(model(), model(), registry) is None
    assert adapter.difference(model(), model(WEIGHTS * 2), registry) is not None
    other = OnnxFile(model(WEIGHTS * 2).SerializeToString())
    assert adapter.difference(other, model(), registry) is not None


def test_what_onnx_dislikes_is_kept_if_the_runtime_takes_it(store, caplog):
    live = model()
    live.ir_version = 3  # before version 4 an initializer had to be an input as well
    version = holdfast.save(live, "m", inputs=ROWS, store=store)
    assert "not in graph input" in version.record.environment["onnx"]["checker"]
    assert "onnxruntime takes it" in caplog.text
    broken = model()
    broken.graph.node[0].input[0] = "nowhere"
    with pytest.raises(Corrupt, match="not sound"):
        holdfast.save(broken, "m", store=store)


def test_into_and_rename_are_refused(store):
    holdfast.save(model(), "m", golden=None, store=store)
    with pytest.raises(UsageError, match="loaded whole"):
        holdfast.load("m", store=store, into=model())


def test_a_graph_of_somebody_s_own_operators_is_refused_and_an_old_version_only_read(
    store, monkeypatch
):
    live = graph_of(
        [helper.make_node("Mystery", ["x"], ["y"], domain="acme")],
        [tensor("x")],
        [tensor("y")],
        domains=("", "acme"),
    )
    with pytest.raises(Unsupported, match="acme::Mystery"):
        holdfast.save(live, "m", store=store)
    with monkeypatch.context() as patch:  # as releases before this one saved it
        patch.setattr(onnx_files, "refuse_operators", lambda described: None)
        holdfast.save(live, "m", golden=None, store=store)
    again = holdfast.load("m", store=store)
    assert again == live
    assert adapter.methods(again) == ()


def test_a_function_of_the_model_s_own_is_a_graph_like_any(store):
    double = helper.make_function(
        "acme", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    live = graph_of(
        [helper.make_node("Double", ["x"], ["y"], domain="acme")],
        [tensor("x")],
        [tensor("y")],
        domains=("", "acme"),
        functions=[double],
    )
    rows = np.arange(5, dtype=np.float32)
    assert holdfast.save(live, "m", inputs=rows, store=store).proof == "replayed"
    assert np.array_equal(adapter.predict(live, "run", rows), rows * 2)
    double.node.append(helper.make_node("EPContext", ["a"], ["c"], domain="com.microsoft"))
    hidden = graph_of(
        [helper.make_node("Double", ["x"], ["y"], domain="acme")],
        [tensor("x")],
        [tensor("y")],
        domains=("", "acme", "com.microsoft"),
        functions=[double],
    )
    with pytest.raises(UnsafeContent, match="EPContext"):
        holdfast.save(hidden, "m", store=store)


QUIET = """
import os, sys, holdfast, onnx
assert "onnxruntime" not in sys.modules
version = holdfast.save(onnx.load(sys.argv[1]), "m", store=sys.argv[2])
assert version.proof == "replayed on synthetic inputs", version.proof
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1" and "onnxruntime" in sys.modules
"""


def test_the_runtime_tells_nobody_of_its_use(tmp_path):
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    home = tmp_path / "home"
    home.mkdir()
    kept = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "HOLDFAST_CACHE": tmp_path / "hold"}
    kept = {name: str(path) for name, path in kept.items()}
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | kept
    words = [sys.executable, "-c", QUIET, str(tmp_path / "m.onnx"), str(tmp_path / "store")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_without_onnxruntime_it_is_state_only_and_says_so(store, monkeypatch, caplog):
    monkeypatch.setattr(run, "is_installed", lambda: False)
    caplog.set_level("INFO", "holdfast")
    assert holdfast.save(model(), "m", inputs=ROWS, store=store).proof == "state only"
    assert "onnxruntime is not installed" in caplog.text
    assert adapter.requires(model()) == ("onnx",)


def test_a_file_is_kept_without_the_onnx_package(tmp_path):
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    code = (
        "import sys; sys.modules['onnx'] = None; import pathlib, holdfast\n"
        "v = holdfast.save(pathlib.Path(sys.argv[1]), 'm', store=sys.argv[2])\n"
        "assert v.proof == 'state only', v.proof\n"
        "try: holdfast.load('m', store=sys.argv[2])\n"
        "except holdfast.errors.MissingExtra as error: print(error.hint)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "store")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install" in done.stdout


class TestConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self) -> typing.Any:
        return adapter

    @pytest.fixture
    def model(self) -> typing.Any:
        return model()

    @pytest.fixture
    def inputs(self) -> typing.Any:
        return ROWS

    @pytest.fixture
    def other(self) -> typing.Any:
        return model(WEIGHTS * 2)


class TestFileConformance(TestConformance):
    @pytest.fixture
    def model(self, external: Path) -> typing.Any:
        return adapter.open_file(external)

    @pytest.fixture
    def other(self, external: Path) -> typing.Any:
        live = adapter.open_file(external)
        return OnnxFile(live.data, {"weights/w.bin": (WEIGHTS * 2).tobytes()})
