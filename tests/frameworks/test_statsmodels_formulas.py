"""Formulas are programs that run at each prediction: no text of a file gets beyond the grammar."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytest.importorskip("statsmodels", reason="statsmodels is not installed")

import pandas as pd
import statsmodels.formula.api as smf
from msgspec.structs import replace
from patsy import EvalEnvironment

from holdfast import codec, frameworks
from holdfast.codec.tensors import TensorView
from holdfast.errors import Corrupt, Unsupported
from holdfast.frameworks import statsmodels as adapter
from holdfast.frameworks.base import LoadOptions, Opened
from holdfast.frameworks.statsmodels.grammar import columns_of, judge

pytestmark = pytest.mark.filterwarnings("ignore")
FRAME = pd.DataFrame({"a": np.arange(1.0, 25.0), "b": np.arange(24) % 5, "y": np.arange(24) ** 0.5})

HOSTILE = [
    "__import__('os').system('touch canary')",
    "__import__('os')",
    "().__class__",
    "a.__class__",
    "a.to_pickle('canary')",
    "np.load('canary')",
    "np.fromfile('canary')",
    "np.lib.npyio.os.system('touch canary')",
    "np.log.__class__",
    "np.vectorize(a)",
    "np.apply_along_axis(print, 0, a)",
    "numpy.savetxt('canary', a)",
    "open('canary', 'w')",
    "eval('1')",
    "exec('1')",
    "getattr(a, 'values')",
    "print(a)",
    "(lambda: 1)()",
    "[x for x in a]",
    "{x: 1 for x in a}",
    "(x for x in a)",
    "a[0]",
    "a['b']",
    "f'{a}'",
    "f'{a.__class__}'",
    "a if b else y",
    "(c := 1)",
    "await a",
    "yield a",
    "*a",
    "a @ b",
    "a << 100000",
    "1 << 1000000",
    "10 ** 10 ** 10",
    "a ** 10 ** 10",
    "a ** 1000000",
    "((a ** 9) ** 9) ** 9",
    "np.power(np.power(np.power(a, 99), 99), 99)",
    "np.power(a, 1000000)",
    "np.power(x1=a, x2=9)",
    "power(7, 100)",
    "a * 'x'",
    "'x' * 1000000000",
    "('x',) * 1000000000",
    "9" * 400,
    "1e400",
    "1j",
    "b'x'",
    "...",
    "_private",
    "__builtins__",
    "_patsy_stobj0__center__",
    "Q(a)",
    "Q(name='a')",
    "Q('a', 'b')",
    "bs(**{'x': a})",
    "bs(*[a])",
    "center.__patsy_stateful_transform__",
    "C.__globals__",
    "I(I)(a)",
    "np",
    "-" * 500 + "a",
    "(" * 300 + "a" + ")" * 300,
    "a" * 3000,
    "",
    "a; b",
    "a\nb",
    "a #\x00",
    "import os",
]  # fmt: skip
HONEST = [
    "a", "1", "-a", "a + b * 2", "a ** 2", "a ** -0.5", "I((a - 1) ** 2)", "np.log(a)", "log1p(a)",
    "numpy.sqrt(a + 1)", "np.pi * a", "C(b)", "C(b, Treatment(reference=2))", "C(b, Sum)",
    "C(b, levels=[0, 1, 2])", "C(b, Treatment('x'))", "Q('weight in kg')", "bs(a, df=4, degree=3)",
    "bs(a, knots=[3, 9.5], include_intercept=True)", "te(cr(a, df=3), cc(b, df=3))",
    "standardize(a) * center(b)", "np.where(a > 2, a, 0)", "a > 3", "(a > 3) & (b <= 2)", "not a",
    "np.power(a, 2)", "cr(a, df=4, constraints='center')",
]  # fmt: skip


@pytest.mark.parametrize("code", HOSTILE)
def test_a_hostile_factor_is_refused(code):
    with pytest.raises(Unsupported, match="formula's factor"):
        judge(code)


@pytest.mark.parametrize("code", HONEST)
def test_an_honest_factor_is_accepted(code):
    judge(code)
    assert columns_of(code) <= {"a", "b", "weight in kg"}


def views(payload):
    return {
        name: TensorView(data.dtype, data.shape, memoryview(bytes(data.load())))
        for name, data in payload.tensors.items()
    }


def loaded(code, formula="y ~ np.log(a)", old="np.log(a)"):
    """Load a model in which the text of one factor was changed."""
    payload = adapter.pack(smf.ols(formula, FRAME).fit(), frameworks.registry())
    nodes = [
        ("str", code) if tuple(node) == ("str", old) else node for node in payload.structure.nodes
    ]
    assert nodes != list(payload.structure.nodes)
    structure, tensors = replace(payload.structure, nodes=tuple(nodes)), views(payload)
    audit = codec.audit(structure, tensors, frameworks.registry())
    parts = Opened(structure=structure, audit=audit, tensors=tensors, files={}, facts={})
    return adapter.unpack(parts, frameworks.registry(), LoadOptions())


@pytest.mark.parametrize("code", HOSTILE)
def test_a_hostile_factor_in_a_file_is_refused_before_anything_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Corrupt):
        loaded(code)
    assert list(tmp_path.iterdir()) == []


def test_an_honest_factor_in_a_file_runs():
    assert np.array_equal(
        loaded("np.sqrt(a)").predict(FRAME), loaded("np.sqrt( a )").predict(FRAME)
    )


@pytest.mark.parametrize("name", ["helper", "table", "np"])
def test_names_of_the_program_around_a_formula_are_refused_with_the_fix(name):
    scope = {"helper": np.log, "table": 3.0, "np": pd}
    formulas = {
        "helper": "y ~ helper(a)",
        "table": "y ~ I(a * table)",
        "np": "y ~ np.to_numeric(a)",
    }
    with pytest.raises(Unsupported, match="factor") as caught:
        adapter.pack(
            smf.ols(formulas[name], FRAME, eval_env=EvalEnvironment([scope])).fit(),
            frameworks.registry(),
        )
    assert "df[" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new"), [(3, 1000), (3, -1), (3, 6)], ids=["beyond", "below", "degree"]
)
def test_a_spline_of_another_degree_than_its_evaluator_is_made_for_is_refused(old, new):
    payload = adapter.pack(smf.ols("y ~ bs(a, df=5)", FRAME).fit(), frameworks.registry())
    nodes = [
        ("int", new) if tuple(node) == ("int", old) else node for node in payload.structure.nodes
    ]
    assert nodes != list(payload.structure.nodes)
    structure, tensors = replace(payload.structure, nodes=tuple(nodes)), views(payload)
    audit = codec.audit(structure, tensors, frameworks.registry())
    parts = Opened(structure=structure, audit=audit, tensors=tensors, files={}, facts={})
    with pytest.raises(Corrupt):
        adapter.unpack(parts, frameworks.registry(), LoadOptions())


def test_names_of_a_kept_formula_lead_to_nothing_of_numpy_but_listed_functions():
    model = loaded("np.sqrt(a)")
    data = vars(model.model.data)
    (info,) = data.get("model_spec", data.get("design_info")).factor_infos.values()
    (space,) = info.state["eval_env"]._namespaces
    assert not hasattr(space["np"], "load")
    assert not hasattr(space["np"], "__file__")


def test_nothing_is_run_while_a_hostile_file_is_loaded_in_a_fresh_process(tmp_path):
    program = textwrap.dedent(
        """
        import sys, runpy, subprocess, os
        def refuse(event, args):
            if event in ("os.system", "subprocess.Popen", "os.exec", "socket.connect"):
                print("RAN", event); os._exit(3)
        import importlib.util
        spec = importlib.util.spec_from_file_location("attacks", sys.argv[1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.addaudithook(refuse)
        for code in module.HOSTILE:
            try:
                module.loaded(code)
            except module.Corrupt:
                continue
            raise SystemExit(code)
        print("quiet")
        """
    )
    words = [sys.executable, "-W", "ignore", "-c", program, __file__]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "quiet"), done.stderr[-2000:]
