"""Code inside a model is refused at save, and what the refusal says to write is enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

# Each follows a fix through several processes that import pandas and scikit-learn.
pytestmark = pytest.mark.slow

HEAD = """
import functools
import sys
import numpy as np
import holdfast
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

STORE = sys.argv[1]
X = np.arange(1.0, 7.0).reshape(3, 2)
"""
STEP = """
class Step:
    def __call__(self, x):
        import numpy as np
        return np.log1p(x)
"""
LOG = """
class Log:
    def __init__(self, base=2.0):
        self.base = base

    def predict(self, X):
        import numpy as np
        return np.log(X).sum(1) / np.log(self.base)
"""
USES = """
model = make_pipeline(FunctionTransformer(FUNCTION), StandardScaler()).fit(X)
"""


def program(path: Path, *parts: str) -> str:
    path.write_text("\n".join(map(textwrap.dedent, parts)), "utf-8")
    command = [sys.executable, path, path.parent / "store"]
    env = {**os.environ, "PYTHONPATH": str(path.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return done.stdout + done.stderr


def fix_of(said: str) -> list[str]:
    """Return the two lines after ``Try:`` as a person would copy them."""
    first, second = said.rstrip().splitlines()[-2:]
    assert first.startswith("Try: ")
    assert second.startswith("     ")
    return [first.removeprefix("Try: "), second.strip()]


SAVE = '\nholdfast.save(model, "m", inputs=X, store=STORE)\n'
LOAD = '\nprint(holdfast.load("m", store=STORE, replay="always").{call}.round(3).tolist())\n'

FUNCTIONS = {
    "a lambda": (USES.replace("FUNCTION", "lambda x: np.log1p(x)"), "steps[0].func is a lambda"),
    "of __main__": (
        "def log(x):\n    return np.log1p(x)\n" + USES.replace("FUNCTION", "log"),
        "steps[0].func is the function log",
    ),
    "local": (
        "def make():\n    def log(x):\n        return np.log1p(x)\n    return log\n"
        + USES.replace("FUNCTION", "make()"),
        "steps[0].func is the function make.<locals>.log",
    ),
    "a partial": (
        USES.replace("FUNCTION", "functools.partial(lambda x, y: np.log1p(x), y=1)"),
        "steps[0].func: a partial of <lambda> would keep code",
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_function_is_refused_and_its_fix_works(case, tmp_path):
    model, words = FUNCTIONS[case]
    said = program(tmp_path / "train.py", HEAD, model, SAVE)
    assert f"Unsupported: pipeline.{words}" in said
    assert "code is never kept in a file." in said
    fix = fix_of(said)
    assert fix[0].startswith("from steps import Step")
    (tmp_path / "steps.py").write_text(STEP, "utf-8")
    replaced = USES.replace("FUNCTION", "Step()")
    assert program(tmp_path / "train.py", HEAD, *fix, replaced, SAVE) == ""
    answers = program(tmp_path / "serve.py", HEAD, *fix, LOAD.format(call="transform(X)"))
    logs = np.log1p(np.arange(1.0, 7.0).reshape(3, 2))
    assert json.loads(answers) == ((logs - logs.mean(0)) / logs.std(0)).round(3).tolist()
    assert "EnvironmentMismatch" in program(
        tmp_path / "forgot.py", HEAD, LOAD.format(call="transform(X)")
    )


CLASSES = {
    "of __main__": (LOG + "\nmodel = Log()\n", "log is a __main__.Log, a class"),
    "local": (
        "def make():\n" + textwrap.indent(LOG, "    ") + "    return Log\nmodel = make()()\n",
        "log is a __main__.make.<locals>.Log, a class",
    ),
    "inside": (
        LOG + "\nmodel = {'a': [Log()]}\nX = None\n",
        "dict['a'][0] is a __main__.Log, a class",
    ),
}


@pytest.mark.parametrize("case", CLASSES)
def test_a_class_of_the_program_is_refused_and_moving_it_works(case, tmp_path):
    model, words = CLASSES[case]
    said = program(tmp_path / "train.py", HEAD, model, SAVE)
    assert f"Unsupported: {words}" in said
    fix = fix_of(said)
    moved = "move the class there first: what loads it must import it too"
    assert fix[0] == f"from steps import Log  # {moved}"
    (tmp_path / "steps.py").write_text(LOG, "utf-8")
    assert program(tmp_path / "train.py", HEAD, *fix, "model = Log()", SAVE) == ""
    answers = program(tmp_path / "serve.py", HEAD, *fix, LOAD.format(call="predict(X)"))
    assert answers == "[1.0, 3.585, 4.907]\n"


def test_a_class_of_a_module_is_refused_and_the_two_lines_work_as_they_are(tmp_path):
    (tmp_path / "shop").mkdir()
    inside = LOG + "\nclass Outer:\n" + textwrap.indent(LOG, "    ")
    (tmp_path / "shop" / "parts.py").write_text(inside, "utf-8")
    for name in ("Log", "Outer.Log"):
        model = f"import shop.parts\nmodel = shop.parts.{name}()"
        said = program(tmp_path / "train.py", HEAD, model, SAVE)
        assert f"Unsupported: log is a shop.parts.{name}, a class that is not registered" in said
        fix = fix_of(said)
        assert program(tmp_path / "train.py", HEAD, *fix, model, SAVE) == ""
        served = program(tmp_path / "serve.py", HEAD, *fix, LOAD.format(call="predict(X)"))
        assert served == "[1.0, 3.585, 4.907]\n"


def test_the_line_of_a_refused_load_works_wherever_the_class_came_from(tmp_path):
    """A class registered in the program that defines it: its name in the file says __main__."""
    registered = LOG + "\nholdfast.register(Log)\nmodel = Log()\n"
    assert program(tmp_path / "train.py", HEAD, registered, SAVE) == ""
    (tmp_path / "elsewhere.py").write_text(LOG, "utf-8")
    load = "from elsewhere import Log\n", LOAD.format(call="predict(X)")
    said = program(tmp_path / "serve.py", HEAD, *load)
    fix = said.rstrip().splitlines()[-1].removeprefix("Try: ")
    assert fix == "holdfast.register(Log, name='__main__.Log')  # define or import it before"
    assert program(tmp_path / "serve.py", HEAD, load[0], fix, load[1]) == "[1.0, 3.585, 4.907]\n"


@pytest.mark.parametrize(
    "source",
    [
        "class Log(dict): pass",
        "class Log(list): pass",
        "class Log(str): pass",
        "class Log(Exception): pass",
        "class Log(np.ndarray): pass",
        "class Log:\n    __slots__ = ('a',)",
        "class Log:\n    __slots__ = ('a', '__dict__')",
        "class Log(collections.namedtuple('Pair', 'a b')): pass",
    ],
)
def test_a_class_whose_instances_are_more_than_attributes_cannot_be_registered(source, tmp_path):
    said = program(tmp_path / "x.py", HEAD, "import collections", source, "holdfast.register(Log)")
    assert "UsageError: An instance of Log is more than its __dict__" in said


def test_classes_that_are_their_attributes_can(tmp_path):
    source = """
        import abc, dataclasses, typing
        T = typing.TypeVar("T")
        class Base(abc.ABC): pass
        class Mixin: __slots__ = ()
        @dataclasses.dataclass(frozen=True)
        class Data(Base, Mixin, typing.Generic[T]):
            a: int
            b: list
        holdfast.register(Data)
        holdfast.register(Data, name="data")
        kept = Data(1, [2])
        print(holdfast.save(kept, "m", store=STORE).proof, holdfast.load("m", store=STORE) == kept)
    """
    assert program(tmp_path / "x.py", HEAD, source) == "state only True\n"
