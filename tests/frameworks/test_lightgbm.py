"""LightGBM: native text judged before it is read, columns found by name, wrappers whole."""

import contextlib
import pickle

import numpy as np
import pandas as pd
import pytest

lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")

import holdfast  # noqa: E402
from holdfast.errors import Corrupt, HoldfastError, SignatureMismatch, Unsupported  # noqa: E402
from holdfast.frameworks import lightgbm as adapter  # noqa: E402
from holdfast.frameworks.lightgbm.judge import judge  # noqa: E402
from holdfast.testing.adapters import AdapterConformance  # noqa: E402

ROWS = 300
QUIET = {"verbose": -1, "min_child_samples": 5, "num_leaves": 6, "n_jobs": 1}


def frame():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=["a", "b", "d", "e"])
    X["c"] = pd.Categorical(rng.choice(["x", "y", "z"], ROWS))
    return X


def numbers():
    return frame()[["a", "b", "d", "e"]]


def plain():
    return np.random.default_rng(1).normal(size=(ROWS, 4))


def target(kinds=2):
    return (np.arange(ROWS) * 7) % kinds


def bare():
    data = lightgbm.Dataset(numbers(), label=target())
    return lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 5}, data, 4)


MODELS = {
    "classifier": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, **QUIET).fit(plain(), target()),
        plain(),
    ),
    "three classes by name": lambda: (
        lightgbm.LGBMClassifier(n_estimators=4, **QUIET).fit(
            plain(), np.array(["low", "mid", "high"])[target(3)]
        ),
        plain(),
    ),
    "categories": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, **QUIET).fit(frame(), frame()["c"] == "y"),
        frame(),
    ),
    "named columns": lambda: (
        lightgbm.LGBMRegressor(n_estimators=5, **QUIET).fit(numbers(), target()),
        numbers(),
    ),
    "early stopping": lambda: (
        lightgbm.LGBMClassifier(n_estimators=30, **QUIET).fit(
            plain(),
            target(),
            eval_set=[(plain(), target()[::-1])],
            callbacks=[lightgbm.early_stopping(2, verbose=False)],
        ),
        plain(),
    ),
    "linear trees": lambda: (
        lightgbm.LGBMRegressor(n_estimators=4, linear_tree=True, **QUIET).fit(
            plain(), plain()[:, 0]
        ),
        plain(),
    ),
    "dart": lambda: (
        lightgbm.LGBMRegressor(n_estimators=4, boosting_type="dart", **QUIET).fit(
            plain(), target()
        ),
        plain(),
    ),
    "random forest": lambda: (
        lightgbm.LGBMRegressor(
            n_estimators=4, boosting_type="rf", subsample=0.5, subsample_freq=1, **QUIET
        ).fit(plain(), target()),
        plain(),
    ),
    "ranker": lambda: (
        lightgbm.LGBMRanker(n_estimators=3, **QUIET).fit(
            plain(), target(4), group=[20] * (ROWS // 20)
        ),
        plain(),
    ),
    "one leaf": lambda: (
        lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(plain()[:9], np.ones(9)),
        plain(),
    ),
    "booster": lambda: (bare(), numbers()),
}  # fmt: skip


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
    assert type(again) is type(model)
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
    copied = pickle.loads(pickle.dumps(again))
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


def test_a_function_as_objective_is_refused_at_save(tmp_path):
    def objective(y, p):
        return p - y, np.ones_like(p)

    model = lightgbm.LGBMRegressor(n_estimators=2, objective=objective, **QUIET)
    model.fit(plain(), target())
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
        return lightgbm.LGBMClassifier(n_estimators=3, **QUIET).fit(plain(), target())

    @pytest.fixture
    def other(self):
        return lightgbm.LGBMClassifier(n_estimators=3, **QUIET).fit(plain(), target()[::-1])


def text(name="categories"):
    model, _ = MODELS[name]()
    booster = getattr(model, "booster_", model)
    return booster.model_to_string(num_iteration=-1)


@pytest.mark.filterwarnings("ignore")
def test_every_model_is_judged_sound():
    for name in MODELS:
        judge(text(name).encode())


def line(key, change):
    """Return what changes the first line with this key, and keeps the announced sizes true."""

    def changed(whole):
        lines = whole.split("\n")
        place = next(i for i, each in enumerate(lines) if each.startswith(f"{key}="))
        lines[place] = f"{key}={change(lines[place].partition('=')[2])}"
        return "\n".join(each for each in lines if not each.startswith("tree_sizes="))

    return changed


def first(value):
    return lambda words: " ".join([value, *words.split(" ")[1:]])


@pytest.mark.parametrize(
    "change",
    [
        line("left_child", first("4000")),
        line("left_child", first("-4000")),
        line("left_child", first("0")),
        line("left_child", first("x")),
        line("left_child", first("1e3")),
        line("right_child", lambda words: words + " 1"),
        line("split_feature", first("5")),
        line("split_feature", first("-1")),
        line("threshold", first("7")),
        line("threshold", first("nan")),
        line("leaf_value", lambda words: words.rpartition(" ")[0]),
        line("num_leaves", lambda _: "1000000000"),
        line("num_leaves", lambda _: "0"),
        line("num_cat", lambda _: "9"),
        line("num_cat", lambda _: "-1"),
        line("cat_boundaries", lambda words: words + "0"),
        line("cat_threshold", lambda words: words + " 1"),
        line("max_feature_idx", lambda _: "4000000000"),
        line("num_class", lambda _: "1000000"),
        line("num_tree_per_iteration", lambda _: "3"),
        line("objective", lambda _: "multiclass num_class:100000000"),
        lambda whole: whole.replace("tree_sizes=", "tree_sizes=1"),
        lambda whole: whole.replace("end of trees", "end"),
        lambda whole: whole.replace("num_leaves=", "num_leaves=2\nnum_leaves=", 1),
    ],
)
def test_what_compiled_code_would_follow_is_refused(change):
    changed = change(text())
    assert changed != text()
    with pytest.raises(Corrupt):
        judge(changed.encode())


def test_every_flipped_byte_gives_a_verdict():
    data = bytearray(text("linear trees").encode())
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 1500).tolist():
        kept, data[place] = data[place], int(rng.integers(256))
        with contextlib.suppress(HoldfastError):
            judge(bytes(data))
        data[place] = kept


def test_a_line_of_a_tree_without_its_equals_sign_is_refused():
    """The native reader would take two lines for one key, and end the process."""
    rows = np.random.default_rng(0).normal(size=(80, 3))
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(rows, rows[:, 0] > 0)
    data = model.booster_.model_to_string().encode()
    judge(data)
    with pytest.raises(Corrupt):
        judge(data.replace(b"num_cat=", b"num_dog="))
    for key in (b"split_gain", b"threshold", b"num_cat", b"shrinkage"):
        with pytest.raises(Corrupt):
            judge(data.replace(key + b"=", key + b"%"))


def test_a_parameter_that_is_no_name_and_value_is_refused():
    """The native reader would read beyond what it split."""
    rows = np.random.default_rng(0).normal(size=(80, 3))
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(rows, rows[:, 0] > 0)
    data = model.booster_.model_to_string().encode()
    assert b"[max_bin: 255]" in data
    for forged in (b"[max_bin% 255]", b"max_bin: 255]", b"[max_bin: 255", b"[: 255]"):
        with pytest.raises(Corrupt):
            judge(data.replace(b"[max_bin: 255]", forged))
    with pytest.raises(Corrupt):
        judge(data.replace(b"end of parameters", b"end of"))


@pytest.mark.parametrize("forged", [b"j.89", b"1.2-3", b"1..2", b"\x141", b"0x1p3", b"1e"])
def test_a_number_of_a_tree_that_is_none_is_refused(forged):
    rows = np.random.default_rng(0).normal(size=(80, 3))
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(rows, rows[:, 0] > 0)
    data = model.booster_.model_to_string().encode()
    for key in (b"leaf_weight=", b"leaf_value=", b"internal_value=", b"threshold="):
        start = data.index(key) + len(key)
        end = min(data.index(mark, start) for mark in (b" ", b"\n"))
        with pytest.raises(Corrupt):
            judge(data[:start] + forged + data[end:])
