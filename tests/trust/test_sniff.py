"""What a file is, is decided by its bytes; a pickle is refused under every name, unopened."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile

import joblib
import numpy as np
import pytest
import safetensors.numpy
from onnx import TensorProto, helper

from holdfast.api.files import model_from_file
from holdfast.errors import Corrupt, UnsafeContent, Unsupported, UsageError
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


@pytest.mark.parametrize(
    "compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)]
)
def test_what_joblib_writes_is_a_pickle_compressed_or_not(tmp_path, compress):
    path, trap = tmp_path / "model.bin", tmp_path / "ran"
    joblib.dump({"model": Runs(trap), "w": np.arange(9.0)}, path, compress=compress)
    with pytest.raises(UnsafeContent, match="pickle") as caught:
        model_from_file(path)
    assert caught.value.exit_code == 6
    assert not trap.exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_without_a_magic_number_may_start_with_much_text(tmp_path, protocol):
    path, trap = tmp_path / "model.txt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(["x" * 10_000, Runs(trap)], protocol))
    with pytest.raises(UnsafeContent, match="would import"):
        model_from_file(path)
    assert not trap.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_cut_pickle_is_a_pickle(tmp_path, protocol):
    path, trap = tmp_path / "model", tmp_path / "ran"
    data = pickle.dumps(Runs(trap), protocol)
    for size in range(2, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(UnsafeContent):
            sniff(path)
    assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_holds_a_pickle(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"w": torch.ones(2)}, tmp_path / "m", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeContent):
        model_from_file(tmp_path / "m")


def zipped(member, data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, data)
    return file.getvalue()


def test_arrays_that_need_a_pickle_are_refused_when_they_are_read(tmp_path):
    path, trap = tmp_path / "model.npz", tmp_path / "ran"
    objects = np.array([Runs(trap)], dtype=object)
    record = np.zeros(1, dtype=[("a", "O"), ("b", "f4")])
    whole = written(lambda f, a: np.savez(f, a, allow_pickle=True), objects)
    single = written(lambda f, a: np.save(f, a, allow_pickle=True), record)
    for data in (whole, single):
        path.write_bytes(data)
        with pytest.raises(UnsafeContent):
            model_from_file(path)
    assert not trap.exists()


def test_a_pickle_named_as_an_array_is_not_handed_out(tmp_path):
    path, trap = tmp_path / "model.npz", tmp_path / "ran"
    path.write_bytes(zipped("a.npy", pickle.dumps(Runs(trap))))
    with pytest.raises(Corrupt, match="not an array"):
        model_from_file(path)
    path.write_bytes(zipped("weights.bin", pickle.dumps(Runs(trap))))
    assert sniff(path) == "an unknown kind of zip archive"
    assert not trap.exists()


def test_an_onnx_model_is_known_and_its_beginning_alone_is_judged(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    data = helper.make_model(graph).SerializeToString()
    path = tmp_path / "model.pkl"
    kinds = []
    for size in (0, 1, 2, 3, len(data)):
        path.write_bytes(data[:size])
        kinds.append(sniff(path))
    assert kinds == ["an unknown kind of file"] * 3 + ["onnx"] * 2


def test_a_cut_safetensors_file_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    data = safetensors.numpy.save({"a": np.arange(6.0), "b": np.ones(2, "f4")})
    path.write_bytes(data)
    assert sorted(model_from_file(path)) == ["a", "b"]
    for size in range(10, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises((Corrupt, Unsupported)):
            model_from_file(path)


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 10**8 + 1])
def test_a_header_that_claims_another_length_is_refused(tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":{}}' + bytes(32))
    with pytest.raises((Corrupt, Unsupported)):
        model_from_file(path)
