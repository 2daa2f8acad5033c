"""``hold verify`` of a whole store and ``hold ageing``, as a person or a script meets them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

import holdfast
from holdfast.cli import main as cli_main
from holdfast.record import digest_hex


def hold(*words):
    runner = CliRunner()
    with runner.isolation() as streams:
        try:
            cli_main.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        return status, streams[0].getvalue().decode(), streams[1].getvalue().decode()


@pytest.fixture(name="store", autouse=True)
def store_in_force(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_STORE", str(tmp_path / "store"))
    return holdfast.Store.create()


def arrays(count, name="net"):
    return [holdfast.save({"a": np.arange(5) + n}, name) for n in range(count)]


def test_naming_none_and_all_are_the_same():
    arrays(2)
    status, out, err = hold("verify")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith("net@v1  hashes ok (")
    status, out, err = hold("verify", "--all", "--json")
    document = json.loads(out)
    assert [each["ref"] for each in document["verified"]] == ["net@v1", "net@v2"]
    assert (document["schema_version"], document["earlier"], document["versions"]) == (1, 0, 2)
    assert hold("verify", "--all", "-q") == (0, "net@v1\nnet@v2\n", "")


def test_samples():
    arrays(5)
    assert hold("verify", "--sample", "40%", "-q") == (0, "net@v1\nnet@v2\n", "")
    assert hold("verify", "--sample", "2", "-q") == (0, "net@v3\nnet@v4\n", "")
    status, _, err = hold("verify", "--sample", "many")
    assert (status, "Try: hold verify --sample 10%" in err) == (2, True)


@pytest.mark.parametrize("option", [("--all",), ("--sample", "3")])
def test_the_whole_store_and_a_name_are_not_one_question(option):
    arrays(1)
    assert hold("verify", "net", *option)[0] == 2


def test_what_is_damaged_ends_in_status_4_and_a_next_step(damage):
    bad, good = arrays(2)
    damage(bad)
    status, out, err = hold("verify", "--all")
    assert status == 4
    assert f"{bad.ref}  DAMAGED  The bytes of" in out
    assert f"{good.ref}  hashes ok" in out
    assert "1 of 2 versions did not verify" in err
    assert "Try: hold ageing" in err
    assert hold("verify", "--all", "-q")[1] == "net@v2\n"
    status, out, err = hold("ageing", "--all")
    assert status == 0
    assert "1 of 2 versions need attention." in out
    assert "DAMAGED\n" in out
    assert "    Try: hold verify net@v1\n" in out


def test_no_path_of_this_machine_is_recorded(store, damage):
    (bad,) = arrays(1)
    damage(bad)
    assert str(store.path) in hold("verify")[1]
    (document,) = store.path.glob("checks/*/*.json")
    assert str(store.path).encode() not in document.read_bytes()
    assert digest_hex(bad.manifest.pieces[-1].digest).encode() in document.read_bytes()


@pytest.mark.slow
def test_a_process_that_ends_is_status_1(store, tmp_path, monkeypatch):
    data = load_iris()
    model = DecisionTreeClassifier(max_depth=2).fit(data.data, data.target)
    holdfast.save(model, "tree", inputs=data.data)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, holdfast.frameworks.sklearn as adapter\n"
        "adapter.predict = lambda *_: os.kill(os.getpid(), 11)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    status, out, err = hold("verify")
    assert status == 1
    assert "tree@v1  FAILED  bytes verified, the process that replayed it was ended by" in out
    assert "FAILED HERE" in hold("ageing")[1]


def test_nothing_recorded_is_told(store):
    arrays(1)
    shutil.rmtree(store.path / "checks", ignore_errors=True)
    (store.path / "checks").write_text("in the way")
    for words in (("verify",), ("verify", "net")):
        status, out, err = hold(*words)
        assert status == 0
        assert "net@v1  hashes ok" in out
        assert err.startswith("Nothing was recorded: ")
    assert json.loads(hold("verify", "--json")[1])["unrecorded"]


def test_an_empty_store():
    status, out, err = hold("verify", "--all")
    assert (status, out) == (0, "")
    assert "There is nothing to verify." in err
    assert "There is nothing to look at." in hold("ageing")[2]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_says_how_to_go_on_and_does(store, how):
    arrays(400)
    command = [sys.executable, "-m", "holdfast.cli.main", "verify", "--all"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(list(store.path.glob("checks/*"))) < 3 and time.monotonic() < until:
        time.sleep(0.005)
    run.send_signal(how)
    out, err = run.communicate()
    if how == signal.SIGINT:
        assert run.returncode == 130, err
        assert out.startswith("net@v1  hashes ok")
        assert "of 400 versions; what was found is kept.\nTry: hold verify --all" in err
    status, out, err = hold("verify", "--all")
    assert status == 0
    left = len(out.splitlines())
    assert left < 400
    assert f"{400 - left} of 400 versions were checked before the interruption" in err


def test_ageing_as_json_and_quiet():
    arrays(2)
    found = json.loads(hold("ageing", "--json")[1])
    assert (found["versions"], found["concerns"], found["matrix"]) == (
        ["net@v2"], [], {"net@v2": []},
    )  # fmt: skip
    assert "Nothing was checked yet.\nTry: hold verify --all" in hold("ageing")[2]
    hold("verify")
    found = json.loads(hold("ageing", "--json", "--all")[1])
    assert [cells[0]["outcome"] for cells in found["matrix"].values()] == ["state only"] * 2
    assert hold("ageing", "-q") == (0, "", "")


def test_the_report_fits_80_columns_and_groups_what_is_alike():
    for number in range(50):
        arrays(1, f"model-with-a-rather-long-name-{number:02}")
    versions = [holdfast.get(model.name) for model in holdfast.Store().catalogue.names()]
    hold("verify")
    for version in versions[:35]:
        path = version.store.path / "blobs" / "sha256" / digest_hex(version.record_id)
        path.unlink()
    status, out, err = hold("ageing")
    assert status == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "35 of 50 versions need attention."
    assert "and 5 more kinds of trouble; --json has all." in out
    last = " ".join(lines[-1].split())
    assert last == "model-with-a-rather-long-name-35@v1 and 14 more state only"
