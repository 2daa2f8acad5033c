"""Archives that Holdfast wrote under old scikit-learns load, and answer as they did then.

What is compared lies outside the golden set: rows with missing values and unseen categories.
"""

from importlib.metadata import version
from pathlib import Path

import pytest
import sklearn_models
from read import answered, names, outcome

import holdfast
from holdfast import HoldfastError
from holdfast.rescue.reading import read

ARCHIVES = sorted(Path(__file__).parent.glob("sklearn-*.tar.xz"))
# The oldest, and two between which much changed, are read by every run.
QUICK = ("1.2.2", "1.3.2", "1.5.2")
SLOW = pytest.mark.slow
# SAMME weighs votes otherwise since 1.3, and nothing in a fitted model says how it weighed them.
REFUSED = {"1.2.2": {"adaboost"}}


def archives():
    return [
        pytest.param(each, id=release_of(each), marks=[] if release_of(each) in QUICK else SLOW)
        for each in ARCHIVES
    ]


def release_of(archive):
    return archive.name.removeprefix("sklearn-").removesuffix(".tar.xz")


@pytest.mark.parametrize("archive", archives())
def test_archives_of_old_releases_answer_as_they_did(archive, unpacked):
    store = holdfast.Store(unpacked(archive) / "store")
    outcomes = {name: outcome(store, name, sklearn_models) for name in names(store)}
    assert len(outcomes) >= 70
    failed = {name: found for name, found in outcomes.items() if found != "right"}
    assert all(found.startswith("refused") for found in failed.values()), failed
    if minor(release_of(archive)) <= minor(version("scikit-learn")):
        assert failed.keys() == REFUSED.get(release_of(archive), set()), failed


def minor(release):
    return tuple(map(int, release.split(".")[:2]))


@pytest.mark.parametrize("archive", archives())
def test_pickles_of_old_releases_are_taken_over_and_answer_as_they_did(archive, unpacked):
    if minor(release_of(archive)) > minor(version("scikit-learn")):
        pytest.skip("scikit-learn is older than the pickles")
    folder = unpacked(archive)
    store = holdfast.Store(folder / "store")
    failed = {}
    for name in names(store):
        try:
            model = read(folder / "pickles" / f"{name}.joblib", "joblib").model
        except HoldfastError as error:
            failed[name] = error.message
            continue
        assert answered(store, name, model, sklearn_models) == "right", name
    assert failed.keys() == REFUSED.get(release_of(archive), set()), failed


@pytest.mark.parametrize("archive", archives())
def test_archives_are_whole_and_of_the_release_that_they_name(archive, unpacked):
    store = holdfast.Store(unpacked(archive) / "store")
    for name in names(store):
        assert holdfast.verify(name, replay=False, store=store).blobs
        environment = holdfast.get(name, store=store).record.environment
        assert environment["packages"]["scikit-learn"] == release_of(archive)
        assert environment["packages"]["holdfast-ml"]
        assert environment["python"].startswith("3.11.")


def test_there_is_an_archive_of_every_minor_release_from_1_2_on():
    minors = {release_of(archive).rsplit(".", 1)[0] for archive in ARCHIVES}
    assert {f"1.{minor}" for minor in range(2, 10)} <= minors
