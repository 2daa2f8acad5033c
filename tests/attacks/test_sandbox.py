"""Code in the sandbox tries to get out, to stay, to eat the machine and to lie about the result."""

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast.api import boxed, sandboxing
from holdfast.environment import landlock, sandbox
from holdfast.errors import EnvironmentMismatch, HoldfastError, UnsafeContent, Unsupported

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes need Linux")
HOLDERS = [sandbox.BUBBLEWRAP, sandbox.LANDLOCK]


@pytest.fixture(params=HOLDERS)
def held(request, monkeypatch):
    """Hold by one of the two, whichever the machine would choose."""
    if request.param == sandbox.BUBBLEWRAP and sandbox.missing() is not None:
        pytest.skip(f"no bubblewrap here: {sandbox.missing()}")
    if request.param == sandbox.LANDLOCK:
        if not landlock.release():
            pytest.skip("the kernel has no Landlock")
        monkeypatch.setattr(sandbox, "missing", lambda: "it is not wanted in this test")
    assert sandbox.holder() == request.param
    return request.param


class Runs:
    """Runs a program when it is unpickled and becomes what that leaves in ``made``."""

    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        run = "(lambda place: (exec({!r}, place), place.get('made'))[1])({{}})"
        return eval, (run.format(self.code),)


def hostile(tmp_path, code):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(Runs(code)))
    return path


def run(tmp_path, code, **limits):
    """Run code in the sandbox; return how it went, and what it saved or None."""
    folder = tmp_path / "work"
    folder.mkdir()
    outcome = sandbox.run(
        boxed.__name__,
        folder=folder,
        arguments={"kind": "pickle", "golden": None},
        inputs={"file": hostile(tmp_path, code)},
        limits=sandbox.Limits(**{"wall": 60.0, **limits}),
    )
    saved = outcome.result is not None and "error" not in outcome.result
    return outcome, holdfast.load(boxed.NAME, store=folder / boxed.STORE) if saved else None


TRIES = """
import ctypes, os, pathlib, signal, socket, subprocess, sys, sysconfig
made = {}
def attempt(name, what):
    try:
        made[name] = f"did {what()!r}"
    except BaseException as error:
        made[name] = type(error).__name__
outside, port, parent, file = json_of_the_test
site = sysconfig.get_path("purelib")
attempt("write beside the file", lambda: pathlib.Path(outside, "canary").write_text("x"))
attempt("write to /tmp", lambda: pathlib.Path("/tmp/holdfast-canary").write_text("x"))
attempt("write to the libraries", lambda: pathlib.Path(site, "canary.py").write_text("x"))
attempt("write to /etc", lambda: pathlib.Path("/etc/holdfast-canary").write_text("x"))
attempt("write to /dev/shm", lambda: pathlib.Path("/dev/shm/holdfast-canary").write_text("x"))
attempt("change the file", lambda: open(file, "ab").write(b"x"))
attempt("empty the secret", lambda: os.truncate(outside + "/secret", 0))
attempt("remove the secret", lambda: os.unlink(outside + "/secret"))
attempt("read the secret", lambda: pathlib.Path(outside, "secret").read_text())
attempt("list the folder", lambda: os.listdir(outside))
attempt("read accounts", lambda: pathlib.Path("/etc/shadow").read_text())
attempt("open the mode of the secret", lambda: os.chmod(outside + "/secret", 0o777))
def follow():
    os.symlink(outside, "out")
    try:
        return os.listdir("out")
    finally:
        os.unlink("out")
attempt("link out", follow)
attempt("connect", lambda: socket.create_connection(("127.0.0.1", port), 2))
inet, local = (lambda: socket.socket(socket.AF_INET, 2)), (lambda: socket.socket(socket.AF_UNIX))
attempt("send", lambda: inet().sendto(b"x", ("127.0.0.1", port)))
attempt("a socket of files", lambda: local().connect("/run/dbus/system_bus_socket"))
attempt("fork", os.fork)
attempt("start a program", lambda: subprocess.run(["/bin/sh", "-c", "true"]).returncode)
attempt("signal the parent", lambda: os.kill(parent, signal.SIGKILL))
attempt("look at the parent", lambda: open(f"/proc/{parent}/environ", "rb").read())
attempt("trace", lambda: 1 // (ctypes.CDLL(None).ptrace(16, parent, 0, 0) + 1))
attempt("new namespace", lambda: 1 // (ctypes.CDLL(None).unshare(0x10000000) + 1))
attempt("mount", lambda: 1 // (ctypes.CDLL(None).mount(b"none", b"/", b"tmpfs", 0, None) + 1))
made["environment"] = sorted(os.environ.values())
"""


def test_nothing_gets_out(held, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_USER", "planted-secret")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("planted-secret")
    (outside / "secret").chmod(0o600)
    reached = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port, done = server.getsockname()[1], threading.Event()

        def listen():
            while not done.is_set():
                try:
                    reached.append(server.accept())
                except TimeoutError:
                    continue

        listener = threading.Thread(target=listen)
        listener.start()
        file = tmp_path / "hostile.pkl"
        words = [str(outside), port, os.getpid(), str(file)]
        code = f"import json\njson_of_the_test = json.loads({json.dumps(words)!r})\n{TRIES}"
        try:
            outcome, made = run(tmp_path, code)
        finally:
            done.set()
            listener.join()
    assert made is not None, (outcome.result, outcome.output)
    assert "planted-secret" not in " ".join(made.pop("environment"))
    did = {name: said for name, said in made.items() if said.startswith("did")}
    assert not did
    assert not reached
    assert (outside / "secret").read_text() == "planted-secret"
    assert (outside / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not Path("/tmp/holdfast-canary").exists()
    assert file.read_bytes() == pickle.dumps(Runs(code))


@pytest.mark.parametrize(
    "part", ["bytearray(1 << 24)", pytest.param("mmap.mmap(-1, 1 << 24)", marks=pytest.mark.slow)]
)
def test_memory_is_limited(held, part, tmp_path):
    fill = f"made.append({part}); made[-1][::4096] = bytes(4096)"
    code = f"import mmap\nmade = []\nwhile True: {fill}"
    outcome, made = run(tmp_path, code, memory=1 << 30)
    assert made is None
    assert "allocate memory" in f"{outcome.result}" or "MemoryError" in f"{outcome.result}"


@pytest.mark.slow
@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(600)"])
def test_a_hang_is_ended(held, code, tmp_path):
    before = time.monotonic()
    outcome, made = run(tmp_path, code, wall=3.0)
    assert (outcome.ended, made) == ("time", None)
    assert time.monotonic() - before < 120


STUBBORN = {
    "noise": "import os\nwhile True: os.write(1, b'{}' * 1000)",
    "silence": "import os\nos.close(1); os.close(2)\nwhile True: pass",
    "deafness": """
import signal
for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""",
    "threads": """
import threading
def spin():
    while True:
        pass
for _ in range(20):
    threading.Thread(target=spin).start()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STUBBORN)
def test_noise_silence_deafness_and_threads_end_at_the_limit(held, name, tmp_path):
    outcome, made = run(tmp_path, STUBBORN[name], wall=3.0)
    assert (outcome.ended, made) == ("time", None)
    assert len(outcome.output) <= 8_000


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import os\nos.close(1); os.close(2)\n"])
def test_filling_the_disk_is_ended_also_in_silence(held, before, tmp_path):
    code = (
        f"{before}made = 0\nwhile True:\n  made += 1\n"
        "  with open(f'file{made}', 'wb') as f: f.write(bytes(1 << 24))"
    )
    outcome, made = run(tmp_path, code, disk=1 << 28)
    assert (outcome.ended, made) == ("disk", None)
    used = sum(path.stat().st_size for path in (tmp_path / "work").rglob("file*"))
    assert used < 8 << 28


def test_a_fork_bomb_does_not_go_off(held, tmp_path):
    code = """
import os
made = 0
for _ in range(1000):
    try:
        os.fork()
        made += 1
    except OSError:
        pass
"""
    _, made = run(tmp_path, code)
    assert made == 0


def test_the_folder_of_the_running_script_is_no_library(tmp_path):
    (tmp_path / "secret_module.py").write_text("x = 1")
    program = """
import sys
from holdfast.environment import sandbox
assert sys.path[0] not in sandbox._import_path()
assert not any(sys.path[0] in place for place in sandbox._libraries())
print("left out")
"""
    (tmp_path / "script.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "left out\n", done.stderr


LIES = {
    "nonsense": "open('result.json', 'w').write('{')",
    "another kind": "open('result.json', 'w').write('[1]')",
    "nothing": "pass",
    "a promise without a store": "open('result.json', 'w').write('{\"proof\": \"replayed\"}')",
    "endless": "open('result.json', 'w').write('[' * 10**7)",
    "a store of nonsense": "os.makedirs('store/log/taken'); open('store/log/taken/1.json', 'w')"
    ".write('{}'); open('result.json', 'w').write('{}')",
}


@pytest.mark.parametrize("name", LIES)
def test_a_process_that_leaves_in_the_middle_and_lies_is_not_believed(name, tmp_path):
    path = hostile(tmp_path, f"import os\n{LIES[name]}\nos._exit(0)")
    with pytest.raises(HoldfastError):
        holdfast.convert(path, "m", sandbox=True, store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("target", ["result.json", "store"])
def test_links_that_are_left_behind_are_not_followed(target, tmp_path):
    if sandbox.holder() != sandbox.BUBBLEWRAP:
        pytest.skip("no bubblewrap here: links cannot be made at all")
    path = hostile(tmp_path, f"import os\nos.symlink('/etc', {target!r})\nos._exit(0)")
    with pytest.raises(HoldfastError, match="no plain file"):
        holdfast.convert(path, "m", sandbox=True, store=tmp_path / "s")


def test_without_anything_that_holds_it_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "missing", lambda: "bubblewrap is not installed")
    monkeypatch.setattr(landlock, "release", lambda: 0)
    path = hostile(tmp_path, f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(EnvironmentMismatch, match="no sandbox here") as caught:
        holdfast.convert(path, "m", sandbox=True, store=tmp_path / "s")
    assert "bubblewrap" in caught.value.hint
    assert not (tmp_path / "canary").exists()


def test_nothing_is_run_unless_the_sandbox_is_asked_for(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the sandbox was started")

    monkeypatch.setattr(sandboxing.sandbox, "run", never)
    path = hostile(tmp_path, "pass")
    with pytest.raises(UnsafeContent) as caught:
        holdfast.convert(path, "m", store=tmp_path / "s")
    assert f"hold convert {path} --sandbox" in caught.value.hint
    np.save(tmp_path / "plain.npy", np.ones(3))
    holdfast.convert(tmp_path / "plain.npy", "plain", sandbox=True, store=tmp_path / "s")


def test_what_cannot_be_kept_is_explained_in_the_words_of_the_box(held, tmp_path):
    path = hostile(tmp_path, "made = open")
    with pytest.raises(Unsupported, match="opened in a sandbox and is not kept"):
        holdfast.convert(path, "m", sandbox=True, store=tmp_path / "s")


def test_a_model_comes_out_proven_there_and_here(held, tmp_path):
    from sklearn.linear_model import LogisticRegression

    points = np.random.default_rng(0).normal(size=(60, 3))
    model = LogisticRegression().fit(points, points[:, 0] > 0)
    inner = pickle.dumps(model)
    path = hostile(tmp_path, f"import pickle\nmade = pickle.loads({inner!r})")
    version = holdfast.convert(path, "m", sandbox=True, inputs=points, store=tmp_path / "s")
    assert version.proof == "replayed"
    origin = version.record.params["converted_from"]
    assert origin["how"] == "run in a sandbox"
    assert held in origin["notes"][0]
    again = holdfast.load("m", store=tmp_path / "s")
    assert np.array_equal(again.predict_proba(points), model.predict_proba(points))


@pytest.mark.slow
def test_a_model_of_another_scikit_learn_is_not_loaded_in_the_box_either(held, tmp_path):
    import sklearn
    from sklearn.linear_model import LogisticRegression

    inner = pickle.dumps(LogisticRegression(), 4)
    old = inner.replace(sklearn.__version__.encode(), b"0.9.1")
    path = hostile(tmp_path, f"import pickle\nmade = pickle.loads({old!r})")
    with pytest.raises(Unsupported, match="Trying to unpickle estimator"):
        holdfast.convert(path, "m", sandbox=True, store=tmp_path / "s")


@pytest.mark.slow
def test_an_answer_that_differs_outside_is_refused(held, tmp_path):
    """Inside, the object is of a class that lies there and is honest here."""
    from sklearn.linear_model import LogisticRegression

    points = np.random.default_rng(0).normal(size=(60, 3))
    inner = pickle.dumps(LogisticRegression().fit(points, points[:, 0] > 0))
    code = f"""
import pickle
from sklearn.linear_model import LogisticRegression
made = pickle.loads({inner!r})
honest = LogisticRegression.predict_proba
LogisticRegression.predict_proba = lambda self, rows: honest(self, rows)[:, ::-1]
"""
    path = hostile(tmp_path, code)
    with pytest.raises(HoldfastError) as caught:
        holdfast.convert(path, "m", sandbox=True, inputs=points, store=tmp_path / "s")
    assert caught.value.code == "behaviour_mismatch"
    assert not (tmp_path / "s").exists()
