"""The page of bundles says what the code does."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast.archive import oci

PAGE = Path(__file__).parent.parent / "docs" / "format" / "bundle.md"
TEXT = PAGE.read_text("utf-8")
MODEL = {"w": np.arange(3e5), "b": np.ones(3, "i4")}


@pytest.fixture(name="file")
def one_bundle(tmp_path):
    store = holdfast.Store.create(tmp_path / "store")
    holdfast.save([1], "none", store=store)
    holdfast.save(MODEL, "m", note="here", store=store)
    store.bundle(["m", "none"], tmp_path / "m.hold")
    return tmp_path / "m.hold"


def test_its_reader_reads_what_the_code_writes(file):
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 24
    scope = {}
    exec(compile(code, str(PAGE), "exec"), scope)
    tensors, record = scope["read"](file, "m@v1")
    assert {name: array.tolist() for name, array in tensors.items()} == {
        name: array.tolist() for name, array in MODEL.items()
    }
    assert record["note"] == "here"
    assert scope["read"](file, "none@v1")[0] == {}


def test_its_tables_name_what_is_written(file):
    with tarfile.open(file) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))
        first = index["manifests"][0]["digest"][7:]
        manifest = json.load(archive.extractfile(f"blobs/sha256/{first}"))
    (layout,) = re.findall(r"^```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    members = {line.split()[0] for line in layout.splitlines()} - {"log/<name>/<seq>.json"}
    assert {re.sub("[0-9a-f]{64}", "<hex>", name) for name in names} == members
    told = dict(re.findall(r"^\| `([^|]+)` \| `([\w.]+)` \|", TEXT, re.MULTILINE))
    kinds = {path: kind for paths, kind in told.items() for path in paths.split("` `")}
    for layer in manifest["layers"]:
        path = re.sub(r"[0-9]{6}", "<number>", layer["annotations"]["org.cncf.model.filepath"])
        assert layer["mediaType"] == f"application/vnd.cncf.model.{kinds[path]}"
    written = {*manifest["annotations"], *index["manifests"][0]["annotations"], oci.ARTIFACT_TYPE}
    assert all(f"`{word}`" in TEXT for word in written)
