"""What a file is, is decided by its bytes; a pickle is refused by save under every name."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import joblib
import numpy as np
import pytest
import safetensors.numpy
from onnx import TensorProto, helper

from holdfast.api.files import model_from_file
from holdfast.errors import Corrupt, UnsafeContent, Unsupported, UsageError
from holdfast.trust.scan import scan_path


def kind_of(path):
    return scan_path(path, frozenset()).kind


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def written(save, array):
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_DOT_", "."), data)
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def onnx_model():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph).SerializeToString()


NODE = field(1, field(1, b"x") + field(2, b"Placeholder"))
UBJ = b"{L" + struct.pack(">q", 7) + b"learner{}L" + struct.pack(">q", 7) + b"version[#L"
OLD_BOOSTER = bytes(136) + struct.pack("<Q", 15) + b"binary:logistic" + bytes(20)
KERAS = {"config_DOT_json": "{}", "metadata_DOT_json": "{}"}
KINDS = {
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
    "catboost": b"CBM1" + bytes(100),
    "compressed": b"\x1f\x8b\x08" + bytes(20),
    "gguf": b"GGUF" + bytes(100),
    "graphdef": NODE + NODE,
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "json": b'{"model_type": "bert"}',
    "keras": zipped(**KERAS),
    "lightgbm": b"tree\nversion=v4\n",
    "npy": written(np.save, np.ones(3)),
    "npz": written(np.savez, np.ones(3)),
    "onnx": onnx_model(),
    "pickle": pickle.dumps({"a": 1}),
    "safetensors": safetensors.numpy.save({"a": np.ones(3)}),
    "savedmodel": b"\x08\x01" + field(2, field(1, b"")),
    "skops": zipped(schema_DOT_json="{}"),
    "tar": tarred(),
    "torch": zipped(**{"m/data_DOT_pkl": pickle.dumps({}), "m/version": "3"}),
    "torch-legacy": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2),
    "torch-program": zipped(**{"m/archive_format": "pt2", "m/models/model_DOT_json": "{}"}),
    "torchscript": zipped(**{"m/constants_DOT_pkl": b"", "m/code/a_DOT_py": ""}),
    "unknown": b"hello, this is a text\n",
    "xgboost-binary": OLD_BOOSTER,
    "xgboost-json": json.dumps({"learner": {}, "version": [3, 0, 0]}).encode(),
    "xgboost-ubj": UBJ,
    "zip": zipped(a="text"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors", "model"])
def test_a_kind_is_told_by_its_content_under_every_name(tmp_path, kind, name):
    (tmp_path / name).write_bytes(KINDS[kind])
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(
    "text",
    [
        "cat,dog\n1,2\n3,4\n",
        "class\nname\nand nothing else\n",
        "import os\nos.system('x')\n",
        "[section]\nkey = 1\n",
        "(a list)\n",
        "I am a text\n",
        "# a title\n\nwords\n",
        "\n\nwords after empty lines\n",
        "",
        "\x00" * 600,
    ],
)
def test_texts_are_not_taken_for_pickles(tmp_path, text):
    (tmp_path / "notes").write_text(text, "utf-8")
    assert kind_of(tmp_path / "notes") == "unknown"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors", "model.npz", "model"])
def test_save_refuses_a_pickle_under_every_name(tmp_path, protocol, name):
    path, trap = tmp_path / name, tmp_path / "ran"
    path.write_bytes(pickle.dumps(Runs(trap), protocol))
    assert kind_of(path) == "pickle"
    with pytest.raises(UnsafeContent, match=r"would call (posix|nt)\.system \(byte \d+\)"):
        model_from_file(path)
    assert not trap.exists()


def test_save_refuses_files_that_hold_pickles_known_data_or_not(tmp_path):
    objects, archive, plain = (tmp_path / name for name in ("o.npy", "t.pt", "p.pkl"))
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    archive.write_bytes(KINDS["torch"])
    plain.write_bytes(pickle.dumps({"a": 1}))
    for path in (archive, plain, objects):
        with pytest.raises(UnsafeContent) as caught:
            model_from_file(path)
        assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    "compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)]
)
def test_what_joblib_writes_is_a_pickle_compressed_or_not(tmp_path, compress):
    path, trap = tmp_path / "model.bin", tmp_path / "ran"
    joblib.dump({"model": Runs(trap), "w": np.arange(9.0)}, path, compress=compress)
    assert kind_of(path) == "joblib"
    with pytest.raises(UnsafeContent, match=r"posix\.system"):
        model_from_file(path)
    assert not trap.exists()


def test_the_oldest_compressed_joblib_files_are_pickles(tmp_path):
    import zlib

    data = pickle.dumps(Runs(tmp_path / "ran"), 2)
    head = b"ZF" + hex(len(data)).encode().ljust(19)
    (tmp_path / "old.pkl").write_bytes(head + zlib.compress(data))
    with pytest.raises(UnsafeContent, match=r"posix\.system"):
        model_from_file(tmp_path / "old.pkl")


@pytest.mark.parametrize("protocol", [0, 1])
def test_a_pickle_without_a_magic_number_may_start_with_much_text(tmp_path, protocol):
    path, trap = tmp_path / "model.txt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(["x" * 10_000, Runs(trap)], protocol))
    with pytest.raises(UnsafeContent, match="would call"):
        model_from_file(path)
    assert not trap.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_cut_pickle_is_a_pickle(tmp_path, protocol):
    path = tmp_path / "model"
    data = pickle.dumps(Runs(tmp_path / "ran"), protocol)
    for size in range(2, len(data)):
        path.write_bytes(data[:size])
        assert kind_of(path) == "pickle"


def test_arrays_that_need_a_pickle_are_refused_when_they_are_read(tmp_path):
    path, trap = tmp_path / "model.npz", tmp_path / "ran"
    objects = np.array([Runs(trap)], dtype=object)
    record = np.zeros(1, dtype=[("a", "O"), ("b", "f4")])
    whole = written(lambda f, a: np.savez(f, a, allow_pickle=True), objects)
    single = written(lambda f, a: np.savez(f, a, allow_pickle=True), record)
    for data in (whole, single):
        path.write_bytes(data)
        with pytest.raises(UnsafeContent):
            model_from_file(path)
    assert not trap.exists()


def test_a_pickle_named_as_an_array_is_not_handed_out(tmp_path):
    path, trap = tmp_path / "model.npz", tmp_path / "ran"
    path.write_bytes(zipped(a_DOT_npy=pickle.dumps(Runs(trap))))
    with pytest.raises(UnsafeContent):
        model_from_file(path)
    assert not trap.exists()


def test_a_text_named_as_an_array_is_not_handed_out(tmp_path):
    (tmp_path / "model.npz").write_bytes(zipped(a_DOT_npy="words"))
    with pytest.raises(Corrupt, match="not an array"):
        model_from_file(tmp_path / "model.npz")


def test_an_onnx_model_is_known_and_its_beginning_alone_is_not_one(tmp_path):
    data = onnx_model()
    for size in (0, 1, 2, 3):
        (tmp_path / "model.pkl").write_bytes(data[:size])
        assert kind_of(tmp_path / "model.pkl") == "unknown"


def test_a_missing_file_and_a_damaged_archive(tmp_path):
    with pytest.raises(UsageError):
        kind_of(tmp_path / "nothing")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(Unsupported, match="zip archive"):
        model_from_file(tmp_path / "x.npz")


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


def test_save_refuses_an_npz_archive_with_objects_that_convert_takes_as_data(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array(["one", None], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeContent, match="holds a pickle"):
        model_from_file(tmp_path / "x.npz")
