"""ONNX files made to harm: refused with an error of ours, in bounded time, and nothing opened.

Names of the weaknesses that others had: CVE-2022-25882 and CVE-2024-27318 (external data out of
the folder), CVE-2026-27489 (through a link), CVE-2026-34445 (fields of the reader set by the file),
CVE-2025-51480 (files overwritten by an export).
"""

import os
import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import holdfast
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.frameworks import LoadOptions, Opened
from holdfast.record import Structure
from holdfast.trust import onnx_graph

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check above

from holdfast.codec import audit  # noqa: E402 - same
from holdfast.frameworks import onnx as adapter, registry  # noqa: E402 - same
from holdfast.frameworks.onnx import OnnxFile  # noqa: E402 - same

FLOAT = TensorProto.FLOAT
WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)
BYTES = WEIGHTS.tobytes()


def value(name, shape=("n",)):
    return helper.make_tensor_value_info(name, FLOAT, list(shape))


def model_of(nodes, tensors=(), domains=("",), **more):
    sides = [value("x", ("n", 3))], [value("y")]
    graph = helper.make_graph(list(nodes), "g", *sides, list(tensors))
    sets = [helper.make_opsetid(name, 1 if name else 17) for name in domains]
    made = helper.make_model(graph, opset_imports=sets, **more)
    made.ir_version = 8
    return made


def matmul(tensor):
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor])


def outside(location="w.bin", *, tensor=None, **told):
    tensor = numpy_helper.from_array(WEIGHTS, "w") if tensor is None else tensor
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **told}.items():
        tensor.external_data.add(key=key, value=text)
    return matmul(tensor)


def written(folder, model, weights=BYTES, name="w.bin"):
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    if weights is not None:
        (folder / name).write_bytes(weights)
    return path


def save(path, tmp_path):
    live = adapter.open_file(path)
    return holdfast.save(live, "m", golden=None, store=tmp_path / "store")


def opened(files):
    structure = Structure(nodes=(("none",),))
    views = {name: memoryview(bytes(data)) for name, data in files.items()}
    found = audit(structure, {}, registry(), views)
    return Opened(structure=structure, audit=found, tensors={}, files=views, facts={})


def load(files):
    return adapter.unpack(opened(files), registry(), LoadOptions())


class TestFilesOutside:
    @pytest.mark.parametrize(
        "location",
        [
            "../w.bin", "a/../../w.bin", "/etc/passwd", "./w.bin", "a//w.bin", "..", ".", "",
            "..\\w.bin", "C:w.bin", "C:\\w.bin", "w.bin\x00.txt", "a/./w.bin", "w.bin/", "~\x7f",
            "\uff0e\uff0e/w.bin", "w\u202ebin", "e\u0301.bin",
            "\\\\host\\share", "file:///etc/passwd", "x" * 5000, "\t../w.bin",
        ],
    )  # fmt: skip
    def test_a_place_out_of_the_folder_or_of_two_readings_is_refused(self, tmp_path, location):
        (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
        path = written(tmp_path / "m", outside(location))
        with pytest.raises(Corrupt, match="not inside the folder"):
            save(path, tmp_path)
        with pytest.raises(Corrupt):
            load({"model.onnx": path.read_bytes(), "w.bin": WEIGHTS.tobytes()})

    @pytest.mark.parametrize("kind", ["file", "folder", "chain"])
    def test_a_link_is_not_followed(self, tmp_path, kind):
        secret = tmp_path / "secret"
        secret.mkdir()
        (secret / "w.bin").write_bytes(WEIGHTS.tobytes())
        path = written(tmp_path / "m", outside("w.bin" if kind == "file" else "d/w.bin"), None)
        if kind == "file":
            (path.parent / "w.bin").symlink_to(secret / "w.bin")
        elif kind == "folder":
            (path.parent / "d").symlink_to(secret)
        else:
            (path.parent / "d").mkdir()
            (path.parent / "d" / "w.bin").symlink_to("../../secret/w.bin")
        with pytest.raises(UnsafeContent, match="link") as caught:
            save(path, tmp_path)
        assert caught.value.exit_code == 6

    def test_a_hard_link_a_pipe_a_folder_and_a_device_are_no_files_of_the_model(self, tmp_path):
        path = written(tmp_path / "m", outside(), None)
        place = path.parent / "w.bin"
        other = tmp_path / "other"
        other.write_bytes(WEIGHTS.tobytes())
        os.link(other, place)
        with pytest.raises(UnsafeContent, match="hard links"):
            save(path, tmp_path)
        place.unlink()
        os.mkfifo(place)
        with pytest.raises(UnsafeContent, match="no file"):
            save(path, tmp_path)
        place.unlink()
        place.mkdir()
        with pytest.raises(HoldfastError):
            save(path, tmp_path)

    def test_a_model_that_is_itself_a_pipe_does_not_keep_us_waiting(self, tmp_path):
        os.mkfifo(tmp_path / "model.onnx")
        with pytest.raises(HoldfastError):
            adapter.open_file(tmp_path / "model.onnx")

    def test_a_file_of_the_working_directory_is_never_taken(self, tmp_path, monkeypatch):
        """Checker and runtime look there for what a model in memory lacks."""
        (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
        monkeypatch.chdir(tmp_path)
        model = outside()
        for given_files in ({}, {"other.bin": WEIGHTS.tobytes()}):
            live = OnnxFile(model.SerializeToString(), given_files)
            with pytest.raises((Corrupt, Unsupported)):
                holdfast.save(live, "m", store=tmp_path / "store")
            assert adapter.methods(live) == ()
        with pytest.raises(Corrupt, match="missing"):
            load({"model.onnx": model.SerializeToString()})

    @pytest.mark.parametrize(
        "told",
        [
            {"offset": "1"}, {"offset": "48"}, {"offset": "-1"}, {"offset": "9" * 20},
            {"offset": "0x0"}, {"offset": "\u0661"}, {"offset": " 0"}, {"offset": ""},
            {"length": "47"}, {"length": "49"}, {"length": "-48"}, {"length": "1e9"},
            {"offset": "9223372036854775807"},
        ],
    )  # fmt: skip
    def test_a_lie_about_where_the_bytes_are_is_refused(self, tmp_path, told):
        with pytest.raises(Corrupt):
            save(written(tmp_path / "m", outside(**told)), tmp_path)

    def test_a_file_too_short_is_refused_and_a_longer_one_is_not(self, tmp_path):
        with pytest.raises(Corrupt, match="which has 47"):
            save(written(tmp_path / "short", outside(), bytes(47)), tmp_path)
        with pytest.raises(Corrupt):
            save(written(tmp_path / "empty", outside(), b""), tmp_path)
        save(written(tmp_path / "long", outside(offset="4"), bytes(64)), tmp_path)

    @pytest.mark.parametrize(
        "key", ["__class__", "name", "basedir", "location ", "LOCATION", "offset\x00"]
    )
    def test_a_key_that_is_not_of_the_format_is_refused(self, tmp_path, key):
        with pytest.raises(Corrupt, match="says of its file"):
            save(written(tmp_path / "m", outside(**{key: "x"})), tmp_path)

    def test_a_key_twice_is_refused(self, tmp_path):
        model = outside()
        model.graph.initializer[0].external_data.add(key="location", value="../w.bin")
        with pytest.raises(Corrupt, match="says of its file"):
            save(written(tmp_path / "m", model), tmp_path)

    def test_values_here_and_in_a_file_are_refused(self, tmp_path):
        model = outside()
        model.graph.initializer[0].raw_data = WEIGHTS.tobytes()
        with pytest.raises(Corrupt, match="values here"):
            save(written(tmp_path / "m", model), tmp_path)
        model = matmul(numpy_helper.from_array(WEIGHTS, "w"))
        model.graph.initializer[0].external_data.add(key="location", value="w.bin")
        with pytest.raises(Corrupt, match="says both"):
            save(written(tmp_path / "m", model), tmp_path)

    def test_two_places_that_some_file_systems_take_for_one_are_refused(self):
        first, second = (numpy_helper.from_array(WEIGHTS, name) for name in "wv")
        model = outside("w.bin", tensor=first)
        model.graph.initializer.append(outside("W.bin", tensor=second).graph.initializer[0])
        data = model.SerializeToString()
        with pytest.raises(Corrupt, match="one name"):
            load({"model.onnx": data, "w.bin": WEIGHTS.tobytes(), "W.bin": WEIGHTS.tobytes()})
        with pytest.raises(Corrupt, match="one name"):
            load({"model.onnx": outside("model.onnx").SerializeToString()})

    @pytest.mark.parametrize("where", ["constant", "subgraph", "function", "sparse", "training"])
    def test_no_tensor_of_a_file_is_overlooked(self, tmp_path, where):
        tensor = outside("../w.bin").graph.initializer[0]
        constant = helper.make_node("Constant", [], ["c"], value=tensor)
        model = model_of([helper.make_node("Identity", ["x"], ["y"])])
        if where == "constant":
            model.graph.node.append(constant)
        elif where == "subgraph":
            branch = helper.make_graph([constant], "b", [], [value("c")])
            both = {"then_branch": branch, "else_branch": branch}
            model.graph.node.append(helper.make_node("If", ["x"], ["z"], **both))
        elif where == "function":
            sets = [helper.make_opsetid("", 17)]
            model.functions.append(helper.make_function("f", "F", [], ["c"], [constant], sets))
        elif where == "sparse":
            indices = numpy_helper.from_array(np.arange(12, dtype=np.int64), "i")
            model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [12]))
        else:
            model.training_info.add().algorithm.node.append(constant)
        with pytest.raises(Corrupt, match="not inside the folder"):
            save(written(tmp_path / "m", model), tmp_path)

    def test_an_export_leaves_the_files_of_others_alone(self, tmp_path):
        live = adapter.open_file(written(tmp_path / "m", outside()))
        target = tmp_path / "out"
        target.mkdir()
        (target / "w.bin").symlink_to(tmp_path / "created-through-a-link")
        with pytest.raises((HoldfastError, FileExistsError)):
            adapter.WRITES["onnx"](live, target / "x.onnx")
        assert not (tmp_path / "created-through-a-link").exists()
        forged = OnnxFile(outside("../w.bin").SerializeToString(), {"../w.bin": bytes(48)})
        with pytest.raises(Corrupt):
            adapter.WRITES["onnx"](forged, target / "y.onnx")


def test_a_path_given_to_save_is_judged_before_it_is_opened(tmp_path):
    reaching = model_of([helper.make_node("PyOp", ["x"], ["y"], domain="pyop")], domains=("pyop",))
    for number, model in enumerate((outside("../w.bin"), reaching)):
        path = written(tmp_path / str(number), model)
        with pytest.raises((UnsafeContent, Corrupt)):
            holdfast.save(path, "m", store=tmp_path / "store")


class TestLies:
    @pytest.mark.parametrize(
        "dims",
        [[-1], [-1, -12], [2**62], [2**31, 2**31, 2**31], [2**63 - 1], [1] * 65, [13], [3, 4, 0]],
    )
    def test_dimensions_that_the_bytes_do_not_fill_are_refused(self, dims):
        model = matmul(numpy_helper.from_array(WEIGHTS, "w"))
        model.graph.initializer[0].dims[:] = dims
        with pytest.raises(Corrupt):
            load({"model.onnx": model.SerializeToString()})

    def test_huge_dimensions_of_an_empty_tensor_cost_nothing(self):
        model = matmul(numpy_helper.from_array(WEIGHTS, "w"))
        tensor = model.graph.initializer[0]
        tensor.dims[:], tensor.raw_data = [0, 2**40], b""
        found = onnx_graph.describe(model.SerializeToString())
        assert found.tensors[0].shape == (0, 2**40)

    @pytest.mark.parametrize("kind", [0, 29, 1000, -1, 8])
    def test_a_type_that_is_none_or_does_not_fit_is_refused(self, kind):
        model = matmul(numpy_helper.from_array(WEIGHTS, "w"))
        model.graph.initializer[0].data_type = kind
        with pytest.raises(Corrupt):
            load({"model.onnx": model.SerializeToString()})

    @pytest.mark.parametrize(
        ("field", "count"),
        [("float_data", 11), ("float_data", 13), ("int32_data", 12), ("int64_data", 12),
         ("double_data", 12), ("uint64_data", 12)],
    )  # fmt: skip
    def test_typed_values_of_another_number_or_type_are_refused(self, field, count):
        tensor = helper.make_tensor("w", FLOAT, [3, 4], [0.0] * 12)
        tensor.ClearField("float_data")
        getattr(tensor, field).extend([1] * count)
        with pytest.raises(Corrupt, match="values of"):
            load({"model.onnx": matmul(tensor).SerializeToString()})

    def test_values_in_two_ways_are_refused(self):
        tensor = helper.make_tensor("w", FLOAT, [3, 4], [0.0] * 12)
        tensor.raw_data = bytes(48)
        with pytest.raises(Corrupt):
            load({"model.onnx": matmul(tensor).SerializeToString()})

    def test_a_second_graph_hides_nothing(self):
        harmless = model_of([helper.make_node("Identity", ["x"], ["y"])]).SerializeToString()
        other = model_of([helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")])
        graph = onnx.ModelProto()
        graph.graph.CopyFrom(other.graph)
        for data in (harmless + graph.SerializeToString(), graph.SerializeToString() + harmless):
            with pytest.raises(Corrupt, match="2 times"):
                load({"model.onnx": data})

    def test_a_version_of_the_operators_cannot_be_two(self):
        model = model_of([helper.make_node("Identity", ["x"], ["y"])])
        model.opset_import.append(helper.make_opsetid("ai.onnx", 3))
        with pytest.raises(Corrupt, match="two versions"):
            load({"model.onnx": model.SerializeToString()})

    def test_a_field_that_nobody_knows_is_not_kept(self, tmp_path):
        data = model_of([helper.make_node("Identity", ["x"], ["y"])]).SerializeToString()
        path = written(tmp_path / "m", data + b"\xfa\x3e\x03abc", None)
        with pytest.raises(Unsupported, match="field 1007 of ModelProto"):
            save(path, tmp_path)

    @pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\x08", b"\xff" * 100, b"\x0b" * 100])
    def test_what_is_no_model_is_refused(self, data):
        with pytest.raises(Corrupt):
            load({"model.onnx": data})

    def test_a_version_without_its_file_is_refused(self):
        with pytest.raises(Corrupt, match=r"model\.onnx"):
            load({"other.onnx": b""})


class TestOperators:
    @pytest.mark.parametrize(
        ("domain", "name"),
        [
            ("com.microsoft", "EPContext"), ("com.microsoft", "Snpe"), ("com.microsoft", "PyOp"),
            ("", "PyOp"), ("ai.onnx", "PyOp"), ("pyop", "Anything"), ("ai.onnx.contrib", "PyOp"),
            ("ai.onnx.contrib", "SentencepieceTokenizer"), ("org.pytorch.aten", "ATen"),
            ("com.microsoft.extensions", "AzureTextToText"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("depth", [0, 1, 20])
    def test_what_reaches_out_is_refused_wherever_it_is(self, tmp_path, domain, name, depth):
        node = helper.make_node(name, ["x"], ["y"], domain=domain)
        for _ in range(depth):
            branch = helper.make_graph([node], "b", [], [value("y")])
            node = helper.make_node("If", ["x"], ["y"], then_branch=branch)
        model = model_of([node], domains=("", domain) if domain not in ("", "ai.onnx") else ("",))
        with pytest.raises(UnsafeContent, match=name) as caught:
            save(written(tmp_path / "m", model, None), tmp_path)
        assert caught.value.exit_code == 6
        with pytest.raises(UnsafeContent):
            load({"model.onnx": model.SerializeToString()})

    @pytest.mark.parametrize(
        ("domain", "name"),
        [("", "Relu6"), ("acme", "Relu"), ("com.microsoft", "New"), ("", "relu")],
    )
    def test_what_nobody_knows_is_named(self, tmp_path, domain, name):
        node = helper.make_node(name, ["x"], ["y"], domain=domain)
        model = model_of([node], domains=("", domain) if domain else ("",))
        with pytest.raises(Unsupported, match=name):
            save(written(tmp_path / "m", model, None), tmp_path)

    def test_a_function_cannot_give_a_good_name_to_what_reaches_out(self, tmp_path):
        body = [helper.make_node("EPContext", ["a"], ["b"], domain="com.microsoft")]
        sets = [helper.make_opsetid("com.microsoft", 1)]
        good = helper.make_function("", "Relu", ["a"], ["b"], body, sets)
        shadow = helper.make_function("ai.onnx.contrib", "PyOp", ["a"], ["b"], [], sets)
        for function, node in (
            (good, helper.make_node("Relu", ["x"], ["y"])),
            (shadow, helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib")),
        ):
            with pytest.raises(UnsafeContent):
                save(
                    written(tmp_path / "m", model_of([node], functions=[function]), None), tmp_path
                )


def nested(depth):
    """Return the bytes of a model whose graph holds graphs, each in an attribute of the other."""

    def field(number, data):
        size, length = len(data), b""
        while size >= 0x80:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    graph = field(1, field(4, b"Identity"))
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(6, graph)))
    return b"\x08\x08" + field(7, graph)


class TestBombs:
    def test_graphs_inside_graphs_end_at_a_depth(self):
        assert onnx_graph.describe(nested(10)).operators["If"] == 10
        for depth in (100, 5_000):
            with pytest.raises(Corrupt, match="deep"):
                load({"model.onnx": nested(depth)})

    @pytest.mark.slow
    def test_a_flood_of_fields_ends(self):
        with pytest.raises(Corrupt):
            onnx_graph.describe(b"\x08\x08" + b"\x3a\x80\x80\x80\x08" + b"\x0a\x00" * (1 << 23))

    def test_a_flood_of_names_is_listed_in_time_that_grows_with_it(self):
        nodes = [helper.make_node(f"Op{number}", [], [], domain="a") for number in range(20_000)]
        data = model_of(nodes, domains=("", "a")).SerializeToString()
        assert len(onnx_graph.describe(data).unknown) == 20_000

    def test_a_flood_of_values_is_counted_without_being_read(self):
        data = bytes(2 << 20)
        tensor = TensorProto(dims=[len(data)], data_type=TensorProto.INT64, name="w")
        tensor.int64_data.extend([0] * len(data))
        model = matmul(tensor).SerializeToString()
        assert onnx_graph.describe(model).tensor_bytes == 8 * len(data)


FOUR = helper.make_tensor("t", FLOAT, [4], range(4))
SMALL = model_of(
    [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="n"),
        helper.make_node("Constant", [], ["c"], value=FOUR),
        helper.make_node("Add", ["p", "c"], ["y"]),
    ],
    [numpy_helper.from_array(WEIGHTS, "w")],
).SerializeToString()


def harmless(data):
    """Take bytes through every step that reads them; nothing but our own errors may come out."""
    try:
        live = OnnxFile(data)
        load({"model.onnx": data})
        adapter.methods(live)
        adapter.pack(live, registry())
    except HoldfastError:
        pass


def test_a_file_cut_at_any_byte_is_refused_or_harmless():
    for end in range(len(SMALL)):
        harmless(SMALL[:end])


def test_any_flipped_bit_is_refused_or_harmless():
    for position in range(len(SMALL)):
        for bit in range(8):
            data = bytearray(SMALL)
            data[position] ^= 1 << bit
            harmless(bytes(data))


def test_bytes_put_together_at_random_are_refused_or_harmless():
    chance = random.Random(1)
    for _ in range(1500):
        data = bytearray(SMALL)
        for _ in range(chance.randint(1, 6)):
            at, size = chance.randrange(len(data)), chance.randint(1, 12)
            data[at : at + chance.randint(0, size)] = chance.randbytes(size)
        harmless(bytes(data))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_none(data):
    try:
        onnx_graph.describe(data)
    except Corrupt:
        return
    onnx.load_model_from_string(data)  # what is called a model, onnx reads too


VARINTS = st.integers(0, 2**64 - 1)


@st.composite
def messages(draw, depth=3):
    def varint(number):
        out = b""
        while number >= 0x80:
            out += bytes([number & 0x7F | 0x80])
            number >>= 7
        return out + bytes([number])

    data = b""
    for _ in range(draw(st.integers(0, 6))):
        number, wire = draw(st.integers(1, 26)), draw(st.sampled_from([0, 1, 2, 2, 2, 5]))
        data += varint(number << 3 | wire)
        if wire == 0:
            data += varint(draw(VARINTS))
        elif wire in (1, 5):
            data += draw(st.binary(min_size=8 if wire == 1 else 4, max_size=8 if wire == 1 else 4))
        else:
            inner = draw(messages(depth=depth - 1)) if depth else draw(st.binary(max_size=20))
            data += varint(len(inner)) + inner
    return data


@settings(max_examples=150, deadline=None)
@given(messages())
def test_any_messages_are_a_model_or_none(data):
    try:
        found = onnx_graph.describe(b"\x08\x08" + data)
    except Corrupt:
        return
    assert found.ir_version == 8
