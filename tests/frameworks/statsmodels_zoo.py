"""Fitted results of statsmodels, one or more of each family, on small data.

Used by the tests and by ``tools/list_statsmodels_types.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.discrete import count_model, truncated_model
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.genmod import families
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.othermod.betareg import BetaModel
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.regression.rolling import RollingOLS
from statsmodels.tsa.api import (
    VAR,
    AutoReg,
    ExponentialSmoothing,
    Holt,
    SimpleExpSmoothing,
)
from statsmodels.tsa.statespace.exponential_smoothing import (
    ExponentialSmoothing as SmoothingInSpace,
)

__all__ = ["EXOG", "FORMULAS", "FRAME", "RESULTS", "SPACE", "fitted"]

ROWS: Final = 60


def _frame() -> pd.DataFrame:
    random = np.random.default_rng(3)
    a, b = random.uniform(1, 3, ROWS), random.normal(size=ROWS)
    linear = 0.4 + 0.5 * a - 0.3 * b
    return pd.DataFrame(
        {
            "a": a,
            "b": b,
            "g": np.array(["x", "y", "z"])[np.arange(ROWS) % 3],
            "group": np.arange(ROWS) % 6,
            "y": linear + random.normal(size=ROWS) * 0.3,
            "positive": np.exp(linear) * random.gamma(4, 0.25, ROWS),
            "share": 1 / (1 + np.exp(-linear + random.normal(size=ROWS))),
            "yes": (random.uniform(size=ROWS) < 1 / (1 + np.exp(-linear + 1))).astype(int),
            "kind": random.integers(0, 3, ROWS),
            "count": random.poisson(np.exp(linear)),
        }
    )


FRAME: Final = _frame()
NAMED: Final = sm.add_constant(FRAME[["a", "b"]])
EXOG: Final = np.asarray(NAMED)
PLAIN: Final = EXOG[:, 1:]
GROUPS: Final = FRAME["group"].to_numpy()
SERIES: Final = pd.Series(
    10 + np.cumsum(np.random.default_rng(5).normal(size=80)) + np.tile([0.0, 1.5, -1.0, 0.5], 20),
    index=pd.date_range("2020-01-01", periods=80, freq="MS"),
    name="sales",
)
TWO: Final = pd.DataFrame({"one": SERIES, "two": SERIES.shift(1).bfill() + np.arange(80) % 5})


def _family(name: str) -> Callable[[], Any]:
    kinds: dict[str, tuple[Any, str]] = {
        "Gaussian": (families.Gaussian(), "y"),
        "Binomial": (families.Binomial(), "yes"),
        "Poisson": (families.Poisson(), "count"),
        "Gamma": (families.Gamma(families.links.Log()), "positive"),
        "InverseGaussian": (families.InverseGaussian(families.links.Log()), "positive"),
        "NegativeBinomial": (families.NegativeBinomial(alpha=0.8), "count"),
        "Tweedie": (families.Tweedie(families.links.Power(0.5), var_power=1.5), "positive"),
    }
    family, column = kinds[name]
    return lambda: sm.GLM(FRAME[column].to_numpy(), EXOG, family=family).fit()


def _link(name: str) -> Callable[[], Any]:
    link = getattr(families.links, name)
    return lambda: sm.GLM(FRAME["yes"], NAMED, family=families.Binomial(link())).fit()


def _y(column: str) -> Any:
    return FRAME[column].to_numpy()


RESULTS: Final[dict[str, Callable[[], Any]]] = {
    "OLS": lambda: sm.OLS(_y("y"), EXOG).fit(),
    "OLS of tables": lambda: sm.OLS(FRAME["y"], NAMED).fit(),
    "OLS with HC3": lambda: sm.OLS(FRAME["y"], NAMED).fit(cov_type="HC3"),
    "OLS with clusters": lambda: sm.OLS(_y("y"), EXOG).fit(
        cov_type="cluster", cov_kwds={"groups": GROUPS}
    ),
    "OLS with HAC": lambda: sm.OLS(_y("y"), EXOG).fit(cov_type="HAC", cov_kwds={"maxlags": 2}),
    "OLS regularized": lambda: sm.OLS(_y("y"), EXOG).fit_regularized(alpha=0.05),
    "WLS": lambda: sm.WLS(FRAME["y"], NAMED, weights=1 + FRAME["a"]).fit(),
    "GLS": lambda: sm.GLS(_y("y"), EXOG, sigma=1 + FRAME["a"].to_numpy()).fit(),
    "GLSAR": lambda: sm.GLSAR(_y("y"), EXOG, rho=1).iterative_fit(3),
    "RollingOLS": lambda: RollingOLS(_y("y"), EXOG, window=20).fit(),
    "QuantReg": lambda: sm.QuantReg(FRAME["y"], NAMED).fit(q=0.4),
    "RLM": lambda: sm.RLM(FRAME["y"], NAMED, M=sm.robust.norms.TukeyBiweight()).fit(),
    "RLM Huber": lambda: sm.RLM(_y("y"), EXOG).fit(),
    **{f"GLM {name}": _family(name) for name in (
        "Gaussian", "Binomial", "Poisson", "Gamma", "InverseGaussian", "NegativeBinomial",
        "Tweedie",
    )},
    **{f"GLM Binomial {name}": _link(name) for name in (
        "Logit", "Probit", "Cauchy", "CLogLog", "LogLog",
    )},
    "GLM with offset": lambda: sm.GLM(
        FRAME["count"], NAMED, family=families.Poisson(), exposure=FRAME["a"]
    ).fit(),
    "GLM of weights": lambda: sm.GLM(
        FRAME["count"], NAMED, family=families.Poisson(), freq_weights=np.ones(ROWS)
    ).fit(),
    "GLM by newton": lambda: sm.GLM(_y("count"), EXOG, family=families.Poisson()).fit(
        method="newton"
    ),
    "GLM regularized": lambda: sm.GLM(
        _y("count"), EXOG, family=families.Poisson()
    ).fit_regularized(alpha=0.02),
    "Logit": lambda: sm.Logit(FRAME["yes"], NAMED).fit(disp=0),
    "Logit of arrays": lambda: sm.Logit(_y("yes"), EXOG).fit(disp=0, method="bfgs"),
    "Logit regularized": lambda: sm.Logit(_y("yes"), EXOG).fit_regularized(alpha=0.1, disp=0),
    "Probit": lambda: sm.Probit(FRAME["yes"], NAMED).fit(disp=0),
    "MNLogit": lambda: sm.MNLogit(FRAME["kind"], NAMED).fit(disp=0),
    "Poisson": lambda: sm.Poisson(FRAME["count"], NAMED).fit(disp=0),
    "NegativeBinomial": lambda: sm.NegativeBinomial(_y("count"), EXOG).fit(disp=0),
    "NegativeBinomialP": lambda: sm.NegativeBinomialP(_y("count"), EXOG).fit(disp=0),
    "GeneralizedPoisson": lambda: sm.GeneralizedPoisson(_y("count"), EXOG).fit(disp=0),
    "ZeroInflatedPoisson": lambda: count_model.ZeroInflatedPoisson(
        np.where(np.arange(ROWS) % 4, _y("count"), 0), EXOG
    ).fit(disp=0),
    "TruncatedLFPoisson": lambda: truncated_model.TruncatedLFPoisson(
        _y("count")[_y("count") > 0], EXOG[_y("count") > 0]
    ).fit(disp=0),
    "HurdleCountModel": lambda: truncated_model.HurdleCountModel(_y("count"), EXOG).fit(disp=0),
    "ConditionalLogit": lambda: sm.ConditionalLogit(_y("yes"), PLAIN, groups=GROUPS).fit(disp=0),
    "OrderedModel": lambda: OrderedModel(_y("kind"), PLAIN, distr="logit").fit(disp=0),
    "BetaModel": lambda: BetaModel(_y("share"), EXOG).fit(disp=0),
    "MixedLM": lambda: MixedLM(FRAME["y"], NAMED, groups=FRAME["group"]).fit(),
    "GEE": lambda: sm.GEE(
        FRAME["y"], NAMED, groups=FRAME["group"], cov_struct=sm.cov_struct.Exchangeable()
    ).fit(),
    "GEE Poisson": lambda: sm.GEE(
        _y("count"), EXOG, groups=GROUPS, family=families.Poisson(),
        cov_struct=sm.cov_struct.Independence(),
    ).fit(),
    "PHReg": lambda: PHReg(_y("positive"), PLAIN, status=_y("yes")).fit(),
    "ExponentialSmoothing": lambda: ExponentialSmoothing(
        SERIES, trend="add", seasonal="add", seasonal_periods=4
    ).fit(),
    "Holt": lambda: Holt(
        SERIES.to_numpy(), damped_trend=True, initialization_method="estimated"
    ).fit(),
    "SimpleExpSmoothing": lambda: SimpleExpSmoothing(
        SERIES, initialization_method="estimated"
    ).fit(),
    "AutoReg": lambda: AutoReg(SERIES, lags=2).fit(),
    "AutoReg of arrays": lambda: AutoReg(SERIES.to_numpy(), lags=[1, 4], trend="ct").fit(),
    "VAR": lambda: VAR(TWO).fit(2),
}  # fmt: skip

SPACE: Final[dict[str, Callable[[], Any]]] = {
    "SARIMAX": lambda: sm.tsa.SARIMAX(
        SERIES, order=(1, 0, 1), seasonal_order=(1, 0, 0, 4), trend="c"
    ).fit(disp=0),
    "SARIMAX with exog": lambda: sm.tsa.SARIMAX(
        SERIES.to_numpy(), exog=np.arange(80.0) ** 0.5, order=(1, 1, 0)
    ).fit(disp=0),
    "ARIMA": lambda: sm.tsa.ARIMA(SERIES, order=(2, 1, 1)).fit(),
    "UnobservedComponents": lambda: sm.tsa.UnobservedComponents(
        SERIES, "local linear trend", seasonal=4
    ).fit(disp=0),
    "VARMAX": lambda: sm.tsa.VARMAX(TWO, order=(1, 0)).fit(disp=0, maxiter=5),
    "DynamicFactor": lambda: sm.tsa.DynamicFactor(TWO, k_factors=1, factor_order=1).fit(
        disp=0, maxiter=5
    ),
    "ExponentialSmoothing in state space": lambda: SmoothingInSpace(
        SERIES, trend=True, initialization_method="estimated"
    ).fit(disp=0),
}

FORMULAS: Final[dict[str, Callable[[], Any]]] = {
    "ols": lambda: smf.ols("y ~ np.log(a) + C(g)", FRAME).fit(),
    "ols of products": lambda: smf.ols("y ~ a * b + I(a ** 2) + np.exp(-b / 2) - 1", FRAME).fit(),
    "ols standardized": lambda: smf.ols("y ~ standardize(a) + center(b):C(g)", FRAME).fit(),
    "ols splines": lambda: smf.ols("y ~ bs(a, df=4) + cr(b, df=3)", FRAME).fit(),
    "ols of contrasts": lambda: smf.ols(
        "y ~ C(g, Sum) + C(group, Treatment(reference=2))", FRAME
    ).fit(),
    "ols of a power": lambda: smf.ols("np.log(positive) ~ a + np.power(b, 2) + g", FRAME).fit(),
    "glm": lambda: smf.glm("count ~ a + C(g)", FRAME, family=families.Poisson()).fit(),
    "logit": lambda: smf.logit("yes ~ a + Q('b')", FRAME).fit(disp=0),
    "mnlogit": lambda: smf.mnlogit("kind ~ a", FRAME).fit(disp=0),
    "quantreg": lambda: smf.quantreg("y ~ a", FRAME).fit(),
    "mixedlm": lambda: smf.mixedlm("y ~ a", FRAME, groups=FRAME["group"]).fit(),
    "gee": lambda: smf.gee("y ~ a", "group", FRAME).fit(),
    "negativebinomial": lambda: smf.negativebinomial("count ~ a", FRAME).fit(disp=0),
    "phreg": lambda: smf.phreg("positive ~ a + C(g)", FRAME, status=FRAME["yes"].to_numpy()).fit(),
}


def fitted(make: Callable[[], Any]) -> Any:
    """Fit without warnings: how well small data is fitted is not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()
