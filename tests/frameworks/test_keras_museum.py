"""Archives and files of Keras' own of old releases load under this one, and answer as they did.

What is compared lies outside the golden set. ``tools/museum.py`` wrote the archives.
"""

import os
import sys
import tarfile
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("keras", reason="keras is not installed")

sys.path.insert(0, str(Path(__file__).parents[1] / "museum"))

import keras
import keras_models
from read import answered, names, outcome

import holdfast
from holdfast.frameworks.keras.later import without_later
from holdfast.rescue.reading import read

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax is not installed"),
]
ARCHIVES = sorted((Path(__file__).parents[1] / "museum").glob("keras-*.tar.xz"))
# JAX computes bfloat16 otherwise since: answers differ by 0.006, which is no rounding of floats.
ROUNDED = {"mixed"}


def release_of(archive):
    return archive.name.removeprefix("keras-").removesuffix(".tar.xz")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    done = {}
    for archive in ARCHIVES:
        done[archive] = tmp_path_factory.mktemp("museum")
        with tarfile.open(archive) as packed:
            packed.extractall(done[archive], filter="data")
    return done


@pytest.mark.parametrize("archive", ARCHIVES, ids=release_of)
def test_archives_of_old_releases_answer_as_they_did(archive, unpacked):
    store = holdfast.Store(unpacked[archive] / "store")
    outcomes = {name: outcome(store, name, keras_models) for name in names(store)}
    assert len(outcomes) >= 33
    failed = {name: found for name, found in outcomes.items() if found != "right"}
    assert failed.keys() <= ROUNDED, failed
    assert all(found.startswith("refused") for found in failed.values()), failed


@pytest.mark.parametrize("archive", ARCHIVES, ids=release_of)
def test_files_of_old_releases_are_taken_over_and_answer_as_they_did(archive, unpacked):
    store = holdfast.Store(unpacked[archive] / "store")
    paths = sorted((unpacked[archive] / "native").glob("*.keras"))
    assert len(paths) >= 32
    for path in paths:
        if path.stem not in ROUNDED:
            model = read(path, "keras").model
            assert answered(store, path.stem, model, keras_models) == "right", path.stem


@pytest.mark.parametrize("archive", ARCHIVES, ids=release_of)
def test_archives_are_whole_and_of_the_release_that_they_name(archive, unpacked):
    store = holdfast.Store(unpacked[archive] / "store")
    for name in names(store):
        assert holdfast.verify(name, replay=False, store=store).blobs
        packages = holdfast.get(name, store=store).record.environment["packages"]
        assert packages["keras"] == release_of(archive)
        assert {"jax", "holdfast-ml"} <= packages.keys()


def of(config, module="keras.layers", name="Dense"):
    return {"module": module, "class_name": name, "registered_name": None, "config": config}


def test_only_what_says_nothing_new_is_left_out_for_an_older_release(monkeypatch):
    from holdfast.frameworks.keras import later

    monkeypatch.setattr(later, "_takes", lambda *_: False)  # as a release that knows no such field
    plain = {"units": 3, "quantization_config": None, "lora_rank": 2, "lora_alpha": 2}
    assert without_later(of(plain))["config"] == {"units": 3, "lora_rank": 2}
    telling = {"units": 3, "quantization_config": {"bits": 8}, "lora_rank": 2, "lora_alpha": 4}
    assert without_later(of(telling))["config"] == telling
    inner = of({"layers": [of({"units": 3, "use_gate": False})]}, "keras", "Sequential")
    assert without_later(inner)["config"]["layers"][0]["config"] == {"units": 3}
    own = {**of({"use_gate": False}), "registered_name": "mine>Dense"}
    assert without_later(own) == own


@pytest.mark.parametrize("name", [None, 3, ["Dense"], "Popen"])
def test_a_place_that_only_looks_like_an_object_is_left_alone(name):
    forged = {"module": "subprocess", "registered_name": None, "config": {"use_gate": False}}
    assert without_later(forged) == forged
    assert without_later({**forged, "class_name": name}) == {**forged, "class_name": name}
    assert without_later({"config": {"seed": None}, "module": ["x"]})["module"] == ["x"]


def test_nothing_is_left_out_that_the_installed_release_takes():
    config = of({"units": 3, "quantization_config": None})
    assert without_later(config) == config


def test_a_model_that_was_compiled_and_never_fitted_is_kept(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    rows = keras_models._rows(4)
    assert holdfast.save(model, "m", inputs=rows, store=tmp_path / "s").proof == "replayed"
    again = holdfast.load("m", store=tmp_path / "s")
    assert again.compiled
    again.fit(rows, rows[:, :1], epochs=1, verbose=0)
