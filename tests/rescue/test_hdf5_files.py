"""HDF5 files come over as h5py reads them, without h5py; what reaches out or lies is refused."""

import io
import json
import struct
import zipfile

import h5py
import numpy as np
import pytest

import holdfast
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.rescue.reading import read

RNG = np.random.default_rng(0)
BIG = RNG.normal(size=(103, 57)).astype("f4")
CHUNKED = {
    "small": {"chunks": (10, 10)},
    "packed": {"chunks": (10, 10), "compression": "gzip"},
    "shuffled": {"chunks": (16, 57), "compression": "gzip", "shuffle": True},
    "summed": {"chunks": (7, 13), "fletcher32": True, "compression": "gzip", "shuffle": True},
    "one": {"chunks": (103, 57)},
    "one packed": {"chunks": (103, 57), "compression": "gzip"},
    "growing both ways": {"chunks": (10, 10), "maxshape": (None, None), "compression": "gzip"},
    "in pages": {"chunks": (1, 1)},
}


def equal(one, two):
    return one.dtype == two.dtype and one.shape == two.shape and np.array_equal(one, two)


def written(path, fill, **how):
    with h5py.File(path, "w", **how) as h:
        fill(h)
    return path


def truth(path):
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            text = h5py.check_string_dtype(item.dtype)
            found[name] = item.asstr()[()] if text and text.length is None else item[()]

    with h5py.File(path) as h:
        h.visititems(visit)
    return found


def require_same(path):
    model = read(path, "hdf5").model
    wanted = truth(path)
    assert model.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is not None:
            assert equal(model[name], np.asarray(value)), name


@pytest.mark.parametrize("version", ["earliest", "v108", "v110", "v112", "latest"])
def test_every_layout_and_filter_comes_back(version, tmp_path):
    def fill(h):
        for name, how in CHUNKED.items():
            h.create_dataset(f"floats/{name}", data=BIG, **how)
            h.create_dataset(f"integers/{name}", data=(BIG * 9).astype("i8"), **how)
        h["contiguous"] = BIG
        h["scalar"] = np.float32(3)
        h["empty"] = np.zeros((0, 4))
        h.create_dataset("filled", (5, 5), "f4", fillvalue=7.5)
        h.create_dataset("filled in part", (50, 5), "f4", fillvalue=7.5, chunks=(10, 5))[10:20] = 1
        for value in (0, 255):
            data = np.full((9, 3), value, "u1")
            h.create_dataset(f"sum of {value}", data=data, chunks=(9, 3), fletcher32=True)
        h.create_dataset("words", data=["a", "öß", ""], dtype=h5py.string_dtype())
        shape, kept = h5py.h5s.create_simple((3,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        kept.set_layout(h5py.h5d.COMPACT)
        inside = h5py.h5d.create(h.id, b"compact", h5py.h5t.IEEE_F64BE, shape, kept)
        inside.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.0, 2.0, 3.0]))

    path = written(tmp_path / "x.h5", fill, libver=version)
    model, wanted = read(path, "hdf5").model, truth(path)
    words = model.pop("words")
    assert words.tolist() == wanted.pop("words").tolist()
    assert model.keys() == wanted.keys()
    assert not [name for name in wanted if not equal(model[name], np.asarray(wanted[name]))]


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "<i2", ">i4", "<u8", ">f2", "<f2", ">f8", "<f4", "?", "S5"]
)
@pytest.mark.parametrize("how", [{}, {"chunks": (2, 2), "compression": "gzip"}])
def test_every_dtype_and_byte_order_comes_back_and_through_a_store(dtype, how, tmp_path):
    data = RNG.integers(0, 100, (3, 4)).astype(dtype)
    path = written(tmp_path / "x.h5", lambda h: h.create_dataset("a/b", data=data, **how))
    require_same(path)
    holdfast.convert(path, "x", store=tmp_path / "s")
    assert equal(holdfast.load("x", store=tmp_path / "s")["a/b"], data)


def test_a_dataset_in_one_piece_is_a_view_of_the_mapped_file(tmp_path):
    path = written(tmp_path / "x.h5", lambda h: h.create_dataset("w", data=BIG))
    array = read(path, "hdf5").model["w"]
    assert not array.flags.owndata
    array[0, 0] = 5  # private: the file stays as it is
    assert equal(read(path, "hdf5").model["w"], BIG)


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_a_vocabulary_of_many_words_is_read_in_one_go(version, tmp_path):
    words = [f"word{place}" * (place % 7) for place in range(30_000)]
    kind = h5py.string_dtype()
    path = written(
        tmp_path / "x.h5", lambda h: h.create_dataset("w", data=words, dtype=kind), libver=version
    )
    assert read(path, "hdf5").model["w"].tolist() == words


def test_bfloat16_which_keras_keeps_as_opaque_bytes_comes_as_such(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    wanted = torch.arange(6.0).reshape(2, 3).to(torch.bfloat16)

    def fill(h):
        made = h.create_dataset("v", data=wanted.view(torch.int16).numpy().view("V2"))
        made.attrs["dtype"] = "bfloat16"
        h["plain"] = BIG

    path = written(tmp_path / "x.h5", fill)
    holdfast.convert(path, "x", store=tmp_path / "s")
    again = holdfast.load("x", store=tmp_path / "s")
    assert torch.equal(again["v"], wanted)
    assert equal(again["plain"], BIG)


def test_a_dataset_that_was_made_smaller_has_only_what_is_left(tmp_path):
    def fill(h):
        made = h.create_dataset("d", (50, 5), "f4", chunks=(10, 5), maxshape=(None, None))
        made[:] = 2
        made.resize((12, 4))

    for version in ("earliest", "latest"):
        require_same(written(tmp_path / f"{version}.h5", fill, libver=version))


def test_a_user_block_moves_nothing(tmp_path):
    path = written(
        tmp_path / "x.h5",
        lambda h: (h.create_dataset("a", data=BIG), h.create_dataset("b", data=BIG, chunks=(9, 9))),
        userblock_size=1024,
    )
    require_same(path)


def virtual(h):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "d", (3,))
    h.create_virtual_dataset("d", layout)


@pytest.mark.parametrize(
    "fill",
    [
        lambda h: h.__setitem__("x", h5py.ExternalLink("/etc/other.h5", "/d")),
        lambda h: h.__setitem__("x", h5py.SoftLink("/elsewhere")),
        lambda h: h.create_dataset("d", (4,), "f4", external=[("/etc/passwd", 0, 16)]),
        virtual,
    ],
)
@pytest.mark.parametrize("keras", [False, True])
def test_what_leads_out_is_refused(fill, keras, tmp_path):
    def whole(h):
        if keras:
            h.attrs["keras_version"] = "3.0"
        fill(h.create_group("g"))

    path = written(tmp_path / "x.h5", whole)
    with pytest.raises(UnsafeContent, match=r"link to|kept in the file|put together"):
        holdfast.convert(path, "x", store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_shape_that_the_file_cannot_hold_is_refused(tmp_path):
    path = written(
        tmp_path / "x.h5", lambda h: h.create_dataset("d", (2**20, 2**20), "f8", chunks=(64, 64))
    )
    with pytest.raises(Corrupt, match="cannot hold"):
        holdfast.convert(path, "x", store=tmp_path / "s")


def test_many_small_claims_are_a_bomb_together(tmp_path):
    def fill(h):
        for place in range(600):
            h.create_dataset(f"d{place}", (2**20,), "i1", chunks=(2**20,), fillvalue=1)

    with pytest.raises(Corrupt, match="bomb"):
        read(written(tmp_path / "x.h5", fill), "hdf5")


@pytest.mark.slow
def test_chunks_larger_than_their_dataset_are_a_bomb(tmp_path):
    def fill(h):
        for place in range(200):
            made = h.create_dataset(
                f"d{place}", (4,), "i1", chunks=(4 << 20,), maxshape=(None,), compression="gzip"
            )
            made[:] = 1

    with pytest.raises(Corrupt, match="bomb"):
        read(written(tmp_path / "x.h5", fill), "hdf5")


def test_datasets_over_the_same_bytes_are_refused(tmp_path):
    path = written(
        tmp_path / "x.h5",
        lambda h: (h.create_dataset("a", data=BIG), h.create_dataset("b", data=BIG + 1)),
    )
    with h5py.File(path) as h:
        one, two = h["a"].id.get_offset(), h["b"].id.get_offset()
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<Q", two), struct.pack("<Q", one)))
    with pytest.raises(Corrupt, match="over another"):
        read(path, "hdf5")


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda h: h.create_dataset("c", data=np.ones(2, "c8")), "record"),
        (lambda h: h.create_dataset("v", (2,), h5py.vlen_dtype("i4")), "list of"),
        (lambda h: h.create_dataset("z", data=BIG, compression="lzf"), "h5repack"),
    ],
)
def test_what_is_not_read_is_named(fill, said, tmp_path):
    with pytest.raises(Unsupported) as caught:
        read(written(tmp_path / "x.h5", fill), "hdf5")
    assert said in str(caught.value)


def test_mutated_files_are_refused_or_harmless(tmp_path):
    def fill(h):
        h.create_dataset("a", data=BIG[:4, :4])
        h.create_dataset("b", data=BIG[:9, :9], chunks=(3, 4), compression="gzip", fletcher32=True)
        h.create_dataset("c", data=["x", "yy"], dtype=h5py.string_dtype())
        h.attrs["keras_version"] = "3.0"

    outcomes = set()
    for version in ("earliest", "latest"):
        path = written(tmp_path / "x.h5", fill, libver=version)
        data = bytearray(path.read_bytes())
        for place in RNG.integers(0, len(data), 500).tolist():
            kept, data[place] = data[place], int(RNG.integers(256))
            path.write_bytes(data)
            try:
                read(path, "keras-h5")
                outcomes.add("read")
            except HoldfastError as error:
                outcomes.add(error.code)
            data[place] = kept
    assert {"read", "corrupt"} <= outcomes


# Keras: files as keras/src/saving/saving_lib.py and legacy/hdf5_format.py lay them out.

CONFIG = {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": []}}
LAMBDA = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "x"}}


def keras_h5(path, config):
    def fill(h):
        h.attrs["keras_version"] = "2.15.0"
        h.attrs["model_config"] = json.dumps(config)
        h["model_weights/dense/dense/kernel:0"] = BIG

    return written(path, fill)


def keras_archive(path, config):
    inner = io.BytesIO()
    with h5py.File(inner, "w") as h:
        h["layers/dense/vars/0"] = BIG
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", inner.getvalue())
        archive.writestr("assets/words.txt", "one\ntwo\n")
    return path


def test_a_keras_model_in_hdf5_becomes_arrays_and_its_configuration_a_file(tmp_path):
    path = keras_h5(tmp_path / "m.h5", CONFIG)
    version = holdfast.convert(path, "m", store=tmp_path / "s")
    model = holdfast.load("m", store=tmp_path / "s")
    assert equal(model["model_weights/dense/dense/kernel:0"], BIG)
    assert version.record.params["hdf5_attributes"]["/"]["keras_version"] == "2.15.0"
    assert json.loads(read(path, "keras-h5").files["model_config.json"]) == CONFIG
    assert [entry.name for entry in version.content.files] == ["model_config.json"]


def test_a_keras_archive_becomes_arrays_and_files(tmp_path):
    path = keras_archive(tmp_path / "m.keras", CONFIG)
    taken = read(path, "keras")
    assert equal(taken.model["layers/dense/vars/0"], BIG)
    assert taken.params == {"keras": {"keras_version": "3.9.0"}}
    assert sorted(taken.files) == ["assets/words.txt", "config.json", "metadata.json"]
    holdfast.convert(path, "m", store=tmp_path / "s")
    assert equal(holdfast.load("m", store=tmp_path / "s")["layers/dense/vars/0"], BIG)


@pytest.mark.parametrize("make", [keras_h5, keras_archive])
def test_weights_beside_code_are_taken_without_it(make, tmp_path):
    bad = {**CONFIG, "config": {"layers": [LAMBDA]}}
    path = make(tmp_path / "m", bad)
    report = holdfast.scan(path)
    assert report.unsafe
    version = holdfast.convert(path, "m", store=tmp_path / "s")
    origin = version.record.params["converted_from"]
    assert any("left out: it holds Python code (Lambda)" in note for note in origin["notes"])
    assert "config" not in " ".join(entry.name for entry in version.content.files)


def test_a_damaged_weights_file_inside_an_archive_is_refused(tmp_path):
    path = keras_archive(tmp_path / "m.keras", CONFIG)
    data = bytearray(path.read_bytes())
    place = data.index(b"\x89HDF")
    data[place + 5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        read(path, "keras")
