"""HDF5 files that reach out of themselves or lie about what they hold."""

from __future__ import annotations

import io
import struct

import h5py
import numpy as np
import pytest

from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def words(report, severity=Severity.UNSAFE):
    return " ; ".join(f.what for _, f in report.all_findings() if f.severity is severity)


def written(fill, **how):
    file = io.BytesIO()
    with h5py.File(file, "w", **how) as h:
        fill(h)
    return file.getvalue()


def virtual(h):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "d", (3,))
    h.create_virtual_dataset("d", layout)


REACHING = {
    "external link": lambda h: h.__setitem__("x", h5py.ExternalLink("/etc/other.h5", "/d")),
    "external storage": lambda h: h.create_dataset(
        "d", (4,), "f4", external=[("/etc/passwd", 0, 16)]
    ),
    "virtual dataset": virtual,
}


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("name", REACHING)
def test_what_reaches_into_other_files_is_unsafe(version, name):
    def fill(h):
        REACHING[name](h.create_group("model_weights/layer"))

    report = look(written(fill, libver=version))
    assert report.unsafe
    assert report.takes is None


def test_a_soft_link_keeps_a_file_from_being_taken_over_as_data():
    report = look(written(lambda h: h.__setitem__("x", h5py.SoftLink("/y"))))
    assert not report.unsafe
    assert report.takes is None


def test_an_object_with_two_paths_is_told():
    def twice(h):
        h["a/d"] = np.ones(2)
        h["a/up"] = h["/"]

    report = look(written(twice))
    assert "another path already" in words(report, Severity.NOTE)


def test_a_dataset_that_lies_beyond_the_end_or_has_another_size_is_told():
    data = bytearray(written(lambda h: h.create_dataset("d", data=np.arange(5.0))))
    place = data.find(np.arange(5.0).tobytes())
    at = data.find(b"\x03\x01" + struct.pack("<Q", place))  # the layout: version 3, contiguous
    for change in ((at + 2, len(data) - 8), (at + 10, 8)):
        forged = bytearray(data)
        struct.pack_into("<Q", forged, *change)
        report = look(bytes(forged))
        assert report.worst is Severity.BROKEN
        assert report.takes is None


def test_a_pickle_before_an_hdf5_file_is_told(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as h:
        h["d"] = np.ones(2)
    data = bytearray((tmp_path / "x.h5").read_bytes())
    evil = b"cposix\nsystem\n(S'id'\ntR."
    data[: len(evil)] = evil
    report = look(bytes(data))
    assert report.kind == "pickle"
    assert report.unsafe
    assert [member.kind for member in report.members if "hdf5" in member.path] == ["hdf5"]
