"""Keras layers that compute in TensorFlow: words, vocabularies, tables; TensorFlow as a backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
pytest.importorskip("tensorflow", reason="tensorflow is not installed")
pytest.importorskip("keras", reason="keras is not installed")

import keras
import tensorflow as tf
from keras import layers

import holdfast
from holdfast import frameworks
from holdfast.frameworks import keras as adapter

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = np.array([["a"], ["b"], ["zz"], ["ü"]] * 4, dtype=object)
TEXTS = ["alpha", "beta gamma", "nothing here", ""] * 4


def words():
    lookup = layers.StringLookup(output_mode="multi_hot")
    lookup.adapt(["a", "b", "b", "c", "ü"])
    return [keras.Input((1,), dtype="string"), lookup, layers.Dense(2)], WORDS


def words_given():
    lookup = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    return [keras.Input((1,), dtype="string"), lookup, layers.Dense(2)], WORDS


def words_back():
    lookup = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    return [keras.Input((1,), dtype="int64"), lookup], np.array([[1], [2], [0]])


def texts():
    vectors = layers.TextVectorization(max_tokens=20, output_sequence_length=5)
    vectors.adapt(["alpha beta", "beta gamma delta"])
    rest = [layers.Embedding(20, 3), layers.Flatten(), layers.Dense(2)]
    return [keras.Input((), dtype="string"), vectors, *rest], TEXTS


def weighted():
    vectors = layers.TextVectorization(output_mode="tf_idf", ngrams=2)
    vectors.adapt(["alpha beta", "beta gamma delta"])
    return [keras.Input((), dtype="string"), vectors, layers.Dense(2)], TEXTS


def whole_numbers():
    lookup = layers.IntegerLookup(output_mode="count")
    lookup.adapt([10, 20, 30, 30])
    return [keras.Input((1,), dtype="int64"), lookup, layers.Dense(2)], np.array([[10], [99]] * 8)


def bins():
    rows = np.random.default_rng(0).normal(size=(100, 1)).astype("float32")
    bucket = layers.Discretization(num_bins=4)
    bucket.adapt(rows)
    return [keras.Input((1,)), bucket, layers.CategoryEncoding(4), layers.Dense(2)], rows[:16]


def hashes():
    hashing = layers.Hashing(7, output_mode="one_hot")
    return [keras.Input((1,), dtype="string"), hashing, layers.Dense(2)], WORDS


KINDS = {
    "words": words, "words given": words_given, "words back": words_back, "texts": texts,
    "weighted": weighted, "whole numbers": whole_numbers, "bins": bins, "hashes": hashes,
}  # fmt: skip


@pytest.mark.keeps("Keras", "text and lookup layers with their vocabularies", "tensorflow")
@pytest.mark.parametrize("name", KINDS)
def test_vocabularies_are_kept(name, tmp_path):
    parts, inputs = KINDS[name]()
    model = keras.Sequential(parts)
    version = holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("kept", store=tmp_path / "s", replay="always")
    assert adapter.difference(model, again, frameworks.registry()) is None
    twin = holdfast.save(again, "kept", inputs=inputs, store=tmp_path / "s")
    assert twin.content_id == version.content_id


@pytest.mark.parametrize("name", KINDS)
def test_archives_with_vocabularies_are_read_as_keras_reads_them(name, tmp_path):
    parts, inputs = KINDS[name]()
    model = keras.Sequential(parts)
    model.save(tmp_path / "model.keras")
    ours = adapter.READS["keras"](tmp_path / "model.keras")
    theirs = keras.models.load_model(tmp_path / "model.keras")
    assert adapter.difference(theirs, ours, frameworks.registry()) is None
    assert len(np.asarray(adapter.predict(ours, "predict", inputs))) == len(inputs)


def test_features_of_a_table_are_kept(tmp_path):
    space = keras.utils.FeatureSpace(
        {
            "word": keras.utils.FeatureSpace.string_categorical(num_oov_indices=1),
            "size": "float_normalized",
        },
        output_mode="concat",
    )
    columns = {"word": ["x", "y", "x"], "size": [1.0, 2.0, 3.0]}
    space.adapt(tf.data.Dataset.from_tensor_slices(columns).batch(2))
    model = keras.Model(space.get_inputs(), space.get_encoded_features())
    rows = {"word": np.array(["x", "y", "q"] * 4, dtype=object), "size": np.arange(12.0)}
    version = holdfast.save(model, "kept", inputs=rows, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("kept", store=tmp_path / "s")
    assert adapter.difference(model, again, frameworks.registry()) is None


def test_training_goes_on_under_tensorflow(tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, "relu"), layers.Dropout(0.2), layers.Dense(1)]
    )
    rows = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    model.compile("adam", "mse")
    model.fit(rows, rows[:, :1], epochs=2, verbose=0)
    holdfast.save(model, "kept", inputs=rows, store=tmp_path / "s")
    again = holdfast.load("kept", store=tmp_path / "s")
    losses = [
        each.fit(rows, rows[:, :1], epochs=2, verbose=0, shuffle=False).history["loss"]
        for each in (model, again)
    ]
    assert losses[0] == losses[1]


def test_paths_are_those_of_other_backends(tmp_path):
    """TensorFlow wraps lists and tables that are attributes."""
    code = """
import json, os, sys
import holdfast, keras, numpy as np
model = holdfast.load("kept", store=sys.argv[1], replay="always")
print(json.dumps([t.name for t in holdfast.get("kept", store=sys.argv[1]).content.tensors]))
"""

    model = keras.Sequential(
        [keras.Input((5, 4)), layers.Bidirectional(layers.LSTM(3)), layers.Dense(1)]
    )
    rows = np.random.default_rng(0).normal(size=(8, 5, 4)).astype("float32")
    holdfast.save(model, "kept", inputs=rows, store=tmp_path / "s")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "bidirectional/forward_layer/cell/kernel" in json.loads(done.stdout.splitlines()[-1])
