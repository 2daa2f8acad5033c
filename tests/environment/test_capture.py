"""Facts of the moment: versions and the commit, never the environment's variables."""

from __future__ import annotations

import json
import subprocess

import pytest

from holdfast.environment import capture


def test_versions_of_what_matters_and_nothing_of_the_shell(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "planted-value-in-the-shell")
    facts = capture.capture(("sklearn", "not_installed_anywhere"))
    assert {"numpy", "scikit-learn", "holdfast-ml"} == facts["packages"].keys()
    assert "planted" not in json.dumps(facts)
    assert facts["python"].startswith("3.")


def test_the_key_changes_with_a_version_and_only_with_what_matters():
    facts = capture.capture(("sklearn",))
    moved = {**facts, "packages": {**facts["packages"], "scikit-learn": "1.2.1"}}
    assert capture.environment_key(facts) != capture.environment_key(moved)
    assert capture.environment_key(facts) == capture.environment_key({**facts, "os": "other"})
    (words,) = capture.changed(moved, facts)
    assert words == f"scikit-learn 1.2.1 -> {facts['packages']['scikit-learn']}"


def git(folder, *words):
    identity = ["-c", "user.name=Ana", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_commit_branch_and_dirt(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    git(tmp_path, "remote", "add", "origin", "https://ana:password@example.org/x")
    monkeypatch.chdir(tmp_path)
    source = capture.GitSource().answer()
    assert source["branch"] == "trunk"
    assert source["dirty"] is False
    assert len(source["commit"]) == 40
    (tmp_path / "a").write_text("2")
    assert capture.GitSource().answer()["dirty"] is True
    assert "password" not in json.dumps(source)
    (tmp_path / ".git" / "index.lock").touch()
    assert capture.GitSource().answer()["dirty"] is True
    assert (tmp_path / ".git" / "index.lock").exists()


def test_git_is_not_left_behind_when_nobody_asks_for_its_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with capture.GitSource() as source:
        asked = source._asked
    assert asked.returncode is not None
    assert asked.stdout.closed


@pytest.mark.parametrize("path", ["", "/nonexistent"])
def test_without_git_nothing_is_said_and_nothing_raised(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    assert capture.GitSource().answer() is None
    monkeypatch.setenv("PATH", path)
    assert capture.GitSource().answer() is None
    assert capture.author()
