"""What a file is, is decided by its bytes; a pickle is refused under every name, unopened."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from holdfast.errors import Corrupt, UnsafeContent, UsageError
from holdfast.trust.sniff import sniff


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors", "model.npz", "model"])
def test_a_pickle_is_a_pickle_under_every_name(tmp_path, protocol, name):
    path, trap = tmp_path / name, tmp_path / "ran"
    path.write_bytes(pickle.dumps(Runs(trap), protocol))
    with pytest.raises(UnsafeContent, match=r"would import (posix|nt)\.system \(byte \d+\)"):
        sniff(path)
    assert not trap.exists()


def test_pickles_inside_other_files(tmp_path):
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    archive = tmp_path / "torch.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}))
    for path in (objects, archive):
        with pytest.raises(UnsafeContent):
            sniff(path)


def written(save, array):
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


def test_harmless_files_are_told_by_content(tmp_path):
    kinds = {
        "safetensors": lambda p: safetensors.numpy.save_file({"a": np.ones(3)}, p),
        "npy": lambda p: p.write_bytes(written(np.save, np.ones(3))),
        "npz": lambda p: p.write_bytes(written(np.savez, np.ones(3))),
        "hdf5": lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "gguf": lambda p: p.write_bytes(b"GGUF" + bytes(100)),
        "an unknown kind of file": lambda p: p.write_bytes(b"hello, this is a text\n"),
    }
    for kind, write in kinds.items():
        path = tmp_path / "model.bin"
        write(path)
        assert sniff(path) == kind


def test_damaged_and_missing_files(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(Corrupt):
        sniff(path)
    with pytest.raises(UsageError):
        sniff(tmp_path / "nothing")
    for size in range(12):
        path.write_bytes(b"\x00" * size)
        assert sniff(path) == "an unknown kind of file"
