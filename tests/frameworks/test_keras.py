"""Keras models are kept whole, learn on as they were, and answer the same under every backend."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("keras", reason="keras is not installed")

import keras

import holdfast
from holdfast import frameworks
from holdfast.errors import (
    BehaviourMismatch,
    EnvironmentMismatch,
    PartialLoad,
    Unsupported,
    UsageError,
)
from holdfast.frameworks import keras as adapter
from holdfast.frameworks.keras import state
from holdfast.testing.adapters import AdapterConformance

ZOO = Path(__file__).with_name("keras_zoo.py")
SPEC = importlib.util.spec_from_file_location("keras_zoo", ZOO)
zoo = sys.modules["keras_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)

pytestmark = pytest.mark.filterwarnings("ignore")
BACKENDS = ("numpy", "torch")
# What is drawn anew when Keras reads its own file.
NOT_IN_FILES = ("seed_generator", "lora_kernel_a", "lora_embeddings_a")


def difference(one, two):
    return adapter.difference(one, two, frameworks.registry())


def numbers(model):
    return {path: np.array(state.array_of(v)) for path, v in state.variables_of(model).items()}


def same_numbers(one, two):
    assert one.keys() == two.keys()
    return all(np.array_equal(one[path], two[path], equal_nan=True) for path in one)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(3)


class TestConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture(scope="class")
    def model(self):
        return zoo.sequential()[0]

    @pytest.fixture(scope="class")
    def other(self):
        keras.utils.set_random_seed(4)
        return zoo.sequential()[0]

    @pytest.fixture
    def inputs(self):
        return zoo.rows(4)


class TestConformanceOfGraphs(TestConformance):
    @pytest.fixture(scope="class")
    def model(self):
        return zoo.functional()[0]

    @pytest.fixture(scope="class")
    def other(self):
        keras.utils.set_random_seed(4)
        return zoo.functional()[0]

    @pytest.fixture
    def inputs(self):
        return zoo.functional()[1]


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_model_is_saved_proved_and_loaded(name, tmp_path):
    model, inputs = zoo.MODELS[name]()
    version = holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("kept", store=tmp_path / "s", replay="always")
    assert difference(model, again) is None
    assert holdfast.save(again, "kept", store=tmp_path / "s", golden=None)
    ids = [holdfast.get(f"kept@v{i}", store=tmp_path / "s").content for i in (1, 2)]
    assert ids[0].structure == ids[1].structure
    assert ids[0].tensors == ids[1].tensors


def test_a_network_of_keras_itself_is_kept(tmp_path):
    model, _ = zoo.application()
    holdfast.save(model, "kept", golden=None, store=tmp_path / "s")
    assert difference(model, holdfast.load("kept", store=tmp_path / "s")) is None


@pytest.mark.keeps("Keras", "sequential, functional, nested and subclassed models", "keras")
def test_layers_that_models_share_are_still_one(tmp_path):
    model, inputs = zoo.shared_between_models()
    version = holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    again = holdfast.load("kept", store=tmp_path / "s")
    first, second = again.get_layer("first"), again.get_layer("second")
    assert first.get_layer("common") is second.get_layer("common")
    assert len(version.content.tensors) == len(model.weights) == 6


@pytest.mark.keeps("Keras", "optimizer state: training goes on bit for bit", "keras")
@pytest.mark.parametrize("name", ["sequential", "noisy", "nested", "scheduled", "frozen", "lora"])
def test_training_goes_on_as_if_nothing_had_happened(name, tmp_path):
    model, inputs = zoo.MODELS[name]()
    holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    again = holdfast.load("kept", store=tmp_path / "s")
    wanted = np.zeros(np.asarray(model.predict(inputs, verbose=0)).shape, "float32")
    losses = [
        each.fit(inputs, wanted, epochs=3, batch_size=8, verbose=0, shuffle=False).history
        for each in (model, again)
    ]
    assert losses[0] == losses[1]
    assert same_numbers(numbers(model), numbers(again))


def test_a_model_that_was_never_compiled_comes_back_so(tmp_path):
    model, inputs = zoo.functional()
    holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    assert not holdfast.load("kept", store=tmp_path / "s").compiled


def test_saving_draws_nothing_and_changes_nothing(tmp_path):
    model, inputs = zoo.noisy()
    before, state_before = numbers(model), np.random.get_state(legacy=False)["state"]["pos"]
    holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    assert same_numbers(before, numbers(model))
    assert np.random.get_state(legacy=False)["state"]["pos"] == state_before


def test_several_models_are_kept_together(tmp_path):
    pair = {"teacher": zoo.sequential()[0], "student": zoo.own_layer()[0], "note": [1, "a"]}
    holdfast.save(pair, "pair", store=tmp_path / "s")
    again = holdfast.load("pair", store=tmp_path / "s")
    assert again["note"] == [1, "a"]
    assert difference(pair, again) is None


class TestInto:
    @pytest.fixture
    def kept(self, tmp_path):
        model, inputs = zoo.own_model()
        holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
        return model, inputs, tmp_path / "s"

    def test_a_model_of_the_program_receives_it(self, kept):
        model, inputs, store = kept
        blank = zoo.Tower(5)
        blank(zoo.rows(4))
        again = holdfast.load("kept", into=blank, store=store)
        assert again is blank
        assert np.array_equal(again.predict(inputs, verbose=0), model.predict(inputs, verbose=0))

    def test_another_shape_is_refused_and_nothing_is_changed(self, kept):
        blank = zoo.Tower(6)
        blank(zoo.rows(4))
        before = numbers(blank)
        with pytest.raises(PartialLoad, match="as stored"):
            holdfast.load("kept", into=blank, store=kept[2])
        assert same_numbers(before, numbers(blank))

    def test_names_change_where_that_is_asked(self, tmp_path):
        inputs = zoo.rows(4)
        old = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="old")])
        new = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="new")])
        holdfast.save(old, "kept", inputs=inputs, store=tmp_path / "s")
        with pytest.raises(PartialLoad, match="old/"):
            holdfast.load("kept", into=new, store=tmp_path / "s")
        holdfast.load("kept", into=new, rename="old->new", store=tmp_path / "s")
        assert np.array_equal(new.predict(inputs, verbose=0), old.predict(inputs, verbose=0))

    def test_rename_without_a_model_is_refused(self, kept):
        with pytest.raises(UsageError, match="into="):
            holdfast.load("kept", rename="a->b", store=kept[2])


class TestRefusals:
    def refused(self, layer, tmp_path, match):
        model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
        with pytest.raises(Unsupported, match=match) as caught:
            holdfast.save(model, "kept", store=tmp_path / "s")
        return caught.value

    def test_lambda_layers_with_the_fix(self, tmp_path):
        error = self.refused(keras.layers.Lambda(lambda x: x * 2), tmp_path, "Lambda")
        assert "class Step(keras.layers.Layer)" in error.hint

    def test_functions_without_a_name(self, tmp_path):
        layer = keras.layers.Dense(2, activation=lambda x: x)
        assert "register" in self.refused(layer, tmp_path, "without a name").hint

    def test_functions_that_are_not_registered(self, tmp_path):
        def own(values):
            return values

        self.refused(keras.layers.Dense(2, activation=own), tmp_path, "own")

    def test_classes_that_do_not_say_how_they_are_made(self, tmp_path):
        class Silent(keras.layers.Layer):
            def __init__(self, units):
                super().__init__()
                self.units = units

        self.refused(Silent(np.float32), tmp_path, "Silent|silent")


def test_a_class_is_registered_by_holdfast(tmp_path):
    class Twice(keras.layers.Layer):
        def call(self, inputs):
            return inputs * 2

    model = keras.Sequential([keras.Input((4,)), Twice(), keras.layers.Dense(1)])
    version = holdfast.save(model, "kept", inputs=zoo.rows(4), store=tmp_path / "s")
    assert version.proof != "replayed"
    with pytest.raises(EnvironmentMismatch, match="Twice"):
        holdfast.load("kept", store=tmp_path / "s")
    holdfast.register(Twice, name="tests>Twice")
    holdfast.save(model, "kept", inputs=zoo.rows(4), store=tmp_path / "s")
    assert type(holdfast.load("kept", store=tmp_path / "s").layers[0]) is Twice


def test_a_process_without_the_class_says_what_to_import(tmp_path):
    model, inputs = zoo.own_layer()
    holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    words = ["-m", "holdfast.cli.main", "verify", "kept", "--store", str(tmp_path / "s")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert "zoo>Scale" in done.stdout
    assert "replayed" not in done.stdout
    assert "Traceback" not in done.stderr


ELSEWHERE = """
import importlib.util, json, sys, warnings
warnings.simplefilter("ignore")
spec = importlib.util.spec_from_file_location("keras_zoo", sys.argv[1])
zoo = sys.modules["keras_zoo"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)
import holdfast, keras
found = {}
for name in sys.argv[3:]:
    holdfast.load(name, store=sys.argv[2], replay="always")
    found[name] = holdfast.get(name, store=sys.argv[2]).replay().largest
print(json.dumps([keras.backend.backend(), found]))
"""


KINDS = ("functional", "attention", "recurrent", "own model", "normalised", "mixed", "int8",
         "time distributed", "spectral", "scheduled", "shared between models")  # fmt: skip


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    store = tmp_path_factory.mktemp("shelf") / "s"
    for kind in KINDS:
        model, inputs = zoo.MODELS[kind]()
        holdfast.save(model, kind.replace(" ", "-"), inputs=inputs, store=store)
    return store, [kind.replace(" ", "-") for kind in KINDS]


@pytest.mark.keeps("Keras", "saved under one backend, loaded under another", "keras")
@pytest.mark.parametrize("backend", BACKENDS)
def test_answers_are_the_same_under_another_backend(backend, shelf):
    if backend == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    store, names = shelf
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(ZOO), str(store), *names],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    used, found = json.loads(done.stdout.splitlines()[-1])
    assert used == backend
    assert sorted(found) == sorted(names)
    assert max(found.values()) < 1e-5


def test_a_model_of_another_backend_learns_on_here(tmp_path):
    code = (
        "import keras, numpy as np, holdfast, sys\n"
        "m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])\n"
        "m.compile('adam', 'mse')\n"
        "x = np.ones((8, 4), 'float32')\n"
        "m.fit(x, x[:, :1], epochs=2, verbose=0)\n"
        "holdfast.save(m, 'kept', inputs=x, store=sys.argv[1])\n"
    )
    pytest.importorskip("torch", reason="torch is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "s")],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    model = holdfast.load("kept", store=tmp_path / "s", replay="always")
    assert int(model.optimizer.iterations) == 2
    losses = model.fit(zoo.rows(4), zoo.rows(1), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_backend_that_is_installed_is_taken(tmp_path):
    model, inputs = zoo.sequential()
    holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    words = ["-m", "holdfast.cli.main", "verify", "kept", "--store", str(tmp_path / "s")]
    done = subprocess.run(
        [sys.executable, *words],
        env={**environment, "KERAS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, *words, "--replay", "always"],
        env={**environment, "KERAS_BACKEND": "no-such-backend"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_model_of_a_newer_release_says_so(tmp_path, monkeypatch):
    model, inputs = zoo.functional()
    with monkeypatch.context() as patched:
        patched.setattr(keras, "__version__", "3.99.0")
        patched.setattr(
            "holdfast.environment.capture.capture", lambda _: {"packages": {"keras": "3.99.0"}}
        )
        holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    monkeypatch.setattr(keras.layers.Dense, "from_config", classmethod(lambda cls, _: cls()))
    with pytest.raises(EnvironmentMismatch, match=r"Written by Keras 3\.99\.0"):
        holdfast.load("kept", store=tmp_path / "s")


def test_numbers_that_changed_are_told(tmp_path):
    model, inputs = zoo.sequential()
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    assert "variables" not in (difference(model, model) or "")
    weights = changed.layers[0].get_weights()
    weights[0][0, 0] += 1e-7
    changed.layers[0].set_weights(weights)
    assert difference(model, changed) is not None


class TestFilesOfKeras:
    """Keras' own files, written and read by Keras, are the judge of our reader and writer."""

    @pytest.mark.parametrize(
        "name",
        [n for n in zoo.MODELS if n not in ("layer alone", "shared between models")],
    )
    def test_an_archive_is_read_as_keras_reads_it(self, name, tmp_path):
        model, _ = zoo.MODELS[name]()
        model.save(tmp_path / "model.keras")
        theirs = keras.models.load_model(tmp_path / "model.keras")
        ours = adapter.READS["keras"](tmp_path / "model.keras")
        for each in (theirs, ours):
            for path, variable in state.variables_of(each).items():
                if any(part in path for part in NOT_IN_FILES):
                    variable.assign(np.zeros(variable.shape, "uint32"))
        assert difference(theirs, ours) is None

    def test_an_archive_is_written_that_keras_reads(self, tmp_path):
        model, inputs = zoo.nested()
        holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
        holdfast.export("kept", tmp_path / "out.keras", store=tmp_path / "s")
        again = keras.models.load_model(tmp_path / "out.keras")
        assert np.array_equal(again.predict(inputs, verbose=0), model.predict(inputs, verbose=0))

    def test_weights_are_written_that_keras_reads(self, tmp_path):
        model, inputs = zoo.sequential()
        adapter.WRITES["h5"](model, tmp_path / "out.h5")
        (tmp_path / "out.h5").rename(tmp_path / "out.weights.h5")
        again = keras.models.clone_model(model)
        again.load_weights(tmp_path / "out.weights.h5", skip_mismatch=True)
        assert np.array_equal(again.predict(inputs, verbose=0), model.predict(inputs, verbose=0))

    def test_a_layer_alone_is_no_archive(self, tmp_path):
        with pytest.raises(Unsupported, match="no Dense"):
            adapter.WRITES["keras"](zoo.layer_alone()[0], tmp_path / "out")
        assert not list(tmp_path.iterdir())


def test_a_changed_library_is_caught_by_replay(tmp_path, monkeypatch):
    model, inputs = zoo.sequential()
    holdfast.save(model, "kept", inputs=inputs, store=tmp_path / "s")
    monkeypatch.setattr(
        keras.layers.BatchNormalization, "call", lambda self, inputs, **_: inputs * 1.01
    )
    with pytest.raises(BehaviourMismatch):
        holdfast.load("kept", store=tmp_path / "s", replay="always")
