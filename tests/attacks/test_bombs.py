"""Small files that claim to be large, or become so: told, within time, memory and disk."""

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
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data


def look(data, **allowed):
    scan = scanner(frozenset())
    for name, value in allowed.items():
        setattr(scan.allowance, name, value)
    report = scan.look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def words(report, severity):
    return " ; ".join(f.what for _, f in report.all_findings() if f.severity is severity)


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


ZEROS = bytes(8 << 20)


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_a_stream_is_decompressed_up_to_the_limit_and_no_further(pack):
    report = look(pack(ZEROS), inflated=1 << 20)
    assert "limit" in words(report, Severity.BROKEN)


def test_a_pickle_that_is_cut_by_the_limit_is_not_called_data():
    report = look(zlib.compress(pickle.dumps(ZEROS)), inflated=1 << 20)
    assert report.takes is None
    assert report.worst is Severity.BROKEN


def test_archives_in_archives_share_one_limit():
    inner = zipped([(f"{n}.npy", ZEROS) for n in range(10)])
    layers = zipped([(f"{n}.zip", inner) for n in range(10)])
    report = look(layers, inflated=4 << 20)
    assert report.takes is None


def test_archives_are_followed_to_a_depth():
    data = pickle.dumps(1)
    for _ in range(20):
        data = zipped([("x", data)])
    assert "archives inside" in words(look(data), Severity.BROKEN)
    data = pickle.dumps(1)
    for _ in range(20):
        data = gzip.compress(data)
    assert "archives inside" in words(look(data), Severity.BROKEN)


def test_members_beyond_the_limit_are_told_and_not_looked_into():
    report = look(zipped([(f"{n}", b"x") for n in range(100)]), members=10)
    assert len(report.members) == 10
    assert "more members" in words(report, Severity.BROKEN)


def test_members_that_share_their_bytes_are_told():
    data = bytearray(zipped([("a", b"hello" * 100), ("b", b"hello" * 100)]))
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    assert look(bytes(data)).worst is Severity.BROKEN


@pytest.mark.parametrize("claim", [1 << 31, 0xFFFFFFFE])
def test_a_member_that_claims_more_than_it_can_be_is_told(claim):
    data = bytearray(zipped([("a.npy", b"x" * 100)]))
    for place in (data.find(b"PK\x03\x04") + 22, data.find(b"PK\x01\x02") + 24):
        struct.pack_into("<I", data, place, claim)
    assert "cannot hold" in words(look(bytes(data)), Severity.BROKEN)


def test_a_member_that_becomes_more_than_it_claims_is_told():
    data = bytearray(zipped([("a.pkl", pickle.dumps(bytes(100_000)))]))
    for place in (data.find(b"PK\x03\x04") + 22, data.find(b"PK\x01\x02") + 24):
        struct.pack_into("<I", data, place, 50)
    assert look(bytes(data)).worst is Severity.BROKEN


@pytest.mark.parametrize("shape", [(10**6, 10**6), (2**60,), (2**31, 2**31, 2)])
def test_datasets_of_impossible_shapes_are_told(shape):
    file = io.BytesIO()
    with h5py.File(file, "w") as h:
        h.create_dataset("bomb", shape, "f8", chunks=(1,) * len(shape))
    report = look(file.getvalue())
    assert "cannot hold" in words(report, Severity.BROKEN)
    assert report.takes is None
    assert report.tensors[0].shape == shape


@pytest.mark.parametrize("count", [2**31, 2**62])
def test_arrays_of_impossible_shapes_are_told(count):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},), }}".encode()
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    assert "cut short" in words(look(data), Severity.BROKEN)


def test_headers_that_only_an_attacker_writes_are_not_evaluated():
    for header in (
        b"(" * 9_000,
        b"{'descr': '<f8', 'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f8', '\\x64escr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '|V' 'O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (9**9**9,), }",
    ):
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickle.dumps(1)
        report = look(data)
        assert report.takes is None
        assert report.worst is Severity.BROKEN


@pytest.mark.parametrize(
    "dtype",
    [
        "'object'",
        "'f4,O'",
        "[('a', 'O')]",
        "[('a', '<f4'), ('b', '|' 'O')]",
        "[('a', [('b', 'object')])]",
        "[(('t', 'n'), 'O8', (2,))]",
    ],
)
def test_arrays_that_may_be_of_objects_are_taken_for_pickles(dtype):
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': (1,), }}".encode()
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    report = look(data + b"cposix\nsystem\n(S'id'\ntR.")
    assert report.unsafe
    assert report.imports == ("posix.system",)


def test_json_that_is_too_deep_or_too_long_is_told():
    deep = b"[" * 200_000 + b"]" * 200_000
    for name in ("schema.json", "config.json"):
        members = [(name, deep), ("metadata.json", b"{}")]
        report = look(zipped(members))
        assert report.takes is None
        assert report.worst is Severity.BROKEN
    nested = json.dumps({"class_name": "A"})
    for _ in range(500):
        nested = '{"a":' + nested + "}"
    members = [("config.json", nested), ("metadata.json", b"{}")]
    assert look(zipped(members)).kind == "keras"


def test_a_header_with_very_many_tensors_is_told():
    entry = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    header = b"{" + b"".join(entry % n for n in range(210_000))[:-1] + b"}"
    report = look(struct.pack("<Q", len(header)) + header)
    assert report.worst is Severity.BROKEN


@pytest.mark.parametrize(
    "data",
    [
        b"N" * 3_000_000,
        b"\x80\x04" + b"]" * 3_000_000,
        b"\x80\x04]" + b"N\x94" * 1_500_000,
        b"\x80\x04K\x01" + b"\x85" * 3_000_000 + b".",
        b"\x80\x04\x8a\xff" + b"\xff" * 255 + b"." * 10,
        b"\x80\x04]\x94" + b"(h\x00h\x00e" * 100_000 + b".",
    ],
)
def test_pickles_of_millions_of_opcodes_end_within_the_allowance(data):
    report = look(data, opcodes=200_000)
    assert report.kind == "pickle"


def test_a_scan_shares_its_opcodes_among_its_pickles():
    data = zipped([(f"{n}.pkl", b"\x80\x04]" + b"N0" * 50_000 + b".") for n in range(10)])
    report = look(data, opcodes=200_000)
    assert "opcodes" in words(report, Severity.UNSAFE)


def test_a_page_stays_short_whatever_is_found():
    evil = b"\x80\x04" + b"".join(b"cos\nf%d\n(tR0" % n for n in range(20_000)) + b"N."
    report = look(evil)
    assert len(report.findings) < 300
    assert len(report.imports) <= 5_000
    assert len(str(report)) < 20_000
    many = io.BytesIO()
    np.savez(many, **{f"a{n}": np.zeros(1) for n in range(300)})
    report = look(many.getvalue(), tensors=100)
    assert (len(report.tensors), report.tensor_count) == (100, 300)


SCAN = """
import resource, sys
from pathlib import Path
from holdfast.trust.scan import scan_path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = scan_path(Path(sys.argv[1]), frozenset())
assert report.members[0].size == 200 << 20, report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_bounded_where_a_file_becomes_a_thousand_times_its_size(tmp_path):
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as file:
        for _ in range(20):
            file.write(bytes(10 << 20))
    words = [sys.executable, "-c", SCAN, str(tmp_path / "bomb.gz")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000
