"""Files of libraries that are not installed here, kept in ``samples`` (see ``make.py``)."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from holdfast.api.scanning import known_names
from holdfast.trust.report import KINDS, Severity
from holdfast.trust.scan import scan_path
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data

SAMPLES = Path(__file__).parent / "samples"
KNOWN = known_names()

# Name to the kind, the writer, what takes it over, and the first tensor.
TOLD = {
    "KNeighborsClassifier.skops": ("skops", "scikit-learn 1.9.1", "data", None),
    "LogisticRegression.skops": ("skops", "scikit-learn 1.9.1", "data", None),
    "cloudpickle_function.pkl": ("pickle", "cloudpickle", "sandbox", None),
    "cloudpickle_model.pkl": ("pickle", "scikit-learn 1.9.1", "data", ("coef_", "<f8", (1, 3))),
    "dense.h5": (
        "keras-h5", "Keras 3.15.1", "data",
        ("/model_weights/dense/sequential/dense/kernel", "<f4", (3, 2)),
    ),
    "dense.keras": ("keras", "Keras 3.15.1", "data", ("/layers/dense/vars/0", "<f4", (3, 2))),
    "dense_keras_metadata.pb": ("keras-metadata", "Keras", None, None),
    "dill_function.pkl": ("pickle", "dill", "sandbox", None),
    "dill_model.pkl": ("pickle", "scikit-learn 1.9.1", "sandbox", ("coef_", "<f8", (1, 3))),
    "evil.lz4": ("pickle", "", "sandbox", None),
    "generator.skops": ("skops", "skops 0.16.0", "data", None),
    "graph.pb": ("graphdef", "TensorFlow", None, None),
    "lambda.keras": ("keras", "Keras 3.15.1", None, ("/layers/dense/vars/0", "<f4", (3, 2))),
    "lambda_keras_metadata.pb": ("keras-metadata", "Keras", None, None),
    "linked.lz4": ("pickle", "NumPy", "data", ("x", "<f8", (30, 3))),
    "model.cbm": ("catboost", "CatBoost 1.2.10", "data", None),
    "model.gguf": ("gguf", "GGUF", "data", ("t", "F32", (2, 3))),
    "model.joblib.lz4": ("joblib", "scikit-learn 1.9.1", "data", ("coef_", "<f8", (1, 3))),
    "objects.npy": ("npy", "NumPy", "sandbox", None),
    "reaching.pb": ("savedmodel", "TensorFlow 2.21.0", None, None),
    "saved_model": (
        "savedmodel", "TensorFlow 2.21.0", None,
        ("w/.ATTRIBUTES/VARIABLE_VALUE", "float32", (3, 2)),
    ),
    "saving.pb": ("savedmodel", "TensorFlow 2.21.0", None, None),
    "two_frames.lz4": ("compressed", "", None, None),
}  # fmt: skip

# Name to what is unsafe in it.
UNSAFE = {
    "cloudpickle_function.pkl": "would call cloudpickle.cloudpickle._make_function",
    "dill_function.pkl": "would call dill._dill._create_code",
    "evil.lz4": "would call posix.system",
    "lambda.keras": "its configuration holds Python code (Lambda)",
    "lambda_keras_metadata.pb": "its configuration holds Python code (Lambda)",
    "objects.npy": "would call posix.system",
    "reaching.pb": "the operator WriteFile reads or writes files",
    "saving.pb": "opens '/tmp/canary', which the graph itself names",
}


def look(data):
    report = scanner(KNOWN).look(Data(data), "file")
    assert report.kind in KINDS
    for _, finding in report.all_findings():
        assert FAULT not in finding.what, finding
    return report


def files():
    return sorted(p.name for p in SAMPLES.iterdir() if p.is_file() and p.suffix != ".py")


@functools.cache
def sample(name):
    return (SAMPLES / name).read_bytes()


def test_every_sample_is_told_and_no_other():
    assert sorted({*files(), "saved_model"}) == sorted(TOLD)


@pytest.mark.parametrize("name", TOLD)
def test_what_other_libraries_write_is_described(name):
    kind, writer, takes, tensor = TOLD[name]
    report = scan_path(SAMPLES / name, KNOWN)
    assert (report.kind, report.writer, report.takes) == (kind, writer, takes)
    if tensor is not None:
        assert tensor in [(t.name, t.dtype, t.shape) for t in report.tensors]
    unsafe = [f.what for _, f in report.all_findings() if f.severity is Severity.UNSAFE]
    if name in UNSAFE:
        assert any(UNSAFE[name] in what for what in unsafe)
    else:
        assert not unsafe


def test_a_saved_model_tells_its_signatures_and_operators():
    report = scan_path(SAMPLES / "saved_model", KNOWN)
    assert report.facts["signatures"]["say"] == "x float32[?, 3] -> y float32[?, 2]"
    assert report.facts["assets"] == ["vocabulary.txt"]
    assert report.facts["tags"] == ["serve"]
    assert {"MatMul", "StatefulPartitionedCall", "HashTableV2"} <= {*report.facts["operators"]}


@pytest.mark.parametrize("name", files())
def test_samples_cut_anywhere_give_a_report(name):
    data = sample(name)
    for end in {*range(0, len(data), 1 + len(data) // 60), len(data) - 1}:
        look(data[:end])


@st.composite
def mutated(draw):
    """A sample with bits flipped, and parts taken out, doubled or put in from another sample."""
    data = bytearray(sample(draw(st.sampled_from(files()))))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "cut", "double", "put in", "zero"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[place : place + size]
            case "double":
                data[place:place] = data[place : place + size]
            case "put in":
                other = sample(draw(st.sampled_from(files())))
                start = draw(st.integers(0, len(other)))
                data[place:place] = other[start : start + size]
            case _:
                data[place : place + size] = bytes(len(data[place : place + size]))
    return bytes(data)


@given(mutated())
@settings(max_examples=150, deadline=None)
def test_mutated_samples_give_a_report(data):
    look(data)


@pytest.mark.slow
@given(mutated())
@settings(max_examples=10_000, deadline=None)
def test_very_many_mutated_samples_give_a_report(data):
    look(data)
