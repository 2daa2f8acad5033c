"""Promises about the package itself: one direction of imports, a light door, few dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import holdfast
from holdfast import errors

SOURCE = Path(holdfast.__file__).parent
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "manager", "misc"}


def test_imports_point_one_way():
    lint = Path(sys.executable).with_name("lint-imports")
    if not lint.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [lint], cwd=SOURCE.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_module_is_a_drawer():
    names = {path.stem for path in SOURCE.rglob("*.py")} | {p.name for p in SOURCE.rglob("*")}
    assert not names & FORBIDDEN_NAMES


def test_the_door_is_small_sorted_and_true():
    assert holdfast.__all__ == sorted(holdfast.__all__)
    assert len(holdfast.__all__) <= 20
    for name in holdfast.__all__:
        assert getattr(holdfast, name).__doc__


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import holdfast", {"numpy", "msgspec", "click", "sqlite3", "rich"}),
        ("import holdfast.api.history", {"torch", "sklearn", "pandas", "rich"}),
        ("import holdfast.frameworks; holdfast.frameworks.registry()", {"torch", "sklearn"}),
        ("from holdfast.cli import main, look", {"numpy", "torch", "sklearn", "rich"}),
    ],
)
def test_importing_stays_light(code, absent):
    report = "import sys; print(' '.join(m for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & absent


def test_listing_and_log_need_no_numpy(tmp_path):
    code = (
        "import sys\n"
        "from holdfast.cli.main import main\n"
        "bundled = ['ls', 'm.hold'], ['log', 'm.hold'], ['ls', 'm.hold:m']\n"
        "for words in (['ls'], ['log', 'm'], ['ls', 'nothing'], *bundled):\n"
        "    try:\n"
        "        main(words)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "heavy = {'numpy', 'zstandard', 'obstore', 'holdfast.environment.capture'}\n"
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)\n"
    )
    import os

    import numpy as np

    store = tmp_path / "store"
    holdfast.save({"a": np.arange(3)}, "m", store=store)
    holdfast.Store(store).bundle("m", tmp_path / "m.hold", history=True)
    env = {**os.environ, "HOLDFAST_STORE": str(store)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved m@v1") == 2


def closure(distribution: str) -> set[str]:
    """Return every distribution that a plain install brings, itself included."""
    found, todo = set(), [distribution]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for requirement in metadata.requires(name) or []:
            if "extra ==" in requirement or "sys_platform" in requirement:
                continue
            todo.append(re.split(r"[ <>=!~;\[]", requirement)[0])
    return found


def test_a_plain_install_is_at_most_twelve_packages():
    assert len(closure("holdfast-ml")) <= 12


def all_errors(base: type[errors.HoldfastError]) -> list[type[errors.HoldfastError]]:
    return [base, *(each for kind in base.__subclasses__() for each in all_errors(kind))]


def test_the_error_tree_is_the_one_drawn():
    drawn = re.findall(r"(\w+)(?: \(\w+\))?\s+(\w+)\s+(\d+)", errors.__doc__ or "")
    real = {
        (kind.__name__, kind.code, str(kind.exit_code)) for kind in all_errors(errors.HoldfastError)
    }
    assert set(drawn) == real
    for kind in all_errors(errors.HoldfastError):
        text = str(kind("What happened."))
        assert text.count("\nTry: ") == 1
        assert kind.__name__ in errors.__all__


def test_sizes_of_files_and_functions():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 500, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                body = node.end_lineno - node.body[0].lineno
                assert body <= 60, f"{path}:{node.lineno} {node.name}"
