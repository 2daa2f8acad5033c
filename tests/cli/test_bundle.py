"""The verbs of bundles, and those that look into one."""

from __future__ import annotations

import errno
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
        (["bundle", "net"], 2, "Usage: "),
        (["bundle", "net", "m.tar"], 2, "Try: hold bundle net /"),
        (["bundle", "net", "models"], 2, "models is a folder; a bundle is a file"),
        (["bundle", "net", "m.hold"], 2, "m-2.hold\n"),
        (["stats", "--store", "text.txt"], 10, "is a file, and a store is a folder"),
        (["unbundle", "text.hold"], 4, "it is no tar archive\nTry: hold scan "),
        (["unbundle", "m.hold", "--store", "text.txt"], 2, "is a file, and a store is a folder"),
        (["push", "net", "text.txt"], 2, "is a file, and a store is a folder"),
        (["push", "nett", "far"], 5, "Try: hold ls net"),
        (["push", "net", "far", "--history", "--layout", "files"], 2, "oci://HOST/REPOSITORY:TAG"),
        (["push", "net", "oci:localhost"], 2, "two slashes are missing"),
        (["pull", "net", "s3:bucket"], 2, "Try: hold ls --store s3://bucket"),
        (["pull", "net", "no.hold"], 5, "Try: hold ls m.hold"),
        (["verify", "--all", "--store", ""], 2, "is an empty text"),
        (["ls", "net@v1"], 2, "Try: hold show net@v1"),
        (["log", "net@v1"], 2, "Try: hold show net@v1"),
        (["scan", "models"], 2, "Try: hold verify --all --store models"),
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
def test_every_refusal_has_its_status_and_a_next_step(home, words, status, said):
    hold("bundle", "net", "m.hold")
    for name in ("text.hold", "text.txt"):
        (home / name).write_text("a text")
    found, out, err = hold(*words)
    assert (found, out) == (status, "")
    assert not (home / "far").exists()
    assert said in err
    assert "Try: hold " in err


def test_a_full_disk_is_told_by_its_own_place(home, monkeypatch):
    from holdfast import durable

    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    holdfast.Store.create(home / "far")
    monkeypatch.setattr(durable, "write_all", full)
    assert hold("bundle", "net", "m.hold")[2].endswith(f"Try: df -h {home}\n")
    status, out, err = hold("push", "net", "far")
    assert (status, out) == (11, "")
    assert err.endswith(f"Try: hold prune --dry-run --store {home / 'far'}\n")
    status, out, err = hold("push", "net", "net@v1", "far")
    assert "are there already" not in out
