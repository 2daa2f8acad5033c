"""Pickled boosters, bare, wrapped and in pipelines, are taken over as data."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import holdfast
from holdfast import codec, frameworks
from holdfast.errors import HoldfastError
from holdfast.rescue.reading import read

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).normal(size=(80, 3))
Y = X[:, 0] > 0


def xgboost_models():
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"]).assign(
        d=pandas.Categorical(np.where(Y, "x", "y"))
    )
    fitted = xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(X, Y)
    stopped = xgboost.XGBRegressor(n_estimators=50, early_stopping_rounds=2)
    stopped.fit(X, X[:, 1], eval_set=[(X[:20], X[:20, 1])], verbose=False)
    return [
        fitted,
        fitted.get_booster(),
        stopped,
        xgboost.XGBClassifier(n_estimators=3, enable_categorical=True).fit(frame, Y),
        xgboost.XGBRanker(n_estimators=3).fit(X, Y.astype(int), group=[40, 40]),
        make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=3)).fit(X, Y),
    ]


def lightgbm_models():
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    fitted = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, Y)
    stopped = lightgbm.LGBMRegressor(n_estimators=50, verbose=-1)
    stopped.fit(X, X[:, 1], eval_set=[(X[:20], X[:20, 1])],
                callbacks=[lightgbm.early_stopping(2, verbose=False)])  # fmt: skip
    many = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X, np.digitize(X[:, 0], [-1, 1]))
    pipeline = make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=3, verbose=-1))
    return [fitted, fitted.booster_, stopped, many, pipeline.fit(X, Y)]


@pytest.mark.parametrize("models", [xgboost_models, lightgbm_models])
def test_pickled_boosters_equal_what_unpickling_gives(models, tmp_path):
    path = tmp_path / "model.pkl"
    for model in models():
        for protocol in (2, 5):
            path.write_bytes(pickle.dumps(model, protocol))
            again = read(path, "pickle").model
            truth = pickle.loads(path.read_bytes())
            found = codec.first_difference(truth, again, frameworks.registry(), label="model")
            assert found is None


@pytest.mark.parametrize("models", [xgboost_models, lightgbm_models])
def test_they_are_proven_and_answer_alike(models, tmp_path):
    model = models()[0]
    joblib.dump(model, tmp_path / "model.joblib")
    version = holdfast.convert(tmp_path / "model.joblib", "m", inputs=X, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("m", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("models", [xgboost_models, lightgbm_models])
def test_mutated_ones_are_refused_or_harmless(models, tmp_path):
    data = bytearray(pickle.dumps(models()[0], 4))
    rng = np.random.default_rng(0)
    path, outcomes = tmp_path / "model.pkl", set()
    for place in rng.integers(0, len(data), 250).tolist():
        kept, data[place] = data[place], int(rng.integers(256))
        path.write_bytes(data)
        try:
            read(path, "pickle")
            outcomes.add("read")
        except HoldfastError as error:
            outcomes.add(error.code)
        data[place] = kept
    assert {"read", "corrupt"} <= outcomes
