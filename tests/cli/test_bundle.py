"""The verbs of bundles, and those that look into one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import holdfast
from holdfast.cli import main as cli_main


def hold(*words):
    """Run the command in this process, through main() and its error handling."""
    with CliRunner().isolation() as streams:
        try:
            cli_main.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        return status, streams[0].getvalue().decode(), streams[1].getvalue().decode()


@pytest.fixture(name="home", autouse=True)
def in_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = holdfast.Store.create(tmp_path / "models")
    for k in (1.0, 2.0):
        holdfast.save({"w": np.full(5, k)}, "net", store=store)
    monkeypatch.setenv("HOLDFAST_STORE", str(tmp_path / "models"))
    return tmp_path


def test_bundle_look_and_unbundle(home, monkeypatch):
    status, out, err = hold("bundle", "net@v1", "net", "m.hold")
    assert (status, out.splitlines()[1:]) == (0, ["net@v1 is in it", "net@v2 is in it"])
    assert "Try: hold show m.hold:net@v1" in err
    monkeypatch.setenv("HOLDFAST_STORE", str(home / "nowhere"))
    assert hold("ls", "m.hold", "-q") == (0, "net\n", "")
    assert hold("ls", "./m.hold:net", "-q")[1] == "net@v2\nnet@v1\n"
    status, out, err = hold("show", "./m.hold:net@v1")
    assert out.startswith("net@v1\n")
    assert 'holdfast.load("./m.hold:net@v1")' in err
    status, out, err = hold("verify", "m.hold")
    assert (status, "hashes ok" in out) == (0, True)
    assert "only read" in err
    assert hold("diff", "m.hold:net@v1", "m.hold:net@v2")[0] == 0
    assert hold("unbundle", "m.hold", "--store", "new", "--dry-run")[1].startswith("Would send")
    assert not (home / "new").exists()
    status, out, _ = hold("unbundle", "m.hold", "--store", "new", "--json")
    assert [item["there"] for item in json.loads(out)["versions"]] == ["net@v1", "net@v2"]
    assert hold("unbundle", "m.hold", "--store", "new")[1].count("is there already") == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["bundle", "net", "m.tar"], 2, "Try: hold bundle NAME"),
        (["bundle", "net@v9", "x.hold"], 5, "no version"),
        (["unbundle", "no.hold"], 5, "no file no.hold.\nTry: hold ls m.hold"),
        (["unbundle", "no/no.hold"], 5, "Try: hold bundle NAME no/no.hold"),
        (["unbundle", "models"], 2, "is a folder"),
        (["unbundle", "holdfast.txt"], 2, "does not end in .hold"),
        (["show", "no.hold:net"], 5, "no file no.hold"),
        (["ls", "no.hold"], 5, "no file no.hold"),
        (["stats", "--store", "no.hold"], 10, "There is no bundle"),
        (["log", "m.hold"], 2, "without their history"),
        (["tag", "m.hold:net", "a=b"], 2, "Try: hold unbundle m.hold"),
        (["push", "net", "new.hold"], 2, "Try: hold bundle NAME"),
        (["init", "new.hold"], 2, "Try: hold bundle NAME"),
        (["prune", "--store", "m.hold"], 2, "only read"),
        (["convert", "m.hold", "--name", "other"], 2, "Holdfast packed"),
    ],
)
def test_every_refusal_has_its_status_and_a_next_step(words, status, said):
    hold("bundle", "net", "m.hold")
    found, out, err = hold(*words)
    assert (found, out) == (status, "")
    assert said in err
    assert "Try: hold " in err
