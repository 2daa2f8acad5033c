"""``hold scan`` for people, for pipes and for programs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

import holdfast
from holdfast.cli.main import main


class Evil:
    def __reduce__(self):
        return os.system, ("touch canary",)


EVIL = pickle.dumps(Evil())
PLACE = EVIL.rindex(pickle.REDUCE)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture
def scan(tmp_path, monkeypatch, capsys):
    """Write files, scan them and return the exit status and what was said."""
    monkeypatch.chdir(tmp_path)

    def run(*words, **files):
        for name, data in files.items():
            place = tmp_path / name.replace("_DOT_", ".").replace("_IN_", "/")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
        with pytest.raises(SystemExit) as done:
            main(["scan", *words])
        told = capsys.readouterr()
        assert not (tmp_path / "canary").exists()
        return done.value.code, told.out, told.err

    return run


def test_an_unsafe_file_ends_in_6_and_one_line_says_what_and_where(scan):
    status, out, err = scan("old_model.pkl", old_model_DOT_pkl=EVIL)
    assert status == 6
    lines = err.splitlines()
    assert lines[0] == f"UNSAFE  pickle, would call posix.system (byte {PLACE}). Nothing was run."
    assert lines[1].startswith("Try: hold ")
    assert len(lines) == 2
    assert out.splitlines()[0] == f"old_model.pkl  pickle, {len(EVIL)} B"
    assert "posix.system" in out


def test_a_file_that_can_be_taken_over_ends_in_0_with_the_next_step(scan):
    status, out, err = scan("a.npz", a_DOT_npz=npz(weights=np.ones((2, 3), "f4")))
    assert status == 0
    assert out.splitlines()[0].startswith("a.npz  NumPy archive, ")
    for word in ("NumPy", "weights  <f4 [2, 3]", "can be taken over as data"):
        assert word in out
    assert err == "Try: hold convert a.npz --name NAME\n"


@pytest.mark.parametrize("word", ["safe", "clean", "harmless", "trusted"])
def test_no_file_is_ever_called_safe(scan, word):
    _, out, err = scan("a.npz", a_DOT_npz=npz(w=np.ones(2)))
    assert word not in (out + err).lower()


def test_a_damaged_file_ends_in_1_and_an_unknown_one_in_0(scan):
    status, _, err = scan("a.npz", a_DOT_npz=npz(w=np.ones(2))[:-30])
    assert status == 1
    assert err.startswith("a.npz is damaged: ")
    assert scan("notes.txt", notes_DOT_txt=b"words\n")[0] == 0


def test_a_path_that_cannot_be_read_ends_in_2(scan, tmp_path):
    status, out, err = scan("nothing")
    assert (status, out) == (2, "")
    assert err.startswith("nothing cannot be read")
    os.mkfifo(tmp_path / "pipe")
    assert scan("pipe")[0] == 2


def test_of_several_files_each_is_told_and_the_worst_decides(scan):
    files = {"bad_DOT_npz": npz(w=np.ones(2))[:-30], "good_DOT_npz": npz(w=np.ones(2))}
    assert scan("good.npz", "bad.npz", **files)[0] == 1
    status, out, err = scan("nothing", "good.npz", "bad.npz")
    assert status == 2
    assert "good.npz  NumPy archive" in out
    status, out, err = scan("good.npz", "nothing", "evil.pkl", "bad.npz", evil_DOT_pkl=EVIL)
    assert status == 6
    assert err.startswith("UNSAFE  evil.pkl, pickle, would call posix.system")
    assert [name in out for name in ("good.npz", "bad.npz", "evil.pkl")] == [True] * 3


def test_a_folder_is_a_table(scan):
    status, out, err = scan(
        "models",
        models_IN_evil_DOT_pkl=EVIL,
        models_IN_a_DOT_npz=npz(w=np.ones(2)),
        models_IN_notes_DOT_md=b"# words\n",
    )
    assert status == 6
    assert err.startswith(f"UNSAFE  evil.pkl, would call posix.system (byte {PLACE})")
    header, *rows = out[out.index("FILE") :].splitlines()
    assert header.split() == ["FILE", "KIND", "WRITTEN", "BY", "SIZE", "VERDICT"]
    assert [row.split()[0] for row in rows] == ["a.npz", "evil.pkl", "notes.md"]
    assert "UNSAFE: would call posix.system" in rows[1]
    assert "can be taken over as data" in rows[0]


def test_an_archive_is_a_table_of_its_members(scan):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("folder/evil", EVIL)
        archive.writestr("words", "text")
    status, out, _ = scan("x.zip", x_DOT_zip=file.getvalue())
    assert status == 6
    assert "folder/evil" in out[out.index("FILE") :]


def test_programs_get_json_with_everything(scan):
    status, out, err = scan("m", "--json", m_IN_evil_DOT_pkl=EVIL, m_IN_a_DOT_npz=npz(w=np.ones(2)))
    assert status == 6
    document = json.loads(out)
    assert document["schema_version"] == 1
    (folder,) = document["reports"]
    assert (folder["kind"], folder["unsafe"]) == ("folder", True)
    array, pickled = folder["members"]
    assert array["tensors"] == [{"name": "w", "dtype": "<f8", "shape": [2]}]
    assert pickled["imports"] == ["posix.system"]
    assert pickled["findings"] == [
        {"severity": "unsafe", "what": "would call posix.system", "position": PLACE}
    ]
    assert "Try:" in err


def test_quiet_prints_the_unsafe_ones_only(scan):
    status, out, _ = scan("-q", "a.npz", "e.pkl", a_DOT_npz=npz(w=np.ones(2)), e_DOT_pkl=EVIL)
    assert (status, out) == (6, "e.pkl\n")


def test_control_characters_of_a_file_never_reach_the_terminal(scan):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a\x1b[2J\x07/../b\n", EVIL)
    evil = pickle.dumps({"\x1b]0;title\x07": np.ones(2)}) + b"c\x1b[31mx\ny\n."
    names = {"x_DOT_zip": file.getvalue(), "\x1b[1m_DOT_pkl": evil}
    for name in names:
        for more in ([], ["--json"]):
            _, out, err = scan(name.replace("_DOT_", "."), *more, **names)
            assert "\x1b" not in out + err


def test_a_name_that_promises_something_else_is_told(scan):
    _, out, _ = scan("model.safetensors", model_DOT_safetensors=npz(w=np.ones(2)))
    assert "its name ends in .safetensors, but it is: NumPy archive" in out


def test_python_describes_a_file_as_the_command_does(tmp_path):
    import holdfast

    (tmp_path / "e.pkl").write_bytes(EVIL)
    report = holdfast.scan(tmp_path / "e.pkl")
    assert report.verdict == f"UNSAFE: would call posix.system (byte {PLACE})"
    assert "posix.system" in str(report)
    assert str(report).startswith(f"{tmp_path / 'e.pkl'}  pickle, {len(EVIL)} bytes")


def test_a_folder_is_summed_up_and_the_next_step_is_its_worst_file(scan):
    files = {
        "m_IN_evil_DOT_pkl": EVIL,
        "m_IN_a_DOT_npz": npz(w=np.ones(2)),
        "m_IN_b_DOT_7z": b"7z\xbc\xaf\x27\x1c" + bytes(40),
        "m_IN_cut_DOT_npz": npz(w=np.ones(2))[:-30],
        "m_IN_named_DOT_h5": npz(w=np.ones(2)),
        "m_IN_notes_DOT_md": b"# words\n",
    }
    status, out, err = scan("m", **files)
    assert status == 6
    first, second, *table = out.splitlines()
    assert first.startswith("m  folder, 6 entries, ")
    assert second.split(maxsplit=1) == [
        "verdict",
        "1 unsafe, 1 damaged, 1 not looked into, 2 can be taken over as data, 1 not taken over",
    ]
    rows = {line.split()[0]: line for line in table}
    assert rows["named.h5"].endswith("can be taken over as data; named .h5")
    assert rows["notes.md"].split()[1] == "-"
    assert err.splitlines()[-1] == "Try: hold scan m/evil.pkl"


def test_a_narrow_terminal_gets_the_verdicts_first_and_in_colour(scan, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr("holdfast.cli.scan_pages.sys.stdout.isatty", lambda: True)
    files = {"m_IN_evil_DOT_pkl": EVIL, "m_IN_a_DOT_npz": npz(w=np.ones(2))}
    _, out, _ = scan("m", **files)
    assert "\x1b[31mevil.pkl  UNSAFE: would call posix.system" in out
    assert "WRITTEN BY" not in out
    assert all(len(line) <= 70 + len("\x1b[31m\x1b[0m") for line in out.splitlines())


@pytest.fixture(name="bundle")
def file_of_versions(tmp_path):
    """Return what bundles some versions, one with a file beside it, into a folder."""

    def make(name, **files):
        store = holdfast.Store.create(tmp_path / "models")
        model = {"w": np.arange(300_000.0), "b": np.arange(5.0)}
        holdfast.save(model, "net", store=store, files={"notes.txt": b"hello", **files})
        (tmp_path / "shelf").mkdir(exist_ok=True)
        store.bundle("net", tmp_path / "shelf" / name)
        return tmp_path / "shelf" / name

    return make


def test_a_bundle_in_a_folder_is_told_and_its_parts_are_not_damaged(scan, bundle):
    bundle("m.hold")
    status, out, _ = scan("shelf", shelf_IN_list_DOT_pkl=pickle.dumps([1]))
    assert status == 0
    assert "m.hold    Holdfast bundle" in out
    status, out, err = scan("shelf/m.hold", "--json")
    (report,) = json.loads(out)["reports"]
    (version,) = report["members"]
    assert (status, version["path"], version["tensor_count"]) == (0, "net@v1", 2)
    assert sorted(tensor["shape"] for tensor in version["tensors"]) == [[5], [300_000]]
    assert [member["path"] for member in version["members"]] == ["files/notes.txt"]
    assert scan("shelf/m.hold")[2] == "Try: hold verify --all --store shelf/m.hold\n"


def test_a_store_in_a_folder_is_not_damaged_and_still_looked_into(scan, bundle, tmp_path):
    bundle("m.hold")
    (tmp_path / "models").rename(tmp_path / "shelf" / "models")
    status, out, _ = scan("shelf")
    assert (status, "damaged" in out) == (0, False)
    (tmp_path / "shelf" / "models" / "blobs" / "sha256" / ("e" * 64)).write_bytes(EVIL)
    assert scan("shelf")[0] == 6
    (tmp_path / "shelf" / "models" / "store.json").unlink()
    assert "damaged: the tensors end" in scan("shelf")[1]


def test_files_in_a_bundle_and_blobs_of_no_version_are_looked_into(scan, bundle):
    bundle("m.hold", **{"evil.pkl": EVIL})
    status, _, err = scan("shelf")
    assert status == 6
    assert "m.hold!net@v1!files/evil.pkl, would call posix.system" in err
    place = bundle("other.hold")
    blob = tarfile.TarInfo(f"blobs/sha256/{hashlib.sha256(EVIL).hexdigest()}")
    blob.size = len(EVIL)
    with tarfile.open(place, "a") as archive:
        archive.addfile(blob, io.BytesIO(EVIL))
    status, _, err = scan("shelf/other.hold")
    assert (status, f"blobs/sha256:{blob.name[13:]}" in err) == (6, True)


def test_a_damaged_bundle_is_damaged_and_says_why(scan, bundle):
    place = bundle("m.hold")
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    status, _, err = scan("shelf")
    assert status == 1
    assert "no sound bundle" in err
    place.write_bytes(whole + npz(a=np.arange(3)))
    assert "also a zip" in scan("shelf")[2]
    foreign = io.BytesIO()
    with tarfile.open(fileobj=foreign, mode="w") as archive:
        for name in ("oci-layout", "notes.txt"):
            archive.addfile(tarfile.TarInfo(name))
    assert scan("image.tar", image_DOT_tar=foreign.getvalue())[0] == 0
