"""Every estimator of scikit-learn is kept: same answers, attributes, parameters, repr and clone."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from holdfast import codec, frameworks
from holdfast.errors import Unsupported
from holdfast.frameworks import sklearn as adapter
from holdfast.frameworks.base import LoadOptions, Opened


def imported_zoo():
    name = "sklearn_zoo"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


zoo = imported_zoo()
EXPERIMENTAL = {"HalvingGridSearchCV", "HalvingRandomSearchCV", "IterativeImputer"}
# Estimators that are not kept, with the reason; at most one may stand here.
EXCLUDED: dict[str, str] = {}

pytestmark = pytest.mark.filterwarnings("ignore")  # how scikit-learn's fits go is not our subject


def kept(views, model):
    """Return the model as a load builds it."""
    payload = adapter.pack(model, frameworks.registry())
    tensors = views(payload)
    audit = codec.audit(payload.structure, tensors, frameworks.registry())
    parts = Opened(structure=payload.structure, audit=audit, tensors=tensors, files={}, facts={})
    return adapter.unpack(parts, frameworks.registry(), LoadOptions())


@pytest.fixture(name="keep")
def keep_and_build(views):
    return partial(kept, views)


def same(one, other, close=False):  # noqa: PLR0911 - a line per kind of answer
    """Compare answers bit for bit, or as nearly as another memory layout allows."""
    if type(one) is not type(other):
        return False
    if sparse.issparse(one):
        return same(one.toarray(), other.toarray(), close)
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same(a, b, close) for a, b in pairs)
    if isinstance(one, np.ndarray) and one.dtype == object:
        return one.shape == other.shape and same(one.ravel().tolist(), other.ravel().tolist())
    if isinstance(one, np.ndarray):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        if one.dtype.kind != "f":
            return np.array_equal(one, other)
        if close:
            return np.allclose(one, other, rtol=1e-9, atol=1e-6, equal_nan=True)
        return np.array_equal(one, other, equal_nan=True)
    return one == other


def shown(model):
    return re.sub(r" at 0x[0-9a-f]+", "", repr(model))


def require_kept(case, keep):
    again = keep(case.model)
    answers = zoo.answers(case)
    found = zoo.answers(zoo.Case(case.name, again, case.inputs))
    assert found.keys() == answers.keys()
    differing = [name for name in answers if not same(answers[name], found[name])]
    if differing:
        # Only where a plain copy differs as well: BLAS sums in another order when arrays lie
        # elsewhere in memory.
        copy = zoo.Case(case.name, pickle.loads(pickle.dumps(case.model)), case.inputs)
        copied = zoo.answers(copy)
        for name in differing:
            assert not same(answers[name], copied[name]), f"only we change {name}"
            assert same(answers[name], found[name], close=True), name
    assert adapter.difference(case.model, again, frameworks.registry()) is None
    assert shown(again) == shown(case.model)
    assert again.get_params().keys() == case.model.get_params().keys()
    assert shown(clone(again)) == shown(clone(case.model))


@pytest.fixture(name="outcomes", scope="module")
def every_estimator(views):
    """Keep each estimator, fitted and not; return what went wrong by name, None where nothing."""
    found = {}
    for name, kind in zoo.kinds().items():
        if name in EXCLUDED:
            continue
        try:
            require_kept(zoo.fitted(kind, {}), partial(kept, views))
            unfitted = zoo.unfitted(kind)
            assert shown(kept(views, unfitted)) == shown(unfitted)
            found[name] = None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this estimator's outcome
            found[name] = error
    return found


@pytest.mark.keeps("scikit-learn", "every estimator of the installed release", "sklearn")
@pytest.mark.parametrize("name", sorted(zoo.kinds()))
def test_an_estimator(name, outcomes):
    if name in EXCLUDED:
        pytest.skip(EXCLUDED[name])
    if outcomes[name] is not None:
        raise outcomes[name]


def test_all_of_them_are_kept(capsys, outcomes):
    good = {name for name, error in outcomes.items() if error is None}
    usual = zoo.kinds().keys() - EXPERIMENTAL
    with capsys.disabled():
        sys.stdout.write(
            f"\nscikit-learn {sklearn.__version__}: {len(good & usual)}/{len(usual)} estimators "
            f"kept, and {len(good & EXPERIMENTAL)}/{len(EXPERIMENTAL)} experimental ones, "
            "with no trust list\n"
        )
    assert zoo.kinds().keys() - good == EXCLUDED.keys()
    assert len(EXCLUDED) <= 1


def named(option):
    shown = re.sub(r" at 0x[0-9a-f]+", "", str(option.params))
    return f"{option.kind}-{shown[:40]}"


@pytest.mark.keeps("scikit-learn", "options that change what is fitted", "sklearn")
@pytest.mark.parametrize("option", zoo.options(), ids=named)
def test_options_that_matter(option, keep):
    require_kept(zoo.case_of(option), keep)


def test_metadata_routing_survives(keep):
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=GroupKFold(2), scoring=scorer)
        groups = np.arange(zoo.ROWS) % 4
        search.fit(zoo.X, zoo.CLASSES, sample_weight=np.ones(zoo.ROWS), groups=groups)
        again = keep(search)
        assert repr(again.estimator.get_metadata_routing()) == repr(model.get_metadata_routing())
        assert repr(again.get_metadata_routing()) == repr(search.get_metadata_routing())
        assert same(again.predict_proba(zoo.X), search.predict_proba(zoo.X))


def test_a_model_fitted_further_goes_on_as_the_live_one(keep):
    features, classes = zoo.X, zoo.CLASSES
    for name in ("SGDClassifier", "MLPClassifier", "MiniBatchKMeans", "Birch", "IncrementalPCA"):
        live = zoo.fitted(zoo.kinds()[name], {}).model
        built = keep(live)
        for model in (live, built):
            np.random.seed(0)
            model.partial_fit(features, classes)
        outputs = [
            model.predict(features) if hasattr(model, "predict") else model.transform(features)
            for model in (live, built)
        ]
        assert same(*outputs, close=True), name


def test_a_distance_of_the_users_own_is_refused(keep):
    model = zoo.fitted(
        zoo.kinds()["KNeighborsClassifier"],
        {"algorithm": "ball_tree", "metric": lambda a, b: float(np.abs(a - b).sum())},
    ).model
    with pytest.raises(Unsupported, match="code is never kept in a file"):
        keep(model)


def test_what_a_process_made_up_is_not_kept():
    """The address a vectorizer remembers would give each save another content."""
    texts = ["rain in rome", "sun in oslo"]
    structures = []
    for stop_words in (["in", "a b"[:1]], ["in", "a"]):
        model = TfidfVectorizer(stop_words=stop_words).fit(texts)
        model.transform(texts)
        structures.append(adapter.pack(model, frameworks.registry()).structure)
    assert structures[0] == structures[1]


def test_an_attribute_that_an_encoder_dropped_is_named(keep):
    live = make_pipeline(StandardScaler(), LogisticRegression()).fit(zoo.X, zoo.BINARY)
    built = keep(live)
    del built.steps[1][1].coef_
    found = adapter.difference(live, built, frameworks.registry())
    assert found == "pipeline.steps[1][1] loses or gains the attribute 'coef_'"
    built = keep(live)
    built.steps[0][1].scale_[2] += 1e-9
    found = adapter.difference(live, built, frameworks.registry())
    assert found == "pipeline.steps[0][1].scale_ comes back with other numbers"
    built = keep(live)
    built.steps[1][1].class_weight = {True: 1}
    with warnings.catch_warnings():
        found = adapter.difference(live, built, frameworks.registry())
    assert found.startswith("pipeline.steps[1][1].class_weight was a NoneType")
