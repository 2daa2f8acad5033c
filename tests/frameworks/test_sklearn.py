"""scikit-learn estimators: same answers, same attributes, refused before anything could crash."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from holdfast import codec, frameworks
from holdfast.errors import Corrupt, HoldfastError, Unsupported
from holdfast.frameworks import sklearn as adapter
from holdfast.frameworks.base import LoadOptions, Opened

DIGITS = load_digits(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


def opened(structure, tensors):
    audit = codec.audit(structure, tensors, frameworks.registry())
    return Opened(structure=structure, audit=audit, tensors=tensors, files={}, facts={})


def rebuild(structure, tensors):
    parts = opened(structure, tensors)
    return adapter.unpack(parts, frameworks.registry(), LoadOptions())


@pytest.fixture(name="keep")
def keep_and_build(views):
    def run(model):
        payload = adapter.pack(model, frameworks.registry())
        return rebuild(payload.structure, views(payload))

    return run


def mixed_frame():
    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, :4].copy()
    frame["city"] = np.where(data.target == 1, "Oslo", np.where(frame.index % 3, "Rome", "Lima"))
    frame.loc[::7, "mean radius"] = np.nan
    return frame, data.target


def column_transformer(**encoder):
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", numbers, ["mean radius", "mean texture"]),
            ("city", OneHotEncoder(**encoder), ["city"]),
        ],
        remainder="passthrough",
    )


CLASSIFIERS = {
    "forest": RandomForestClassifier(12, random_state=0),
    "forest, balanced": RandomForestClassifier(5, class_weight="balanced", oob_score=False),
    "forest, best first": RandomForestClassifier(5, max_leaf_nodes=9, random_state=1),
    "forest, one leaf": RandomForestClassifier(3, min_samples_leaf=5000),
    "extra trees": ExtraTreesClassifier(7, random_state=0),
    "tree": DecisionTreeClassifier(random_state=0),
    "extra tree": ExtraTreeClassifier(random_state=0),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "pca": make_pipeline(MinMaxScaler(), PCA(8, random_state=0), GaussianNB()),
    "union": make_pipeline(
        FeatureUnion([("svd", TruncatedSVD(3, random_state=0)), ("norm", Normalizer())]),
        LogisticRegression(solver="liblinear"),
    ),
}


@pytest.mark.filterwarnings("ignore:'n_jobs' has no effect")
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_bit_for_bit_the_same(keep, name):
    model = clone(CLASSIFIERS[name])
    features, target = DIGITS
    if "liblinear" in repr(model):
        target = target == 3
    model.fit(features, target)
    again = keep(model)
    assert type(again) is type(model)
    assert np.array_equal(model.predict_proba(features), again.predict_proba(features))
    assert np.array_equal(model.predict(features), again.predict(features))
    assert repr(again) == repr(model)
    assert repr(clone(again)) == repr(clone(model))


@pytest.mark.parametrize(
    "model",
    [
        RandomForestRegressor(8, random_state=0),
        ExtraTreesRegressor(5, bootstrap=True, oob_score=True, random_state=0),
        DecisionTreeRegressor(criterion="absolute_error", max_depth=4, random_state=0),
        make_pipeline(RobustScaler(), Ridge()),
        make_pipeline(MaxAbsScaler(), ElasticNet(0.01)),
        LinearRegression(),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.filterwarnings("ignore:Some inputs do not have OOB scores")
def test_a_regressor_answers_bit_for_bit_the_same(keep, model, outputs):
    features, target = DIABETES
    target = target if outputs == 1 else np.column_stack([target, target**2, -target])
    model = clone(model).fit(features, target)
    assert np.array_equal(model.predict(features), keep(model).predict(features))


@pytest.mark.parametrize(
    "options",
    [
        {"handle_unknown": "ignore"},
        {"drop": "first"},
        {"min_frequency": 150, "handle_unknown": "infrequent_if_exist"},
        {"max_categories": 2, "drop": "if_binary", "sparse_output": False},
    ],
    ids=str,
)
def test_a_column_transformer_with_names_gaps_and_categories(keep, options):
    frame, target = mixed_frame()
    model = make_pipeline(column_transformer(**options), LogisticRegression(max_iter=5000))
    model.fit(frame, target)
    again = keep(model)
    assert np.array_equal(model.predict_proba(frame), again.predict_proba(frame))
    names = [m[:-1].get_feature_names_out().tolist() for m in (model, again)]
    assert names[0] == names[1]
    assert list(again.feature_names_in_) == list(frame.columns)


def test_fitted_attributes_survive_with_their_types(keep, assert_same_graph):
    frame, target = mixed_frame()
    model = make_pipeline(column_transformer(), StandardScaler(with_mean=False)).fit(frame, target)
    for name, step in model.named_steps.items():
        assert vars(step).keys() == vars(keep(model).named_steps[name]).keys()
    encoder = OrdinalEncoder().fit(frame[["city"]])
    again = keep(encoder)
    assert_same_graph(*(dict(sorted(vars(each).items())) for each in (encoder, again)))
    labels = LabelEncoder().fit(["b", "a", "b"])
    assert keep(labels).transform(["a", "b"]).tolist() == [0, 1]


def test_every_tree_of_a_forest_is_its_own_object(keep):
    model = RandomForestClassifier(4, random_state=0).fit(*DIGITS)
    again = keep(model)
    for one, other in zip(model.estimators_, again.estimators_, strict=True):
        assert vars(one).keys() == vars(other).keys()
        assert one.random_state == other.random_state
        states = [tree.tree_.__getstate__() for tree in (one, other)]
        assert states[0]["nodes"].tobytes() == states[1]["nodes"].tobytes()
        assert states[0]["max_depth"] == states[1]["max_depth"]
    assert again.estimators_[0].classes_ is not again.estimators_[1].classes_
    assert np.array_equal(
        model.decision_path(DIGITS[0])[0].toarray(), again.decision_path(DIGITS[0])[0].toarray()
    )


def test_trees_that_differ_in_their_attributes_are_kept_one_by_one(keep):
    model = RandomForestClassifier(3, random_state=0).fit(*DIGITS)
    model.estimators_[1]._sklearn_output_config = {"transform": "default"}
    again = keep(model)
    assert np.array_equal(model.predict_proba(DIGITS[0]), again.predict_proba(DIGITS[0]))
    assert "_sklearn_output_config" in vars(again.estimators_[1])


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (make_pipeline(PCA(), FunctionTransformer(lambda x: x)), "pipeline.steps[1].func"),
        (Pipeline([("a", FeatureUnion([("f", FunctionTransformer(print))]))]),
         "pipeline.steps[0].transformer_list[0].func"),
    ],
    ids=["lambda", "function"],
)  # fmt: skip
def test_code_is_refused_with_its_path_and_the_fix(model, path):
    with pytest.raises(Unsupported, match=r"code is never kept") as caught:
        adapter.pack(model, frameworks.registry())
    assert str(caught.value).startswith(f"{path} is ")
    assert "Try: " in str(caught.value)


def test_an_attribute_of_the_users_own_is_refused_not_lost():
    model = make_pipeline(StandardScaler()).fit(DIGITS[0])
    model.steps[0][1].trained_by = "ana"
    with pytest.raises(Unsupported, match=r"^pipeline\.steps\[0\]\.trained_by is an attribute"):
        adapter.pack(model, frameworks.registry())


def test_methods_need_a_fitted_model():
    assert adapter.methods(LogisticRegression()) == ()
    fitted = StandardScaler().fit(DIGITS[0])
    assert adapter.methods(fitted) == ("transform",)
    assert adapter.methods(LogisticRegression().fit([[0], [1]], [0, 1]))[0] == "predict_proba"


def test_synthetic_inputs_have_the_fitted_names():
    frame = pd.DataFrame(DIGITS[0][:, :3], columns=list("abc"))
    made = adapter.synthetic(StandardScaler().fit(frame), 8, 1)
    assert list(made.columns) == list("abc")
    assert made.equals(adapter.synthetic(StandardScaler().fit(frame), 8, 1))
    assert adapter.synthetic(LabelEncoder().fit([1, 2]), 8, 1) is None


def test_a_steady_call_leaves_random_states_alone():
    state = np.random.RandomState(3)
    model = TruncatedSVD(2, random_state=state).fit(DIGITS[0])
    before, global_before = state.get_state()[1].copy(), np.random.get_state()[1].copy()
    with adapter.steady(model):
        state.normal(size=10)
        np.random.normal(size=10)
    assert np.array_equal(before, state.get_state()[1])
    assert np.array_equal(global_before, np.random.get_state()[1])


FOREST = RandomForestClassifier(3, max_depth=5, random_state=0).fit(*DIGITS)
COLUMNS = (
    "left_child", "right_child", "feature", "threshold", "impurity", "n_node_samples",
    "weighted_n_node_samples", "missing_go_to_left", "counts", "values", "n_classes",
)  # fmt: skip


def forest_with(views, change):
    """Return the parts of a forest whose column arrays went through ``change``."""
    payload = adapter.pack(FOREST, frameworks.registry())
    tensors = views(payload)
    changed = {}
    for name, view in tensors.items():
        column = name.rpartition(".")[2]
        data = bytearray(view.data)
        change(column, data)
        changed[name] = type(view)(view.dtype, view.shape, memoryview(data))
    return payload.structure, changed


@pytest.mark.parametrize(
    ("column", "position", "value"),
    [
        ("left_child", 0, 0),  # a node that is its own child
        ("left_child", 1, 0),  # a loop back to the root
        ("left_child", 0, 10_000),
        ("left_child", 0, -2),
        ("right_child", 0, 1),  # both children the same
        ("right_child", 0, -1),  # half a leaf
        ("feature", 0, 64),
        ("feature", 0, -3),
        ("feature", 0, 2**31 - 1),
    ],
)
def test_a_forged_forest_is_refused_before_a_tree_is_built(views, column, position, value):
    def change(name, data):
        if name == column:
            np.frombuffer(data, dtype="<i4")[position] = value

    structure, tensors = forest_with(views, change)
    with pytest.raises(Corrupt):
        rebuild(structure, tensors)


def test_a_width_that_inputs_are_not_checked_against_is_refused(views):
    payload = adapter.pack(FOREST, frameworks.registry())
    tensors = views(payload)
    for place, node in enumerate(payload.structure.nodes):
        if node == ("int", 64):
            nodes = list(payload.structure.nodes)
            nodes[place] = ("int", 4)
            forged = type(payload.structure)(
                types=payload.structure.types, nodes=tuple(nodes), root=payload.structure.root
            )
            with pytest.raises(Corrupt):
                rebuild(forged, tensors)
            break
    else:
        pytest.fail("the width was not found in the table")


@settings(max_examples=150, deadline=None)
@given(
    column=st.sampled_from(COLUMNS),
    position=st.integers(0, 10**6),
    value=st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-3, 130)),
)
def test_any_changed_number_is_refused_or_harmless(views, column, position, value):
    def change(name, data):
        if name == column and len(data) >= 4:
            words = np.frombuffer(data, dtype="<i4", count=len(data) // 4)
            words[position % len(words)] = value

    structure, tensors = forest_with(views, change)
    try:
        model = rebuild(structure, tensors)
    except HoldfastError:
        return
    assert model.predict_proba(DIGITS[0][:50]).shape == (50, 10)
    model.decision_path(DIGITS[0][:5])


def test_categories_cannot_index_outside_the_encoded_columns(views):
    frame, _ = mixed_frame()
    encoder = OneHotEncoder(min_frequency=150, handle_unknown="ignore").fit(frame[["city"]])
    payload = adapter.pack(encoder, frameworks.registry())
    assert not any("_n_features_outs" in str(node) for node in payload.structure.nodes)
    tensors = views(payload)
    name = next(n for n in tensors if "mappings" in n)
    data = bytearray(tensors[name].data)
    np.frombuffer(data, dtype="<i8")[0] = 10**9
    view = tensors[name]
    tensors[name] = type(view)(view.dtype, view.shape, memoryview(data))
    with pytest.raises(Corrupt, match="out of range"):
        rebuild(payload.structure, tensors)


def test_importing_the_adapter_imports_no_sklearn():
    code = "import sys, holdfast.frameworks.sklearn; sys.exit('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
