"""Portable forms of every estimator: kept or refused as the page says, and never wrong.

What is compared are rows that neither the golden set nor the proof at save has seen.
"""

import importlib.util
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from holdfast.errors import UsageError
from holdfast.frameworks.onnx.forms import Form, Graph

pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "portable.md").read_text("utf-8")
ONE_SCALE = ("predict_proba", "decision_function")


def imported(place):
    path = ROOT / place
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


TABLE = imported("tools/portable_table.py")


def outcomes(cases):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(TABLE.outcomes(cases))


@pytest.fixture(scope="module", name="plain")
def outcomes_of_plain_estimators():
    zoo = imported("tests/frameworks/sklearn_zoo.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return outcomes(list(zoo.plain_cases()))


def other_rows(rows, count=500):
    """Draw rows that are like those given and beyond them; None where that has no meaning."""
    random = np.random.default_rng(5)
    chosen = random.integers(0, len(rows), count)

    def moved(values):
        values = values[chosen]
        if values.dtype.kind != "f":
            return values
        if np.array_equal(values, np.floor(values)):
            return values
        factors = random.uniform(0.3, 1.7, values.shape)
        return np.abs(values * factors + random.normal(0, 0.3, values.shape))

    if isinstance(rows, pd.DataFrame):
        return pd.DataFrame({name: moved(rows[name].to_numpy()) for name in rows.columns})
    return moved(np.asarray(rows)) if not isinstance(rows, list) else None


def assert_never_wrong(found):
    """Compare model and form on other rows; what a form refuses is not wrong."""
    compared = 0
    for each in found:
        if each.form.blob is None:
            reason = each.form.document["reason"]
            assert not reason.startswith("making it raised"), (each.name, reason)
            continue
        rows = getattr(each, "held_out", None)
        rows = other_rows(each.inputs) if rows is None else rows
        if rows is None:
            continue
        graph = Graph(Form.parse(each.form.document), each.form.blob)
        for method in graph.form.outputs:
            try:
                have = graph.answer(method, rows)
            except UsageError:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                want = np.asarray(getattr(each.model, method)(rows))
            assert_near(want, have, f"{each.name}.{method}", one=method in ONE_SCALE)
            compared += 1
    return compared


def assert_near(want, have, name, *, one):
    assert (want.dtype, want.shape) == (have.dtype, have.shape), name
    if want.dtype.kind != "f":
        assert np.array_equal(want, have), name
        return
    scale = np.nanmax(np.abs(want), axis=None if one else 0)
    assert ((np.abs(want - have) <= 1e-4 * scale) | (np.isnan(want) & np.isnan(have))).all(), name


@pytest.mark.slow
def test_the_page_names_what_is_kept_and_why_not(plain):
    kept = {each.name for each in plain if each.form.blob is not None}
    assert {"RandomForestClassifier", "LogisticRegression", "Pipeline", "ColumnTransformer"} <= kept
    for each in plain:
        reason = str(each.form.document.get("reason", ""))
        assert len(reason) <= 300
        assert reason.isprintable()
    measured = re.search(r"scikit-learn ([\d.]+), skl2onnx ([\d.]+) and onnxruntime ([\d.]+)", PAGE)
    here = tuple(version(name) for name in ("scikit-learn", "skl2onnx", "onnxruntime"))
    if measured.groups() == here:
        (table,) = re.findall(r"<!-- portable -->\n(.*)\n<!-- portable end -->", PAGE, re.DOTALL)
        assert table == "\n".join(TABLE.lines(plain))


@pytest.mark.slow
def test_no_form_of_an_estimator_answers_other_rows_otherwise(plain):
    assert assert_never_wrong(plain) > 100


@pytest.mark.slow
def test_no_form_of_the_museums_models_answers_held_out_rows_otherwise(monkeypatch):
    """Those rows have gaps and categories that the fit never saw."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "museum")
    museum = list(imported("tests/museum/sklearn_models.py").pieces())
    pieces = [SimpleNamespace(name=p.name, model=p.model, inputs=p.golden) for p in museum]
    held = {piece.name: piece.held_out for piece in museum}
    found = [
        SimpleNamespace(**each._asdict(), held_out=held[each.name]) for each in outcomes(pieces)
    ]
    assert assert_never_wrong(found) > 60


@pytest.mark.slow
def test_no_form_with_other_options_answers_other_rows_otherwise():
    zoo = imported("tests/frameworks/sklearn_zoo.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [zoo.case_of(option) for option in zoo.options()]
    assert assert_never_wrong(outcomes(cases)) > 100
