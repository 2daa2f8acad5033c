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
# Estimators that are refused, or come back with a part that makes no difference to them.
REFUSED = {"IsotonicRegression", "HalvingRandomSearchCV", "RandomizedSearchCV"}
DIFFERENT = {"GridSearchCV": "fill", "HalvingGridSearchCV": "fill"}


def imported_zoo():
    place = Path(__file__).parent.parent / "frameworks" / "sklearn_zoo.py"
    spec = importlib.util.spec_from_file_location("sklearn_zoo_of_rescue", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def forest():
    return RandomForestClassifier(5, random_state=0).fit(X, X[:, 0] > 0)


def test_every_estimator_read_as_data_equals_the_unpickled_one(tmp_path, capsys):
    registry = frameworks.registry()
    good, refused, different = 0, set(), {}
    for case in imported_zoo().plain_cases():
        name = type(case.model).__name__
        path = tmp_path / "model.pkl"
        path.write_bytes(pickle.dumps(case.model))
        try:
            again = read_pickle(path, registry)
        except (Unsupported, Corrupt):
            refused.add(name)
            continue
        truth = pickle.loads(path.read_bytes())
        found = codec.first_difference(truth, again, registry, label=name)
        if found is None:
            good += 1
        else:
            different[name] = found
    with capsys.disabled():
        told = f"{good} estimators from pickles as data; refused: {sorted(refused)}\n"
        sys.stderr.write(told)
    assert refused <= REFUSED
    assert different.keys() <= DIFFERENT.keys()
    assert all(DIFFERENT[name] in found for name, found in different.items())
    assert good >= 200


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_protocol_is_read(protocol, tmp_path):
    model = forest()
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model, protocol))
    again = read_pickle(path, frameworks.registry())
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_joblib_files_are_read_compressed_or_not(compress, tmp_path):
    model = forest()
    path = tmp_path / "model.joblib"
    joblib.dump(model, path, compress=compress)
    again = read_pickle(path, frameworks.registry())
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
print(type(pickle_files.read_pickle(Path({str(path)!r}), frameworks.registry())).__name__)
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
