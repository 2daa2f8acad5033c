"""Keras' configurations by which a file chooses what is imported, called, read or fetched."""

from __future__ import annotations

import io
import json
import zipfile

import h5py
import pytest

from holdfast.trust.keras_config import judge
from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def words(report, severity=Severity.UNSAFE):
    return " ; ".join(f.what for _, f in report.all_findings() if f.severity is severity)


def written(fill, **how):
    file = io.BytesIO()
    with h5py.File(file, "w", **how) as h:
        fill(h)
    return file.getvalue()


def layer(name, module="keras.layers", **config):
    return {"class_name": name, "module": module, "config": config, "registered_name": None}


SAFE = [
    layer("Dense", units=3, activation="relu"),
    layer("Sequential", "keras", layers=[layer("Dense")]),
    layer("Functional", "keras.src.models.functional"),
    layer("Adam", "keras.optimizers"),
    layer("GlorotUniform", "keras.initializers"),
    layer("ReLU", "keras.src.layers.activations.relu"),
    layer("Add", "keras.src.ops.numpy"),
    layer("DTypePolicy", "keras"),
    {"class_name": "Dense", "config": {"units": 1}},
    {"class_name": "function", "module": "builtins", "config": "mean_squared_error"},
    {"class_name": "function", "module": "keras.losses", "config": "mse"},
    {"class_name": "__tuple__", "items": [1, 2]},
    {"class_name": "Dense", "module": "tensorflow.keras.layers", "config": {}},
    layer("StringLookup", vocabulary=["a", "b"]),
]
GADGETS = [
    layer("Lambda", function="x"),
    {"class_name": "__lambda__", "config": {"value": "4wEA"}},
    {"class_name": "Lambda", "config": {"function": ["4wAA", None, None]}},
    {"class_name": "Dense", "config": {"function_type": "lambda"}},
    layer("system", "os"),
    layer("Popen", "subprocess"),
    layer("Layer", "mine.layers"),
    layer("Dense", "keras_evil.layers"),
    layer("Dense", "kerasx"),
    layer("get_file", "keras.utils"),
    layer("enable_unsafe_deserialization", "keras.config"),
    layer("load_model", "keras.saving"),
    layer("load_model", "keras.models"),
    layer("Popen", "keras.src.utils.subprocess"),
    layer("TFSMLayer", filepath="/tmp/x"),
    layer("TorchModuleWrapper", module="AAAA"),
    layer("RemoteMonitor", "keras.callbacks", root="http://host"),
    layer("ResNet50", "keras.applications"),
    layer("my>Lambda"),
    {"class_name": "function", "module": "builtins", "config": "eval"},
    {"class_name": "function", "module": "builtins", "config": "__import__"},
    {"class_name": "function", "module": "os", "config": "system"},
    {"class_name": "function", "module": "keras.utils", "config": "get_file"},
    {"class_name": "function", "module": "keras.models", "config": "load_model"},
    {"class_name": ["os", "system"], "config": {}},
    {"class_name": "Dense", "module": ["os"], "config": {}},
    layer("StringLookup", vocabulary="/etc/passwd"),
    layer("Text", vocabulary="http://host/x"),
]


@pytest.mark.parametrize("part", SAFE)
def test_what_keras_itself_writes_is_not_called_unsafe(part):
    assert judge({"config": [{"deeper": part}]}).code == {}


@pytest.mark.parametrize("part", GADGETS)
def test_configurations_that_run_code_or_read_files_are_unsafe(part):
    config = layer("Sequential", "keras", layers=[layer("Dense"), part])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", written(lambda h: h.create_group("layers")))
    h5 = written(lambda h: h.attrs.__setitem__("model_config", json.dumps(config)))
    for data, kind in ((file.getvalue(), "keras"), (h5, "keras-h5")):
        report = look(data)
        assert report.kind == kind
        assert report.unsafe
        assert report.takes is None


def test_custom_classes_are_named_and_need_the_program():
    part = {"class_name": "Mine", "module": None, "registered_name": "my>Mine", "config": {}}
    found = judge(part)
    assert found.code == {}
    assert list(found.custom) == ["my>Mine"]


@pytest.mark.parametrize("config", [None, [], 3, "text", {"class_name": None}, [[[[]]]]])
def test_configurations_that_are_none_name_nothing(config):
    assert judge(config).code == {}


def test_assets_that_climb_out_of_a_keras_archive_are_unsafe():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("assets/../../../x", "y")
    assert "unpacking it would write" in words(look(file.getvalue()))


def test_a_configuration_alone_is_judged_wherever_it_lies():
    config = json.dumps(layer("Sequential", "keras", layers=[layer("Lambda", function="x")]))
    report = look(config.encode())
    assert (report.kind, report.framework) == ("json", "Keras")
    assert "holds Python code (Lambda)" in words(report)


@pytest.mark.parametrize("document", [{"vocabulary": "words.txt"}, {"function": ["a", "b"]}])
def test_other_documents_are_no_configurations(document):
    assert look(json.dumps([document]).encode()).worst is None


@pytest.mark.slow
def test_more_than_can_be_judged_is_no_known_data():
    for parts in (1_950_000, 2_100_000):
        config = {"class_name": "Sequential", "config": [[]] * parts}
        assert look(json.dumps(config).encode()).worst is Severity.UNREAD
