"""GGUF, npz and safetensors files: what their own libraries wrote comes back, lies are refused."""

import io
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

import holdfast
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.rescue.reading import read

RNG = np.random.default_rng(0)
ARRAYS = {
    "f4": RNG.normal(size=(4, 64)).astype("f4"),
    "f2": RNG.normal(size=(3, 32)).astype("f2"),
    "f8": RNG.normal(size=(3,)),
    "i1": RNG.integers(-5, 5, (2, 5)).astype("i1"),
    "i2": RNG.integers(0, 3, (7,)).astype("i2"),
    "i8": RNG.integers(-5, 5, (2, 5)),
}


def equal(one, two):
    alike = one.dtype == two.dtype and one.shape == two.shape
    return (
        alike
        and (one.dtype.hasobject or one.tobytes() == two.tobytes())
        and (one.dtype.kind == "M" or np.array_equal(one, two))
    )


def test_what_the_gguf_package_writes_comes_back(tmp_path):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_array("tokenizer.tokens", ["a", "b"] * 300)
    for name, array in ARRAYS.items():
        writer.add_tensor(name, array)
    packed = {}
    for name in ("Q8_0", "Q4_0"):
        kind = gguf.GGMLQuantizationType[name]
        packed[name] = gguf.quants.quantize(ARRAYS["f4"], kind)
        writer.add_tensor(name, packed[name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    version = holdfast.convert(path, "x", store=tmp_path / "s")
    again = holdfast.load("x", store=tmp_path / "s")
    for name, array in {**ARRAYS, **packed}.items():
        assert equal(again[name], array), name
    params = version.record.params
    assert params["gguf_types"] == {"Q8_0": "Q8_0", "Q4_0": "Q4_0"}
    assert params["gguf"]["llama.block_count"] == 2
    assert [entry.name for entry in version.content.files] == ["header.gguf"]


def gguf_of(shape, kind, body):
    name = struct.pack("<Q", 1) + b"w"
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + name + sizes + struct.pack("<IQ", kind, 0)
    return head + bytes(-len(head) % 32) + body


def test_a_gguf_tensor_by_hand_comes_back_outermost_dimension_first(tmp_path):
    data = np.arange(12, dtype="<f4")
    (tmp_path / "x.gguf").write_bytes(gguf_of((4, 3), 0, data.tobytes()))
    assert equal(read(tmp_path / "x.gguf", "gguf").model["w"], data.reshape(3, 4))


@pytest.mark.parametrize(
    ("shape", "kind"), [((2**40,), 0), ((4, 2**62), 0), ((4, 3), 99), ((33,), 8), ((12, 2), 0)]
)
def test_gguf_tensors_that_lie_are_refused(shape, kind, tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf_of(shape, kind, bytes(48)))
    with pytest.raises(HoldfastError):
        read(tmp_path / "x.gguf", "gguf")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_archives_come_back_in_every_order_and_dtype(save, tmp_path):
    arrays = {
        **ARRAYS,
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
        "fortran": np.asfortranarray(ARRAYS["f4"]),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 3)),
        "words": np.array(["a", "öß"]),
        "bytes": np.array([b"a", b"bc"]),
        "times": np.array(["2020-01-01", "NaT"], "M8[s]"),
        "record": np.zeros(3, [("a", "<i4"), ("b", "<f8", (2,))]),
        "complex": np.array([1 + 2j]),
        "bool": np.array([True, False]),
    }
    save(tmp_path / "x.npz", **arrays)
    again = read(tmp_path / "x.npz", "npz").model
    assert again.keys() == arrays.keys()
    assert all(equal(again[name], array) for name, array in arrays.items())
    assert again["fortran"].flags.f_contiguous
    holdfast.convert(tmp_path / "x.npz", "x", store=tmp_path / "s")
    loaded = holdfast.load("x", store=tmp_path / "s")
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays if name != "times")


def test_arrays_of_plain_objects_are_data_and_of_others_not(tmp_path):
    import string

    objects = np.array([["a", None], [1, 2.5]], dtype=object)
    np.savez(tmp_path / "x.npz", objects=objects, allow_pickle=True)
    assert equal(read(tmp_path / "x.npz", "npz").model["objects"], objects)
    np.save(tmp_path / "y.npy", np.array([string.Template("x")], object), allow_pickle=True)
    with pytest.raises((UnsafeContent, Unsupported)):
        holdfast.convert(tmp_path / "y.npy", "y", store=tmp_path / "s")


def test_a_bomb_in_an_npz_archive_is_refused_before_it_goes_off(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (1 << 36,)}
    )
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", buffer.getvalue() + bytes(1 << 20))
    with pytest.raises(Corrupt, match="has 1048576 bytes"):
        read(tmp_path / "x.npz", "npz")
    data = (tmp_path / "x.npz").read_bytes()
    size = len(buffer.getvalue()) + (1 << 20)
    lying = data.replace(struct.pack("<I", size), struct.pack("<I", 2**32 - 2))
    (tmp_path / "x.npz").write_bytes(lying)
    with pytest.raises(Corrupt):
        read(tmp_path / "x.npz", "npz")


def test_one_byte_of_an_npz_archive_changed_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(30.0))
    data = path.read_bytes()
    for place in range(60, len(data) - 80, 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        with pytest.raises(HoldfastError):
            read(path, "npz")


def test_what_safetensors_writes_comes_back(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    again = read(path, "safetensors").model
    assert all(equal(again[name], array) for name, array in ARRAYS.items())
    assert not again["f8"].flags.owndata
