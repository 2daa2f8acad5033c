"""Kill, EIO and ENOSPC at system calls of a save: old versions stay, no half version shows.

A child that imports only numpy saves arrays under strace, which makes one system call that
touches the store fail, or kills the child there. One call of each kind is chosen by default;
``-m slow`` takes all of them, and all faults.
"""

import collections
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import holdfast
from holdfast.errors import NoSpace

CHILD = """
import os, sys, numpy, holdfast
from holdfast.errors import HoldfastError
rng = numpy.random.default_rng(int(sys.argv[2]))
arrays = {"big": rng.normal(size=(400, 400)), "small": rng.normal(size=5)}
try:
    ref = holdfast.save(arrays, "net", store=sys.argv[1]).ref
    os.writev(1, [ref.encode()])  # not write(2), which is among the calls that fail
except HoldfastError as error:
    os.writev(2, [str(error).encode()])
    sys.exit(error.exit_code)
"""
SYSCALLS = "openat,write,fsync,fdatasync,link,linkat,rename,renameat,unlink,mkdir,utimensat,close"
SAMPLE = 20
FAULTS = ("error=EIO", "error=ENOSPC", "signal=KILL")


def needs_strace():
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("strace may not trace here")


def save_in_child(store, seed, *strace):
    command = [*strace, sys.executable, "-c", CHILD, str(store), str(seed)]
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.fixture(name="store")
def store_with_one_version(tmp_path):
    store = holdfast.Store.create(tmp_path / "store")
    holdfast.save({"old": np.arange(200_000.0)}, "net", store=store)
    return store.path


def points_of(store, tmp_path):
    """Return (syscall, nth call of its thread) for every call that touches the store."""
    trace = tmp_path / "trace"
    done = save_in_child(
        store, 1, "strace", "-f", "-y", "--seccomp-bpf", "-e", f"trace={SYSCALLS}", "-o", trace
    )
    assert done.returncode == 0, done.stderr
    counts = collections.Counter()
    points = []
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r"(\d+) +(\w+)\((.*)", line)
        if call is None:
            continue
        pid, name, arguments = call.groups()
        counts[pid, name] += 1
        if str(store) in arguments:
            points.append((name, counts[pid, name]))
    return list(dict.fromkeys(points))


def check_intact(store, done):
    """Every visible version verifies, v1 is there, and saving goes on."""
    opened = holdfast.Store(store)
    seen = holdfast.versions("net", store=opened)
    assert seen[0].number == 1
    for version in seen:
        holdfast.verify(version.ref, store=opened)
    if "net@v" in done.stdout:
        assert f"net@v{seen[-1].number}" == done.stdout.strip()
    again = holdfast.save({"new": np.arange(3)}, "net", store=opened)
    assert again.number == seen[-1].number + 1
    holdfast.verify(again.ref, store=opened)


def sweep(store, tmp_path, choose, faults=lambda _: FAULTS):
    points = points_of(store, tmp_path)
    assert len(points) > SAMPLE, "the child's calls on the store were not seen"
    outcomes = collections.Counter()
    for number, (name, nth) in enumerate(choose(points)):
        for fault in faults(name):
            if name == "close" and fault != "signal=KILL":
                continue  # a failed close has nothing left to report to
            inject = f"{name}:{fault}:when={nth}"
            # --seccomp-bpf is ten times faster, but loses injected signals (strace 6.1).
            fast = [] if fault.startswith("signal") else ["--seccomp-bpf"]
            done = save_in_child(
                store, 1000 + number, "strace", "-f", *fast, "-o", os.devnull,
                "-e", f"trace={name}", "-e", f"inject={inject}",
            )  # fmt: skip
            assert "Traceback" not in done.stderr, f"{inject}: {done.stderr}"
            if done.returncode > 0:
                assert "Try: " in done.stderr, f"{inject}: {done.stderr}"
            outcomes["killed" if done.returncode in (-9, 137) else done.returncode] += 1
            check_intact(store, done)
    return outcomes


def test_sampled_faults_leave_every_version_intact(store, tmp_path):
    needs_strace()

    def spread(points):
        """Choose one call of each kind, from the middle of those that the save makes."""
        kinds = {}
        for point in points:
            kinds.setdefault(point[0], []).append(point)
        return [calls[len(calls) // 2] for calls in kinds.values()]

    def few(name):
        """Kill at each, and fail where a full or a broken disk shows first."""
        return {"write": ("error=ENOSPC", "signal=KILL"), "fsync": ("error=EIO",)}.get(
            name, ("signal=KILL",)
        )

    outcomes = sweep(store, tmp_path, spread, few)
    assert outcomes["killed"] > 3, outcomes
    assert outcomes[11] > 0, f"ENOSPC was never reported: {outcomes}"


@pytest.mark.slow
def test_every_fault_leaves_every_version_intact(store, tmp_path):
    needs_strace()
    outcomes = sweep(store, tmp_path, lambda points: points)
    assert outcomes["killed"] > SAMPLE, outcomes


CHECK = """
import os, sys, holdfast
found = holdfast.verify("net", store=sys.argv[1])
os.writev(1, [b"recorded" if not found.unrecorded else b"not recorded"])
"""


def check_in_child(store, *strace):
    command = [*strace, sys.executable, "-c", CHECK, str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_faults_while_a_check_is_recorded_cost_no_more_than_that_check(store, tmp_path):
    needs_strace()
    calls = "write,fsync,rename,mkdir"  # not openat, of which there are more or fewer by the cache
    trace = tmp_path / "trace"
    check_in_child(store)  # which fills the caches
    shutil.rmtree(store / "checks")
    done = check_in_child(store, "strace", "-f", "-y", "-e", f"trace={calls}", "-o", trace)
    assert done.stdout == "recorded"
    lines = [line.split(" ", 1) for line in trace.read_text(errors="replace").splitlines()]
    counts, points = collections.Counter(), []
    for pid, call in lines:
        name = call.strip().partition("(")[0]
        counts[pid, name] += 1
        if f"{store}/checks" in call or f"{store}/tmp/" in call:
            points.append((name, counts[pid, name]))
    assert {name for name, _ in points} == {"write", "fsync", "rename", "mkdir"}
    outcomes = collections.Counter()
    for name, nth in points:
        for fault in ("error=EIO", "error=ENOSPC", "signal=KILL"):
            shutil.rmtree(store / "checks")
            inject = f"inject={name}:{fault}:when={nth}"
            done = check_in_child(
                store, "strace", "-f", "-o", os.devnull, "-e", f"trace={name}", "-e", inject
            )
            assert "Traceback" not in done.stderr, f"{inject}: {done.stderr}"
            outcomes[done.stdout] += 1
            check_intact(store, done)
            kept = holdfast.Store(store).checks.of(holdfast.get("net@v1", store=store).record_id)
            assert kept.ignored == 0
            holdfast.verify("net@v1", store=store)
    assert outcomes["not recorded"] > 2, outcomes


def test_file_size_limit_is_no_space(store):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(store), "7"],
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 11, done.stderr
    assert "No space left" in done.stderr
    check_intact(store, done)


def test_full_file_system_is_no_space(tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        store = holdfast.Store.create(place / "store")
        holdfast.save({"a": np.arange(1000.0)}, "net", store=store)
        with pytest.raises(NoSpace, match="all earlier versions are intact"):
            holdfast.save({"b": np.random.default_rng(0).normal(size=400_000)}, "net", store=store)
        assert [v.number for v in holdfast.versions("net", store=store)] == [1]
        holdfast.verify("net", store=store)
        assert not list((place / "store" / "tmp").iterdir())
    finally:
        subprocess.run(["umount", place], check=False)


def test_full_and_read_only_file_systems_are_verified_and_nothing_is_recorded(tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        store = holdfast.Store.create(place / "store")
        version = holdfast.save({"a": np.arange(1000.0)}, "net", store=store)
        with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert "No space left" in store.verify().unrecorded
        assert "No space left" in holdfast.verify("net", store=store).unrecorded
        (place / "filler").unlink()
        assert store.verify().unrecorded == ""
        remount = ["mount", "-o", "remount,ro", place]
        subprocess.run(remount, check=True, capture_output=True)
        run = store.verify()
        assert [each.proof for each in run.verified] == ["state only"]
        assert "Read-only file system" in run.unrecorded
        assert "Read-only file system" in holdfast.verify("net", store=store).unrecorded
        assert len(store.checks.of(version.record_id).checks) == 1
        assert store.ageing().concerns == ()
    finally:
        subprocess.run(["umount", place], check=False)


def test_short_writes_are_continued(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data[:4099])))
    store = holdfast.Store.create(tmp_path / "store")
    arrays = {"a": np.random.default_rng(0).normal(size=30_000)}
    holdfast.save(arrays, "net", store=store)
    assert np.array_equal(holdfast.load("net", store=store)["a"], arrays["a"])


def test_readers_beside_writers_see_only_old_or_new(tmp_path):
    store = holdfast.Store.create(tmp_path / "store")
    holdfast.save({"n": np.full(1000, 0)}, "net", store=store)
    stop = threading.Event()
    problems = []

    def read():
        while not stop.is_set():
            try:
                value = holdfast.load("net", store=holdfast.Store(store.path))["n"]
                assert (value == value[0]).all()
            except Exception as error:  # noqa: BLE001 - collected and asserted below
                problems.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    code = (
        "import sys, numpy, holdfast\n"
        "for i in range(4):\n"
        "    n = int(sys.argv[2]) * 100 + i\n"
        "    holdfast.save({'n': numpy.full(1000, n)}, 'net', store=sys.argv[1])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(store.path), str(k)]) for k in range(1, 4)
    ]
    ended = [writer.wait() for writer in writers]
    stop.set()
    for reader in readers:
        reader.join()
    assert (ended, problems) == ([0] * 3, [])
    seen = holdfast.versions("net", store=store)
    assert [version.number for version in seen] == list(range(1, 14))
    values = {int(holdfast.load(v.ref, store=store)["n"][0]) for v in seen}
    assert len(values) == 13
