"""The format's page says what the code does: its reader, its commands, its tables, its rules."""

import hashlib
import json
import math
import os
import re
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file

import holdfast
from holdfast.archive import layout, write
from holdfast.archive.checks import OUTCOMES, Check
from holdfast.catalogue import history
from holdfast.codec.audit import _JUDGES
from holdfast.codec.nodes import MAX_NODES
from holdfast.codec.tensors import ITEMSIZE, TensorData
from holdfast.record import (
    Content,
    LogEntry,
    Manifest,
    Record,
    Structure,
    TensorEntry,
    digest_of,
)

PAGE = Path(__file__).parent.parent / "docs" / "format" / "v1.md"
TEXT = PAGE.read_text("utf-8")
MIB = 1 << 20


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module", name="read")
def make_reader():
    scope = {}
    exec(compile(block("python"), str(PAGE), "exec"), scope)
    return scope["read"]


@pytest.fixture(name="store")
def make_store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    return holdfast.Store.create(tmp_path / "store")


def put(store, arrays, **record):
    """Make the next version of ``m`` from raw tensors, without any adapter."""
    tensors = {
        name: TensorData(dtype, shape, lambda data=data: memoryview(data))
        for name, (dtype, shape, data) in arrays.items()
    }
    written = write.write_tensors(store.blobs, tensors, known=frozenset())
    content = Content(
        framework="python", structure=Structure(nodes=(("none",),)), tensors=written.entries
    )
    content_id = write.write_document(store.blobs, content.encode())
    said = Record(content=content_id, created="2026-03-01T00:00:00.000000Z", author="ana", **record)
    record_id = write.write_document(store.blobs, said.encode())
    manifest = Manifest(content=content_id, record=record_id, pieces=written.pieces)
    manifest_id = write.write_document(store.blobs, manifest.encode())
    store.catalogue.add_version(
        "m", record=record_id, content=content_id, manifest=manifest_id, by="ana"
    )
    return written.pieces


def raw(dtype, *shape, seed=0):
    size = math.prod(shape) * ITEMSIZE[dtype]
    low = np.random.default_rng(seed).integers(0, 2, size, dtype=np.uint8)
    return dtype, shape, low.tobytes()  # bytes of 0 and 1 suit every dtype, BOOL too


ALL = {
    **{f"one.{dtype}": raw(dtype, 3, 5, seed=i) for i, dtype in enumerate(sorted(ITEMSIZE))},
    "big": raw("F32", 600, 600),
    "big odd": raw("U8", MIB + 1),
    "größe": raw("I16", 700_000),
    "none": raw("F64", 0, 7),
    "point": raw("F64"),
    **{f"group.{i}": raw("F32", 60_000, seed=i) for i in range(30)},
}


def test_page_is_short_enough():
    assert 1000 < len(TEXT.split()) < 2400  # ten minutes


def test_reader_is_short_and_uses_only_what_it_says():
    code = block("python")
    imports = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert imports == {"hashlib", "json", "pathlib", "safetensors"}
    assert len([line for line in code.splitlines() if line.strip()]) <= 35


def test_reader_returns_every_dtype_bit_for_bit(store, read):
    pieces = put(store, ALL, note="first")
    assert len(pieces) > 4
    tensors, record = read(store.path, "m@v1")
    assert tensors.keys() == ALL.keys()
    for name, (_dtype, shape, data) in ALL.items():
        assert tensors[name].shape == shape
        assert tensors[name].tobytes() == data
    assert record["note"] == "first"


def test_reader_returns_the_version_asked_for(store, read):
    for number in (1, 2, 3):
        put(store, {"w": raw("F32", 4, seed=number)}, metrics={"n": number})
    for number in (3, 1, 2):
        tensors, record = read(store.path, f"m@v{number}")
        assert tensors["w"].tobytes() == raw("F32", 4, seed=number)[2]
        assert record["metrics"] == {"n": number}
    with pytest.raises(LookupError):
        read(store.path, "m@v4")


@pytest.mark.parametrize("arrays", [{}, {"e": raw("F32", 0)}], ids=["no tensors", "only empty"])
def test_reader_takes_versions_without_bytes(store, read, arrays):
    put(store, arrays)
    tensors, record = read(store.path, "m@v1")
    assert {name: array.shape for name, array in tensors.items()} == {
        name: shape for name, (_, shape, _) in arrays.items()
    }
    assert record["author"] == "ana"


@pytest.mark.parametrize("victim", range(4))
def test_reader_refuses_a_damaged_blob(store, read, victim):
    pieces = put(store, {"big": raw("F32", 600, 600), "small": raw("F32", 3)})
    body = json.loads((store.path / "log/m/00000001.json").read_bytes())["body"]
    digest = [body["manifest"], body["record"], body["content"], pieces[1].digest][victim]
    path = store.path / "blobs" / "sha256" / digest[7:]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged or forged"):
        read(store.path, "m@v1")


def test_reader_refuses_a_broken_chain(store, read):
    put(store, {}, note="one")
    put(store, {}, note="two")
    first = store.path / "log/m/00000001.json"
    data = first.read_bytes()
    first.unlink()
    first.write_bytes(data.replace(b'"by":"ana"', b'"by":"eve"'))
    with pytest.raises(ValueError, match="damaged or forged"):
        read(store.path, "m@v2")


@pytest.mark.parametrize("order", ["C", "F"])
def test_reader_returns_what_save_kept(store, read, order):
    array = np.arange(600.0, dtype=np.float32).reshape(20, 30, order=order)
    version = holdfast.save({"w": array}, "m", store=store.path)
    tensors, record = read(store.path, version.ref)
    (only,) = tensors.values()
    assert only.dtype == array.dtype
    assert np.array_equal(only, array)
    assert record["content"] == version.content_id


def run_commands(store, folder):
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", block("sh")],
        cwd=store.path,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_check_and_join(store, tmp_path):
    put(store, {"w": raw("F32", 9, seed=8)})
    put(store, {name: item for name, item in ALL.items() if item[0] in ("F32", "F64", "U8")})
    done = run_commands(store, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    digests = [line.split()[0] for line in lines if line.endswith(".json")]
    assert len(digests) == 2
    assert lines[-1].endswith(f'"prev":"sha256:{digests[0]}"')
    joined = load_file(tmp_path / "model.safetensors")
    assert len(joined) > 30
    for name, array in joined.items():
        assert array.tobytes() == ALL[name][2]


def test_commands_see_a_flipped_bit(store, tmp_path):
    pieces = put(store, {"w": raw("F32", 9)})
    path = store.path / "blobs" / "sha256" / pieces[1].digest[7:]
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.unlink()
    path.write_bytes(data)
    assert run_commands(store, tmp_path).returncode != 0


def section(title):
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_node_table_lists_exactly_the_kinds():
    first = [line.split("|")[1] for line in section("Nodes").splitlines() if line.startswith("| `")]
    kinds = re.findall(r'\["([a-z0-9]+)"', " ".join(first))
    assert sorted(kinds) == sorted(_JUDGES)


def test_log_table_lists_exactly_the_kinds():
    kinds = re.findall(r"^\| `([a-z]+)` \|", section("Log"), re.MULTILINE)
    assert sorted(kinds) == sorted(history._FOLDS)


@pytest.mark.parametrize("document", [Content, Record, Manifest, LogEntry, Check])
def test_every_field_is_named(document):
    title = {Manifest: "**Manifest**", LogEntry: "**Log entry**"}.get(
        document, f"**{document.__name__}**"
    )
    part = section("Documents").split(title)[1].split("\n**")[0]
    fields = {field.name for field in msgspec.structs.fields(document)} - {"extra", "format"}
    assert fields <= set(re.findall(r"`([a-z]+)`", part))


def test_the_outcomes_of_checks_are_those_of_the_code():
    row = next(line for line in section("Documents").splitlines() if "`outcome`" in line)
    assert re.findall(r"`([a-z ]+)`", row)[1:] == [*OUTCOMES]


def test_limits_are_those_of_the_code():
    assert f"{MAX_NODES:,} nodes" in " ".join(TEXT.split())
    assert f"{layout.MAX_TENSORS:,} tensors" in TEXT


def pieces_by_the_page(tensors):
    """Cut as the page says, written from its words alone."""

    def size(tensor):
        return math.prod(tensor.shape) * ITEMSIZE[tensor.dtype]

    def order(tensor):
        big = size(tensor) >= MIB
        steady = big and size(tensor) % 8 == 0
        return (0 if steady else 1, -ITEMSIZE[tensor.dtype], 0 if big else 1, tensor.name.encode())

    pieces, group = [], []
    for tensor in sorted(tensors, key=order):
        held = sum(map(size, group))
        if size(tensor) >= MIB:
            if held:
                pieces.append(group)
                group = []
            pieces.append([*group, tensor])
            group = []
            continue
        if held + size(tensor) > 8 * MIB and held:
            pieces.append(group)
            group = []
        group.append(tensor)
        multiple = hashlib.sha256(tensor.name.encode()).digest()[0] % 4 == 0
        if sum(map(size, group)) >= MIB and multiple:
            pieces.append(group)
            group = []
    if sum(map(size, group)):
        pieces.append(group)
    elif group and pieces:
        pieces[-1] += group
    return [[tensor.name for tensor in piece] for piece in pieces]


LENGTHS = st.sampled_from(
    [0, 1, 3, 1000, 100_000, 131_071, 131_072, 400_000, MIB - 1, MIB, MIB + 1]
)


def entries(shapes):
    return [
        TensorEntry(name=f"t{i}", dtype=dtype, shape=(length,), digest=digest_of(b""))
        for i, (dtype, length) in enumerate(shapes)
    ]


def names(pieces):
    return [[entry.name for entry in piece] for piece in pieces]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(ITEMSIZE)), LENGTHS), max_size=60))
def test_pieces_are_cut_as_the_page_says(shapes):
    tensors = entries(shapes)
    planned = layout.plan(tensors)
    assert names(planned.pieces) == pieces_by_the_page(tensors)
    offset = len(planned.header)
    assert offset % 64 == 0
    for entry in planned.entries:
        assert offset % ITEMSIZE[entry.dtype] == 0
        offset += layout.nbytes(entry)


@pytest.mark.parametrize("seed", range(4))
def test_groups_close_as_the_page_says(seed):
    rng = np.random.default_rng(seed)
    shapes = [("F32", int(length)) for length in rng.integers(0, (MIB - 1) // 4, 400)]
    planned = layout.plan(entries(shapes))
    assert names(planned.pieces) == pieces_by_the_page(entries(shapes))
    assert max(planned.sizes) > 7 * MIB  # the upper limit was met, not only the names
