"""Results of statsmodels are kept: parameters, errors, predictions and summaries bit for bit."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("statsmodels", reason="statsmodels is not installed")

import pandas as pd
import statsmodels.api as sm
from msgspec.structs import replace

import holdfast
from holdfast import codec, frameworks
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks import statsmodels as adapter
from holdfast.frameworks.base import LoadOptions, Opened

SPEC = importlib.util.spec_from_file_location(
    "statsmodels_zoo", Path(__file__).with_name("statsmodels_zoo.py")
)
zoo = sys.modules["statsmodels_zoo"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(zoo)

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # how well small data is fitted is not our subject
CLOCK = re.compile(r"(Date|Time): +.*?\d\d:\d\d:\d\d|Date: +\w+, \d+ \w+ \d+|\d\d:\d\d:\d\d")
NUMBERS = (
    "params", "bse", "pvalues", "tvalues", "llf", "aic", "bic", "resid", "fittedvalues",
    "rsquared", "deviance", "scale", "sse", "level", "sigma_u", "bse_re", "cov_re", "polynomial_ar",
)  # fmt: skip


def kept(views, model):
    """Return the results as a load builds them."""
    payload = adapter.pack(model, frameworks.registry())
    tensors = views(payload)
    audit = codec.audit(payload.structure, tensors, frameworks.registry())
    parts = Opened(structure=payload.structure, audit=audit, tensors=tensors, files={}, facts={})
    return adapter.unpack(parts, frameworks.registry(), LoadOptions())


def told(result):
    """Return what results tell of themselves, by name; what they refuse to tell is its error."""
    found = {}
    for name in NUMBERS:
        try:
            found[name] = getattr(result, name)
        except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
            found[name] = type(error).__name__
    for name in ("conf_int", "cov_params", "summary"):
        try:
            answer = getattr(result, name)()
        except (AttributeError, NotImplementedError, ValueError, TypeError, KeyError) as error:
            answer = type(error).__name__
        found[name] = answer if name != "summary" else CLOCK.sub("", str(answer))
    return found


def same(one, other, close=False):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], close) for key in one)
    if isinstance(one, pd.DataFrame | pd.Series) and not close:
        return one.equals(other)
    if isinstance(one, np.ndarray | np.generic | float | pd.DataFrame | pd.Series):
        one, other = np.asarray(one), np.asarray(other)
        if one.dtype.kind not in "fc" or not close:
            return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
        return np.allclose(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)
    return one == other


def pickled(result):
    """Return a pickle made before anything is asked, for what is asked is remembered."""
    try:
        return pickle.dumps(result)
    except (AttributeError, TypeError, NotImplementedError):  # local functions, compiled filters
        return None


def require_kept(views, result):
    plain = pickled(result)
    again = kept(views, result)
    assert type(again) is type(result)
    assert adapter.difference(result, again, frameworks.registry()) is None
    method = adapter.methods(result)[:1]
    inputs = adapter.synthetic(result, 12, 0) if method else None
    if inputs is not None:
        answers = (adapter.predict(model, *method, inputs) for model in (result, again))
        assert same(*map(np.asarray, answers))
    before, after = told(result), told(again)
    assert not isinstance(before["params"], str)
    for name in before:
        if not same(before[name], after[name]):
            # Only where a plain copy differs as well: BLAS sums in another order when arrays lie
            # elsewhere in memory.
            copied = told(pickle.loads(plain))
            assert not same(before[name], copied[name]), f"only we change {name}"
            assert same(before[name], after[name], close=True), name
    return again


@pytest.mark.parametrize("name", zoo.RESULTS)
def test_results_come_back_whole(views, name):
    require_kept(views, zoo.fitted(zoo.RESULTS[name]))


@pytest.mark.parametrize("name", zoo.FORMULAS)
def test_results_of_a_formula_come_back_whole(views, name):
    result = zoo.fitted(zoo.FORMULAS[name])
    again = require_kept(views, result)
    rows = zoo.FRAME.iloc[7:19]
    assert same(*(np.asarray(adapter.predict(item, "predict", rows)) for item in (result, again)))


@pytest.mark.parametrize("name", zoo.SPACE)
def test_state_space_results_come_back_whole(views, name):
    result = zoo.fitted(zoo.SPACE[name])
    again = require_kept(views, result)
    assert same(result.filtered_state, again.filtered_state)
    assert same(result.smoothed_state, again.smoothed_state)


def saved_and_loaded(result, inputs, tmp_path):
    holdfast.save(result, "kept", inputs=inputs, store=tmp_path / "s")
    return holdfast.load("kept", store=tmp_path / "s")


@pytest.mark.keeps(
    "statsmodels", "regressions, GLM, discrete, mixed and GEE results", "statsmodels"
)
def test_a_regression_is_saved_proved_and_loaded(tmp_path):
    result = zoo.fitted(zoo.RESULTS["GLM Gamma"])
    again = saved_and_loaded(result, zoo.EXOG, tmp_path)
    version = holdfast.get("kept", store=tmp_path / "s")
    assert version.record.golden["level"] == "inputs"
    assert same(
        result.get_prediction(zoo.EXOG).summary_frame(),
        again.get_prediction(zoo.EXOG).summary_frame(),
    )
    assert same(result.conf_int(), again.conf_int())


@pytest.mark.keeps("statsmodels", "formulas of patsy, each factor judged", "statsmodels", "patsy")
def test_a_formula_is_saved_proved_and_loaded(tmp_path):
    result = zoo.fitted(zoo.FORMULAS["ols splines"])
    again = saved_and_loaded(result, zoo.FRAME, tmp_path)
    assert same(result.predict(zoo.FRAME), again.predict(zoo.FRAME))
    assert again.model.formula == result.model.formula
    assert same(sm.stats.anova_lm(result), sm.stats.anova_lm(again))


@pytest.mark.keeps(
    "statsmodels", "ARIMA, SARIMAX, VARMAX, smoothing and VAR results", "statsmodels"
)
@pytest.mark.parametrize("name", ["SARIMAX", "SARIMAX with exog", "Holt", "VAR", "AutoReg"])
def test_a_time_series_is_saved_proved_and_forecasts_the_same(tmp_path, name):
    result = zoo.fitted({**zoo.SPACE, **zoo.RESULTS}[name])
    inputs = np.arange(80.0, 86.0) ** 0.5 if "exog" in name else 6
    again = saved_and_loaded(result, inputs, tmp_path)
    version = holdfast.get("kept", store=tmp_path / "s")
    assert version.record.golden["method"] == "forecast"
    answers = (adapter.predict(item, "forecast", inputs) for item in (result, again))
    assert same(*answers)


def test_results_without_inputs_are_proved_on_made_up_rows(tmp_path):
    holdfast.save(zoo.fitted(zoo.FORMULAS["logit"]), "kept", store=tmp_path / "s")
    golden = holdfast.get("kept", store=tmp_path / "s").record.golden
    assert (golden["level"], golden["method"]) == ("synthetic", "predict")


def test_what_was_asked_of_results_does_not_change_their_content(tmp_path):
    result = zoo.fitted(zoo.RESULTS["Logit"])
    holdfast.save(result, "kept", inputs=zoo.NAMED, store=tmp_path / "s")
    result.summary(), result.get_margeff()
    version = holdfast.save(result, "kept", inputs=zoo.NAMED, store=tmp_path / "s")
    assert version.same_content_as == "kept@v1"
    loaded = holdfast.load("kept", store=tmp_path / "s")
    third = holdfast.save(loaded, "kept", inputs=zoo.NAMED, store=tmp_path / "s")
    assert third.same_content_as is not None


def test_results_without_their_data_keep_what_was_computed_before(views):
    result = zoo.fitted(zoo.RESULTS["OLS of tables"])
    result.summary()
    answers, share = result.predict(zoo.NAMED), result.rsquared
    result.remove_data()
    again = kept(views, result)
    assert again.model.endog is None
    assert (again.rsquared, list(again.params.index)) == (share, ["const", "a", "b"])
    assert same(again.predict(zoo.NAMED), answers)
    shown, expected = told(again), told(result)
    assert [name for name in shown if not same(shown[name], expected[name])] == []


def test_functions_of_a_fit_are_forgotten_and_the_live_results_keep_theirs(views):
    result = zoo.fitted(zoo.RESULTS["Poisson"])
    before = result.mle_settings["callback"]
    again = kept(views, result)
    assert again.mle_settings["callback"] is None
    assert result.mle_settings["callback"] == before is not None


def test_results_of_recursive_least_squares_are_refused_with_the_way_out():
    result = zoo.fitted(lambda: sm.RecursiveLS(zoo.FRAME["y"], zoo.NAMED).fit())
    with pytest.raises(Unsupported, match="compiled filters"):
        adapter.pack(result, frameworks.registry())


def test_a_series_with_a_start_of_its_own_is_refused_at_save(tmp_path):
    model = sm.tsa.SARIMAX(zoo.SERIES, order=(1, 0, 0))
    model.initialize_known(np.array([3.0]), np.array([[2.0]]))
    result = zoo.fitted(lambda: model.fit(disp=0))
    with pytest.raises(holdfast.errors.HoldfastError, match=r"llf|forecast|params|resid"):
        holdfast.save(result, "kept", store=tmp_path / "s")


def forged(views, result, change):
    payload = adapter.pack(result, frameworks.registry())
    structure = change(payload.structure)
    tensors = views(payload)
    audit = codec.audit(structure, tensors, frameworks.registry())
    parts = Opened(structure=structure, audit=audit, tensors=tensors, files={}, facts={})
    return adapter.unpack(parts, frameworks.registry(), LoadOptions())


def with_text(structure, old, new):
    nodes = [("str", new) if tuple(node) == ("str", old) else node for node in structure.nodes]
    assert nodes != list(structure.nodes)
    return replace(structure, nodes=tuple(nodes))


@pytest.mark.parametrize("name", ["fit", "__class__", "_hessian_nb2x", "score_obs"])
def test_a_method_that_a_model_may_not_hold_is_refused(views, name):
    result = zoo.fitted(zoo.RESULTS["NegativeBinomial"])
    with pytest.raises(Corrupt, match="no method"):
        forged(views, result, lambda structure: with_text(structure, "_hessian_nb2", name))


@pytest.mark.parametrize("name", ["os.system", "statsmodels.class", "builtins.eval", ""])
def test_a_class_that_is_not_in_the_table_is_refused(views, name):
    result = zoo.fitted(zoo.RESULTS["BetaModel"])
    old = "statsmodels.betareg.BetaResults"
    with pytest.raises(Corrupt, match="none of the table"):
        forged(views, result, lambda structure: with_text(structure, old, name))


@pytest.mark.parametrize("number", [1_000_000, 10**9, -(10**6)])
def test_a_state_space_model_of_any_size_is_refused_before_it_is_made(views, number):
    result = zoo.fitted(zoo.SPACE["SARIMAX"])

    def change(structure):
        nodes = [("int", number) if tuple(n) == ("int", 4) else n for n in structure.nodes]
        assert nodes != list(structure.nodes)
        return replace(structure, nodes=tuple(nodes))

    with pytest.raises(Corrupt, match=r"beyond|states"):
        forged(views, result, change)
