"""A model goes in with one call and comes out of another process the same."""

import enum
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import holdfast
from holdfast import errors


@pytest.fixture(name="store")
def make_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(scope="module", name="cancer")
def train_cancer():
    data = load_breast_cancer(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(data.data, data.target), data.data


def mixed_frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, 80),
            "income": np.where(rng.random(80) < 0.1, np.nan, rng.normal(3e4, 1e4, 80)),
            "plan": rng.choice(["basic", "plus", "pro"], 80),
        }
    )


def test_fresh_process_answers_the_same(store, cancer, tmp_path):
    model, frame = cancer
    version = holdfast.save(model, "cancer", inputs=frame, store=store)
    assert version.ref == "cancer@v1"
    assert version.proof == "replayed"
    frame.head(20).to_csv(tmp_path / "rows.csv", index=False)
    code = (
        "import sys, json, holdfast, pandas as pd\n"
        "m = holdfast.load('cancer')\n"
        "X = pd.read_csv(sys.argv[1])\n"
        "print(json.dumps([p.hex() for p in m.predict_proba(X)[:, 1].tolist()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "rows.csv"],
        env={**os.environ, "HOLDFAST_STORE": str(store.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert json.loads(done.stdout) == [p.hex() for p in model.predict_proba(rows)[:, 1].tolist()]


def test_column_transformer_with_text_and_missing_values(store):
    frame = mixed_frame()
    model = make_pipeline(
        ColumnTransformer(
            [
                ("num", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
                ("cat", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
            ]
        ),
        RandomForestClassifier(20, random_state=0),
    ).fit(frame, frame["plan"] == "pro")
    version = holdfast.save(model, "mixed", inputs=frame, store=store)
    assert version.proof == "replayed"
    again = holdfast.load("mixed", store=store, replay="always")
    assert np.array_equal(again.predict_proba(frame), model.predict_proba(frame))


def test_proof_levels_are_told(store, cancer):
    model, frame = cancer
    assert holdfast.save(model, "a", inputs=frame, store=store).proof == "replayed"
    synthetic = holdfast.save(model, "b", store=store)
    assert synthetic.proof == "replayed on synthetic inputs"
    assert holdfast.save(model, "c", inputs=frame, golden=None, store=store).proof == "state only"
    assert holdfast.save({"w": np.ones(3)}, "d", store=store).proof == "state only"
    version = holdfast.get("a", store=store)
    assert version.load_proven(replay="never").proof == "unproved"
    assert version.load_proven(verify="never").proof == "unproved"


def test_synthetic_golden_set_keeps_none_of_the_callers_rows(store):
    digits = load_digits()
    model = RandomForestClassifier(5, random_state=0).fit(digits.data, digits.target)
    rows = np.full((64, 64), 7.123456789)
    holdfast.save(model, "digits", inputs=rows, golden="synthetic", store=store)
    needle = np.float64(7.123456789).tobytes()
    assert not any(needle in p.read_bytes() for p in store.path.rglob("*") if p.is_file())


def test_second_load_uses_the_stamp_and_replay_always_does_not(store, cancer):
    model, frame = cancer
    holdfast.save(model, "cancer", inputs=frame, store=store)
    version = holdfast.get("cancer", store=store)
    first = version.load_proven()
    assert first.replay is not None
    assert first.replay.largest == 0.0
    second = version.load_proven()
    assert second.stamped
    assert second.proof == "replayed"
    assert version.load_proven(replay="always").replay is not None


def test_same_content_again_is_said_and_copies_nothing(store, cancer):
    model, frame = cancer
    first = holdfast.save(model, "cancer", inputs=frame, store=store)
    blobs = {path.name for path in (store.path / "blobs" / "sha256").iterdir()}
    second = holdfast.save(model, "cancer", inputs=frame, metrics={"auc": 0.5}, store=store)
    assert second.ref == "cancer@v2"
    assert second.content_id == first.content_id
    assert second.same_content_as == "cancer@v1"
    assert second.saved.new_bytes == 0
    new = {path.name for path in (store.path / "blobs" / "sha256").iterdir()} - blobs
    assert len(new) == 2, "only the record and the manifest are new"


def test_the_callers_object_and_random_state_are_untouched(store):
    digits = load_digits()
    model = RandomForestRegressor(10, random_state=0).fit(digits.data, digits.target)
    before = dict(vars(model))
    np.random.seed(3)
    expected = np.random.RandomState(3).random_sample(4)
    holdfast.save(model, "digits", inputs=digits.data, store=store)
    assert vars(model).keys() == before.keys()
    assert np.array_equal(np.random.random_sample(4), expected)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"metrics": {"auc": float("nan")}}, "metrics.auc"),
        ({"metrics": {"auc": "high"}}, "metrics.auc"),
        ({"params": {"f": object()}}, "params.f"),
        ({"labels": "yes"}, "labels"),
        ({"files": {"../x": b""}}, "../x"),
        ({"note": 3}, "note"),
        ({"golden": "some"}, "golden"),
    ],
)
def test_unusable_arguments_name_their_place(store, cancer, given, place):
    with pytest.raises(errors.UsageError, match=place.replace(".", r"\.")):
        holdfast.save(cancer[0], "cancer", store=store, **given)
    with pytest.raises(errors.NotFound):
        holdfast.get("cancer", store=store)


def test_unsupported_object_names_the_path_and_leaves_nothing(store):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.steps[1][1].func = lambda x: x
    with pytest.raises(errors.Unsupported, match=r"pipeline\.steps\[1\]\.func"):
        holdfast.save(model, "bad", store=store)
    assert list((store.path / "blobs" / "sha256").iterdir()) == []


def test_secret_is_refused_with_its_place(store, cancer):
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    with pytest.raises(errors.SecretFound, match=r"params\.hub") as caught:
        holdfast.save(cancer[0], "cancer", params={"hub": token}, store=store)
    assert token not in str(caught.value)
    files = {"config.yaml": f"a: 1\ntoken: {token}\n".encode()}
    with pytest.raises(errors.SecretFound, match=r"config\.yaml"):
        holdfast.save(cancer[0], "cancer", files=files, store=store)
    assert list((store.path / "log").iterdir()) == []
    version = holdfast.save(
        cancer[0], "cancer", params={"hub": token}, allow_secrets=["params.hub"], store=store
    )
    assert version.record.params["hub"] == token


def test_environment_variables_are_never_recorded(store, cancer, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "planted-secret-value-123456")
    holdfast.save(cancer[0], "cancer", inputs=cancer[1], store=store)
    for path in store.path.rglob("*"):
        if path.is_file():
            assert b"planted-secret-value" not in path.read_bytes()


def test_a_wrong_answer_after_load_is_refused(store, cancer, monkeypatch):
    model, frame = cancer
    holdfast.save(model, "cancer", inputs=frame, store=store)
    original = LogisticRegression.predict_proba
    monkeypatch.setattr(
        LogisticRegression, "predict_proba", lambda self, X: original(self, X) * 0.999
    )
    with pytest.raises(errors.BehaviourMismatch, match="of 64 golden rows differ") as caught:
        holdfast.load("cancer", store=store)
    assert caught.value.exit_code == 4


def test_a_model_that_answers_otherwise_after_encoding_is_refused_at_save(store, monkeypatch):
    digits = load_digits()
    model = RandomForestClassifier(5, random_state=0).fit(digits.data, digits.target)
    original = RandomForestClassifier.predict_proba
    live = id(model)
    monkeypatch.setattr(
        RandomForestClassifier,
        "predict_proba",
        lambda self, X: original(self, X) + (0 if id(self) == live else 0.1),
    )
    with pytest.raises(errors.BehaviourMismatch, match="Nothing became visible"):
        holdfast.save(model, "digits", inputs=digits.data, store=store)
    with pytest.raises(errors.NotFound):
        holdfast.get("digits", store=store)


def test_a_nondeterministic_model_is_marked_and_compared_by_shape(store, monkeypatch):
    digits = load_digits()
    model = RandomForestClassifier(5, random_state=0).fit(digits.data, digits.target)
    noise = np.random.default_rng()
    monkeypatch.setattr(
        RandomForestClassifier, "predict_proba", lambda self, X: noise.random((len(X), 10))
    )
    version = holdfast.save(model, "noisy", inputs=digits.data, store=store)
    assert "shapes only" in version.proof
    assert version.record.golden["nondeterministic"] is True
    holdfast.load("noisy", store=store)


def test_predictor_reorders_by_name_and_refuses_the_rest(store, cancer):
    model, frame = cancer
    holdfast.save(model, "cancer", inputs=frame, labels=["bad", "good"], store=store)
    predictor = holdfast.get("cancer", store=store).predictor()
    shuffled = frame[list(reversed(frame.columns))]
    assert np.array_equal(predictor.predict(shuffled), model.predict(frame))
    assert "reordered" in predictor.notes[0]
    assert predictor.named(np.array([1, 0])) == ["good", "bad"]
    with pytest.raises(errors.SignatureMismatch, match="mean radius"):
        predictor.predict(frame.drop(columns="mean radius"))
    with pytest.raises(errors.SignatureMismatch, match="without names"):
        predictor.predict(frame.to_numpy())
    with pytest.raises(errors.SignatureMismatch, match="twice"):
        predictor.predict(pd.concat([frame, frame[["mean radius"]]], axis=1))


def test_not_found_lists_near_names_and_other_stores(tmp_path, cancer):
    one = holdfast.Store.create(tmp_path / "one")
    two = holdfast.Store.create(tmp_path / "two")
    holdfast.save(cancer[0], "churn", store=one)
    with pytest.raises(errors.NotFound, match="churn"):
        holdfast.load("chrun", store=one)
    with pytest.raises(errors.NotFound, match=str(one.path)):
        holdfast.load("churn", store=two)


def test_tensors_are_read_one_at_a_time(store, cancer):
    model, frame = cancer
    version = holdfast.save(model, "cancer", inputs=frame, store=store)
    tensors = version.tensors()
    name = next(name for name in tensors if name.endswith("coef_"))
    assert np.array_equal(tensors[name], model[-1].coef_)


def test_repr_and_html_escape_what_was_stored(store, cancer):
    version = holdfast.save(cancer[0], "cancer", note="<script>alert(1)</script>", store=store)
    page = version._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "cancer@v1" in repr(version)


def test_moved_store_still_loads(tmp_path, cancer):
    store = holdfast.Store.create(tmp_path / "before")
    holdfast.save(cancer[0], "cancer", inputs=cancer[1], store=store)
    moved = Path(store.path).rename(tmp_path / "after")
    assert holdfast.load("cancer", store=moved).n_features_in_ == 30


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


def test_an_enumeration_is_kept_once_it_is_registered(store):
    with pytest.raises(errors.Unsupported, match=r"holdfast\.register\(Colour\)"):
        holdfast.save({"c": Colour.BLUE}, "colours", store=store)
    holdfast.register(Colour, name="colour")
    holdfast.save({"c": Colour.BLUE, "again": [Colour.BLUE]}, "colours", store=store)
    again = holdfast.load("colours", store=store)
    assert again["c"] is again["again"][0] is Colour.BLUE


class Bounds(NamedTuple):
    low: Any
    high: Any = 1.0


def test_a_named_tuple_is_kept_once_it_is_registered(store):
    bounds = {"all": Bounds(np.zeros(2), Bounds(1, 2))}
    with pytest.raises(errors.Unsupported):
        holdfast.save(bounds, "bounds", store=store)
    holdfast.register(Bounds)
    holdfast.save(bounds, "bounds", store=store)
    again = holdfast.load("bounds", store=store)["all"]
    assert type(again) is Bounds
    assert (again.low == 0).all()
    assert again.high == Bounds(1, 2)
    assert type(again.high) is Bounds


def test_the_library_of_the_tables_that_it_was_saved_with_is_recorded(store, cancer):
    model, X = cancer
    packages = holdfast.save(model, "frames", inputs=X, store=store).record.environment["packages"]
    assert packages["pandas"] == pd.__version__
    rows = X.to_numpy()[:40, :3]
    plain = LogisticRegression(max_iter=2000).fit(rows, rows[:, 0] > rows[:, 0].mean())
    version = holdfast.save(plain, "arrays", inputs=rows, store=store)
    assert "pandas" not in version.record.environment["packages"]
