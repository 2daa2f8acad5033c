"""Exports are read by those whose formats they are."""

import json

import numpy as np
import pytest

import holdfast
from holdfast.errors import Corrupt, Unsupported, UsageError

ARRAYS = {
    "weights": np.arange(600_000, dtype=np.float32).reshape(600, 1000),
    "bias": np.ones(3),
    "file": np.array(7, dtype=np.int8),
}


@pytest.fixture(name="store")
def make_store(tmp_path):
    store = tmp_path / "store"
    holdfast.save(ARRAYS, "arrays", store=store)
    return store


def same(found):
    return found.keys() == ARRAYS.keys() and all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype
        for name, array in ARRAYS.items()
    )


def test_safetensors_reads_its_export(store, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = holdfast.export("arrays", tmp_path / "arrays.safetensors", store=store)
    assert same(numpy.load_file(path))


def test_numpy_reads_its_export(store, tmp_path):
    path = holdfast.export("arrays@v1", tmp_path / "arrays.npz", store=store)
    with np.load(path, allow_pickle=False) as found:
        assert same({name: found[name] for name in found.files})


def test_h5py_reads_its_export_and_it_converts_back(store, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path = holdfast.export("arrays@v1", tmp_path / "arrays.h5", store=store)
    with h5py.File(path) as found:
        assert same({name: found[name][()] for name in found})
    again = holdfast.convert(path, "again", store=store)
    assert again.content.tensors == holdfast.get("arrays", store=store).content.tensors


def test_names_that_cannot_be_paths_of_one_file_are_refused(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    holdfast.save({"a": np.ones(2), "a/b": np.ones(3)}, "m", store=tmp_path / "s")
    with pytest.raises(Unsupported, match="cannot hold a tensor"):
        holdfast.export("m", tmp_path / "m.h5", store=tmp_path / "s")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]


def test_an_export_can_be_saved_again_as_the_same_content(store, tmp_path):
    first = holdfast.get("arrays", store=store)
    for ending in ("npz", "safetensors"):
        path = holdfast.export("arrays", tmp_path / f"arrays.{ending}", store=store)
        assert same(holdfast.load(holdfast.save(path, "again", store=store).ref, store=store))
    assert first.content_id == holdfast.get("arrays@v1", store=store).content_id


def test_what_exists_is_never_overwritten(store, tmp_path):
    target = tmp_path / "arrays.npz"
    target.write_text("precious", "utf-8")
    with pytest.raises(UsageError, match="never overwrites"):
        holdfast.export("arrays", target, store=store)
    assert target.read_text("utf-8") == "precious"
    with pytest.raises(UsageError, match="no folder"):
        holdfast.export("arrays", tmp_path / "nowhere" / "a.npz", store=store)


@pytest.mark.parametrize(
    "name", ["arrays.onnx", "arrays.keras", "arrays", "arrays.xyz", "arrays.ubj"]
)
def test_a_format_that_does_not_fit_is_refused_with_those_that_do(store, tmp_path, name):
    with pytest.raises(Unsupported, match="safetensors, npz, h5") as refused:
        holdfast.export("arrays", tmp_path / name, store=store)
    assert refused.value.hint == "hold export arrays@v1 model.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_damaged_blob_leaves_nothing_behind(store, tmp_path):
    version = holdfast.get("arrays", store=store)
    big = max(version.manifest.pieces, key=lambda piece: piece.size)
    blob = store / "blobs" / "sha256" / big.digest[7:]
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    with pytest.raises(Corrupt):
        holdfast.export("arrays", tmp_path / "a.safetensors", store=store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_the_command_writes_and_tells(store, tmp_path, capsys):
    from holdfast.cli.main import main

    target = tmp_path / "a.npz"
    with pytest.raises(SystemExit) as done:
        main(["export", "arrays", str(target), "--store", str(store), "--json"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(target)
    assert target.exists()


def test_the_command_lists_what_is_possible(store, capsys):
    from holdfast.cli.main import main

    with pytest.raises(SystemExit) as done:
        main(["export", "arrays", "--store", str(store)])
    assert done.value.code == 0
    told = capsys.readouterr()
    assert [line.split()[:2] for line in told.out.splitlines()[1:]] == [
        ["safetensors", ".safetensors"], ["npz", ".npz"], ["h5", ".h5"],
    ]  # fmt: skip
    assert f"Try: hold export --store {store} arrays model.safetensors" in told.err
    with pytest.raises(SystemExit):
        main(["export", "arrays", "--store", str(store), "-q"])
    assert capsys.readouterr().out.split() == ["safetensors", "npz", "h5"]


def test_a_booster_can_be_exported_in_its_own_formats_first(tmp_path):
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    from holdfast.api.exporting import formats

    rows = np.random.default_rng(0).normal(size=(40, 3))
    model = xgboost.XGBClassifier(n_estimators=2).fit(rows, rows[:, 0] > 0)
    holdfast.save(model, "boost", inputs=rows, store=tmp_path / "s")
    assert list(formats("boost", store=tmp_path / "s"))[:2] == ["ubj", "json"]
