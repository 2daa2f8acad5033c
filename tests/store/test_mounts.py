"""Kinds of file systems, told by the table of mounts (proc(5), /proc/pid/mountinfo)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.store import mounts

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 22 0:40 / /mnt/nas rw,relatime shared:9 - nfs4 nas:/models rw,vers=4.2
32 22 0:41 / /mnt/bucket rw,nosuid - fuse.s3fs s3fs rw
33 22 0:42 / /mnt/mine rw,nosuid - fuse loop rw,user_id=0
34 22 0:43 / /merged rw - overlay overlay rw
35 22 0:44 / /new rw - bcachefs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("device", "trustworthy", "network"),
    [
        ((8, 1), True, False),
        ((0, 40), False, True),
        ((0, 41), False, True),
        ((0, 42), False, True),
        ((0, 43), False, False),
        ((0, 44), False, False),
        ((0, 99), False, False),
    ],
)
def test_kinds_are_told(monkeypatch, device, trustworthy, network):
    monkeypatch.setattr(Path, "read_text", lambda *_: TABLE)
    number = os.makedev(*device)
    assert mounts.trustworthy.__wrapped__(number) is trustworthy
    assert mounts.network.__wrapped__(number) is network


def test_without_a_table_nothing_is_believed_and_files_are_mapped(monkeypatch):
    def absent(*_):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert mounts.trustworthy.__wrapped__(os.makedev(8, 1)) is False
    assert mounts.network.__wrapped__(os.makedev(8, 1)) is False
