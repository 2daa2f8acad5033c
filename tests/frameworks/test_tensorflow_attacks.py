"""Graphs that reach out, lie or are damaged are refused before TensorFlow reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="tensorflow is not installed")

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import holdfast
from holdfast.errors import Corrupt, HoldfastError, UnsafeContent, Unsupported
from holdfast.frameworks import tensorflow as adapter
from holdfast.frameworks.tensorflow import SavedModel
from holdfast.frameworks.tensorflow.files import write_folder
from holdfast.trust.source import Data
from holdfast.trust.tf_checkpoint import read_checkpoint
from holdfast.trust.tf_graph import describe_graph, describe_saved_model

pytestmark = pytest.mark.filterwarnings("ignore")
TEXT = tf.TensorSpec((), tf.string, name="x")
RAW = tf.raw_ops


def saved(path, function, spec=TEXT):
    module = tf.Module()
    module.weight = tf.Variable(np.ones((4, 2), "float32"))
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


def inside_a_branch(x):
    return tf.cond(tf.equal(x, "a"), lambda: tf.io.read_file("/etc/passwd"), lambda: x)


def inside_a_loop(x):
    return tf.while_loop(
        lambda i, _: i < 2, lambda i, _: (i + 1, tf.io.read_file("/etc/passwd")), (0, x)
    )[1]


def restored(x):
    return RAW.RestoreV2(prefix=x, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])[
        0
    ]


def stored(x):
    RAW.SaveV2(prefix=x, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
    return x


def merged(x):
    RAW.MergeV2Checkpoints(checkpoint_prefixes=[x], destination_prefix=x)
    return x


def printed(x):
    tf.print(x, output_stream="file:///tmp/holdfast-canary")
    return x


def of_a_dataset(x):
    return tf.data.TextLineDataset([x]).reduce(tf.constant(""), lambda _, line: line)


def written_out(x):
    tf.io.write_file("/tmp/holdfast-canary", x)
    return x


REACHING = {
    "a file is read": tf.io.read_file,
    "a file is written": written_out,
    "files are listed": tf.io.matching_files,
    "Python is called": lambda x: tf.py_function(lambda y: y, [x], tf.string),
    "numpy is called": lambda x: tf.numpy_function(lambda y: y, [x], tf.string),
    "in a branch": inside_a_branch,
    "in a loop": inside_a_loop,
    "a checkpoint is read": restored,
    "a checkpoint is written": stored,
    "checkpoints are merged": merged,
    "a file is printed to": printed,
    "lines of a file": of_a_dataset,
    "a proto of a file": lambda x: (
        RAW.DecodeProtoV2(
            bytes=x,
            message_type="a.B",
            field_names=[],
            output_types=[],
            descriptor_source="/etc/passwd",
        ).sizes
    ),
    "memory of a file": lambda x: RAW.ImmutableConst(
        dtype=tf.float32, shape=[1], memory_region_name="/etc/passwd"
    ),
}


@pytest.mark.parametrize("name", REACHING)
def test_graphs_that_reach_out_are_refused(tmp_path, name):
    folder = saved(tmp_path / "model", REACHING[name])
    report = holdfast.scan(folder)
    assert (report.unsafe, report.takes) == (True, None)
    with pytest.raises(UnsafeContent, match="reaches out"):
        adapter.open_folder(folder)
    with pytest.raises(UnsafeContent, match="reaches out"):
        _ = SavedModel({"saved_model.pb": (folder / "saved_model.pb").read_bytes()}).root
    assert not Path("/tmp/holdfast-canary").exists()


def test_a_table_of_a_file_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    module = tf.Module()
    lines = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )  # fmt: skip
    module.table = tf.lookup.StaticHashTable(lines, -1)
    module.serve = tf.function(
        module.table.lookup, input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.serve)
    with pytest.raises((UnsafeContent, Unsupported)) as caught:
        adapter.open_folder(tmp_path / "model")
    assert "KeyValueTensorInitializer" in caught.value.hint or "mv" in caught.value.hint


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    place = tmp_path_factory.mktemp("sound") / "model"
    saved(place, lambda x: tf.strings.length(x) + tf.cast(tf.reduce_sum(tf.ones(3)), tf.int32))
    return place


@pytest.fixture
def files(sound):
    return {
        path.relative_to(sound).as_posix(): path.read_bytes()
        for path in sound.rglob("*")
        if path.is_file()
    }


def changed(files, change):
    model = saved_model_pb2.SavedModel.FromString(files["saved_model.pb"])
    change(model)
    return SavedModel({**files, "saved_model.pb": model.SerializeToString()})


def test_as_it_is_it_is_offered_and_loaded(files, sound):
    assert holdfast.scan(sound).takes == "data"
    assert SavedModel(files).root is not None


def a_node(graph_or_function, op, **attributes):
    node = graph_or_function.add()
    node.name, node.op = f"added_{op}", op
    return node


CHANGES = {
    "in a function that nobody calls": lambda m: a_node(
        m.meta_graphs[0].graph_def.library.function[0].node_def, "ReadFile"
    ),
    "in the graph around": lambda m: a_node(m.meta_graphs[0].graph_def.node, "PyFunc"),
    "an operator of somebody else": lambda m: a_node(m.meta_graphs[0].graph_def.node, "MyCustomOp"),
    "an operator without a name": lambda m: a_node(m.meta_graphs[0].graph_def.node, ""),
    "a second graph": lambda m: m.meta_graphs.add().CopyFrom(m.meta_graphs[0]),
    "no objects": lambda m: m.meta_graphs[0].ClearField("object_graph_def"),
    "an asset": lambda m: m.meta_graphs[0].asset_file_def.add(filename="../../etc/passwd"),
    "no graph": lambda m: m.ClearField("meta_graphs"),
    "a function twice": lambda m: (
        m.meta_graphs[0]
        .graph_def.library.function.add()
        .CopyFrom(m.meta_graphs[0].graph_def.library.function[0])
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_graphs_are_refused_and_not_offered(files, name, tmp_path):
    model = changed(files, CHANGES[name])
    with pytest.raises((UnsafeContent, Unsupported, Corrupt)):
        _ = model.root
    write_folder(model, tmp_path / "model")
    assert holdfast.scan(tmp_path / "model").takes is None


def test_writing_a_checkpoint_is_refused_where_an_object_reaches_it(files):
    """The functions of checkpoints are no fault of a graph, until an object hands one out."""

    def offer(model):
        graph = model.meta_graphs[0]
        name = next(
            f.signature.name for f in graph.graph_def.library.function if "save" in f.signature.name
        )
        for node in graph.object_graph_def.nodes:
            if node.WhichOneof("kind") == "bare_concrete_function":
                node.bare_concrete_function.concrete_function_name = name
                return

    assert SavedModel(files).described.reaching == {}
    with pytest.raises(UnsafeContent, match=r"MergeV2Checkpoints|SaveV2|ShardedFilename"):
        _ = changed(files, offer).described


def test_signatures_that_are_none_are_refused(files):
    def rename(model):
        for node in model.meta_graphs[0].object_graph_def.nodes:
            for child in node.children:
                if child.local_name == "signatures":
                    child.local_name = "others"
                elif child.local_name == "weight":
                    child.local_name = "signatures"

    model = changed(files, rename)
    with pytest.raises(Corrupt):
        adapter.methods(model)


@pytest.mark.parametrize(
    "name", ["__class__", "__dict__", "__call__", "_track_trackable", "signatures", ""]
)
def test_names_of_objects_are_only_names(files, name):
    def rename(model):
        for node in model.meta_graphs[0].object_graph_def.nodes:
            for child in node.children:
                if child.local_name == "weight":
                    child.local_name = name

    model = changed(files, rename)
    try:
        assert isinstance(adapter.methods(model), tuple)
    except HoldfastError:
        return


def test_a_gradient_that_writes_is_refused(files):
    def offer(model):
        library = model.meta_graphs[0].graph_def.library
        name = next(f.signature.name for f in library.function if "save" in f.signature.name)
        library.registered_gradients.add(gradient_func=name, registered_op_type="X")

    with pytest.raises(UnsafeContent):
        _ = changed(files, offer).described


def test_a_constant_of_more_items_than_it_holds_is_refused(files):
    def bomb(model):
        node = a_node(model.meta_graphs[0].graph_def.node, "Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = 1
        tensor.float_val.append(1.0)
        tensor.tensor_shape.dim.add(size=1 << 40)

    with pytest.raises(Corrupt, match="constants"):
        _ = changed(files, bomb).described


def test_a_message_that_is_there_twice_is_refused(files):
    """A parser merges messages, so a second graph in the same place would hide from a reader."""
    meta = saved_model_pb2.SavedModel.FromString(files["saved_model.pb"]).meta_graphs[0]
    data = meta.SerializeToString()
    extra = saved_model_pb2.SavedModel().meta_graphs.add()
    extra.graph_def.node.add(name="x", op="ReadFile")
    joined = data + extra.SerializeToString()
    body = b"\x12" + _varint(len(joined)) + joined
    merged = saved_model_pb2.SavedModel.FromString(body)
    assert any(node.op == "ReadFile" for node in merged.meta_graphs[0].graph_def.node)
    with pytest.raises(HoldfastError):
        _ = SavedModel({**files, "saved_model.pb": body}).described


def _varint(number):
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def test_every_operator_is_seen_that_tensorflow_sees(files):
    model = saved_model_pb2.SavedModel.FromString(files["saved_model.pb"])
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    found = describe_saved_model(files["saved_model.pb"])
    assert sum(found.operators.values()) == len(nodes)
    assert set(found.operators) == {node.op for node in nodes}
    assert found.functions == [f.signature.name for f in graph.library.function]


class TestCheckpoints:
    def test_the_index_is_read_as_tensorflow_reads_it(self, sound, files):
        tensors = read_checkpoint(Data(files["variables/variables.index"])).tensors
        theirs = tf.train.list_variables(str(sound / "variables/variables"))
        assert [(t.name, list(t.shape)) for t in tensors] == theirs

    def test_many_tensors_of_every_kind(self, tmp_path):
        kinds = ["float16", "bfloat16", "float64", "int8", "uint64", "bool", "complex64", "string"]
        module = tf.Module()
        for number in range(300):
            kind = kinds[number % len(kinds)]
            value = tf.zeros((number % 5, 3), tf.as_dtype(kind)) if kind != "string" else ["a", "b"]
            setattr(module, f"v{number:03d}", tf.Variable(value, dtype=kind))
        tf.saved_model.save(module, str(tmp_path / "model"))
        index = (tmp_path / "model/variables/variables.index").read_bytes()
        theirs = tf.train.list_variables(str(tmp_path / "model/variables/variables"))
        assert [(t.name, list(t.shape)) for t in read_checkpoint(Data(index)).tensors] == theirs
        assert adapter.open_folder(tmp_path / "model").described

    def test_a_data_file_that_is_short_or_gone(self, files):
        data = "variables/variables.data-00000-of-00001"
        for content in (files[data][:-1], b""):
            with pytest.raises(Corrupt, match="beyond"):
                _ = SavedModel({**files, data: content}).root
        without = {name: content for name, content in files.items() if name != data}
        with pytest.raises(Corrupt, match="no file"):
            _ = SavedModel(without).root

    def test_damage(self, files):
        whole = files["variables/variables.index"]
        draw = np.random.default_rng(0)
        for _ in range(400):
            broken = bytearray(whole)
            for at in draw.integers(0, len(whole), 2):
                broken[at] ^= 1 << int(draw.integers(0, 8))
            try:
                read_checkpoint(Data(bytes(broken))).needs()
            except Corrupt:
                continue
        for end in range(len(whole)):
            with pytest.raises(Corrupt):
                read_checkpoint(Data(whole[:end]))


def test_damaged_graphs_are_refused_or_harmless(files):
    whole = files["saved_model.pb"]
    draw = np.random.default_rng(1)
    for number in range(300):
        broken = bytearray(whole)
        for at in draw.integers(0, len(whole), 2):
            broken[at] ^= 1 << int(draw.integers(0, 8))
        model = SavedModel({**files, "saved_model.pb": bytes(broken)})
        try:
            _ = model.described if number % 10 else model.root
        except HoldfastError:
            continue
    for end in range(0, len(whole), 97):
        try:
            _ = SavedModel({**files, "saved_model.pb": whole[:end]}).described
        except HoldfastError:
            continue


class TestFolders:
    @pytest.fixture
    def folder(self, sound, tmp_path):
        return Path(shutil.copytree(sound, tmp_path / "model"))

    def test_links_are_not_followed(self, folder):
        (folder / "saved_model.pb").rename(folder.parent / "away.pb")
        (folder / "saved_model.pb").symlink_to(folder.parent / "away.pb")
        with pytest.raises(UnsafeContent, match="link"):
            adapter.open_folder(folder)

    def test_folders_that_are_links_are_not_followed(self, folder):
        (folder / "variables").rename(folder.parent / "away")
        (folder / "variables").symlink_to(folder.parent / "away")
        with pytest.raises(UnsafeContent, match="link"):
            adapter.open_folder(folder)

    def test_other_files_are_told(self, folder):
        (folder / "saved_model.cpb").write_bytes(b"x")
        with pytest.raises(Unsupported, match="cpb"):
            adapter.open_folder(folder)

    def test_names_do_not_lead_out(self, files, tmp_path):
        model = SavedModel({**files, "variables/../../x": b""})
        with pytest.raises(Corrupt, match="no file of a SavedModel"):
            adapter.WRITES["savedmodel"](model, tmp_path / "out")


def test_a_graph_without_a_folder_is_described_and_not_run(tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        tf.io.read_file("/etc/passwd")
        tf.constant(1.0) + 1.0
    found = describe_graph(graph.as_graph_def().SerializeToString())
    assert list(found.reaching) == ["ReadFile"]
    assert found.operators["AddV2"] + found.operators["Add"] == 1


def test_nothing_is_run_where_it_is_only_read(sound):
    code = (
        "import sys; from pathlib import Path\n"
        "from holdfast.frameworks import tensorflow as adapter\n"
        "print(sorted(adapter.open_folder(Path(sys.argv[1])).described.signatures))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(sound)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "serving_default" in done.stdout
