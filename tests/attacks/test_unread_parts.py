"""What a scan cannot look into is never passed over in silence: it is told, and ends in 3."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile

import pytest

from holdfast.cli.main import main
from holdfast.trust.report import Severity
from holdfast.trust.scan.contents import scanner
from holdfast.trust.scan.scanner import FAULT
from holdfast.trust.source import Data

EVIL = pickle.dumps(os.system)


def look(data):
    report = scanner(frozenset()).look(Data(data), "file")
    assert all(FAULT not in finding.what for _, finding in report.all_findings())
    return report


def zipped(method=zipfile.ZIP_STORED, name="a.npy"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, EVIL)
    return file.getvalue()


def encrypted():
    """Say of a member that it is encrypted, and make its bytes look so."""
    data = bytearray(zipped().replace(EVIL, bytes(byte ^ 0x5A for byte in EVIL)))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


UNREAD = {
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(100),
    "rar": b"Rar!\x1a\x07\x01\0" + bytes(100),
    "zip of lzma": zipped(zipfile.ZIP_LZMA),
    "zip that is encrypted": encrypted(),
    "much JSON": b'{"a": "' + b"x" * (65 << 20) + b'"}',
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_looked_into_is_said(name):
    report = look(UNREAD[name])
    assert report.worst is Severity.UNREAD
    assert report.takes is None
    assert report.verdict.startswith("not looked into: ")


@pytest.mark.parametrize("name", ["7z", "zip of lzma", "zip that is encrypted"])
def test_the_command_ends_in_3(name, tmp_path, capsys):
    path = tmp_path / "file"
    path.write_bytes(UNREAD[name])
    for words, alone in (([str(path)], True), ([str(tmp_path)], False)):
        for more in ([], ["--json"]):
            with pytest.raises(SystemExit) as done:
                main(["scan", *words, *more])
            assert done.value.code == 3
            told = capsys.readouterr()
            assert "Try: hold scan" in told.err
            if more:
                report = json.loads(told.out)["reports"][0]
                assert report["verdict"].startswith("not looked into")
            elif not alone:
                assert "1 not looked into" in told.out


def test_damage_and_danger_are_worse(tmp_path):
    (tmp_path / "a.7z").write_bytes(UNREAD["7z"])
    (tmp_path / "b.npz").write_bytes(zipped()[:-30])
    with pytest.raises(SystemExit) as done:
        main(["scan", str(tmp_path / "a.7z"), str(tmp_path / "b.npz")])
    assert done.value.code == 6  # the pickle in the damaged archive is told all the same
    (tmp_path / "b.npz").write_bytes(zipped().replace(EVIL, bytes(len(EVIL)))[:-30])
    with pytest.raises(SystemExit) as done:
        main(["scan", str(tmp_path / "a.7z"), str(tmp_path / "b.npz")])
    assert done.value.code == 1
