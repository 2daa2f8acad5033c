"""The structure of HDF5 files, read without the library, is what the library says it is."""

from __future__ import annotations

import io
import struct

import h5py
import numpy as np
import pytest

from holdfast.trust.hdf5 import read_hdf5
from holdfast.trust.source import Data

VERSIONS = ["earliest", "v108", "v110", "v112", "latest"]


def written(fill, **how):
    file = io.BytesIO()
    with h5py.File(file, "w", **how) as h:
        fill(h)
    return file.getvalue()


def fill(h, many=3):
    inner = h.create_group("a/b/c")
    inner["plain"] = np.arange(6.0).reshape(2, 3)
    inner["half"] = np.zeros(2, "f2")
    inner["big"] = np.zeros(2, ">f8")
    inner["byte"] = np.zeros(3, "u1")
    inner["flag"] = np.zeros(2, bool)
    inner["record"] = np.zeros(3, dtype=[("a", "f4"), ("b", "i8")])
    inner["scalar"] = np.float32(3)
    inner["text"] = "words"
    inner["fixed"] = np.array([b"ab", b"c"])
    inner["nothing"] = h5py.Empty("f4")
    inner.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype("i4"))
    inner.create_dataset("nested", (2,), dtype=np.dtype(("f4", (3,))))
    inner.create_dataset("chunks", data=np.zeros((50, 4), "i4"), chunks=(10, 4),
                         compression="gzip", shuffle=True, fletcher32=True)  # fmt: skip
    h["type"] = np.dtype("f8")
    h.create_dataset("named", (2,), dtype=h["type"])
    for number in range(many):
        h[f"many/k{number}"] = np.float32(number)
        h.attrs[f"n{number}"] = number
    h.attrs["version"] = "3.9.0"
    h.attrs["bytes"] = np.bytes_(b"abc")
    h.attrs["names"] = np.array([b"ab", b"c"])
    h.attrs["texts"] = ["x", "yy"]
    h.attrs["real"] = 1.5
    h.attrs["negative"] = np.int32(-7)
    h.attrs["long"] = "z" * 70_000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("many", [3, 300])
def test_every_generation_of_the_format_is_read(version, ordered, many):
    data = written(lambda h: fill(h, many), libver=version, track_order=ordered)
    found = read_hdf5(Data(data))
    assert found.faults == found.links == []
    told = {}
    with h5py.File(io.BytesIO(data)) as h:
        h.visititems(lambda name, item: told.update({f"/{name}": item}))
        datasets = {path: item for path, item in told.items() if isinstance(item, h5py.Dataset)}
        groups = {path for path, item in told.items() if isinstance(item, h5py.Group)}
        assert {d.path for d in found.datasets} == datasets.keys()
        assert groups <= set(found.groups)
        for dataset in found.datasets:
            same = datasets[dataset.path]
            assert dataset.shape == (same.shape if same.shape is not None else (0,)), dataset
            offset = same.id.get_offset()
            if offset is not None:
                assert dataset.start == offset
            if same.dtype.kind in "fiu" and same.dtype.subdtype is None:
                assert np.dtype(dataset.dtype) == same.dtype
    attributes = found.attributes["/"]
    assert attributes["version"] == "3.9.0"
    assert attributes["bytes"] == "abc"
    assert attributes["names"] == ["ab", "c"]
    assert attributes["texts"] == ["x", "yy"]
    assert (attributes["real"], attributes["negative"]) == (1.5, -7)
    assert attributes["long"] == "z" * 70_000
    assert [attributes[f"n{number}"] for number in range(many)] == list(range(many))


def test_layouts_and_filters_are_told():
    found = read_hdf5(Data(written(fill)))
    by_name = {d.path.rpartition("/")[2]: d for d in found.datasets}
    assert by_name["chunks"].layout == "chunked"
    assert sorted(by_name["chunks"].filters) == ["deflate", "fletcher32", "shuffle"]
    assert by_name["plain"].layout == "contiguous"
    assert by_name["record"].dtype == "record"
    assert by_name["ragged"].dtype == "list of <i4"
    assert by_name["text"].dtype == "text"
    assert by_name["fixed"].dtype == "|S2"


def test_an_attribute_beyond_the_header_is_read_from_its_heap():
    def large(h):
        h.attrs["config"] = np.bytes_(b"c" * 100_000)
        for number in range(20):
            h.attrs[f"a{number}"] = np.bytes_(b"d" * 3_000)

    found = read_hdf5(Data(written(large, libver="latest")))
    assert found.faults == []
    assert found.attributes["/"]["config"] == "c" * 100_000
    assert found.attributes["/"]["a7"] == "d" * 3_000


@pytest.mark.parametrize("block", [512, 1024, 4096])
def test_a_file_behind_a_user_block_is_read(tmp_path, block):
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=block) as h:
        h["d"] = np.arange(3.0)
    found = read_hdf5(Data((tmp_path / "x.h5").read_bytes()))
    assert (found.start, found.faults) == (block, [])
    (dataset,) = found.datasets
    raw = (tmp_path / "x.h5").read_bytes()[dataset.start : dataset.start + dataset.size]
    assert np.frombuffer(raw).tolist() == [0, 1, 2]


def test_an_object_with_many_paths_is_described_once_and_circles_end():
    def circle(h):
        h["a/b/c"] = np.ones(2)
        h["a/b/up"] = h["a"]
        h["again"] = h["a/b/c"]
        h["root"] = h["/"]

    found = read_hdf5(Data(written(circle)))
    assert len(found.datasets) == 1
    assert len(found.shared) == 3
    assert found.faults == []


def test_links_are_told_and_not_followed():
    def linked(h):
        h["soft"] = h5py.SoftLink("/nowhere")
        h["out"] = h5py.ExternalLink("/etc/passwd", "/x")

    for version in VERSIONS:
        found = read_hdf5(Data(written(linked, libver=version)))
        assert {(link.path, link.kind, link.target) for link in found.links} == {
            ("/soft", "soft", "/nowhere"),
            ("/out", "external", "/etc/passwd:/x"),
        }


def test_damage_in_one_object_leaves_the_others_readable():
    data = bytearray(written(lambda h: [h.create_dataset(n, data=np.ones(2)) for n in "abc"]))
    whole = read_hdf5(Data(bytes(data)))
    with h5py.File(io.BytesIO(bytes(data))) as h:
        place = h5py.h5o.get_info(h["b"].id).addr
    data[place] = 0xFF
    found = read_hdf5(Data(bytes(data)))
    assert len(whole.datasets) == 3
    assert [d.path for d in found.datasets] == ["/a", "/c"]
    assert len(found.faults) == 1


def test_groups_that_are_nested_beyond_reason_end():
    def deep(h):
        group = h
        for _ in range(260):
            group = group.create_group("g")

    found = read_hdf5(Data(written(deep)))
    assert any("deep" in what for what, _ in found.faults)


def test_a_tree_that_leads_to_itself_ends():
    data = bytearray(written(lambda h: [h.create_group(f"g{n}") for n in range(400)]))
    tree = data.find(b"TREE")
    width = struct.unpack_from("<H", data, tree + 6)[0]
    for child in range(width):  # keys and children of 8 bytes each, after 24 bytes
        struct.pack_into("<Q", data, tree + 24 + 16 * child + 8, tree)
    found = read_hdf5(Data(bytes(data)))
    assert found.groups == ["/"]
