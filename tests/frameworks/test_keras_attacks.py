"""Keras configurations that reach for code, files or memory are refused before Keras sees them.

The gadgets are those of the advisories of 2024 to 2026 (CVE-2024-3660, CVE-2025-1550, -8747,
-9905, -9906, -12058, -12060, -49655) and more of their kind.
"""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("keras", reason="keras is not installed")
pytest.importorskip("h5py", reason="h5py is not installed")

import h5py
import keras

from holdfast.errors import Corrupt, EnvironmentMismatch, HoldfastError, UnsafeContent
from holdfast.frameworks import keras as adapter
from holdfast.frameworks.keras import build
from holdfast.frameworks.keras.judge import judge, parse

pytestmark = pytest.mark.filterwarnings("ignore")
SHELL = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wAAAAAA", None, None]}}


def dense(**fields):
    return {
        "module": "keras.layers", "class_name": "Dense", "registered_name": None,
        "config": {"units": 2, "name": "dense"}, **fields,
    }  # fmt: skip


def layer(module, kind, /, **config):
    return {"module": module, "class_name": kind, "registered_name": None, "config": config}


def model_of(*layers, **fields):
    return {
        "module": "keras", "class_name": "Sequential", "registered_name": None,
        "config": {
            "name": "model",
            "layers": [
                layer("keras.layers", "InputLayer", batch_shape=[None, 4], name="input"), *layers
            ],
        },
        **fields,
    }  # fmt: skip


def dense_with(**config):
    return dense(config={"units": 2, "name": "dense", **config})


GADGETS = {
    "lambda layer": layer("keras.layers", "Lambda", function=LAMBDA),
    "lambda layer of a function": layer("keras.layers", "Lambda", function=SHELL),
    "lambda by registration": dense(registered_name="Lambda", class_name="Lambda"),
    "lambda under a package": dense(registered_name="mine>Lambda"),
    "lambda without a module": {"class_name": "Lambda", "config": {"function": ["x", None, None]}},
    "lambda in a wrapper": layer(
        "keras.layers", "TimeDistributed", layer=layer("keras.layers", "Lambda", function=LAMBDA)
    ),
    "lambda in a model": model_of(layer("keras.layers", "Lambda", function=LAMBDA)),
    "bytecode as an activation": dense_with(activation=LAMBDA),
    "a shell as an activation": dense_with(activation=SHELL),
    "a shell as an initializer": dense_with(
        kernel_initializer=layer("os", "system", command="true")
    ),
    "a shell as a regularizer": dense_with(kernel_regularizer=layer("subprocess", "Popen")),
    "eval by the word builtins": dense_with(
        activation={"module": "builtins", "class_name": "function", "config": "eval"}
    ),
    "eval as a class": layer("builtins", "eval"),
    "import in a name": dense_with(activation="__import__"),
    "a file from an address": dense_with(
        activation={"module": "keras.utils", "class_name": "function", "config": "get_file"}
    ),
    "loading another model": layer("keras.models", "load_model", filepath="/etc/passwd"),
    "turning safety off": layer("keras.config", "enable_unsafe_deserialization"),
    "torch module": layer("keras.layers", "TorchModuleWrapper", module="gASV"),
    "saved model": layer("keras.layers", "TFSMLayer", filepath="/tmp/saved"),
    "jax function": layer("keras.layers", "JaxLayer", call_fn=SHELL),
    "flax module": layer("keras.layers", "FlaxLayer", module=SHELL),
    "operator of TensorFlow": layer("keras.layers", "TFOpLambda", function="io.read_file"),
    "words from a file": layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
    "whole numbers from a file": layer("keras.layers", "IntegerLookup", vocabulary="/etc/passwd"),
    "texts from a file": layer("keras.layers", "TextVectorization", vocabulary="http://a/b"),
    "typespec": {
        "module": "os",
        "class_name": "__typespec__",
        "spec_name": "system",
        "config": [],
        "registered_name": None,
    },
    "unknown value": {"class_name": "__reduce__", "config": {}},
    "vectorized function": layer("keras.src.ops.numpy", "Vectorize", pyfunc=SHELL),
    "control flow": layer("keras.src.ops.core", "WhileLoop", cond=SHELL, body=SHELL),
    "another package of Keras": layer("keras_hub.models", "Backbone"),
    "source of Keras": layer("keras.src.saving.saving_lib", "DiskIOStore"),
    "a callback": layer("keras.callbacks", "LambdaCallback"),
    "numpy": layer("numpy", "load", file="x.npy"),
    "numpy by a name of Keras": layer("keras.ops", "numpy.load"),
    "tensorflow": layer("tensorflow", "py_function"),
    "the standard library": layer("ctypes", "CDLL", name="libc.so.6"),
    "metric of a function": layer("keras.metrics", "MeanMetricWrapper", fn=SHELL),
    "an argument of a call": {
        **dense(),
        "inbound_nodes": [{"args": [SHELL], "kwargs": {"callable": LAMBDA}}],
    },
    "how it was built": dense(build_config={"input_shape": SHELL}),
}


@pytest.mark.parametrize("name", GADGETS)
@pytest.mark.parametrize("place", ["layer", "deep", "alone", "compiled"])
def test_gadgets_are_refused(name, place):
    gadget = GADGETS[name]
    config = {
        "layer": lambda: model_of(gadget),
        "deep": lambda: model_of(layer("keras.layers", "Bidirectional", layer={"a": [[gadget]]})),
        "alone": lambda: gadget,
        "compiled": lambda: model_of(dense(), compile_config={"optimizer": "sgd", "loss": gadget}),
    }[place]()
    with pytest.raises((UnsafeContent, EnvironmentMismatch)) as caught:
        judge(config, frozenset())
    assert isinstance(caught.value, UnsafeContent) or name == "import in a name"
    # A model whose loss is missing comes back uncompiled; nothing else is forgiven.
    if isinstance(caught.value, UnsafeContent) or place != "compiled":
        with pytest.raises((UnsafeContent, EnvironmentMismatch)):
            build.build(config, 1000)


def test_registered_names_do_not_open_keras_for_others():
    """A registered name is what the program registered; it never stands for what it is not."""
    config = model_of(dense(registered_name="mine>Dense"))
    with pytest.raises(UnsafeContent, match=r"keras\.layers\.Dense"):
        judge(config, frozenset({"mine>Other"}))
    found = judge(config, frozenset({"mine>Dense"}))
    assert list(found.custom) == ["mine>Dense"]


@pytest.mark.parametrize(
    "config",
    [
        model_of(dense_with(units=1 << 40)),
        model_of(dense_with(units=1 << 70)),
        model_of(*[dense_with(units=1 << 20, name=f"d{i}") for i in range(20)]),
        dense(build_config={"input_shape": [None, 1 << 40]}),
        model_of(layer("keras.layers", "Embedding", input_dim=1 << 40, output_dim=1)),
        model_of(layer("keras.layers", "TextVectorization", ngrams=1 << 30)),
        model_of(
            layer("keras.layers", "LSTM", units=1, unroll=True), {"batch_shape": [1, 1 << 30]}
        ),
        {"class_name": ["Dense"], "config": {}},
        {"class_name": "Dense", "config": 5},
        {"module": 5, "class_name": "Dense", "config": {}},
        {"class_name": "function", "config": ["relu"]},
        {"class_name": "__numpy__", "config": {"dtype": "object", "value": []}},
        {"class_name": "__tensor__", "config": {"dtype": ["f"], "value": []}},
        {"class_name": "__bytes__", "config": {"value": 5}},
        {"class_name": "__slice__", "config": {}},
        [],
        None,
        "Dense",
        5,
    ],
)  # fmt: skip
def test_nonsense_and_bombs_are_refused(config):
    with pytest.raises(HoldfastError):
        build.build(config, 1000)


def test_depth_and_width_are_bounded():
    deep = dense()
    for _ in range(2000):
        deep = {"a": deep}
    with pytest.raises(Corrupt, match="larger"):
        judge(deep, frozenset())
    with pytest.raises(Corrupt, match="JSON"):
        parse(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it")
    with pytest.raises(Corrupt, match="twice"):
        parse(b'{"class_name": "Dense", "class_name": "Lambda"}', "it")
    with pytest.raises(Corrupt, match="more than"):
        judge([dense()] * 100_001, frozenset())


def sample():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="relu", kernel_regularizer="l2")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden) * 2.0
    model = keras.Model(inputs, keras.layers.Dense(1, dtype="mixed_bfloat16")(hidden))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.Huber(), metrics=["mae"])
    return model


SAMPLE = build.describe(sample())


def places(config, path=()):
    yield path
    if isinstance(config, dict):
        for name, value in config.items():
            yield from places(value, (*path, name))
    elif isinstance(config, list):
        for number, value in enumerate(config):
            yield from places(value, (*path, number))


PLACES = [place for place in places(SAMPLE) if place]
VALUES = st.one_of(
    st.sampled_from(
        [
            *GADGETS.values(), None, True, -1, 0, 1 << 40, 1e308, float("nan"), float("inf"), "",
            "Lambda", "os", "system", "builtins", "__main__", "keras", "keras.layers", "function",
            "eval", "mine>Thing", "/etc/passwd", "get_file", [], {}, [[[]]], {"a": 1},
        ]
    ),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.sampled_from(PLACES),
)  # fmt: skip


class Canary:
    """Notes what must never happen while a configuration is judged and built."""

    def __init__(self):
        self.seen = []
        self.watching = False
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.watching:
            return
        reaching = event in ("os.system", "os.exec", "subprocess.Popen", "socket.connect",
                             "marshal.loads", "ctypes.dlopen", "urllib.Request")  # fmt: skip
        if reaching or (event == "open" and str(arguments[0]) in ("/etc/passwd", "/tmp/saved")):
            self.seen.append((event, str(arguments)[:200]))


CANARY = Canary()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_mutated_configurations_are_refused_or_harmless(changes):
    config = copy.deepcopy(SAMPLE)
    for place, value in changes:
        inner = config
        try:
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue
    CANARY.watching = True
    try:
        model = build.build(config, 1000)
    except HoldfastError:
        return
    finally:
        CANARY.watching = False
        assert CANARY.seen == []
    assert isinstance(model, keras.layers.Layer)


class TestArchives:
    """Files of Keras with something wrong are refused with words, whatever part it is."""

    @pytest.fixture
    def parts(self, tmp_path):
        model = sample()
        model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
        model.save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def read(self, parts, tmp_path):
        with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        return adapter.READS["keras"](tmp_path / "changed.keras")

    def test_as_it_is_it_is_read(self, parts, tmp_path):
        assert self.read(parts, tmp_path).built

    @pytest.mark.parametrize("name", ["lambda layer", "a shell as an activation", "saved model"])
    def test_gadgets(self, parts, tmp_path, name):
        parts["config.json"] = json.dumps(model_of(GADGETS[name])).encode()
        with pytest.raises(UnsafeContent):
            self.read(parts, tmp_path)

    @pytest.mark.parametrize("part", ["config.json", "model.weights.h5"])
    def test_a_part_that_is_missing(self, parts, tmp_path, part):
        del parts[part]
        with pytest.raises(Corrupt, match=part):
            self.read(parts, tmp_path)

    @pytest.mark.parametrize("part", ["config.json", "model.weights.h5"])
    def test_damage(self, parts, tmp_path, part):
        whole = parts[part]
        draw = np.random.default_rng(0)
        for _ in range(25):
            changed = bytearray(whole)
            for at in draw.integers(0, len(whole), 3):
                changed[at] ^= 1 << int(draw.integers(0, 8))
            parts[part] = bytes(changed)
            try:
                assert self.read(parts, tmp_path).built
            except HoldfastError:
                continue
        for end in (0, 1, len(whole) // 2, len(whole) - 1):
            parts[part] = whole[:end]
            with pytest.raises(HoldfastError):
                self.read(parts, tmp_path)

    def rewritten(self, parts, change):
        data = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(data, "a") as file:
            change(file)
        return {**parts, "model.weights.h5": data.getvalue()}

    def test_links_out_of_the_weights(self, parts, tmp_path):
        def change(file):
            group = file["layers/dense/vars"]
            del group["0"]
            group["0"] = h5py.ExternalLink("/etc/passwd", "x")

        with pytest.raises(UnsafeContent, match="link"):
            self.read(self.rewritten(parts, change), tmp_path)

    def test_weights_in_another_file(self, parts, tmp_path):
        def change(file):
            group = file["layers/dense/vars"]
            del group["0"]
            group.create_dataset("0", (4, 3), "f4", external=[("/etc/passwd", 0, 48)])

        with pytest.raises(UnsafeContent, match="another file"):
            self.read(self.rewritten(parts, change), tmp_path)

    def test_shapes_beyond_the_file(self, parts, tmp_path):
        def change(file):
            group = file["layers/dense/vars"]
            del group["0"]
            group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))

        with pytest.raises(HoldfastError):
            self.read(self.rewritten(parts, change), tmp_path)

    @pytest.mark.parametrize("dtype", ["S4", "i8", "f8"])
    def test_weights_of_another_kind(self, parts, tmp_path, dtype):
        def change(file):
            group = file["layers/dense/vars"]
            del group["0"]
            group["0"] = np.ones((4, 4), dtype)

        with pytest.raises(Corrupt, match="does not take its weights"):
            self.read(self.rewritten(parts, change), tmp_path)

    def test_weights_that_no_part_takes(self, parts, tmp_path):
        def change(file):
            file["layers/nobody/vars/0"] = np.ones(3, "f4")

        with pytest.raises(Corrupt, match="nobody"):
            self.read(self.rewritten(parts, change), tmp_path)

    def test_a_part_that_is_there_twice(self, parts, tmp_path):
        with zipfile.ZipFile(tmp_path / "twice.keras", "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
            archive.writestr("config.json", json.dumps(model_of(GADGETS["lambda layer"])))
        with pytest.raises((Corrupt, UnsafeContent)):
            adapter.READS["keras"](tmp_path / "twice.keras")


def test_nothing_runs_in_a_process_of_its_own(tmp_path):
    """Every gadget once more, in a process where a canary of each kind would be seen."""
    code = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
seen = []
import holdfast
from holdfast.frameworks.keras import build
import keras
keras.config.enable_unsafe_deserialization()  # what a program allowed does not matter
def hook(event, arguments):
    if event in ("os.system", "subprocess.Popen", "marshal.loads", "socket.connect", "import"):
        seen.append((event, str(arguments[0])))
gadgets = json.load(open(sys.argv[1]))
before = set(sys.modules)
sys.addaudithook(hook)
for name, config in gadgets.items():
    try:
        build.build(config, 1000)
    except holdfast.errors.HoldfastError:
        continue
    print("BUILT", name)
bad = [e for e in seen if e[0] != "import" or e[1] in ("keras_hub", "tensorflow", "antigravity")]
print("SEEN", bad)
"""
    configs = {name: model_of(gadget) for name, gadget in GADGETS.items()}
    configs["antigravity"] = model_of(layer("antigravity", "geohash"))
    (tmp_path / "gadgets.json").write_text(json.dumps(configs))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gadgets.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["SEEN []"]
