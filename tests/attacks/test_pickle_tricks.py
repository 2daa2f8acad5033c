"""Pickles made so that a scanner overlooks what they call; each of them is proven to work."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys

import pytest

from holdfast.api.scanning import known_names
from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data

KNOWN = known_names()
STOP, REDUCE, POP = pickle.STOP, pickle.REDUCE, pickle.POP
# Makes the folder "ran" where it is unpickled.
CODE = "__import__('os').mkdir('ran')"
OLD = b"cos\nmkdir\n(S'ran'\ntR"


def look(data):
    report = scanner(KNOWN).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def text(value):
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def named(module, name):
    """Import by STACK_GLOBAL, whose names are ordinary texts."""
    return text(module) + text(name) + pickle.STACK_GLOBAL


def call(module, name, *arguments):
    """Call a name with arguments that are opcodes themselves."""
    return named(module, name) + pickle.MARK + b"".join(arguments) + pickle.TUPLE + REDUCE


MKDIR = named("os", "mkdir")
RUN = call("os", "mkdir", text("ran"))
FOUR = b"\x80\x04"
LIST = pickle.EMPTY_LIST

TRICKS = {
    "protocol 0": OLD + STOP,
    "the mark of protocol 0": b"\x80\x00" + OLD + STOP,
    "the mark of protocol 1": b"\x80\x01" + OLD + STOP,
    "two marks": b"\x80\x04\x80\x00" + OLD + STOP,
    "names of Python 2": b"\x80\x02cposix\nmkdir\nU\x03ran\x85R.",
    "INST": b"(S'ran'\nios\nmkdir\n.",
    "OBJ": b"(" + b"cos\nmkdir\n" + b"S'ran'\no.",
    "names on the stack": FOUR + RUN + STOP,
    "names from the memo": FOUR + text("os") + b"q\x07" + text("mkdir") + b"q\x09" + POP + POP
    + b"h\x07h\x09" + pickle.STACK_GLOBAL + text("ran") + b"\x85R.",
    "a memo that is written twice": FOUR + text("collections") + b"q\x00" + POP + text("os")
    + b"q\x00" + POP + b"h\x00" + text("mkdir") + pickle.STACK_GLOBAL + text("ran") + b"\x85R.",
    "a memo by DUP": FOUR + text("os") + b"2" + POP + text("mkdir") + pickle.STACK_GLOBAL
    + text("ran") + b"\x85R.",
    "a name with dots": FOUR + call("shutil", "os.mkdir", text("ran")) + STOP,
    "a name through a module of data": FOUR + call("collections", "_sys.modules.__class__")
    + POP + RUN + STOP,
    "a result that is thrown away": FOUR + RUN + POP + pickle.NONE + STOP,
    "results thrown away to a mark": FOUR + pickle.MARK + RUN + pickle.POP_MARK + LIST + STOP,
    "a call before the stream breaks": FOUR + RUN + b"\xff\xff",
    "a call before the bytes end": FOUR + RUN + pickle.BINUNICODE + b"\xff\0\0\0abc",
    "a call behind much text": FOUR + text("x" * 200_000) + POP + RUN + STOP,
    "a call behind many opcodes": FOUR + b"N0" * 50_000 + RUN + STOP,
    "a call in a frame": FOUR + b"\x95" + struct.pack("<Q", len(RUN) + 1) + RUN + STOP,
    "a number as an octal index": b"cos\nmkdir\np010\n0g10\n(S'ran'\ntR.",
    "getattr of an import": FOUR + call(
        "builtins", "getattr", call("builtins", "__import__", text("os")), text("mkdir")
    ) + text("ran") + b"\x85R.",
    "resolve_name": FOUR + call("pkgutil", "resolve_name", text("os:mkdir")) + text("ran")
    + b"\x85R.",
    "methodcaller": FOUR + call("operator", "methodcaller", text("mkdir"), text("ran"))
    + call("builtins", "__import__", text("os")) + b"\x85R.",
    "partial": FOUR + call("functools", "partial", MKDIR, text("ran")) + b")R.",
    "a class of data that calls": FOUR + call(
        "collections", "deque", call("builtins", "map", MKDIR, LIST + text("ran") + b"a")
    ) + STOP,
    "a default of a dictionary": FOUR + call(
        "operator", "getitem", call("collections", "defaultdict", named("builtins", "list")),
        text("x"),
    ) + POP + RUN + STOP,
    "a pickle in a pickle": FOUR + call(
        "_pickle", "loads", b"B" + struct.pack("<I", len(OLD) + 1) + OLD + STOP
    ) + STOP,
    "a pickle in base64 in a pickle": FOUR + call(
        "pickle", "loads", call("base64", "b64decode", text("Y29zCm1rZGlyCihTJ3JhbicKdFIu"))
    ) + STOP,
    "exec": FOUR + call("builtins", "exec", text("import os; os.mkdir('ran')")) + STOP,
    "a debugger": FOUR + call("bdb", "Bdb.run", call("bdb", "Bdb"), text(CODE)) + STOP,
    "a module for measuring": FOUR
    + call("timeit", "timeit", text(CODE), text(""), named("time", "perf_counter"), b"K\x01")
    + STOP,
    "a command": FOUR + call("subprocess", "call", LIST + text("mkdir") + b"a" + text("ran") + b"a")
    + STOP,
    "state of an import": FOUR + named("os", "mkdir") + POP + RUN + STOP,
}  # fmt: skip

UNPICKLE = """
import io, json, os, pickle, sys, tempfile
ran = {}
for name, data in json.load(sys.stdin).items():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            pickle.load(io.BytesIO(bytes.fromhex(data)))
        except Exception as error:
            ran[name] = repr(error)
        if os.path.isdir("ran"):
            ran[name] = True
        os.chdir("/")
print(json.dumps(ran))
"""


def test_the_tricks_are_no_bogeys():
    """Each makes its folder where Python unpickles it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", UNPICKLE],
        input=json.dumps({name: data.hex() for name, data in TRICKS.items()}),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == dict.fromkeys(TRICKS, True)


@pytest.mark.parametrize("name", TRICKS)
def test_each_trick_is_told_with_its_byte(name):
    report = look(TRICKS[name])
    assert report.kind == "pickle"
    unsafe = [f for f in report.findings if f.severity is Severity.UNSAFE]
    assert unsafe
    assert all(0 <= f.position < len(TRICKS[name]) for f in unsafe)
    assert report.takes != "data"


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("before", [b"\x80\x04N.", pickle.dumps([1, "x"]) * 63])
def test_each_trick_is_told_behind_other_pickles(name, before):
    assert look(before + TRICKS[name]).unsafe


def test_what_follows_very_many_pickles_is_said_to_be_unread():
    report = look(pickle.dumps(1) * 70 + TRICKS["protocol 0"])
    assert report.worst is Severity.UNREAD
    assert report.takes is None


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x02", b"\x84\x01\0\0\0"])
def test_names_by_number_are_imports_that_nobody_knows(code):
    report = look(code + STOP)
    assert report.kind == "pickle"
    assert report.unsafe


@pytest.mark.parametrize("name", sorted(TRICKS)[::3])
def test_no_byte_before_a_call_makes_it_quiet(name):
    """Whatever one byte is changed to, a pickle that would still run is still told."""
    data = TRICKS[name]
    changed = {}
    for place in range(0, min(len(data), 60), 7):
        for value in (0, 0x2E, 0x30, 0x80, 0xFF):
            forged = data[:place] + bytes([value]) + data[place + 1 :]
            changed[f"{place} {value}"] = forged
    done = subprocess.run(
        [sys.executable, "-I", "-c", UNPICKLE],
        input=json.dumps({key: forged.hex() for key, forged in changed.items()}),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ran = [key for key, what in json.loads(done.stdout).items() if what is True]
    for key in ran:
        assert look(changed[key]).unsafe, key
