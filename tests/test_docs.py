"""What the README and the pages of ``docs/`` show is what happens."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from holdfast.cli.main import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/tutorials/*.md")])
EVERY_PAGE = sorted({*PAGES, *ROOT.glob("docs/**/*.md")})
NOT_RUN = "<!-- not run -->"
BLOCK = re.compile(
    rf"^(?P<skip>{re.escape(NOT_RUN)}\n+)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# A block under such a comment is a file that the reader writes.
FILE = re.compile(r"^<!-- file: (\S+) -->\n+```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Runs the blocks of one page in one namespace, with the page's own line numbers in tracebacks.
RUNNER = """
import json, sys
scope = {"__name__": "__main__"}
for line, code in json.load(sys.stdin):
    exec(compile("\\n" * line + code, sys.argv[1], "exec"), scope)
"""


def named(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Return (line, code, is run) of a page's blocks."""
    text = page.read_text("utf-8")
    files = {found.start(2) for found in FILE.finditer(text)}
    return [
        (
            text.count("\n", 0, found.start("code")),
            found["code"],
            found["skip"] is None and found.start("code") not in files,
        )
        for found in BLOCK.finditer(text)
        if found["language"] == language
    ]


def write_files(page, folder):
    """Write the files of a page, and install the project among them as an installer would."""
    for name, text in FILE.findall(page.read_text("utf-8")):
        (folder / name).write_text(text, "utf-8")
        if name != "pyproject.toml":
            continue
        project = tomllib.loads(text)["project"]
        info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        metadata = (
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        (info / "METADATA").write_text(metadata, "utf-8")
        points = [
            line
            for group, entries in project["entry-points"].items()
            for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(points), "utf-8")


def imported(code):
    """Return the top-level packages a block imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_pages_are_found():
    assert {"README.md", "docs/coming-from.md"} <= set(map(named, PAGES))
    assert sum(len(blocks(page, "python")) for page in PAGES) > 5


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=named)
def test_python_runs(page, tmp_path):
    run = [(line, code) for line, code, is_run in blocks(page, "python") if is_run]
    write_files(page, tmp_path)
    own = {path.stem for path in tmp_path.glob("*.py")}
    for package in sorted(set().union(*(imported(code) for _, code in run)) - own):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(page)],
        input=json.dumps(run),
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "HOLDFAST_STORE": str(tmp_path / "store"),
            "HOLDFAST_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", EVERY_PAGE, ids=named)
def test_python_parses(page):
    for line, code, _ in blocks(page, "python"):
        compile("\n" * line + code, named(page), "exec")


@pytest.mark.parametrize("page", EVERY_PAGE, ids=named)
def test_links_lead_somewhere(page):
    prose = BLOCK.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{named(page)} links to {target}"


def commands(page):
    """Return the words of every ``hold`` command that a page shows."""
    text = page.read_text("utf-8")
    inline = re.findall(r"`(hold [^`\n]+)`", BLOCK.sub("", text))
    shown = [
        line.removeprefix("$ ")
        for language in ("sh", "console")
        for _, code, _ in blocks(page, language)
        for line in code.splitlines()
        if line.removeprefix("$ ").startswith("hold ")
    ]
    return [shlex.split(line, comments=True) for line in [*inline, *shown]]


def test_commands_are_found():
    assert sum(len(commands(page)) for page in EVERY_PAGE) > 10


@pytest.mark.parametrize("page", [p for p in EVERY_PAGE if commands(p)], ids=named)
def test_commands_exist(page):
    context = click.Context(cli)
    for _, verb, *words in commands(page):
        command = cli.get_command(context, verb)
        assert command is not None, f"{named(page)} shows the verb {verb}"
        if isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words[0]]
        known = {option for item in command.params for option in item.opts}
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= known, f"{named(page)}: hold {verb} has no {used - known}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda p: p.stem)
def test_decisions_are_short_and_whole(page):
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.stem[:4]}: ")
    parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences"]
    assert len(text.split()) <= 250
