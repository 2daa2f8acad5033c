"""Estimators as users keep them: saved here, loaded and asked in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import holdfast
from holdfast.errors import Unsupported

TEXTS = ["a good film", "a bad film", "great fun", "an awful bore"] * 20
SCRIPT = """
import json, sys
import holdfast
from sklearn.datasets import load_breast_cancer
name, store = sys.argv[1:]
if name == "text":
    inputs = ["good fun", "an awful film"]
else:
    inputs = load_breast_cancer(as_frame=True).data[:60]
version = holdfast.get(name, store=store)
loaded = version.load_proven()
answers = loaded.model.predict(inputs).tolist()
probabilities = loaded.model.predict_proba(inputs).tolist() if name != "grid" else None
scores = loaded.model.decision_function(inputs).tolist() if name == "grid" else None
print(json.dumps([loaded.proof, answers, probabilities, scores]))
"""


def fitted(name):
    frame, classes = load_breast_cancer(return_X_y=True, as_frame=True)
    models = {
        "forest": RandomForestClassifier(40, random_state=0),
        "boosting": HistGradientBoostingClassifier(max_iter=20, random_state=0),
        "grid": GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 10]}, cv=3),
        "text": make_pipeline(TfidfVectorizer(), LogisticRegression()),
    }
    if name == "text":
        return models[name].fit(TEXTS, [1, 0, 1, 0] * 20), TEXTS, ["good fun", "an awful film"]
    return models[name].fit(frame, classes), frame, frame[:60]


@pytest.mark.parametrize(
    "name",
    ["forest", "text", *(pytest.param(n, marks=pytest.mark.slow) for n in ("boosting", "grid"))],
)
def test_a_model_is_kept_proven_and_answers_in_another_process(name, tmp_path):
    model, inputs, asked = fitted(name)
    version = holdfast.save(model, name, inputs=inputs, store=tmp_path / "store")
    assert version.proof == "replayed"
    words = [sys.executable, "-W", "error", "-c", SCRIPT, name, str(tmp_path / "store")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    proof, answers, probabilities, scores = json.loads(done.stdout)
    assert proof == "replayed"
    assert answers == model.predict(asked).tolist()
    if probabilities is not None:
        assert probabilities == model.predict_proba(asked).tolist()
    if scores is not None:
        assert scores == model.decision_function(asked).tolist()


def test_the_same_fit_has_the_same_content(tmp_path):
    ids = []
    for _ in range(2):
        model, inputs, _ = fitted("text")
        version = holdfast.save(model, "text", inputs=inputs, store=tmp_path / "store")
        ids.append(version.content_id)
    assert ids[0] == ids[1]
    assert version.same_content_as == "text@v1"


def test_what_would_be_lost_stops_the_save_and_is_named(tmp_path, monkeypatch):
    from holdfast.frameworks.sklearn import trees

    model, inputs, _ = fitted("forest")
    real = trees.ENCODERS["sklearn.RandomForestClassifier"]

    def forgetful(forest):
        fields = dict(real(forest))
        fields.pop("class_weight")
        return fields

    spec = next(s for s in _types() if s.id == "sklearn.RandomForestClassifier")
    monkeypatch.setattr(holdfast.frameworks, "registry", lambda: _with(spec, forgetful))
    with pytest.raises(Unsupported, match="loses or gains the attribute 'class_weight'") as caught:
        holdfast.save(model, "forest", inputs=inputs, store=tmp_path / "store")
    assert "Nothing became visible" in str(caught.value)
    with pytest.raises(holdfast.HoldfastError):
        holdfast.get("forest", store=tmp_path / "store")


def _types():
    from holdfast.frameworks import sklearn

    return sklearn.TYPES


def _with(spec, encode):
    """Return the registry with one type's encoder exchanged."""
    import dataclasses

    from holdfast import codec
    from holdfast.codec.registry import Registry

    others = [known for known in _types() if known.id != spec.id]
    return Registry.of([*codec.TYPES, *others, dataclasses.replace(spec, encode=encode)])


def test_a_text_pipeline_answers_alike_from_lists_series_and_arrays(tmp_path):
    pandas = pytest.importorskip("pandas")
    model, inputs, asked = fitted("text")
    version = holdfast.save(model, "text", inputs=inputs, store=tmp_path / "store")
    expected = model.predict(asked).tolist()
    predictor = version.predictor()
    for given in (asked, pandas.Series(asked), np.array(asked, dtype=object)):
        assert predictor.predict(given).tolist() == expected
