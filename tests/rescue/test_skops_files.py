"""skops files come over as skops itself loads them, without its trust list and without imports."""

import importlib.util
import io
import json
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from holdfast import codec, frameworks
from holdfast.errors import HoldfastError, UnsafeContent
from holdfast.rescue.reading import read

pytestmark = pytest.mark.filterwarnings("ignore")


def node(loader, name, **more):
    module, _, name = name.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


TEXT = node("JsonNode", "builtins.str", content='"touch canary"', is_json=True)
ARGUMENTS = node("TupleNode", "builtins.tuple", content=[TEXT])
EMPTY = node(
    "DictNode", "builtins.dict", content={}, key_types=node("ListNode", "builtins.list", content=[])
)
HOSTILE = {
    "an object of the system": node("ObjectNode", "subprocess.Popen", content=EMPTY),
    "a function of the system": node("FunctionNode", "os.system"),
    "a call in the place of a loss": node(
        "LossNode", "os.system", content=EMPTY, __reduce__={"args": ARGUMENTS}
    ),
    "a call in the place of a tree": node(
        "TreeNode", "os.system", content=EMPTY, __reduce__={"args": ARGUMENTS}
    ),
    "a constructor": node("ConstructorFromReduceNode", "os.system", content=ARGUMENTS),
    "an operator": node("OperatorFuncNode", "operator.methodcaller", attrs=ARGUMENTS),
    "a method": node("MethodNode", "builtins.str", content={"obj": TEXT, "func": "format"}),
    "a list that says it is a class": node("ListNode", "os.system", content=[TEXT]),
    "a partial of the system": node(
        "PartialNode",
        "functools.partial",
        content={
            "func": node("FunctionNode", "os.system"), "args": ARGUMENTS,
            "kwds": EMPTY, "namespace": EMPTY,
        },
    ),
    "a generator of an unknown name": node(
        "RandomGeneratorNode", "numpy.random.Generator",
        content={"bit_generator": node(
            "DictNode", "builtins.dict", content={"bit_generator": TEXT},
            key_types=node("ListNode", "builtins.list", content=[node("TypeNode", "builtins.str")]),
        )},
    ),
}  # fmt: skip


def written(path, schema):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_nodes_that_would_run_something_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = node("ListNode", "builtins.list", content=[HOSTILE[name]])
    path = written(tmp_path / "m.skops", whole | {"protocol": 2, "_skops_version": "0.16.0"})
    with pytest.raises(HoldfastError):
        read(path, "skops")
    assert not (tmp_path / "canary").exists()


def test_a_class_that_another_reader_makes_is_unsafe(tmp_path):
    inner = node("ListNode", "builtins.dict", content=[])
    path = written(tmp_path / "m.skops", inner | {"protocol": 2})
    with pytest.raises(UnsafeContent, match="made as something else"):
        read(path, "skops")


@pytest.mark.parametrize("key", [("builtins.bool", True), ("builtins.bool", False)])
def test_keys_come_back_as_what_they_were(key, tmp_path):
    kind, value = key
    types = node("ListNode", "builtins.list", content=[node("TypeNode", kind)])
    inner = node("DictNode", "builtins.dict", content={str(value): TEXT}, key_types=types)
    path = written(tmp_path / "m.skops", inner | {"protocol": 2})
    assert read(path, "skops").model == {value: "touch canary"}


def test_nesting_without_end_is_refused(tmp_path):
    inner = node("ListNode", "builtins.list", content=[])
    for _ in range(400):
        inner = node("ListNode", "builtins.list", content=[inner])
    path = written(tmp_path / "m.skops", inner | {"protocol": 2})
    with pytest.raises(HoldfastError, match="deeply"):
        read(path, "skops")


# With skops itself.


def skops_io():
    return pytest.importorskip("skops.io", reason="skops is not installed")


def zoo():
    place = Path(__file__).parent.parent / "frameworks" / "sklearn_zoo.py"
    spec = importlib.util.spec_from_file_location("sklearn_zoo_of_skops", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_estimator_equals_what_skops_loads(tmp_path):
    sio = skops_io()
    registry = frameworks.registry()
    good, unwritten, different = 0, [], {}
    for case in zoo().plain_cases():
        name = type(case.model).__name__
        try:
            data = sio.dumps(case.model)
        except Exception:  # noqa: BLE001 - what skops does not write is none of ours
            unwritten.append(name)
            continue
        path = tmp_path / "m.skops"
        path.write_bytes(data)
        truth = sio.loads(data, trusted=sio.get_untrusted_types(data=data))
        again = read(path, "skops").model
        found = codec.first_difference(truth, again, registry, label=name)
        if found is not None:
            different[name] = found
        good += 1
    assert not different
    assert unwritten in ([], ["Birch"])
    assert good >= 205


def test_values_of_skops_own_kinds_come_back(tmp_path):
    sio = skops_io()
    from collections import Counter, OrderedDict, defaultdict

    import scipy.sparse

    shared = [1, 2]
    values = {
        "shared": [shared, shared],
        "dicts": [OrderedDict(a=1), defaultdict(list, a=[1]), {1: "a", 2.5: "b"}, Counter("ab")],
        "sets": [{1, 2}, frozenset("x")],
        "arrays": [np.arange(6).reshape(2, 3), np.array(["a", "b"]), np.float32(2), np.int64(3)],
        "objects": np.array([["a", None], [1, 2.5]], dtype=object),
        "masked": np.ma.MaskedArray([1, 2, 3], mask=[0, 1, 0]),
        "sparse": [make(np.eye(3)) for make in (scipy.sparse.csr_matrix, scipy.sparse.csc_array)],
        "random": [np.random.RandomState(1), np.random.default_rng(2)],
        "bytes": [b"abc", bytearray(b"xyz")],
        "slice": slice(1, 5, 2),
        "kinds": [float, np.float64, np.dtype("f4")],
    }
    for name, value in values.items():
        path = tmp_path / "m.skops"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = sio.dumps(value)
        path.write_bytes(data)
        again = read(path, "skops").model
        found = codec.first_difference(value, again, frameworks.registry(), label=name)
        assert found is None


def test_changed_schemas_are_refused_or_harmless(tmp_path):
    sio = skops_io()
    from sklearn.tree import DecisionTreeClassifier

    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3))
    data = sio.dumps(DecisionTreeClassifier(max_depth=3).fit(points, points[:, 0] > 0))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    path, outcomes = tmp_path / "m.skops", set()
    for _ in range(300):
        changed = dict(parts)
        name = list(parts)[int(rng.integers(len(parts)))]
        content = bytearray(changed[name])
        content[int(rng.integers(len(content)))] = int(rng.integers(256))
        changed[name] = bytes(content)
        with zipfile.ZipFile(path, "w") as archive:
            for each, content in changed.items():
                archive.writestr(each, content)
        try:
            model = read(path, "skops").model
            model.predict(points)
            outcomes.add("read")
        except HoldfastError as error:
            outcomes.add(error.code)
        except (AttributeError, ValueError, TypeError):
            outcomes.add("predict refused")  # an attribute of another name or value
    assert "corrupt" in outcomes
