"""Predicting through a version: inputs checked, every output method, the stored threshold."""

import contextlib
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import holdfast
from holdfast import errors, frameworks
from holdfast.api.predictor import Predictor
from holdfast.api.threshold import refuse_unusable
from holdfast.archive import golden as goldens
from holdfast.record import Content, Structure


@pytest.fixture(name="store")
def make_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


@pytest.fixture(scope="module", name="cancer")
def train_cancer():
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(frame, np.where(target, "good", "bad")), frame


@pytest.fixture(scope="module", name="mixed")
def train_mixed():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 80),
            "plan": pd.Categorical(rng.choice(["pro", "basic"], 80), ["pro", "plus", "basic"]),
            "city": rng.choice(["Oslo", "Rome"], 80),
        }
    )
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("one", encoder, ["plan", "city"])], remainder="passthrough")
    model = make_pipeline(columns, RandomForestClassifier(5, random_state=0))
    return model.fit(frame, frame["plan"] == "pro"), frame


MAKERS = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "arrow": pa.Table.from_pandas,
    "batch": lambda frame: pa.Table.from_pandas(frame).to_batches()[0],
}


@pytest.mark.parametrize("saved", MAKERS.values(), ids=MAKERS)
def test_every_library_saves_and_predicts_the_same(store, mixed, saved):
    model, frame = mixed
    version = holdfast.save(model, "mixed", inputs=saved(frame), store=store)
    assert version.proof == "replayed"
    signature = version.content.signature
    assert [c["name"] for c in signature["inputs"]["columns"]] == ["age", "plan", "city"]
    assert {"pro", "basic"} <= set(signature["inputs"]["columns"][1]["categories"])
    assert signature["classes"] == [False, True]
    predictor = version.predictor()
    for make in MAKERS.values():
        given = make(frame[["city", "age", "plan"]])
        assert np.array_equal(predictor.predict_proba(given), model.predict_proba(frame))
        assert predictor.notes == ("Columns reordered to match training (3 moved).",)
    given = pl.DataFrame({"plan": ["basic"], "city": ["Paris"], "age": [40]})
    assert predictor.predict(given).tolist() == [False]
    with pytest.raises(errors.SignatureMismatch, match="missing 'city'"):
        predictor.predict(given.drop("city"))


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "dia", "bsr", "lil", "dok"])
def test_sparse_rows_of_every_format(store, kind):
    rng = np.random.default_rng(0)
    rows = sparse.random(80, 6, 0.3, random_state=rng).asformat(kind)
    model = LogisticRegression().fit(rows, np.arange(80) % 2)
    version = holdfast.save(model, "sparse", inputs=rows, store=store)
    assert version.proof == "replayed"
    assert version.record.golden["rows"] == 64
    assert version.content.signature["inputs"]["sparse"] == kind
    predictor = version.predictor()
    assert np.array_equal(predictor.predict(rows), model.predict(rows))
    assert np.array_equal(predictor.predict(rows.toarray()), model.predict(rows))


@holdfast.register
class Letters:
    """Counts a letter in each text."""

    def predict(self, texts):
        return np.array([str(text).count("a") for text in texts])


TEXTS = ["banana", "", "tree", "a"] * 20


@pytest.mark.parametrize(
    "rows",
    [
        TEXTS,
        np.array(TEXTS),
        np.array(TEXTS, object),
        pd.Series(TEXTS, index=np.arange(80) + 0.5),
        pd.Series(TEXTS, dtype=object),
        pl.Series(TEXTS),
        pa.chunked_array([TEXTS]),
    ],
    ids=["list", "array", "objects", "series", "object series", "polars", "arrow"],
)
def test_texts_of_every_kind(store, rows):
    version = holdfast.save(Letters(), "letters", inputs=rows, store=store)
    assert version.proof == "replayed"
    assert version.record.golden["rows"] == 64
    predictor = version.predictor()
    for given in (TEXTS, np.array(TEXTS, object), pd.Series(TEXTS), pl.Series(TEXTS)):
        assert predictor.predict(given).tolist() == [3, 0, 0, 1] * 20
    for wrong in (pd.DataFrame({"t": TEXTS}), "banana", [1, 2], np.zeros((2, 2))):
        with pytest.raises(errors.SignatureMismatch):
            predictor.predict(wrong)


def test_missing_texts_answer_the_same_from_every_library(store):
    frame = pd.DataFrame({"c": pd.Series(["a", None, "b"] * 4, dtype=object)})
    model = OneHotEncoder(handle_unknown="ignore").fit(frame)
    predictor = holdfast.save(model, "enc", inputs=frame, store=store).predictor()
    expected = model.transform(frame).toarray()
    for make in MAKERS.values():
        assert np.array_equal(predictor.transform(make(frame)).toarray(), expected)


def test_unseen_categories_leave_the_known_codes_right(store):
    frame = pd.DataFrame({"plan": pd.Categorical(["pro", "basic"] * 9, ["pro", "basic"])})
    model = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(frame)
    predictor = holdfast.save(model, "plans", inputs=frame, store=store).predictor()
    answers = predictor.transform(pl.DataFrame({"plan": ["gold", "pro", "basic"]}))
    assert answers.ravel().tolist() == [-1, *model.transform(frame[:2]).ravel()]
    assert predictor.notes == ("Not among the categories of 'plan' at save: 'gold'.",)


# --- saved with an array, fitted on a frame


def test_an_array_of_a_model_with_names_puts_frames_in_order(store, cancer):
    model, frame = cancer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the model misses its names
        predictor = holdfast.save(model, "c", inputs=frame.to_numpy(), store=store).predictor()
        answers = predictor.predict(frame[frame.columns[::-1]])
    assert np.array_equal(answers, model.predict(frame))
    assert predictor.notes == ("Columns reordered to match training (30 moved).",)


def test_a_frame_for_a_model_without_names_is_told(store, cancer):
    values = cancer[1].to_numpy()
    model = LogisticRegression(max_iter=9000).fit(values, cancer[0].predict(cancer[1]))
    predictor = holdfast.save(model, "c", inputs=values, store=store).predictor()
    assert np.array_equal(predictor.predict(cancer[1]), model.predict(values))
    assert "names were not checked" in predictor.notes[0]
    predictor.predict(values)
    assert predictor.notes == ()
    with pytest.raises(errors.SignatureMismatch, match="shape"):
        predictor.predict(cancer[1].iloc[:, :3])


# --- every output method


def test_every_output_method_goes_through_the_same_check(store, cancer):
    model, frame = cancer
    predictor = holdfast.save(model, "c", inputs=frame, store=store).predictor()
    backwards = pl.from_pandas(frame[frame.columns[::-1]])
    for method in ("predict", "predict_proba", "decision_function"):
        answers = getattr(predictor, method)(backwards)
        expected = getattr(model, method)(frame)
        if answers.dtype.kind == "f":  # sums depend on how the rows lie in memory
            assert np.allclose(answers, expected, rtol=1e-12, atol=1e-15)
        else:
            assert np.array_equal(answers, expected)
        with pytest.raises(errors.SignatureMismatch, match="without names"):
            getattr(predictor, method)(frame.to_numpy())
    with pytest.raises(errors.Unsupported, match=r"has no transform\(\); it has predict_proba"):
        predictor.transform(frame)
    scaler = holdfast.save(model[0], "scaler", inputs=frame, store=store).predictor()
    assert np.array_equal(scaler.transform(backwards), model[0].transform(frame))
    assert np.array_equal(scaler.predict(backwards), model[0].transform(frame))
    with pytest.raises(errors.Unsupported, match=r"no predict_proba\(\)"):
        scaler.predict_proba(frame)


# --- the threshold


def test_the_threshold_decides_and_is_told(store, cancer):
    model, frame = cancer
    labels = ["Malignant", "Benign"]
    version = holdfast.save(
        model, "c", inputs=frame, labels=labels, threshold=np.float64(0.97), store=store
    )
    expected = np.where(model.predict_proba(frame)[:, 1] >= 0.97, "good", "bad")
    assert (expected != model.predict(frame)).any()
    predictor = version.predictor()
    answers = predictor.predict(pl.from_pandas(frame))
    assert answers.dtype == model.classes_.dtype
    assert np.array_equal(answers, expected)
    assert np.array_equal(holdfast.predict("c", frame, store=store), expected)
    assert set(predictor.named(answers)) == set(labels)
    assert np.array_equal(predictor.predict_proba(frame), model.predict_proba(frame))
    assert repr(predictor) == "Predictor(c@v1, predict_proba >= 0.97)"
    assert "Benign where its probability is at least 0.97" in str(version)
    assert version.content.signature["threshold"] == 0.97
    loaded = holdfast.load("c", store=store)
    assert type(loaded) is type(model)
    assert np.array_equal(loaded.predict(frame), model.predict(frame))


def test_the_threshold_itself_counts_and_another_one_is_another_version(store):
    rows = np.repeat([[0.0], [1.0]], 20, axis=0)
    model = RandomForestClassifier(1, bootstrap=False).fit(rows, [0, 0, 0, 1] * 10)
    (share,) = set(model.predict_proba(rows)[:, 1])
    first = holdfast.save(model, "m", inputs=rows, threshold=float(share), store=store)
    assert first.predictor().predict(rows).tolist() == [1] * 40
    above = float(np.nextafter(share, 1))
    second = holdfast.save(model, "m", inputs=rows, threshold=above, store=store)
    assert second.predictor().predict(rows).tolist() == [0] * 40
    assert second.content_id != first.content_id
    assert "threshold" in str(holdfast.diff("m@v1", "m@v2", store=store))


@pytest.mark.parametrize("threshold", [0, 1, 1.0, -0.1, "0.3", True, float("nan"), [0.3]], ids=repr)
def test_a_threshold_is_a_probability(store, cancer, threshold):
    with pytest.raises(errors.UsageError, match="between 0 and 1"):
        holdfast.save(cancer[0], "c", inputs=cancer[1], threshold=threshold, store=store)


UNFIT = {
    "three classes": (
        lambda x, y: RandomForestClassifier(2).fit(x, np.arange(len(y)) % 3),
        "its classes_ are not two",
    ),
    "many outputs": (
        lambda x, y: RandomForestClassifier(2).fit(x, np.c_[y, y]),
        "its classes_ are not two",
    ),
    "regressor": (lambda x, y: LinearRegression().fit(x, y), "no predict_proba"),
    "arrays": (lambda x, y: {"w": np.ones(2)}, "no predict_proba"),
}


@pytest.mark.parametrize(("train", "why"), UNFIT.values(), ids=UNFIT)
def test_a_threshold_needs_two_classes_with_probabilities(store, cancer, train, why):
    model = train(cancer[1], cancer[0].predict(cancer[1]) == "good")
    with pytest.raises(errors.UsageError, match=why):
        holdfast.save(model, "m", inputs=cancer[1], threshold=0.3, store=store)
    assert list((store.path / "log").iterdir()) == []


@pytest.mark.parametrize(("width", "fits"), [(None, True), (2, False)])
def test_two_labels_that_may_both_hold_are_not_two_classes(width, fits):
    def call(method, rows):
        shape = (len(rows), 2) if method == "predict_proba" else (len(rows), width)
        return np.ones(shape if shape[1] else len(rows))

    behaviour = goldens.Behaviour(
        ("predict_proba", "predict"), call, contextlib.nullcontext, lambda rows, seed: None
    )
    captured = goldens.capture(behaviour, np.zeros((9, 2)), frameworks.registry(), mode="inputs")
    model = SimpleNamespace(classes_=np.array([0, 1]))
    refuse_unusable(model, behaviour, None)
    with contextlib.nullcontext() if fits else pytest.raises(errors.UsageError, match="several"):
        refuse_unusable(model, behaviour, captured)


@pytest.mark.parametrize("threshold", [2.0, "0.3", 0, True, -0.5])
def test_a_forged_threshold_is_damage(cancer, threshold):
    content = Content(
        framework="sklearn",
        structure=Structure(nodes=(("none",),)),
        signature={"threshold": threshold},
    )
    with pytest.raises(errors.Corrupt, match="threshold"):
        Predictor(cancer[0], content, "c@v1")


def test_a_threshold_of_another_model_is_damage(cancer):
    model = RandomForestClassifier(2).fit(cancer[1], np.arange(len(cancer[1])) % 3)
    content = Content(
        framework="sklearn",
        structure=Structure(nodes=(("none",),)),
        signature={"threshold": 0.5},
    )
    with pytest.raises(errors.Corrupt, match="not a classifier of two"):
        Predictor(model, content, "c@v1").predict(cancer[1])
