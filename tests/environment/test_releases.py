"""The table of releases is whole, and what it says of some is what is known of them."""

import datetime as dt
import json
from importlib import resources

import pytest
from packaging.version import Version

from holdfast.environment.releases import ended
from holdfast.plugins import REQUIREMENTS

TABLE = json.loads(
    resources.files("holdfast.environment").joinpath("releases.json").read_text("utf-8")
)


def found(day, python="3.99", **packages):
    named = {name.replace("_", "-"): version for name, version in packages.items()}
    return [(e.name, e.minor, e.since) for e in ended({"python": python, "packages": named}, day)]


def test_the_table_is_whole():
    assert set(TABLE) == {"as_of", "python_ends", "released"}
    for minors in (TABLE["python_ends"], *TABLE["released"].values()):
        assert [*minors] == sorted(minors, key=Version)
        for minor, day in minors.items():
            assert len(Version(minor).release) == 2
            assert dt.date.fromisoformat(day).isoformat() == day
    for minors in TABLE["released"].values():
        assert all("2018" <= day <= TABLE["as_of"] for day in minors.values())


def test_the_table_has_every_framework():
    # h5py, patsy and the like are beside a model, not what ages under it
    beside = {"h5py", "httpx", "ml_dtypes", "obstore", "patsy", "pyarrow", "safetensors"}
    beside |= {"skl2onnx", "tokenizers"}
    wanted = {text.partition(">")[0] for text in REQUIREMENTS.values()}
    assert wanted - beside <= set(TABLE["released"])
    assert "numpy" in TABLE["released"]


@pytest.mark.parametrize(
    ("name", "minor", "day"),
    [
        ("scikit-learn", "1.2", "2022-12-08"),
        ("scikit-learn", "1.5", "2024-05-21"),
        ("numpy", "2.0", "2024-06-16"),
        ("numpy", "1.24", "2022-12-18"),
        ("pandas", "2.0", "2023-04-03"),
        ("torch", "2.0", "2023-03-15"),
        ("xgboost", "2.0", "2023-09-12"),
    ],
)
def test_known_releases(name, minor, day):
    assert TABLE["released"][name][minor] == day


def test_two_years_after_its_release_one_is_past_its_support():
    assert found("2024-12-08", scikit_learn="1.2.2") == []
    assert found("2024-12-09", scikit_learn="1.2.2") == [("scikit-learn", "1.2", "2024-12-08")]


def test_the_newest_known_release_and_unknown_ones_are_supported():
    newest = [*TABLE["released"]["catboost"]][-1]
    assert found("2099-01-01", catboost=f"{newest}.5", scikit_learn="99.1", unheard_of="0.1") == []


def test_a_release_is_supported_until_there_is_another():
    assert found("2026-08-26", statsmodels="0.14.1") == []  # of May 2023; 0.15 came in August 2026
    assert found("2026-08-28", statsmodels="0.14.1") == [("statsmodels", "0.14", "2026-08-27")]


def test_pythons_own_dates():
    assert found("2025-10-31", python="3.9.7") == []
    assert found("2025-11-01", python="3.9.7") == [("Python", "3.9", "2025-10-31")]


def test_other_names_of_the_same_library_and_local_versions():
    assert found("2026-01-01", xgboost_cpu="1.7.5") == [("xgboost-cpu", "1.7", "2024-10-31")]
    assert found("2026-01-01", torch="2.0.1+cpu") == [("torch", "2.0", "2025-03-15")]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"packages": ["numpy"], "python": 3},
        {"packages": {"numpy": None, "scipy": 7, "pandas": "x" * 9999}, "python": "three"},
    ],
)
def test_what_is_no_version_is_passed_over(environment):
    assert [*ended(environment, "2099-01-01")] == []
