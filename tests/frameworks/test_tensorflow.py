"""SavedModels of TensorFlow are kept as they are, judged, and answer through their signatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="tensorflow is not installed")

import tensorflow as tf

import holdfast
from holdfast import frameworks
from holdfast.errors import Unsupported, UsageError
from holdfast.frameworks import tensorflow as adapter
from holdfast.frameworks.tensorflow import SavedModel
from holdfast.testing.adapters import AdapterConformance

pytestmark = pytest.mark.filterwarnings("ignore")
FLOATS = tf.TensorSpec((None, 4), tf.float32, name="x")


class Line(tf.Module):
    """A weight, a bias, a table of words and a counter."""

    def __init__(self, start=1.0):
        super().__init__()
        self.weight = tf.Variable(np.full((4, 2), start, "float32"), name="weight")
        self.bias = tf.Variable(np.zeros(2, "float32"), name="bias")
        self.calls = tf.Variable(0, trainable=False, name="calls")
        words = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2])
        self.words = tf.lookup.StaticHashTable(words, -1)

    @tf.function(input_signature=[FLOATS])
    def __call__(self, x):
        self.calls.assign_add(1)
        return {"y": tf.nn.relu(x @ self.weight + self.bias), "top": tf.argmax(x, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="word")])
    def look(self, word):
        return self.words.lookup(word)

    @tf.function(input_signature=[FLOATS, tf.TensorSpec((None, 1), tf.float32, name="z")])
    def both(self, x, z):
        return tf.reduce_sum(x, axis=1, keepdims=True) * z, z


def written(path, module=None, **signatures):
    module = module or Line()
    signatures = signatures or {
        "serving_default": module.__call__, "look": module.look, "both": module.both,
    }  # fmt: skip
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(16, 4)).astype("float32")


class TestConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def model(self, tmp_path):
        return adapter.open_folder(written(tmp_path / "model"))

    @pytest.fixture
    def other(self, tmp_path):
        return adapter.open_folder(written(tmp_path / "other", Line(2.0)))

    @pytest.fixture
    def inputs(self, rows):
        return rows


@pytest.mark.keeps("TensorFlow", "SavedModel folders, answered through a signature", "tensorflow")
def test_a_folder_is_saved_proved_and_served(tmp_path, rows):
    folder = written(tmp_path / "model")
    version = holdfast.save(folder, "kept", inputs=rows, store=tmp_path / "s")
    assert version.proof == "replayed"
    model = holdfast.load("kept", store=tmp_path / "s", replay="always")
    assert isinstance(model, SavedModel)
    theirs = tf.saved_model.load(str(folder)).signatures["serving_default"](x=tf.constant(rows))
    assert np.array_equal(model(x=tf.constant(rows))["y"], theirs["y"])
    assert np.array_equal(holdfast.predict("kept", rows, store=tmp_path / "s")["y"], theirs["y"])
    for name in ("saved_model.pb", "variables/variables.index"):
        assert bytes(model.files[name]) == (folder / name).read_bytes()


def test_a_folder_is_converted(tmp_path):
    folder = written(tmp_path / "model")
    version = holdfast.convert(folder, "kept", store=tmp_path / "s")
    assert version.proof == "replayed on synthetic inputs"
    assert version.content.framework == "tensorflow"


@pytest.mark.keeps(
    "TensorFlow", "tf.Module with signatures, objects that were loaded", "tensorflow"
)
@pytest.mark.parametrize("make", [Line, lambda: None])
def test_a_live_object_is_saved(tmp_path, rows, make):
    live = make() or tf.saved_model.load(str(written(tmp_path / "model", Line(3.0))))
    version = holdfast.save(live, "kept", inputs=rows, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("kept", store=tmp_path / "s")
    one = live(tf.constant(rows)) if isinstance(live, Line) else live.signatures[
        "serving_default"](x=tf.constant(rows))  # fmt: skip
    assert np.array_equal(one["y"], again(x=tf.constant(rows))["y"])
    assert set(again.signatures) == {"serving_default", "look", "both"}


def test_every_signature_answers(tmp_path, rows):
    model = adapter.open_folder(written(tmp_path / "model"))
    assert adapter.methods(model) == ("serving_default", "both", "look")
    words = adapter.predict(model, "look", np.array(["a", "zz", "b"]))
    assert words.tolist() == [1, -1, 2]
    both = adapter.predict(model, "both", {"x": rows, "z": np.ones(16, "float32")})
    assert both["output_0"].shape == (16, 1)
    with pytest.raises(UsageError, match="takes x, z"):
        adapter.predict(model, "both", rows)
    with pytest.raises(UsageError, match="does not take"):
        adapter.predict(model, "serving_default", rows[:, :3])
    with pytest.raises(UsageError, match="no signature"):
        adapter.predict(model, "nothing", rows)


def test_proving_changes_no_variable(tmp_path, rows):
    live = Line()
    holdfast.save(live, "kept", inputs=rows, store=tmp_path / "s")
    assert int(live.calls) == 0
    assert int(holdfast.load("kept", store=tmp_path / "s", replay="always").root.calls) == 0


def test_variables_that_were_changed_are_not_lost(tmp_path, rows):
    model = adapter.open_folder(written(tmp_path / "model"))
    model.root.weight.assign(model.root.weight + 1)
    with pytest.raises(Unsupported, match="changed after it was loaded"):
        holdfast.save(model, "kept", inputs=rows, store=tmp_path / "s")
    holdfast.save(model.root, "kept", inputs=rows, store=tmp_path / "s")
    again = holdfast.load("kept", store=tmp_path / "s")
    assert np.array_equal(again.root.weight, np.full((4, 2), 2.0))


def test_a_keras_model_that_was_exported_answers(tmp_path, rows):
    keras = pytest.importorskip("keras", reason="keras is not installed")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("keras is not installed with tensorflow as its backend")
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)]
    )
    model.export(tmp_path / "model", verbose=False)
    version = holdfast.save(tmp_path / "model", "kept", inputs=rows, store=tmp_path / "s")
    assert version.proof == "replayed"
    ours = holdfast.predict("kept", rows, store=tmp_path / "s")
    assert np.allclose(ours, model.predict(rows, verbose=0), atol=1e-6)


def test_it_is_exported_for_tensorflow(tmp_path, rows):
    holdfast.save(written(tmp_path / "model"), "kept", inputs=rows, store=tmp_path / "s")
    holdfast.export("kept", tmp_path / "out", store=tmp_path / "s")
    again = tf.saved_model.load(str(tmp_path / "out"))
    assert again.signatures["look"](word=tf.constant(["b"]))["output_0"].numpy().tolist() == [2]


def test_files_of_the_saver_are_not_the_models(tmp_path, rows):
    folder = written(tmp_path / "model")
    holdfast.save(folder, "kept", inputs=rows, files={"README.md": b"hello"}, store=tmp_path / "s")
    assert "README.md" not in holdfast.load("kept", store=tmp_path / "s").files


def test_a_module_without_signatures_says_what_is_missing(tmp_path):
    class Mute(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(1.0)

    version = holdfast.save(Mute(), "kept", store=tmp_path / "s")
    assert version.proof not in ("replayed", "replayed on synthetic inputs")
    assert float(holdfast.load("kept", store=tmp_path / "s").root.weight) == 1.0


def test_nothing_is_left_behind(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = adapter.open_folder(written(tmp_path / "model"))
    adapter.predict(model, "serving_default", rows)
    left = {path.name for path in Path(tmp_path).iterdir()}
    assert {name for name in left if not name.startswith("__autograph")} == {"model"}
    assert frameworks.adapter_for(model).ID == "tensorflow"
