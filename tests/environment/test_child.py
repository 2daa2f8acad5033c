"""A process that is asked over pipes: whatever it does, it is told in words and then gone."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from holdfast.environment import sandbox
from holdfast.environment.child import Child, Start
from holdfast.errors import Corrupt, EnvironmentMismatch

ECHO = """
from holdfast.environment import messages
def serve(asked, told):
    while True:
        try:
            header, runs = messages.read(asked)
        except EOFError:
            return
        for part in messages.packed(header, runs):
            while part.nbytes:
                part = part[told.write(part):]
"""


# What answers nonsense does so in either; it is tried in bubblewrap by the slow tests.
CONFINED_TOO = pytest.mark.parametrize(
    "start", ["limits", pytest.param("bubblewrap", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(name="start", params=["bubblewrap", "limits"])
def make_start(request, tmp_path):
    """Return what starts a module with this code, and counts the processes that are left."""
    confine = request.param == "bubblewrap"
    if confine and sandbox.missing() is not None:
        pytest.skip(f"bubblewrap: {sandbox.missing()}")
    running = []

    def start(code, **given):
        folder = tmp_path / f"code{len(running)}"
        folder.mkdir()
        (folder / "answering.py").write_text(textwrap.dedent(code), "utf-8")
        child = Child(
            Start(
                python=Path(sys.executable),
                beside=folder,
                module="answering",
                confine=confine,
                **given,
            )
        )
        running.append((child, folder))
        assert child.confined == confine
        return child

    yield start
    for child, folder in running:
        child.close()
        assert gone(child.pid)
        assert mentioning(folder) == []


def gone(pid):
    """Say whether there is no such process, and no zombie of it either."""
    return not Path(f"/proc/{pid}").exists()


def mentioning(text):
    """Return the processes whose command line holds a text."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue
        if os.fsencode(str(text)) in words:
            found.append(int(place.parent.name))
    return found


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def ask(child, header=None, *runs, seconds=120):
    return child.ask(header or {"q": 1}, [memoryview(run) for run in runs], seconds=seconds)


def test_what_is_asked_comes_back(start):
    child = start(ECHO)
    big = os.urandom(5 << 20)
    for runs in ((), (b"",), (b"abc", b"", big), (b"",) * 1000):
        header, found = ask(child, {"text": "ü", "n": [1, 2.5]}, *runs)
        assert header == {"text": "ü", "n": [1, 2.5]}
        assert [bytes(run) for run in found] == list(runs)


def test_what_it_prints_breaks_nothing(start):
    child = start(
        ECHO.replace(
            "    while True:",
            "    import os, sys\n"
            "    while True:\n"
            "        print('x' * 300_000, flush=True)\n"
            "        os.write(1, b'y' * 300_000)\n"
            "        sys.stderr.write('z' * 300_000)",
            1,
        )
    )
    for _ in range(3):
        assert ask(child, {"q": 1}, b"abc")[0] == {"q": 1}


def test_threads_take_turns(start):
    child = start(ECHO)
    found = {}

    def work(number):
        found[number] = [ask(child, {"n": number}, b"%d" % number) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        assert {(header["n"], bytes(run)) for header, (run,) in answers} == {
            (number, b"%d" % number)
        }


def test_it_outlives_the_thread_that_started_it(start):
    made = []
    thread = threading.Thread(target=lambda: made.append(start(ECHO)))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert ask(made[0])[0] == {"q": 1}


ANSWERS = {
    "dies": ("import os; os._exit(3)", "died with status 3"),
    "raises": ("raise RuntimeError('on purpose')", "on purpose"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "died"),
    # bubblewrap has the pipe open as well, so it is only seen to be silent
    "closes": ("told.close(); import time; time.sleep(60)", "died|did not answer"),
    "half": ("told.write(b'\\x10\\0\\0\\0{\"id'); import os; os._exit(0)", "died"),
    "long header": ("told.write(b'\\xff\\xff\\xff\\xff')", "claims a header"),
    "short header": ("told.write(b'\\0\\0\\0\\0')", "claims a header"),
    "prints": ("told.write(b'Hello, world!\\n' * 10)", "nonsense"),
    "no json": ("say(b'{\"id\": 1, ')", "not JSON"),
    "no object": ("say(b'[]')", "sizes"),
    "no sizes": ("say(b'{\"id\":1}')", "sizes"),
    "negative": ('say(b\'{"id":1,"sizes":[-1]}\')', "impossible"),
    "float": ('say(b\'{"id":1,"sizes":[1.5]}\')', "impossible"),
    "truth": ('say(b\'{"id":1,"sizes":[true]}\')', "impossible"),
    "huge": ('say(b\'{"id":1,"sizes":[%d]}\' % 2**62)', "impossible"),
    "many": ("say(b'{\"id\":1,\"sizes\":[' + b'0,' * 300_000 + b'0]}')", "sizes"),
    "sum": ("say(b'{\"id\":1,\"sizes\":[' + b'1000000000,' * 5 + b'0]}')", "too large"),
    "deep": ("say(b'[' * 1_000_000)", "not JSON"),
    "no id": ("say(b'{\"sizes\":[]}')", "something else"),
    "other id": ('say(b\'{"id":7,"sizes":[]}\')', "something else"),
}


@CONFINED_TOO
@pytest.mark.parametrize("case", ANSWERS)
def test_nonsense_ends_it(start, case):
    code, told = ANSWERS[case]
    child = start(f"""
        import struct, time
        from holdfast.environment import messages
        def serve(asked, told):
            def say(text):
                data = struct.pack("<I", len(text)) + text
                while data:
                    data = data[told.write(data):]
            messages.read(asked)
            {code}
            time.sleep(60)
    """)
    with pytest.raises(EnvironmentMismatch, match=told):
        ask(child, seconds=3 if case == "closes" else 120)
    assert not child.alive
    assert gone(child.pid)
    with pytest.raises(EnvironmentMismatch, match="has ended"):
        ask(child)


def test_an_answer_that_was_not_asked_for(start):
    child = start("""
        def serve(asked, told):
            told.write(b'\\x13\\0\\0\\0{"id":1,"sizes":[]}')
            import time; time.sleep(60)
    """)
    time.sleep(0.5)
    with pytest.raises(EnvironmentMismatch, match="nonsense"):
        ask(child, {"q": 1}, bytes(4 << 20))


@CONFINED_TOO
@pytest.mark.parametrize(
    "code",
    [
        "while True: time.sleep(1)",
        "while True: pass",
        "import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 13, 15)]; time.sleep(99)",
        "while True: print('x' * 1000)",
        "while True: told.write(b'\\x02\\0\\0'[:1] * 0); time.sleep(0.01)",
    ],
)
def test_it_hangs(start, code):
    child = start(f"""
        import time
        def serve(asked, told):
            {code}
    """)
    began = time.monotonic()
    with pytest.raises(EnvironmentMismatch, match=r"did not answer within 1 s"):
        ask(child, seconds=1)
    assert time.monotonic() - began < 60
    assert gone(child.pid)


def test_what_it_said_last_is_told_without_control_characters(start):
    child = start("""
        import os, sys
        def serve(asked, told):
            sys.stderr.write("\\x1b[31mout of cheese\\x07")
            sys.stderr.flush()
            os._exit(1)
    """)
    with pytest.raises(EnvironmentMismatch, match="out of cheese") as raised:
        ask(child)
    assert raised.value.message.isprintable()


GREEDY = """
    from holdfast.environment import messages
    def serve(asked, told):
        header, _ = messages.read(asked)
        {act}
        header["held"] = len(held)
        for part in messages.packed(header, []):
            told.write(part)
"""


@pytest.mark.parametrize(
    "act",
    [
        "held = bytes(2 << 30)",
        "held = [bytes(1 << 20) for _ in range(2048)]",
        "import numpy as np; held = np.ones(1 << 28)",
    ],
)
def test_what_takes_too_much_memory_dies_and_says_so(start, act):
    child = start(GREEDY.format(act=act), memory=1 << 30)
    with pytest.raises(EnvironmentMismatch, match=r"out of the 1\.0 GiB of memory") as raised:
        ask(child)
    assert "died" in raised.value.message
    enough = start(GREEDY.format(act="held = bytes(200 << 20)"), memory=1 << 30)
    assert ask(enough)[0]["held"] == 200 << 20


def test_it_cannot_raise_its_own_limit(start):
    child = start(
        GREEDY.format(
            act="import resource\n"
            "        held = [resource.getrlimit(resource.RLIMIT_DATA)]\n"
            "        header['limit'] = held[0]"
        ),
        memory=1 << 30,
    )
    assert ask(child)[0]["limit"] == [1 << 30, 1 << 30]


def test_what_is_too_large_is_refused_before_it_is_sent(start):
    child = start(ECHO)
    with pytest.raises(Corrupt, match="too large"):
        ask(child, {"q": "x" * (65 << 20)})
    assert ask(child)[0] == {"q": 1}


def test_losing_it_ends_it(start):
    child = start(ECHO)
    ask(child)
    pid = child.pid
    unnamed = Child(child_start := Start(python=Path(sys.executable), beside=None, module="json"))
    other = unnamed.pid
    assert child_start.confine
    del unnamed
    gc.collect()
    assert gone(other)
    assert not gone(pid)


def test_a_fork_has_no_say(start):
    child = start(ECHO)
    ask(child)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ask(child)
        except EnvironmentMismatch:
            child.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert ask(child)[0] == {"q": 1}


@pytest.mark.parametrize("confine", [True, False])
def test_it_ends_with_a_host_that_is_killed(tmp_path, confine):
    (tmp_path / "answering.py").write_text(
        "from holdfast.api.worker_inside import _end_with\n"
        "def serve(asked, told):\n"
        "    import threading\n"
        "    threading.Thread(target=_end_with, args=(asked.fileno(),), daemon=True).start()\n"
        '    told.write(b\'\\x13\\0\\0\\0{"id":1,"sizes":[]}\')\n'
        "    while True: pass\n",
        "utf-8",
    )
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from holdfast.environment.child import Child, Start\n"
        f"child = Child(Start(python=Path(sys.executable), beside=Path({str(tmp_path)!r}),\n"
        f"              module='answering', confine={confine}))\n"
        "child.ask({}, [], seconds=60)\nprint('ready', flush=True)\ntime.sleep(600)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert host.stdout.readline() == "ready\n"
    workers = [pid for pid in mentioning(tmp_path) if pid != host.pid]
    assert workers
    host.send_signal(signal.SIGKILL)
    host.communicate()
    assert wait_until(lambda: not mentioning(tmp_path)), workers


@pytest.mark.skipif(sandbox.missing() is not None, reason="bubblewrap is not installed")
def test_confined_it_sees_and_changes_nothing_else(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x", "utf-8")
    (tmp_path / "code").mkdir()
    (tmp_path / "seen").mkdir()
    (tmp_path / "code" / "answering.py").write_text(
        textwrap.dedent(f"""
            import os, socket, subprocess
            from holdfast.environment import messages
            def tried(act):
                try:
                    act()
                except OSError as error:
                    return type(error).__name__
                return "done"
            def serve(asked, told):
                messages.read(asked)
                found = {{
                    "secret": tried(lambda: open({str(secret)!r})),
                    "home": tried(lambda: os.listdir(os.path.expanduser("~root"))),
                    "write": tried(lambda: open({str(tmp_path / "seen" / "new")!r}, "w")),
                    "code": tried(lambda: open(__file__, "a")),
                    "network": tried(lambda: socket.create_connection(("192.0.2.1", 80), 2)),
                    "process": tried(lambda: subprocess.run(["/bin/true"])),
                    "tmp": tried(lambda: open("/tmp/own", "w").close()),
                    "variables": sorted(os.environ),
                }}
                for part in messages.packed({{**found, "id": 1}}, []):
                    told.write(part)
        """),
        "utf-8",
    )
    start = Start(
        python=Path(sys.executable),
        beside=tmp_path / "code",
        module="answering",
        sees=(tmp_path / "seen",),
    )
    child = Child(start)
    found, _ = ask(child)
    child.close()
    assert found.pop("tmp") == "done"
    assert not {"HOLDFAST_STORE", "USER", "PYTHONPATH", "XDG_DATA_HOME"} & {*found.pop("variables")}
    assert "done" not in found.values(), found
    assert list((tmp_path / "seen").iterdir()) == []


def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(EnvironmentMismatch, match=r"cannot be started|died"):
        ask(
            Child(
                Start(python=tmp_path / "bin" / "python", beside=None, module="json", confine=False)
            )
        )
