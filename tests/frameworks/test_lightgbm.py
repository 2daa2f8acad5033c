"""LightGBM: native text judged before it is read, columns found by name, wrappers whole."""

import copy
import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")

import holdfast  # noqa: E402
from holdfast.errors import Corrupt, SignatureMismatch, Unsupported  # noqa: E402
from holdfast.frameworks import lightgbm as adapter  # noqa: E402
from holdfast.testing.adapters import AdapterConformance  # noqa: E402

SPEC = importlib.util.spec_from_file_location(
    "lightgbm_zoo", Path(__file__).with_name("lightgbm_zoo.py")
)
zoo = sys.modules["lightgbm_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)
MODELS, QUIET = zoo.MODELS, zoo.QUIET
numbers, plain, target = zoo.numbers, zoo.plain, zoo.target


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.keeps(
    "LightGBM",
    "all three scikit-learn wrappers and bare boosters (text, judged); columns found by name",
    "lightgbm",
)
def test_a_model_comes_back_whole(name, tmp_path):
    model, X = MODELS[name]()
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("m", store=tmp_path / "s")
    assert isinstance(again, type(model))
    method = adapter.methods(model)[0]
    assert np.array_equal(adapter.predict(model, method, X), adapter.predict(again, method, X))
    if name != "booster":
        assert again.get_params() == model.get_params()
        assert again.best_iteration_ == model.best_iteration_
        assert again.evals_result_ == model.evals_result_
    assert (
        holdfast.save(again, "m", inputs=X, store=tmp_path / "s").content_id == version.content_id
    )


@pytest.mark.parametrize("name", ["named columns", "booster", "categories"])
def test_columns_in_another_order_get_the_same_answers(name, tmp_path):
    model, X = MODELS[name]()
    holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    expected = model.predict(X)
    assert np.array_equal(again.predict(X[X.columns[::-1]]), expected)
    with pytest.raises(SignatureMismatch, match="lacks 'a'"):
        again.predict(X.rename(columns={"a": "other"}))


def test_what_was_loaded_can_be_copied_cloned_and_pickled(tmp_path):
    from sklearn.base import clone

    model, X = MODELS["named columns"]()
    holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    for copied in (pickle.loads(pickle.dumps(again)), copy.deepcopy(again)):
        assert np.array_equal(copied.predict(X[X.columns[::-1]]), model.predict(X))
    assert np.array_equal(clone(again).fit(X, target()).predict(X), model.predict(X))


def test_the_native_file_lies_open_in_the_version(tmp_path):
    model, X = MODELS["categories"]()
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    (file,) = version.content.files
    assert file.name.endswith(".txt")
    path = holdfast.export("m", tmp_path / "m.txt", store=tmp_path / "s")
    native = lightgbm.Booster(model_file=path)
    assert np.array_equal(native.predict(X), model.booster_.predict(X))
    assert np.array_equal(adapter.READS["lightgbm"](path).predict(X), native.predict(X))


def test_it_is_kept_inside_what_scikit_learn_makes(tmp_path):
    from sklearn.ensemble import VotingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = plain(), target()
    one = lightgbm.LGBMClassifier(n_estimators=3, **QUIET)
    whole = make_pipeline(StandardScaler(), VotingClassifier([("one", one)], voting="soft"))
    whole.fit(X, y)
    version = holdfast.save(whole, "m", inputs=X, store=tmp_path / "s")
    assert "lightgbm" in version.record.environment["packages"]
    again = holdfast.load("m", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(X), whole.predict_proba(X))


def test_an_unfitted_wrapper_is_kept_with_its_parameters(tmp_path):
    model = lightgbm.LGBMRegressor(n_estimators=7, learning_rate=0.3, path_smooth=0.5)
    assert holdfast.save(model, "m", store=tmp_path / "s").proof == "state only"
    assert holdfast.load("m", store=tmp_path / "s").get_params() == model.get_params()


def test_what_compiled_code_takes_at_its_word_is_refused():
    spec = next(spec for spec in adapter.TYPES if spec.id == "lightgbm.LGBMRegressor")
    fields = dict(vars(lightgbm.LGBMRegressor()))
    spec.build(fields)
    for wrong in ({"n_jobs": 10**9}, {"_Booster": 5}, {"_other_params": {"num_threads": "many"}}):
        with pytest.raises(Corrupt):
            spec.build({**fields, **wrong})


def test_a_function_as_objective_is_refused_at_save(tmp_path):
    def objective(y, p):
        return p - y, np.ones_like(p)

    model = lightgbm.LGBMRegressor(n_estimators=2, objective=objective, **QUIET)
    model.fit(plain(), target())
    with pytest.raises(Unsupported, match="objective"):
        holdfast.save(model, "m", store=tmp_path / "s")


def test_a_wrapper_that_another_release_made_is_refused_at_save(tmp_path):
    model, _ = MODELS["classifier"]()
    del model.min_split_gain
    with pytest.raises(Unsupported, match="min_split_gain is missing"):
        holdfast.save(model, "m", store=tmp_path / "s")


class TestConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def inputs(self):
        return plain()

    @pytest.fixture
    def model(self):
        return lightgbm.LGBMClassifier(n_estimators=3, **QUIET).fit(plain(), target())

    @pytest.fixture
    def other(self):
        return lightgbm.LGBMClassifier(n_estimators=3, **QUIET).fit(plain(), target()[::-1])
