"""Facts of a save: what explains a difference, and no path, no name, no failure."""

import json
import locale
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from sklearn.linear_model import LogisticRegression

import holdfast
from holdfast.environment import capture, facts as facts_module, owners
from holdfast.environment.facts import PROVEN, facts

MUSEUM = Path(__file__).parents[1] / "museum"
X = np.arange(20.0).reshape(10, 2)


@pytest.fixture(autouse=True)
def forget():
    yield
    facts_module.cpu_features.cache_clear()
    facts_module._libraries.cache_clear()
    owners._owner.cache_clear()


def test_a_save_records_what_explains_a_difference(tmp_path):
    model = LogisticRegression().fit(X, X[:, 0] > 8)
    version = holdfast.save(model, "m", inputs=X, store=tmp_path / "store")
    told = version.record.environment
    assert told["locale"] == locale.setlocale(locale.LC_CTYPE)
    assert told["proven"] == {"scikit-learn": PROVEN["scikit-learn"]}
    kernels = [each for each in told["blas"] if each["name"] in ("openblas", "mkl", "blis")]
    assert kernels
    assert all({"version", "threads"} <= each.keys() for each in kernels)
    text = json.dumps(told)
    assert not re.search(r"site-packages|\.so\b|/home|/tmp|/usr", text)
    assert len(text) < 4000
    assert "indexes" not in told or "torch" in told["packages"]


def test_the_processors_features_are_of_a_closed_list(monkeypatch):
    text = (
        "processor\t: 0\nflags\t\t: fpu vme sse4_2 avx2 avx512_vnni amx_int8 hypervisor "
        "avx2x avx512$(id) md_clear\nprocessor\t: 1\nflags\t\t: other\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *_: text)
    facts_module.cpu_features.cache_clear()
    assert facts({})["cpu_features"] == ["amx_int8", "avx2", "avx512_vnni", "sse4_2"]
    monkeypatch.setattr(Path, "read_text", lambda *_: "Features : fp asimd sve crc32\n")
    facts_module.cpu_features.cache_clear()
    assert facts({})["cpu_features"] == ["asimd", "sve"]


@pytest.mark.parametrize(
    ("name", "version", "index"),
    [
        ("torch", "2.13.0+cpu", "https://download.pytorch.org/whl/cpu"),
        ("torchvision", "0.20.1+cu128", "https://download.pytorch.org/whl/cu128"),
        ("torch", "2.5.0+rocm6.2.4", "https://download.pytorch.org/whl/rocm6.2.4"),
        ("torch", "2.5.0", None),
        ("torch", "2.5.0+cpu/../../evil", None),
        ("torch", "2.5.0+cpu.cxx11.abi", None),
        ("numpy", "1.24.3+cpu", None),
    ],
)
def test_only_a_table_of_ours_says_where_local_versions_come_from(name, version, index):
    assert capture.index_of(name, version) == index
    assert facts({name: version}).get("indexes", {}) == ({name: index} if index else {})


def test_nothing_that_a_library_does_fails_a_save(monkeypatch):
    def broken(*_):
        raise RuntimeError("on purpose")

    monkeypatch.setattr("threadpoolctl.threadpool_info", broken)
    monkeypatch.setattr(locale, "setlocale", broken)
    monkeypatch.setattr(Path, "read_text", broken)
    monkeypatch.setitem(
        sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=broken))
    )
    facts_module._libraries.cache_clear()
    facts_module.cpu_features.cache_clear()
    assert facts({"numpy": "2.0"}) == {}


def test_without_threadpoolctl_nothing_is_said_of_linear_algebra(monkeypatch):
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)
    monkeypatch.setattr(facts_module, "find_spec", lambda _: None)
    assert "blas" not in facts({})


def test_a_device_is_told_by_the_framework_that_uses_it(monkeypatch):
    cuda = SimpleNamespace(is_initialized=lambda: True, get_device_name=lambda: "Card 9000")
    torch = SimpleNamespace(
        cuda=cuda,
        version=SimpleNamespace(cuda="12.8"),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91002)),
    )
    said = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Fri Jan 24\n"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(Path, "read_text", lambda *_: said)
    assert facts_module._cuda() == {
        "cuda": "12.8", "cudnn": "91002", "device": "Card 9000", "driver": "570.86.15",
    }  # fmt: skip
    cuda.is_initialized = lambda: False
    assert facts_module._cuda() == {}


def test_the_range_is_what_the_museum_proves():
    for name, text in PROVEN.items():
        stem = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost"}.get(name, name)
        archives = MUSEUM.glob(f"{stem}-*.tar.xz")
        found = sorted(Version(f.name.removeprefix(f"{stem}-")[:-7]) for f in archives)
        low, high = found[0], found[-1]
        assert text == f">={low.major}.{low.minor},<{high.major}.{high.minor + 1}"
        assert all(version in SpecifierSet(text) for version in found)


def test_differences_name_kernels_and_features_that_are_missing():
    old = {
        "blas": [{"name": "openblas", "kernel": "Haswell"}, {"name": "openmp"}],
        "cpu_features": ["avx2", "fma"],
    }
    new = {
        "blas": [{"name": "openblas", "kernel": "SkylakeX"}],
        "cpu_features": ["avx2", "avx512f"],
    }
    assert capture.changed(old, new) == [
        "BLAS openblas Haswell -> openblas SkylakeX",
        "CPU without fma",
    ]
    assert capture.changed(new, new) == []


def test_a_comparison_of_versions_tells_packages_and_facts_apart(tmp_path, monkeypatch):
    model = LogisticRegression().fit(X, X[:, 0] > 8)
    store = holdfast.Store.create(tmp_path / "store")
    holdfast.save(model, "m", inputs=X, store=store)
    true = capture.capture

    def older(requires):
        found = true(requires)
        return {**found, "packages": {**found["packages"], "scikit-learn": "1.2.2"}}

    monkeypatch.setattr(capture, "capture", older)
    monkeypatch.setitem(PROVEN, "scikit-learn", ">=1.1,<1.3")
    holdfast.save(model, "m", inputs=X, store=store)
    changed = holdfast.diff("m@v1", "m@v2", store=store).environment
    assert changed["scikit-learn"][1] == "1.2.2"
    assert changed["proven.scikit-learn"][1] == ">=1.1,<1.3"


@pytest.mark.parametrize("blas", [None, 7, "x", [7], [{"kernel": ["x"]}], [{"name": "a" * 999}]])
@pytest.mark.parametrize("features", [None, 7, "avx", [None], ["x" * 999] * 99])
def test_facts_that_lie_are_survived(blas, features):
    sound = {"blas": [{"name": "openblas", "kernel": "Haswell"}], "cpu_features": ["avx2"]}
    for pair in ((sound, {"blas": blas, "cpu_features": features}),) * 2:
        assert all(len(words) < 300 for words in capture.changed(*pair))
        assert all(len(words) < 300 for words in capture.changed(*reversed(pair)))


class Site:
    """A folder as an installer leaves it."""

    def __init__(self, path):
        self.path = path / "site-packages"
        self.path.mkdir(parents=True)

    def install(self, name, version, *files, url=None):
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n", "utf-8")
        lines = [f"{file},sha256=x,1\n" for file in ("bin/x", *files)]
        (info / "RECORD").write_text("".join(lines), "utf-8")
        if url is not None:
            (info / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {}}), "utf-8")


def test_a_registered_class_names_its_distribution(tmp_path, monkeypatch):
    site = Site(tmp_path)
    site.install("other-things", "9.0", "other_steps.py", "xsteps_of_ours.py")
    site.install("acme-models", "1.2", "steps_of_ours.py")
    (site.path / "steps_of_ours.py").write_text("class Step:\n    x = 1\n", "utf-8")
    monkeypatch.syspath_prepend(str(site.path))
    from steps_of_ours import Step

    from holdfast import frameworks

    try:
        holdfast.register(Step, name="acme-step")
        version = holdfast.save([Step()], "m", store=tmp_path / "store")
        assert version.record.environment["packages"]["acme-models"] == "1.2"
        with pytest.raises(holdfast.HoldfastError, match="must not choose"):
            holdfast.load("m", store=tmp_path / "store", environment="recorded")
    finally:
        frameworks._registered.pop("user.acme-step")
        sys.modules.pop("steps_of_ours")


def test_a_module_inside_a_module_names_its_distribution(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    site = Site(tmp_path)
    site.install("acme-layers", "1.5", "layers_of_ours.py")
    code = (
        "import torch\nclass Layer(torch.nn.Module):\n    def forward(self, x):\n        return x\n"
    )
    (site.path / "layers_of_ours.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(str(site.path))
    from layers_of_ours import Layer

    try:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), Layer())
        packages = holdfast.save(model, "m", store=tmp_path / "store").record.environment[
            "packages"
        ]
        assert packages["acme-layers"] == "1.5"
        assert packages.keys() == {"acme-layers", "holdfast-ml", "numpy", "torch"}
    finally:
        sys.modules.pop("layers_of_ours")


def test_a_package_and_one_that_is_linked_to_its_sources(tmp_path, monkeypatch):
    site = Site(tmp_path)
    site.install("acme-wide", "2.0", "acme_wide/__init__.py")
    site.install("acme-linked", "3.0", url=(tmp_path / "src of mine").as_uri())
    (site.path / "acme_wide").mkdir()
    (site.path / "acme_wide" / "__init__.py").touch()
    (tmp_path / "src of mine").mkdir()
    (tmp_path / "src of mine" / "linked_one.py").touch()
    for folder in (site.path, tmp_path / "src of mine"):
        monkeypatch.syspath_prepend(str(folder))
    import acme_wide  # noqa: F401
    import linked_one  # noqa: F401

    assert owners.owner_of("acme_wide") == ("acme-wide", "2.0")
    assert owners.owner_of("linked_one") == ("acme-linked", "3.0")
    (site.path / "acme_linked-3.0.dist-info" / "direct_url.json").write_text("{", "utf-8")
    owners._owner.cache_clear()
    assert owners.owner_of("linked_one") is None
    assert owners.owner_of("json") is None
    assert owners.owner_of("never_imported") is None


def test_what_is_installed_later_is_found(tmp_path, monkeypatch):
    site = Site(tmp_path)
    (site.path / "lately.py").touch()
    monkeypatch.syspath_prepend(str(site.path))
    import lately  # noqa: F401

    assert owners.owner_of("lately") is None
    site.install("acme-late", "1.0", "lately.py")
    assert owners.owner_of("lately") == ("acme-late", "1.0")
