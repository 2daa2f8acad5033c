"""Forged LightGBM texts: refused, or harmless; LightGBM reads them in a process of its own."""

import contextlib
import functools
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="lightgbm is not installed")

import lightgbm

from holdfast.errors import Corrupt, HoldfastError
from holdfast.frameworks.lightgbm.judge import judge

SPEC = importlib.util.spec_from_file_location(
    "lightgbm_zoo", Path(__file__).with_name("lightgbm_zoo.py")
)
zoo = sys.modules["lightgbm_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)


@functools.cache
def text(name="categories"):
    model, _ = zoo.MODELS[name]()
    booster = getattr(model, "booster_", model)
    return booster.model_to_string(num_iteration=-1)


@pytest.mark.filterwarnings("ignore")
def test_every_model_is_judged_sound():
    for name in zoo.MODELS:
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


def shifted(whole):
    """Give one tree a child more and the next one a child less: together they are as many."""
    lines = whole.split("\n")
    one, two = [i for i, each in enumerate(lines) if each.startswith("left_child=")][:2]
    lines[two], _, moved = lines[two].rpartition(" ")
    lines[one] += " " + moved
    return "\n".join(each for each in lines if not each.startswith("tree_sizes="))


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
        line("leaf_value", lambda words: words.rpartition(" ")[0] + "  "),
        line("leaf_value", lambda words: words.replace(" ", "  ", 1)),
        line("leaf_weight", lambda words: words.rpartition(" ")[0]),
        line("threshold", lambda words: words + " 1"),
        line("decision_type", first("-99999999999999999999")),
        line("shrinkage", lambda _: "one"),
        line("internal_value", first("0x10")),
        line("is_linear", lambda _: "1"),
        line("is_linear", lambda _: "2"),
        line("version", lambda words: words + "\nversion=v3"),
        line("feature_infos", first("[1:2:3]")),
        line("feature_names", lambda words: words + " more"),
        line("Tree", lambda _: "1"),
        shifted,
        lambda whole: whole.replace("\n\nTree=1", "\nmore=1" * 20 + "\n\nTree=1"),
        lambda whole: whole.replace("[boosting: gbdt]", "[boosting gbdt]"),
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


def test_a_split_by_categories_that_do_not_exist_is_refused():
    for name in ("classifier", "categories"):
        lines = text(name).split("\n")
        kinds = next(each for each in lines if each.startswith("decision_type="))
        changed = "\n".join(lines).replace(kinds, "decision_type=1" + " 1" * kinds.count(" "), 1)
        with pytest.raises(Corrupt, match=r"categories|number belongs"):
            judge(changed.encode())


def test_more_weights_than_a_leaf_can_have_are_refused():
    """Sums that come round to nothing again are no proof."""
    lines = text("linear trees")
    place = next(each for each in lines.split("\n") if each.startswith("num_features="))
    count = place.count(" ") + 1
    whole = lines.replace(place, "num_features=" + " ".join([str(2**62)] * 4 + ["0"] * (count - 4)))
    with pytest.raises(Corrupt):
        judge(line("Tree", lambda words: words)(whole).encode())


# Reads what was judged sound and asks it all that a user might; prints how many it came to.
READER = """
import contextlib, pickle, sys
import lightgbm
done = 0
frame, plain, sound = pickle.load(sys.stdin.buffer)
for whole in sound:
    with contextlib.suppress(lightgbm.basic.LightGBMError, ValueError):
        booster = lightgbm.Booster(model_str=whole, params={"num_threads": 1, "verbose": -1})
        X = frame if booster.pandas_categorical else plain
        for ask in (
            lambda: booster.predict(X), lambda: booster.predict(X[:1]), booster.dump_model,
            lambda: booster.predict(X, pred_leaf=True), lambda: booster.feature_importance("gain"),
            lambda: booster.predict(X[:9], pred_contrib=True), booster.model_to_string,
        ):
            with contextlib.suppress(lightgbm.basic.LightGBMError, ValueError, TypeError):
                ask()
    done += 1
print(done)
"""
TOKENS = (
    "0", "1", "-1", "-2", "2", "3", "9", "4000", "1e3", "nan", "inf", "x", "", " ", "+1", "-0",
    "1.5",
    "99999999999999999999", "-99999999999999999999", "4294967297", "2147483647",
)  # fmt: skip


def mutated(rng, whole):
    """Change a word of a line, exchange two lines, or leave one out."""
    lines = whole.split("\n")
    end = lines.index("end of trees")
    for _ in range(int(rng.integers(1, 3))):
        at, how = int(rng.integers(end)), rng.random()
        key, equals, words = lines[at].partition("=")
        listed = words.split(" ")
        if how < 0.7 and equals:
            where = int(rng.integers(len(listed)))
            token = TOKENS[int(rng.integers(len(TOKENS)))]
            listed[where : where + int(rng.integers(2))] = [token] * int(rng.integers(2))
            lines[at] = key + "=" + " ".join(listed)
        elif how < 0.85:
            other = int(rng.integers(end))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at] = "more=1"
    return "\n".join(each for each in lines if not each.startswith("tree_sizes="))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_is_judged_sound_is_harmless():
    rng = np.random.default_rng(1)
    texts = [text(name) for name in zoo.MODELS if name != "named columns"]
    sound, refused = [], 0
    for _ in range(4000):
        changed = mutated(rng, texts[int(rng.integers(len(texts)))])
        try:
            judge(changed.encode())
        except HoldfastError:
            refused += 1
        else:
            sound.append(changed)
    assert refused > 1000
    assert len(sound) > 100
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=pickle.dumps((zoo.frame(), zoo.plain(), sound)),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[-1]) == len(sound)


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
