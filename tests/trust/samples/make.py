"""Write the files beside this one, each by the library whose format it is; they are kept.

Run in environments that have them; the libraries are heavy, or conflict with others::

    python make.py tensorflow   # tensorflow-cpu, tf_keras
    python make.py pickles      # catboost, cloudpickle, dill, gguf, joblib, lz4, skops
"""

from __future__ import annotations

import io
import pickle
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def tensorflow() -> None:
    """SavedModels of modules, some of which reach out, and what both generations of Keras keep."""
    import keras
    import tensorflow as tf
    import tf_keras

    work = Path(tempfile.mkdtemp())
    vocabulary = work / "vocabulary.txt"
    vocabulary.write_text("a\nb\n", "utf-8")
    strings, numbers = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 3], tf.float32)

    class Plain(tf.Module):
        def __init__(self):
            self.w = tf.Variable(tf.ones((3, 2)), name="w")
            lines = tf.lookup.TextFileIndex
            reader = tf.lookup.TextFileInitializer(
                str(vocabulary), tf.string, lines.WHOLE_LINE, tf.int64, lines.LINE_NUMBER
            )
            self.table = tf.lookup.StaticVocabularyTable(reader, 1)

        @tf.function(input_signature=[numbers])
        def __call__(self, x):
            return {"y": x @ self.w}

        @tf.function(input_signature=[strings])
        def look_up(self, words):
            return self.table.lookup(words)

    class Reaching(tf.Module):
        @tf.function(input_signature=[numbers])
        def __call__(self, x):
            tf.io.write_file("canary", tf.io.read_file("/etc/passwd"))
            tf.raw_ops.RestoreV2(
                prefix="/etc/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
            )
            return tf.py_function(lambda a: a, [x], tf.float32)

    class Saving(tf.Module):
        """Writes a file of its choice through a function that is handed the path."""

        def __init__(self):
            self.w = tf.Variable([1.0])

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def inner(self, path):
            tf.raw_ops.SaveV2(
                prefix=path,
                tensor_names=["a"],
                shape_and_slices=[""],
                tensors=[self.w.read_value()],
            )
            return path

        @tf.function(input_signature=[numbers])
        def __call__(self, x):
            self.inner(tf.constant("/tmp/canary"))
            return x

    plain = Plain()
    tf.saved_model.save(plain, str(work / "plain"), {"say": plain.__call__, "look": plain.look_up})
    graph = plain.__call__.get_concrete_function().graph.as_graph_def()
    (HERE / "graph.pb").write_bytes(graph.SerializeToString())
    tf.saved_model.save(Reaching(), str(work / "reaching"))
    tf.saved_model.save(Saving(), str(work / "saving"))
    shutil.copytree(work / "plain", HERE / "saved_model", dirs_exist_ok=True)
    for name in ("reaching", "saving"):
        shutil.copy(work / name / "saved_model.pb", HERE / f"{name}.pb")
    layers = [keras.layers.Input((3,)), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.save(HERE / "dense.keras")
    model.save(HERE / "dense.h5")
    keras.Sequential([*layers, keras.layers.Lambda(lambda x: x * 2)]).save(HERE / "lambda.keras")
    old = [tf_keras.layers.Input((3,)), tf_keras.layers.Dense(2)]
    code = [*old, tf_keras.layers.Lambda(lambda x: x * 2)]
    for name, parts in (("dense", old), ("lambda", code)):
        tf_keras.Sequential(parts).save(work / name, save_format="tf")
        shutil.copy(work / name / "keras_metadata.pb", HERE / f"{name}_keras_metadata.pb")


class Runs:
    """Would run a command where it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch canary",)


def pickles() -> None:
    """Pickles of every pickler, compressed ones, and what stands beside them."""
    import catboost
    import cloudpickle
    import dill
    import gguf
    import joblib
    import lz4.frame
    import numpy as np
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3)).round(2)
    y = (x[:, 0] > 0).astype(int)
    model = LogisticRegression().fit(x, y)
    joblib.dump(model, HERE / "model.joblib.lz4", compress=("lz4", 3))
    words = {"x": x, "words": [f"word{n % 97}" for n in range(20_000)]}
    how = {"block_size": lz4.frame.BLOCKSIZE_MAX64KB, "store_size": True}
    linked = lz4.frame.compress(
        pickle.dumps(words), block_linked=True, content_checksum=True, block_checksum=True, **how
    )
    (HERE / "linked.lz4").write_bytes(linked)
    two = [lz4.frame.compress(part, block_linked=False, **how) for part in (bytes(99_999), b"end")]
    (HERE / "two_frames.lz4").write_bytes(b"".join(two))
    (HERE / "evil.lz4").write_bytes(lz4.frame.compress(pickle.dumps(Runs())))
    for pickler in (dill, cloudpickle):
        name = pickler.__name__
        (HERE / f"{name}_model.pkl").write_bytes(pickler.dumps(model))
        (HERE / f"{name}_function.pkl").write_bytes(pickler.dumps(lambda a: a + 1))
    for each in (model, KNeighborsClassifier().fit(x, y)):
        (HERE / f"{type(each).__name__}.skops").write_bytes(skops.io.dumps(each))
    (HERE / "generator.skops").write_bytes(skops.io.dumps({"rng": rng, "log": np.log1p}))
    catboost.CatBoostClassifier(iterations=2, depth=2, verbose=0).fit(x, y).save_model(
        str(HERE / "model.cbm")
    )
    writer = gguf.GGUFWriter(str(HERE / "model.gguf"), "llama")
    writer.add_chat_template("{{ messages[0].role }}")
    writer.add_tensor("t", np.ones((2, 3), "f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = io.BytesIO()
    np.save(file, np.array([Runs()], dtype=object), allow_pickle=True)
    (HERE / "objects.npy").write_bytes(file.getvalue())


if __name__ == "__main__":
    {"tensorflow": tensorflow, "pickles": pickles}[sys.argv[1]]()
