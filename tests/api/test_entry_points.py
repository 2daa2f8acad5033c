"""Classes that installed distributions register: asked for when needed, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# Each takes several processes that import pandas and scikit-learn.
pytestmark = pytest.mark.slow

PLAIN = """
    class Log:
        def __init__(self, base):
            self.base = base

        def predict(self, X):
            import numpy as np
            return (np.log(X) / np.log(self.base)).ravel()

    class Own:
        def __init__(self):
            self.size = 2

    def offer():
        import holdfast
        holdfast.register(Own, name="acme-own")
"""


class Site:
    """A folder on ``sys.path`` with distributions, as an installer leaves them, and a store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store"

    def install(self, name: str, source: str, *points: str) -> None:
        module = name.replace("-", "_")
        info = self.path / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n"
        (info / "METADATA").write_text(metadata, "utf-8")
        lines = [f"{number} = {point}" for number, point in enumerate(points)]
        (info / "entry_points.txt").write_text("\n".join(["[holdfast.types]", *lines]), "utf-8")
        told = "import sys\nsys.stdout.write(f'imported {__name__}\\n')\n"
        (self.path / f"{module}.py").write_text(told + textwrap.dedent(source), "utf-8")

    def run(self, code: str) -> str:
        """Run a program; what it prints, and the words of an error of Holdfast."""
        head = f"import sys, holdfast\nSTORE = {str(self.store)!r}\ntry:\n"
        tail = "\nexcept holdfast.HoldfastError as error:\n    print(error.code, error)"
        program = head + textwrap.indent(textwrap.dedent(code), "    ") + tail
        return self._called("-c", program)

    def hold(self, *words: str) -> str:
        return self._called("-m", "holdfast.cli.main", *words, "--store", str(self.store))

    def _called(self, *words: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(self.path)}
        command = [sys.executable, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture(name="site")
def make_site(tmp_path):
    return Site(tmp_path)


SAVE = """
    import {module}
    holdfast.save({{"steps": [{module}.{kind}]}}, "m", store=STORE)
"""
LOAD = """
    model = holdfast.load("m", store=STORE)
    print(type(model["steps"][0]).__name__, vars(model["steps"][0]))
"""


def test_a_class_is_found_at_save_and_at_load(site):
    site.install("acme-steps", PLAIN, "acme_steps:Log", "acme_steps:offer")
    said = "imported acme_steps\n"
    assert site.run(SAVE.format(module="acme_steps", kind="Log(2)")) == said
    assert site.run(LOAD) == said + "Log {'base': 2}\n"


def test_hold_finds_it_too_and_says_what_is_broken(site):
    site.install("acme-steps", PLAIN, "acme_steps:Log")
    site.run("""
        import numpy as np, acme_steps
        X = np.array([[1.0], [4.0]])
        holdfast.save(acme_steps.Log(2), "m", inputs=X, store=STORE)
        np.savetxt(sys.path[1] + "/rows.csv", X, header="x", comments="")
    """)
    assert "golden rows 2/2, max difference 0" in site.hold("verify", "m")
    assert "0.0\n2.0\n" in site.hold("predict", "m", str(site.path / "rows.csv"))
    (site.path / "acme_steps.py").write_text("import not_there", "utf-8")
    assert site.hold("predict", "m", str(site.path / "rows.csv")) == (
        "The file holds an instance of 'acme_steps.Log', a class of the saver's own that neither "
        "this program nor an installed package registers. An installed package that registers "
        "classes cannot be used: acme-steps 1.2 (holdfast.types: acme_steps:Log): "
        "ModuleNotFoundError: No module named 'not_there'.\n"
        "Try: holdfast.register(Log, name='acme_steps.Log')  # define or import it before\n"
    )


def test_a_function_registers_classes_under_names_of_its_own(site):
    site.install("acme-steps", PLAIN, "acme_steps:offer")
    site.run(SAVE.format(module="acme_steps", kind="Own()"))
    assert site.run(LOAD).endswith("Own {'size': 2}\n")
    (site.path / "acme_steps-1.2.dist-info" / "entry_points.txt").unlink()
    assert "holdfast.register(acme-own, name='acme-own')" in site.run(LOAD)
    assert site.run("import acme_steps\nacme_steps.offer()" + textwrap.dedent(LOAD)).endswith(
        "Own {'size': 2}\n"
    )


def test_a_module_of_torch_is_found_at_load(site):
    pytest.importorskip("torch", reason="torch is not installed")
    source = """
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(2, 1)
    """
    site.install("acme-nets", source, "acme_nets:Net")
    site.run('import acme_nets\nholdfast.save(acme_nets.Net(), "net", store=STORE)')
    code = 'print(type(holdfast.load("net", store=STORE)).__name__)'
    assert site.run(code) == "imported acme_nets\nNet\n"
    (site.path / "acme_nets.py").write_text("import not_there", "utf-8")
    assert "acme-nets 1.2 (holdfast.types: acme_nets:Net): ModuleNotFoundError" in site.run(code)


def test_nobody_is_asked_without_need(site):
    site.install("acme-steps", PLAIN, "acme_steps:Log")
    assert (
        site.run("""
        import re
        import numpy as np

        class Mine:
            pass

        holdfast.register(Mine, name="mine")
        model = {"x": [np.float32(1), np.dtype("f4"), int, re.compile("x"), Mine(), print and len]}
        holdfast.save(model, "plain", store=STORE)
        holdfast.load("plain", store=STORE)
        try:
            holdfast.save({"f": lambda: 1}, "plain", store=STORE)
        except holdfast.HoldfastError as error:
            print(error.code)
        """)
        == "unsupported\n"
    )


def test_the_file_names_nothing_that_is_imported(site):
    """An id equal to the name or the value of an entry point, or to a module, is only compared."""
    site.install("acme-steps", PLAIN, "acme_steps:Log")
    (site.path / "victim.py").write_text("print('victim was imported')", "utf-8")
    for name in ("0", "acme_steps:Log", "acme_steps.Own", "acme_steps.offer", "victim.Class"):
        code = f"""
        from holdfast import frameworks
        from holdfast.codec import audit
        from holdfast.record import Structure
        forged = Structure(types=("user.{name}",), nodes=[["object", 0, {{}}]], root=0)
        audit(forged, {{}}, frameworks.registry())
        """
        said = site.run(code)
        assert said.startswith("imported acme_steps\nenvironment_mismatch The file holds an inst")
        assert "victim was" not in said


BROKEN = {
    "import": ("import not_there", "x:Any", "ModuleNotFoundError: No module named 'not_there'"),
    "attribute": ("", "x:Missing", "AttributeError: module"),
    "object": ("Log = 3", "x:Log", "it is a int, neither a class nor a function"),
    "function": ("def offer(x): pass", "x:offer", "TypeError: offer() missing 1 required"),
    "slots": ("class Log: __slots__ = ('a',)", "x:Log", "An instance of Log is more than its __di"),
    "exit": ("raise SystemExit('bye')", "x:Log", "SystemExit: bye"),
    "syntax": ("def", "x:Log", "SyntaxError: invalid syntax"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_entry_point_is_named_and_disturbs_nobody_else(site, case):
    source, point, words = BROKEN[case]
    site.install("broken-steps", source, point.replace("x:", "broken_steps:"))
    site.install("sound-steps", PLAIN, "sound_steps:Log")
    assert "code" not in site.run(SAVE.format(module="sound_steps", kind="Log(3)"))
    assert site.run(LOAD).endswith("Log {'base': 3}\n")
    expected = f"broken-steps 1.2 (holdfast.types: {point.replace('x:', 'broken_steps:')}): {words}"
    stranger = site.run(SAVE.format(module="sound_steps", kind="Own()"))
    assert "unsupported dict['steps'][0] is a sound_steps.Own, a class that is not reg" in stranger
    assert expected in stranger
    (site.path / "sound_steps-1.2.dist-info" / "entry_points.txt").write_text("", "utf-8")
    missing = site.run(LOAD)
    assert "environment_mismatch The file holds an instance of 'sound_steps.Log'" in missing
    assert expected in missing
    assert missing.endswith(
        "Try: holdfast.register(Log, name='sound_steps.Log')  # define or import it before\n"
    )


def test_metadata_that_cannot_be_read_is_named(site):
    site.install("acme-steps", PLAIN)
    site.install("mad-steps", "")
    (site.path / "mad_steps-1.2.dist-info" / "entry_points.txt").write_text("[x]\nno sign", "utf-8")
    said = site.run(SAVE.format(module="acme_steps", kind="Log(1)"))
    assert "mad-steps 1.2 (entry_points.txt): " in said


def test_what_the_program_registered_stays_as_it_is(site):
    site.install("acme-steps", PLAIN, "acme_steps:Log", "acme_steps:offer")
    said = site.run("""
        import acme_steps
        holdfast.register(acme_steps.Log, name="own-log")
        both = [acme_steps.Log(1), acme_steps.Own()]
        holdfast.save(both, "m", store=STORE)
        holdfast.save(acme_steps.Log(1), "again", store=STORE)
        for name in ("m", "again"):
            print(sorted(holdfast.get(name, store=STORE).load_proven().proof.split()))
    """)
    assert "unsupported" not in said
    code = """
        import json
        from pathlib import Path
        text = "".join(p.read_text("latin-1") for p in Path(STORE, "blobs/sha256").iterdir())
        print("user.own-log" in text, "user.acme-own" in text, "user.acme_steps.Log" in text)
    """
    assert site.run(code) == "True True False\n"
