"""The passes in C do what numpy does, and touch no byte that they were not given."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zstandard

from holdfast.store import coding, planes
from holdfast.store.coded import Layout
from holdfast.store.coding import Kind

BASED = ("difference", "sorted")


@pytest.fixture(name="by")
def make_switch(native, narrow, monkeypatch):
    def switch(name):
        found = {"C": native, "narrow C": narrow, "numpy": None}[name]
        monkeypatch.setattr(planes, "native", found)

    return switch


@pytest.mark.parametrize("kind", planes.KINDS)
@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [0, 1, 7, 4095, 4096, 4097, 30_011])
def test_planes_are_the_same_bytes(by, width, kind, size):
    rng = np.random.default_rng(size)
    data, base = rng.integers(0, 256, (2, size * width), "u1")
    data[: size // 2] = base[: size // 2]
    given_base = base if kind in BASED else None
    made = {}
    for name in ("C", "narrow C", "numpy"):
        by(name)
        found = planes.split(data, width, kind, given_base)
        out = np.zeros_like(data)
        planes.join([5, *found[1:]], kind, out, given_base)
        made[name] = [plane.tobytes() for plane in found], out.tobytes()
    assert made["C"] == made["narrow C"] == made["numpy"]


@pytest.mark.parametrize("width", [2, 4])
def test_a_coded_blob_is_the_same_file(by, width):
    rng = np.random.default_rng(width)
    base = (rng.standard_normal(600_000) * 0.02).astype(f"<f{width}")
    data = base + (rng.standard_normal(600_000) * 2e-5).astype(base.dtype)
    kinds = [Kind(data.nbytes, width, float=True)]
    named = ("sha256:" + "0" * 64, base.data.cast("B"))
    files = []
    for name in ("C", "numpy"):
        by(name)
        files.append(b"".join(coding.encode(data.data.cast("B"), kinds, base=named)))
    assert files[0] == files[1]
    assert Layout(memoryview(files[0])).index.parts[0].kind == "sorted"


def test_without_libzstd_frames_are_read_by_the_package(native, monkeypatch):
    monkeypatch.setattr(planes, "native", native)
    data = (np.random.default_rng(0).standard_normal(300_000) * 0.02).astype("<f4").tobytes()
    file = memoryview(b"".join(coding.encode(memoryview(data), [Kind(len(data), 4, float=True)])))
    for found in (native.LIBZSTD, 0):
        monkeypatch.setattr(native, "LIBZSTD", found)
        out = bytearray(len(data))
        coding.decode(Layout(file), file, None, memoryview(out))
        assert out == data


def test_frames_of_literals_are_ordinary_and_as_short_as_the_bytes_allow(native):
    assert native.HUFFMAN == native.LIBZSTD
    if not native.LIBZSTD:
        pytest.skip("this machine has no libzstd")
    exponents = np.frexp(np.random.default_rng(0).standard_normal(300_000))[1].astype("i1")
    for data in (b"", b"a", bytes(9000), exponents.tobytes(), os.urandom(150_000)):
        made = native.huffman(data)
        assert zstandard.ZstdDecompressor().decompress(made) == data
    shares = np.unique(exponents, return_counts=True)[1] / exponents.size
    entropy = -(shares * np.log2(shares)).sum() / 8
    assert len(native.huffman(exponents)) < 1.05 * entropy * exponents.size


def frame(data):
    return zstandard.ZstdCompressor().compress(data)


HUNDRED = frame(bytes(100))


@pytest.mark.parametrize(
    ("frames", "lengths", "kind", "base", "size"),
    [
        (b"", (), 0, None, 0),
        (b"", (0,) * 9, 0, None, 0),
        (bytes(300), (0, 0, 0), 0, None, 300),
        (bytes(99), (0,), 0, None, 100),
        (bytes(101), (0,), 0, None, 100),
        (bytes(100), (0,), -1, None, 100),
        (bytes(100), (0,), 4, None, 100),
        (bytes(100), (-257,), 0, None, 100),
        (b"", (-(2**63),), 0, None, 100),
        (b"", (2**63 - 1,), 0, None, 100),
        (b"", (2**64,), 0, None, 100),
        (bytes(3), (0, -1), 0, None, 3),
        (bytes(100), (0,), 2, None, 100),
        (bytes(100), (0,), 3, bytes(99), 100),
        (HUNDRED, (len(HUNDRED),), 0, None, 99),
        (HUNDRED, (len(HUNDRED),), 0, None, 101),
        (HUNDRED, (len(HUNDRED) + 1,), 0, None, 100),
        (HUNDRED, (len(HUNDRED) - 1,), 0, None, 100),
        (HUNDRED + b"\0", (len(HUNDRED) + 1,), 0, None, 100),
        (HUNDRED[:-1] + b"\xff", (len(HUNDRED),), 0, None, 100),
        (b"\0" * 20, (20,), 0, None, 100),
    ],
)
def test_what_contradicts_itself_is_refused(native, frames, lengths, kind, base, size):
    with pytest.raises((ValueError, OverflowError)):
        native.join(frames, lengths, kind, base, bytearray(size))


def test_what_cannot_be_written_to_is_refused(native):
    with pytest.raises((TypeError, BufferError)):
        native.join(bytes(8), (0,), 0, None, bytes(8))
    with pytest.raises((TypeError, BufferError)):
        native.split(bytes(8), 2, 0, None, bytes(8))
    with pytest.raises(ValueError, match="planes are not as long"):
        native.split(bytes(8), 2, 0, None, bytearray(7))
    with pytest.raises(ValueError, match="whole numbers"):
        native.split(bytes(7), 2, 0, None, bytearray(7))


def test_threads_share_nothing(native):
    wrong = []

    def work(seed):
        data = np.random.default_rng(seed).integers(0, seed + 2, 50_000, "u1")
        coded = frame(data.tobytes())
        for _ in range(40):
            out = bytearray(data.size)
            native.join(coded, (len(coded),), 0, None, out)
            if out != data.tobytes():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-DNARROW",)])
def test_no_byte_beyond_what_was_given_is_touched(build, flags):
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("the C compiler has no address sanitizer")
    sanitized = "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    checked = build("-O1", *sanitized, *flags)
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    script = Path(__file__).with_name("fuzz_native.py")
    done = subprocess.run(
        [sys.executable, script, checked, "20000"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "of 20000 calls" in done.stdout
