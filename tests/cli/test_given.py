"""Commands that are offered next work when they are pasted, in whichever store they are about."""

import re
import shlex

import click
import numpy as np
import pytest
from click.testing import CliRunner

import holdfast
from holdfast.cli import main as cli_main
from holdfast.cli.given import complete, forget, note

# Verbs whose answer does not depend on the store, or is about it.
WITHOUT = {"init", "scan", "where", "config"}


@pytest.fixture(name="hold")
def run_with_store(tmp_path, monkeypatch):
    """Return what runs a command where no store is in force; "a store" holds two versions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_STORE", str(tmp_path / "none in force"))
    store = holdfast.Store.create(tmp_path / "a store")
    for number in (1, 2):
        holdfast.save({"w": np.arange(3) + number}, "net", store=store)
    holdfast.promote("net@v1", to="prod", store=store)
    store.bundle("net", tmp_path / "m.hold")
    (tmp_path / "w.npz").write_bytes(b"no archive")

    def hold(*words):
        with CliRunner().isolation() as streams:
            try:
                cli_main.main([str(word) for word in words])
            except SystemExit as stop:
                status = stop.code
            return status, streams[0].getvalue().decode(), streams[1].getvalue().decode()

    return hold


def offered(text):
    """Yield the commands in a text, as words."""
    for line in text.splitlines():
        found = re.match(r"\s*(?:Try|Undo): hold (.*)|     hold (.*)", line)
        if found:
            yield shlex.split((found[1] or found[2]).split("  #")[0])


def takes_store(words):
    command = cli_main.cli.get_command(click.Context(cli_main.cli), words[0])
    if isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words[1])
    return words[0] not in WITHOUT and any(p.name == "store" for p in command.params)


SAID = [
    "show nothing", "show a@b@c", "show net@v9", "ls nothing", "ls --all net@", "log nothing",
    "promote nothing --to prod", "promote net@v2 --to prod", "promote net@v2 --to Pröd",
    "rollback net --alias none", "forget net@v1", "forget net@v2 --reason old", "ageing", "prune",
    "verify nothing", "verify --sample 0", "tag net", "tag net a=b --remove b", "pin nothing",
    "predict net rows.csv", "export net", "export net out.onnx", "diff net@v1 net@v9",
    "preflight nothing", "stats", "compact nothing", "bundle net m.tar", "bundle net m.hold",
    "bundle net@v9 x.hold", "unbundle no.hold", "push net new.hold", "push nothing elsewhere",
    "pull net nowhere", "convert w.npz", "save missing.safetensors --name x", "env lock nothing",
    "env bundle nothing --to wheels", "show net", "verify net",
]  # fmt: skip


def test_what_is_offered_names_the_store_that_was_given(hold):
    verbs, url = set(), holdfast.Store("a store").url
    for line in SAID:
        _, out, err = hold(*line.split(), "--store", "a store")
        for words in filter(takes_store, offered(out + err)):
            verbs.add(words[0])
            assert words[words.index("--store") + 1] in ("a store", url), (line, words)
            if words[0] in ("ls", "log", "stats", "ageing"):
                status, _, told = hold(*words)
                assert status in (0, 5), (line, told)
    told = hold("show", "net", "--store", "a store")[2]
    assert told == "Load it: holdfast.load(\"net@v2\", store='a store')\n"
    assert verbs >= {"bundle", "export", "log", "ls", "promote", "prune", "verify"}


def test_a_bundle_that_was_given_is_named(hold):
    assert hold("show", "m.hold:net@")[2].endswith("\nTry: hold ls --store m.hold net\n")
    assert hold("ls", "--store", "m.hold", "net")[0] == 0
    assert hold("show", "m.hold:nothing")[2].endswith("m.hold\n")
    assert "--store" not in hold("show", "nothing@")[2]  # nor does it stay from one to the next


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Try: hold verify net@v1", "Try: hold verify --store 'a b' net@v1"),
        ("hold ls  # all", "hold ls --store 'a b'  # all"),
        ("hold scan x\nhold log n", "hold scan x\nhold log --store 'a b' n"),
        ("hold env lock REF", "hold env lock --store 'a b' REF"),
        ("hold env prune", "hold env prune"),
        ("hold ls --store c", "hold ls --store c"),
        ("HOLDFAST_STORE=/c hold show n", "HOLDFAST_STORE=/c hold show n"),
        ("HOLDFAST_WHEELHOUSE=w hold show n", "HOLDFAST_WHEELHOUSE=w hold show --store 'a b' n"),
        ("what 'hold prune' frees", "what 'hold prune' frees"),
        ("hold unbundle '/x/a b'", "hold unbundle '/x/a b'"),
        ("a threshold set to hold --help", "a threshold set to hold --help"),
    ],
)
def test_only_commands_without_a_store_get_one(text, wanted):
    forget()
    assert complete(text) == text
    note("a b")
    try:
        assert complete(text) == wanted
    finally:
        forget()


@pytest.mark.parametrize("text", ["hold verify --no-replay", "hold log a", "hold show oci://b/a"])
def test_a_short_name_of_a_store_is_not_found_in_other_words(text):
    note("/x/a")
    try:
        assert " --store /x/a " in complete(text)
    finally:
        forget()
