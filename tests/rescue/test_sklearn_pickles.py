"""scikit-learn pickles and joblib files are taken over as data, and equal what unpickling gives."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from holdfast import codec, frameworks
from holdfast.errors import Corrupt, EnvironmentMismatch, HoldfastError, Unsupported
from holdfast.rescue.pickle_files import read_pickle

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).normal(size=(60, 3))


def imported_zoo():
    place = Path(__file__).parent.parent / "frameworks" / "sklearn_zoo.py"
    spec = importlib.util.spec_from_file_location("sklearn_zoo_of_rescue", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def forest():
    return RandomForestClassifier(5, random_state=0).fit(X, X[:, 0] > 0)


@pytest.mark.slow
def test_every_estimator_read_as_data_equals_the_unpickled_one(tmp_path):
    registry = frameworks.registry()
    different, count = {}, 0
    for case in imported_zoo().plain_cases():
        name = type(case.model).__name__
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps(case.model))
        again = read_pickle(path, registry).model
        truth = pickle.loads(path.read_bytes())
        found = codec.first_difference(truth, again, registry, label=name)
        if found is not None:
            different[name] = found
        count += 1
    assert not different
    assert count >= 211


def test_searches_over_distributions_of_scipy_are_read(tmp_path):
    from scipy import stats
    from sklearn.model_selection import RandomizedSearchCV

    space = {"C": stats.loguniform(1e-3, 1e3), "max_iter": stats.randint(50, 90)}
    model = RandomizedSearchCV(LogisticRegression(), space, n_iter=3, random_state=0)
    model.fit(X, X[:, 0] > 0)
    for protocol in (2, 5):
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps(model, protocol))
        again = read_pickle(path, frameworks.registry()).model
        truth = pickle.loads(path.read_bytes())
        assert codec.first_difference(truth, again, frameworks.registry(), label="m") is None
        drawn = [each.param_distributions["C"].rvs(3, random_state=1) for each in (model, again)]
        assert np.array_equal(*drawn)
        again.fit(X, X[:, 0] > 0)
        assert again.best_params_ == model.best_params_


@pytest.mark.parametrize("out_of_bounds", ["clip", "nan", "raise"])
def test_an_isotonic_regression_predicts_as_the_one_that_was_pickled(out_of_bounds, tmp_path):
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds=out_of_bounds).fit(X[:, 0], X[:, 1])
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    again = read_pickle(path, frameworks.registry()).model
    places = np.linspace(X[:, 0].min(), X[:, 0].max(), 40)
    beyond = np.array([-100.0, 100.0])
    assert np.array_equal(again.predict(places), model.predict(places))
    if out_of_bounds == "raise":
        with pytest.raises(ValueError, match="interpolation range"):
            again.predict(beyond)
    else:
        assert np.array_equal(again.predict(beyond), model.predict(beyond), equal_nan=True)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_protocol_is_read(protocol, tmp_path):
    model = forest()
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model, protocol))
    again = read_pickle(path, frameworks.registry()).model
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_joblib_files_are_read_compressed_or_not(compress, tmp_path):
    model = forest()
    path = tmp_path / "model.joblib"
    joblib.dump(model, path, compress=compress)
    again = read_pickle(path, frameworks.registry()).model
    truth = joblib.load(path)
    assert codec.first_difference(truth, again, frameworks.registry(), label="m") is None


def test_neither_scikit_learn_nor_joblib_is_imported_before_the_object_is_built(tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(forest(), path)
    code = f"""
import sys
from pathlib import Path
from holdfast import codec, frameworks
from holdfast.rescue import pickle_files
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sklearn", "joblib"):
            raise ImportError(f"{{name}} is imported too early")
sys.meta_path.insert(0, Blocked())
decode = codec.decode
def unblocked(*args):
    del sys.meta_path[0]
    assert not {{"sklearn", "joblib"}} & sys.modules.keys()
    return decode(*args)
codec.decode = unblocked
print(type(pickle_files.read_pickle(Path({str(path)!r}), frameworks.registry()).model).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "RandomForestClassifier", done.stderr


def test_a_function_of_ones_own_is_refused_with_its_path(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(FunctionTransformer(imported_zoo)))
    with pytest.raises(Unsupported, match="func"):
        read_pickle(path, frameworks.registry())


def test_another_minor_release_is_refused_with_both_versions(tmp_path):
    data = pickle.dumps(LogisticRegression().fit(X, X[:, 0] > 0), 4)
    import sklearn

    old = data.replace(sklearn.__version__.encode(), b"0.9.1")
    path = tmp_path / "model.pkl"
    assert len(old) == len(data)
    path.write_bytes(old)
    with pytest.raises(EnvironmentMismatch, match=r"0\.9\.1"):
        read_pickle(path, frameworks.registry())


def test_mutated_pickles_are_refused_or_harmless(tmp_path):
    data = bytearray(pickle.dumps(forest().estimators_[0], 4))
    rng = np.random.default_rng(0)
    path = tmp_path / "model.pkl"
    registry = frameworks.registry()
    outcomes = set()
    for place in rng.integers(0, len(data), 400).tolist():
        kept, data[place] = data[place], int(rng.integers(256))
        path.write_bytes(data)
        try:
            read_pickle(path, registry)
            outcomes.add("read")
        except HoldfastError as error:
            outcomes.add(error.code)
        data[place] = kept
    assert len(outcomes) > 1


def test_truncated_pickles_are_corrupt(tmp_path):
    data = pickle.dumps(forest().estimators_[0], 4)
    path = tmp_path / "model.pkl"
    for end in range(1, len(data), 211):
        path.write_bytes(data[:end])
        with pytest.raises(Corrupt):
            read_pickle(path, frameworks.registry())
