"""Forged CatBoost files: refused, or harmless; CatBoost reads them in a process of their own."""

import importlib.util
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

catboost = pytest.importorskip("catboost", reason="catboost is not installed")

from holdfast.errors import Corrupt, HoldfastError  # noqa: E402
from holdfast.frameworks.catboost import judge as judges, metadata, statistics  # noqa: E402
from holdfast.frameworks.catboost.flat import read_flat  # noqa: E402
from holdfast.frameworks.catboost.judge import judge  # noqa: E402

SPEC = importlib.util.spec_from_file_location(
    "catboost_zoo", Path(__file__).with_name("catboost_zoo.py")
)
zoo = sys.modules["catboost_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)
MODELS = zoo.MODELS

KINDS = (
    "categories",
    "every kind of statistics",
    "one hot",
    "level by level, classes",
    "quantiles",
)


@pytest.fixture(scope="module")
def files():
    return {name: bytes(MODELS[name]()[0]._serialize_model()) for name in KINDS}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_judged_sound_and_told_apart(name):
    model, _ = MODELS[name]()
    judged = judge(model._serialize_model())
    assert judged == judge(model.copy()._serialize_model())  # in whatever order it is written
    assert judged.labels == bool(len(model.classes_))
    model.set_scale_and_bias(2.0, model.get_scale_and_bias()[1])
    assert judged.digest != judge(model._serialize_model()).digest


def place(data, content):
    """Return where a run of bytes is, which must be in one place only."""
    assert data.count(content) == 1
    return data.index(content)


def core(data):
    size = int.from_bytes(data[4:8], "little")
    return data[8 : 8 + size]


def listed(data, name):
    """Return where the numbers of a column of all trees begin, and the numbers."""
    column = read_flat(core(data), judges._MODEL)["trees"][name]
    return 8 + place(core(data), len(column).to_bytes(4, "little") + column.tobytes()) + 4, column


def put(data, at, form, *values):
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "column", "index", "form", "value"),
    [
        ("categories", "splits", 0, "<i", 10_000),
        ("categories", "splits", 0, "<i", -1),
        ("categories", "sizes", 0, "<i", 30),
        ("categories", "sizes", 1, "<i", -3),
        ("categories", "starts", 1, "<i", 5000),
        ("level by level, classes", "sizes", 0, "<i", 1),
        ("level by level, classes", "nodes", 0, "<I", 0xFFFF_0001),
        ("level by level, classes", "nodes", 0, "<I", 0x0001_0001),
        ("level by level, classes", "leaf_ids", -1, "<I", 2**31),
        ("level by level, classes", "leaf_ids", -1, "<I", 0),
    ],
)
def test_trees_that_lead_elsewhere_are_refused(files, name, column, index, form, value):
    at, numbers_ = listed(files[name], column)
    changed = put(files[name], at + numbers_.itemsize * (index % len(numbers_)), form, value)
    assert changed != files[name]
    with pytest.raises(Corrupt):
        judge(changed)


def tables(data):
    """Yield where each table of statistics begins in the file, its bytes and what they are."""
    at = 8 + int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 4], "little")
    at += 4
    for _ in range(count):
        size = int.from_bytes(data[at : at + 4], "little")
        part = data[at + 4 : at + 4 + size]
        yield at + 4, part, read_flat(part, statistics.TABLE)
        at += 4 + size


def test_statistics_that_lead_elsewhere_are_refused(files):
    data = files["every kind of statistics"]
    kinds = set()
    for at, part, table in tables(data):
        kinds.add(table["base"]["type"])
        start = at + place(part, table["hash"].tobytes())
        buckets = np.frombuffer(table["hash"].tobytes(), statistics._BUCKET)
        full = int(np.flatnonzero(buckets["hash"] != 2**64 - 1)[0])
        with pytest.raises(Corrupt, match="leads outside"):
            judge(put(data, start + 12 * full + 8, "<I", 10**6))
        changed = bytearray(data)
        changed[start : start + 12 * len(buckets)] = bytes(12 * len(buckets))
        with pytest.raises(Corrupt, match="no empty bucket"):
            judge(bytes(changed))
    assert len(kinds) >= 3


def test_statistics_that_are_missing_are_refused(files):
    data = files["categories"]
    end = 8 + int.from_bytes(data[4:8], "little")
    with pytest.raises(Corrupt):
        judge(data[:end] + bytes(4))
    with pytest.raises(Corrupt):
        judge(data[:end])
    with pytest.raises(Corrupt, match="after its end"):
        judge(data + b"\0")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"classes_count":0', b'"classes_count":1'),
        (b'"class_names":[0,1]', b'"class_names":[100]'),
        (b'"wait_iterations":20', b'"thread_count":99999'),
        (b'"test_error_log":"test_error.tsv"', b'"test_error_log":[' + b"[" * 7 + b"]" * 8),
        (b'"cat_feature_params":', b'"cat_feature_params";'),
        (b'"loss_function":{"type":"Logloss"', b'"loss_function":{"type":"Logl0ss"'),
        (
            b'"loss_function":{"type":"Logloss","params":{',
            b'"loss_function":{"type":"RMSE","params":[1,{',
        ),
        (b"FlabuffersModel_v1", b"FlabuffersModel_v9"),
        (b"static_provider_v1", b"static_provider_v2"),
    ],
)
def test_metadata_that_ask_for_too_much_are_refused(files, monkeypatch, old, new):
    monkeypatch.setattr(metadata, "_DEEPEST", 8)
    data = files["categories"]
    judge(data)
    changed = data.replace(old, new.ljust(len(old)))
    assert len(changed) == len(data)
    assert changed != data
    with pytest.raises(HoldfastError):
        judge(changed)


def test_every_truncation_is_refused(files):
    rng = np.random.default_rng(0)
    for data in files.values():
        for end in rng.integers(0, len(data), 150).tolist():
            with pytest.raises(HoldfastError):
                judge(data[:end])


# Reads what was judged sound and asks it all that a user might; prints how many it came to.
READER = """
import contextlib, pickle, sys
import catboost
from holdfast.frameworks.catboost import boosters
done = 0
named, plain, sound = pickle.load(sys.stdin.buffer)
for name, data in sound:
    with contextlib.suppress(Exception):
        boosters.native(data)
        model = catboost.CatBoostClassifier().load_model(blob=data)
        X = named if len(model._get_cat_feature_indices()) else plain
        pool = catboost.Pool(X[:3], cat_features=list(model._get_cat_feature_indices()))
        for ask in (
            lambda: model.predict(X), lambda: model.predict(X[:1]), lambda: model.predict_proba(X),
            lambda: model.calc_leaf_indexes(X), lambda: model.get_tree_leaf_counts(),
            lambda: model.get_feature_importance(), lambda: model.evals_result_,
            lambda: model.predict(X, prediction_type="Class"), lambda: model.copy(),
            lambda: model.get_feature_importance(pool, type="ShapValues"),
        ):
            with contextlib.suppress(Exception):
                ask()
    done += 1
print(done)
"""


def mutated(rng, data):
    """Change a byte, or put a telling number somewhere, in the trees and statistics mostly."""
    changed = bytearray(data)
    first = data.index(b"Top src dir") if rng.random() < 0.8 else 0
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(first, len(data) - 4))
        if rng.random() < 0.5:
            changed[at] ^= 1 << int(rng.integers(8))
        else:
            number = [0, 1, -1, 2, 3, 12, 255, 256, 65535, 2**31 - 1, -(2**31), at]
            struct.pack_into("<i", changed, at & ~3, number[int(rng.integers(len(number)))])
    return bytes(changed)


def test_what_is_judged_sound_is_harmless(files):
    rng = np.random.default_rng(1)
    sound, refused = [], 0
    for _ in range(1500):
        name = KINDS[int(rng.integers(len(KINDS)))]
        changed = mutated(rng, files[name])
        try:
            judge(changed)
        except HoldfastError:
            refused += 1
        else:
            sound.append((name, changed))
    assert refused > 100
    assert sound
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=pickle.dumps((zoo.frame(), zoo.numbers(), sound)),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) == len(sound)
