"""Small files as the real libraries write them: described rightly, and in every damaged form."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import pickle
import random
import struct
import tarfile
import zipfile

import h5py
import joblib
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression

from holdfast.trust.report import KINDS, Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data

KNOWN = frozenset({"sklearn.linear_model._base:LinearRegression"})
X = np.random.default_rng(0).normal(size=(20, 2)).round(3)


def look(data, known=KNOWN):
    report = scanner(known).look(Data(data), "file")
    assert report.kind in KINDS
    for _, finding in report.all_findings():
        assert FAULT not in finding.what, finding
    return report


def bytes_of(write, *args, **more):
    file = io.BytesIO()
    write(file, *args, **more)
    return file.getvalue()


def model():
    return LinearRegression().fit(X, X[:, 0])


def keras_h5():
    file = io.BytesIO()
    with h5py.File(file, "w") as h:
        h.attrs["keras_version"] = "2.15.0"
        h.attrs["model_config"] = json.dumps(KERAS)
        h["model_weights/dense/kernel"] = np.ones((2, 3), "f4")
    return file.getvalue()


KERAS = {
    "class_name": "Sequential",
    "module": "keras",
    "config": {"layers": [{"class_name": "Dense", "module": "keras.layers", "config": {}}]},
}


def weights_h5():
    file = io.BytesIO()
    with h5py.File(file, "w") as h:
        h["layers/dense/vars/0"] = np.ones((2, 3), "f4")
    return file.getvalue()


def keras():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.9.0"}')
        archive.writestr("config.json", json.dumps(KERAS))
        archive.writestr("model.weights.h5", weights_h5())
    return file.getvalue()


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf():
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("numbers") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
        text("tokenizer.chat_template") + struct.pack("<I", 8) + text("{{ messages[0].role }}"),
    ]
    tensors = [text("w") + struct.pack("<IQQIQ", 2, 4, 3, 0, 0)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys + tensors)
    return head + bytes(-len(head) % 32) + np.ones(12, "f4").tobytes()


def onnx():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    weights = numpy_helper.from_array(np.ones(3, "f4"), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    return helper.make_model(graph, producer_name="me", producer_version="1.2").SerializeToString()


def torch(**how):
    torch_ = pytest.importorskip("torch", reason="torch is not installed")
    return bytes_of(lambda f: torch_.save({"w": torch_.ones(2, 3)}, f, **how))


def torchscript():
    torch_ = pytest.importorskip("torch", reason="torch is not installed")
    file = io.BytesIO()

    class Scale(torch_.nn.Module):
        def forward(self, x):
            return x * 2

    with pytest.warns(DeprecationWarning, match="jit"):
        torch_.jit.save(torch_.jit.script(Scale()), file)
    return file.getvalue()


def xgboost(form):
    xgboost_ = pytest.importorskip("xgboost", reason="xgboost is not installed")
    data = xgboost_.DMatrix(X, X[:, 0] > 0)
    booster = xgboost_.train({"max_depth": 1, "objective": "binary:logistic"}, data, 1)
    return bytes(booster.save_raw(form))


def lightgbm():
    lightgbm_ = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    how = {"verbose": -1, "min_data_in_leaf": 5, "num_leaves": 2}
    return lightgbm_.train(how, lightgbm_.Dataset(X, X[:, 0]), 1).model_to_string().encode()


def skops():
    skops_ = pytest.importorskip("skops.io", reason="skops is not installed")
    return skops_.dumps(model())


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in ("a.pkl", "b.pkl"):
            info = tarfile.TarInfo(name)
            info.size = len(data := pickle.dumps({name: 1}))
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


# Name to what makes it, its kind, its writer, what takes it over, its tensors.
SAMPLES = {
    "gguf": (gguf, "gguf", "GGUF", "data", [("w", "F32", (3, 4))]),
    "hdf5": (
        lambda: bytes_of(lambda f: h5py.File(f, "w").create_dataset("d", (2,), "f8").file.close()),
        "hdf5", "HDF5", "data", [("/d", "<f8", (2,))],
    ),
    "joblib": (
        lambda: bytes_of(lambda f: joblib.dump(model(), f)),
        "joblib", "scikit-learn 1", "data", [("coef_", "<f8", (2,)), ("singular_", "<f8", (2,))],
    ),
    "joblib compressed": (
        lambda: bytes_of(lambda f: joblib.dump(model(), f, compress=3)),
        "joblib", "scikit-learn 1", "data", [("coef_", "<f8", (2,)), ("singular_", "<f8", (2,))],
    ),
    "keras": (keras, "keras", "Keras 3.9.0", "data", [("/layers/dense/vars/0", "<f4", (2, 3))]),
    "keras in hdf5": (
        keras_h5, "keras-h5", "Keras 2.15.0", "data",
        [("/model_weights/dense/kernel", "<f4", (2, 3))],
    ),
    "lightgbm": (lightgbm, "lightgbm", "LightGBM", "data", []),
    "npy": (lambda: bytes_of(np.save, X), "npy", "NumPy", "data", [("file", "<f8", (20, 2))]),
    "npz": (
        lambda: bytes_of(np.savez_compressed, a=X, b=np.arange(3, dtype="i4")),
        "npz", "NumPy", "data", [("a", "<f8", (20, 2)), ("b", "<i4", (3,))],
    ),
    "onnx": (onnx, "onnx", "me 1.2", "data", [("w", "float32", (3,))]),
    "pickle": (
        lambda: pickle.dumps({"a": [X, {"b": X[0]}], ("c", 1): 2}),
        "pickle", "NumPy", "data", [("a[0]", "<f8", (20, 2)), ("a[1].b", "<f8", (2,))],
    ),
    "pickle of protocol 0": (
        lambda: pickle.dumps(model(), 0),
        "pickle", "scikit-learn 1", "data", [("coef_", "<f8", (2,)), ("singular_", "<f8", (2,))],
    ),
    "safetensors": (
        lambda: safetensors.numpy.save({"a": X}, {"format": "pt"}),
        "safetensors", "PyTorch", "data", [("a", "F64", (20, 2))],
    ),
    "skops": (skops, "skops", "scikit-learn 1", "data", None),
    "tar": (tar, "compressed", "", None, []),
    "torch": (torch, "torch", "PyTorch", "data", [("w", "float32", (2, 3))]),
    "torch legacy": (
        lambda: torch(_use_new_zipfile_serialization=False),
        "torch-legacy", "PyTorch", "data", [("w", "float32", (2, 3))],
    ),
    "torchscript": (torchscript, "torchscript", "PyTorch", None, []),
    "xgboost json": (lambda: xgboost("json"), "xgboost-json", "XGBoost ", "data", []),
    "xgboost ubj": (lambda: xgboost("ubj"), "xgboost-ubj", "XGBoost ", "data", []),
}  # fmt: skip
# These say where they end, so that a file that is cut anywhere is known to be.
TELL_THEIR_END = {
    "gguf", "hdf5", "joblib", "joblib compressed", "keras", "keras in hdf5", "npy", "npz",
    "pickle", "pickle of protocol 0", "safetensors", "skops", "torch", "xgboost json",
    "xgboost ubj",
}  # fmt: skip


@functools.cache
def sample(name):
    return SAMPLES[name][0]()


@pytest.mark.parametrize("name", SAMPLES)
def test_what_the_libraries_write_is_described(name):
    _, kind, writer, takes, tensors = SAMPLES[name]
    report = look(sample(name))
    assert report.kind == kind
    assert report.writer.startswith(writer)
    assert report.takes == takes
    assert report.worst in (None, Severity.NOTE)
    if tensors is not None:
        assert [(t.name, t.dtype, t.shape) for t in report.tensors] == tensors
        assert report.tensor_count == len(tensors)
    assert report.size == len(sample(name))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_that_is_cut_anywhere_gives_a_report_that_says_so(name):
    data = sample(name)
    # All of the first and last bytes; every 23rd of those between, where a file is long.
    ends = {*range(min(200, len(data))), *range(max(0, len(data) - 150), len(data))}
    ends |= {*range(0, len(data), 23)}
    for end in sorted(ends):
        report = look(data[:end])
        if name in TELL_THEIR_END:
            assert report.takes != "data", end


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_with_any_bit_flipped_gives_a_report(name):
    data = bytearray(sample(name))
    rng = random.Random(name)
    places = range(len(data)) if len(data) < 300 else rng.sample(range(len(data)), 300)
    for place in places:
        bit = 1 << rng.randrange(8)
        data[place] ^= bit
        look(bytes(data))
        data[place] ^= bit


@pytest.mark.parametrize("name", ["hdf5", "keras in hdf5", "gguf", "npz", "torch", "tar"])
@given(changes=st.data())
@settings(max_examples=25, deadline=None)
def test_files_with_forged_numbers_give_a_report(name, changes):
    data = bytearray(sample(name))
    for _ in range(changes.draw(st.integers(1, 4))):
        place = changes.draw(st.integers(0, len(data) - 1))
        size = changes.draw(st.sampled_from([1, 2, 4, 8]))
        number = changes.draw(
            st.sampled_from([0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), len(data), place])
            | st.integers(0, (1 << 8 * size) - 1)
        )
        data[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    look(bytes(data))


MAGICS = [
    b"", b"\x89HDF\r\n\x1a\n", b"GGUF\x03\0\0\0", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x04",
    b"\x93NUMPY\x01\0", b"\x08\x07", b"CBM1", b"{L", b"\x1f\x8b\x08", b"BZh9", b"ZF0x",
]  # fmt: skip


@given(magic=st.sampled_from(MAGICS), data=st.binary(max_size=2000))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_report(magic, data):
    look(magic + data)


def test_a_pickle_that_is_compressed_twice_is_a_pickle():
    report = look(gzip.compress(bz2.compress(sample("pickle"))))
    assert (report.kind, report.takes) == ("pickle", "data")
