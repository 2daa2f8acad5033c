"""Steps between scikit-learn releases: the table, the ways there and back, what is refused."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from packaging.version import Version
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast import frameworks
from holdfast.errors import BehaviourMismatch, Corrupt, EnvironmentMismatch
from holdfast.frameworks.sklearn.migrations import MIGRATIONS

ROOT = Path(__file__).parent.parent.parent
HERE = version("scikit-learn")


def step(type_, since):
    (found,) = (m for m in MIGRATIONS if type_ in m.types and m.since == since)
    return found


def test_every_step_is_of_types_that_the_registry_knows_and_says_why():
    known = frameworks.registry().by_id
    for each in MIGRATIONS:
        assert set(each.types) <= known.keys(), each
        assert Version("1.2") < Version(each.since) <= Version("1.9")
        assert each.change.endswith(".")
        assert each.harm.endswith(".")
        assert any((each.forward, each.backward, each.build, each.restore))


def test_the_table_of_the_documentation_is_the_code_s():
    words = [sys.executable, ROOT / "tools" / "migrations_table.py"]
    table = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert table in (ROOT / "docs" / "migrations.md").read_text("utf-8")


@pytest.mark.parametrize("written", [None, {}, {"scikit-learn": HERE}, {"numpy": "1.24.3"}])
def test_nothing_is_done_for_states_of_the_installed_release(written):
    assert frameworks.registry(written) is frameworks.registry()


@pytest.mark.parametrize(
    "said", [5, None, "", "not a version", "1." * 200, ["1.2"], "99999999999999999999.1"]
)
def test_a_record_that_says_nonsense_of_its_scikit_learn(said):
    assert frameworks.registry({"scikit-learn": said}).by_id.keys() >= {"sklearn.SVC"}


def test_leaves_of_counts_become_fractions_and_return():
    counts = np.array([[[6.0, 2.0]], [[0.0, 2.0]], [[6.0, 0.0]]])
    fields = {
        "values": counts,
        "n_classes": np.array([2]),
        "weighted_n_node_samples": np.array([8.0, 2.0, 6.0]),
    }
    leaves = step("sklearn.Tree", "1.4")
    leaves.forward(fields)
    assert fields["values"].tolist() == [[[0.75, 0.25]], [[0.0, 1.0]], [[1.0, 0.0]]]
    leaves.backward(fields)
    assert (fields["values"] == counts).all()


def test_leaves_of_regression_trees_stay():
    fields = {"values": np.array([[[3.0]]]), "n_classes": np.array([1])}
    step("sklearn.Tree", "1.4").forward(fields)
    assert fields["values"].tolist() == [[[3.0]]]


def test_frequencies_leave_their_diagonal_and_return():
    fields = {"_idf_diag": sparse.diags([1.5, 2.5], format="csr")}
    idf = step("sklearn.TfidfTransformer", "1.5")
    idf.forward(fields)
    assert fields["idf_"].tolist() == [1.5, 2.5]
    idf.backward(fields)
    assert fields.keys() == {"_idf_diag"}
    assert fields["_idf_diag"].toarray().tolist() == [[1.5, 0.0], [0.0, 2.5]]


def test_a_parameter_that_was_renamed_keeps_what_was_given():
    rename = step("sklearn.BayesianRidge", "1.3").forward
    for fields, want in (
        ({"n_iter": 7}, {"max_iter": 7}),
        ({"n_iter": "deprecated", "max_iter": 9}, {"max_iter": 9}),
        ({"n_iter": 7, "max_iter": None}, {"max_iter": 7}),
        ({}, {}),
    ):
        rename(fields)
        assert fields == want


@pytest.mark.parametrize(
    ("type_", "since", "fields"),
    [
        (
            "sklearn.LogisticRegression",
            "1.6",
            {"classes_": [0, 1, 2], "multi_class": "auto", "solver": "newton-cholesky"},
        ),
        (
            "sklearn.LogisticRegression",
            "1.8",
            {"classes_": [0, 1, 2], "multi_class": "ovr", "solver": "lbfgs"},
        ),
        (
            "sklearn.LogisticRegression",
            "1.8",
            {"classes_": [0, 1, 2], "multi_class": "auto", "solver": "liblinear"},
        ),
        ("sklearn.AdaBoostClassifier", "1.6", {"algorithm": "SAMME.R", "estimators_": []}),
    ],
)
def test_what_no_later_release_can_be_is_refused_even_without_a_golden_set(type_, since, fields):
    steps = [m for m in MIGRATIONS if type_ in m.types and m.since == since and m.forward]
    with pytest.raises(EnvironmentMismatch, match="cannot be"):
        taken(steps, fields)


def taken(steps, fields):
    for each in steps:
        each.forward(dict(fields))


def test_models_of_two_classes_are_no_case_of_it():
    fields = {"classes_": [0, 1], "multi_class": "auto", "solver": "liblinear", "l1_ratio": 0.0}
    steps = [m for m in MIGRATIONS if "sklearn.LogisticRegression" in m.types and m.forward]
    assert len(steps) >= 2
    taken(steps, fields)


def claim(monkeypatch, release):
    """Let a save say that another scikit-learn wrote the state."""
    from holdfast.environment import capture

    real = capture.capture

    def pretended(requires):
        facts = real(requires)
        return {**facts, "packages": {**facts["packages"], "scikit-learn": release}}

    monkeypatch.setattr("holdfast.api.save.capture.capture", pretended)


def test_a_load_says_by_which_rung_it_came(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = LogisticRegression().fit(X, X[:, 0] > 0)
    store = holdfast.Store.create(tmp_path / "store")
    native = holdfast.save(model, "native", inputs=X, store=store)
    assert native.load_proven().rung == "native"
    claim(monkeypatch, "1.5.2")
    old = holdfast.save(model, "old", inputs=X, store=store)
    monkeypatch.undo()
    loaded = old.load_proven(replay="always")
    assert (loaded.rung, loaded.proof) == ("migrated", "replayed")
    tree = holdfast.save({"weights": X}, "plain", store=store)
    assert tree.load_proven().rung == "native"


def test_a_state_that_lies_about_its_release_is_refused_by_the_replay(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = RandomForestClassifier(3, random_state=0).fit(X, X[:, 0] > 0)
    store = holdfast.Store.create(tmp_path / "store")
    claim(monkeypatch, "1.99")  # a later release: its leaves are taken for fractions, as here
    kept = holdfast.save(model, "forest", inputs=X, store=store)
    monkeypatch.undo()
    assert kept.load_proven(replay="always").proof == "replayed"


def test_fields_that_a_step_cannot_use_are_a_damaged_file(tmp_path, monkeypatch):
    from sklearn.feature_extraction.text import TfidfTransformer

    store = holdfast.Store.create(tmp_path / "store")
    model = TfidfTransformer().fit(sparse.csr_matrix(np.eye(3)))
    model._idf_diag = 5
    claim(monkeypatch, "1.4.2")
    kept = holdfast.save(model, "text", store=store)
    monkeypatch.undo()
    with pytest.raises(Corrupt, match="cannot be built"):
        kept.load()


def test_a_model_whose_methods_cannot_be_asked_for_is_refused(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = LogisticRegression().fit(X, X[:, 0] > 0)
    kept = holdfast.save(model, "m", inputs=X, store=holdfast.Store.create(tmp_path / "store"))

    def broken(estimator):
        raise AttributeError("no tags")

    adapter = frameworks.adapter_named("sklearn")
    monkeypatch.setattr(adapter, "methods", broken)
    with pytest.raises(BehaviourMismatch, match="cannot be replayed: asking for its output"):
        kept.load(replay="always")
    monkeypatch.setattr(adapter, "methods", lambda _: ("transform",))
    with pytest.raises(BehaviourMismatch, match="no output method 'predict_proba'"):
        kept.load(replay="always")
