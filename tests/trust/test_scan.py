"""A scan says what a file is and what it would run, at which byte, and runs nothing."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import zipfile

import joblib
import numpy as np
import pytest
from sklearn.cluster import BisectingKMeans
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import GammaRegressor, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import SplineTransformer

import holdfast
from holdfast.errors import HoldfastError, UsageError
from holdfast.trust.scan.contents import scanner
from holdfast.trust.source import Data

X = np.random.default_rng(0).normal(size=(40, 3))


class Evil:
    def __reduce__(self):
        return os.system, ("touch canary",)


def model():
    return LogisticRegression().fit(X, X[:, 0] > 0)


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=X, b=np.arange(3))
    return buffer.getvalue()


def joblibbed(compress):
    buffer = io.BytesIO()
    joblib.dump(model(), buffer, compress=compress)
    return buffer.getvalue()


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def tarred(data, **more):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(more.pop("name", "inner.pkl"))
        info.size = len(data)
        for key, value in more.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


EVIL = pickle.dumps(Evil())
KERAS = {"class_name": "Sequential", "module": "keras", "config": {"layers": []}}
SAMPLES = {
    "pickle": (lambda: pickle.dumps({"a": X}), "pickle", "data"),
    "estimator": (lambda: pickle.dumps(model()), "pickle", "data"),
    "evil": (lambda: EVIL, "pickle", "unsafe"),
    "evil of protocol 0": (lambda: pickle.dumps(Evil(), 0), "pickle", "unsafe"),
    "joblib": (lambda: joblibbed(0), "joblib", "data"),
    "joblib compressed": (lambda: joblibbed(3), "joblib", "data"),
    "evil gzip": (lambda: gzip.compress(EVIL), "pickle", "unsafe"),
    "evil bzip2": (lambda: bz2.compress(EVIL), "pickle", "unsafe"),
    "npy": (lambda: npy(X), "npy", "data"),
    "npy of objects": (lambda: npy(np.array([Evil()], dtype=object)), "npy", "unsafe"),
    "npz": (npz, "npz", "data"),
    "safetensors": (safetensors, "safetensors", "data"),
    "zip with a pickle": (lambda: zipped(a_DOT_bin=EVIL), "zip", "unsafe"),
    "zip in zip": (lambda: zipped(a=zipped(b=zipped(c=EVIL))), "zip", "unsafe"),
    "tar with a pickle": (lambda: tarred(EVIL), "tar", "unsafe"),
    "tar that climbs": (lambda: tarred(b"x", name="../x"), "tar", "unsafe"),
    "tar with a device": (lambda: tarred(b"", type=tarfile.CHRTYPE), "tar", "unsafe"),
    "keras": (
        lambda: zipped(
            config_DOT_json=json.dumps(KERAS),
            metadata_DOT_json='{"keras_version": "3.9.0"}',
            **{"model.weights.h5": b""},
        ),
        "keras",
        None,
    ),
    "keras with code": (
        lambda: zipped(
            config_DOT_json=json.dumps({"class_name": "Lambda", "module": "keras.layers"}),
            metadata_DOT_json="{}",
            **{"model.weights.h5": b""},
        ),
        "keras",
        "unsafe",
    ),
    "keras with a foreign module": (
        lambda: zipped(
            config_DOT_json=json.dumps({"class_name": "system", "module": "os"}),
            metadata_DOT_json="{}",
            **{"model.weights.h5": b""},
        ),
        "keras",
        "unsafe",
    ),
    "pickle before a zip": (lambda: EVIL + npz(), "pickle", "unsafe"),
    "second pickle after the first": (lambda: pickle.dumps(1) + EVIL, "pickle", "unsafe"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "hdf5", None),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z", None),
    "text": (lambda: b"hello there, this is no model\n", "unknown", None),
    "empty": (lambda: b"", "unknown", None),
    "lightgbm": (lambda: b"tree\nversion=v4\n", "lightgbm", None),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_is_told_by_its_content_and_nothing_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, kind, verdict = SAMPLES[name]
    path = tmp_path / "file.bin"
    path.write_bytes(make())
    report = holdfast.scan(path)
    assert report.kind == kind
    assert report.unsafe == (verdict == "unsafe")
    if verdict == "data":
        assert report.takes == "data"
    assert [each.name for each in tmp_path.iterdir()] == ["file.bin"]


def test_what_would_be_called_is_named_with_its_byte(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(EVIL)
    (finding,) = holdfast.scan(tmp_path / "evil.pkl").findings
    assert finding.what == "would call posix.system"
    assert EVIL[finding.position : finding.position + 1] == pickle.REDUCE


def test_the_writer_and_its_release_are_told(tmp_path):
    import sklearn

    (tmp_path / "m.pkl").write_bytes(pickle.dumps(model()))
    report = holdfast.scan(tmp_path / "m.pkl")
    assert (report.framework, report.written_by) == ("scikit-learn", sklearn.__version__)


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_or_damaged_files_give_a_report(name, tmp_path):
    data = bytearray(SAMPLES[name][0]())
    path = tmp_path / "file.bin"
    for end in range(0, len(data), max(1, len(data) // 25)):
        path.write_bytes(data[:end])
        holdfast.scan(path)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, max(len(data), 1), 40).tolist() if data else ():
        kept, data[place] = data[place], int(rng.integers(256))
        path.write_bytes(data)
        holdfast.scan(path)
        data[place] = kept


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(700):
            file.write(bytes(1 << 20))
    report = holdfast.scan(path)
    assert report.size < 8 << 20


def test_a_folder_lists_its_files_and_follows_no_link(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "a.pkl").write_bytes(EVIL)
    (folder / "b.npz").write_bytes(npz())
    (folder / "out").symlink_to("/etc/passwd")
    report = holdfast.scan(folder)
    assert [member.path for member in report.members] == ["a.pkl", "b.npz"]
    assert report.unsafe
    assert any("link" in finding.what for finding in report.findings)


def test_a_folder_with_code_of_its_own_is_named(tmp_path):
    config = {"model_type": "bert", "auto_map": {"AutoModel": "modeling.Net"}}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "modeling.py").write_text("import os", "utf-8")
    report = holdfast.scan(tmp_path)
    assert report.kind == "huggingface"
    assert [f.what for _, f in report.all_findings() if f.severity == "unsafe"] == [
        "modeling.py is code beside the model",
        "asks for code of its own (auto_map)",
    ]


def test_a_path_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError):
        holdfast.scan(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HoldfastError):
        holdfast.scan(tmp_path / "pipe")


@pytest.mark.parametrize(("name", "code"), [("evil", 6), ("npz", 0), ("text", 0)])
def test_the_command_tells_by_its_exit_status(name, code, tmp_path, capsys):
    from holdfast.cli.main import main

    path = tmp_path / "file.bin"
    path.write_bytes(SAMPLES[name][0]())
    for more in ([], ["--json"], ["-q"]):
        with pytest.raises(SystemExit) as done:
            main(["scan", str(path), *more])
        assert done.value.code == code
        told = capsys.readouterr()
        assert ("Nothing was run" in told.err) == (code == 6)
        if more == ["--json"]:
            assert json.loads(told.out)["reports"][0]["kind"] == SAMPLES[name][1]


def test_models_in_a_folder_of_models_are_one_entry_each(tmp_path):
    config = {"model_type": "bert", "transformers_version": "4.50.0"}
    for name in ("one", "two/inner"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        (folder / "model.safetensors").write_bytes(safetensors())
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "two/inner/modeling.py").write_text("import os", "utf-8")
    (tmp_path / "a.npz").write_bytes(npz())
    report = holdfast.scan(tmp_path)
    assert report.kind == "folder"
    assert [(m.path, m.kind) for m in report.members] == [
        ("a.npz", "npz"), ("one", "huggingface"), ("two/inner", "huggingface"),
    ]  # fmt: skip
    assert [m.takes for m in report.members] == ["data", "data", None]
    assert [(place, f.what) for place, f in report.all_findings() if f.severity == "unsafe"] == [
        (f"{tmp_path}/two/inner", "modeling.py is code beside the model")
    ]
    assert report.members[1].tensor_count == 1


@pytest.mark.parametrize("size", [4096, 1 << 16, 1 << 20, 3 << 20])
def test_lzma_of_any_dictionary_is_a_compressed_pickle(size):
    how = [{"id": lzma.FILTER_LZMA1, "dict_size": size}]
    packed = lzma.compress(EVIL, format=lzma.FORMAT_ALONE, filters=how)
    report = scanner(frozenset()).look(Data(packed), "file")
    assert (report.kind, report.unsafe) == ("pickle", True)


@pytest.mark.parametrize("protocol", [0, 5])
@pytest.mark.parametrize(
    "make",
    [
        KNeighborsClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier,
        GammaRegressor, BisectingKMeans, SplineTransformer, lambda: SelectKBest(k=2),
    ],
)  # fmt: skip
def test_what_convert_reads_as_data_is_data_to_a_scan(make, protocol, tmp_path):
    fitted = make().fit(np.abs(X), (X[:, 0] > 0) + 1)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(fitted, protocol))
    report = holdfast.scan(tmp_path / "m.pkl")
    assert (report.takes, report.worst) == ("data", None)


def test_functions_beside_the_tables_of_convert_are_none_of_data(tmp_path):
    for name in (
        "sklearn.metrics._dist_metrics:PyFuncDistance64", "sklearn.utils:eval",
        "sklearn.neighbors._kd_tree:system", "numpy:load", "numpy.f2py:compile",
    ):  # fmt: skip
        module, _, attribute = name.partition(":")
        (tmp_path / "m.pkl").write_bytes(f"c{module}\n{attribute}\n.".encode())
        assert holdfast.scan(tmp_path / "m.pkl").unsafe
