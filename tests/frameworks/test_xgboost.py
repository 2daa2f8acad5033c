"""XGBoost: native bytes judged before they are read, wrappers whole."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest

xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")

import holdfast  # noqa: E402
from holdfast.errors import (  # noqa: E402
    Corrupt,
    EnvironmentMismatch,
    HoldfastError,
    Unsupported,
)
from holdfast.frameworks import xgboost as adapter  # noqa: E402
from holdfast.frameworks.xgboost import boosters  # noqa: E402
from holdfast.frameworks.xgboost.judge import judge_json, judge_ubj  # noqa: E402
from holdfast.frameworks.xgboost.ubj import read_ubj  # noqa: E402
from holdfast.testing.adapters import AdapterConformance  # noqa: E402

ROWS = 200


def frame():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=list("abcd"))
    X["c"] = pd.Categorical(rng.choice(["x", "y", "z"], ROWS))
    return X


def plain():
    return np.random.default_rng(1).normal(size=(ROWS, 4))


def target(kinds=2):
    return (np.arange(ROWS) * 7) % kinds


def grouped(model):
    return model.fit(plain(), target(4), qid=np.arange(ROWS) // 20)


MODELS = {
    "classifier": lambda: (xgboost.XGBClassifier(n_estimators=5).fit(plain(), target()), plain()),
    "three classes": lambda: (
        xgboost.XGBClassifier(n_estimators=4, learning_rate=0.2).fit(plain(), target(3)),
        plain(),
    ),
    "categories": lambda: (
        xgboost.XGBClassifier(
            n_estimators=5,
            enable_categorical=True,
            max_cat_to_onehot=1,
            max_depth=3,
            tree_method="hist",
        ).fit(frame(), (frame()["c"] == "y").astype(int)),
        frame(),
    ),
    "named columns": lambda: (
        xgboost.XGBRegressor(n_estimators=5).fit(frame()[["a", "b"]], target()),
        frame()[["a", "b"]],
    ),
    "early stopping": lambda: (
        xgboost.XGBClassifier(n_estimators=20, early_stopping_rounds=2).fit(
            plain(), target(), eval_set=[(plain(), target())], verbose=False
        ),
        plain(),
    ),
    "many outputs": lambda: (
        xgboost.XGBRegressor(n_estimators=3).fit(plain(), plain()[:, :2]),
        plain(),
    ),
    "vector leaves": lambda: (
        xgboost.XGBRegressor(n_estimators=3, multi_strategy="multi_output_tree").fit(
            plain(), plain()[:, :2]
        ),
        plain(),
    ),
    "linear": lambda: (
        xgboost.XGBRegressor(n_estimators=3, booster="gblinear").fit(plain(), target()),
        plain(),
    ),
    "dart": lambda: (
        xgboost.XGBRegressor(n_estimators=4, booster="dart", rate_drop=0.5).fit(plain(), target()),
        plain(),
    ),
    "ranker": lambda: (grouped(xgboost.XGBRanker(n_estimators=3)), plain()),
    "random forest": lambda: (
        xgboost.XGBRFClassifier(n_estimators=4, random_state=0).fit(plain(), target()),
        plain(),
    ),
    "random forest of numbers": lambda: (
        xgboost.XGBRFRegressor(n_estimators=4, random_state=0).fit(plain(), target()),
        plain(),
    ),
    "survival": lambda: (
        xgboost.XGBRegressor(n_estimators=3, objective="survival:cox").fit(plain(), target() + 1.0),
        plain(),
    ),
    "quantiles": lambda: (
        xgboost.XGBRegressor(
            n_estimators=3, objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]
        ).fit(plain(), target()),
        plain(),
    ),
    "booster": lambda: (
        xgboost.train({"max_depth": 2}, xgboost.DMatrix(frame()[["a", "b"]], label=target()), 3),
        frame()[["a", "b"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.keeps(
    "XGBoost", "all five scikit-learn wrappers and bare boosters (UBJSON, judged)", "xgboost"
)
def test_a_model_comes_back_whole(name, tmp_path):
    model, X = MODELS[name]()
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    assert version.proof == "replayed"
    again = holdfast.load("m", store=tmp_path / "s")
    assert type(again) is type(model)
    method = adapter.methods(model)[0]
    assert np.array_equal(
        adapter.predict(model, method, X), adapter.predict(again, method, X), equal_nan=True
    )
    if name != "booster":
        assert repr(again.get_params()) == repr(model.get_params())
        assert again.get_booster().attributes() == model.get_booster().attributes()
    assert (
        holdfast.save(again, "m", inputs=X, store=tmp_path / "s").content_id == version.content_id
    )


def test_the_native_file_lies_open_in_the_version(tmp_path):
    model, X = MODELS["categories"]()
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "s")
    (file,) = version.content.files
    assert file.name.endswith(".ubj")
    path = holdfast.export("m", tmp_path / "m.ubj", store=tmp_path / "s")
    native = xgboost.Booster(model_file=path)
    rows = xgboost.DMatrix(X, enable_categorical=True)
    assert np.array_equal(native.predict(rows), model.get_booster().predict(rows))
    for ending in ("ubj", "json"):
        path = holdfast.export("m", tmp_path / f"again.{ending}", store=tmp_path / "s")
        read = adapter.READS[f"xgboost-{ending}"](path)
        assert np.array_equal(read.predict(rows), native.predict(rows))


def test_it_is_kept_inside_what_scikit_learn_makes(tmp_path):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = plain(), target()
    small = xgboost.XGBClassifier(n_estimators=3)
    whole = make_pipeline(
        StandardScaler(),
        CalibratedClassifierCV(GridSearchCV(small, {"max_depth": [2, 3]}, cv=2), cv=2),
    ).fit(X, y)
    version = holdfast.save(whole, "m", inputs=X, store=tmp_path / "s")
    assert version.content.framework == "sklearn"
    assert "xgboost-cpu" in version.record.environment["packages"] or (
        "xgboost" in version.record.environment["packages"]
    )
    again = holdfast.load("m", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(X), whole.predict_proba(X))


def test_an_unfitted_wrapper_is_kept_with_its_parameters(tmp_path):
    model = xgboost.XGBRegressor(n_estimators=7, learning_rate=0.1, max_depth=3)
    assert holdfast.save(model, "m", store=tmp_path / "s").proof == "state only"
    assert repr(holdfast.load("m", store=tmp_path / "s").get_params()) == repr(model.get_params())


def test_a_function_as_objective_is_refused_at_save(tmp_path):
    def objective(y, p):
        return p - y, np.ones_like(p)

    model = xgboost.XGBRegressor(n_estimators=2, objective=objective).fit(plain(), target())
    with pytest.raises(Unsupported, match="objective"):
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
        return xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(plain(), target())

    @pytest.fixture
    def other(self):
        return xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(plain(), target()[::-1])


def document(name="categories"):
    model, _ = MODELS[name]()
    return json.loads(model.get_booster().save_raw("json"))


def tree(doc):
    return doc["learner"]["gradient_booster"]["model"]["trees"][0]


def categorical(doc):
    trees = doc["learner"]["gradient_booster"]["model"]["trees"]
    return next(tree for tree in trees if tree["categories"])


def test_every_model_is_judged_sound_both_ways():
    for make in MODELS.values():
        model, _ = make()
        booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
        judge_ubj(booster.save_raw("ubj"))
        judge_json(booster.save_raw("json"))


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: tree(doc)["left_children"].__setitem__(0, 9999),
        lambda doc: tree(doc)["right_children"].__setitem__(0, -5),
        lambda doc: tree(doc)["left_children"].__setitem__(0, 0),
        lambda doc: tree(doc)["right_children"].__setitem__(0, tree(doc)["left_children"][0]),
        lambda doc: tree(doc)["split_indices"].__setitem__(0, 4),
        lambda doc: tree(doc)["split_conditions"].pop(),
        lambda doc: tree(doc)["base_weights"].pop(),
        lambda doc: tree(doc)["tree_param"].__setitem__("num_nodes", "1000000"),
        lambda doc: tree(doc)["tree_param"].__setitem__("size_leaf_vector", "7"),
        lambda doc: categorical(doc)["categories"].__setitem__(0, -1),
        lambda doc: categorical(doc)["categories"].__setitem__(0, 2**30),
        lambda doc: categorical(doc)["categories_sizes"].__setitem__(0, 2**40),
        lambda doc: categorical(doc)["categories_segments"].__setitem__(0, 2**40),
        lambda doc: categorical(doc)["categories_nodes"].__setitem__(0, 2**20),
        lambda doc: doc["learner"]["learner_model_param"].__setitem__("num_feature", "4000000000"),
        lambda doc: doc["learner"]["learner_model_param"].__setitem__("num_class", "-3"),
        lambda doc: doc["learner"]["gradient_booster"]["model"]["tree_info"].__setitem__(0, 5),
        lambda doc: doc["learner"]["gradient_booster"]["model"]["iteration_indptr"].pop(),
        lambda doc: doc["learner"]["gradient_booster"].__setitem__("name", "mine"),
        lambda doc: doc.__setitem__("learner", []),
        lambda doc: doc.pop("version"),
    ],
)
def test_what_compiled_code_would_follow_is_refused(change):
    doc = document()
    change(doc)
    with pytest.raises(Corrupt):
        judge_json(json.dumps(doc).encode())


def test_every_truncation_is_refused():
    data = bytes(MODELS["categories"]()[0].get_booster().save_raw("ubj"))
    for end in range(0, len(data), 7):
        with pytest.raises(Corrupt):
            read_ubj(data[:end])


def test_every_flipped_byte_gives_a_document_or_a_refusal():
    data = bytearray(MODELS["categories"]()[0].get_booster().save_raw("ubj"))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 3000).tolist():
        kept, data[place] = data[place], int(rng.integers(256))
        with contextlib.suppress(HoldfastError):
            judge_ubj(bytes(data))
        data[place] = kept


@pytest.mark.parametrize(
    "data", [b"", b"[", b"{", b"[" * 1000, b"{L" + b"\xff" * 9, b"[#L" + b"\x7f" * 8]
)
def test_nonsense_is_refused(data):
    with pytest.raises(Corrupt):
        read_ubj(data)


def trained():
    return xgboost.XGBRegressor(n_estimators=3, max_depth=2).fit(plain(), target())


def test_a_file_of_a_newer_release_is_an_environment_that_does_not_fit(tmp_path):
    document = json.loads(trained().get_booster().save_raw("json"))
    document["version"] = [99, 0, 0]
    (tmp_path / "m.json").write_text(json.dumps(document), "utf-8")
    with pytest.raises(EnvironmentMismatch, match=r"99\.0\.0") as caught:
        boosters.from_json((tmp_path / "m.json").read_bytes())
    assert 'pip install "xgboost>=99.0"' in caught.value.hint


def test_leaves_in_a_table_are_left_to_releases_that_read_them(monkeypatch):
    """The native reader looks for what is not there, and crashes."""
    two = np.stack([target(), -target()], axis=1)
    model = xgboost.XGBRegressor(n_estimators=2, multi_strategy="multi_output_tree")
    data = bytes(model.fit(plain(), two).get_booster().save_raw("ubj"))
    assert judge_ubj(data).tables
    boosters.from_ubj(data)
    monkeypatch.setattr(boosters, "_installed", lambda: (3, 1, 0))
    with pytest.raises(EnvironmentMismatch, match="cannot read it"):
        boosters._native(bytearray(data), judge_ubj(data))


def test_leaves_as_releases_before_3_2_keep_them_get_their_table():
    two = np.stack([target(), -target()], axis=1)
    model = xgboost.XGBRegressor(
        n_estimators=3,
        max_depth=3,
        base_score=0.0,
        multi_strategy="multi_output_tree",
    ).fit(plain(), two)
    document = json.loads(bytes(model.get_booster().save_raw("json")))
    document["version"] = [2, 0, 3]
    document["learner"]["learner_model_param"]["base_score"] = "0E0"
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
        values = np.zeros((len(left), 2))
        table = np.array(tree.pop("leaf_weights")).reshape(-1, 2)
        values[left == -1] = table[right[left == -1]]
        tree["base_weights"] = values.ravel().tolist()
        tree["right_children"] = np.where(left == -1, -1, right).tolist()
        del tree["loss_changes"], tree["sum_hessian"]
    old, written = judge_json(json.dumps(document).encode())
    assert old.tables is False
    again = boosters._native(bytearray(written), old)
    assert np.array_equal(again.inplace_predict(plain()), model.predict(plain()))
    assert judge_ubj(bytes(again.save_raw("ubj"))).tables


def test_a_wrapper_that_another_release_made_is_refused_at_save(tmp_path):
    model = trained()
    del model.gamma
    with pytest.raises(Unsupported, match="gamma is missing"):
        holdfast.save(model, "m", store=tmp_path / "s")


def test_releases_that_have_one_base_score_read_one_and_refuse_several():
    model = xgboost.XGBRegressor(n_estimators=2, base_score=2.5).fit(plain(), plain()[:, 0])
    data = bytearray(model.get_booster().save_raw("ubj"))
    judged = judge_ubj(data)
    text = judged.learner["learner_model_param"]["base_score"]
    assert text.startswith("[")
    older = boosters._with_one_intercept(data, judged)
    told = judge_ubj(older).learner["learner_model_param"]["base_score"]
    assert float(told) == 2.5
    assert len(older) == len(data) - 2
    again = xgboost.Booster()
    again.load_model(older)
    assert np.array_equal(again.inplace_predict(plain()), model.predict(plain()))
    several = {**judged.learner["learner_model_param"], "base_score": "[1E0,2E0]"}
    other = judged._replace(learner={**judged.learner, "learner_model_param": several})
    with pytest.raises(EnvironmentMismatch) as refusal:
        boosters._with_one_intercept(data, other)
    assert "xgboost>=3.1" in refusal.value.hint
