"""The conformance suite holds for our own adapters, and for one that another package brings."""

import textwrap

import numpy as np
import pytest

from holdfast import frameworks
from holdfast.testing.adapters import AdapterConformance

ABACUS = """
    import json


    class Forest:
        def __init__(self, weights):
            self.weights = [float(weight) for weight in weights]

        def predict(self, X):
            return X @ self.weights

        def dumps(self):
            return json.dumps(self.weights).encode()
"""
ADAPTER = """
    from importlib import import_module

    from holdfast.codec.registry import TypeSpec
    from holdfast.codec.tensors import FileData

    ID = "abacus"


    def _build(fields):
        import json
        weights = json.loads(bytes(fields["model"]))
        if not isinstance(weights, list):
            raise ValueError("not a list")
        return import_module("abacus").Forest(weights)


    TYPES = (
        TypeSpec(
            id="abacus.Forest",
            locate=lambda: import_module("abacus").Forest,
            classes=("abacus:Forest",),
            encode=lambda model: {"model": FileData(".abacus", model.dumps())},
            build=_build,
            fields=frozenset({"model"}),
            required=frozenset({"model"}),
            attributes=True,
        ),
    )


    def owns(model):
        return type(model).__module__ == "abacus"


    def requires(model):
        return ("abacus",)
"""


@pytest.fixture(name="abacus")
def install_abacus(tmp_path, monkeypatch):
    """Leave a distribution with a framework and its adapter on the path, as an installer does."""
    site = tmp_path / "site"
    info = site / "abacus-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus\nVersion: 1.2\n", "utf-8")
    points = "[holdfast.adapters]\nabacus = abacus_holdfast\n"
    (info / "entry_points.txt").write_text(points, "utf-8")
    (site / "abacus.py").write_text(textwrap.dedent(ABACUS), "utf-8")
    (site / "abacus_holdfast.py").write_text(textwrap.dedent(ADAPTER), "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    frameworks._third_party.cache_clear()
    frameworks._registry.cache_clear()
    import abacus
    import abacus_holdfast

    yield abacus, abacus_holdfast
    frameworks._third_party.cache_clear()
    frameworks._registry.cache_clear()
    for name in ("abacus", "abacus_holdfast"):
        __import__("sys").modules.pop(name)


class TestAnotherPackages(AdapterConformance):
    @pytest.fixture
    def adapter(self, abacus):
        return abacus[1]

    @pytest.fixture
    def model(self, abacus):
        return abacus[0].Forest([1.0, 0.25])

    @pytest.fixture
    def other(self, abacus):
        return abacus[0].Forest([1.0, 0.5])

    @pytest.fixture
    def inputs(self):
        return np.random.default_rng(0).normal(size=(9, 2))


class TestScikitLearns(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        import holdfast.frameworks.sklearn as adapter

        return adapter

    @pytest.fixture
    def inputs(self):
        return np.random.default_rng(0).normal(size=(30, 3))

    @pytest.fixture
    def model(self, inputs):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(inputs, inputs[:, 0] > 0)

    @pytest.fixture
    def other(self, inputs):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression().fit(inputs, inputs[:, 1] > 0)


class TestTorchs(AdapterConformance):
    @pytest.fixture
    def adapter(self):
        pytest.importorskip("torch", reason="torch is not installed")
        import holdfast.frameworks.torch as adapter

        return adapter

    @pytest.fixture
    def inputs(self):
        import torch

        return torch.linspace(-1, 1, 12).reshape(4, 3)

    @pytest.fixture
    def model(self):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

    @pytest.fixture
    def other(self):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
