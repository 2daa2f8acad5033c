"""Archives made to be unpacked elsewhere, or to be read otherwise by a scanner than by its prey."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
import pytest

from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data


class Evil:
    def __reduce__(self):
        return os.system, ("touch canary",)


EVIL = pickle.dumps(Evil())


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def words(report, severity=None):
    return " ; ".join(
        finding.what
        for _, finding in report.all_findings()
        if severity is None or finding.severity is severity
    )


def zipped(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name that is there twice
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def tarred(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/cron.d/x", "a/../../x", "..\\x", "C:\\x", "\\\\host\\x", "a/..", "C:x"]
)
def test_names_that_climb_out_are_unsafe_in_zip_and_tar(name):
    for data in (zipped([(name, b"x")]), tarred((name, b"x", {}))):
        report = look(data)
        assert report.unsafe
        assert "unpacking it would write to" in words(report)


@pytest.mark.parametrize("name", ["a", "a/b", "..a", "a..b/c", "a/...", "x.npy"])
def test_ordinary_names_are_not_called_unsafe(name):
    for data in (zipped([(name, b"x")]), tarred((name, b"x", {}))):
        assert not look(data).unsafe


@pytest.mark.parametrize(
    ("target", "unsafe"),
    [("/etc", True), ("../..", True), ("a/../../b", True), ("..", True), ("b", False),
     ("./b/c", False)],
)  # fmt: skip
def test_links_that_lead_out_are_unsafe_and_others_are_told(target, unsafe):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, target)
    links = {"type": tarfile.SYMTYPE, "linkname": target}
    for data in (file.getvalue(), tarred(("link", b"", links))):
        report = look(data)
        assert report.unsafe == unsafe
        assert "symbolic link" in words(report)


def test_a_link_inside_a_folder_may_lead_up_as_far_as_the_archive():
    links = {"type": tarfile.SYMTYPE, "linkname": "../b"}
    assert not look(tarred(("a/link", b"", links))).unsafe
    assert look(tarred(("link", b"", links))).unsafe


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_pipes_and_unknown_members_are_unsafe(kind):
    assert look(tarred(("x", b"", {"type": kind}))).unsafe


def test_a_hard_link_to_another_place_is_unsafe():
    links = {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}
    assert look(tarred(("x", b"", links))).unsafe


def test_a_name_in_an_extended_header_is_the_name_that_counts():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("harmless")
        info.pax_headers = {"path": "../x"}
        archive.addfile(info)
    assert look(file.getvalue()).unsafe
    file = io.BytesIO()
    headers = {"path": "../y"}
    with tarfile.open(
        fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers
    ) as archive:
        archive.addfile(tarfile.TarInfo("harmless"))
    assert look(file.getvalue()).unsafe


def test_a_pickle_in_any_member_is_found_whatever_its_name():
    for data in (
        zipped([("weights.bin", EVIL)]),
        zipped([("a.npy", EVIL)], zipfile.ZIP_DEFLATED),
        zipped([("x", zipped([("y", tarred(("z", EVIL, {})))]))]),
        tarred(("notes.txt", EVIL, {})),
    ):
        report = look(data)
        assert report.unsafe
        assert "posix.system" in words(report)


def test_a_member_whose_checksum_is_wrong_is_looked_into_all_the_same():
    data = bytearray(zipped([("m/data.pkl", EVIL), ("m/version", b"3")]))
    for place in (data.find(b"PK\x03\x04") + 14, data.find(b"PK\x01\x02") + 16):
        struct.pack_into("<I", data, place, 12345)
    report = look(bytes(data))
    assert report.kind == "torch"
    assert report.unsafe
    assert "checksum" in words(report, Severity.BROKEN)


def test_a_member_that_lies_about_being_encrypted_is_looked_into():
    data = bytearray(zipped([("m/data.pkl", EVIL)]))
    for place in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[place] |= 1
    report = look(bytes(data))
    assert report.unsafe
    assert "says that it is encrypted, and is not" in words(report)


def test_names_that_are_there_twice_are_told_and_both_are_looked_into():
    data = zipped([("data.pkl", pickle.dumps(1)), ("data.pkl", EVIL)])
    report = look(data)
    assert report.unsafe
    assert "twice" in words(report, Severity.BROKEN)


def test_a_local_header_that_disagrees_with_the_directory_is_told():
    data = bytearray(zipped([("data.pkl", pickle.dumps(1)), ("b.pkl", b"x")]))
    place = data.find(b"data.pkl")
    data[place : place + 8] = b"evil.pkl"
    assert "calls itself 'evil.pkl'" in words(look(bytes(data)), Severity.BROKEN)


def test_a_member_that_the_directory_does_not_list_is_found():
    hidden = zipped([("hidden.pkl", EVIL)])
    hidden = hidden[: hidden.find(b"PK\x01\x02")]
    listed = bytearray(zipped([("seen.txt", b"hello")]))
    at = listed.find(b"PK\x01\x02")
    end = listed.find(b"PK\x05\x06")
    whole = listed[:at] + hidden + listed[at:]
    struct.pack_into("<I", whole, end + len(hidden) + 16, at + len(hidden))
    report = look(bytes(whole))
    assert report.unsafe
    assert "does not list" in words(report)


def test_an_archive_without_its_directory_still_shows_its_pickle():
    data = zipped([("m/data.pkl", EVIL), ("m/version", b"3")])
    report = look(data[: data.find(b"PK\x01\x02")])
    assert report.unsafe
    assert "no directory" in words(report, Severity.BROKEN)


def test_two_directories_are_told_and_both_are_looked_into():
    first = zipped([("evil.pkl", EVIL)])
    second = zipped([("good.txt", b"hello")])
    comment = bytearray(first + second)
    struct.pack_into("<H", comment, first.rfind(b"PK\x05\x06") + 20, len(second))
    report = look(bytes(comment))
    assert report.unsafe
    assert report.worst is Severity.UNSAFE


@pytest.mark.parametrize("front", [b"", b"x" * 600, b"#!/bin/sh\nexit\n"])
def test_a_pickle_in_front_of_a_zip_or_the_zip_behind_are_both_told(front):
    for inside in (zipped([("a.npy", b"")]), zipped([("evil.pkl", EVIL)])):
        report = look(EVIL + front + inside)
        assert report.kind == "pickle"
        assert report.unsafe
        assert any(member.kind in ("zip", "npz") for member in report.members)
        assert report.takes is None
    report = look(front + zipped([("evil.pkl", EVIL)]))
    assert report.kind == "zip"
    assert report.unsafe


def test_a_zip_that_also_is_an_array_is_told_as_both():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    report = look(file.getvalue() + zipped([("evil.pkl", EVIL)]))
    assert report.kind == "npy"
    assert report.unsafe
    assert "also a zip" in words(report, Severity.BROKEN)


def test_a_tar_whose_first_name_is_a_pickle_is_told_as_both():
    data = tarred(("cposix\nsystem\n(S'id'\ntR.", b"x", {}))
    report = look(data)
    assert report.kind == "tar"
    assert report.unsafe
    assert "posix.system" in words(report)


def test_a_gguf_file_that_begins_as_a_pickle_is_told_as_both():
    # G takes eight bytes as a number, and the rest is read as opcodes.
    code = b"cposix\nsystem\n(S'id'\ntR."
    report = look(b"GGUF" + struct.pack("<I", 3) + b"\0" + code + bytes(200))
    assert report.kind == "gguf"
    assert report.unsafe


def test_pickles_in_compressed_bytes_behind_a_good_stream_are_told():
    data = zlib.compress(pickle.dumps(1)) + EVIL
    report = look(data)
    assert "bytes follow" in words(report)


def test_a_stray_stretch_between_members_is_looked_into():
    first = zipped([("a.txt", b"hello"), ("b.txt", b"world")])
    at = first.rfind(b"PK\x03\x04")
    listing = first.find(b"PK\x01\x02")
    data = bytearray(first[:at] + EVIL + first[at:])
    second = data.find(b"PK\x01\x02", listing + len(EVIL) + 4)
    struct.pack_into("<I", data, second + 42, at + len(EVIL))
    end = data.rfind(b"PK\x05\x06")
    struct.pack_into("<I", data, end + 16, listing + len(EVIL))
    report = look(bytes(data))
    assert report.unsafe
    assert "belong to no member" in words(report)
