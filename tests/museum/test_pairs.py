"""Archives and pickles of old XGBoosts, LightGBMs and pandas load, and answer as they did then.

What is compared lies outside the golden set: rows with gaps, with categories that the fit never
saw, and rows that pandas reads from a file in its own manner. The pandas archives hold values of
Python, numpy and pandas too, of which all is compared that can be said of them.
"""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from read import answered, names, outcome

import holdfast
from holdfast import HoldfastError
from holdfast.environment.capture import installed_version
from holdfast.rescue.reading import read

pytestmark = pytest.mark.filterwarnings("ignore:.*(older|newer) version of XGBoost")
FAMILIES = {"xgboost": 30, "lightgbm": 26, "pandas": 130}
ARCHIVES = sorted(
    archive
    for archive in Path(__file__).parent.glob("*.tar.xz")
    if archive.name.partition("-")[0] in FAMILIES
)
# The oldest of each are read by every run.
QUICK = ("xgboost-1.7.6", "lightgbm-3.3.5", "pandas-2.0.2")
# Its own files that XGBoost writes, to what they are.
NATIVE = {
    ".deprecated": "xgboost-binary",
    ".json": "xgboost-json",
    ".txt": "lightgbm",
    ".ubj": "xgboost-ubj",
}


def name_of(archive):
    return archive.name.removesuffix(".tar.xz")


def marked(archives):
    return [
        pytest.param(
            each, id=name_of(each), marks=[] if name_of(each) in QUICK else pytest.mark.slow
        )
        for each in archives
    ]


def models_of(archive):
    family = name_of(archive).partition("-")[0]
    pytest.importorskip(family, reason=f"{family} is not installed")
    return import_module(f"{family}_models")


def newer(archive):
    """Say whether an archive is of a newer release than the one installed."""
    family, _, release = name_of(archive).partition("-")
    here = installed_version(family) or version(f"{family}-cpu")
    return minor(release) > minor(here)


def minor(release):
    return tuple(map(int, release.split(".")[:2]))


@pytest.mark.parametrize("archive", marked(ARCHIVES))
def test_archives_of_old_releases_answer_as_they_did(archive, unpacked):
    family = models_of(archive)
    store = holdfast.Store(unpacked(archive) / "store")
    outcomes = {name: outcome(store, name, family) for name in names(store)}
    assert len(outcomes) >= FAMILIES[name_of(archive).partition("-")[0]]
    failed = {name: found for name, found in outcomes.items() if found != "right"}
    assert all(found.startswith("refused") for found in failed.values()), failed
    if not newer(archive):
        assert not failed


@pytest.mark.parametrize("archive", marked(a for a in ARCHIVES if "pandas" not in a.name))
def test_pickles_of_old_releases_are_taken_over_and_answer_as_they_did(archive, unpacked):
    family, folder = models_of(archive), unpacked(archive)
    if newer(archive):
        pytest.skip("the library is older than the pickles")
    store = holdfast.Store(folder / "store")
    for name in names(store):
        model = read(folder / "pickles" / f"{name}.joblib", "joblib").model
        assert answered(store, name, model, family) == "right", name


@pytest.mark.parametrize("archive", marked(a for a in ARCHIVES if "pandas" not in a.name))
def test_native_files_of_old_releases_are_read_or_the_way_is_named(archive, unpacked):
    family, folder = models_of(archive), unpacked(archive)
    if newer(archive):
        pytest.skip("the library is older than the files")
    store, refused = holdfast.Store(folder / "store"), {}
    for path in sorted((folder / "native").iterdir()):
        try:
            booster = read(path, NATIVE[path.suffix]).model
        except HoldfastError as error:
            refused[path.name] = error.hint
        else:
            if path.stem == "booster":  # what wrappers add to the others is in no such file
                assert answered(store, path.stem, booster, family) == "right", path.name
    binary = {path.name for path in (folder / "native").glob("*.deprecated")}
    assert refused.keys() == binary
    assert all("pip install" in hint for hint in refused.values())


@pytest.mark.parametrize("archive", marked(ARCHIVES))
def test_archives_are_whole_and_of_the_release_that_they_name(archive, unpacked):
    family, _, release = name_of(archive).partition("-")
    store = holdfast.Store(unpacked(archive) / "store")
    for name in names(store):
        assert holdfast.verify(name, replay=False, store=store).blobs
        packages = holdfast.get(name, store=store).record.environment["packages"]
        named = {packages.get(family), packages.get(f"{family}-cpu")} - {None}
        assert named == {release} or (family == "pandas" and not named)
        assert packages["holdfast-ml"]


def test_there_is_an_archive_of_each_generation():
    found = {name_of(archive).rsplit(".", 1)[0] for archive in ARCHIVES}
    wanted = {"xgboost-1.7", "xgboost-2.0", "lightgbm-3.3", "lightgbm-4.3", "pandas-2.0"}
    assert wanted | {"pandas-2.2", "pandas-3.1"} <= found
