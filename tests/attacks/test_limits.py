"""Hostile files are told within time, memory and disk: a process with hard limits scans them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile

import h5py
import pytest

SCAN = """
import json, resource, sys, time
from pathlib import Path
from holdfast.api.scanning import known_names
from holdfast.trust.scan import scan_path
known = known_names()
for kind, most in (
    (resource.RLIMIT_AS, 1536 << 20), (resource.RLIMIT_CPU, 240), (resource.RLIMIT_FSIZE, 640 << 20)
):
    resource.setrlimit(kind, (most, most))
told = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    began = time.process_time()
    report = scan_path(path, known)
    words = " ; ".join(finding.what for _, finding in report.all_findings())
    told[path.name] = [report.worst, round(time.process_time() - began, 1), words[:300]]
print(json.dumps(told))
"""


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def nested(levels, content):
    for _ in range(levels):
        content = zipped(*[(str(n), content) for n in range(10)])
    return content


def tarred(count):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for n in range(count):
            archive.addfile(tarfile.TarInfo(str(n)))
    return file.getvalue()


def circles():
    file = io.BytesIO()
    with h5py.File(file, "w") as h:
        for n in range(50):
            group = h.create_group(f"g{n}")
            for m in range(50):
                group[str(m)] = h.get(f"g{m}", h)
    return file.getvalue()


def laughs():
    """Lists of lists that share their parts: two to the power of 400 items."""
    data = b"\x80\x02]q\x00"
    for n in range(400):
        put = b"r" + struct.pack("<I", n + 1)
        get = b"j" + struct.pack("<I", n)
        data += b"](" + get * 2 + b"e" + put
    return data + b"."


def many_tensors():
    empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({str(n): empty for n in range(190_000)}).encode()
    return struct.pack("<Q", len(text)) + text


BLOCK = b"\x1fa\x01\x00" + b"\xff" * 16_000 + b"\x00"
LZ4 = b"\x04\x22\x4d\x18\x60\x70\x00" + (len(BLOCK).to_bytes(4, "little") + BLOCK) * 200

BOMBS = {
    "zeros.gz": lambda: gzip.compress(bytes(600 << 20), 1),
    "zeros.bz2": lambda: bz2.compress(bytes(64 << 20)) * 10,
    "zeros.xz": lambda: lzma.compress(bytes(64 << 20)) * 10,
    "zeros.lz4": lambda: LZ4,
    "dictionary.lzma": lambda: b"\x5d\0\0\0\x80" + b"\xff" * 8 + bytes(100),
    "archives.zip": lambda: nested(4, bytes(1 << 20)),
    "deep.json": lambda: b"[" * (3 << 20),
    "wide.json": lambda: b"[" + b"[]," * 1_900_000 + b"[]]",
    "objects.json": lambda: b"[" + b'{"class_name":1},' * 900_000 + b"1]",
    "opcodes.pkl": lambda: b"\x80\x02" + b")0" * 15_000_000 + b".",
    "calls.pkl": lambda: b"\x80\x02cos\nsystem\n0" + b"c_codecs\nencode\n)R0" * 600_000 + b".",
    "memo.pkl": lambda: b"\x80\x02" + b"Nr\xff\xff\xff\x7f0" * 1_000 + b"N.",
    "laughs.pkl": laughs,
    "many.safetensors": many_tensors,
    "members.tar": lambda: tarred(60_000),
    "members.zip": lambda: zipped(*((str(n), b"") for n in range(60_000))),
    "circles.h5": circles,
    "fields.pb": lambda: b"\x08\x01" + b"\x12\x00" * 6_000_000,
    "nodes.pb": lambda: b"\x0a\x06\x0a\x01x\x12\x01y" * 700_000,
    "counts.gguf": lambda: b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 1 << 40) + bytes(100),
    "shape.npy": lambda: (
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 999999999), }".ljust(
            118
        )
    ),
    "lines.pt": lambda: zipped(
        ("m/constants.pkl", b"\x80\x02)."), ("m/code/a.py", b"\n" * (3 << 20))
    ),
    "template.jinja": lambda: b"{{ " + b"a . " * (1 << 20) + b"' ~ " * 1_000,
    "text.pkl": lambda: pickle.dumps("x" * (64 << 20)),
}


# These take long enough to be left to the slow tests.
HEAVY = {"calls.pkl", "fields.pb", "nodes.pb", "opcodes.pkl"}
# What each must come to, where that is not of the reader's choice.
WORST = {
    "archives.zip": "broken", "calls.pkl": "unsafe", "counts.gguf": "broken", "deep.json": "unread",
    "dictionary.lzma": "broken", "fields.pb": "broken", "laughs.pkl": None, "memo.pkl": "broken",
    "members.zip": "broken", "opcodes.pkl": "unsafe", "shape.npy": "broken", "text.pkl": None,
    "wide.json": "unread", "zeros.bz2": "broken", "zeros.gz": "broken", "zeros.lz4": "broken",
    "zeros.xz": "broken",
}  # fmt: skip


def check(names, folder):
    for name in names:
        (folder / name).write_bytes(BOMBS[name]())
    done = subprocess.run(
        [sys.executable, "-c", SCAN, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert sorted(told) == sorted(names)
    for name, (worst, seconds, words) in told.items():
        assert "fault of Holdfast" not in words, name
        assert seconds < 120, name
        assert worst == WORST.get(name, worst), (name, words)


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_every_bomb_is_told_within_the_limits(part, tmp_path):
    check(sorted(BOMBS.keys() - HEAVY)[part::2], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HEAVY))
def test_every_heavy_bomb_is_told_within_the_limits(name, tmp_path):
    check([name], tmp_path)
