"""A portable form answers as the model does, where the model's library is not; or there is none."""

import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import holdfast
from holdfast.api import load
from holdfast.api.housekeeping import prune
from holdfast.api.portable import is_there
from holdfast.cli.main import main
from holdfast.environment.preflight import Finding
from holdfast.errors import (
    BehaviourMismatch,
    Corrupt,
    EnvironmentMismatch,
    MissingExtra,
    Unsupported,
    UsageError,
)
from holdfast.frameworks.onnx.forms import Graph

pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(120, 4))
SIGN = np.where(ROWS[:, 0] + 0.3 * ROWS[:, 1] > 0, "yes", "no")
HELD = RNG.normal(size=(400, 4)) * 2
TABLE = pd.DataFrame(
    {
        "age": RNG.integers(20, 60, 120),
        "income": np.where(RNG.random(120) < 0.2, np.nan, RNG.normal(size=120)),
        "town": pd.Series(RNG.choice(["Oslo", "Lima", "Rome"], 120), dtype=object),
    }
)
TEXTS = [" ".join(RNG.choice(["sea", "weed", "rock", "grip", "a"], 6)) for _ in range(60)]


@pytest.fixture(name="store")
def make_store(tmp_path):
    return holdfast.Store.create(tmp_path / "store")


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, SIGN)


def mixed():
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town"]),
    )
    return make_pipeline(columns, LogisticRegression()).fit(TABLE, TABLE["age"] > 40)


def portable(version):
    return version.load(environment="portable")


def test_a_form_is_kept_with_the_error_that_was_measured(store):
    model = logistic()
    version = holdfast.save(model, "m", inputs=ROWS, store=store)
    kept = version.record.portable
    assert (kept["format"], kept["ir_version"], kept["opsets"]["ai.onnx"]) == ("onnx", 8, 17)
    assert kept["rows"] == 120
    assert {"skl2onnx", "onnxruntime", "scikit-learn"} <= kept["by"].keys()
    found = version.load_proven(environment="portable")
    assert (found.rung, found.proof) == ("portable", "replayed")
    want, have = model.predict_proba(HELD), found.model.predict_proba(HELD)
    assert (have.dtype, have.shape) == (want.dtype, want.shape)
    measured = np.abs(found.model.predict_proba(ROWS) - model.predict_proba(ROWS)).max()
    assert 0 < measured == kept["outputs"]["predict_proba"]["absolute"] < 1e-6
    assert np.abs(want - have).max() < 1e-6
    assert found.model.predict(HELD).tolist() == model.predict(HELD).tolist()
    assert found.model.predict(HELD).dtype == model.predict(HELD).dtype


def test_the_content_does_not_depend_on_the_form(store):
    model = logistic()
    versions = [
        holdfast.save(model, "m", inputs=ROWS, portable=portable, store=store)
        for portable in ("auto", "onnx", None)
    ]
    assert len({version.content_id for version in versions}) == 1
    assert versions[2].record.portable is None
    assert versions[0].record.portable == versions[1].record.portable  # the same bytes each time


def test_the_proxy_has_what_was_proven_and_says_what_it_is(store):
    version = holdfast.save(logistic(), "m", inputs=ROWS, store=store)
    model = portable(version)
    assert model.methods == ("predict_proba", "predict")
    assert repr(model).startswith("<sklearn.Pipeline of m@v1 in its portable form (onnx: predict_")
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.classes_.dtype == SIGN.dtype
    assert {"predict", "classes_", "error"} <= set(dir(model))
    with pytest.raises(AttributeError, match="no 'coef_'; it has predict_proba, predict, classes_"):
        _ = model.coef_
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(model)


def test_tables_are_fed_by_name_with_their_gaps_and_unseen_texts(store):
    model = mixed()
    version = holdfast.save(model, "m", inputs=TABLE, store=store)
    predictor = version.predictor(environment="portable")
    rows = TABLE.head(9).copy()
    rows.loc[3:5, "town"] = "Quito"
    rows.loc[:, "income"] = np.nan
    assert predictor.predict(rows[["town", "age", "income"]]).tolist() == (
        model.predict(rows).tolist()
    )
    assert predictor.notes
    gaps = np.abs(predictor.predict_proba(rows) - model.predict_proba(rows))
    assert gaps.max() < 1e-6
    with pytest.raises(UsageError, match="lacks the columns"):
        portable(version).predict(rows[["age", "town"]])


def test_gaps_that_the_model_refuses_are_refused(store):
    model = portable(holdfast.save(logistic(), "m", inputs=ROWS, store=store))
    for rows, why in (
        (np.full((2, 4), np.nan), "missing values"),
        (np.full((2, 4), 1e300), "float32 does not hold"),
        (np.full((2, 4), np.inf), "float32 does not hold"),
        (ROWS[:, :3], "rows of 4"),
        (np.array([["a"] * 4]), "not numbers"),
        ([[1.0, 2.0], [3.0]], "one length"),
    ):
        with pytest.raises(UsageError, match=why):
            model.predict(rows)


def test_text_pipelines_tokenise_as_scikit_learn_does(store):
    words = [*TEXTS, "naïve café", "Äpfel und Öl", "日本語 テキスト"]
    labels = ["sea" in text for text in words]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression())
    model.fit(words, labels)
    version = holdfast.save(model, "m", inputs=words, store=store)
    answers = portable(version)
    odd = ["SEA É", "", "sea-weed", "sea a weed", "ÄPFEL und öl", "日本語", "sea\nweed", "grips"]
    assert np.abs(answers.predict_proba(odd) - model.predict_proba(odd)).max() < 1e-6
    assert answers.predict(odd).tolist() == model.predict(odd).tolist()
    with pytest.raises(UsageError, match="missing values"):
        answers.predict(["sea", None])
    assert b"C.UTF-8" in bytes(store.blobs.read(version.record.portable["blob"]))


def test_thresholds_and_labels_work_through_it(store):
    model = LogisticRegression().fit(ROWS, SIGN)
    version = holdfast.save(
        model, "m", inputs=ROWS, threshold=0.2, labels=["nay", "aye"], store=store
    )
    here, there = version.predictor(), version.predictor(environment="portable")
    assert here.predict(HELD).tolist() == there.predict(HELD).tolist()
    assert here.predict(HELD).tolist() != model.predict(HELD).tolist()
    assert there.named(there.predict(HELD)) == here.named(here.predict(HELD))


@pytest.mark.parametrize(
    ("model", "rows", "target"),
    [
        (HistGradientBoostingClassifier(max_iter=9), ROWS, SIGN),
        (RandomForestClassifier(9), ROWS, SIGN == "yes"),
        (KNeighborsClassifier(3), ROWS, SIGN),
        (Ridge(), ROWS, ROWS[:, :2]),
        (StandardScaler(), ROWS, None),
        (make_pipeline(OrdinalEncoder(), Ridge()), np.floor(ROWS * 2).astype(int), ROWS[:, 0]),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_estimators_of_many_kinds_answer_as_they_do(model, rows, target, store):
    model.fit(rows, target)
    version = holdfast.save(model, "m", inputs=rows, portable="auto", store=store)
    if "blob" not in version.record.portable:
        assert type(model[0]) is OrdinalEncoder  # it refuses unseen numbers, its graph does not
        return
    answers = portable(version)
    for method in answers.methods:
        want, have = getattr(model, method)(HELD), getattr(answers, method)(HELD)
        assert (want.dtype, want.shape) == (have.dtype, have.shape)
        same = np.allclose(want, have, atol=1e-5) if want.dtype.kind == "f" else want == have
        assert np.all(same)


def test_a_model_that_does_not_load_here_answers_by_its_form(store, monkeypatch, caplog):
    model = logistic()
    version = holdfast.save(model, "m", inputs=ROWS, store=store)

    def absent(*_, **__):
        raise MissingExtra("no scikit-learn here", hint="pip")

    monkeypatch.setattr("holdfast.api.load.load_model", absent)
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        found = version.load_proven()
    assert found.rung == "portable"
    assert "its portable form answers" in caplog.text
    assert "no scikit-learn here" in caplog.text
    assert holdfast.predict("m", HELD, store=store).tolist() == model.predict(HELD).tolist()
    with pytest.raises(MissingExtra):
        version.load(environment="here")
    plain = holdfast.save(model, "plain", inputs=ROWS, portable=None, store=store)
    with pytest.raises(MissingExtra, match="no scikit-learn here"):
        plain.load()
    with pytest.raises(MissingExtra):  # only the model itself can take what was asked
        version.load(into=object())


def test_a_refused_replay_falls_to_the_form_and_a_form_that_is_wrong_is_refused(store, monkeypatch):
    version = holdfast.save(logistic(), "m", inputs=ROWS, store=store)

    def differs(*_, **__):
        raise BehaviourMismatch("REFUSED: it differs")

    monkeypatch.setattr("holdfast.api.load.load_model", differs)
    with pytest.raises(BehaviourMismatch, match="it differs"):  # its own libraries: damage
        version.load()
    monkeypatch.setattr("holdfast.api.worker.differs", lambda _: True)
    monkeypatch.setattr("holdfast.api.worker.would_help", lambda *_: False)
    assert version.load_proven().rung == "portable"
    real = Graph.answer
    monkeypatch.setattr(
        "holdfast.api.portable.Graph.answer",
        lambda self, method, rows: real(self, method, rows) + 1e-5,
    )
    with pytest.raises(BehaviourMismatch, match="it differs Its portable form does not help"):
        version.load()
    with pytest.raises(BehaviourMismatch, match="portable form of m@v1 answers 64 of 64 golden"):
        version.load(environment="portable")
    assert version.load_proven(environment="portable", replay="never").proof == "unproved"


def test_what_cannot_be_converted_is_kept_without_and_says_why_in_a_sentence(store):
    model = GaussianProcessClassifier().fit(ROWS[:20], np.arange(20) % 3)
    version = holdfast.save(model, "m", inputs=ROWS, store=store)
    reason = version.record.portable["reason"]
    assert len(reason) < 300
    assert "\n" not in reason
    assert f"none: {reason}" in str(version)
    with pytest.raises(EnvironmentMismatch, match="has no portable form: "):
        portable(version)
    with pytest.raises(Unsupported, match="Nothing became visible"):
        holdfast.save(model, "m", inputs=ROWS, portable="onnx", store=store)
    with pytest.raises(UsageError, match=r"'auto', 'onnx', 'torch\.export' or None"):
        holdfast.save(model, "m", inputs=ROWS, portable="pmml", store=store)
    with pytest.raises(Unsupported, match="this is python"):
        holdfast.save({"a": 1}, "m", portable="onnx", store=store)
    assert len(holdfast.versions("m", store=store)) == 1


def test_large_models_are_left_alone_unless_asked(store, monkeypatch):
    monkeypatch.setattr("holdfast.frameworks.sklearn.portable._MOST_NODES", 50)
    model = RandomForestClassifier(9).fit(ROWS, SIGN)
    version = holdfast.save(model, "m", inputs=ROWS, store=store)
    assert "tree nodes would take long" in version.record.portable["reason"]
    version = holdfast.save(model, "m", inputs=ROWS, portable="onnx", store=store)
    assert portable(version).predict(HELD).tolist() == model.predict(HELD).tolist()


def test_without_a_golden_set_nothing_proves_a_form(store):
    version = holdfast.save(logistic(), "m", inputs=ROWS, golden=None, store=store)
    assert "golden set" in version.record.portable["reason"]
    made_up = holdfast.save(logistic(), "m", golden="synthetic", store=store)
    found = made_up.load_proven(environment="portable")
    assert found.proof == "replayed on synthetic inputs"


@pytest.mark.parametrize("fault", ["labels", "numbers", "far", "unseen", "gaps"])
def test_a_graph_that_answers_otherwise_is_not_kept(fault, store, monkeypatch):
    """What a converter gets wrong: each is found though most rows would not show it."""
    real = Graph.outputs

    def wrong(self, rows):
        found = real(self, rows)
        values = found.get("probabilities", found.get("variable"))
        far = rows.select_dtypes("number").abs().max().max() > 60
        unseen = (~rows["town"].isin(["Oslo", "Lima", "Rome"])).any()
        if fault == "labels":
            found["label"] = found["label"][::-1]
        if fault == "numbers" or (fault == "far" and far) or (fault == "unseen" and unseen):
            values += 2e-4
        if fault == "gaps":
            values[rows["income"].isna().to_numpy()] += 2e-4
        return found

    monkeypatch.setattr("holdfast.frameworks.onnx.forms.Graph.outputs", wrong)
    version = holdfast.save(mixed(), "m", inputs=TABLE, store=store)
    assert "graph" in version.record.portable["reason"]


def test_where_the_model_refuses_a_form_may_not_answer(store):
    encoder = make_column_transformer((OrdinalEncoder(), ["town"]))
    model = make_pipeline(encoder, Ridge()).fit(TABLE, TABLE["age"])
    version = holdfast.save(model, "m", inputs=TABLE, store=store)
    assert "never saw in 'town', which the model refuses" in version.record.portable["reason"]
    counts = np.floor(np.abs(ROWS) * 4)
    bayes = MultinomialNB().fit(counts, SIGN)
    answers = holdfast.save(bayes, "bayes", inputs=counts, store=store)
    if "blob" in answers.record.portable:
        assert portable(answers).predict(counts).tolist() == bayes.predict(counts).tolist()


def test_a_kept_form_is_exported_and_one_is_made_where_there_is_none(store, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = logistic()
    version = holdfast.save(model, "m", inputs=ROWS, store=store)
    plain = holdfast.save(model, "plain", inputs=ROWS, portable=None, store=store)
    paths = [
        holdfast.export(each.ref, tmp_path / f"{each.name}.onnx", store=store)
        for each in (version, plain)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    onnx.checker.check_model(paths[0])
    again = holdfast.convert(paths[0], "graph", store=store)
    assert again.content.framework == "onnx"
    refused = GaussianProcessClassifier().fit(ROWS[:20], np.arange(20) % 3)
    holdfast.save(refused, "none", inputs=ROWS, store=store)
    with pytest.raises(Unsupported, match="cannot be exported as onnx"):
        holdfast.export("none", tmp_path / "none.onnx", store=store)
    assert not (tmp_path / "none.onnx").exists()


def test_its_blob_is_verified_counted_and_kept_by_prune(store):
    version = holdfast.save(logistic(), "m", inputs=ROWS, store=store)
    digest = version.record.portable["blob"]
    assert prune(grace=0, store=store).blobs == 0
    assert store.blobs.has(digest)
    path = store.path / "blobs" / "sha256" / digest[7:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupt):
        holdfast.verify("m", store=store)
    with pytest.raises(Corrupt):
        portable(version)
    assert version.load_proven(environment="here").rung == "native"
    path.unlink()
    with pytest.raises(Corrupt, match="portable form"):
        portable(version)


def test_preflight_names_the_form(store, monkeypatch, capsys):
    holdfast.save(logistic(), "m", inputs=ROWS, store=store)
    lacking = "holdfast.environment.preflight.libraries"
    finding = Finding("blocks", "scikit-learn is not installed", "pip")
    monkeypatch.setattr(lacking, lambda _: [finding])
    assert holdfast.preflight("m", store=store).verdict == "cannot"  # the libraries are its own
    monkeypatch.setattr("holdfast.api.worker.differs", lambda _: True)
    assert holdfast.preflight("m", store=store).verdict == "loads portable"
    with pytest.raises(SystemExit, match="0"):
        main(["preflight", "m", "--store", str(store.path)])
    assert "--environment portable" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert holdfast.preflight("m", store=store).verdict != "loads portable"


def test_it_answers_in_a_process_without_scikit_learn_onnx_and_scipy(store, tmp_path):
    model = logistic()
    holdfast.save(model, "m", inputs=ROWS, store=store)
    np.save(tmp_path / "rows.npy", HELD)
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sklearn", "onnx", "scipy", "skl2onnx", "joblib"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import json, numpy, holdfast
predictor = holdfast.get("m", store={str(store.path)!r}).predictor()
rows = numpy.load({str(tmp_path / "rows.npy")!r})
print(json.dumps([predictor.predict(rows).tolist(), type(predictor.model).__name__]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    answers, kind = json.loads(done.stdout)
    assert kind == "PortableModel"
    assert answers == model.predict(HELD).tolist()
    assert "its portable form answers" in done.stderr


def test_the_command_line_predicts_through_it(store, tmp_path, capsys):
    table = pd.DataFrame(ROWS, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, SIGN)
    holdfast.save(model, "m", inputs=table, store=store)
    table[list("dcba")].to_csv(tmp_path / "rows.csv", index=False)
    words = ["predict", "m", str(tmp_path / "rows.csv"), "--environment", "portable", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--store", str(store.path)])
    assert json.loads(capsys.readouterr().out)["predictions"] == model.predict(table).tolist()


def test_loads_check_what_was_asked(store):
    version = holdfast.save(logistic(), "m", inputs=ROWS, store=store)
    with pytest.raises(UsageError, match="runs a graph"):
        version.load(environment="portable", into=object())
    with pytest.raises(UsageError, match="replay='perhaps' is not known"):
        version.load(environment="portable", replay="perhaps")
    with pytest.raises(UsageError, match="'portable' or 'recorded'"):
        version.load(environment="onnx")
    assert not is_there(version, load.options(None, "cuda:0", None))


def test_what_a_sandbox_left_chooses_no_other_way_to_be_loaded(tmp_path, monkeypatch):
    """A record of its making may claim other libraries and bring a form; both are a stranger's."""
    from holdfast.api import sandboxing
    from holdfast.environment.sandbox import Outcome

    def left(_, *, folder, **__):
        holdfast.save(logistic(), sandboxing.boxed.NAME, inputs=ROWS, store=folder / "store")
        return Outcome(result={"type": "m"}, ended="done", output="", by=None)

    def absent(*_, **__):
        raise MissingExtra("it does not load here", hint="pip")

    monkeypatch.setattr(sandboxing.boxed, "STORE", "store")
    monkeypatch.setattr(sandboxing.sandbox, "run", left)
    monkeypatch.setattr("holdfast.api.load.load_model", absent)
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(print))
    with (
        pytest.raises(MissingExtra, match="does not load here"),
        sandboxing.opened_in_sandbox(path, holdfast.scan(path), {}),
    ):
        pass


def test_convert_takes_the_choice_of_a_form(store, tmp_path, capsys):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(LogisticRegression().fit(ROWS, SIGN)))
    for choice, kept in (("none", False), ("onnx", True), ("auto", True)):
        words = ["convert", str(tmp_path / "m.pkl"), "--portable", choice]
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--store", str(store.path)])
        form = holdfast.get("m", store=store).record.portable
        assert (form is not None and "blob" in form) is kept
    assert "m@v3" in capsys.readouterr().out


def test_a_gap_among_texts_is_that_which_was_proven_and_no_other(store):
    table = TABLE.assign(town=TABLE["town"].where(TABLE["age"] > 30, None).astype(object))
    table = table.assign(when=pd.Timestamp("2026-03-01"))  # no part of the model, and never fed
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["town"]))
    model = make_pipeline(columns, LogisticRegression()).fit(table, table["age"] > 40)
    answers = portable(holdfast.save(model, "m", inputs=table, store=store))
    assert np.abs(answers.predict_proba(table) - model.predict_proba(table)).max() < 1e-6
    assert table["town"].isna().any()
    for wrong in (np.nan, "None"):
        with pytest.raises(UsageError, match=r"missing value"):
            answers.predict(table.assign(town=pd.Series([wrong] * 120, dtype=object)))


def test_numbers_that_float32_blurs_inside_the_graph_are_no_form(store):
    """Whole numbers go in exactly and are floats where they meet others."""
    codes = RNG.integers(10**8, 10**8 + 5, 120)
    table = pd.DataFrame({"code": codes, "x": ROWS[:, 0], "town": TABLE["town"]})
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["town"]), remainder="passthrough"
    )
    model = make_pipeline(columns, HistGradientBoostingClassifier(min_samples_leaf=3))
    model.fit(table, codes % 2 == 0)
    version = holdfast.save(model, "m", inputs=table, store=store)
    assert "reason" in version.record.portable
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["code", "town"]))
    exact = make_pipeline(encoder, LogisticRegression()).fit(table, codes % 2 == 0)
    answers = portable(holdfast.save(exact, "exact", inputs=table, store=store))
    others = table.assign(code=codes + 1)
    assert answers.predict(others).tolist() == exact.predict(others).tolist()
