"""Headers of the tar, read back by Python's own reader."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from holdfast.archive.bundle import tar


def test_members_of_every_size_come_back_and_large_ones_begin_on_a_page():
    rng = random.Random(0)
    sizes = [0, 1, 511, 512, 513, 3000, 4095, 4096, 4097, 9000]
    out, wanted = bytearray(), {}
    for i in range(200):
        name = f"log/{'n' * rng.randint(1, 128)}/{i:08}.json" if i % 3 else f"blobs/{i:064x}"
        data = rng.randbytes(rng.choice(sizes))
        out += tar.member(name, len(data), len(out))
        assert len(out) % (tar.PAGE if len(data) >= tar.PAGE else 512) == 0
        out += data + tar.padding(len(data))
        wanted[name] = data
    with tarfile.open(fileobj=io.BytesIO(out + tar.END)) as archive:
        found = {item.name: archive.extractfile(item).read() for item in archive.getmembers()}
    assert found == wanted


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 9 << 40])
def test_sizes_beyond_the_field_are_told(size):
    head = tar.member("blobs/x", size, 512)
    assert (512 + len(head)) % tar.PAGE == 0
    with tarfile.open(fileobj=io.BytesIO(head)) as archive:
        assert archive.next().size == size
