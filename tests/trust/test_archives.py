"""Zip, tar and compressed streams are read by position, bounded, and as other readers would."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib

import pytest

from holdfast.errors import Corrupt, UsageError
from holdfast.trust.source import Allowance, Data, FileSource, Inflated, coding_of
from holdfast.trust.tars import is_tar, read_tar
from holdfast.trust.zips import has_directory, open_zip


def zipped(members, **how):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


MEMBERS = {"a.txt": b"hello", "folder/b.bin": bytes(5000), "c": os.urandom(100)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_members_come_out_as_they_went_in(method):
    archive = open_zip(Data(zipped(MEMBERS, compression=method)))
    assert archive.faults == ()
    assert (archive.prefix, archive.gaps) == (0, ())
    found = {e.name: archive.content(e, 10_000, Allowance()) for e in archive.entries}
    assert found == MEMBERS


def test_an_archive_of_64_bit_numbers_is_read():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"data")
    found = open_zip(Data(file.getvalue()))
    assert found.faults == ()
    assert found.content(found.entries[0], 100, Allowance()) == b"data"


def test_an_archive_of_more_than_65535_members_is_read():
    data = zipped({f"{n:05}": b"" for n in range(66_000)})
    archive = open_zip(Data(data))
    assert (len(archive.entries), archive.faults) == (66_000, ())


def test_an_archive_that_was_streamed_is_read_with_and_without_its_directory():
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = bytearray()

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    data = bytes(pipe.data)
    assert open_zip(Data(data)).faults == ()
    lost = open_zip(Data(data[: data.find(b"PK\x01\x02")]))
    assert [e.name for e in lost.entries] == list(MEMBERS)
    with lost.open(lost.entries[1], Allowance()) as content:
        assert content.read(0, 5) == bytes(5)


def test_what_stands_in_front_is_told_and_the_members_are_still_found():
    archive = open_zip(Data(b"x" * 100 + zipped(MEMBERS)))
    assert archive.prefix == 100
    assert archive.content(archive.entries[0], 100, Allowance()) == b"hello"


def test_four_bytes_that_look_like_an_end_are_no_archive():
    assert has_directory(Data(b"x" * 100 + zipped({"a": b""})))
    assert not has_directory(Data(b"x" * 100 + b"PK\x05\x06" + bytes(18)))


def test_content_is_judged_by_size_and_checksum():
    data = bytearray(zipped({"a": b"hello"}))
    data[data.find(b"hello")] ^= 1
    archive = open_zip(Data(bytes(data)))
    with pytest.raises(Corrupt, match="not what the archive"):
        archive.content(archive.entries[0], 100, Allowance())
    with pytest.raises(Corrupt, match="more than 3 bytes"):
        archive.content(archive.entries[0], 3, Allowance())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_tars_are_found_where_they_are(form):
    file = io.BytesIO()
    names = ["a", "folder/b", "x" * 90 + "/" + "y" * 90]
    if form != tarfile.USTAR_FORMAT:
        names += ["long/" * 60 + "name", "ünïcode"]
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode().ljust(info.size)[: info.size]))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 120 if form != 0 else "t"
        archive.addfile(link)
    data = file.getvalue()
    assert is_tar(data[:512])
    found = list(read_tar(Data(data)))
    assert [e.name for e in found if e.kind == "file"] == names
    assert found[-1].kind == "symbolic link"
    assert found[-1].link == link.linkname
    for entry in found[:3]:
        assert data[entry.start : entry.start + entry.size].decode() == entry.name


def test_a_damaged_header_ends_a_tar_and_is_told():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in "ab":
            archive.addfile(tarfile.TarInfo(name))
    data = bytearray(file.getvalue())
    data[512 + 3] ^= 1
    members = read_tar(Data(bytes(data)))
    assert next(members).name == "a"
    with pytest.raises(Corrupt, match="damaged"):
        next(members)


PACKED = {
    "zlib": zlib.compress, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


@pytest.mark.parametrize("coding", PACKED)
def test_streams_are_decompressed_as_far_as_they_are_read(coding):
    plain = os.urandom(1000) * 2000
    packed = PACKED[coding](plain)
    assert coding_of(packed[:100]) == coding
    allowance = Allowance()
    with Inflated(Data(packed), coding, allowance) as stream:
        assert stream.read(10, 20) == plain[10:30]
        assert Allowance().inflated - allowance.inflated < 1 << 20
        assert stream.read(1_500_000, 100) == plain[1_500_000:1_500_100]
        assert stream.read(0, 5) == plain[:5]
        assert (stream.size, stream.fault, stream.end) == (len(plain), None, len(packed))
        assert bytes(stream.view()) == plain


@pytest.mark.parametrize("coding", ["gzip", "bzip2", "xz"])
def test_streams_one_after_another_are_one(coding):
    packed = PACKED[coding](b"first ") + PACKED[coding](b"second")
    with Inflated(Data(packed + b"and junk"), coding, Allowance()) as stream:
        assert bytes(stream.view()) == b"first second"
        assert stream.end == len(packed)


@pytest.mark.parametrize("coding", PACKED)
def test_damage_ends_a_stream_and_is_told(coding):
    packed = PACKED[coding](os.urandom(5000))
    for data in (packed[:-20], packed[:2500] + bytes(10) + packed[2510:]):
        with Inflated(Data(data), coding, Allowance()) as stream:
            assert stream.size <= 5000
            assert stream.fault is not None


def test_an_allowance_that_is_spent_ends_a_stream():
    allowance = Allowance()
    allowance.inflated = 100_000
    with Inflated(Data(zlib.compress(bytes(1 << 20))), "zlib", allowance) as stream:
        assert stream.size == 100_000
        assert "limit" in (stream.fault or "")


def test_a_large_stream_is_mapped_and_not_in_memory():
    plain = bytes(40 << 20)
    with Inflated(Data(zlib.compress(plain, 1)), "zlib", Allowance()) as stream:
        view = stream.view()
        assert len(view) == len(plain)
        assert view.readonly
    assert bytes(view[-5:]) == bytes(5)


def test_windows_end_where_their_source_ends():
    window = Data(b"0123456789").window(3)
    assert (window.size, window.read(0, 100)) == (7, b"3456789")
    inner = window.window(2, 3)
    assert (inner.size, inner.read(1, 100), inner.read(5, 1)) == (3, b"67", b"")
    assert Data(b"01").window(5, 10).read(0, 4) == b""
    with window.stream() as file:
        file.seek(-2, os.SEEK_END)
        assert file.read() == b"89"


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "nothing", tmp_path / "a\0b"):
        with pytest.raises(UsageError):
            FileSource(place)
    with pytest.raises(UsageError):
        FileSource(type(tmp_path)("/dev/zero"))
