"""Versions of old releases answer from their own libraries, bit for bit as they did then.

The libraries come from the package index.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import holdfast
from holdfast.api import worker
from holdfast.api.attachments import attach
from holdfast.api.environments import bundle, lock
from holdfast.api.settings import cache_folder
from holdfast.cli.main import main
from holdfast.environment import kept, recreate, sandbox
from holdfast.errors import EnvironmentMismatch

pytestmark = pytest.mark.service

ARCHIVE = Path(__file__).parent / "sklearn-1.2.2.tar.xz"


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(name="store")
def make_store(unpacked, environments, monkeypatch):
    """Open the archive; its environment is built by the first test and used by all."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(environments))
    monkeypatch.delenv("UV_OFFLINE")
    return holdfast.Store(unpacked(ARCHIVE) / "store")


@pytest.fixture(name="copy")
def make_copy(store, tmp_path):
    """Copy the store, for tests that write."""
    shutil.copytree(store.path, tmp_path / "copy")
    return holdfast.Store(tmp_path / "copy")


@contextlib.contextmanager
def needing_the_index():
    try:
        yield
    except EnvironmentMismatch as error:
        if "cannot be reached" in error.message or "is not installed here" in error.message:
            pytest.skip(f"the package index is not reachable: {error.message[:200]}")
        raise


def served(store, name, environment="recorded"):
    with needing_the_index():
        return holdfast.get(name, store=store).load_proven(environment=environment)


def locked(store, name):
    with needing_the_index():
        return lock(name, store=store)


def equal(want, have):
    if isinstance(want, list):
        return len(want) == len(have) and all(map(equal, want, have))
    if sparse.issparse(want):
        return (want != have).nnz == 0
    if isinstance(want, pd.DataFrame):
        return want.equals(have)
    want, have = np.asarray(want), np.asarray(have)
    if want.dtype == object:
        return want.tolist() == have.tolist()
    return want.dtype == have.dtype and want.tobytes() == have.tobytes()


@pytest.mark.parametrize("name", ["adaboost", "text", "mixed-logistic", "process-values"])
def test_it_answers_bit_for_bit_as_then(store, name):
    loaded = served(store, name)
    held_out = holdfast.load(f"{name}.held-out", store=store)
    assert (loaded.proof, loaded.rung) == ("replayed", "worker")
    assert loaded.model.packages["scikit-learn"] == "1.2.2"
    with loaded.model as model:
        compared = 0
        for method, want in held_out["answers"].items():
            if method in model.methods:
                assert equal(want, getattr(model, method)(held_out["rows"])), method
                compared += 1
        assert compared


def test_what_is_refused_here_falls_to_the_worker_and_builds_nothing_twice(
    store, caplog, monkeypatch
):
    served(store, "adaboost").model.close()
    monkeypatch.setattr(recreate, "uv", lambda: ["/nowhere/uv"])
    loaded = holdfast.get("adaboost", store=store).load_proven()
    with loaded.model:
        assert loaded.rung == "worker"
    assert "adaboost@v1 does not load here" in caplog.text
    assert len(kept.kept(cache_folder())) >= 2


def require_the_answers_of_then(store, loaded, name="adaboost"):
    held_out = holdfast.load(f"{name}.held-out", store=store)
    assert (loaded.proof, loaded.rung) == ("replayed", "worker")
    with loaded.model as model:
        assert equal(held_out["answers"]["predict_proba"], model.predict_proba(held_out["rows"]))


def test_a_lock_is_of_then_and_for_every_kind_of_machine(copy):
    version = locked(copy, "adaboost")
    document = tomllib.loads(version.attached("pylock").decode())
    packages = {each["name"]: each for each in document["packages"]}
    assert packages["numpy"]["version"] == "1.24.3"
    assert packages["scikit-learn"]["version"] == "1.2.2"
    assert {"joblib", "threadpoolctl", "scipy"} <= packages.keys()
    files = [wheel["url"].rpartition("/")[2] for wheel in packages["numpy"]["wheels"]]
    for kind in ("manylinux", "aarch64", "macosx", "win_amd64"):
        assert any(kind in file for file in files)
    end = recreate.plan(version.record.environment, version.record.created).as_of
    times = [w["upload-time"] for each in packages.values() for w in each["wheels"]]
    assert all(time.isoformat() < end for time in times)
    again = lock("adaboost", store=copy)
    assert again.info.attachments == version.info.attachments


@pytest.mark.parametrize("name", ["adaboost", "mixed-logistic"])
def test_a_lock_is_built_once_and_answers_as_then(copy, monkeypatch, name):
    """The record of the second, whose rows are a frame, has no version of pandas."""
    version = locked(copy, name)
    require_the_answers_of_then(copy, served(copy, name), name)
    keys = {each.key for each in kept.kept(cache_folder())}
    assert worker.locked_plan(version).key in keys
    monkeypatch.setattr(recreate, "uv", lambda: ["/nowhere/uv"])
    require_the_answers_of_then(copy, served(copy, name), name)
    assert {each.key for each in kept.kept(cache_folder())} == keys


def relocked(store, change):
    """Put a lock that was changed in the place of the true one."""
    version = locked(store, "adaboost")
    text = version.attached("pylock").decode()
    assert attach(version, "pylock", change(text).encode())
    return version


LIES = {
    "other bytes": (
        lambda text: re.sub(r'sha256 = "[0-9a-f]', 'sha256 = "', text).replace(
            'sha256 = "', 'sha256 = "0'
        ),
        "Its lock is not of what the package index offers: .*[Hh]ash",
    ),
    "a dependency left out": (
        lambda text: re.sub(r'\[\[packages\]\]\nname = "joblib"\n[^\[]*\[[^\[]*', "", text),
        "Its lock is not of what the package index offers: .*joblib",
    ),
    "another version": (
        lambda text: re.sub(r'(name = "joblib"\nversion = ")[^"]*', r"\g<1>0.0.1", text),
        "does not offer what its lock names",
    ),
    "the record's library": (
        lambda text: text.replace('"1.24.3"', '"1.24.4"'),
        "it has numpy 1.24.4, and the record says numpy==1.24.3",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lock_that_lies_builds_nothing(copy, lie):
    change, told = LIES[lie]
    version = relocked(copy, change)
    before = {each.key for each in kept.kept(cache_folder())}
    with pytest.raises(EnvironmentMismatch, match=told), needing_the_index():
        version.load(environment="recorded")
    folder = cache_folder() / "environments"
    assert {each.key for each in kept.kept(cache_folder())} == before
    assert not list(folder.glob("*.building"))
    with pytest.raises(holdfast.HoldfastError, match=r"recorded environment does not help: .*lock"):
        version.load()  # which is refused here
    lock("adaboost", store=copy)
    require_the_answers_of_then(copy, served(copy, "adaboost"))


def test_a_lock_cannot_add_a_package(copy):
    wheel = f'{{ hashes = {{ sha256 = "{"0" * 64}" }} }}'
    more = f'[[packages]]\nname = "six"\nversion = "1.16.0"\nwheels = [{wheel}]\n'
    version = relocked(copy, lambda text: text + more)
    require_the_answers_of_then(copy, served(copy, "adaboost"))
    place = cache_folder() / "environments" / worker.locked_plan(version).key
    assert list(place.glob("lib/*/site-packages/joblib"))
    assert not list(place.glob("lib/*/site-packages/six*"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    return tmp_path_factory.mktemp("wheels")


def offline(code, cache):
    """Run Python where there is no network, with empty caches."""
    if sandbox.missing() is not None:
        pytest.skip(f"bubblewrap: {sandbox.missing()}")
    words = ["bwrap", "--dev-bind", "/", "/", "--unshare-net", sys.executable, "-c", code]
    variables = {**os.environ, "HOLDFAST_CACHE": str(cache), "UV_CACHE_DIR": str(cache / "uv")}
    return subprocess.run(words, env=variables, capture_output=True, text=True, check=False)


def test_a_wheelhouse_serves_where_there_is_no_network(copy, wheels, tmp_path):
    with needing_the_index():
        done = bundle(["adaboost", "text"], wheels, store=copy)
    assert sum(name.startswith(("numpy-", "msgspec-")) for name in done.wheels) == 2
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=wheels,
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.count(": OK\n") == len(done.wheels)
    held = holdfast.load("adaboost.held-out", store=copy)["answers"]["predict"].tolist()
    code = (
        f"import holdfast\nstore = {str(copy.path)!r}\n"
        "rows = holdfast.load('adaboost.held-out', store=store)['rows']\n"
        "with holdfast.load('adaboost', store=store, environment='recorded') as model:\n"
        "    print(model.predict(rows).tolist())\n"
    )
    alone = offline(code, tmp_path / "alone")
    assert "EnvironmentMismatch: The package index cannot be reached" in alone.stderr
    assert "HOLDFAST_WHEELHOUSE" in alone.stderr
    assert not [each for each in (tmp_path / "alone" / "environments").iterdir() if each.is_dir()]
    served_there = offline(
        f"import os; os.environ['HOLDFAST_WHEELHOUSE'] = {str(wheels)!r}\n{code}",
        tmp_path / "there",
    )
    assert served_there.stdout.strip() == str(held), served_there.stderr


def test_a_wheelhouse_that_lacks_a_wheel_or_has_another_says_so(
    copy, wheels, tmp_path, monkeypatch
):
    with needing_the_index():
        bundle(["adaboost"], wheels, store=copy)
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    mine = tmp_path / "mine"
    shutil.copytree(wheels, mine)
    monkeypatch.setenv("HOLDFAST_WHEELHOUSE", str(mine))
    (joblib,) = mine.glob("joblib-*.whl")
    with zipfile.ZipFile(joblib, "a") as archive:
        archive.writestr("joblib/evil.py", "print('evil')")
    with pytest.raises(EnvironmentMismatch, match=r"Its lock is not of .*Hash mismatch"):
        holdfast.load("adaboost", store=copy, environment="recorded")
    joblib.unlink()
    with pytest.raises(EnvironmentMismatch, match=r"The wheelhouse does not have .*joblib") as told:
        holdfast.load("adaboost", store=copy, environment="recorded")
    assert told.value.hint.startswith("hold env bundle adaboost@v1 --to FOLDER")
    assert not list((tmp_path / "cache" / "environments").glob("*.building"))
    monkeypatch.delenv("HOLDFAST_WHEELHOUSE")
    done = bundle(["adaboost"], mine, store=copy)
    assert joblib.name in done.wheels


def test_the_commands_lock_and_bundle(copy, wheels, capsys):
    locked(copy, "adaboost")
    for words in (["lock", "adaboost"], ["bundle", "adaboost", "--to", str(wheels)]):
        with pytest.raises(SystemExit) as stopped:
            main(["env", *words, "--json", "--store", str(copy.path)])
        said = json.loads(capsys.readouterr().out)
        assert stopped.value.code == 0
        assert said.get("ref", "adaboost@v1") == "adaboost@v1"


def test_the_command_predicts_from_it(store, tmp_path, capsys):
    served(store, "adaboost").model.close()
    held_out = holdfast.load("adaboost.held-out", store=store)
    rows = tmp_path / "rows.csv"
    pd.DataFrame(held_out["rows"]).to_csv(rows, index=False)
    words = ["predict", "adaboost", str(rows), "--environment", "recorded", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--store", str(store.path)])
    said = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0
    assert said["predictions"] == held_out["answers"]["predict"].tolist()
