"""CatBoost: native files judged before they are read, categories and all, estimators whole."""

import copy
import importlib.util
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

catboost = pytest.importorskip("catboost", reason="catboost is not installed")

import holdfast  # noqa: E402
from holdfast.errors import Corrupt, Unsupported  # noqa: E402
from holdfast.frameworks import catboost as adapter  # noqa: E402
from holdfast.testing.adapters import AdapterConformance  # noqa: E402

SPEC = importlib.util.spec_from_file_location(
    "catboost_zoo", Path(__file__).with_name("catboost_zoo.py")
)
zoo = sys.modules["catboost_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)
MODELS, QUIET, ROWS = zoo.MODELS, zoo.QUIET, zoo.ROWS
numbers, plain, target, with_categories = (
    zoo.numbers, zoo.plain, zoo.target, zoo.with_categories,
)  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.keeps(
    "CatBoost",
    "classifier, regressor, ranker and bare models (`.cbm`, judged) with categories and their "
    "statistics; not text and embedding features",
    "catboost",
)
def test_a_model_comes_back_whole(name, tmp_path):
    model, X = MODELS[name]()
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("m", store=tmp_path / "s")
    assert type(again) is type(model)
    for method in adapter.methods(model):
        assert np.array_equal(adapter.predict(model, method, X), adapter.predict(again, method, X))
    assert np.array_equal(model.calc_leaf_indexes(X), again.calc_leaf_indexes(X))
    assert again.get_params() == model.get_params()
    for attribute in ("tree_count_", "best_iteration_", "feature_names_", "random_seed_"):
        assert getattr(again, attribute) == getattr(model, attribute)
    assert np.array_equal(again.classes_, model.classes_)
    assert dict(again.get_metadata()) == dict(model.get_metadata())
    twice = holdfast.save(again, "m", inputs=X, store=tmp_path / "s")
    assert twice.content_id == version.content_id


def test_what_the_training_measured_is_kept(tmp_path):
    model, X = MODELS["early stopping"]()
    holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    assert again.best_score_.keys() == model.best_score_.keys()
    for part, metrics in model.evals_result_.items():
        for metric, values in metrics.items():  # CatBoost writes them with 16 digits
            assert np.allclose(again.evals_result_[part][metric], values, rtol=1e-14, atol=0)


def test_missing_values_and_unknown_categories_get_the_same_answers(tmp_path):
    model, X = MODELS["every kind of statistics"]()
    holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    other = X.assign(a=np.nan, kind="never met", town=10**6)
    assert np.array_equal(again.predict_proba(other), model.predict_proba(other))


def test_columns_in_another_order_get_the_same_answers_or_an_error(tmp_path):
    model, X = MODELS["regressor"]()
    holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    assert np.array_equal(again.predict(X[X.columns[::-1]]), model.predict(X))
    model, X = MODELS["categories"]()
    holdfast.save(model, "c", inputs=X, store=tmp_path / "s")
    again = holdfast.load("c", store=tmp_path / "s")
    swapped = X[["a", "b", "d", "town", "kind"]]
    assert np.array_equal(again.predict_proba(swapped), model.predict_proba(X))
    with pytest.raises(catboost.CatBoostError):
        again.predict(X[X.columns[::-1]])


def test_what_was_loaded_can_be_copied_pickled_and_trained_on(tmp_path):
    model, X = MODELS["categories"]()
    holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    again = holdfast.load("m", store=tmp_path / "s")
    expected = model.predict_proba(X)
    for copied in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert np.array_equal(copied.predict_proba(X), expected)
    assert np.array_equal(again.fit(X, target()).predict_proba(X), expected)


def test_a_change_of_the_model_is_another_content(tmp_path):
    model, X = MODELS["regressor"]()
    one = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    model, X = MODELS["regressor"]()  # one that has predicted goes on with the values it had
    model.set_leaf_values(model.get_leaf_values() * 2)
    two = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    assert one.content_id != two.content_id
    assert np.array_equal(holdfast.load("m", store=tmp_path / "s").predict(X), model.predict(X))


def test_the_native_file_lies_open_in_the_version(tmp_path):
    model, X = MODELS["categories"]()
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    (file,) = version.content.files
    assert file.name.endswith(".cbm")
    path = holdfast.export("m", tmp_path / "m.cbm", store=tmp_path / "s")
    native = catboost.CatBoostClassifier().load_model(str(path))
    assert np.array_equal(native.predict_proba(X), model.predict_proba(X))
    exported = holdfast.export("m", tmp_path / "m.json", store=tmp_path / "s")
    trees = json.loads(exported.read_text("utf-8"))["oblivious_trees"]
    assert len(trees) == model.tree_count_


def test_a_native_file_is_brought_in(tmp_path):
    model, X = MODELS["categories"]()
    model.save_model(str(tmp_path / "m.cbm"))
    brought = adapter.READS["catboost"](tmp_path / "m.cbm")
    assert isinstance(brought, catboost.CatBoostClassifier)
    assert np.array_equal(brought.predict_proba(X), model.predict_proba(X))
    version = holdfast.convert(tmp_path / "m.cbm", "brought", store=tmp_path / "s")
    assert version.content.framework == "catboost"
    again = holdfast.load("brought", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_an_unfitted_estimator_is_kept_with_its_parameters(tmp_path):
    model = catboost.CatBoostRegressor(iterations=7, learning_rate=0.3)
    assert holdfast.save(model, "m", store=tmp_path / "s").proof == "state only"
    again = holdfast.load("m", store=tmp_path / "s")
    assert again.get_params() == model.get_params()
    assert not again.is_fitted()


def test_it_is_kept_inside_what_scikit_learn_makes(tmp_path):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = numbers().fillna(0).to_numpy(), target()
    whole = make_pipeline(StandardScaler(), catboost.CatBoostClassifier(**QUIET)).fit(X, y)
    version = holdfast.save(whole, "m", inputs=X, store=tmp_path / "s")
    assert "catboost" in version.record.environment["packages"]
    again = holdfast.load("m", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(X), whole.predict_proba(X))


def test_texts_and_embeddings_are_refused_at_save_with_words(tmp_path):
    rng = np.random.default_rng(0)
    X = numbers()
    X["words"] = [" ".join(rng.choice(["red", "green", "dog", "cat"], 4)) for _ in range(ROWS)]
    model = catboost.CatBoostClassifier(text_features=["words"], **QUIET).fit(X, target())
    with pytest.raises(Unsupported, match="text features"):
        holdfast.save(model, "m", store=tmp_path / "s")
    Y = numbers()
    Y["place"] = list(rng.normal(size=(ROWS, 4)))
    model = catboost.CatBoostClassifier(embedding_features=["place"], **QUIET).fit(Y, target())
    with pytest.raises(Unsupported, match="embedding features"):
        holdfast.save(model, "m", store=tmp_path / "s")


def test_features_that_were_dropped_are_refused_with_words(tmp_path):
    model, _ = with_categories(ignored_features=["b"])
    model.drop_unused_features()
    with pytest.raises(Unsupported, match="lacks features"):
        holdfast.save(model, "m", store=tmp_path / "s")


def test_a_function_as_loss_is_refused_at_save(tmp_path):
    model = catboost.CatBoostRegressor(iterations=2, loss_function=lambda: None)
    with pytest.raises(Unsupported, match="loss_function is a function"):
        holdfast.save(model, "m", store=tmp_path / "s")


def test_parameters_that_belong_to_another_model_are_refused():
    model, _ = MODELS["regressor"]()
    fields = dict(vars(model), _tree_count=9)
    spec = next(spec for spec in adapter.TYPES if spec.id == "catboost.CatBoostRegressor")
    with pytest.raises(Corrupt, match="other trees"):
        spec.build(fields)
    with pytest.raises(Corrupt, match="something else"):
        spec.build({**fields, "_object": None})


class TestConformance(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        return adapter

    @pytest.fixture
    def inputs(self):
        return numbers()

    @pytest.fixture
    def model(self):
        return plain()[0]

    @pytest.fixture
    def other(self):
        return plain(labels=numbers()["d"])[0]
